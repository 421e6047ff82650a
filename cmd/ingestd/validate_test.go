package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/checkpoint/s3"
	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/codec/avro"
	"github.com/ingestd/ingestd/codec/csv"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/codec/raw"
	"github.com/ingestd/ingestd/codec/text"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/plugins"
	"github.com/ingestd/ingestd/sink/blackhole"
	"github.com/ingestd/ingestd/sink/clickhouse"
	sinkfile "github.com/ingestd/ingestd/sink/file"
	sinkkafka "github.com/ingestd/ingestd/sink/kafka"
	"github.com/ingestd/ingestd/sink/postgres"
	"github.com/ingestd/ingestd/source/file"
	"github.com/ingestd/ingestd/source/kafka"
)

// bad has five errors, of the daemon, of plugins, of steps and between keys.
const bad = `[daemon]
stall_aftr = "30s"

[pipeline.orders]
delivery = "twice"
source = { type = "kafka", brokers = ["127.0.0.1:9092"], topic = ["orders"] }
decode = { type = "json" }
sink = { type = "clickhouse", addr = ["127.0.0.1:9000"], database = "shop", table = "orders", unit_bytes_max = "lots" }

[pipeline.lines]
source = { type = "file", paths = ["in/*"] }
decode = { type = "raw" }
sink = { type = "file", path = "out" }

[[pipeline.lines.step]]
type = "filter"
where = "len(valu) > 1"
`

// All errors of a file come at once, each with its place, and the same from every verb.
func TestValidate_listsAllErrors(t *testing.T) {
	dir := here(t)
	h := newHome(t)
	h.write("bad.toml", bad)
	r := h.run("validate", "-c", "bad.toml")
	r.want(t, 3)
	golden(t, dir, "bad.golden.txt", r.out)
	places := regexp.MustCompile(`(?m)^bad\.toml:(\d+):(\d+): `).FindAllString(r.out, -1)
	if len(places) < 5 {
		t.Errorf("got %d errors with a place, want at least 5:\n%s", len(places), r.out)
	}
	for _, args := range []string{"run", "checkpoint list orders", "offsets show orders", "offsets set orders a=1"} {
		r := h.run(append(strings.Fields(args), "-c", "bad.toml")...)
		r.want(t, 3)
		for _, place := range places {
			if !strings.Contains(r.err, place) {
				t.Errorf("%s does not name %s", args, place)
			}
		}
	}
}

// The same errors for programs: the place and the text are fields.
func TestValidate_errorsAsJSON(t *testing.T) {
	dir := here(t)
	h := newHome(t)
	h.write("bad.toml", bad)
	r := h.run("validate", "-c", "bad.toml", "--format", "json")
	r.want(t, 3)
	golden(t, dir, "bad.golden.json", r.out)
	var v struct {
		Errors []struct {
			File, Message string
			Line, Column  int
		}
	}
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatal(err)
	}
	for _, e := range v.Errors {
		if e.File != "bad.toml" || e.Line == 0 || e.Column == 0 || strings.Contains(e.Message, "bad.toml") {
			t.Errorf("got %+v, want file, place, and a message without them", e)
		}
	}
}

// good has a pipeline of each kind: with a server, with files alone, and with a lesser guarantee.
const good = `[pipeline.orders]
source = { type = "kafka", brokers = ["127.0.0.1:9092"], topics = ["orders"] }
decode = { type = "json" }
sink = { type = "clickhouse", addr = ["127.0.0.1:9000"], database = "shop", table = "orders" }
dead_letter = { type = "file", path = "letters" }

[pipeline.lines]
source = { type = "file", paths = ["in/*"] }
decode = { type = "raw", column = "line" }
sink = { type = "file", path = "out" }

[[pipeline.lines.step]]
type = "set"
columns = { length = "len(line)" }

[pipeline.counted]
delivery = "at-least-once"
source = { type = "kafka", brokers = ["127.0.0.1:9092"], topics = ["clicks"] }
decode = { type = "json", columns = { n = { type = "int64" } } }
sink = { type = "blackhole" }
`

// Without a look at any server: what each pipeline guarantees, why, and its columns as far as they are known.
func TestValidate_tellsTheGuarantees(t *testing.T) {
	dir := here(t)
	h := newHome(t)
	h.write("good.toml", good)
	r := h.run("validate", "-c", "good.toml")
	r.want(t, 0)
	golden(t, dir, "good.golden.txt", r.out)
	r = h.run("validate", "-c", "good.toml", "--format", "json")
	r.want(t, 0)
	golden(t, dir, "good.golden.json", r.out)
	if left, err := filepath.Glob("*"); err != nil || len(left) != 1 {
		t.Errorf("it made %q beside the config", left)
	}
}

// Steps are checked against the columns without a look at a server, where the sink takes any.
func TestValidate_checksTheSteps(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow("[[pipeline.p.step]]\ntype = \"filter\"\nwhere = \"m > 1\"\n"))
	h.run("validate", "-c", "my.toml").want(t, 3, "my.toml:15:14: pipeline.p.step[0]: ", "unknown name m")
	h.write("my.toml", flow("[[pipeline.p.step]]\ntype = \"filter\"\nwhere = \"n > 'a'\"\n"))
	h.run("validate", "-c", "my.toml").want(t, 3)
}

// With --connect brokers, topics, folders and the store are asked.
func TestValidate_connects(t *testing.T) {
	h := newHome(t)
	b := newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters))
	h.run("validate", "-c", "my.toml", "--connect").want(t, 0,
		"✓ pipeline p: exactly-once", "columns: n int64", "note: sink: the folder out is not there; the first start makes it")
	if _, err := os.Stat("out"); err == nil {
		t.Error("the folder of the sink was made")
	}
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `["events"]`, `["evnts"]`, 1))
	h.run("validate", "-c", "my.toml", "--connect").want(t, 3, "✗ pipeline p", "blocks: source:", "evnts")
	h.write("my.toml", kafkaFlow("127.0.0.1:1", letters))
	h.run("validate", "-c", "my.toml", "--connect").want(t, 3, "blocks: source:", "127.0.0.1:1")
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `path = "out"`, `path = "my.toml"`, 1))
	if r := h.run("validate", "-c", "my.toml", "--connect", "--format", "json"); r.code == 0 || !json.Valid([]byte(r.out)) {
		t.Errorf("a file for a folder: got exit code %d and\n%s", r.code, r.out)
	}
}

// Every verb says how it is used, by an example that begins with the program's name.
func TestHelp_hasExamples(t *testing.T) {
	h := newHome(t)
	for _, verb := range []string{
		"", "run", "validate", "demo", "version", "checkpoint", "checkpoint list", "checkpoint show", "checkpoint drop", "offsets", "offsets show", "offsets set",
		"txn", "txn list", "txn show", "txn abort",
	} {
		h.run(append(strings.Fields(verb), "--help")...).want(t, 0, "Examples:\n  ingestd "+verb)
	}
}

// The reference pages and the example in the tree are those of this build, and the example is a config.
func TestReference_isCurrent(t *testing.T) {
	root := filepath.Join(here(t), "..", "..")
	h := newHome(t)
	if err := os.Mkdir("docs", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "examples"), "examples"); err != nil { // the page of connectors is made from them
		t.Fatal(err)
	}
	var errs strings.Builder
	if code := cli.Execute(t.Context(), plugins.All(), cli.Process{Args: []string{"reference", "."}, Out: io.Discard, Err: &errs}); code != 0 {
		t.Fatalf("got exit code %d: %s", code, errs.String())
	}
	for _, name := range []string{"config.example.toml", "docs/config.md", "docs/connectors.md", "docs/metrics.md", "docs/exit-codes.md"} {
		want, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if h.read(name) != string(want) {
			t.Errorf("%s is not current: go generate ./cmd/ingestd", name)
		}
	}
	t.Setenv("CLICKHOUSE_PASSWORD", "secret")
	r := h.run("validate", "-c", "config.example.toml")
	r.want(t, 0, "✓ pipeline orders: exactly-once")
	if strings.Contains(r.out+r.err, "secret") {
		t.Error("a secret is printed")
	}
}

// Each plugin's spec fits the settings that it fills; none is left out.
func TestPlugins_specsFitTheirSettings(t *testing.T) {
	p := plugins.All()
	settings := map[string]map[string]any{
		"source": {"kafka": &kafka.Settings{}, "file": &file.Settings{}},
		"decode": {"json": &codecjson.Settings{}, "raw": &raw.Settings{}, "avro": &avro.Settings{}, "csv": &csv.Settings{}, "text": &text.Settings{}},
		"encode": {
			"json": &codecjson.EncoderSettings{}, "raw": &raw.EncoderSettings{}, "avro": &avro.EncoderSettings{}, "csv": &csv.EncoderSettings{},
			"text": &text.EncoderSettings{},
		},
		"sink": {
			"clickhouse": &clickhouse.Settings{}, "file": &sinkfile.Settings{}, "blackhole": &blackhole.Settings{}, "kafka": &sinkkafka.Settings{},
			"postgres": &postgres.Settings{},
		},
		"store": {"file": &filestore.Settings{}, "s3": &s3.Settings{}},
	}
	check := func(role string, spec config.Spec) {
		into, ok := settings[role][spec.Type]
		if !ok {
			t.Errorf("%s %q: the test does not know its settings", role, spec.Type)
			return
		}
		if err := config.CheckSpec(spec, into); err != nil {
			t.Errorf("%s %q: %v", role, spec.Type, err)
		}
	}
	for _, s := range p.Sources {
		check("source", s.Spec)
	}
	for _, s := range p.Codecs {
		check("decode", s.Spec)
	}
	for _, s := range p.Encoders {
		check("encode", s.Spec)
	}
	for _, s := range p.Sinks {
		check("sink", s.Spec)
	}
	for _, s := range p.Stores {
		check("store", s.Spec)
	}
	if len(p.Steps) == 0 {
		t.Error("there are no steps")
	}
}

// Where plugins have the same settings these have the same names: who knows one knows all.
func TestPlugins_nameTheSameAlike(t *testing.T) {
	p := plugins.All()
	var tables []config.Spec
	for _, s := range p.Sources {
		tables = append(tables, s.Spec)
	}
	for _, s := range p.Sinks {
		tables = append(tables, s.Spec)
	}
	found := 0
	for _, spec := range tables {
		for _, k := range spec.Keys {
			if k.Name != "tls" {
				continue
			}
			found++
			var names []string
			for _, key := range k.Table.Keys {
				names = append(names, key.Name)
			}
			for _, want := range []string{"ca", "cert", "key"} {
				if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+want+" ") {
					t.Errorf("%s.tls has %q, want %s among them", spec.Type, names, want)
				}
			}
		}
	}
	if found < 2 {
		t.Errorf("%d plugins with TLS, want at least 2", found)
	}
}
