package step

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// schema reads "name type" pairs.
func schema(t *testing.T, pairs ...string) *record.Schema {
	t.Helper()
	s := &record.Schema{}
	for i := 0; i < len(pairs); i += 2 {
		typ, err := record.ParseType(pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		s.Fields = append(s.Fields, record.Field{Name: pairs[i], Type: typ, Optional: typ.Nullable})
	}
	return s
}

// batch reads JSON records, whose members are the schema's columns, into a batch.
func batch(t *testing.T, s *record.Schema, records ...string) *record.Batch {
	t.Helper()
	b := record.NewBatch(s)
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = "orders/3", "orders", 3
	for i, r := range records {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(r), &members); err != nil {
			t.Fatalf("record %s: %v", r, err)
		}
		for j := range s.Fields {
			put(t, &b.Cols[j], members[s.Fields[j].Name])
		}
		b.AppendMeta(record.RowMeta{
			Offset: record.Offset(100 + i), Timestamp: 1_700_000_000_000 + int64(i), Key: []byte("k"), Value: []byte(r),
			Headers: []record.Header{{Key: "h", Value: []byte("v")}, {Key: "empty"}},
		})
	}
	return b
}

// put appends a JSON value to a column.
func put(t *testing.T, c *record.Column, value json.RawMessage) {
	t.Helper()
	var text string
	switch {
	case len(value) == 0:
		t.Fatalf("a record has no value for a column of %s", &c.Type)
	case string(value) == "null":
		c.AppendNull()
		return
	case c.Type.Kind == record.Array:
		var list []json.RawMessage
		unmarshal(t, value, &list)
		for _, v := range list {
			put(t, c.Elem, v)
		}
		c.CloseList()
		return
	case c.Type.Kind == record.Map:
		var members map[string]json.RawMessage
		unmarshal(t, value, &members)
		for _, name := range sorted(members) {
			quoted, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			put(t, c.Key, quoted)
			put(t, c.Elem, members[name])
		}
		c.CloseList()
		return
	case value[0] == '"':
		unmarshal(t, value, &text)
	default:
		text = string(value)
	}
	if err := codec.AppendText(c, []byte(text)); err != nil {
		t.Fatalf("%s: %v", value, err)
	}
}

func unmarshal(t *testing.T, value []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(value, into); err != nil {
		t.Fatalf("%s: %v", value, err)
	}
}

// rows writes a batch as JSON lines.
func rows(b *record.Batch) []string {
	var list []string
	for i := range b.Rows {
		list = append(list, string(codec.AppendJSON(nil, b, i)))
	}
	return list
}

// apply binds a step and applies it to a batch, and checks what holds for every step.
func apply(t *testing.T, s Step, b *record.Batch) Result {
	t.Helper()
	out, do, err := s.Bind(b.Schema)
	if err != nil {
		t.Fatal(err)
	}
	in := b.Rows
	var res Result
	do(b, &res)
	if b.Schema != out || len(b.Cols) != len(out.Fields) {
		t.Errorf("got a batch of %d columns and schema %v, want %v", len(b.Cols), b.Schema, out)
	}
	for i := range b.Cols {
		if b.Cols[i].Len() != b.Rows || !b.Cols[i].Type.Equal(&out.Fields[i].Type) {
			t.Errorf("column %q: got %d rows of %v, want %d of %v",
				out.Fields[i].Name, b.Cols[i].Len(), &b.Cols[i].Type, b.Rows, &out.Fields[i].Type)
		}
	}
	if got := b.Rows + int(res.Filtered) + len(res.Refused); got != in {
		t.Errorf("I12: got passed %d + filtered %d + refused %d, want %d", b.Rows, res.Filtered, len(res.Refused), in)
	}
	return res
}

func bindError(t *testing.T, s Step, in *record.Schema) string {
	t.Helper()
	_, _, err := s.Bind(in)
	if err == nil {
		t.Fatal("got no error from Bind")
	}
	if fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got kind %v, want misconfigured", fault.KindOf(err))
	}
	return err.Error()
}

func reasons(res Result) []string {
	var list []string
	for _, l := range res.Refused {
		list = append(list, fmt.Sprintf("%d %s %s: %s", l.Offset, l.Stage, l.Column, l.Reason))
	}
	return list
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func contains(t *testing.T, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("got %q, want it to contain %q", got, want)
	}
}

func TestFilter_keepsCountsAndRefuses(t *testing.T) {
	s := schema(t, "id", "uint64", "amount", "decimal(10, 2)", "user", "nullable(string)", "n", "nullable(int32)")
	b := batch(t, s, `{"id":1,"amount":9.99,"user":"a","n":1}`, `{"id":2,"amount":10,"user":null,"n":3}`,
		`{"id":3,"amount":10,"user":"b","n":null}`, `{"id":18446744073709551615,"amount":99.01,"user":"b","n":5}`)
	res := apply(t, &Filter{ID: "f", Where: `amount > 9.99 && user startsWith "b" && n > 4 || id == 1`}, b)
	same(t, "rows", rows(b), []string{
		`{"id":1,"amount":9.99,"user":"a","n":1}`, `{"id":18446744073709551615,"amount":99.01,"user":"b","n":5}`,
	})
	same(t, "offsets", b.Meta.Offsets, []record.Offset{100, 103})
	same(t, "filtered", res.Filtered, int64(1))
	if len(res.Refused) != 1 {
		t.Fatalf("got %d refused, want 1", len(res.Refused))
	}
	want := record.DeadLetter{
		Split: "orders/3", Topic: "orders", Partition: 3, Offset: 102, Timestamp: 1_700_000_000_002, Key: []byte("k"),
		Value:   []byte(`{"id":3,"amount":10,"user":"b","n":null}`),
		Headers: []record.Header{{Key: "h", Value: []byte("v")}, {Key: "empty"}}, Stage: "step:f", Byte: -1, Reason: res.Refused[0].Reason,
	}
	same(t, "letter", res.Refused[0], want)
	contains(t, want.Reason, `expression "amount > 9.99`)
}

func TestFilter_needsTrueOrFalse(t *testing.T) {
	s := schema(t, "i", "int8", "nb", "nullable(bool)", "m", "map(string, bool)")
	contains(t, bindError(t, &Filter{ID: "f", Where: "i"}, s), "true or false is expected, its result is an integer")
	contains(t, bindError(t, &Filter{ID: "f", Where: "nb"}, s), "write (…) ?? false")
	b := batch(t, s, `{"i":1,"nb":null,"m":{"x":true}}`, `{"i":2,"nb":true,"m":{}}`)
	res := apply(t, &Filter{ID: "f", Where: `m["x"]`}, b) // known only when it runs
	same(t, "rows", len(rows(b)), 1)
	contains(t, res.Refused[0].Reason, "true or false is expected, found null")
}

func TestRename_allAtOnce(t *testing.T) {
	s := schema(t, "a", "int8", "b", "string", "c", "bool")
	b := batch(t, s, `{"a":1,"b":"x","c":true}`)
	apply(t, &Rename{ID: "r", Columns: map[string]string{"a": "b", "b": "a"}}, b)
	same(t, "rows", rows(b), []string{`{"b":1,"a":"x","c":true}`})
	same(t, "schema that was bound", s.Fields[0].Name, "a")
	contains(t, bindError(t, &Rename{ID: "r", Columns: map[string]string{"x": "y"}}, s), `no column "x" before this step; the columns are a, b, c`)
	contains(t, bindError(t, &Rename{ID: "r", Columns: map[string]string{"a": "b"}}, s), `"b" is there twice`)
	contains(t, bindError(t, &Rename{ID: "r", Columns: map[string]string{"a": ""}}, s), "no name")
}

func TestDrop_keepsTheOrderOfTheOthers(t *testing.T) {
	s := schema(t, "a", "int8", "b", "string", "c", "bool", "d", "int8")
	b := batch(t, s, `{"a":1,"b":"x","c":true,"d":4}`)
	apply(t, &Drop{ID: "d", Columns: []string{"c", "a"}}, b)
	same(t, "rows", rows(b), []string{`{"b":"x","d":4}`})
	contains(t, bindError(t, &Drop{ID: "d", Columns: []string{"x"}}, s), `no column "x"`)
	contains(t, bindError(t, &Drop{ID: "d", Columns: []string{"a", "b", "c", "d"}}, s), "no column is left")
}

func TestSet_expressionsSeeTheRecordAsItWas(t *testing.T) {
	s := schema(t, "a", "int8", "b", "string", "c", "decimal(5, 2)")
	b := batch(t, s, `{"a":1,"b":"x","c":1.5}`, `{"a":100,"b":"y","c":999}`, `{"a":2,"b":"","c":0}`)
	res := apply(t, &Set{ID: "s", Columns: []Assignment{
		{Column: "new", Value: `b + string(a)`},
		{Column: "a", Value: "a + 100"},
		{Column: "sum", Value: "a + 1"},
		{Column: "c", Value: "c * 10"},
		{Column: "b", Value: `b == "" ? nil : b`, Type: &record.Type{Kind: record.String, Nullable: true}},
	}}, b)
	same(t, "rows", rows(b), []string{
		`{"a":101,"b":"x","c":15.00,"new":"x1","sum":2}`, `{"a":102,"b":null,"c":0.00,"new":"2","sum":3}`,
	})
	if len(res.Refused) != 1 || res.Refused[0].Column != "a" || res.Refused[0].Offset != 101 {
		t.Errorf("got %v, want offset 101 refused once, for its first reason", reasons(res))
	}
	same(t, "types", b.Schema.Fields[4].Type.String()+" "+b.Schema.Fields[3].Type.String(), "int64 string")
}

func TestSet_typeThatIsNotKnown(t *testing.T) {
	s := schema(t, "m", "map(string, int8)", "d", "decimal(5, 2)")
	for _, value := range []string{`m["x"]`, "d * 2", "[1]"} {
		contains(t, bindError(t, &Set{ID: "s", Columns: []Assignment{{Column: "x", Value: value}}}, s), "give the column a type")
	}
	twice := &Set{ID: "s", Columns: []Assignment{{Column: "x", Value: "1"}, {Column: "x", Value: "2"}}}
	contains(t, bindError(t, twice, s), `"x" is there twice`)
	contains(t, bindError(t, &Set{ID: "s", Columns: []Assignment{{Column: "x", Value: "1", Type: &record.Type{}}}}, s), "without a kind")
}

func TestCast_results(t *testing.T) {
	const refused = "refused: "
	tests := []struct{ from, value, to, want string }{
		{"int32", "300", "int8", refused + "out of the type's range"},
		{"int32", "-1", "uint64", refused + "is negative"},
		{"int32", "127", "int8", "127"},
		{"int8", "-1", "int256", "-1"},
		{"uint64", "18446744073709551615", "decimal(20, 0)", "18446744073709551615"},
		{"uint64", "18446744073709551615", "float64", "18446744073709552000"},
		{"float64", "1.5", "int8", refused + "is not a whole number"},
		{"float64", "0.1", "decimal(5, 2)", "0.10"},
		{"float64", `"NaN"`, "decimal(5, 2)", refused + "is not a number"},
		{"float64", `"NaN"`, "float32", `"NaN"`},
		{"float64", "1e300", "float32", refused + "out of the type's range"},
		{"decimal(5, 2)", "1.50", "decimal(5, 1)", "1.5"},
		{"decimal(5, 2)", "1.55", "decimal(5, 1)", refused + "more digits behind the point"},
		{"decimal(5, 2)", "1.00", "string", `"1.00"`},
		{"string", `"12"`, "int8", "12"},
		{"string", `"x"`, "int8", refused + `int8: "x" is not a number`},
		{"string", `"abcd"`, "fixed_string(3)", refused + "longer"},
		{"fixed_string(4)", `"ab"`, "string", `"ab"`},
		{"string", `"true"`, "bool", "true"},
		{"string", `"yes"`, "bool", refused + "neither true nor false"},
		{"bool", "true", "int8", "1"},
		{"bool", "false", "decimal(3, 1)", "0.0"},
		{"bool", "true", "string", `"true"`},
		{"timestamp(3)", `"2026-11-03T10:11:12.500Z"`, "timestamp(1)", `"2026-11-03T10:11:12.5Z"`},
		{"timestamp(3)", `"2026-11-03T10:11:12.500Z"`, "timestamp(0)", refused + "more digits behind the second"},
		{"timestamp(3)", `"2026-11-03T00:00:00Z"`, "date", `"2026-11-03"`},
		{"timestamp(3)", `"2026-11-03T00:00:00.001Z"`, "date", refused + "is not a date"},
		{"date", `"2026-11-03"`, `timestamp(0, "Asia/Tokyo")`, `"2026-11-03T00:00:00Z"`},
		{"string", `"2026-11-03 09:00:00"`, `timestamp(0, "Asia/Tokyo")`, `"2026-11-03T00:00:00Z"`},
		{"ipv4", `"192.0.2.1"`, "ipv6", `"::ffff:192.0.2.1"`},
		{`enum("a" = 1, "b" = 2)`, `"b"`, `enum("b" = 7)`, `"b"`},
		{`enum("a" = 1, "b" = 2)`, `"a"`, `enum("b" = 7)`, refused + "not one of the type's names"},
		{"nullable(int8)", "null", "nullable(string)", "null"},
		{"nullable(int8)", "null", "string", refused + "null does not fit string"},
		{"nullable(int8)", "5", "int8", "5"},
		{"int8", "5", "nullable(int8)", "5"},
		{"array(int32)", "[1,2]", "array(nullable(string))", `["1","2"]`},
		{"array(int32)", "[1,300]", "array(int8)", refused + "out of the type's range"},
		{"map(string, int32)", `{"1":2}`, "map(int8, float64)", `{"1":2}`},
		{"map(string, int32)", `{"x":2}`, "map(int8, float64)", refused + "is not a number"},
		{"int8", "1", "bool", "compile: can't be cast"},
		{"int8", "1", "date", "compile: can't be cast"},
		{"uuid", `"0f8fad5b-d9cb-469f-a165-70867728950e"`, "ipv6", "compile: can't be cast"},
		{"array(int8)", "[1]", "string", "compile: can't be cast"},
		{"array(int8)", "[1]", "array(date)", "compile: can't be cast"},
	}
	for _, test := range tests {
		t.Run(test.from+" to "+test.to, func(t *testing.T) {
			s, to := schema(t, "c", test.from, "other", "int8"), schema(t, "c", test.to).Fields[0].Type
			cast := &Cast{ID: "c", Columns: map[string]record.Type{"c": to}}
			if message, ok := strings.CutPrefix(test.want, "compile: "); ok {
				contains(t, bindError(t, cast, s), message)
				return
			}
			b := batch(t, s, `{"c":`+test.value+`,"other":7}`)
			res := apply(t, cast, b)
			if message, ok := strings.CutPrefix(test.want, refused); ok {
				if len(res.Refused) != 1 || res.Refused[0].Column != "c" {
					t.Fatalf("got %v and rows %v, want a refusal of column c", reasons(res), rows(b))
				}
				contains(t, res.Refused[0].Reason, message)
				return
			}
			same(t, "rows", rows(b), []string{`{"c":` + test.want + `,"other":7}`})
		})
	}
}

// A bound that the new type has counts also when the values are stored in the same way.
func TestCast_boundsOfTheNewType(t *testing.T) {
	s := schema(t, "c", "date")
	narrow := record.Type{Kind: record.Date, Min: 0, Max: 65535}
	b := batch(t, s, `{"c":"1969-12-31"}`, `{"c":"1970-01-01"}`)
	res := apply(t, &Cast{ID: "c", Columns: map[string]record.Type{"c": narrow}}, b)
	same(t, "rows", rows(b), []string{`{"c":"1970-01-01"}`})
	same(t, "refused", len(res.Refused), 1)
	contains(t, bindError(t, &Cast{ID: "c", Columns: map[string]record.Type{"x": narrow}}, s), `no column "x"`)
	contains(t, bindError(t, &Cast{ID: "c", Columns: map[string]record.Type{"c": {Kind: record.Decimal}}}, s), "precision must be")
}

func TestMetadata_fillsColumns(t *testing.T) {
	all := map[string]string{"t": Topic, "p": Partition, "o": Offset, "ts": Timestamp, "k": Key, "h": Headers}
	rest, columns, err := TakeMetadata(nil, all)
	if err != nil || rest != nil {
		t.Fatalf("got %v, %v", rest, err)
	}
	b := batch(t, schema(t, "a", "int8"), `{"a":1}`, `{"a":2}`)
	b.Meta.Timestamps[1], b.Meta.Keys[1] = -1, nil
	b.Meta.Headers[1] = []record.Header{{Key: "x", Value: []byte("1")}, {Key: "x", Value: []byte("2")}}
	apply(t, NewMetadata(columns), b)
	same(t, "rows", rows(b), []string{
		`{"a":1,"h":{"h":"v","empty":null},"k":"k","o":100,"p":3,"t":"orders","ts":"2023-11-14T22:13:20.000Z"}`,
		`{"a":2,"h":{"x":"1","x":"2"},"k":null,"o":101,"p":3,"t":"orders","ts":null}`,
	})
}

func TestMetadata_takesTheTypesOfTheSink(t *testing.T) {
	wanted := schema(t, "a", "int8", "_offset", "uint8", "at", "timestamp(0)", "key", "int32", "_topic", "fixed_string(6)", "_headers", "map(string, string)")
	rest, columns, err := TakeMetadata(wanted, map[string]string{"at": Timestamp, "key": Key})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "left for the decoder", columnNames(rest), "a")
	b := batch(t, rest, `{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":4}`, `{"a":5}`)
	for i := range b.Rows {
		b.Meta.Keys[i], b.Meta.Timestamps[i], b.Meta.Headers[i] = []byte("42"), 1_700_000_000_000, nil
	}
	b.Meta.Offsets[1] = 256
	b.Meta.Timestamps[2] = -1
	b.Meta.Keys[3] = []byte("forty")
	b.Meta.Headers[4] = []record.Header{{Key: "empty"}}
	res := apply(t, NewMetadata(columns), b)
	same(t, "rows", rows(b), []string{`{"a":1,"_offset":100,"at":"2023-11-14T22:13:20Z","key":42,"_topic":"orders","_headers":{}}`})
	got := strings.Join(reasons(res), "\n")
	for _, want := range []string{
		`256 step:metadata _offset: uint8: 256 is out of`, `102 step:metadata at: null does not fit timestamp(0)`,
		`103 step:metadata key: int32: "forty" is not a number`, `104 step:metadata _headers: the header "empty" has no value`,
	} {
		contains(t, got, want)
	}
}

func TestMetadata_errors(t *testing.T) {
	for want, names := range map[string]map[string]string{
		`"_size" is not one of _topic`:            {"a": "_size"},
		`the sink has no column "b" to take _key`: {"b": Key},
	} {
		_, _, err := TakeMetadata(schema(t, "a", "int8"), names)
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Fatalf("got error %v, want a misconfigured one", err)
		}
		contains(t, err.Error(), want)
	}
	in := schema(t, "a", "int8")
	for want, field := range map[string]MetadataColumn{
		"_offset does not fit bool":     {Field: schema(t, "x", "bool").Fields[0], Source: Offset},
		"_headers does not fit string":  {Field: schema(t, "x", "string").Fields[0], Source: Headers},
		"_timestamp does not fit int64": {Field: schema(t, "x", "int64").Fields[0], Source: Timestamp},
		`"a" is there already`:          {Field: schema(t, "a", "int64").Fields[0], Source: Offset},
	} {
		contains(t, bindError(t, NewMetadata([]MetadataColumn{field}), in), want)
	}
}

// A chain of steps over batches that are used again gives the same as over fresh ones, and does not grow.
func TestSteps_batchIsUsedAgain(t *testing.T) {
	s := schema(t, "a", "int32", "b", "string", "c", "decimal(5, 2)")
	steps := []Step{
		&Filter{ID: "filter", Where: "a % 2 == 0"}, &Drop{ID: "drop", Columns: []string{"b"}},
		&Set{ID: "set", Columns: []Assignment{{Column: "d", Value: "a + 1"}, {Column: "c", Value: "c + 1"}}},
		&Cast{ID: "cast", Columns: map[string]record.Type{"a": {Kind: record.Int8}}},
		&Rename{ID: "rename", Columns: map[string]string{"c": "b"}},
	}
	var chain []Apply
	at := s
	for _, step := range steps {
		out, do, err := step.Bind(at)
		if err != nil {
			t.Fatal(err)
		}
		chain, at = append(chain, do), out
	}
	used := record.NewBatch(s)
	source := batch(t, s, `{"a":1,"b":"x","c":1}`, `{"a":2,"b":"y","c":2}`, `{"a":1000,"b":"z","c":3}`, `{"a":4,"b":"z","c":4}`)
	var res Result
	for range 5 {
		used.Reshape(s)
		for row := range source.Rows {
			for i := range used.Cols {
				used.Cols[i].AppendFrom(&source.Cols[i], row)
			}
			used.AppendMeta(record.RowMeta{Offset: record.Offset(row)})
		}
		res = Result{}
		for _, do := range chain {
			do(used, &res)
		}
		same(t, "rows", rows(used), []string{`{"a":2,"b":3.00,"d":3}`, `{"a":4,"b":5.00,"d":5}`})
		same(t, "filtered", res.Filtered, int64(1))
		same(t, "refused", len(res.Refused), 1)
	}
	if cap(used.Cols) > 10 {
		t.Errorf("got room for %d columns after 5 batches, want no growth", cap(used.Cols))
	}
}

// What a step wants before it, for a sink that wants a, b and c after it.
func TestWant_columnsBeforeTheStep(t *testing.T) {
	out := schema(t, "a", "int8", "b", "string", "c", "bool")
	out.Fields[1].Optional = true
	number := record.Type{Kind: record.Int8}
	tests := []struct {
		name string
		step Wanter
		want string
	}{
		{"rename", &Rename{Columns: map[string]string{"x": "b"}}, "a int8 false, x string true, c bool false"},
		{"rename, swapped", &Rename{Columns: map[string]string{"a": "b", "b": "a"}}, "b int8 false, a string true, c bool false"},
		{"rename, away", &Rename{Columns: map[string]string{"c": "d"}}, "a int8 false, b string true"},
		{"drop", &Drop{Columns: []string{"x", "c"}}, "a int8 false, b string true"},
		{"cast", &Cast{Columns: map[string]record.Type{"a": number}}, "b string true, c bool false"},
		{"set", &Set{Columns: []Assignment{{Column: "a", Value: "1"}, {Column: "x", Value: "a"}}}, "b string true, c bool false"},
		{"set, reads itself", &Set{Columns: []Assignment{{Column: "a", Value: "len(b) + a"}}}, "a int8 false, b string true, c bool false"},
		{"set, reads itself, typed", &Set{Columns: []Assignment{{Column: "a", Value: "int(a)", Type: &number}}}, "b string true, c bool false"},
		{"set, broken", &Set{Columns: []Assignment{{Column: "a", Value: "a +"}}}, "b string true, c bool false"},
	}
	for _, test := range tests {
		var list []string
		for _, f := range test.step.Want(out).Fields {
			list = append(list, fmt.Sprintf("%s %s %t", f.Name, &f.Type, f.Optional))
		}
		same(t, test.name, strings.Join(list, ", "), test.want)
	}
	same(t, "the schema that was given", columnNames(out), "a, b, c")
}
