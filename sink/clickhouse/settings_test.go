package clickhouse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
)

func TestSettings_specFitsTheStruct(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
}

// decode reads a sink's section with its defaults.
func decode(t *testing.T, section string) Settings {
	t.Helper()
	f := config.Parse("test.toml", []byte("[pipeline.p.sink]\ntype = \"clickhouse\"\n"+section), config.Env{})
	var s Settings
	for _, p := range f.Pipelines(config.Registry{Roles: map[string][]config.Spec{config.RoleSink: {Spec()}}}) {
		if len(p.Sinks) != 1 || !p.Sinks[0].Decode(Spec(), &s) {
			t.Fatalf("the section is refused: %v", f.Err())
		}
	}
	return s
}

func TestSettings_defaults(t *testing.T) {
	s := decode(t, `addr = ["h:9000"]
table = "t"`)
	if s.Compression != "lz4" || !s.Durable || s.Provenance != "check" || s.OnReject != "dead_letter" || s.UnitRows != 1_000_000 ||
		s.UnitBytes != 256<<20 || s.ReceiveTimeout != 5*time.Second || s.Database != "default" || s.TLS != nil {
		t.Errorf("got the defaults %+v", s)
	}
	if _, err := New(s); err != nil {
		t.Error(err)
	}
}

func TestSettings_whatIsRefused(t *testing.T) {
	good := Settings{Addr: []string{"h:9000"}, Table: "t"}
	cases := []struct {
		name, want string
		change     func(s *Settings)
	}{
		{"a setting of the protocol", "settings.async_insert", func(s *Settings) { s.Server = map[string]string{"async_insert": "1"} }},
		{"a setting that cuts blocks", "settings.max_insert_block_size", func(s *Settings) { s.Server = map[string]string{"max_insert_block_size": "1"} }},
		{"a token", "settings.insert_deduplication_token", func(s *Settings) { s.Server = map[string]string{"insert_deduplication_token": "x"} }},
		{"an address without a port", "host:port", func(s *Settings) { s.Addr = []string{"h"} }},
		{"no address", "addr and table", func(s *Settings) { s.Addr = nil }},
		{"a certificate without a key", "belong together", func(s *Settings) { s.TLS = &TLS{Cert: "x"} }},
		{"no file", "tls.ca", func(s *Settings) { s.TLS = &TLS{CA: filepath.Join(t.TempDir(), "none.pem")} }},
	}
	for _, c := range cases {
		s := good
		c.change(&s)
		_, err := New(s)
		if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := good
	s.TLS = &TLS{CA: path}
	if _, err := New(s); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v, want an error about the file without a certificate", err)
	}
	s = good
	s.Server = map[string]string{"max_threads": "2"}
	if _, err := New(s); err != nil {
		t.Errorf("a harmless setting is refused: %v", err)
	}
}
