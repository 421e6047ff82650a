// Package json decodes JSON objects into columns.
//
// It is strict. A record is one JSON object (RFC 8259) in valid UTF-8 without lone surrogates, and nothing behind it. Among
// the members that columns are filled from no name may come twice; other members are skipped, but their syntax is checked.
// A value is taken only if its column holds it exactly:
//
//	bool                      true, false
//	integers                  a number whose exact value is whole and in range: 1, 1.0 and 1e3 are, 1.5 is not
//	float32, float64          a number, rounded to the nearest value, if that is neither infinite nor 0 for what is not 0; the
//	                          strings "NaN", "Infinity", "-Infinity"
//	decimal                   a number or a string with a number that the scale and the precision hold
//	string, fixed_string      a string
//	date, uuid, ipv4, ipv6    a string as in codec.Text
//	timestamp                 a string as in codec.Text; a number only if timestamp_numbers says its unit
//	enum                      a string, one of the names
//	array                     an array
//	map                       an object without a name twice; keys are read from the names as from strings
//	nullable                  also null
//
// null for a column that is not nullable refuses the record. A missing member is null, or the type's zero, if the column is
// optional, else it refuses the record.
package json

import (
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Factory makes JSON decoders. It is immutable.
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
	f := &Factory{settings: s}
	if f.settings.RecordBytesMax == 0 {
		f.settings.RecordBytesMax = recordBytesMax
	}
	if f.settings.DepthMax == 0 {
		f.settings.DepthMax = depthMax
	}
	var err error
	if f.columns, err = codec.NewColumns(s.Columns); err != nil {
		return nil, fault.E("codec/json.New", fault.Misconfigured, err)
	}
	return f, nil
}

// Open makes a factory from its section of a config; what is wrong is also reported there, at its place.
func Open(section *config.Section) (*Factory, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, fault.E("codec/json.Open", fault.Misconfigured, section.Err())
	}
	codec.ReportColumns(section, s.Columns)
	return New(s)
}

// Schema completes the schema as [codec.Columns.Complete] does, and checks that a decoder can fill it.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	s, err := f.columns.Complete(wanted)
	if err == nil {
		_, err = newPlan(s)
	}
	if err != nil {
		return nil, fault.E("codec/json.Schema", fault.Misconfigured, err)
	}
	return s, nil
}

// New returns a decoder for a schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	p, err := newPlan(schema)
	if err != nil {
		return nil, fault.E("codec/json.New", fault.Misconfigured, err)
	}
	return newDecoder(p, &f.settings), nil
}
