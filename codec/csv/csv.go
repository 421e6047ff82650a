// Package csv decodes and encodes comma-separated values as RFC 4180 has them, one record at a time.
//
// A record is a list of fields with a delimiter between them; one line end may follow it. A field is either quoted, and then holds
// anything, a quote being doubled, or holds no quote and no line end. Blanks belong to a field. A text that is not valid UTF-8 is
// refused, in both directions.
//
// Fields are read as codec.Text reads texts, and written as it reads them back. An unquoted field that is the null text is null in
// a nullable column; quoted it is that text. Arrays and maps are written as JSON and are not read.
package csv

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Factory makes CSV decoders. It is immutable.
type Factory struct {
	settings Settings
	dialect  dialect
	columns  codec.Columns
}

var (
	_ codec.Factory = (*Factory)(nil)
	_ codec.Decoder = (*Decoder)(nil)
)

// New checks the settings; zero fields mean the defaults. The error is fault.Misconfigured.
func New(s Settings) (*Factory, error) {
	if s.RecordBytesMax == 0 {
		s.RecordBytesMax = recordBytesMax
	}
	f := &Factory{settings: s}
	var errs [2]error
	f.dialect, errs[0] = newDialect(s.Delimiter, s.Quote, s.Null)
	f.columns, errs[1] = codec.NewColumns(s.Columns)
	if err := errors.Join(errs[0], errs[1], checkFields(s.Fields)); err != nil {
		return nil, fault.E("codec/csv.New", fault.Misconfigured, err)
	}
	return f, nil
}

// Open makes a factory from its section of a config; what is wrong is reported there, at its place.
func Open(section *config.Section) (*Factory, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, fault.E("codec/csv.Open", fault.Misconfigured, section.Err())
	}
	codec.ReportColumns(section, s.Columns)
	if _, err := newDialect(s.Delimiter, s.Quote, s.Null); err != nil {
		section.Errorf("", "%v", err)
	}
	if err := checkFields(s.Fields); err != nil {
		section.Errorf("fields", "%v", err)
	}
	return New(s)
}

// Schema completes the schema as [codec.Columns.Complete] does, and checks that the fields can fill it.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	s, err := f.columns.Complete(wanted)
	if err == nil {
		_, err = f.plan(s)
	}
	if err != nil {
		return nil, fault.E("codec/csv.Schema", fault.Misconfigured, err)
	}
	return s, nil
}

// New returns a decoder for a schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	d, err := f.plan(schema)
	if err != nil {
		return nil, fault.E("codec/csv.New", fault.Misconfigured, err)
	}
	return d, nil
}

// plan makes a decoder.
func (f *Factory) plan(s *record.Schema) (*Decoder, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	d := &Decoder{dialect: f.dialect, bytesMax: int(f.settings.RecordBytesMax), fields: s.Fields}
	named := f.settings.Fields
	if len(named) == 0 {
		for i := range s.Fields {
			named = append(named, s.Fields[i].Name)
		}
	}
	d.column = make([]int, len(named))
	for i := range d.column {
		d.column[i] = -1
	}
	var errs []error
	for i := range s.Fields {
		field := &s.Fields[i]
		text, err := f.place(d, named, i)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", field.Name, err))
		}
		d.texts = append(d.texts, text)
	}
	return d, errors.Join(errs...)
}

// place finds the field of column i.
func (f *Factory) place(d *Decoder, named []string, i int) (*codec.Text, error) {
	field := &d.fields[i]
	if field.Type.Kind == record.Array || field.Type.Kind == record.Map {
		return nil, fmt.Errorf("a field can't hold %s", &field.Type)
	}
	name := field.Name
	if field.Path != "" {
		if name = field.Path; len(f.settings.Fields) == 0 {
			return nil, errors.New("a path is the name of a field, and fields does not name them")
		}
	}
	at := slices.Index(named, name)
	switch {
	case at < 0 && !field.Optional:
		return nil, fmt.Errorf("fields has no %q", name)
	case at < 0:
		d.missing = append(d.missing, i)
	case d.column[at] >= 0:
		return nil, fmt.Errorf("column %q is filled from %q already", d.fields[d.column[at]].Name, name)
	default:
		d.column[at] = i
	}
	return codec.NewText(&field.Type)
}
