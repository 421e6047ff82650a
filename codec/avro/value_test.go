package avro

import (
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

func long(v int64) []byte     { return appendLong(nil, v) }
func text(s string) []byte    { return appendBytes(nil, []byte(s)) }
func float(v float32) []byte  { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
func double(v float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Each type of Avro into each type of column that takes it, and what is refused: at the start (misfit), or as a value.
func TestDecoder_conversions(t *testing.T) {
	logical := func(typ, name string) string { return `{"type":"` + typ + `","logicalType":"` + name + `"}` }
	fixed := func(size, more string) string { return `{"type":"fixed","name":"F","size":` + size + more + `}` }
	money := `{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}`
	record1 := `{"type":"record","name":"P","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","int"]}]}`
	state := `{"type":"enum","name":"E","symbols":["A","B"]}`
	uuid := "\x0f\x8f\xad\x5b\xd9\xcb\x46\x9f\xa1\x65\x70\x86\x77\x28\x95\x0e"
	const misfit = "does not fit"
	for _, test := range []struct {
		schema, column string
		value          []byte
		want           string // JSON, or a part of the refusal
	}{
		{`"boolean"`, "bool", []byte{1}, "true"},
		{`"boolean"`, "bool", []byte{2}, "neither 0 nor 1"},
		{`"boolean"`, "int8", []byte{1}, misfit},
		{`"int"`, "int8", long(-128), "-128"},
		{`"int"`, "int8", long(128), "out of the type's range"},
		{`"int"`, "uint16", long(-1), "is negative"},
		{`"int"`, "int64", long(1 << 31), "more than 32 bits"},
		{`"long"`, "uint64", long(math.MaxInt64), "9223372036854775807"},
		{`"long"`, "int128", long(math.MinInt64), "-9223372036854775808"},
		{`"long"`, "uint256", long(-5), "is negative"},
		{`"long"`, "decimal(20, 2)", long(-7), "-7.00"},
		{`"long"`, "decimal(3, 2)", long(10), "out of the type's range"},
		{`"long"`, "float32", long(16777217), "16777216"},
		{`"long"`, "float64", long(-3), "-3"},
		{`"long"`, "timestamp(3)", long(0), misfit},
		{`"long"`, "string", long(0), misfit},
		{`"long"`, "bool", long(0), misfit},
		{`"float"`, "float32", float(1.5), "1.5"},
		{`"float"`, "float64", float(float32(math.NaN())), `"NaN"`},
		{`"double"`, "float32", double(0.1), "0.1"},
		{`"double"`, "float32", double(1e300), "out of the type's range"},
		{`"double"`, "float32", double(1e-300), "would become 0"},
		{`"double"`, "float32", double(math.Inf(-1)), `"-Infinity"`},
		{`"double"`, "decimal(9, 2)", double(1), misfit},
		{`"double"`, "int64", double(1), misfit},
		{`"string"`, "string", text("é"), `"é"`},
		{`"string"`, "string", text("\xff"), "not valid UTF-8"},
		{`"string"`, "fixed_string(3)", text("ab"), `"ab"`},
		{`"string"`, "fixed_string(3)", text("\xff"), "not valid UTF-8"},
		{`"string"`, "fixed_string(3)", text("abcd"), "longer than the type"},
		{`"string"`, "date", text("2026-11-03"), `"2026-11-03"`},
		{`"string"`, "ipv4", text("192.0.2.1"), `"192.0.2.1"`},
		{`"string"`, "uuid", text("x"), `"x" is not a UUID`},
		{`"string"`, `enum("A" = 1)`, text("A"), `"A"`},
		{`"string"`, "decimal(5, 1)", text("1.5"), "1.5"},
		{`"string"`, "float64", text("1.5"), "1.5"},
		{`"string"`, "int64", text("1"), misfit},
		{`"string"`, "bool", text("true"), misfit},
		{`"bytes"`, "string", text("\xff"), `{"base64":"/w=="}`},
		{`"bytes"`, "uuid", text(uuid), `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{`"bytes"`, "uuid", text("short"), "of another length"},
		{`"bytes"`, "ipv6", text(uuid), `"f8f:ad5b:d9cb:469f:a165:7086:7728:950e"`},
		{`"bytes"`, "fixed_string(2)", text("abc"), "longer than the type"},
		{`"bytes"`, "date", text(""), misfit},
		{fixed("2", ""), "fixed_string(3)", []byte("ab"), `"ab"`},
		{fixed("2", ""), "string", []byte("ab"), `"ab"`},
		{fixed("16", `,"logicalType":"uuid"`), "uuid", []byte(uuid), `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{fixed("16", `,"logicalType":"uuid"`), "string", []byte(uuid), `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{fixed("12", `,"logicalType":"duration"`), "string", []byte{1, 0, 0, 0, 2, 0, 0, 0, 0xbc, 0x0b, 0, 0}, `"P1M2DT3.004S"`},
		{fixed("12", `,"logicalType":"duration"`), "fixed_string(12)", []byte("abcdefghijkl"), `"abcdefghijkl"`},
		{fixed("2", `,"logicalType":"decimal","precision":4,"scale":1`), "decimal(9, 3)", []byte{0xff, 0xf6}, "-1.000"},
		{money, "decimal(10, 2)", text("\x80"), "-1.28"},
		{money, "decimal(10, 4)", text("\x01\x00"), "2.5600"},
		{money, "decimal(10, 1)", text("\x0a"), "0.1"},
		{money, "decimal(10, 1)", text("\x0b"), "more digits behind the point"},
		{money, "decimal(2, 2)", text("\x64"), "out of the type's range"},
		{money, "decimal(2, 2)", text(""), "0.00"},
		{money, "decimal(76, 2)", text(strings.Repeat("\x7f", 33)), "out of the type's range"},
		{money, "decimal(76, 2)", text(strings.Repeat("\x00", 40) + "\x01"), "0.01"},
		{money, "int8", text("\x64"), "1"},
		{money, "int8", text("\x65"), "not a whole number"},
		{money, "uint8", text("\x9c"), "is negative"},
		{money, "float64", text("\x0f"), "0.15"},
		{money, "string", text("\xff"), `"-0.01"`},
		{money, "string", text(strings.Repeat("\x7f", 33)), "more digits than can be written"},
		{money, "date", text(""), misfit},
		{logical("int", "date"), "date", long(-1), `"1969-12-31"`},
		{logical("int", "date"), "date", long(math.MaxInt32), "years 0000 to 9999"},
		{logical("int", "date"), "int16", long(-1), "-1"},
		{logical("int", "date"), "string", long(19000), `"2022-01-08"`},
		{logical("int", "date"), "timestamp(0)", long(1), misfit},
		{logical("int", "time-millis"), "string", long(36672345), `"10:11:12.345"`},
		{logical("int", "time-millis"), "string", long(86400000), "not within a day"},
		{logical("int", "time-millis"), "int32", long(5), "5"},
		{logical("int", "time-millis"), "timestamp(3)", long(5), misfit},
		{logical("long", "time-micros"), "string", long(1), `"00:00:00.000001"`},
		{logical("long", "timestamp-millis"), "timestamp(3)", long(-1), `"1969-12-31T23:59:59.999Z"`},
		{logical("long", "timestamp-millis"), "timestamp(9)", long(1), `"1970-01-01T00:00:00.001000000Z"`},
		{logical("long", "timestamp-millis"), "timestamp(9)", long(math.MaxInt64 / 10), "out of the type's range"},
		{logical("long", "timestamp-millis"), "timestamp(0)", long(1000), `"1970-01-01T00:00:01Z"`},
		{logical("long", "timestamp-millis"), "timestamp(0)", long(1001), "more digits behind the second"},
		{logical("long", "timestamp-micros"), "timestamp(6)", long(math.MaxInt64), "years 0000 to 9999"},
		{logical("long", "timestamp-nanos"), "timestamp(9)", long(1), `"1970-01-01T00:00:00.000000001Z"`},
		{logical("long", "timestamp-micros"), "int64", long(7), "7"},
		{logical("long", "timestamp-micros"), "string", long(7), `"1970-01-01T00:00:00.000007Z"`},
		{logical("long", "local-timestamp-millis"), `timestamp(3, "Europe/Berlin")`, long(0), `"1969-12-31T23:00:00.000Z"`},
		{logical("long", "local-timestamp-micros"), `timestamp(6, "Europe/Berlin")`, long(1774751400e6), "clocks of Europe/Berlin skip"}, // 2026-03-29T02:30
		{logical("long", "local-timestamp-millis"), `timestamp(0, "Europe/Berlin")`, long(1), "more digits behind the second"},
		{logical("long", "local-timestamp-nanos"), "timestamp(9)", long(-1), `"1969-12-31T23:59:59.999999999Z"`},
		{logical("long", "local-timestamp-millis"), "string", long(0), `"1970-01-01T00:00:00.000"`},
		{logical("string", "uuid"), "uuid", text("0f8fad5b-d9cb-469f-a165-70867728950e"), `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{logical("string", "uuid"), "string", text("0f8fad5b-d9cb-469f-a165-70867728950e"), `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{logical("int", "no-such-type"), "int8", long(3), "3"},
		{state, `enum("B" = 5, "C" = 6)`, long(1), `"B"`},
		{state, `enum("B" = 5, "C" = 6)`, long(0), `"A" is not one of the type's names`},
		{state, "string", long(1), `"B"`},
		{state, "fixed_string(1)", long(1), `"B"`},
		{state, "string", long(2), "symbol 2 of 2"},
		{state, "int8", long(0), misfit},
		{`{"type":"array","items":"int"}`, "array(int8)", join(long(2), long(1), long(2), long(0)), "[1,2]"},
		{`{"type":"array","items":"int"}`, "array(int8)", join(long(-1), long(1), long(1), long(1), long(300), long(0)), "out of the type's range"},
		{`{"type":"array","items":"int"}`, "string", join(long(2), long(1), long(2), long(0)), `"[1,2]"`},
		{`{"type":"array","items":["null","int"]}`, "array(nullable(int8))", join(long(2), long(0), long(1), long(4), long(0)), "[null,4]"},
		{`{"type":"array","items":["null","int"]}`, "array(int8)", join(long(1), long(0), long(0)), "null does not fit int8"},
		{`{"type":"array","items":"int"}`, "array(string)", long(0), misfit},
		{`{"type":"array","items":` + record1 + `}`, "array(string)", join(long(1), long(1), long(0), long(0)), `["{\"x\":1,\"y\":null}"]`},
		{`{"type":"map","values":"long"}`, "map(string, int8)", join(long(1), text("k"), long(1), long(0)), `{"k":1}`},
		{`{"type":"map","values":"long"}`, "map(int8, int8)", join(long(1), text("5"), long(1), long(0)), `{"5":1}`},
		{`{"type":"map","values":"long"}`, "map(int8, int8)", join(long(1), text("k"), long(1), long(0)), `map key int8: "k"`},
		{`{"type":"map","values":"long"}`, "map(string, int8)", join(long(1), text("\xff"), long(1), long(0)), "map key is not valid UTF-8"},
		{`{"type":"map","values":"long"}`, "map(string, int8)", join(long(2), text("k"), long(1), text("k"), long(1), long(0)), `"k" is there twice`},
		{`{"type":"map","values":"long"}`, "string", join(long(1), text("k"), long(1), long(0)), `"{\"k\":1}"`},
		{record1, "string", join(long(1), long(1), long(5)), `"{\"x\":1,\"y\":5}"`},
		{record1, "map(string, nullable(int8))", join(long(1), long(0)), `{"x":1,"y":null}`},
		{record1, "map(string, int8)", join(long(1), long(0)), "null does not fit int8"},
		{record1, "int8", join(long(1), long(0)), misfit},
		{`"null"`, "nullable(int8)", nil, "null"},
		{`"null"`, "int8", nil, "null does not fit int8"},
		{`["null","string"]`, "nullable(string)", join(long(1), text("x")), `"x"`},
		{`["null","string"]`, "string", long(0), "null does not fit string"},
		{`["int","string"]`, "string", join(long(0), long(5)), `"5"`},
		{`["int","string"]`, "string", join(long(1), text("5")), `"\"5\""`},
		{`["null",` + state + `,"string"]`, "string", join(long(1), long(0)), `"A"`},
		{`["int","string"]`, "int8", join(long(0), long(5)), "5"},
		{`["int","string"]`, "int8", join(long(1), text("x")), "string does not fit int8"},
		{`["int","string"]`, "bool", long(0), misfit},
		{`["int","string"]`, "int8", long(2), "type 2 of a union of 2"},
		{`["null","double",{"type":"array","items":"float"}]`, "nullable(string)", join(long(2), long(1), float(0.1), long(0)), `"[0.1]"`},
	} {
		schema := `{"type":"record","name":"Root","fields":[{"name":"v","type":` + test.schema + `}]}`
		f := plain(t, schema, codec.Column{Name: "v", Type: test.column})
		s, err := f.Schema(nil)
		if err != nil {
			if test.want != misfit || !strings.Contains(err.Error(), misfit) {
				t.Errorf("%s to %s: got error %v, want %s", test.schema, test.column, err, test.want)
			}
			continue
		}
		d, err := f.New(s)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(s)
		r, ok := d.Decode(b, append([]byte{}, test.value...))
		got := r.Reason
		if ok {
			got = string(codec.AppendJSONValue(nil, &b.Cols[0], 0))
		}
		if ok && got != test.want || !ok && !strings.Contains(got, test.want) {
			t.Errorf("%s to %s, %x: got %s, want %s", test.schema, test.column, test.value, got, test.want)
		}
		if !ok && r.Column != "v" {
			t.Errorf("%s to %s: got column %q, want v", test.schema, test.column, r.Column)
		}
	}
}

// Plain numbers are timestamps where the config says in which unit.
func TestDecoder_timestampNumbers(t *testing.T) {
	for unit, want := range map[TimeUnit]string{
		UnixS: "1970-01-01T00:25:00.000000000Z", UnixMS: "1970-01-01T00:00:01.500000000Z", UnixUS: "1970-01-01T00:00:00.001500000Z",
		UnixNS: "1970-01-01T00:00:00.000001500Z", NoNumbers: "",
	} {
		f, err := New(Settings{Framing: None, Schema: `"long"`, TimestampNumbers: unit, Columns: []codec.Column{{Name: "at", Type: "timestamp(9)"}}})
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if _, err := f.Schema(nil); err == nil || !strings.Contains(err.Error(), "long does not fit") {
				t.Errorf("got error %v without a unit", err)
			}
			continue
		}
		if row, r := decodeRow(t, f, long(1500)); row != `{"at":"`+want+`"}` {
			t.Errorf("%s: got %s %+v, want %s", unit, row, r, want)
		}
	}
}

// Paths lead through records, maps and unions; a null on the way is as if the field were not there.
func TestDecoder_paths(t *testing.T) {
	schema := `{"type":"record","name":"R","fields":[
		{"name":"user","type":["null",{"type":"record","name":"U","fields":[{"name":"id","type":"long"},{"name":"tags","type":{"type":"map","values":["string","int"]}}]},"string"]},
		{"name":"a.b","type":"int"}]}`
	schema = strings.Replace(schema, `"a.b"`, `"ab"`, 1)
	optional := true
	f := plain(t, schema,
		codec.Column{Name: "id", Path: "user.id", Type: "nullable(int64)"}, codec.Column{Name: "x", Path: `user.tags.x\.y`, Type: "string", Optional: &optional},
		codec.Column{Name: "z", Path: "user.tags.z", Type: "nullable(int8)"}, codec.Column{Name: "ab", Type: "int8"})
	tags := join(long(2), text("x.y"), long(0), text("v"), text("q"), long(1), long(5), long(0))
	for _, test := range []struct {
		value []byte
		want  string
	}{
		{join(long(1), long(7), tags, long(9)), `{"id":7,"x":"\"v\"","z":null,"ab":9}`},
		{join(long(0), long(9)), `{"id":null,"x":"","z":null,"ab":9}`},
		{join(long(1), long(7), long(-1), long(4), text("z"), long(1), long(3), long(0), long(9)), `{"id":7,"x":"","z":3,"ab":9}`},
		{join(long(2), text("u"), long(9)), "string has no members"},
		{join(long(1), long(7), long(2), text("z"), long(1), long(3), text("z"), long(1), long(3), long(0), long(9)), `"z" is there twice`},
		{join(long(1), long(7), long(1), text("z"), long(0), text("3"), long(0), long(9)), "string does not fit nullable(int8)"},
	} {
		row, r := decodeRow(t, f, test.value)
		if row != test.want && (row != "" || !strings.Contains(r.Reason, test.want)) {
			t.Errorf("%x: got %s %+v, want %s", test.value, row, r, test.want)
		}
	}
}

// A recursive schema is read as JSON and passed over, to the bound of nesting and no further.
func TestDecoder_recursiveSchema(t *testing.T) {
	node := `{"type":"record","name":"Node","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","Node"]}]}`
	schema := `{"type":"record","name":"R","fields":[{"name":"skipped","type":` + node + `},{"name":"list","type":"Node"}]}`
	f, err := New(Settings{Framing: None, Schema: schema, DepthMax: 10, Columns: []codec.Column{{Name: "list", Type: "string"}}})
	if err != nil {
		t.Fatal(err)
	}
	list := func(n int) (out []byte) {
		for i := range n {
			out = append(appendLong(out, int64(i)), 2)
		}
		out[len(out)-1] = 0
		return out
	}
	if row, r := decodeRow(t, f, join(list(9), list(2))); row != `{"list":"{\"v\":0,\"next\":{\"v\":1,\"next\":null}}"}` {
		t.Errorf("got %s %+v", row, r)
	}
	for _, value := range [][]byte{join(list(10), list(1)), join(list(1), list(10)), list(100_000)} {
		if row, r := decodeRow(t, f, value); row != "" || !strings.Contains(r.Reason, "nest deeper than 10") {
			t.Errorf("got %s %+v, want a refusal of the depth", row, r)
		}
	}
}

// A few bytes that claim to be much are refused before memory is taken for them.
func TestDecoder_bombs(t *testing.T) {
	schema := `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}},
		{"name":"b","type":{"type":"array","items":{"type":"record","name":"Empty","fields":[]}}},{"name":"c","type":{"type":"array","items":{"type":"array","items":"null"}}},
		{"name":"d","type":"bytes"},{"name":"e","type":{"type":"map","values":"boolean"}}]}`
	huge := long(math.MaxInt64)
	zeros := long(0)
	for name, test := range map[string]struct {
		column codec.Column
		value  []byte
		want   string
	}{
		"nulls":           {codec.Column{Name: "a", Type: "array(nullable(int8))"}, huge, "items that take no bytes"},
		"skipped nulls":   {codec.Column{Name: "d", Type: "string"}, huge, "items that take no bytes"},
		"negative block":  {codec.Column{Name: "a", Type: "array(nullable(int8))"}, join(long(math.MinInt64), long(0)), "too many items"},
		"long block":      {codec.Column{Name: "a", Type: "array(nullable(int8))"}, join(long(-1), huge), "longer than the record"},
		"negative size":   {codec.Column{Name: "d", Type: "string"}, join(long(-1), long(-1)), "longer than the record"},
		"empty records":   {codec.Column{Name: "b", Type: "string"}, join(zeros, huge), "items that take no bytes"},
		"records in sum":  {codec.Column{Name: "b", Type: "string"}, join(zeros, long(40_000), long(40_000), zeros), "items that take no bytes"},
		"arrays":          {codec.Column{Name: "c", Type: "string"}, join(zeros, zeros, long(1000), zeros), "more items than the record has room for"},
		"bytes":           {codec.Column{Name: "d", Type: "string"}, join(zeros, zeros, zeros, long(1<<40)), "ends early"},
		"negative length": {codec.Column{Name: "d", Type: "string"}, join(zeros, zeros, zeros, long(-5)), "a length is negative"},
		"map":             {codec.Column{Name: "e", Type: "map(string, bool)"}, join(zeros, zeros, zeros, zeros, long(1<<30)), "more items than the record has room for"},
		"many bits":       {codec.Column{Name: "d", Type: "string"}, join(zeros, zeros, zeros, []byte(strings.Repeat("\xff", 10)+"\x01")), "more than 64 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			f := plain(t, schema, test.column)
			s, err := f.Schema(nil)
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.New(s)
			if err != nil {
				t.Fatal(err)
			}
			b := record.NewBatch(s)
			d.Decode(b, []byte{0}) // what is made once
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, ok := d.Decode(b, test.value)
			runtime.ReadMemStats(&after)
			if ok || !strings.Contains(r.Reason, test.want) {
				t.Errorf("got %+v %t, want a refusal with %q", r, ok, test.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
				t.Errorf("took %d bytes of memory", took)
			}
		})
	}
}

// Defaults that the reader's schema adds to many small items are bounded as well.
func TestDecoder_bombOfDefaults(t *testing.T) {
	s := serve(t)
	id := s.Add("a", recordOf(`{"name":"items","type":{"type":"array","items":{"type":"record","name":"I","fields":[{"name":"x","type":"boolean"}]}}}`))
	big := strings.Repeat("d", 10_000)
	f := framedBy(t, s.URL, Settings{
		Schema: `{"type":"record","name":"R","fields":[{"name":"items","type":{"type":"array","items":{"type":"record","name":"I","fields":[
			{"name":"x","type":"boolean"},{"name":"d","type":"string","default":"` + big + `"}]}}}]}`,
		Columns: []codec.Column{{Name: "items", Type: "string"}}, RecordBytesMax: 100_000,
	})
	value := framedValue(id, join(long(90_000), make([]byte, 90_000), long(0))...)
	if row, r := decodeRow(t, f, value); row != "" || !strings.Contains(r.Reason, "more than 400000 bytes") {
		t.Errorf("got %d bytes, %+v, want a refusal", len(row), r)
	}
	if row, r := decodeRow(t, f, framedValue(id, join(long(2), make([]byte, 2), long(0))...)); !strings.Contains(row, `\"x\":false,\"d\":\"ddd`) {
		t.Errorf("got %.100s, %+v", row, r)
	}
	long := framedValue(id, make([]byte, 100_000)...)
	if _, r := decodeRow(t, f, long); !strings.Contains(r.Reason, "record_bytes_max") {
		t.Errorf("got %+v, want a refusal of the length", r)
	}
}

// Whatever the bytes, the decoder takes or refuses them, leaves no trace of what it refused, and takes no memory beyond bounds.
func FuzzDecoder_anyBytes(f *testing.F) {
	schema := `{"type":"record","name":"R","fields":[
		{"name":"a","type":["null","long","string",{"type":"array","items":"null"}]},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":{"type":"record","name":"Node","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","Node"]}]}}}},
		{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}},
		{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},
		{"name":"skipped","type":{"type":"map","values":"Node"}},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
		{"name":"l","type":{"type":"array","items":["null","double"]}}]}`
	f.Add(join(long(1), long(7), long(0), text("\x01"), long(0), long(0), long(1), long(2), long(0), long(1), double(1), long(0)))
	f.Add(join(long(3), long(9), long(0), long(1), text("k"), long(1), long(1), long(1), long(1), long(0), long(0), long(0), text(""), long(-1), long(0), long(0), long(0)))
	f.Add(join(long(0), long(-1), long(1<<40)))
	f.Fuzz(func(t *testing.T, value []byte) {
		factory, err := New(Settings{Framing: None, Schema: schema, RecordBytesMax: 1 << 16, Columns: []codec.Column{
			{Name: "a", Type: "nullable(string)"},
			{Name: "m", Type: "map(string, array(string))"},
			{Name: "d", Type: "decimal(18, 2)"},
			{Name: "t", Type: "timestamp(3)"},
			{Name: "e", Type: `enum("A" = 1)`},
			{Name: "l", Type: "array(nullable(float32))"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := factory.Schema(nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := factory.New(s)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(s)
		r, ok := d.Decode(b, value)
		for i := range b.Cols {
			c := &b.Cols[i]
			if (c.Len() == 1) != ok || c.Len() > 1 || !ok && (len(c.Bytes) > 0 || c.Elem != nil && c.Elem.Len() > 0) {
				t.Fatalf("%x: got %d rows in column %d, ok %t", value, c.Len(), i, ok)
			}
		}
		if !ok && (r.Reason == "" || r.Byte < -1 || r.Byte > int64(len(value))) {
			t.Fatalf("%x: got refusal %+v", value, r)
		}
		if bytes := b.Bytes(); bytes > growthMax<<16+1<<20 {
			t.Fatalf("%x: became %d bytes", value, bytes)
		}
	})
}

// Whatever the registry says, a schema is used or refused.
func FuzzResolve_anySchema(f *testing.F) {
	f.Add(orders, orders)
	f.Add(`["null",{"type":"record","name":"N","fields":[{"name":"n","type":["null","N"],"default":null}]}]`, `"int"`)
	f.Add(`{"type":"enum","name":"E","symbols":["A"],"default":"A"}`, `{"type":"fixed","name":"F","size":-1}`)
	f.Fuzz(func(_ *testing.T, writes, reads string) {
		w, err := parseWriter(&codec.RegisteredSchema{Text: writes})
		if err != nil {
			return
		}
		r, err := parseWriter(&codec.RegisteredSchema{Text: reads})
		if err != nil {
			return
		}
		n, err := resolve(w, r)
		if err != nil {
			return
		}
		d := &Decoder{bytesMax: 1 << 10, depthMax: 20, column: -1}
		d.reader = reader{data: make([]byte, 100)}
		_, _ = d.json(nil, n)
	})
}
