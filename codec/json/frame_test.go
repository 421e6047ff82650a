package json

import (
	"bytes"
	"encoding/binary"
	stdjson "encoding/json"
	"net/http"
	"strings"
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

func TestJSON_framedConformance(t *testing.T) {
	f, err := New(Settings{Framing: Confluent, Columns: []Column{{Name: "n", Type: "int8"}}})
	if err != nil {
		t.Fatal(err)
	}
	codectest.Run(t, codectest.Subject{
		Factory: f,
		Good: []codectest.Sample{
			{Value: []byte("\x00\x00\x00\x00\x01" + `{"n":1}`), JSON: `{"n":1}`},
			{Value: []byte("\x00\xff\xff\xff\xff" + `{"n":-1}`), JSON: `{"n":-1}`},
		},
		Bad: []codectest.Sample{
			{Value: nil, Byte: -1},
			{Value: []byte(`{"n":1}`), Byte: 0},
			{Value: []byte("\x00\x00\x00\x00"), Byte: 0},
			{Value: []byte("\x00\x00\x00\x00\x01" + `{"n":"x"}`), Column: "n", Byte: 10},
			{Value: []byte("\x00\x00\x00\x00\x01"), Byte: 5},
		},
	})
}

// The encoder registers the JSON Schema of its columns once, writes its ID, and knows it after a restart without the registry.
func TestEncoder_framed(t *testing.T) {
	s := registrytest.New()
	t.Cleanup(s.Close)
	schema := testSchema(t, "id", "int64", "at", "nullable(timestamp(3))", "tags", "map(string, array(float32))", "e", `enum("a" = 1)`)
	settings := EncoderSettings{Framing: Confluent, Registry: &codec.RegistrySettings{URLs: []string{s.URL}}, RegistryTimeout: 300 * time.Millisecond, Columns: []string{"id", "at", "tags", "e"}}
	f := encoderOf(t, settings).ForTopic("orders", "value")
	e, err := f.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(schema)
	for i, text := range []string{"7", "1970-01-01T00:00:00Z"} {
		if err := codec.AppendText(&b.Cols[i], []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b.Cols[2].CloseList()
	b.Cols[3].AppendInt(1)
	got, _, ok := e.Encode(nil, b, 0)
	if want := "\x00\x00\x00\x00\x01" + `{"id":7,"at":"1970-01-01T00:00:00.000Z","tags":{},"e":"a"}`; !ok || string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	client, err := registry.New(registry.Settings{URLs: []string{s.URL}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := client.ByVersion(t.Context(), "orders-value", 1, client.Once)
	if err != nil || found.Type != "JSON" || !stdjson.Valid([]byte(found.Text)) {
		t.Fatalf("got %+v, %v", found, err)
	}
	want := `{"$schema":"http://json-schema.org/draft-07/schema#","additionalProperties":false,"properties":{` +
		`"at":{"oneOf":[{"type":"null"},{"format":"date-time","type":"string"}]},"e":{"enum":["a"]},"id":{"type":"integer"},` +
		`"tags":{"additionalProperties":{"items":{"oneOf":[{"type":"number"},{"enum":["NaN","Infinity","-Infinity"]}]},"type":"array"},"type":"object"}},` +
		`"required":["id","at","tags","e"],"title":"Record","type":"object"}`
	if found.Text != want {
		t.Errorf("got schema  %s\nwant %s", found.Text, want)
	}
	requests := s.Requests()
	if _, err := f.New(schema); err != nil || s.Requests() != requests {
		t.Errorf("got %v and %d requests more for the next task, want none", err, s.Requests()-requests)
	}
	notes, blocks, err := encoderOf(t, settings).ForTopic("orders", "key").(*EncoderFactory).Probe(t.Context(), schema)
	if err != nil || len(blocks) > 0 || len(notes) != 1 || !strings.Contains(notes[0], `"orders-key"`) {
		t.Errorf("got %q, %q, %v", notes, blocks, err)
	}
	s.Fail(http.StatusServiceUnavailable)
	if _, err := encoderOf(t, settings).ForTopic("orders", "value").New(schema); fault.KindOf(err) != fault.Transient {
		t.Errorf("got error %v without the registry, want a transient one", err)
	}
	if binary.BigEndian.Uint32(got[1:]) != 1 || !bytes.HasPrefix(got[5:], []byte("{")) {
		t.Errorf("got %q", got)
	}
}

func TestNewEncoder_refusesFraming(t *testing.T) {
	r := &codec.RegistrySettings{URLs: []string{"http://localhost:8081"}}
	for want, s := range map[string]EncoderSettings{
		"registry: the key is missing": {Framing: Confluent},
		"is not valid JSON":            {Framing: Confluent, Registry: r, Schema: "{"},
		"so is the topic":              {Framing: Confluent, Registry: r},
		"a file can't take":            {Framing: Confluent, Registry: r, Topic: "t"},
	} {
		f, err := NewEncoder(s)
		if err == nil && s.Topic == "" {
			_, err = f.New(testSchema(t, "a", "int8"))
		} else if err == nil {
			_, err = f.FileFormat()
		}
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("got error %v, want a misconfigured one with %q", err, want)
		}
	}
	if err := config.CheckSpec(EncoderSpec(), &EncoderSettings{}); err != nil {
		t.Error(err)
	}
}
