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
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Factory makes JSON decoders. It is immutable.
type Factory struct {
	settings Settings
	columns  []column
}

var (
	_ codec.Factory = (*Factory)(nil)
	_ codec.Decoder = (*Decoder)(nil)
)

// column is a configured column after its type was read.
type column struct {
	Column
	typ   record.Type
	typed bool
}

// New checks the settings; zero fields mean the defaults. The error is fault.Misconfigured.
func New(s Settings) (*Factory, error) {
	f := &Factory{settings: s}
	if f.settings.RecordBytesMax == 0 {
		f.settings.RecordBytesMax = recordBytesMax
	}
	if f.settings.DepthMax == 0 {
		f.settings.DepthMax = depthMax
	}
	var errs []error
	for _, c := range s.Columns {
		col := column{Column: c, typed: c.Type != ""}
		if col.typed {
			t, err := record.ParseType(c.Type)
			if err != nil {
				errs = append(errs, fmt.Errorf("column %q: %w", c.Name, err))
			}
			col.typ = t
		}
		f.columns = append(f.columns, col)
	}
	if err := errors.Join(errs...); err != nil {
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
	for _, c := range s.Columns {
		if c.Type == "" {
			continue
		}
		if _, err := record.ParseType(c.Type); err != nil {
			section.Errorf("columns."+c.Name, "%v", err)
		}
	}
	return New(s)
}

// Schema completes the schema: the wanted columns in their order, with what the config says about them, then the columns that
// only the config has, for steps; these need a type. A configured type must be stored in the same way as the wanted one, and be
// nullable only if that is; it may name another zone. A column is optional if the config says so, or, where the config says
// nothing, if the wanted one is or is nullable; one that the config makes less nullable is not.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	s := &record.Schema{}
	if wanted != nil {
		s.Fields = slices.Clone(wanted.Fields)
	}
	configured := make(map[string]bool, len(f.columns))
	var errs []error
	for i := range f.columns {
		c := &f.columns[i]
		configured[c.Name] = true
		at := s.Index(c.Name)
		if at < 0 {
			if !c.typed {
				errs = append(errs, fmt.Errorf("column %q needs a type: %s", c.Name, lacks(wanted)))
				continue
			}
			s.Fields, at = append(s.Fields, record.Field{Name: c.Name, Type: c.typ}), len(s.Fields)
		}
		if err := c.apply(&s.Fields[at]); err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", c.Name, err))
		}
	}
	for i := range s.Fields {
		if field := &s.Fields[i]; !configured[field.Name] {
			field.Optional = field.Optional || field.Type.Nullable
		}
	}
	if len(errs) == 0 {
		_, err := newPlan(s)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.E("codec/json.Schema", fault.Misconfigured, err)
	}
	return s, nil
}

// apply changes a field to what the config says.
func (c *column) apply(f *record.Field) error {
	switch {
	case c.typed && !c.typ.SameLayout(&f.Type):
		return fmt.Errorf("the config says %s, the sink takes %s", &c.typ, &f.Type)
	case c.typed && c.typ.Nullable && !f.Type.Nullable:
		return fmt.Errorf("the config says %s, the sink takes no null: %s", &c.typ, &f.Type)
	}
	if c.Path != "" {
		f.Path = c.Path
	}
	f.Optional = f.Optional || f.Type.Nullable
	if c.typed {
		t := c.typ
		t.Min, t.Max = f.Type.Min, f.Type.Max
		f.Optional = t.Nullable || f.Optional && !f.Type.Nullable // without null there is nothing to store for a missing value
		f.Type = t
	}
	if c.Optional != nil {
		f.Optional = *c.Optional
	}
	return nil
}

// lacks says why the sink gives no type.
func lacks(s *record.Schema) string {
	if s == nil {
		return "the sink takes any columns"
	}
	list := make([]string, len(s.Fields))
	for i := range s.Fields {
		list[i] = s.Fields[i].Name
	}
	return "the columns that the sink and the steps want are " + strings.Join(list, ", ")
}

// New returns a decoder for a schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	p, err := newPlan(schema)
	if err != nil {
		return nil, fault.E("codec/json.New", fault.Misconfigured, err)
	}
	return newDecoder(p, &f.settings), nil
}
