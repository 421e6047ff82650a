package csv

import (
	"bytes"
	stdcsv "encoding/csv"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// schema makes a schema of pairs of name and type.
func schema(tb testing.TB, pairs ...string) *record.Schema {
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

func factory(tb testing.TB, s Settings) *Factory {
	tb.Helper()
	f, err := New(s)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func encoder(tb testing.TB, s EncoderSettings) *EncoderFactory {
	tb.Helper()
	f, err := NewEncoder(s)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestCSV_conformance(t *testing.T) {
	codectest.Run(t, codectest.Subject{
		Factory: factory(t, Settings{Columns: []codec.Column{
			{Name: "id", Type: "int64"}, {Name: "text", Type: "nullable(string)"}, {Name: "at", Type: "nullable(timestamp(3))"}, {Name: "sum", Type: "decimal(9, 2)"},
		}}),
		Good: []codectest.Sample{
			{Value: []byte("1,a,2026-11-03T10:11:12.5Z,1.5"), JSON: `{"id":1,"text":"a","at":"2026-11-03T10:11:12.500Z","sum":1.50}`},
			{Value: []byte("-2,,,0\r\n"), JSON: `{"id":-2,"text":null,"at":null,"sum":0.00}`},
			{Value: []byte("3,\"\",\"2026-11-03 10:11:12\",\"7\"\n"), JSON: `{"id":3,"text":"","at":"2026-11-03T10:11:12.000Z","sum":7.00}`},
			{Value: []byte("4,\"a\"\"b,\r\nc\"\"\",,0"), JSON: `{"id":4,"text":"a\"b,\r\nc\"","at":null,"sum":0.00}`},
			{Value: []byte("5, é ,,0"), JSON: `{"id":5,"text":" é ","at":null,"sum":0.00}`},
		},
		Bad: []codectest.Sample{
			{Value: nil, Byte: -1},
			{Value: []byte{}, Column: "id", Byte: 0},
			{Value: []byte("1,a,,"), Column: "sum", Byte: 5},
			{Value: []byte("1,a,,1.234"), Column: "sum", Byte: 5},
			{Value: []byte("1,a,"), Byte: 4}, // three fields
			{Value: []byte("1,a,,1,"), Byte: 6},
			{Value: []byte("1,a\"b,,1"), Byte: 3},
			{Value: []byte("1,\"ab,,1"), Byte: 2},
			{Value: []byte("1,\"a\"b,,1"), Byte: 5},
			{Value: []byte("1,\"a\" ,,1"), Byte: 5},
			{Value: []byte("1,a\nb,,1"), Byte: 3},
			{Value: []byte("1,a,,1\r\r\n"), Byte: 6},
			{Value: []byte("1,\xff,,1"), Column: "text", Byte: 2},
			{Value: []byte(" 1,a,,1"), Column: "id", Byte: 0},
			{Value: []byte("1,a,\"\",1"), Column: "at", Byte: 4}, // a quoted nothing is a text, not null
		},
	})
}

func TestEncoder_conformance(t *testing.T) {
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoder(t, EncoderSettings{}),
		Decoder: factory(t, Settings{}),
		Schema:  schema(t, "id", "int64", "text", "nullable(string)", "name", "string", "at", "nullable(timestamp(3))"),
		Fill: func(b *record.Batch) {
			for i, text := range []string{"plain", "", "with \"quotes\"", "a,b", "line\nend", "\r", "\"", "null", "\xff"} {
				b.Cols[0].AppendInt(int64(-i))
				if text == "null" {
					b.Cols[1].AppendNull()
					b.Cols[3].AppendNull()
				} else {
					b.Cols[1].AppendString(text)
					b.Cols[3].AppendInt(int64(i) * 1500)
				}
				b.Cols[2].AppendString(text)
			}
		},
		Rows: []codectest.Row{
			{Form: "0,plain,plain,1970-01-01T00:00:00.000Z"},
			{Form: `-1,"","",1970-01-01T00:00:01.500Z`},
			{Form: `-2,"with ""quotes""","with ""quotes""",1970-01-01T00:00:03.000Z`},
			{Form: `-3,"a,b","a,b",1970-01-01T00:00:04.500Z`},
			{Form: "-4,\"line\nend\",\"line\nend\",1970-01-01T00:00:06.000Z"},
			{Form: "-5,\"\r\",\"\r\",1970-01-01T00:00:07.500Z"},
			{Form: `-6,"""","""",1970-01-01T00:00:09.000Z`},
			{Form: "-7,,null,"},
			{Refused: true, Column: "text"},
		},
	})
}

// Fields are found by the names that the config gives them; columns without one are missing.
func TestFactory_fieldsByName(t *testing.T) {
	optional := true
	f := factory(t, Settings{
		Fields: []string{"when", "", "who", "why"},
		Columns: []codec.Column{
			{Name: "user", Type: "string", Path: "who"},
			{Name: "when", Type: "date"},
			{Name: "note", Type: "nullable(string)", Optional: &optional},
			{Name: "n", Type: "int8", Optional: &optional},
		},
	})
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	if r, ok := d.Decode(b, []byte("2026-11-03,skipped,ann,\"not \"\"looked\"\" at\"")); !ok {
		t.Fatalf("got refusal %+v", r)
	}
	if got, want := string(codec.AppendJSON(nil, b, 0)), `{"user":"ann","when":"2026-11-03","note":null,"n":0}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if r, ok := d.Decode(b, []byte("2026-11-03,skipped,ann,bad\"quote")); ok || r.Byte != 26 {
		t.Errorf("got %+v %t, want a refusal at 26: what is skipped must be sound, too", r, ok)
	}
}

func TestFactory_refusesSettings(t *testing.T) {
	column := func(name, typ, path string) codec.Column { return codec.Column{Name: name, Type: typ, Path: path} }
	for want, s := range map[string]Settings{
		"is not one ASCII character":  {Delimiter: "ü"},
		"the same character":          {Delimiter: ";", Quote: ";"},
		"holds the delimiter":         {Null: "a,b"},
		"is there twice":              {Fields: []string{"a", "b", "a"}},
		"fields without a name":       {Fields: []string{"", ""}},
		"did you mean int64":          {Columns: []codec.Column{column("a", "int", "")}},
		"can't hold array(int8)":      {Columns: []codec.Column{column("a", "array(int8)", "")}},
		"fields has no":               {Columns: []codec.Column{column("a", "int8", "")}, Fields: []string{"b"}},
		"fields does not name them":   {Columns: []codec.Column{column("a", "int8", "b")}},
		"is filled from":              {Columns: []codec.Column{column("a", "int8", "x"), column("b", "int8", "x")}, Fields: []string{"x"}},
		"without columns":             {},
		"is not one ASCII character ": {Quote: "\n"},
	} {
		f, err := New(s)
		if err == nil {
			_, err = f.Schema(nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%+v: got error %v, want a misconfigured one with %q", s, err, want)
		}
	}
}

// Another null text, delimiter and quote; a null that no column takes is refused, and the text itself is quoted.
func TestDialect_nullText(t *testing.T) {
	s := schema(t, "a", "nullable(string)", "b", "string")
	e, err := encoder(t, EncoderSettings{Delimiter: "\t", Quote: "'", Null: `\N`}).New(s)
	if err != nil {
		t.Fatal(err)
	}
	f := factory(t, Settings{Delimiter: "\t", Quote: "'", Null: `\N`})
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for _, text := range []string{"", `\N`, "it's"} {
		b.Cols[0].AppendString(text)
		b.Cols[1].AppendString(text)
	}
	b.Cols[0].AppendNull()
	b.Cols[1].AppendString("\t")
	again := record.NewBatch(s)
	for i, want := range []string{"\t", `'\N'` + "\t" + `'\N'`, "'it''s'\t'it''s'", `\N` + "\t'\t'"} {
		got, _, _ := e.Encode(nil, b, i)
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if r, ok := d.Decode(again, got); !ok {
			t.Fatalf("%q: got refusal %+v", got, r)
		}
	}
	if diff := cmp.Diff(b.Cols, again.Cols); diff != "" {
		t.Error(diff)
	}
	if r, ok := d.Decode(again, []byte(`\N`+"\t"+`\N`)); ok || r.Column != "b" {
		t.Errorf("got %+v %t, want a refusal of column b", r, ok)
	}
}

func TestEncoder_headerAndFormat(t *testing.T) {
	s := schema(t, "a", "int8", `b"x`, "int8", "", "int8")
	f := encoder(t, EncoderSettings{Columns: []string{`b"x`, "a"}, Header: true, LineEnd: CRLF, Quoting: Everything})
	if got, want := string(f.FileHeader(s)), "\"b\"\"x\",\"a\"\r\n"; got != want {
		t.Errorf("got header %q, want %q", got, want)
	}
	format, err := f.FileFormat()
	if err != nil || format.Extension != ".csv" || format.End != "\r\n" || !format.Quoted {
		t.Errorf("got %+v, %v", format, err)
	}
	if got := encoder(t, EncoderSettings{}).FileHeader(s); got != nil {
		t.Errorf("got header %q, want none", got)
	}
	_, err = encoder(t, EncoderSettings{Columns: []string{"z"}}).New(s)
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), `"z"`) {
		t.Errorf("got error %v, want a misconfigured one that names the column", err)
	}
}

// Any two settings that make other bytes have another identity: a file is not gone on with under another format.
func TestEncoder_identities(t *testing.T) {
	seen := map[string]EncoderSettings{}
	for _, s := range []EncoderSettings{
		{}, {Delimiter: ";"}, {Quote: "'"}, {Null: "x"}, {Quoting: Everything}, {Header: true}, {LineEnd: CRLF}, {Columns: []string{"a"}},
	} {
		format, err := encoder(t, s).FileFormat()
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := seen[format.Identity]; twice {
			t.Errorf("%+v and %+v have the identity %q", s, other, format.Identity)
		}
		seen[format.Identity] = s
	}
}

func TestSpecs_areSound(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
	if err := config.CheckSpec(EncoderSpec(), &EncoderSettings{}); err != nil {
		t.Error(err)
	}
	section := config.ParseSection("test.toml", []byte("type = \"csv\"\ndelimiter = \"\\t\"\ncolumns = { a = \"int\" }\nfields = [\"x\", \"x\"]\n"), config.Env{})
	if _, err := Open(section); err == nil || !strings.Contains(section.Err().Error(), "test.toml:3") || !strings.Contains(section.Err().Error(), "test.toml:4") {
		t.Errorf("got error %v, want errors at lines 3 and 4", section.Err())
	}
}

// Whatever the texts, encoding/csv reads what is written, and what it writes is read.
func FuzzCSV_standardLibraryAgrees(f *testing.F) {
	f.Add("a", "", "x,y")
	f.Add("\"", "\r\n", "é")
	f.Add("\\.", " ", "\t")
	f.Fuzz(func(t *testing.T, x, y, z string) {
		row := []string{x, y, z}
		if !slices.ContainsFunc(row, func(s string) bool { return strings.ToValidUTF8(s, "") != s }) {
			agree(t, row)
		}
	})
}

func agree(t *testing.T, row []string) {
	t.Helper()
	s := schema(t, "a", "string", "b", "string", "c", "string")
	b, again := record.NewBatch(s), record.NewBatch(s)
	for i, text := range row {
		b.Cols[i].AppendString(text)
	}
	for _, quoting := range []Quoting{Minimal, Everything} {
		e, err := encoder(t, EncoderSettings{Quoting: quoting}).New(s)
		if err != nil {
			t.Fatal(err)
		}
		form, _, ok := e.Encode(nil, b, 0)
		if !ok {
			t.Fatalf("%q is refused", row)
		}
		got, err := stdcsv.NewReader(bytes.NewReader(form)).Read()
		want := slices.Clone(row)
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "\r\n", "\n") // encoding/csv does so
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%q is read as %v, %s", form, err, diff)
		}
		d, err := factory(t, Settings{}).New(s)
		if err != nil {
			t.Fatal(err)
		}
		var standard bytes.Buffer
		w := stdcsv.NewWriter(&standard)
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		for _, value := range [][]byte{form, standard.Bytes()} {
			again.Reset()
			if r, ok := d.Decode(again, value); !ok {
				t.Fatalf("%q: got refusal %+v", value, r)
			}
			if diff := cmp.Diff(b.Cols, again.Cols); diff != "" {
				t.Fatalf("%q: %s", value, diff)
			}
		}
	}
}

// No input breaks a decoder, and a refusal leaves no trace.
func FuzzDecoder_anyInput(f *testing.F) {
	f.Add([]byte("1,\"a\"\"b\",2026-11-03"))
	f.Add([]byte("\"1\",,\"\"\r\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		s := schema(t, "a", "int64", "b", "nullable(string)", "c", "date")
		d, err := factory(t, Settings{}).New(s)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(s)
		r, ok := d.Decode(b, value)
		for i := range b.Cols {
			if got := b.Cols[i].Len(); (got == 1) != ok || got > 1 || !ok && len(b.Cols[i].Bytes) > 0 {
				t.Fatalf("%q: got %d rows in column %d, ok %t", value, got, i, ok)
			}
		}
		if !ok && (r.Byte < -1 || r.Byte > int64(len(value)) || r.Reason == "") {
			t.Fatalf("%q: got refusal %+v", value, r)
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	s := schema(b, "id", "uint64", "at", "timestamp(3)", "user", "string", "event", "string", "amount", "decimal(18, 2)", "score", "float64", "ok", "bool", "tag", "nullable(string)")
	d, err := factory(b, Settings{}).New(s)
	if err != nil {
		b.Fatal(err)
	}
	batch := record.NewBatch(s)
	value := []byte("12345678901,2026-11-03T10:11:12.500Z,user-1@example.com,click,123.45,0.12345,true,\"value, quoted\"")
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if batch.Cols[0].Len() == 1024 {
			for i := range batch.Cols {
				batch.Cols[i].Truncate(0)
			}
		}
		if r, ok := d.Decode(batch, value); !ok {
			b.Fatal(r)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	s := schema(b, "id", "uint64", "at", "timestamp(3)", "user", "string", "event", "string", "amount", "decimal(18, 2)", "score", "float64", "ok", "bool", "tag", "nullable(string)")
	e, err := encoder(b, EncoderSettings{}).New(s)
	if err != nil {
		b.Fatal(err)
	}
	d, err := factory(b, Settings{}).New(s)
	if err != nil {
		b.Fatal(err)
	}
	batch := record.NewBatch(s)
	if r, ok := d.Decode(batch, []byte("12345678901,2026-11-03T10:11:12.500Z,user-1@example.com,click,123.45,0.12345,true,\"value, quoted\"")); !ok {
		b.Fatal(fmt.Sprint(r))
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _, _ = e.Encode(out[:0], batch, 0)
	}
	b.SetBytes(int64(len(out)))
}
