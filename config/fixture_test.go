package config_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected outputs in testdata")

// expect compares got with a file of testdata, or rewrites the file.
func expect(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got; -args -rewrite writes it):\n%s", path, diff)
	}
}

// brokerSettings are those of a source with every kind of key.
type brokerSettings struct {
	Brokers     []string          `config:"brokers"`
	Topics      []string          `config:"topics"`
	Start       start             `config:"start"`
	StartTime   *time.Time        `config:"start_time"`
	FetchMax    config.Bytes      `config:"fetch_bytes_max"`
	Timeout     time.Duration     `config:"timeout"`
	Backoff     float64           `config:"backoff_factor"`
	Connections uint8             `config:"connections"`
	Password    config.Secret     `config:"password"`
	Fresh       bool              `config:"metadata_fresh"`
	Client      string            `config:"client_id"`
	TLS         *tlsSettings      `config:"tls"`
	Retry       retrySettings     `config:"retry"`
	Listeners   []listener        `config:"listener"`
	Labels      map[string]string `config:"labels"`
	Offsets     map[string]int64  `config:"offsets"`
	Overrides   []override        `config:"override"`
}

type start string

type tlsSettings struct {
	CA  string        `config:"ca_file"`
	Key config.Secret `config:"key"`
}

type retrySettings struct {
	Limit int `config:"limit"`
}

type listener struct {
	Host string `config:"host"`
	Port uint16 `config:"port"`
}

type override struct {
	Topic string        `config:",key"`
	Wait  time.Duration `config:"wait"`
}

func brokerSpec() config.Spec {
	return config.Spec{
		Type: "broker",
		Doc:  "Reads topics of a broker.",
		Keys: []config.Key{
			{
				Name: "brokers", Kind: config.KindStrings, Required: true, Max: "3", Example: `["localhost:9092"]`,
				Doc: "The brokers to ask first, as host:port.",
			},
			{Name: "topics", Kind: config.KindStrings, Required: true, Example: `["orders"]`, Doc: "The topics to read."},
			{
				Name: "start", Kind: config.KindEnum, Enum: []string{"earliest", "latest", "timestamp"}, Default: "earliest",
				Doc: "Where a split begins that has no position yet.",
			},
			{Name: "start_time", Kind: config.KindTime, Min: "2000-01-01T00:00:00Z", Doc: "The time for start = \"timestamp\"."},
			{Name: "fetch_bytes_max", Kind: config.KindBytes, Min: "1KiB", Max: "1GiB", Default: "50MiB", Doc: "The most that one fetch brings."},
			{Name: "timeout", Kind: config.KindDuration, Min: "100ms", Default: "10s", Doc: "How long to wait for an answer."},
			{Name: "backoff_factor", Kind: config.KindFloat, Min: "1", Max: "10.5", Default: "2.0", Doc: "By what a pause grows."},
			{Name: "connections", Kind: config.KindInt, Min: "1", Default: "1", Doc: "Connections per broker."},
			{Name: "password", Kind: config.KindSecret, Doc: "The password."},
			{Name: "metadata_fresh", Kind: config.KindBool, Default: "true", Doc: "Ask for metadata | again\nat each start."},
			{Name: "client_id", Kind: config.KindString, Max: "20", Doc: "The name that the broker sees."},
			{Name: "tls", Kind: config.KindTable, Doc: "Encrypts the connection.", Table: &config.Spec{Keys: []config.Key{
				{Name: "ca_file", Kind: config.KindString, Required: true, Example: "ca.pem", Doc: "The authorities."},
				{Name: "key", Kind: config.KindSecret, Doc: "The client's key."},
			}}},
			{Name: "retry", Kind: config.KindTable, Doc: "How to try again.", Table: &config.Spec{Keys: []config.Key{
				{Name: "limit", Kind: config.KindInt, Min: "0", Default: "5", Doc: "How often."},
			}}},
			{Name: "listener", Kind: config.KindTables, Doc: "Addresses to listen on.", Table: &config.Spec{Keys: []config.Key{
				{Name: "host", Kind: config.KindString, Default: "localhost", Doc: "The host."},
				{Name: "port", Kind: config.KindInt, Required: true, Min: "1", Example: "9000", Doc: "The port."},
			}}},
			{Name: "labels", Kind: config.KindStringMap, Example: `{ team = "a" }`, Doc: "Labels to send along."},
			{Name: "offsets", Kind: config.KindIntMap, Min: "0", Example: `{ "orders/0" = 17 }`, Doc: "First offsets by split."},
			{Name: "override", Kind: config.KindTableMap, Doc: "What holds for one topic only.", Table: &config.Spec{Keys: []config.Key{
				{Name: "wait", Kind: config.KindDuration, Default: "1s", Doc: "How long to wait."},
			}}},
		},
	}
}

type decoderSettings struct {
	Columns []config.Entry `config:"columns"`
}

func decoderSpec() config.Spec {
	return config.Spec{Type: "json", Doc: "Decodes JSON.", Keys: []config.Key{
		{Name: "columns", Kind: config.KindStringMap, Example: `{ id = "int64" }`, Doc: "The columns and their types, in order."},
	}}
}

func registry() config.Registry {
	dir := config.Spec{Type: "dir", Doc: "Writes files.", Keys: []config.Key{
		{Name: "path", Kind: config.KindString, Required: true, Example: "/var/lib/rows", Doc: "The directory."},
	}}
	store := config.Spec{Type: "file", Doc: "A local directory.", Keys: []config.Key{
		{Name: "path", Kind: config.KindString, Default: "/var/lib/ingestd/checkpoints", Doc: "The directory."},
	}}
	return config.Registry{Roles: map[string][]config.Spec{
		config.RoleSource: {brokerSpec(), {Type: "lines", Doc: "Reads lines of files."}},
		config.RoleDecode: {decoderSpec(), {Type: "raw", Doc: "Keeps the bytes as they are."}},
		config.RoleStep: {{Type: "filter", Doc: "Drops rows.", Keys: []config.Key{
			{Name: "where", Kind: config.KindString, Required: true, Example: "id > 0", Doc: "What stays."},
		}}},
		config.RoleSink:       {dir, {Type: "null", Doc: "Counts rows."}},
		config.RoleDeadLetter: {dir},
		config.RoleStore:      {store},
	}}
}

// world is an Env with a few variables and files.
func world() config.Env {
	variables := map[string]string{"BROKER": "kafka-1:9092", "PASSWORD": canary, "EMPTY": "", "WAIT": "soon", "DOLLAR": "${env:PASSWORD}", "NAME": "n", "LATIN": "caf\xe9"}
	files := map[string]string{"testdata/password": canary + "\n", "/run/two": "a\r\n\r\n", "testdata/latin": "caf\xe9"}
	return config.Env{
		Lookup: func(name string) (string, bool) { value, set := variables[name]; return value, set },
		ReadFile: func(path string) ([]byte, error) {
			if data, found := files[path]; found {
				return []byte(data), nil
			}
			if filepath.Base(path) == "forbidden" {
				return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("permission denied")}
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

// canary is a secret that no output may hold.
const canary = "hunter2-canary"

// check parses a document and runs every check that config itself has.
func check(name, document string) (*config.File, []config.Pipeline) {
	f := config.Parse(name, []byte(document), world())
	f.Daemon()
	return f, f.Pipelines(registry())
}
