package raw

import (
	"fmt"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// EncoderSettings is what the encode section of a config says.
type EncoderSettings struct {
	Column string `config:"column"` // empty: "value"
}

// EncoderSpec describes the encode section of type raw.
func EncoderSpec() config.Spec {
	return config.Spec{
		Type: "raw",
		Doc:  "Each row becomes the bytes of one string column as they are. A row with null there becomes a dead letter.",
		Keys: []config.Key{{Name: "column", Kind: config.KindString, Default: "value", Min: "1", Doc: "The column's name."}},
	}
}

// EncoderFactory makes raw encoders. It is immutable.
type EncoderFactory struct{ settings EncoderSettings }

var (
	_ codec.FileEncoder = (*EncoderFactory)(nil)
	_ codec.Encoder     = (*Encoder)(nil)
)

// NewEncoder returns a factory of encoders; zero fields of the settings mean the defaults.
func NewEncoder(s EncoderSettings) *EncoderFactory {
	if s.Column == "" {
		s.Column = "value"
	}
	return &EncoderFactory{settings: s}
}

// New returns an encoder for rows of a schema, which must have the column as a string or fixed_string.
func (f *EncoderFactory) New(schema *record.Schema) (codec.Encoder, error) {
	const op = "codec/raw.New"
	picked, err := codec.Pick(schema, []string{f.settings.Column})
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	field := &schema.Fields[picked[0]]
	if field.Type.Kind != record.String && field.Type.Kind != record.FixedString {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("column %q is %s, raw takes string and fixed_string", field.Name, &field.Type))
	}
	return &Encoder{name: field.Name, column: picked[0]}, nil
}

// FileFormat is lines.
func (f *EncoderFactory) FileFormat() (codec.FileFormat, error) {
	return codec.FileFormat{Extension: ".txt", End: "\n", Identity: "raw " + f.settings.Column}, nil
}

// FileHeader returns nil.
func (f *EncoderFactory) FileHeader(*record.Schema) []byte { return nil }

// Encoder encodes rows of one schema.
type Encoder struct {
	name   string
	column int
}

// Encode appends the column's bytes; those of a fixed_string with their padding.
func (e *Encoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	c := &b.Cols[e.column]
	switch {
	case c.IsNull(row):
		return dst, record.Refusal{Row: row, Reason: "null has no raw form", Column: e.name, Byte: -1}, false
	case c.Type.Kind == record.FixedString:
		return append(dst, c.FixedAt(row)...), record.Refusal{}, true
	}
	return append(dst, c.BytesAt(row)...), record.Refusal{}, true
}
