package avro

import (
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/record"
)

// orders is a schema with a value of every kind that the tests of the contract use.
const orders = `{"type": "record", "name": "Order", "namespace": "shop", "fields": [
	{"name": "id", "type": "long"},
	{"name": "note", "type": ["null", "string"], "default": null},
	{"name": "sum", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
	{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "skipped", "type": {"type": "map", "values": {"type": "array", "items": "double"}}},
	{"name": "user", "type": {"type": "record", "name": "User", "fields": [
		{"name": "name", "type": "string"},
		{"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "OLD"]}}]}},
	{"name": "tags", "type": {"type": "array", "items": "string"}},
	{"name": "extra", "type": ["null", "int", {"type": "record", "name": "Extra", "fields": [{"name": "x", "type": "boolean"}]}]}
]}`

func plain(tb testing.TB, schema string, columns ...codec.Column) *Factory {
	tb.Helper()
	f, err := New(Settings{Framing: None, Schema: schema, Columns: columns})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// written returns a value in the binary form of a schema, made by the library.
func written(tb testing.TB, schema string, v any) []byte {
	tb.Helper()
	s, err := avro.ParseWithCache(schema, "", &avro.SchemaCache{})
	if err != nil {
		tb.Fatal(err)
	}
	data, err := avro.Marshal(s, v)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func orderColumns() []codec.Column {
	return []codec.Column{
		{Name: "id", Type: "int64"},
		{Name: "note", Type: "nullable(string)"},
		{Name: "sum", Type: "decimal(9, 2)"},
		{Name: "at", Type: "timestamp(3)"},
		{Name: "user_name", Path: "user.name", Type: "string"},
		{Name: "state", Path: "user.state", Type: `enum("NEW" = 1, "OLD" = 2)`},
		{Name: "tags", Type: "array(string)"},
		{Name: "extra", Type: "nullable(string)"},
	}
}

// order writes a record of orders by hand.
func order(id, sum byte, note, state []byte, tail ...byte) []byte {
	out := append([]byte{id}, note...)
	out = append(out, 2, sum, 0xd0, 0x0f) // sum, at = 1000
	out = append(out, 1, 26, 2, 'k', 1, 16)
	out = append(append(out, make([]byte, 8)...), 0, 0) // skipped: one block with its size, one pair with an array of one double
	out = append(out, 4, 'a', 'b')
	out = append(append(out, state...), tail...)
	return out
}

func TestAvro_conformance(t *testing.T) {
	good := order(2, 5, []byte{2, 2, 'n'}, []byte{0}, 4, 2, 'x', 0, 0, 4, 1)
	codectest.Run(t, codectest.Subject{
		Factory: plain(t, orders, orderColumns()...),
		Good: []codectest.Sample{
			{Value: good, JSON: `{"id":1,"note":"n","sum":0.05,"at":"1970-01-01T00:00:01.000Z","user_name":"ab","state":"NEW","tags":["x",""],"extra":"{\"x\":true}"}`},
			{
				Value: order(3, 0xfb, []byte{0}, []byte{2}, 0, 2, 14),
				JSON:  `{"id":-2,"note":null,"sum":-0.05,"at":"1970-01-01T00:00:01.000Z","user_name":"ab","state":"OLD","tags":[],"extra":"7"}`,
			},
		},
		Bad: []codectest.Sample{
			{Value: nil, Byte: -1},
			{Value: []byte{}, Column: "id", Byte: 0},
			{Value: append(order(2, 5, []byte{0}, []byte{0}, 0, 0), 9), Byte: 28},
			{Value: order(2, 5, []byte{6}, []byte{0}, 0, 0), Column: "note", Byte: 2},
			{Value: order(2, 5, []byte{2, 2, 0xff}, []byte{0}, 0, 0), Column: "note", Byte: 2},
			{Value: order(2, 5, []byte{0}, []byte{6}, 0, 0), Column: "state", Byte: 26},
			{Value: order(2, 5, []byte{0}, []byte{0}, 0x80, 0x80, 4, 0, 0), Column: "tags", Byte: 29},
			{Value: order(2, 5, []byte{0}, []byte{0}, 0, 4, 7), Column: "extra", Byte: 29},
		},
	})
}

// A record of a whole order goes through the library and back to columns.
func TestDecoder_readsWhatTheLibraryWrites(t *testing.T) {
	f := plain(t, orders)
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	value := written(t, orders, map[string]any{
		"id": int64(1) << 60, "note": nil, "sum": []byte{0}, "at": int64(-1), "skipped": map[string]any{"a": []any{1.5}},
		"user": map[string]any{"name": "é", "state": "OLD"}, "tags": []any{"a", "b"}, "extra": map[string]any{"shop.Extra": map[string]any{"x": false}},
	})
	b := record.NewBatch(s)
	if r, ok := d.Decode(b, value); !ok {
		t.Fatalf("got refusal %+v", r)
	}
	want := `{"id":1152921504606846976,"note":null,"sum":0.00,"at":"1969-12-31T23:59:59.999Z","skipped":{"a":[1.5]},` +
		`"user":"{\"name\":\"é\",\"state\":\"OLD\"}","tags":["a","b"],"extra":"{\"x\":false}"}`
	if got := string(codec.AppendJSON(nil, b, 0)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
