package json

import (
	"errors"
	"strings"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// InvalidUTF8 says what becomes of texts that are not valid UTF-8, which JSON can't hold.
type InvalidUTF8 string

const (
	// RefuseInvalid refuses the row; it is the default.
	RefuseInvalid InvalidUTF8 = "refuse"
	// Base64 writes the object {"base64": "…"} in the text's place, as [codec.AppendJSON] does.
	Base64 InvalidUTF8 = "base64"
)

// EncoderSettings is what the encode section of a config says.
type EncoderSettings struct {
	Columns     []string    `config:"columns"`      // empty: all
	InvalidUTF8 InvalidUTF8 `config:"invalid_utf8"` // empty: refuse

	Framing         Framing                 `config:"framing"` // empty: none
	Registry        *codec.RegistrySettings `config:"registry"`
	RegistryTimeout time.Duration           `config:"registry_timeout"` // 0: 30 s
	Schema          string                  `config:"schema"`           // empty: made of the columns
	Name            string                  `config:"name"`             // empty: Record
	Subject         string                  `config:"subject"`
	Strategy        codec.SubjectStrategy   `config:"subject_strategy"`
	Topic           string                  `config:"topic"`
	Register        *bool                   `config:"register"`
}

// EncoderSpec describes the encode section of type json.
func EncoderSpec() config.Spec {
	keys := []config.Key{
		{
			Name: "columns", Kind: config.KindStrings, Example: `["id", "amount"]`,
			Doc: "The columns that are written, in this order. By default all, in the order of the rows.",
		},
		{
			Name: "invalid_utf8", Kind: config.KindEnum, Enum: []string{string(RefuseInvalid), string(Base64)}, Default: string(RefuseInvalid),
			Doc: "What becomes of a text that is not valid UTF-8: the row becomes a dead letter, or the object {\"base64\": \"...\"} stands\n" +
				"in the text's place.",
		},
		{
			Name: "framing", Kind: config.KindEnum, Enum: []string{string(NoFraming), string(Confluent)}, Default: string(NoFraming),
			Doc: "What stands before the JSON: nothing, or a byte 0 and the ID of its JSON Schema in the registry. A file can't take that.",
		},
	}
	keys = append(keys, codec.RegistryKeys()...)
	keys = append(keys, []config.Key{
		{
			Name: "schema", Kind: config.KindString, Example: `'{"type": "object"}'`,
			Doc: "The JSON Schema that is registered, or ${file:PATH}. Rows are not checked against it. By default it is made of the columns.",
		},
		{Name: "name", Kind: config.KindString, Default: "Record", Doc: "The title of a schema that is made of the columns."},
	}...)
	return config.Spec{
		Type: "json",
		Doc:  "Each row becomes one JSON object on one line, with every column under its name, also the null ones.",
		Keys: append(keys, codec.SubjectKeys()...),
	}
}

// EncoderFactory makes JSON encoders.
type EncoderFactory struct {
	settings EncoderSettings
	frame    *frame // nil: no framing
}

var (
	_ codec.FileEncoder  = (*EncoderFactory)(nil)
	_ codec.TopicEncoder = (*EncoderFactory)(nil)
	_ codec.CacheUser    = (*EncoderFactory)(nil)
	_ codec.Prober       = (*EncoderFactory)(nil)
	_ codec.Encoder      = (*Encoder)(nil)
)

// NewEncoder returns a factory of encoders; zero fields of the settings mean the defaults. The error is fault.Misconfigured, and
// there is none without framing.
func NewEncoder(s EncoderSettings) (*EncoderFactory, error) {
	if s.InvalidUTF8 == "" {
		s.InvalidUTF8 = RefuseInvalid
	}
	f := &EncoderFactory{settings: s}
	if s.Framing != Confluent {
		return f, nil
	}
	var err error
	if f.frame, err = newFrame(s); err != nil {
		return nil, fault.E("codec/json.NewEncoder", fault.Misconfigured, err)
	}
	return f, nil
}

// New returns an encoder for rows of a schema.
func (f *EncoderFactory) New(schema *record.Schema) (codec.Encoder, error) {
	picked, err := codec.Pick(schema, f.settings.Columns)
	if err != nil {
		return nil, fault.E("codec/json.New", fault.Misconfigured, err)
	}
	e := &Encoder{columns: picked}
	for i, at := range picked {
		start := byte(',')
		if i == 0 {
			start = '{'
		}
		name := codec.AppendJSONString([]byte{start}, []byte(schema.Fields[at].Name))
		e.names = append(e.names, append(name, ':'))
	}
	if f.settings.InvalidUTF8 == RefuseInvalid {
		e.utf8 = codec.NewUTF8(schema, picked)
	}
	if f.frame != nil {
		if e.header, err = f.frame.header(schema, picked); err != nil {
			return nil, fault.E("codec/json.New", fault.KindOf(err), err)
		}
	}
	return e, nil
}

// FileFormat is lines of JSON.
func (f *EncoderFactory) FileFormat() (codec.FileFormat, error) {
	if f.frame != nil {
		return codec.FileFormat{}, fault.E("codec/json.FileFormat", fault.Misconfigured, errors.New("framing: a file can't take the registry's framing"))
	}
	identity := "json " + string(f.settings.InvalidUTF8) + " " + strings.Join(f.settings.Columns, ",")
	return codec.FileFormat{Extension: ".ndjson", End: "\n", Identity: identity}, nil
}

// FileHeader returns nil: the names stand in each line.
func (f *EncoderFactory) FileHeader(*record.Schema) []byte { return nil }

// Encoder encodes rows of one schema.
type Encoder struct {
	columns []int
	names   [][]byte    // what stands before each value: `{"a":`, `,"b":`
	utf8    *codec.UTF8 // nil: every text has a form
	header  []byte      // of the framing
}

// Encode appends the row as one JSON object.
func (e *Encoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if e.utf8 != nil {
		if refusal, ok := e.utf8.Check(b, row); !ok {
			return dst, refusal, false
		}
	}
	dst = append(dst, e.header...)
	for i, at := range e.columns {
		dst = append(dst, e.names[i]...)
		dst = codec.AppendJSONValue(dst, &b.Cols[at], row)
	}
	return append(dst, '}'), record.Refusal{}, true
}
