package avro

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/registry"
	"github.com/ingestd/ingestd/internal/registry/registrytest"
	"github.com/ingestd/ingestd/record"
)

// memory is a pipeline's cache.
type memory struct{ objects sync.Map }

func (m *memory) Get(_ context.Context, name string) ([]byte, error) {
	data, ok := m.objects.Load(name)
	if !ok {
		return nil, codec.ErrNotCached
	}
	raw, _ := data.([]byte)
	return raw, nil
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	m.objects.LoadOrStore(name, bytes.Clone(data))
	return nil
}

func serve(t *testing.T) *registrytest.Server {
	t.Helper()
	s := registrytest.New()
	t.Cleanup(s.Close)
	return s
}

func framedBy(t *testing.T, url string, s Settings) *Factory {
	t.Helper()
	s.Registry = &codec.RegistrySettings{URLs: []string{url}}
	if s.RegistryTimeout == 0 {
		s.RegistryTimeout = 200 * time.Millisecond
	}
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func framedValue(id uint32, value ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), value...)
}

func recordOf(fields string) registry.Schema {
	return registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"R","fields":[` + fields + `]}`}
}

// Records of several schemas go into the same columns; what has no schema, a wrong first byte or another kind of schema is refused.
func TestAvro_framedConformance(t *testing.T) {
	s := serve(t)
	one := s.Add("a", recordOf(`{"name":"n","type":"int"}`))
	two := s.Add("a", recordOf(`{"name":"extra","type":"string"},{"name":"n","type":"long"},{"name":"text","type":["string","null"]}`))
	other := s.Add("a", recordOf(`{"name":"n","type":"string"}`))
	lacks := s.Add("a", recordOf(`{"name":"text","type":"string"}`))
	json := s.Add("j", registry.Schema{Type: "JSON", Text: `{"type":"object"}`})
	broken := s.Add("b", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"R"}`})
	wrongDefault := s.Add("d", recordOf(`{"name":"n","type":"int","default":"seven"}`))
	codectest.Run(t, codectest.Subject{
		Factory: framedBy(t, s.URL, Settings{Columns: []codec.Column{{Name: "n", Type: "int32"}, {Name: "text", Type: "nullable(string)"}}}),
		Good: []codectest.Sample{
			{Value: framedValue(one, 2), JSON: `{"n":1,"text":null}`},
			{Value: framedValue(two, 2, 'x', 4, 0, 2, 'y'), JSON: `{"n":2,"text":"y"}`},
			{Value: framedValue(two, 2, 'x', 4, 2), JSON: `{"n":2,"text":null}`},
			{Value: framedValue(wrongDefault, 6), JSON: `{"n":3,"text":null}`},
		},
		Bad: []codectest.Sample{
			{Value: nil, Byte: -1},
			{Value: []byte{}, Byte: 0},
			{Value: []byte{0, 0, 0, 0}, Byte: 0},
			{Value: append([]byte{1}, framedValue(one, 2)[1:]...), Byte: 0},
			{Value: framedValue(999, 2), Byte: 1},
			{Value: framedValue(json, 2), Byte: -1},
			{Value: framedValue(broken, 2), Byte: -1},
			{Value: framedValue(other, 2, 'x'), Column: "n", Byte: 5},
			{Value: framedValue(lacks, 2, 'x'), Column: "n", Byte: -1},
			{Value: framedValue(two, 2, 'x', 0x80, 0x80, 0x80, 0x80, 0x80, 1, 2), Column: "n", Byte: 7},
		},
	})
}

// With the pipeline's cache a new process reads records of known schemas while the registry is down. An unknown ID is refused after
// the timeout, and its next records at once.
func TestDecoder_registryOutage(t *testing.T) {
	s, m := serve(t), &memory{}
	part := s.Add("part", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Part","namespace":"a.b","fields":[{"name":"x","type":"long"}]}`})
	id := s.Add("a", registry.Schema{
		Type: "AVRO", Text: `{"type":"record","name":"R","fields":[{"name":"p","type":"a.b.Part"},{"name":"q","type":"a.b.Part"}]}`,
		References: []registry.Reference{{Name: "a.b.Part", Subject: "part", Version: 1}},
	})
	columns := []codec.Column{{Name: "p", Path: "p.x", Type: "int64"}, {Name: "q", Path: "q.x", Type: "int64"}}
	decode := func(id uint32) (string, record.Refusal) {
		t.Helper()
		f := framedBy(t, s.URL, Settings{Columns: columns})
		f.UseCache(m)
		return decodeRow(t, f, framedValue(id, 2, 4))
	}
	if row, r := decode(id); row != `{"p":1,"q":2}` {
		t.Fatalf("got %s %+v", row, r)
	}
	s.Fail(http.StatusServiceUnavailable)
	if row, r := decode(id); row != `{"p":1,"q":2}` {
		t.Fatalf("without the registry: got %s %+v", row, r)
	}
	began := time.Now()
	if _, r := decode(part); !strings.Contains(r.Reason, "schema 1: the registry says 503") {
		t.Errorf("got refusal %+v, want what the registry says", r)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("an unknown schema held a record up for %s, the timeout is 200 ms", took)
	}
}

func decodeRow(t *testing.T, f *Factory, value []byte) (string, record.Refusal) {
	t.Helper()
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	if r, ok := d.Decode(b, value); !ok {
		return "", r
	}
	return string(codec.AppendJSON(nil, b, 0)), record.Refusal{}
}

// The reader's schema gives records of older and newer writers one shape, with defaults, and makes the columns.
func TestDecoder_readersSchema(t *testing.T) {
	s := serve(t)
	old := s.Add("a", recordOf(`{"name":"n","type":"int"}`))
	renamed := s.Add("a", recordOf(`{"name":"price","type":"float"},{"name":"gone","type":"boolean"},{"name":"m","type":"long"}`))
	unlike := s.Add("a", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Other","fields":[{"name":"n","type":"int"}]}`})
	lacks := s.Add("a", recordOf(`{"name":"price","type":"float"}`))
	f := framedBy(t, s.URL, Settings{Schema: `{"type":"record","name":"R","fields":[{"name":"n","type":"long","aliases":["m"]},
		{"name":"price","type":"double","default":1.5},{"name":"tags","type":{"type":"array","items":"string"},"default":["a","b"]}]}`})
	for _, test := range []struct {
		value []byte
		want  string
	}{
		{framedValue(old, 2), `{"n":1,"price":1.5,"tags":["a","b"]}`},
		{framedValue(renamed, 0, 0, 0, 0x40, 1, 6), `{"n":3,"price":2,"tags":["a","b"]}`},
		{framedValue(unlike, 2), "record Other can't be read as record R"},
		{framedValue(lacks, 0, 0, 0, 0), `has no field "n"`},
	} {
		row, r := decodeRow(t, f, test.value)
		if row != test.want && (r.Reason == "" || !strings.Contains(r.Reason, test.want)) {
			t.Errorf("%x: got %s %+v, want %s", test.value, row, r, test.want)
		}
	}
}

// What is encoded for a topic is registered under its subject, and decoded again by its ID.
func TestEncoder_framed(t *testing.T) {
	s, m := serve(t), &memory{}
	schema := schemaOf(t, "id", "int64", "at", "nullable(timestamp(3))")
	encoder := func(change func(e *EncoderSettings)) *EncoderFactory {
		t.Helper()
		e := EncoderSettings{Registry: &codec.RegistrySettings{URLs: []string{s.URL}}, RegistryTimeout: 200 * time.Millisecond, Name: "Order", Namespace: "shop"}
		change(&e)
		f, err := NewEncoder(e)
		if err != nil {
			t.Fatal(err)
		}
		f.UseCache(m)
		return f
	}
	f := encoder(func(*EncoderSettings) {})
	if _, err := f.New(schema); fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), "topic") {
		t.Errorf("got error %v without a topic, want a misconfigured one", err)
	}
	notes, blocks, err := f.ForTopic("orders", "value").(*EncoderFactory).Probe(t.Context(), schema)
	if err != nil || len(blocks) > 0 || len(notes) != 1 || !strings.Contains(notes[0], `{"name":"Order","type":"record"`) {
		t.Errorf("got %q, %q, %v, want the schema that would be registered", notes, blocks, err)
	}
	e, err := f.ForTopic("orders", "value").New(schema)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(schema)
	put0(t, &b.Cols[0], "5")
	put0(t, &b.Cols[1], "null")
	form, _, ok := e.Encode(nil, b, 0)
	if want := framedValue(1, 10, 0); !ok || !bytes.Equal(form, want) {
		t.Errorf("got %x, want %x", form, want)
	}
	reads := framedBy(t, s.URL, Settings{Columns: []codec.Column{{Name: "id", Type: "int64"}, {Name: "at", Type: "nullable(timestamp(3))"}}})
	if row, r := decodeRow(t, reads, form); row != `{"id":5,"at":null}` {
		t.Errorf("got %s %+v", row, r)
	}
	for strategy, subject := range map[codec.SubjectStrategy]string{
		codec.TopicName: "orders-value", codec.RecordName: "shop.Order", codec.TopicRecordName: "orders-shop.Order",
	} {
		g := encoder(func(e *EncoderSettings) { e.Strategy = strategy }).ForTopic("orders", "value")
		if _, err := g.New(schema); err != nil {
			t.Fatal(err)
		}
		c, err := registry.New(registry.Settings{URLs: []string{s.URL}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ByVersion(t.Context(), subject, 1, c.Once); err != nil {
			t.Errorf("subject %s: %v", subject, err)
		}
	}
	s.Fail(http.StatusServiceUnavailable)
	if _, err := encoder(func(*EncoderSettings) {}).ForTopic("orders", "value").New(schema); err != nil {
		t.Errorf("got error %v for a schema whose ID is cached", err)
	}
	if _, err := encoder(func(*EncoderSettings) {}).ForTopic("other", "value").New(schema); fault.KindOf(err) != fault.Transient {
		t.Errorf("got error %v, want a transient one", err)
	}
}

func TestOpen_reportsPlaces(t *testing.T) {
	for text, want := range map[string]string{
		"type = \"avro\"\nframing = \"none\"\n":                                              "schema: the key is missing",
		"type = \"avro\"\n":                                                                  "registry: the key is missing",
		"type = \"avro\"\nregistry = { urls = [\"x\"] }\n":                                   "does not begin with http",
		"type = \"avro\"\nregistry = { }\n":                                                  "urls",
		"type = \"avro\"\nframing = \"none\"\nschema = \"{}\"\n":                             "schema:",
		"type = \"avro\"\nregistry = { urls = [\"http://r\"] }\ncolumns = { a = \"int\" }\n": "test.toml:3",
	} {
		section := config.ParseSection("test.toml", []byte(text), config.Env{})
		if _, err := Open(section); err == nil || section.Err() == nil || !strings.Contains(section.Err().Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, section.Err(), want)
		}
	}
}

// What the columns are must be said somewhere, and a reader's schema that can't fill them is found at the start.
func TestFactory_schema(t *testing.T) {
	optional := func(s *record.Schema) *record.Schema {
		for i := range s.Fields {
			s.Fields[i].Optional = true
		}
		return s
	}
	reads := `{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":{"type":"record","name":"B","fields":[{"name":"c","type":"int"}]}}]}`
	for _, test := range []struct {
		settings Settings
		wanted   *record.Schema
		fails    string
	}{
		{settings: Settings{Schema: reads}, wanted: schemaOf(t, "a", "string", "b.c", "int8")},
		{settings: Settings{Schema: reads}, wanted: optional(schemaOf(t, "z", "string"))},
		{settings: Settings{Schema: reads}, wanted: schemaOf(t, "a", "int8"), fails: "string does not fit int8"},
		{settings: Settings{Schema: reads}, wanted: schemaOf(t, "b", "int8"), fails: "record B does not fit int8"},
		{settings: Settings{Schema: reads, Columns: []codec.Column{{Name: "x", Path: "a"}}}, fails: "needs a type"},
		{settings: Settings{Schema: reads}, wanted: schemaOf(t, "a", "string", "a.b", "string"), fails: `leads through "a"`},
		{settings: Settings{Schema: reads}, wanted: schemaOf(t, "a", `array(timestamp(0, "Mars/Base"))`), fails: "Mars/Base"},
		{settings: Settings{Schema: `"string"`}, fails: "columns can only be made of a record's fields"},
		{settings: Settings{Schema: `"string"`}, wanted: schemaOf(t, "value", "string")},
	} {
		test.settings.Framing = None
		f, err := New(test.settings)
		if err == nil {
			_, err = f.Schema(test.wanted)
		}
		if test.fails == "" && err != nil || test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails) || fault.KindOf(err) != fault.Misconfigured) {
			t.Errorf("%+v: got error %v, want %q", test.settings.Columns, err, test.fails)
		}
	}
	s := serve(t)
	if _, err := framedBy(t, s.URL, Settings{}).Schema(nil); err == nil || !strings.Contains(err.Error(), "nothing says what the columns are") {
		t.Errorf("got error %v", err)
	}
}
