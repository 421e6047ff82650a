package json

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func TestFactory_schemaFromConfigAndSink(t *testing.T) {
	yes, no := true, false
	sink := testSchema(t, "id", "uint64", "note", "nullable(string)", "at", "timestamp(3)", "opt", "int8")
	sink.Fields[3].Optional = true
	sink.Fields[2].Type.Min, sink.Fields[2].Type.Max = 0, 5
	tests := []struct {
		name    string
		columns []Column
		wanted  *record.Schema
		want    string // fields, or what the error contains
		fails   bool
	}{
		{name: "sink alone", wanted: sink, want: "id uint64; note nullable(string)?; at timestamp(3); opt int8?"},
		{
			name: "config alone", columns: []Column{{Name: "b", Type: "int8", Path: "x.y"}, {Name: "a", Type: "nullable(string)"}},
			want: "b=x.y int8; a nullable(string)?",
		},
		{
			name: "both", wanted: sink,
			columns: []Column{
				{Name: "note", Optional: &no, Path: "n"},
				{Name: "id", Type: "uint64", Optional: &yes},
				{Name: "at", Type: `timestamp(3, "Asia/Tokyo")`},
			},
			want: `id uint64?; note=n nullable(string); at timestamp(3, "Asia/Tokyo"); opt int8?`,
		},
		{name: "narrower null", wanted: sink, columns: []Column{{Name: "note", Type: "string"}}, want: "id uint64; note string; at timestamp(3); opt int8?"},
		{name: "untyped", columns: []Column{{Name: "a"}}, fails: true, want: "needs a type"},
		{name: "bad type", columns: []Column{{Name: "a", Type: "int"}}, fails: true, want: "did you mean int64"},
		{name: "other type", wanted: sink, columns: []Column{{Name: "id", Type: "int64"}}, fails: true, want: "the config says int64, the sink takes uint64"},
		{name: "other scale", wanted: sink, columns: []Column{{Name: "at", Type: "timestamp(6)"}}, fails: true, want: "the sink takes timestamp(3)"},
		{name: "null", wanted: sink, columns: []Column{{Name: "id", Type: "nullable(uint64)"}}, fails: true, want: "takes no null"},
		{
			name: "for a step", wanted: sink, columns: []Column{{Name: "x", Type: "int8"}},
			want: "id uint64; note nullable(string)?; at timestamp(3); opt int8?; x int8",
		},
		{name: "in neither", wanted: sink, columns: []Column{{Name: "x"}}, fails: true, want: "the sink and the steps want are id, note, at, opt"},
		{name: "zone", wanted: nil, columns: []Column{{Name: "x", Type: `timestamp(0, "Mars/Base")`}}, fails: true, want: "Mars/Base"},
		{name: "same path", columns: []Column{{Name: "x", Type: "int8"}, {Name: "y", Type: "int8", Path: "x"}}, fails: true, want: `column "x" is filled from "x" already`},
		{name: "path through a column", columns: []Column{{Name: "x", Type: "int8"}, {Name: "y", Type: "int8", Path: "x.y"}}, fails: true, want: `leads through "x"`},
		{name: "column over paths", columns: []Column{{Name: "y", Type: "int8", Path: "x.y"}, {Name: "x", Type: "int8"}}, fails: true, want: `from inside "x"`},
		{name: "empty step", columns: []Column{{Name: "y", Type: "int8", Path: "x..y"}}, fails: true, want: "empty step"},
		{name: "backslash", columns: []Column{{Name: "y", Type: "int8", Path: `x\y`}}, fails: true, want: "backslash"},
		{name: "nothing", fails: true, want: "without columns"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := factorySchema(Settings{Columns: test.columns}, test.wanted)
			if err != nil && (!test.fails || fault.KindOf(err) != fault.Misconfigured) || err == nil && test.fails ||
				!strings.Contains(got, test.want) {
				t.Errorf("got %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

// factorySchema writes a schema as name=path type, with ? for optional; after an error, the error.
func factorySchema(settings Settings, wanted *record.Schema) (string, error) {
	f, err := New(settings)
	if err != nil {
		return err.Error(), err
	}
	s, err := f.Schema(wanted)
	if err != nil {
		return err.Error(), err
	}
	list := make([]string, len(s.Fields))
	for i, field := range s.Fields {
		list[i] = field.Name
		if field.Path != "" {
			list[i] += "=" + field.Path
		}
		list[i] += " " + field.Type.String()
		if field.Optional {
			list[i] += "?"
		}
	}
	return strings.Join(list, "; "), nil
}

// The sink's bounds hold though the config names the type again.
func TestFactory_keepsTheBoundsOfTheSink(t *testing.T) {
	sink := testSchema(t, "at", "timestamp(3)")
	sink.Fields[0].Type.Min, sink.Fields[0].Type.Max = 0, 5
	f, err := New(Settings{Columns: []Column{{Name: "at", Type: `timestamp(3, "UTC")`}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Schema(sink)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Fields[0].Type; got.Max != 5 || sink.Fields[0].Type.Zone != "" {
		t.Errorf("got %+v, want the bound 5, and the wanted schema as it was", got)
	}
}

func TestOpen_readsItsSection(t *testing.T) {
	section := config.ParseSection("test.toml", []byte(`type = "json"
unknown = "refuse"
timestamp_numbers = "unix_ms"
record_bytes_max = "1MiB"
depth_max = 7
[columns.id]
type = "uint64"
[columns."a.b"]
type = "string"
path = 'a\.b'
optional = true
`), config.Env{})
	f, err := Open(section)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	want := Settings{
		Columns: []Column{{Name: "id", Type: "uint64"}, {Name: "a.b", Type: "string", Path: `a\.b`, Optional: &yes}},
		Unknown: Refuse, TimestampNumbers: UnixMS, RecordBytesMax: 1 << 20, DepthMax: 7, Framing: NoFraming,
	}
	if diff := cmp.Diff(want, f.settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	s, err := f.Schema(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, r, ok := decode(t, s, f.settings, `{"id":1,"a.b":"x"}`)
	if got := string(codec.AppendJSON(nil, b, 0)); !ok || got != `{"id":1,"a.b":"x"}` {
		t.Errorf("got %s (%+v)", got, r)
	}
	section = config.ParseSection("test.toml", []byte("type = \"json\"\n[columns.id]\ntype = \"int\"\n"), config.Env{})
	if _, err := Open(section); err == nil || section.Err() == nil || !strings.Contains(section.Err().Error(), "test.toml:") {
		t.Errorf("got error %v and section error %v, want a place", err, section.Err())
	}
}

func TestSpec_isSound(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
}
