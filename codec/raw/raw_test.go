package raw

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func TestRaw_conformance(t *testing.T) {
	codectest.Run(t, codectest.Subject{
		Factory: New(Settings{Tombstones: Refuse}),
		Good: []codectest.Sample{
			{Value: []byte("plain"), JSON: `{"value":"plain"}`},
			{Value: []byte{}, JSON: `{"value":""}`},
			{Value: []byte("\xff\x00\"\n"), JSON: `{"value":{"base64":"/wAiCg=="}}`},
		},
		Bad: []codectest.Sample{{Value: nil, Column: "value", Byte: -1}},
	})
}

// A tombstone and an empty record are different things.
func TestDecoder_tombstoneIsNullByDefault(t *testing.T) {
	f := New(Settings{Column: "line"})
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	for _, value := range [][]byte{nil, {}, []byte("x")} {
		if r, ok := d.Decode(b, value); !ok {
			t.Fatalf("record %q: got refusal %+v", value, r)
		}
		b.AppendMeta(record.RowMeta{})
	}
	c := &b.Cols[0]
	if !c.IsNull(0) || c.IsNull(1) || c.IsNull(2) || string(c.BytesAt(2)) != "x" || s.Fields[0].Name != "line" {
		t.Errorf("got nulls %v, bytes %q, column %q", c.Nulls, c.Bytes, s.Fields[0].Name)
	}
}

func TestFactory_schemaFitsTheSink(t *testing.T) {
	text, number := record.Type{Kind: record.String}, record.Type{Kind: record.Int64}
	optional := record.Type{Kind: record.String, Nullable: true}
	tests := []struct {
		name   string
		fields []record.Field
		want   string // in the error; "" for none
	}{
		{"nullable", []record.Field{{Name: "value", Type: optional}}, ""},
		{"others optional", []record.Field{{Name: "n", Type: number, Optional: true}, {Name: "value", Type: optional}}, ""},
		{"no null", []record.Field{{Name: "value", Type: text}}, `set tombstone = "refuse"`},
		{"another type", []record.Field{{Name: "value", Type: number}}, "takes int64, raw makes string"},
		{"absent", []record.Field{{Name: "x", Type: text, Optional: true}}, ""}, // a step makes something of it
		{"another needed", []record.Field{{Name: "value", Type: optional}, {Name: "n", Type: number}}, `needs the column "n"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(Settings{}).Schema(&record.Schema{Fields: test.fields})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got error %v, want none", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || fault.KindOf(err) != fault.Misconfigured):
				t.Errorf("got error %v, want a misconfigured one with %q", err, test.want)
			}
		})
	}
}

func TestOpen_readsItsSection(t *testing.T) {
	section := config.ParseSection("test.toml", []byte("type = \"raw\"\ncolumn = \"line\"\ntombstone = \"refuse\"\n"), config.Env{})
	f, err := Open(section)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Settings{Column: "line", Tombstones: Refuse}); f.settings != want {
		t.Errorf("got %+v, want %+v", f.settings, want)
	}
	section = config.ParseSection("test.toml", []byte("type = \"raw\"\ntombstone = \"drop\"\n"), config.Env{})
	if _, err := Open(section); err == nil || !strings.Contains(err.Error(), "test.toml:2") {
		t.Errorf("got error %v, want one at line 2", err)
	}
}

func TestSpec_isSound(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
}
