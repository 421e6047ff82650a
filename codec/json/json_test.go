package json

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/record"
)

// testSchema reads "name type" or "name:path type" pairs. Nullable columns are optional.
func testSchema(tb testing.TB, pairs ...string) *record.Schema {
	tb.Helper()
	s := &record.Schema{}
	for i := 0; i < len(pairs); i += 2 {
		typ, err := record.ParseType(pairs[i+1])
		if err != nil {
			tb.Fatal(err)
		}
		name, path, _ := strings.Cut(pairs[i], ":")
		s.Fields = append(s.Fields, record.Field{Name: name, Path: path, Type: typ, Optional: typ.Nullable})
	}
	return s
}

func TestJSON_conformance(t *testing.T) {
	f, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	codectest.Run(t, codectest.Subject{
		Factory: f,
		Wanted: testSchema(t, "id", "uint64", "name", "string", "tags", "array(nullable(string))",
			"attrs", "map(string, array(int32))", "price:money.price", "decimal(10, 2)", "at", "timestamp(3)", "note", "nullable(string)"),
		Good: []codectest.Sample{
			{
				Value: []byte(`{"id":1,"name":"a\u00e9\n","tags":["x",null,""],"attrs":{"k":[1,2],"l":[]},"money":{"price":"9.90"},` +
					`"at":"2026-11-03T10:11:12.5+01:00","note":"n"}`),
				JSON: `{"id":1,"name":"aé\n","tags":["x",null,""],"attrs":{"k":[1,2],"l":[]},"price":9.90,` +
					`"at":"2026-11-03T09:11:12.500Z","note":"n"}`,
			},
			{
				Value: []byte(" {\"other\" : {\"deep\":[1,{}]}, \"money\":{\"x\":0,\"price\":1e3}, \"at\":\"1969-12-31 23:59:59.999\"," +
					"\"tags\":[] ,\"attrs\":{},\"name\":\"\",\"id\":18446744073709551615 }\n"),
				JSON: `{"id":18446744073709551615,"name":"","tags":[],"attrs":{},"price":1000.00,"at":"1969-12-31T23:59:59.999Z","note":null}`,
			},
		},
		Bad: []codectest.Sample{
			{
				Value:  []byte(`{"id":1,"name":"a","tags":["x"],"attrs":{"k":[1,2],"l":[3]},"money":{"price":1},"note":"n","at":"yesterday"}`),
				Column: "at", Byte: 96,
			},
			{Value: []byte(`{"tags":["x","y",1],"id":1}`), Column: "tags", Byte: 17},
			{Value: []byte(`{"attrs":{"k":[1,2],"l":[3,"x"]}}`), Column: "attrs", Byte: 27},
			{Value: []byte(`{"id":1}`), Column: "name", Byte: -1},
			{Value: []byte(`{"id":1,"money":{"price":1},"id":2}`), Column: "id", Byte: 28},
			{Value: nil, Byte: -1},
			{Value: []byte(``), Byte: 0},
			{Value: []byte(`[1]`), Byte: 0},
			{Value: []byte(`{"id":1,"name":"` + "\xff" + `"}`), Byte: 16},
		},
	})
}

// refused is what a test expects of a refusal.
type refused struct {
	at     int64
	reason string // contained
}

func decode(t *testing.T, s *record.Schema, settings Settings, value string) (*record.Batch, record.Refusal, bool) {
	t.Helper()
	b := record.NewBatch(s)
	r, ok := newTestDecoder(t, s, settings).Decode(b, []byte(value))
	if ok {
		b.AppendMeta(record.RowMeta{})
	}
	return b, r, ok
}

// expect decodes value into the one column of a type and compares the row with want, or the refusal.
func expect(t *testing.T, typ, value string, want any) {
	t.Helper()
	b, r, ok := decode(t, testSchema(t, "c", typ), Settings{}, `{"c":`+value+`}`)
	if text, isText := want.(string); isText {
		if !ok {
			t.Errorf("%s from %s: got refusal %q, want %s", typ, value, r.Reason, text)
		} else if got := string(codec.AppendJSON(nil, b, 0)); got != `{"c":`+text+`}` {
			t.Errorf("%s from %s: got %s, want %s", typ, value, got, text)
		}
		return
	}
	w, _ := want.(refused)
	if ok || !strings.Contains(r.Reason, w.reason) || r.Column != "c" || r.Byte != w.at {
		t.Errorf("%s from %s: got %t %+v, want a refusal at byte %d with %q", typ, value, ok, r, w.at, w.reason)
	}
}

func TestDecoder_takesOnlyWhatFitsExactly(t *testing.T) {
	no := func(reason string) refused { return refused{at: 5, reason: reason} }
	tests := []struct {
		typ, value string
		want       any
	}{
		{"int8", "127", "127"},
		{"int8", "-128", "-128"},
		{"int8", "128", no("out of the type's range")},
		{"int8", "-129", no("out of the type's range")},
		{"int8", "1.0", "1"},
		{"int8", "1e2", "100"},
		{"int8", "10e-1", "1"},
		{"int8", "1.5", no("is not a whole number")},
		{"int8", "1e400", no("out of the type's range")},
		{"int8", "0e999999999999999999999", "0"},
		{"int8", `"1"`, no("a string does not fit int8")},
		{"int8", "true", no("a boolean does not fit")},
		{"int8", "null", no("null does not fit int8")},
		{"int8", "[1]", no("an array does not fit")},
		{"int8", "{}", no("an object does not fit")},
		{"uint8", "-0", "0"},
		{"uint8", "-1", no("is negative")},
		{"uint64", "18446744073709551615", "18446744073709551615"},
		{"uint64", "18446744073709551616", no("out of the type's range")},
		{"int64", "-9223372036854775808", "-9223372036854775808"},
		{"int64", "9223372036854775808", no("out of the type's range")},
		{"int64", "9007199254740993", "9007199254740993"}, // not a float
		{"int128", "-170141183460469231731687303715884105728", "-170141183460469231731687303715884105728"},
		{"int128", "170141183460469231731687303715884105728", no("out of the type's range")},
		{
			"uint256", "115792089237316195423570985008687907853269984665640564039457584007913129639935",
			"115792089237316195423570985008687907853269984665640564039457584007913129639935",
		},
		{
			"uint256", "115792089237316195423570985008687907853269984665640564039457584007913129639936",
			no("out of the type's range"),
		},
		{"decimal(5, 2)", "999.99", "999.99"},
		{"decimal(5, 2)", "-0.01", "-0.01"},
		{"decimal(5, 2)", "1000", no("out of the type's range")},
		{"decimal(5, 2)", "1.005", no("more digits behind the point")},
		{"decimal(5, 2)", "1.500", "1.50"},
		{"decimal(5, 2)", `"12.5"`, "12.50"},
		{"decimal(5, 2)", `"12,5"`, no("is not a number")},
		{"decimal(5, 2)", `"0x10"`, no("is not a number")},
		{"decimal(5, 2)", `"NaN"`, no("is not a number")},
		{"float64", "0.1", "0.1"},
		{"float64", "1e400", no("out of the type's range")},
		{"float64", "1e-400", no("too small")},
		{"float64", "0e-400", "0"},
		{"float64", "-0", "-0"},
		{"float64", `"NaN"`, `"NaN"`},
		{"float64", `"-Infinity"`, `"-Infinity"`},
		{"float64", `"1"`, no("a string does not fit float64")},
		{"float32", "16777217", "16777216"},
		{"float32", "1e39", no("out of the type's range")},
		{"bool", "true", "true"},
		{"bool", "1", no("a number does not fit bool")},
		{"bool", `"true"`, no("a string does not fit bool")},
		{"string", `"\ud83d\ude00\u0000"`, "\"\U0001F600\\u0000\""},
		{"string", "1", no("a number does not fit string")},
		{"fixed_string(3)", `"ab"`, `"ab"`},
		{"fixed_string(3)", `"abcd"`, no("longer")},
		{"date", `"2024-02-29"`, `"2024-02-29"`},
		{"date", `"2023-02-29"`, no("does not exist")},
		{"date", `"2023-2-9"`, no("is not a date")},
		{"date", "19000", no("a number does not fit date")},
		{"timestamp(3)", `"2026-11-03T10:11:12.123Z"`, `"2026-11-03T10:11:12.123Z"`},
		{"timestamp(3)", `"2026-11-03T10:11:12.1230000000000000Z"`, `"2026-11-03T10:11:12.123Z"`},
		{"timestamp(3)", `"2026-11-03T10:11:12.1234Z"`, no("more digits behind the second")},
		{"timestamp(0)", `"2026-11-03 10:11:12-05:30"`, `"2026-11-03T15:41:12Z"`},
		{"timestamp(3)", "1700000000000", no("a number does not fit timestamp(3)")},
		{`timestamp(0, "Europe/Berlin")`, `"2026-07-01 12:00:00"`, `"2026-07-01T10:00:00Z"`},
		{`timestamp(0, "Europe/Berlin")`, `"2026-03-29 02:30:00"`, no("skip")},
		{`timestamp(0, "Europe/Berlin")`, `"2026-10-25 02:30:00"`, no("show twice")},
		{`timestamp(0, "Europe/Berlin")`, `"2026-10-25T02:30:00+01:00"`, `"2026-10-25T01:30:00Z"`},
		{"uuid", `"0F8FAD5B-d9cb-469f-a165-70867728950e"`, `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{"uuid", `"0f8fad5bd9cb469fa16570867728950e"`, no("is not a UUID")},
		{"uuid", `"0f8fad5b-d9cb-469f-a165--0867728950e"`, no("is not a UUID")},
		{"uuid", `"0f8fad5b-d9cb-469f-a165-7086772895-e"`, no("is not a UUID")},
		{"ipv4", `"192.0.2.1"`, `"192.0.2.1"`},
		{"ipv4", `"192.0.2.01"`, no("is not an IPv4")},
		{"ipv4", `"::ffff:192.0.2.1"`, no("is not an IPv4")},
		{"ipv6", `"2001:DB8::1"`, `"2001:db8::1"`},
		{"ipv6", `"192.0.2.1"`, `"::ffff:192.0.2.1"`},
		{"ipv6", `"fe80::1%eth0"`, no("is not an IPv6")},
		{`enum("a" = 1, "b" = -2)`, `"b"`, `"b"`},
		{`enum("a" = 1, "b" = -2)`, `"c"`, no("not one of the type's names")},
		{`enum("a" = 1, "b" = -2)`, "1", no("a number does not fit enum")},
		{"nullable(int8)", "null", "null"},
		{"array(nullable(int8))", "[1,null]", "[1,null]"},
		{"array(int8)", "[1,null]", refused{at: 8, reason: "null does not fit int8"}},
		{"array(int8)", "null", no("null does not fit array(int8)")},
		{"array(int8)", "{}", no("an object does not fit array(int8)")},
		{"array(array(decimal(3, 1)))", "[[1,2.5],[],[3]]", "[[1.0,2.5],[],[3.0]]"},
		{"map(string, int8)", `{"a":1,"b":2}`, `{"a":1,"b":2}`},
		{"map(string, int8)", `{"a":1,"\u0061":2}`, refused{at: 22, reason: `the map key "a" is there twice`}},
		{"map(int8, string)", `{"1":"x","1.0":"y"}`, refused{at: 23, reason: "there twice"}},
		{"map(uint8, string)", `{"x":"y"}`, refused{at: 6, reason: `map key uint8: "x" is not a number`}},
		{"map(string, int8)", `[]`, no("an array does not fit map(string, int8)")},
		{"map(string, map(string, int8))", `{"a":{"b":1},"c":{}}`, `{"a":{"b":1},"c":{}}`},
	}
	for _, test := range tests {
		expect(t, test.typ, test.value, test.want)
	}
}

func TestDecoder_boundsOfTheTargetCount(t *testing.T) {
	s := testSchema(t, "d", "date", "n", "int64")
	s.Fields[0].Type.Min, s.Fields[0].Type.Max = 0, 65535
	s.Fields[1].Type.Min, s.Fields[1].Type.Max = -5, 5
	tests := []struct {
		value, column string
	}{
		{`{"d":"1970-01-01","n":-5}`, ""},
		{`{"d":"2149-06-06","n":5}`, ""},
		{`{"d":"1969-12-31","n":0}`, "d"},
		{`{"d":"2149-06-07","n":0}`, "d"},
		{`{"d":"1970-01-01","n":-6}`, "n"},
		{`{"d":"1970-01-01","n":6}`, "n"},
	}
	for _, test := range tests {
		_, r, ok := decode(t, s, Settings{}, test.value)
		if ok != (test.column == "") || r.Column != test.column {
			t.Errorf("%s: got %t, column %q, want column %q", test.value, ok, r.Column, test.column)
		}
	}
}

func TestDecoder_timestampNumbersNeedAUnit(t *testing.T) {
	tests := []struct {
		unit  TimeUnit
		typ   string
		value string
		want  string // "" for a refusal
	}{
		{UnixS, "timestamp(0)", "1700000000", "2023-11-14T22:13:20Z"},
		{UnixS, "timestamp(3)", "1700000000.25", "2023-11-14T22:13:20.250Z"},
		{UnixS, "timestamp(0)", "1700000000.25", ""},
		{UnixMS, "timestamp(3)", "-1", "1969-12-31T23:59:59.999Z"},
		{UnixMS, "timestamp(0)", "1700000000000", "2023-11-14T22:13:20Z"},
		{UnixMS, "timestamp(0)", "1700000000001", ""},
		{UnixUS, "timestamp(9)", "1700000000000001", "2023-11-14T22:13:20.000001000Z"},
		{UnixNS, "timestamp(9)", "1700000000000000001", "2023-11-14T22:13:20.000000001Z"},
		{UnixNS, "timestamp(9)", "-9223372036854775808", "1677-09-21T00:12:43.145224192Z"},
		{UnixNS, "timestamp(9)", "9223372036854775808", ""},
		{UnixS, "timestamp(0)", "253402300799", "9999-12-31T23:59:59Z"},
		{UnixS, "timestamp(0)", "253402300800", ""},
		{UnixS, "timestamp(9)", "253402300799", ""},
	}
	for _, test := range tests {
		b, r, ok := decode(t, testSchema(t, "c", test.typ), Settings{TimestampNumbers: test.unit}, `{"c":`+test.value+`}`)
		got := ""
		if ok {
			got = strings.Trim(string(codec.AppendJSONValue(nil, &b.Cols[0], 0)), `"`)
		}
		if got != test.want {
			t.Errorf("%s in %s as %s: got %q (%s), want %q", test.value, test.unit, test.typ, got, r.Reason, test.want)
		}
	}
}

func TestDecoder_refusesWhatIsNotOneObject(t *testing.T) {
	s := testSchema(t, "a", "nullable(int8)", "b:x.y", "nullable(int8)")
	deep := strings.Repeat(`{"q":`, 200) + "1" + strings.Repeat("}", 200)
	tests := []struct {
		name, value, reason string
		at                  int64
	}{
		{"empty", "", "ends early", 0},
		{"spaces", "  ", "ends early", 2},
		{"array", " [1]", "an array, a JSON object is expected", 1},
		{"number", "1", "a number", 0},
		{"null", "null", "null, a JSON object", 0},
		{"cut object", `{"a":1`, "ends early", 6},
		{"cut name", `{"a`, "ends early", 3},
		{"trailing value", `{"a":1}{}`, "something follows", 7},
		{"trailing word", "{} x", "something follows", 3},
		{"trailing zero byte", "{}\x00", "something follows", 2},
		{"comma", `{"a":1,}`, "not valid JSON", 7},
		{"two commas", `{"a":1,,"b":2}`, "not valid JSON", 7},
		{"no colon", `{"a" 1}`, "not valid JSON", 5},
		{"single quotes", `{'a':1}`, "not valid JSON", 1},
		{"no quotes", `{a:1}`, "not valid JSON", 1},
		{"leading zero", `{"a":01}`, "not valid JSON", 6},
		{"plus", `{"a":+1}`, "not valid JSON", 5},
		{"point without digits", `{"a":1.}`, "not valid JSON", 7},
		{"NaN", `{"a":NaN}`, "not valid JSON", 5},
		{"comment", `{"a":1/**/}`, "not valid JSON", 6},
		{"wrong bracket", `{"a":[1}`, "not valid JSON", 7},
		{"wrong bracket, skipped", `{"z":[1}}`, "not valid JSON", 7},
		{"control character", "{\"z\":\"a\nb\"}", "not valid JSON", 7},
		{"invalid escape", `{"z":"\x"}`, "not valid JSON", 6},
		{"invalid UTF-8, skipped", "{\"z\":\"\xc3\x28\"}", "not valid JSON", 6},
		{"overlong UTF-8", "{\"z\":\"\xc0\xaf\"}", "not valid JSON", 6},
		{"lone surrogate", `{"z":"\ud800"}`, "not valid JSON", 6},
		{"surrogates in wrong order", `{"z":"\ude00\ud83d"}`, "not valid JSON", 6},
		{"byte order mark", "\xef\xbb\xbf{}", "not valid JSON", 0},
		{"twice", `{"a":1,"a":1}`, `"a" is there twice`, 7},
		{"twice, escaped", `{"a":1,"\u0061":1}`, `"a" is there twice`, 7},
		{"twice, nested", `{"x":{"y":1},"x":{}}`, `"x" is there twice`, 13},
		{"twice, one null", `{"x":null,"x":{"y":1}}`, `"x" is there twice`, 10},
		{"no object on the path", `{"x":[]}`, `"x" is an array, an object is expected`, 5},
		{"too deep, skipped", `{"z":` + deep + `}`, "deeper than 128", 5 + 5*127},
		{"too deep, never closed", strings.Repeat(`{"q":[`, 100_000), "", -2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, r, ok := decode(t, s, Settings{}, test.value)
			if ok || !strings.Contains(r.Reason, test.reason) || test.at != -2 && r.Byte != test.at {
				t.Errorf("got %t %+v, want a refusal at byte %d with %q", ok, r, test.at, test.reason)
			}
			if diff := cmp.Diff(record.NewBatch(s), b, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the batch changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecoder_takesWhatIsOneObject(t *testing.T) {
	s := testSchema(t, "a", "nullable(int8)", "b:x.y", "nullable(int8)")
	braces := `"` + strings.Repeat("{[", 300) + `"`
	for value, want := range map[string]string{
		"{}":                                 `{"a":null,"b":null}`,
		" \t\r\n{ } \n":                      `{"a":null,"b":null}`,
		`{"x":null}`:                         `{"a":null,"b":null}`,
		`{"x":{},"a":null}`:                  `{"a":null,"b":null}`,
		`{"z":1,"z":2,"a":1}`:                `{"a":1,"b":null}`, // only selected names must be unique
		`{"x":{"z":1,"y":2,"z":[]},"y":"s"}`: `{"a":null,"b":2}`,
		`{"\u0061":1,"\u0078":{"\u0079":2}}`: `{"a":1,"b":2}`,
		`{"A":1,"x.y":5}`:                    `{"a":null,"b":null}`, // names are exact; a point in a name is no path
		`{"z":[` + braces + `],"a":3}`:       `{"a":3,"b":null}`,    // brackets in strings do not nest
	} {
		b, r, ok := decode(t, s, Settings{}, value)
		if !ok {
			t.Errorf("%s: got refusal %+v", value, r)
			continue
		}
		if got := string(codec.AppendJSON(nil, b, 0)); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
}

func TestDecoder_missingMembers(t *testing.T) {
	s := testSchema(t, "must", "int8", "null", "nullable(int8)", "strict", "nullable(int8)", "zero", "array(int8)",
		"enum", `enum("x" = 7)`)
	s.Fields[2].Optional = false // although it is nullable
	s.Fields[3].Optional, s.Fields[4].Optional = true, true
	b, _, ok := decode(t, s, Settings{}, `{"must":1,"strict":null}`)
	if got, want := string(codec.AppendJSON(nil, b, 0)), `{"must":1,"null":null,"strict":null,"zero":[],"enum":"x"}`; !ok || got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for value, column := range map[string]string{`{"strict":1}`: "must", `{"must":1}`: "strict"} {
		_, r, ok := decode(t, s, Settings{}, value)
		if ok || r.Column != column || r.Byte != -1 || !strings.Contains(r.Reason, "no such member") {
			t.Errorf("%s: got %t %+v, want a refusal of column %q", value, ok, r, column)
		}
	}
}

func TestDecoder_unknownMembersCanBeRefused(t *testing.T) {
	s := testSchema(t, "a", "nullable(int8)", "b:x.y", "nullable(int8)")
	settings := Settings{Unknown: Refuse}
	if _, r, ok := decode(t, s, settings, `{"a":1,"x":{"y":2}}`); !ok {
		t.Errorf("got refusal %+v for a record without unknown members", r)
	}
	for value, want := range map[string]refused{
		`{"a":1,"new":2}`:         {at: 7, reason: `"new"`},
		`{"a":1,"x":{"new":2}}`:   {at: 12, reason: `"new"`},
		`{"a":1, "n\u0065w" : 2}`: {at: 8, reason: `"n\u0065w"`},
	} {
		_, r, ok := decode(t, s, settings, value)
		if ok || r.Byte != want.at || !strings.Contains(r.Reason, want.reason) {
			t.Errorf("%s: got %t %+v, want byte %d and %s", value, ok, r, want.at, want.reason)
		}
	}
}

func TestDecoder_limits(t *testing.T) {
	s := testSchema(t, "a", "array(array(int8))")
	if _, r, ok := decode(t, s, Settings{RecordBytesMax: 10}, `{"a":[]}   `); ok || !strings.Contains(r.Reason, "11 bytes") {
		t.Errorf("got %t %+v, want a refusal for 11 bytes", ok, r)
	}
	if _, r, ok := decode(t, s, Settings{RecordBytesMax: 10}, `{"a":[]}  `); !ok {
		t.Errorf("got refusal %+v for 10 bytes of 10", r)
	}
	if _, r, ok := decode(t, s, Settings{DepthMax: 3}, `{"a":[[1]],"z":[[1]]}`); !ok {
		t.Errorf("got refusal %+v for depth 3 of 3", r)
	}
	for _, value := range []string{`{"a":[[1]],"z":[[[1]]]}`, `{"z":[{"y":{}}],"a":[]}`} {
		if _, r, ok := decode(t, s, Settings{DepthMax: 3}, value); ok || !strings.Contains(r.Reason, "deeper than 3") {
			t.Errorf("%s: got %t %+v, want a refusal for depth 4 of 3", value, ok, r)
		}
	}
	if _, r, ok := decode(t, s, Settings{DepthMax: 2}, `{"a":[[1]]}`); ok || r.Column != "a" || r.Byte != 6 {
		t.Errorf("got %t %+v, want a refusal of column a at byte 6", ok, r)
	}
}

// A map with many keys is checked for twins in another way than one with few.
func TestDecoder_findsTwinsAmongManyMapKeys(t *testing.T) {
	s := testSchema(t, "m", "map(string, int32)")
	var b bytes.Buffer
	b.WriteString(`{"m":{`)
	for i := range 1000 {
		fmt.Fprintf(&b, `"key%d":%d,`, i, i)
	}
	good := b.String()
	if _, r, ok := decode(t, s, Settings{}, good+`"last":1}}`); !ok {
		t.Errorf("got refusal %+v for 1001 different keys", r)
	}
	if _, r, ok := decode(t, s, Settings{}, good+`"key500":1}}`); ok || !strings.Contains(r.Reason, `"key500"`) {
		t.Errorf("got %t %+v, want a refusal of key500", ok, r)
	}
}

// The order of members is learnt; records in another order, with other members between or without some must not suffer.
func TestDecoder_anyOrderOfMembers(t *testing.T) {
	s := testSchema(t, "a", "nullable(int8)", "b", "nullable(int8)", "c:n.c", "nullable(int8)", "d:n.d", "nullable(int8)")
	d := newTestDecoder(t, s, Settings{})
	values := []string{
		`{"a":1,"b":2,"n":{"c":3,"d":4}}`, `{"n":{"d":4,"c":3},"b":2,"a":1}`, `{"z":0,"a":1,"z":0,"n":{"z":0,"c":3,"d":4},"b":2}`,
		`{"b":2}`, `{}`, `{"n":{"d":4}}`, `{"a":1,"n":{"c":3}}`,
	}
	for round := range 3 {
		for i := range values {
			value := values[(i*(round+2)+round)%len(values)]
			b := record.NewBatch(s)
			if r, ok := d.Decode(b, []byte(value)); !ok {
				t.Fatalf("%s: got refusal %+v", value, r)
			}
			for j, member := range []string{`"a":1`, `"b":2`, `"c":3`, `"d":4`} {
				if null := b.Cols[j].IsNull(0); null == strings.Contains(value, member) || !null && b.Cols[j].Int(0) != int64(j+1) {
					t.Errorf("%s: got column %d null %t", value, j, null)
				}
			}
		}
	}
}
