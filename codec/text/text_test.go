package text

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func factory(t *testing.T, s Settings) *Factory {
	t.Helper()
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func encoder(t *testing.T, s EncoderSettings) *EncoderFactory {
	t.Helper()
	f, err := NewEncoder(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func typeOf(t *testing.T, text string) record.Type {
	t.Helper()
	typ, err := record.ParseType(text)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

func TestText_conformance(t *testing.T) {
	codectest.Run(t, codectest.Subject{
		Factory: factory(t, Settings{RecordBytesMax: 20}),
		Good: []codectest.Sample{
			{Value: []byte("a line"), JSON: `{"value":"a line"}`},
			{Value: []byte{}, JSON: `{"value":""}`},
			{Value: []byte("é\n"), JSON: `{"value":"é\n"}`},
		},
		Bad: []codectest.Sample{
			{Value: nil, Column: "value", Byte: -1},
			{Value: []byte("é\xff"), Column: "value", Byte: 2},
			{Value: []byte("more than twenty bytes"), Column: "value", Byte: -1},
		},
	})
	codectest.Run(t, codectest.Subject{
		Factory: factory(t, Settings{Column: "n", Type: "int16"}),
		Good:    []codectest.Sample{{Value: []byte("-7"), JSON: `{"n":-7}`}, {Value: []byte("1e2"), JSON: `{"n":100}`}},
		Bad:     []codectest.Sample{{Value: nil, Column: "n", Byte: -1}, {Value: []byte("40000"), Column: "n"}, {Value: []byte(" 7"), Column: "n"}},
	})
}

func TestEncoder_conformance(t *testing.T) {
	s := &record.Schema{Fields: []record.Field{
		{Name: "value", Type: typeOf(t, "nullable(string)")}, {Name: "n", Type: typeOf(t, "int8")}, {Name: "list", Type: typeOf(t, "array(string)")},
	}}
	fill := func(b *record.Batch) {
		for i, text := range []string{"plain", "", "a\nb", "\xff", "null"} {
			if text == "null" {
				b.Cols[0].AppendNull()
			} else {
				b.Cols[0].AppendString(text)
			}
			b.Cols[1].AppendInt(int64(i))
			b.Cols[2].Elem.AppendString(text)
			b.Cols[2].CloseList()
		}
	}
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoder(t, EncoderSettings{}), Schema: s, Fill: fill,
		Rows: []codectest.Row{{Form: "plain"}, {}, {Form: "a\nb"}, {Refused: true, Column: "value"}, {Refused: true, Column: "value"}},
	})
	null := "-"
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoder(t, EncoderSettings{Template: "{{{n}}} {value} {list}!", Null: &null}), Schema: s, Fill: fill,
		Rows: []codectest.Row{
			{Form: `{0} plain ["plain"]!`}, {Form: `{1}  [""]!`}, {Form: "{2} a\nb [\"a\\nb\"]!"}, {Refused: true, Column: "value"}, {Form: `{4} - ["null"]!`},
		},
	})
	one := &record.Schema{Fields: s.Fields[1:2]}
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoder(t, EncoderSettings{Column: "n"}), Schema: one, Decoder: factory(t, Settings{Column: "n"}),
		Fill: func(b *record.Batch) {
			b.Cols[0].AppendInt(-128)
			b.Cols[0].AppendInt(7)
		},
		Rows: []codectest.Row{{Form: "-128"}, {Form: "7"}},
	})
}

func TestFactory_schemaFitsTheSink(t *testing.T) {
	field := func(name, typ string, optional bool) record.Field {
		return record.Field{Name: name, Type: typeOf(t, typ), Optional: optional}
	}
	tests := []struct {
		name     string
		settings Settings
		fields   []record.Field
		want     string // the column's type, or what the error contains
		fails    bool
	}{
		{name: "nothing wanted", want: "string"},
		{name: "null", settings: Settings{Tombstones: Null}, want: "nullable(string)"},
		{name: "type", settings: Settings{Type: "date"}, want: "date"},
		{name: "sink", fields: []record.Field{field("value", "ipv4", false)}, want: "ipv4"},
		{name: "null of the sink", settings: Settings{Tombstones: Null}, fields: []record.Field{field("value", "nullable(ipv4)", false)}, want: "nullable(ipv4)"},
		{name: "for a step", fields: []record.Field{field("x", "int8", true)}, want: "string"},
		{name: "no null", settings: Settings{Tombstones: Null}, fields: []record.Field{field("value", "ipv4", false)}, want: "takes no null", fails: true},
		{name: "no null by type", settings: Settings{Tombstones: Null, Type: "int8"}, want: "takes no null", fails: true},
		{name: "other type", settings: Settings{Type: "int8"}, fields: []record.Field{field("value", "ipv4", false)}, want: "the sink takes ipv4", fails: true},
		{name: "another needed", fields: []record.Field{field("x", "int8", false)}, want: `needs the column "x"`, fails: true},
		{name: "list", settings: Settings{Type: "array(int8)"}, want: "can't hold", fails: true},
		{name: "zone", settings: Settings{Type: `timestamp(0, "Mars/Base")`}, want: "Mars/Base", fails: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var wanted *record.Schema
			if test.fields != nil {
				wanted = &record.Schema{Fields: test.fields}
			}
			s, err := factory(t, test.settings).Schema(wanted)
			switch {
			case test.fails && (err == nil || !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != fault.Misconfigured):
				t.Errorf("got error %v, want a misconfigured one with %q", err, test.want)
			case !test.fails && err != nil:
				t.Errorf("got error %v", err)
			case !test.fails && s.Fields[0].Type.String() != test.want:
				t.Errorf("got %s, want %s", &s.Fields[0].Type, test.want)
			}
		})
	}
}

func TestDecoder_tombstoneAsNull(t *testing.T) {
	f := factory(t, Settings{Tombstones: Null})
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for _, value := range [][]byte{nil, {}} {
		if r, ok := d.Decode(b, value); !ok {
			t.Fatalf("got refusal %+v", r)
		}
	}
	if !b.Cols[0].IsNull(0) || b.Cols[0].IsNull(1) {
		t.Errorf("got nulls %v, want the first", b.Cols[0].Nulls)
	}
}

func TestNewEncoder_refusesSettings(t *testing.T) {
	for want, s := range map[string]EncoderSettings{
		"exclude each other":      {Column: "a", Template: "{a}"},
		`before "a"`:              {Template: "{a"},
		`before ""`:               {Template: "a}"},
		`before "}"`:              {Template: "{}"},
		`before "a{b}"`:           {Template: "{a{b}"},
		`no column "z" to encode`: {Template: "{z}"},
	} {
		f, err := NewEncoder(s)
		if err == nil {
			_, err = f.New(&record.Schema{Fields: []record.Field{{Name: "a", Type: record.Type{Kind: record.Int8}}}})
		}
		if err == nil || !strings.Contains(err.Error(), want) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%+v: got error %v, want a misconfigured one with %q", s, err, want)
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
	section := config.ParseSection("test.toml", []byte("type = \"text\"\ntype_of_column = \"int\"\n"), config.Env{})
	if _, err := Open(section); err == nil || !strings.Contains(section.Err().Error(), "test.toml:2") {
		t.Errorf("got error %v, want one at line 2", err)
	}
}
