// Package raw takes each record as it is, as the value of one string column.
package raw

import (
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Tombstone says what happens to a record without a value.
type Tombstone string

const (
	// Null stores null; it is the default.
	Null Tombstone = "null"
	// Refuse refuses the record.
	Refuse Tombstone = "refuse"
)

// Settings is what the decode section of a config says.
type Settings struct {
	Column     string    `config:"column"`    // empty: "value"
	Tombstones Tombstone `config:"tombstone"` // empty: null
}

// Spec describes the decode section of type raw.
func Spec() config.Spec {
	return config.Spec{
		Type: "raw",
		Doc:  "Each record becomes one string column as it is.",
		Keys: []config.Key{
			{Name: "column", Kind: config.KindString, Default: "value", Min: "1", Doc: "The column's name."},
			{
				Name: "tombstone", Kind: config.KindEnum, Enum: []string{string(Null), string(Refuse)}, Default: string(Null),
				Doc: "What happens to a record without a value: null is stored, and the sink's column must take it, or the record\n" +
					"becomes a dead letter.",
			},
		},
	}
}

// Factory makes raw decoders. It is immutable.
type Factory struct{ settings Settings }

var (
	_ codec.Factory = (*Factory)(nil)
	_ codec.Decoder = (*Decoder)(nil)
)

// New returns a factory; zero fields of the settings mean the defaults.
func New(s Settings) *Factory {
	if s.Column == "" {
		s.Column = "value"
	}
	if s.Tombstones == "" {
		s.Tombstones = Null
	}
	return &Factory{settings: s}
}

// Open makes a factory from its section of a config; what is wrong is reported there, at its place.
func Open(section *config.Section) (*Factory, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, fault.E("codec/raw.Open", fault.Misconfigured, section.Err())
	}
	return New(s), nil
}

// Schema returns the one column. The wanted schema must be content without any other; if it has the column it must take it, and
// if not, steps use it.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	text := record.Type{Kind: record.String, Nullable: f.settings.Tombstones == Null}
	field := record.Field{Name: f.settings.Column, Type: text}
	if wanted == nil {
		return &record.Schema{Fields: []record.Field{field}}, nil
	}
	var errs []error
	at := wanted.Index(f.settings.Column)
	for i := range wanted.Fields {
		w := &wanted.Fields[i]
		switch {
		case i != at && !w.Optional:
			errs = append(errs, fmt.Errorf("the sink needs the column %q, which raw does not make", w.Name))
		case i == at && w.Type.Kind != record.String:
			errs = append(errs, fmt.Errorf("the sink's column %q takes %s, raw makes string", w.Name, &w.Type))
		case i == at && text.Nullable && !w.Type.Nullable:
			errs = append(errs, fmt.Errorf(`the sink's column %q takes no null: set tombstone = "refuse"`, w.Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.E("codec/raw.Schema", fault.Misconfigured, err)
	}
	return &record.Schema{Fields: []record.Field{field}}, nil
}

// New returns a decoder for the schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	if len(schema.Fields) != 1 || schema.Fields[0].Type.Kind != record.String {
		return nil, fault.E("codec/raw.New", fault.Misconfigured, errors.New("raw makes one column of type string"))
	}
	return &Decoder{name: schema.Fields[0].Name}, nil
}

// Decoder decodes records for one schema.
type Decoder struct{ name string }

// Decode appends the bytes of the record to the first column of b.
func (d *Decoder) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	c := &b.Cols[0]
	switch {
	case value != nil:
		c.AppendBytes(value)
	case c.Type.Nullable:
		c.AppendNull()
	default:
		return record.Refusal{Row: c.Len(), Reason: "the record has no value (a tombstone)", Column: d.name, Byte: -1}, false
	}
	return record.Refusal{}, true
}
