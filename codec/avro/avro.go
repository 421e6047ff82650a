// Package avro decodes and encodes Avro records (binary form, specification 1.12) with the framing of Confluent's schema
// registry: a byte 0, the schema's ID in four bytes, the record.
//
// A record is read with the schema that it was written with, resolved to the reader's schema if the config has one. Columns are
// filled from its fields by their paths; a.b is the field b of the record a, or the value under the key b of the map a. A null on
// the way is as if the field were not there. Fields that no column is filled from are passed over. A value is taken only if its
// column holds it exactly:
//
//	boolean                   bool
//	int, long                 integers in range, decimal; float32, float64 as the nearest value; timestamp with timestamp_numbers
//	float, double             float64; float32 as the nearest value, unless that is infinite, or 0 for what is not 0
//	string                    string; other types but bool, integers, arrays and maps as codec.Text reads them
//	bytes, fixed              string, as they are; fixed_string, uuid, ipv6 of the same bytes
//	enum                      enum by its names; string, fixed_string
//	decimal                   decimal and integers, if they hold it exactly; float32, float64, string
//	date                      date; integers, as the days; string
//	time-*                    integers, as the number is; string, 10:11:12.345
//	timestamp-*               timestamp, if its digits hold it; integers, as the number is; string
//	local-timestamp-*         timestamp, in the zone of the column's type; integers, as the number is; string
//	uuid                      uuid, string
//	duration                  string, P1M2DT3.004S; fixed_string(12)
//	array                     array; string, as JSON
//	map                       map, without a key twice; string, as JSON
//	record                    map, by the fields' names; string, as JSON
//	null                      nullable columns
//	union                     whatever its types fit; a string column takes one of several types as JSON, unless all are texts
//
// Numbers with a logical type keep the unit and scale that they were written in, also where the reader's schema has another one.
// The encoder is the inverse of this table; see [EncoderFactory].
//
// What a record claims is never believed before it is checked against its length: lengths, numbers of items, nesting. What takes no
// bytes, and what defaults and JSON add, is bounded too.
package avro

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Factory makes Avro decoders. Its decoders share the registry's schemas.
type Factory struct {
	settings Settings
	unit     int
	columns  codec.Columns
	reads    avro.Schema // nil: as written
	registry *codec.Registry
}

var (
	_ codec.Factory   = (*Factory)(nil)
	_ codec.Decoder   = (*Decoder)(nil)
	_ codec.CacheUser = (*Factory)(nil)
)

// New checks the settings; zero fields mean the defaults. It reads the certificates' files and does no other I/O. The error is
// fault.Misconfigured.
func New(s Settings) (*Factory, error) {
	f, err := newFactory(s)
	if err != nil {
		return nil, fault.E("codec/avro.New", fault.Misconfigured, err)
	}
	return f, nil
}

func newFactory(s Settings) (*Factory, error) {
	if s.Framing == "" {
		s.Framing = Confluent
	}
	if s.RecordBytesMax == 0 {
		s.RecordBytesMax = recordBytesMax
	}
	if s.DepthMax == 0 {
		s.DepthMax = depthMax
	}
	f := &Factory{settings: s, unit: s.TimestampNumbers.digits()}
	var errs [3]error
	f.columns, errs[0] = codec.NewColumns(s.Columns)
	if s.Schema != "" {
		if f.reads, errs[1] = avro.ParseWithCache(s.Schema, "", &avro.SchemaCache{}); errs[1] != nil {
			errs[1] = fmt.Errorf("schema: %w", errs[1])
		}
	}
	switch {
	case f.framed() && s.Registry == nil:
		errs[2] = errors.New(`registry: the key is missing; framing = "none" needs none`)
	case f.framed():
		f.registry, errs[2] = codec.NewRegistry(*s.Registry, s.RegistryTimeout)
	case s.Schema == "":
		errs[2] = errors.New(`schema: the key is missing, which says how records with framing = "none" were written`)
	}
	return f, errors.Join(errs[:]...)
}

// Open makes a factory from its section of a config; what is wrong is reported there, at its place.
func Open(section *config.Section) (*Factory, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, fault.E("codec/avro.Open", fault.Misconfigured, section.Err())
	}
	codec.ReportColumns(section, s.Columns)
	f, err := New(s)
	if err != nil && section.Err() == nil {
		section.Errorf("", "%v", err)
	}
	return f, err
}

func (f *Factory) framed() bool { return f.settings.Framing == Confluent }

// UseCache keeps schemas in the pipeline's cache.
func (f *Factory) UseCache(c codec.Cache) {
	if f.registry != nil {
		f.registry.UseCache(c)
	}
}

// Schema completes the schema as [codec.Columns.Complete] does. Where the config has the reader's schema, that must be able to fill
// it, and is the source of the columns if nothing else is.
func (f *Factory) Schema(wanted *record.Schema) (*record.Schema, error) {
	s, err := f.complete(wanted)
	if err != nil {
		return nil, fault.E("codec/avro.Schema", fault.Misconfigured, err)
	}
	return s, nil
}

func (f *Factory) complete(wanted *record.Schema) (*record.Schema, error) {
	if wanted == nil && f.columns.Len() == 0 {
		if f.reads == nil {
			return nil, errors.New("nothing says what the columns are: neither the sink, nor columns, nor schema")
		}
		return deriveColumns(f.reads)
	}
	s, err := f.columns.Complete(wanted)
	if err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	targets, err := newTargets(s)
	if err != nil {
		return nil, err
	}
	for i := range s.Fields {
		if err := checkTexts(&s.Fields[i].Type); err != nil {
			return nil, fmt.Errorf("column %q: %w", s.Fields[i].Name, err)
		}
	}
	if f.reads == nil {
		return s, nil
	}
	n, err := resolve(f.reads, f.reads)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	p := &planner{schema: s, unit: f.unit}
	p.plan(n, targets)
	return s, errors.Join(p.misfits...)
}

// checkTexts checks that all types within one can be read from texts: their zones are known.
func checkTexts(t *record.Type) error {
	_, err := codec.NewText(t)
	if t.Key != nil {
		err = errors.Join(err, checkTexts(t.Key))
	}
	if t.Elem != nil {
		err = errors.Join(err, checkTexts(t.Elem))
	}
	return err
}

// New returns a decoder for a schema that Schema returned.
func (f *Factory) New(schema *record.Schema) (codec.Decoder, error) {
	targets, err := newTargets(schema)
	if err != nil {
		return nil, fault.E("codec/avro.New", fault.Misconfigured, err)
	}
	return &Decoder{
		factory: f, schema: schema, targets: targets, bytesMax: int(f.settings.RecordBytesMax), depthMax: f.settings.DepthMax,
		programs: map[uint32]*program{},
	}, nil
}

// program returns what a decoder does with records of a schema ID. The error says why there is no such schema, for now.
func (f *Factory) program(s *record.Schema, targets *target, id uint32) (*program, error) {
	writes := f.reads
	if f.framed() {
		found, err := f.registry.Schema(id)
		if err != nil {
			return nil, err
		}
		if found.Type != "AVRO" {
			return &program{refused: fmt.Sprintf("schema %d is of type %s, not of AVRO", id, found.Type)}, nil
		}
		if writes, err = parseWriter(found); err != nil {
			return &program{refused: fmt.Sprintf("schema %d: %s", id, err)}, nil
		}
	}
	reads := f.reads
	if reads == nil {
		reads = writes
	}
	n, err := resolve(writes, reads)
	if err != nil {
		return &program{refused: fmt.Sprintf("schema %d: %s", id, err)}, nil
	}
	p := &planner{schema: s, unit: f.unit}
	return &program{root: p.plan(n, targets)}, nil
}

// parseWriter reads a writer's schema and those that it refers to. Defaults say nothing about what was written, and a wrong one,
// which other libraries let pass, must not keep a record from being read.
func parseWriter(s *codec.RegisteredSchema) (avro.Schema, error) {
	cache := &avro.SchemaCache{}
	for _, ref := range s.References {
		if _, err := parseWithoutDefaults(ref.Text, cache); err != nil {
			return nil, fmt.Errorf("reference %q: %w", ref.Name, err)
		}
	}
	return parseWithoutDefaults(s.Text, cache)
}

func parseWithoutDefaults(text string, cache *avro.SchemaCache) (avro.Schema, error) {
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		// A name alone, as some registries store it.
		return avro.ParseWithCache(text, "", cache)
	}
	dropDefaults(tree)
	plain, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	return avro.ParseBytesWithCache(plain, "", cache)
}

// dropDefaults takes the defaults out of the fields of all records.
func dropDefaults(tree any) {
	switch t := tree.(type) {
	case []any:
		for _, v := range t {
			dropDefaults(v)
		}
	case map[string]any:
		fields, _ := t["fields"].([]any) //nolint:errcheck // without fields it is no record
		for _, f := range fields {
			if field, ok := f.(map[string]any); ok {
				delete(field, "default")
			}
		}
		for _, key := range []string{"type", "items", "values"} {
			dropDefaults(t[key])
		}
		dropDefaults(t["fields"])
	}
}
