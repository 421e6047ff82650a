package config_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
)

// section parses a document as the section of a broker.
func section(document string) *config.Section {
	return config.ParseSection("testdata/broker.toml", []byte(document), world())
}

func TestSection_decodesEveryKind(t *testing.T) {
	s := section(`
type = "broker"
brokers = ["${env:BROKER}", 'b:2']
topics = [ # an array over lines
  "orders", """
clicks""",
]
start = "timestamp"
start_time = 2026-01-31 12:00:00.5+02:00
fetch_bytes_max = "1.5MiB"
timeout = "1m30s"
backoff_factor = 3
connections = 0b1000_0000
password = "${file:password}"
metadata_fresh = false
client_id = "$${env:X} $$ {x} €"
tls = { ca_file = "ca.pem", key = "a${env:PASSWORD}${env:EMPTY}z" }
labels = { "a.b" = "1", z = "2", a = "${env:DOLLAR}" }
offsets."orders/0" = 9223372036854775807
offsets."orders/1" = 1_000
override.orders.wait = "5s"
[[listener]]
port = 0xffff
[[listener]]
host = "h"
port = 1
[override.clicks]
`)
	var got brokerSettings
	if ok := s.Decode(brokerSpec(), &got); !ok || s.Err() != nil {
		t.Fatalf("got errors: %v", s.Err())
	}
	startTime := time.Date(2026, 1, 31, 10, 0, 0, 5e8, time.UTC)
	want := brokerSettings{
		Brokers: []string{"kafka-1:9092", "b:2"}, Topics: []string{"orders", "clicks"},
		Start: "timestamp", StartTime: &startTime, FetchMax: 3 << 19, Timeout: 90 * time.Second, Backoff: 3, Connections: 128,
		Password: config.NewSecret(canary), Client: "${env:X} $$ {x} €",
		TLS:       &tlsSettings{CA: "ca.pem", Key: config.NewSecret("a" + canary + "z")},
		Retry:     retrySettings{Limit: 5},
		Listeners: []listener{{Host: "localhost", Port: math.MaxUint16}, {Host: "h", Port: 1}},
		Labels:    map[string]string{"a.b": "1", "z": "2", "a": "${env:PASSWORD}"},
		Offsets:   map[string]int64{"orders/0": math.MaxInt64, "orders/1": 1000},
		Overrides: []override{{Topic: "orders", Wait: 5 * time.Second}, {Topic: "clicks", Wait: time.Second}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	if s.Type() != "broker" || s.Path() != "" {
		t.Errorf("got type %q and path %q", s.Type(), s.Path())
	}
}

// TestSection_fillsDefaults: an absent key has its default, also inside absent tables; a pointer stays nil; what has no
// default stays as it was.
func TestSection_fillsDefaults(t *testing.T) {
	s := section(`
brokers = ["a"]
topics = ["b"]
`)
	got := brokerSettings{Client: "kept", Labels: map[string]string{"kept": ""}}
	if !s.Decode(brokerSpec(), &got) {
		t.Fatal(s.Err())
	}
	want := brokerSettings{
		Brokers: []string{"a"}, Topics: []string{"b"}, Start: "earliest", FetchMax: 50 << 20, Timeout: 10 * time.Second, Backoff: 2,
		Connections: 1, Fresh: true, Client: "kept", Retry: retrySettings{Limit: 5}, Labels: map[string]string{"kept": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

// level has a form of its own.
type level int

func (l *level) UnmarshalText(text []byte) error {
	switch string(text) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return errors.New("no such level")
	}
	return nil
}

type embedded struct {
	Kept string `config:"kept"`
}

// TestSection_storesIntoOtherFieldTypes: named types, pointers, embedded structs, text unmarshalers, maps of structs, quoted
// defaults.
func TestSection_storesIntoOtherFieldTypes(t *testing.T) {
	type row struct {
		N int8 `config:"n"`
	}
	type name string
	type settings struct {
		embedded

		Level   level          `config:"level"`
		Pointer *level         `config:"pointer"`
		Names   []name         `config:"names"`
		Count   *uint64        `config:"count"`
		Wait    *time.Duration `config:"wait"`
		Rows    map[name]*row  `config:"rows"`
		List    []*row         `config:"list"`
		Size    int32          `config:"size"`
		Ratio   float32        `config:"ratio"`
		None    *config.Secret `config:"none"`
		Entries []config.Entry `config:"entries"`
	}
	table := &config.Spec{Keys: []config.Key{{Name: "n", Kind: config.KindInt}}}
	spec := config.Spec{Keys: []config.Key{
		{Name: "kept", Kind: config.KindString, Default: `"a\tb"`},
		{Name: "level", Kind: config.KindEnum, Enum: []string{"low", "high"}, Default: `"high"`},
		{Name: "pointer", Kind: config.KindString, Default: "low"},
		{Name: "names", Kind: config.KindStrings, Default: `["x", "y"]`},
		{Name: "count", Kind: config.KindInt, Default: "7"},
		{Name: "wait", Kind: config.KindDuration, Default: `"1s"`},
		{Name: "rows", Kind: config.KindTableMap, Table: table, Short: "n"},
		{Name: "list", Kind: config.KindTables, Table: table},
		{Name: "size", Kind: config.KindBytes, Default: "1MiB"},
		{Name: "ratio", Kind: config.KindFloat, Default: "0.5"},
		{Name: "none", Kind: config.KindSecret},
		{Name: "entries", Kind: config.KindStringMap},
	}}
	s := section("rows.a.n = -1\nrows.b = {}\nrows.c = 5\nlist = [{ n = 1 }, {}]\n[entries]\nz = '1'\na = '2'\n\"m.n\" = '3'\n")
	var got settings
	if !s.Decode(spec, &got) {
		t.Fatal(s.Err())
	}
	low, count, wait := level(1), uint64(7), time.Second
	want := settings{
		embedded: embedded{Kept: "a\tb"}, Level: 2, Pointer: &low, Names: []name{"x", "y"}, Count: &count, Wait: &wait,
		Rows: map[name]*row{"a": {N: -1}, "b": {}, "c": {N: 5}}, List: []*row{{N: 1}, {}}, Size: 1 << 20, Ratio: 0.5,
		Entries: []config.Entry{
			{Key: "z", Value: "1", Pos: config.Pos{Line: 6, Column: 1}},
			{Key: "a", Value: "2", Pos: config.Pos{Line: 7, Column: 1}},
			{Key: "m.n", Value: "3", Pos: config.Pos{Line: 8, Column: 1}},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(settings{})); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

func TestSection_reportsWhatAFieldRefuses(t *testing.T) {
	var into struct {
		Level level `config:"level"`
		Small int8  `config:"small"`
		Size  uint8 `config:"size"`
		Large uint  `config:"large"`
	}
	s := section("level = \"medium\"\nsmall = -129\nsize = \"1KiB\"\nlarge = -1\n")
	ok := s.Decode(config.Spec{Keys: []config.Key{
		{Name: "level", Kind: config.KindString},
		{Name: "small", Kind: config.KindInt},
		{Name: "size", Kind: config.KindBytes},
		{Name: "large", Kind: config.KindInt},
	}}, &into)
	want := `testdata/broker.toml:1:9: level: no such level
testdata/broker.toml:2:9: small: -129 does not fit into 8 bits
testdata/broker.toml:3:8: size: 1024 does not fit into 8 bits without a sign
testdata/broker.toml:4:9: large: -1 does not fit into 64 bits without a sign`
	if got := s.Err(); ok || got == nil || got.Error() != want {
		t.Errorf("got %v, %v, want\n%s", ok, got, want)
	}
}

// TestSection_reportsPluginDefectsWithoutPanic: a spec and a struct that do not agree are an error at the key, whatever the
// file says.
func TestSection_reportsPluginDefectsWithoutPanic(t *testing.T) {
	for kind := range config.Kind(20) {
		var into struct {
			Wrong chan int `config:"wrong"`
		}
		s := section("wrong = 1")
		if s.Decode(config.Spec{Keys: []config.Key{{Name: "wrong", Kind: kind}}}, &into) || !strings.Contains(s.Err().Error(), "defect in the plugin: ") {
			t.Errorf("%s: got %v, want a defect", kind, s.Err())
		}
	}
	for _, into := range []any{7, "x", struct{}{}, (*struct{})(nil), new(int), []int{}} {
		s := section("")
		if s.Decode(config.Spec{}, into) || !strings.Contains(s.Err().Error(), "defect in the plugin: ") {
			t.Errorf("%T: got %v, want a defect", into, s.Err())
		}
	}
	s := section("")
	if s.Decode(config.Spec{Keys: []config.Key{{Name: "a", Kind: config.KindInt, Default: "x y"}}}, nil) ||
		!strings.Contains(s.Err().Error(), "defect in the plugin: ") {
		t.Errorf("got %v, want a defect", s.Err())
	}
}

// TestSection_pluginsReportTheirOwnErrors: Errorf, Pos and Has find keys, elements and what is absent.
func TestSection_pluginsReportTheirOwnErrors(t *testing.T) {
	_, pipelines := check("f.toml", `
[pipeline.orders.source]
type = "broker"
brokers = ["a",
  "b"]
topics = ["t"]
  labels = { "a.b" = "1", "c[0]" = "2", a = "3" }
  [pipeline.orders.source.tls]
  ca_file = "x"
  [[pipeline.orders.source.listener]]
  port = 1
[pipeline.orders.decode]
type = "raw"
[pipeline.orders.sink]
type = "null"
`)
	s := pipelines[0].Source
	for _, c := range []struct {
		key  string
		pos  config.Pos
		have bool
	}{
		{"brokers", config.Pos{Line: 4, Column: 1}, true},
		{"brokers[1]", config.Pos{Line: 5, Column: 3}, true},
		{"brokers[2]", config.Pos{Line: 4, Column: 1}, false},
		{"tls", config.Pos{Line: 8, Column: 27}, true},
		{"tls.ca_file", config.Pos{Line: 9, Column: 3}, true},
		{"tls.key", config.Pos{Line: 8, Column: 27}, false},
		{"listener[0].port", config.Pos{Line: 11, Column: 3}, true},
		{"listener[1].port", config.Pos{Line: 10, Column: 28}, false},
		{"listener[x]", config.Pos{Line: 10, Column: 28}, false},
		{"listener[0", config.Pos{Line: 10, Column: 28}, false},
		{"labels.a.b", config.Pos{Line: 7, Column: 14}, true},
		{`labels."a.b"`, config.Pos{Line: 7, Column: 14}, true},
		{"labels.c[0]", config.Pos{Line: 7, Column: 27}, true},
		{"labels.a", config.Pos{Line: 7, Column: 41}, true},
		{"labels.a.c", config.Pos{Line: 7, Column: 41}, false},
		{".", config.Pos{Line: 2, Column: 18}, true},
		{"[0]", config.Pos{Line: 2, Column: 18}, false},
		{"]", config.Pos{Line: 2, Column: 18}, false},
		{"[", config.Pos{Line: 2, Column: 18}, false},
		{"start", config.Pos{Line: 2, Column: 18}, false},
		{"", config.Pos{Line: 2, Column: 18}, true},
	} {
		if got := s.Pos(c.key); got != c.pos {
			t.Errorf("Pos(%q): got %v, want %v", c.key, got, c.pos)
		}
		if got := s.Has(c.key); got != c.have {
			t.Errorf("Has(%q): got %v, want %v", c.key, got, c.have)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	s.Errorf("tls.key", "%s is needed with %s", "key", "ca_file")
	s.Errorf("brokers[1]", "is named twice")
	s.Errorf("", "is odd")
	want := `f.toml:2:18: pipeline.orders.source: is odd
f.toml:5:3: pipeline.orders.source.brokers[1]: is named twice
f.toml:8:27: pipeline.orders.source.tls.key: key is needed with ca_file`
	if got := s.Err(); got == nil || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
	if err := pipelines[0].Sinks[0].Err(); err != nil {
		t.Errorf("the sink has the source's errors: %v", err)
	}
}

// TestErrors_areSortedAndFound: errors.As reaches the single error, and the list is sorted by place whatever the order of
// the checks.
func TestErrors_areSortedAndFound(t *testing.T) {
	s := section("b = 1\na = 2\n")
	s.Decode(config.Spec{}, nil)
	s.Errorf("a", "last")
	s.Errorf("b", "first")
	var list config.Errors
	if !errors.As(s.Err(), &list) || len(list) != 4 {
		t.Fatalf("got %v", s.Err())
	}
	lines := make([]int, len(list))
	for i, e := range list {
		lines[i] = e.Line
	}
	if !slices.Equal(lines, []int{1, 1, 2, 2}) {
		t.Errorf("got the lines %v", lines)
	}
	var one *config.Error
	if !errors.As(s.Err(), &one) || one.Key != "b" || one.Message != "unknown key" || one.Column != 1 || one.File != "testdata/broker.toml" {
		t.Errorf("got %+v", one)
	}
	if got, want := string(mustJSON(t, one)), `{"file":"testdata/broker.toml","line":1,"column":1,"key":"b","message":"unknown key","hint":"known: type"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestParse_boundsTheErrorsOfAHopelessFile: a file of nonsense gives a bounded list that says so.
func TestParse_boundsTheErrorsOfAHopelessFile(t *testing.T) {
	f, _ := check("f.toml", strings.Repeat("=\n", 10_000))
	var list config.Errors
	if !errors.As(f.Err(), &list) || len(list) != 501 {
		t.Fatalf("got %d errors, want 501", len(list))
	}
	if got, want := list[500].Message, "too many errors: there are more than the 500 that are shown"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParse_refusesAFileThatIsTooLong(t *testing.T) {
	f, pipelines := check("f.toml", strings.Repeat("#\n", 1<<19)+"x")
	want := "f.toml:1:1: the file has 1048577 bytes; expected at most 1MiB"
	if err := f.Err(); err == nil || err.Error() != want || pipelines != nil {
		t.Errorf("got %v, want %s", err, want)
	}
}
