package avro

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// EncoderSettings is what the encode section of a config says.
type EncoderSettings struct {
	Columns         []string                `config:"columns"` // empty: all
	Framing         Framing                 `config:"framing"` // empty: confluent
	Registry        *codec.RegistrySettings `config:"registry"`
	RegistryTimeout time.Duration           `config:"registry_timeout"` // 0: 30 s
	Schema          string                  `config:"schema"`
	Name            string                  `config:"name"`      // empty: Record
	Namespace       string                  `config:"namespace"` // empty: none

	Subject  string                `config:"subject"`
	Strategy codec.SubjectStrategy `config:"subject_strategy"`
	Topic    string                `config:"topic"`
	Register *bool                 `config:"register"`
}

func (s *EncoderSettings) subject() codec.SubjectSettings {
	return codec.SubjectSettings{Subject: s.Subject, Strategy: s.Strategy, Topic: s.Topic, Register: s.Register}
}

// EncoderSpec describes the encode section of type avro.
func EncoderSpec() config.Spec {
	keys := append([]config.Key{
		{
			Name: "columns", Kind: config.KindStrings, Example: `["id", "amount"]`,
			Doc: "The columns that are written, in this order. By default all, in the order of the rows.",
		},
		{
			Name: "framing", Kind: config.KindEnum, Enum: []string{string(Confluent), string(None)}, Default: string(Confluent),
			Doc: "What stands around a record: a byte 0 and the ID of its schema in the registry before it, or nothing.",
		},
	}, codec.RegistryKeys()...)
	keys = append(keys, []config.Key{
		{
			Name: "schema", Kind: config.KindString, Example: `'{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}'`,
			Doc: "The schema of the records, as JSON, or ${file:PATH}. Each field is filled from the column of its name, a field b within a record a from the\n" +
				"column a.b; one without a column needs a default. By default the schema is made of the columns.",
		},
		{Name: "name", Kind: config.KindString, Default: "Record", Doc: "The record's name in a schema that is made of the columns."},
		{Name: "namespace", Kind: config.KindString, Doc: "Its namespace."},
	}...)
	return config.Spec{
		Type: "avro",
		Doc: "Each row becomes an Avro record in its binary form, with the ID of its schema in a schema registry. The schema is made of the\n" +
			"columns, or given, and registered at the first start; `validate --connect` shows it and asks whether it is compatible.",
		Keys: append(keys, codec.SubjectKeys()...),
	}
}

// EncoderFactory makes Avro encoders. A schema that is made of columns has, for each type of column:
//
//	bool, float32, float64              boolean, float, double
//	int8, int16, int32, uint8, uint16   int
//	int64, uint32                       long
//	uint64, int128 to uint256, decimal  bytes with the logical type decimal
//	string, fixed_string                string
//	date, uuid                          int with date, string with uuid
//	timestamp                           long with timestamp-millis, -micros or -nanos, by its digits
//	ipv4, ipv6                          string
//	enum                                enum, or string where a name is none of Avro's
//	array, map                          array, map with the keys as texts
//	nullable                            a union with null, default null
//
// A field of a given schema takes these, and a string also texts of the other types, bytes and fixed also strings; of a union the
// first type that takes the column, and null. A number that is out of range or has too many digits is refused.
type EncoderFactory struct {
	settings EncoderSettings
	schema   avro.Schema // nil: made of the columns
	registry *codec.Registry
	topic    string
	part     string
	ids      *ids
}

// ids are the IDs of schemas that were asked for, by subject and text.
type ids struct {
	sync.Mutex
	known map[[2]string]uint32
}

var (
	_ codec.TopicEncoder = (*EncoderFactory)(nil)
	_ codec.CacheUser    = (*EncoderFactory)(nil)
	_ codec.Prober       = (*EncoderFactory)(nil)
	_ codec.Prober       = (*Factory)(nil)
	_ codec.Encoder      = (*Encoder)(nil)
)

// NewEncoder checks the settings; zero fields mean the defaults. The error is fault.Misconfigured.
func NewEncoder(s EncoderSettings) (*EncoderFactory, error) {
	if s.Name == "" {
		s.Name = "Record"
	}
	f := &EncoderFactory{settings: s, part: "value", ids: &ids{known: map[[2]string]uint32{}}}
	var errs [2]error
	if s.Schema != "" {
		if f.schema, errs[0] = avro.ParseWithCache(s.Schema, "", &avro.SchemaCache{}); errs[0] != nil {
			errs[0] = fmt.Errorf("schema: %w", errs[0])
		}
	}
	switch {
	case !f.framed():
	case s.Registry == nil:
		errs[1] = errors.New(`registry: the key is missing; framing = "none" needs none`)
	default:
		f.registry, errs[1] = codec.NewRegistry(*s.Registry, s.RegistryTimeout)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fault.E("codec/avro.NewEncoder", fault.Misconfigured, err)
	}
	return f, nil
}

func (f *EncoderFactory) framed() bool { return f.settings.Framing != None }

// UseCache keeps the IDs of schemas in the pipeline's cache.
func (f *EncoderFactory) UseCache(c codec.Cache) {
	if f.registry != nil {
		f.registry.UseCache(c)
	}
}

// ForTopic returns the factory for a topic's keys or values.
func (f *EncoderFactory) ForTopic(topic, part string) codec.EncoderFactory {
	g := *f
	g.topic, g.part = topic, part
	return &g
}

// New returns an encoder for rows of a schema. With a registry it asks for the ID of the schema, and waits for it up to the timeout.
func (f *EncoderFactory) New(schema *record.Schema) (codec.Encoder, error) {
	const op = "codec/avro.New"
	e, text, name, err := f.compile(schema)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if !f.framed() {
		return e, nil
	}
	subject, err := f.settings.subject().Of(f.topic, f.part, name)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	id, err := f.id(subject, text)
	if err != nil {
		return nil, fault.E(op, fault.KindOf(err), err)
	}
	e.header = binary.BigEndian.AppendUint32([]byte{0}, id)
	return e, nil
}

// id asks for a schema's ID once.
func (f *EncoderFactory) id(subject codec.Subject, text string) (uint32, error) {
	f.ids.Lock()
	defer f.ids.Unlock()
	key := [2]string{subject.Name, text}
	if id, ok := f.ids.known[key]; ok {
		return id, nil
	}
	id, err := f.registry.ID(context.Background(), subject, codec.RegisteredSchema{Type: "AVRO", Text: text})
	if err == nil {
		f.ids.known[key] = id
	}
	return id, err
}

// Probe tells what a registration of the schema would meet.
func (f *EncoderFactory) Probe(ctx context.Context, schema *record.Schema) (notes, blocks []string, err error) {
	if !f.framed() {
		return nil, nil, nil
	}
	_, text, name, err := f.compile(schema)
	if err != nil {
		return nil, []string{err.Error()}, nil //nolint:nilerr // it is the answer
	}
	subject, err := f.settings.subject().Of(f.topic, f.part, name)
	if err != nil {
		return nil, []string{err.Error()}, nil //nolint:nilerr // it is the answer
	}
	return f.registry.ProbeSchema(ctx, subject, codec.RegisteredSchema{Type: "AVRO", Text: text})
}

// Probe tells whether the registry answers.
func (f *Factory) Probe(ctx context.Context, _ *record.Schema) (notes, blocks []string, err error) {
	if f.registry == nil {
		return nil, nil, nil
	}
	return f.registry.ProbeAnswers(ctx)
}

// compile returns the encoder, the schema's text and its full name.
func (f *EncoderFactory) compile(schema *record.Schema) (e *Encoder, text, name string, err error) {
	picked, err := codec.Pick(schema, f.settings.Columns)
	if err != nil {
		return nil, "", "", err
	}
	s, text := f.schema, f.settings.Schema
	if s == nil {
		if text, err = deriveSchema(schema, picked, f.settings.Name, f.settings.Namespace); err != nil {
			return nil, "", "", err
		}
		if s, err = avro.ParseWithCache(text, "", &avro.SchemaCache{}); err != nil {
			return nil, "", "", err
		}
	}
	if named, ok := deref(s).(avro.NamedSchema); ok {
		name = named.FullName()
	}
	c := &putter{schema: schema, used: map[int]bool{}, picked: picked}
	root, err := c.root(s)
	if err != nil {
		return nil, "", "", err
	}
	return &Encoder{fields: schema.Fields, root: root}, text, name, nil
}
