package json

import (
	"context"
	"encoding/binary"
	stdjson "encoding/json"
	"errors"
	"sync"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// frame finds the ID of the JSON Schema of rows.
type frame struct {
	registry *codec.Registry
	subject  codec.SubjectSettings
	text     string // empty: made of the columns
	name     string
	topic    string
	part     string
	ids      *ids
}

// ids are the IDs of schemas that were asked for, by subject and text.
type ids struct {
	sync.Mutex
	known map[[2]string]uint32
}

func newFrame(s EncoderSettings) (*frame, error) {
	if s.Registry == nil {
		return nil, errors.New(`registry: the key is missing; framing = "none" needs none`)
	}
	if s.Schema != "" && !stdjson.Valid([]byte(s.Schema)) {
		return nil, errors.New("schema: it is not valid JSON")
	}
	r, err := codec.NewRegistry(*s.Registry, s.RegistryTimeout)
	if err != nil {
		return nil, err
	}
	f := &frame{registry: r, text: s.Schema, name: s.Name, part: "value", ids: &ids{known: map[[2]string]uint32{}}}
	if f.name == "" {
		f.name = "Record"
	}
	f.subject = codec.SubjectSettings{Subject: s.Subject, Strategy: s.Strategy, Topic: s.Topic, Register: s.Register}
	return f, nil
}

// UseCache keeps the IDs of schemas in the pipeline's cache.
func (f *EncoderFactory) UseCache(c codec.Cache) {
	if f.frame != nil {
		f.frame.registry.UseCache(c)
	}
}

// ForTopic returns the factory for a topic's keys or values.
func (f *EncoderFactory) ForTopic(topic, part string) codec.EncoderFactory {
	if f.frame == nil {
		return f
	}
	g, own := *f, *f.frame
	own.topic, own.part = topic, part
	g.frame = &own
	return &g
}

// Probe tells what a registration of the schema would meet.
func (f *EncoderFactory) Probe(ctx context.Context, schema *record.Schema) (notes, blocks []string, err error) {
	if f.frame == nil {
		return nil, nil, nil
	}
	picked, err := codec.Pick(schema, f.settings.Columns)
	if err != nil {
		return nil, []string{err.Error()}, nil //nolint:nilerr // it is the answer
	}
	subject, text, err := f.frame.schema(schema, picked)
	if err != nil {
		return nil, []string{err.Error()}, nil //nolint:nilerr // it is the answer
	}
	return f.frame.registry.ProbeSchema(ctx, subject, codec.RegisteredSchema{Type: "JSON", Text: text})
}

func (f *frame) schema(s *record.Schema, picked []int) (codec.Subject, string, error) {
	text := f.text
	if text == "" {
		data, err := stdjson.Marshal(jsonSchema(s, picked, f.name))
		if err != nil {
			return codec.Subject{}, "", err
		}
		text = string(data)
	}
	subject, err := f.subject.Of(f.topic, f.part, f.name)
	return subject, text, err
}

// header returns what stands before each record.
func (f *frame) header(s *record.Schema, picked []int) ([]byte, error) {
	subject, text, err := f.schema(s, picked)
	if err != nil {
		return nil, fault.E("codec/json.New", fault.Misconfigured, err)
	}
	f.ids.Lock()
	defer f.ids.Unlock()
	key := [2]string{subject.Name, text}
	id, ok := f.ids.known[key]
	if !ok {
		if id, err = f.registry.ID(context.Background(), subject, codec.RegisteredSchema{Type: "JSON", Text: text}); err != nil {
			return nil, err
		}
		f.ids.known[key] = id
	}
	return binary.BigEndian.AppendUint32([]byte{0}, id), nil
}

// jsonSchema makes a JSON Schema of columns.
func jsonSchema(s *record.Schema, picked []int, name string) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, at := range picked {
		f := &s.Fields[at]
		properties[f.Name] = typeSchema(&f.Type)
		required = append(required, f.Name)
	}
	return map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": name, "type": "object",
		"properties": properties, "required": required, "additionalProperties": false,
	}
}

func typeSchema(t *record.Type) map[string]any {
	s := plainSchema(t)
	if t.Nullable {
		return map[string]any{"oneOf": []any{map[string]any{"type": "null"}, s}}
	}
	return s
}

func plainSchema(t *record.Type) map[string]any {
	text := func(format string) map[string]any { return map[string]any{"type": "string", "format": format} }
	switch t.Kind {
	case record.Bool:
		return map[string]any{"type": "boolean"}
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Int128, record.Int256, record.Uint8, record.Uint16, record.Uint32,
		record.Uint64, record.Uint128, record.Uint256:
		return map[string]any{"type": "integer"}
	case record.Float32, record.Float64:
		return map[string]any{"oneOf": []any{map[string]any{"type": "number"}, map[string]any{"enum": []string{"NaN", "Infinity", "-Infinity"}}}}
	case record.Decimal:
		return map[string]any{"type": "number"}
	case record.Date:
		return text("date")
	case record.Timestamp:
		return text("date-time")
	case record.UUID:
		return text("uuid")
	case record.IPv4:
		return text("ipv4")
	case record.IPv6:
		return text("ipv6")
	case record.Enum:
		var names []string
		for _, v := range t.Values {
			names = append(names, v.Name)
		}
		return map[string]any{"enum": names}
	case record.Array:
		return map[string]any{"type": "array", "items": typeSchema(t.Elem)}
	case record.Map:
		return map[string]any{"type": "object", "additionalProperties": typeSchema(t.Elem)}
	case record.String, record.FixedString, record.Invalid:
	}
	return map[string]any{"type": "string"}
}
