package avro

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// schemaOf makes a schema of pairs of name and type.
func schemaOf(tb testing.TB, pairs ...string) *record.Schema {
	tb.Helper()
	s := &record.Schema{}
	for i := 0; i < len(pairs); i += 2 {
		typ, err := record.ParseType(pairs[i+1])
		if err != nil {
			tb.Fatal(err)
		}
		s.Fields = append(s.Fields, record.Field{Name: pairs[i], Type: typ})
	}
	return s
}

func unframed(tb testing.TB, s EncoderSettings) *EncoderFactory {
	tb.Helper()
	s.Framing = None
	f, err := NewEncoder(s)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func put0(tb testing.TB, c *record.Column, text string) {
	tb.Helper()
	if text == "null" {
		c.AppendNull()
		return
	}
	if err := codec.AppendText(c, []byte(text)); err != nil {
		tb.Fatal(err)
	}
}

func TestEncoder_conformance(t *testing.T) {
	s := schemaOf(t, "id", "int32", "text", "nullable(string)", "sum", "decimal(9, 2)", "list", "array(nullable(uint16))", "map", "map(int8, string)")
	reads := `{"type":"record","name":"Record","fields":[{"name":"id","type":"int"},{"name":"text","type":["null","string"]},
		{"name":"sum","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"list","type":{"type":"array","items":["null","int"]}},
		{"name":"map","type":{"type":"map","values":"string"}}]}`
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: unframed(t, EncoderSettings{}), Schema: s, Decoder: plain(t, reads),
		Fill: func(b *record.Batch) {
			for i, text := range []string{"a", "", "null", "\xff"} {
				put0(t, &b.Cols[0], []string{"0", "-1", "2147483647", "1"}[i])
				if text == "null" {
					b.Cols[1].AppendNull()
				} else {
					b.Cols[1].AppendString(text)
				}
				put0(t, &b.Cols[2], []string{"0", "-1.28", "1.28", "9999999.99"}[i])
				if i > 0 {
					b.Cols[3].Elem.AppendInt(65535)
					b.Cols[3].Elem.AppendNull()
					b.Cols[4].Key.AppendInt(-1)
					b.Cols[4].Elem.AppendString("v")
				}
				b.Cols[3].CloseList()
				b.Cols[4].CloseList()
			}
		},
		Rows: []codectest.Row{
			{Form: "\x00\x02\x02a\x02\x00\x00\x00"},
			{Form: "\x01\x02\x00\x02\x80\x04\x02\xfe\xff\x07\x00\x00\x02\x04-1\x02v\x00"},
			{Form: "\xfe\xff\xff\xff\x0f\x00\x04\x00\x80\x04\x02\xfe\xff\x07\x00\x00\x02\x04-1\x02v\x00"},
			{Refused: true, Column: "text"},
		},
	})
}

// What is written of random columns of every type reads back to the same columns, and the library reads it too.
func TestEncoder_roundTripOfRandomColumns(t *testing.T) {
	types := []string{
		"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "int128", "uint128", "int256", "uint256", "float32", "float64",
		"decimal(5, 2)", "decimal(18, 0)", "decimal(38, 38)", "decimal(76, 3)", "date", "timestamp(0)", "timestamp(3)", "timestamp(6)", "timestamp(9)",
		"uuid", "ipv4", "ipv6", `enum("a" = 1, "b_2" = -3)`, `enum("not a name" = 1)`, "string", "fixed_string(4)",
	}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		var pairs []string
		for i := range 1 + r.IntN(4) {
			typ := types[r.IntN(len(types))]
			for range r.IntN(3) {
				switch r.IntN(3) {
				case 0:
					typ = "array(" + typ + ")"
				case 1:
					typ = "map(" + []string{"string", "int8", "uuid", "date"}[r.IntN(4)] + ", " + typ + ")"
				case 2:
					if !strings.HasPrefix(typ, "nullable") {
						typ = "nullable(" + typ + ")"
					}
				}
			}
			pairs = append(pairs, "c"+string(rune('a'+i)), typ)
		}
		s := schemaOf(t, pairs...)
		b := record.NewBatch(s)
		for i := range b.Cols {
			fill(t, r, &b.Cols[i])
		}
		f := unframed(t, EncoderSettings{})
		e, err := f.New(s)
		if err != nil {
			t.Fatalf("%v: %v", pairs, err)
		}
		form, refusal, ok := e.Encode(nil, b, 0)
		if !ok {
			t.Fatalf("%v: got refusal %+v", pairs, refusal)
		}
		_, text, _, err := f.compile(s)
		if err != nil {
			t.Fatal(err)
		}
		d, err := plain(t, text).New(s)
		if err != nil {
			t.Fatal(err)
		}
		again := record.NewBatch(s)
		if r, ok := d.Decode(again, form); !ok {
			t.Fatalf("seed %d: %s as %s, %x: got refusal %+v", seed, codec.AppendJSON(nil, b, 0), text, form, r)
		}
		got, want := string(codec.AppendJSON(nil, again, 0)), string(codec.AppendJSON(nil, b, 0))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, %s: %s", seed, text, diff)
		}
		var out any
		if err := (avro.Config{}).Freeze().Unmarshal(avro.MustParse(text), form, &out); err != nil {
			t.Fatalf("seed %d: the library does not read %x as %s: %v", seed, form, text, err)
		}
	}
}

// fill appends one random value.
func fill(t *testing.T, r *rand.Rand, c *record.Column) {
	t.Helper()
	if c.Type.Nullable && r.IntN(3) == 0 {
		c.AppendNull()
		return
	}
	switch c.Type.Kind { //nolint:exhaustive // the others are fixed
	case record.Array:
		for range r.IntN(3) {
			fill(t, r, c.Elem)
		}
		c.CloseList()
	case record.Map:
		if r.IntN(3) > 0 {
			fill(t, r, c.Key)
			fill(t, r, c.Elem)
		}
		c.CloseList()
	case record.String:
		c.AppendString([]string{"", "a", "é\n\"", "longer than eight"}[r.IntN(4)])
	case record.FixedString:
		c.AppendFixed([]byte([]string{"abcd", "é\x00\x00", "\x00\x00\x00\x00"}[r.IntN(3)]))
	case record.Bool:
		c.AppendUint(uint64(r.IntN(2)))
	case record.Enum:
		c.AppendInt(int64(c.Type.Values[r.IntN(len(c.Type.Values))].Number))
	case record.Date:
		c.AppendInt(int64(r.IntN(100_000) - 50_000))
	case record.Timestamp:
		span, scale := int64(6e10), int64(1) // seconds
		for range c.Type.Precision {
			scale *= 10
		}
		if c.Type.Precision == record.TicksMax {
			span = 9e9
		}
		c.AppendInt((r.Int64N(2*span)-span)*scale + r.Int64N(scale))
	case record.Decimal:
		text := strings.Repeat("9", r.IntN(c.Type.Precision-c.Type.Scale+1)) + "0." + strings.Repeat("7", c.Type.Scale) + "0"
		put0(t, c, []string{"", "-"}[r.IntN(2)]+strings.TrimPrefix(text, "9"))
	default:
		raw := make([]byte, c.Type.Width())
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		if c.Type.Kind == record.Int256 { // 77 digits at most
			raw[len(raw)-1] = byte(int8(raw[len(raw)-1]) >> 1)
		}
		c.AppendFixed(raw)
	}
}

// A given schema is written as it is: nested records from dotted columns, defaults, unions in any order, enums and fixed.
func TestEncoder_givenSchema(t *testing.T) {
	given := `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"id","type":["string","long"]},
		{"name":"user","type":{"type":"record","name":"User","fields":[{"name":"name","type":["string","null"]},{"name":"level","type":"int","default":7}]}},
		{"name":"state","type":{"type":"enum","name":"State","symbols":["OLD","NEW"]}},
		{"name":"word","type":"State"},
		{"name":"sum","type":{"type":"fixed","name":"Sum","size":3,"logicalType":"decimal","precision":5,"scale":1}},
		{"name":"raw","type":{"type":"fixed","name":"Raw","size":2}},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
		{"name":"source","type":"string","default":"é"}]}`
	s := schemaOf(t, "at", "timestamp(3)", "user.name", "nullable(string)", "id", "int64", "state", `enum("NEW" = 1)`, "word", "string",
		"sum", "decimal(5, 1)", "raw", "string")
	f := unframed(t, EncoderSettings{Schema: given})
	e, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for _, row := range [][]string{
		{"1970-01-01T00:00:00.001Z", "null", "5", "NEW", "OLD", "-0.1", "ab"},
		{"1970-01-01T00:00:00.001Z", "n", "5", "NEW", "none", "-0.1", "ab"},
		{"1970-01-01T00:00:00.001Z", "n", "5", "NEW", "OLD", "-0.1", "abc"},
	} {
		for i, text := range row {
			put0(t, &b.Cols[i], text)
		}
	}
	got, r, ok := e.Encode([]byte("x"), b, 0)
	if want := "x\x02\x0a\x02\x0e\x02\x00\xff\xff\xffab\xd0\x0f\x04é"; string(got) != want || !ok {
		t.Errorf("got %q, %+v, want %q", got, r, want)
	}
	for row, want := range map[int]string{1: "word", 2: "raw"} {
		if out, r, ok := e.Encode(nil, b, row); ok || r.Column != want || len(out) != 0 {
			t.Errorf("row %d: got %q %+v, want a refusal of %s", row, out, r, want)
		}
	}
}

func TestEncoder_refusesSchemas(t *testing.T) {
	field := func(text string) string { return `{"type":"record","name":"R","fields":[` + text + `]}` }
	for want, test := range map[string]struct {
		columns []string
		given   string
		name    string
	}{
		"may be null, int not":       {[]string{"a", "nullable(int8)"}, field(`{"name":"a","type":"int"}`), ""},
		"string does not fit int":    {[]string{"a", "string"}, field(`{"name":"a","type":"int"}`), ""},
		"no field for the columns b": {[]string{"a", "int8", "b", "int8"}, field(`{"name":"a","type":"int"}`), ""},
		`"z" has no default`:         {[]string{"a", "int8"}, field(`{"name":"a","type":"int"},{"name":"z","type":"int"}`), ""},
		"no type of the union":       {[]string{"a", "bool"}, field(`{"name":"a","type":["null","int"]}`), ""},
		"is no name of Avro (":       {[]string{"a.b", "int8"}, "", ""},
		"is no name of Avro:":        {[]string{"a", "int8"}, "", "not-one"},
		"pick one column":            {[]string{"a", "int8", "b", "int8"}, `"int"`, ""},
		"decimal(9, 2) does not fit": {[]string{"a", "decimal(9, 2)"}, field(`{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":3}}`), ""},
		"decimal(9, 3) does not fit": {[]string{"a", "decimal(9, 3)"}, field(`{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":3}}`), ""},
	} {
		_, err := unframed(t, EncoderSettings{Schema: test.given, Name: test.name}).New(schemaOf(t, test.columns...))
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("got error %v, want a misconfigured one with %q", err, want)
		}
	}
	for want, s := range map[string]EncoderSettings{"registry: the key is missing": {}, "schema:": {Framing: None, Schema: `{"type":"no-type"}`}} {
		if _, err := NewEncoder(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

// Numbers that a given schema has no room for are refused, row by row.
func TestEncoder_refusesNumbers(t *testing.T) {
	given := `{"type":"record","name":"R","fields":[{"name":"i","type":"int"},{"name":"u","type":"long"},
		{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}}]}`
	s := schemaOf(t, "i", "int64", "u", "uint64", "t", "timestamp(6)")
	e, err := unframed(t, EncoderSettings{Schema: given}).New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for _, row := range [][]string{
		{"-2147483648", "9223372036854775807", "2026-11-03T10:11:12.123Z"},
		{"2147483648", "0", "2026-11-03T10:11:12Z"},
		{"0", "9223372036854775808", "2026-11-03T10:11:12Z"},
		{"0", "0", "2026-11-03T10:11:12.123456Z"},
	} {
		for i, text := range row {
			put0(t, &b.Cols[i], text)
		}
	}
	for row, want := range []string{"", "i", "u", "t"} {
		_, r, ok := e.Encode(nil, b, row)
		if ok != (want == "") || r.Column != want {
			t.Errorf("row %d: got %+v %t, want column %q", row, r, ok, want)
		}
	}
}

func TestSpecs_areSound(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
	if err := config.CheckSpec(EncoderSpec(), &EncoderSettings{}); err != nil {
		t.Error(err)
	}
}
