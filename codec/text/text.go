// Package text decodes plain texts into one column, and encodes rows as plain texts: one column, or a template.
//
// A text is read as codec.Text reads one, and written as it reads it back. It must be valid UTF-8, in both directions; for other
// bytes there is the codec raw.
package text

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Factory makes text decoders. It is immutable.
type Factory struct {
	settings Settings
	columns  codec.Columns
}

var (
	_ codec.Factory = (*Factory)(nil)
	_ codec.Decoder = (*Decoder)(nil)
)

// New checks the settings; zero fields mean the defaults. The error is fault.Misconfigured.
func New(s Settings) (*Factory, error) {
	if s.Column == "" {
		s.Column = "value"
	}
	if s.Tombstones == "" {
		s.Tombstones = Refuse
	}
	if s.RecordBytesMax == 0 {
		s.RecordBytesMax = recordBytesMax
	}
	columns, err := codec.NewColumns([]codec.Column{{Name: s.Column, Type: s.Type}})
	if err != nil {
		return nil, fault.E("codec/text.New", fault.Misconfigured, err)
	}
	return &Factory{settings: s, columns: columns}, nil
}

// Open makes a factory from its section of a config; what is wrong is reported there, at its place.
func Open(section *config.Section) (*Factory, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, fault.E("codec/text.Open", fault.Misconfigured, section.Err())
	}
	f, err := New(s)
	if err != nil {
		section.Errorf("type_of_column", "%v", err)
	}
	return f, err
}

// Schema returns the one column. The wanted schema must be content without any other; if it has the column the types must agree,
// and if not, steps use it.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	const op = "codec/text.Schema"
	narrow := &record.Schema{Fields: []record.Field{{Name: f.settings.Column, Type: record.Type{
		Kind: record.String, Nullable: f.settings.Tombstones == Null,
	}}}}
	var errs []error
	at := -1
	if wanted != nil {
		at = wanted.Index(f.settings.Column)
		for i := range wanted.Fields {
			if w := &wanted.Fields[i]; i != at && !w.Optional {
				errs = append(errs, fmt.Errorf("the sink needs the column %q, which text does not make", w.Name))
			}
		}
	}
	switch {
	case at >= 0:
		narrow.Fields[0] = wanted.Fields[at]
	case f.settings.Type != "":
		narrow = nil // the config alone says what it is
	}
	s, err := f.columns.Complete(narrow)
	if err == nil {
		_, err = f.decoder(s)
	}
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	return s, nil
}

// New returns a decoder for the schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	d, err := f.decoder(schema)
	if err != nil {
		return nil, fault.E("codec/text.New", fault.Misconfigured, err)
	}
	return d, nil
}

func (f *Factory) decoder(s *record.Schema) (*Decoder, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	field := &s.Fields[0]
	switch {
	case len(s.Fields) != 1:
		return nil, errors.New("text makes one column")
	case field.Type.Kind == record.Array || field.Type.Kind == record.Map:
		return nil, fmt.Errorf("column %q: a text can't hold %s", field.Name, &field.Type)
	case f.settings.Tombstones == Null && !field.Type.Nullable:
		return nil, fmt.Errorf(`column %q takes no null: set tombstone = "refuse"`, field.Name)
	}
	x, err := codec.NewText(&field.Type)
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", field.Name, err)
	}
	return &Decoder{name: field.Name, text: x, null: f.settings.Tombstones == Null, bytesMax: int(f.settings.RecordBytesMax)}, nil
}

// Decoder decodes records for one schema.
type Decoder struct {
	name     string
	text     *codec.Text
	null     bool // what a tombstone is
	bytesMax int
}

// Decode appends what the record says to the first column of b.
func (d *Decoder) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	c := &b.Cols[0]
	switch {
	case value == nil && d.null:
		c.AppendNull()
		return record.Refusal{}, true
	case value == nil:
		return d.refuse(c, -1, "the record has no value (a tombstone)")
	case len(value) > d.bytesMax:
		return d.refuse(c, -1, fmt.Sprintf("the record has %d bytes, record_bytes_max is %d", len(value), d.bytesMax))
	case !utf8.Valid(value):
		return d.refuse(c, invalidAt(value), "the record is not valid UTF-8")
	}
	if err := d.text.Append(c, value); err != nil {
		return d.refuse(c, 0, c.Type.String()+": \""+codec.Excerpt(value)+"\" "+err.Error())
	}
	return record.Refusal{}, true
}

// invalidAt returns where the first bytes that are not valid UTF-8 begin.
func invalidAt(text []byte) int {
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	return at
}

func (d *Decoder) refuse(c *record.Column, at int, reason string) (record.Refusal, bool) {
	return record.Refusal{Row: c.Len(), Reason: reason, Column: d.name, Byte: int64(at)}, false
}
