package config_test

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

// digestBase is the document that the others of TestFile_digest differ from.
const digestBase = `
[pipeline.orders]
delivery = "exactly-once"
[pipeline.orders.source]
type = "broker"
brokers = ["a", "b"]
topics = ["t"]
timeout = "90s"
fetch_bytes_max = "1MiB"
start_time = 2026-01-31T12:00:00Z
connections = 16
backoff_factor = 2.0
password = "one"
client_id = "${env:BROKER}"
[pipeline.orders.decode]
type = "json"
columns = { id = "int64", at = "string" }
[pipeline.orders.sink]
type = "null"
`

// digest returns the digest of the pipeline orders in a document that must be right.
func digest(t *testing.T, document string) string {
	t.Helper()
	f, _ := check("testdata/f.toml", document)
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	return f.PipelineDigest("orders")
}

// TestFile_digestIgnoresFormAndSecrets: what means the same has the same digest. The exact value is pinned because
// manifests keep it.
func TestFile_digestIgnoresFormAndSecrets(t *testing.T) {
	want := digest(t, digestBase)
	if pinned := "sha256:353aa5c792ccf37cb8424f7970177595148167a7edee2b317670ac96043cc2f6"; want != pinned {
		t.Errorf("got %s, want %s", want, pinned)
	}
	for name, document := range map[string]string{
		"comments and spaces": strings.ReplaceAll(digestBase, "\n", " # comment\n\n\t"),
		"line ends":           strings.ReplaceAll(digestBase, "\n", "\r\n"),
		"another secret":      strings.Replace(digestBase, `"one"`, `"${file:password}"`, 1),
		"another duration":    strings.Replace(digestBase, `"90s"`, `"1m30s"`, 1),
		"another size":        strings.Replace(digestBase, `"1MiB"`, `"1024KiB"`, 1),
		"another time":        strings.Replace(digestBase, "2026-01-31T12:00:00Z", `"2026-01-31T13:00:00+01:00"`, 1),
		"another number":      strings.Replace(digestBase, "16", "0x1_0", 1),
		"an integer":          strings.Replace(digestBase, "2.0", "2", 1),
		"another string":      strings.Replace(digestBase, `["a", "b"]`, `['a', "\u0062"]`, 1),
		"another order":       strings.Replace(digestBase, "timeout = \"90s\"\nfetch_bytes_max = \"1MiB\"", "fetch_bytes_max = \"1MiB\"\ntimeout = \"90s\"", 1),
		"another pipeline":    digestBase + "[pipeline.other]\nsource.type = \"lines\"\ndecode.type = \"raw\"\nsink.type = \"null\"\n[daemon]\nlisten = \"\"\n",
		"inline": `pipeline.orders = { sink = { type = "null" }, decode.type = "json", decode.columns = { id = "int64", at = "string" },
			delivery = "exactly-once", source = { password = "two", brokers = ["a", "b"], topics = ["t"], timeout = "1m30s", type = "broker",
			fetch_bytes_max = "1MiB", start_time = 2026-01-31T12:00:00Z, connections = 16, backoff_factor = 2, client_id = "${env:BROKER}" } }`,
	} {
		if got := digest(t, document); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestFile_digestSeesEveryOtherChange(t *testing.T) {
	seen := map[string]string{digest(t, digestBase): "the base"}
	for name, document := range map[string]string{
		"another value":      strings.Replace(digestBase, `"90s"`, `"91s"`, 1),
		"order of an array":  strings.Replace(digestBase, `["a", "b"]`, `["b", "a"]`, 1),
		"a shifted boundary": strings.Replace(digestBase, `["a", "b"]`, `["a\nb"]`, 1),
		"one more element":   strings.Replace(digestBase, `["a", "b"]`, `["a", "b", "c"]`, 1),
		"one key less":       strings.Replace(digestBase, "connections = 16\n", "", 1),
		"no secret":          strings.Replace(digestBase, "password = \"one\"\n", "", 1),
		"another reference":  strings.Replace(digestBase, "${env:BROKER}", "${env:DOLLAR}", 1),
		"its value":          strings.Replace(digestBase, "${env:BROKER}", "kafka-1:9092", 1),
		"one more step":      digestBase + "[[pipeline.orders.step]]\ntype = \"filter\"\nwhere = \"true\"\n",
		"another type":       strings.Replace(digestBase, "type = \"json\"\ncolumns = { id = \"int64\", at = \"string\" }", "type = \"raw\"", 1),
		"another delivery":   strings.Replace(digestBase, "exactly-once", "at-least-once", 1),
		"a free key":         strings.Replace(digestBase, `at = "string"`, `au = "string"`, 1),
	} {
		got := digest(t, document)
		if other, taken := seen[got]; taken {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[got] = name
	}
}

// TestFile_digestHidesWhatNoSpecKnows: before the specs have judged the file, nothing in it can be told from a secret.
func TestFile_digestHidesWhatNoSpecKnows(t *testing.T) {
	a := config.Parse("f.toml", []byte(digestBase), config.Env{}).PipelineDigest("orders")
	b := config.Parse("f.toml", []byte(strings.ReplaceAll(digestBase, `"one"`, `"two"`)), config.Env{}).PipelineDigest("orders")
	if a != b || a == "" {
		t.Errorf("got %s and %s, want the same", a, b)
	}
	if got := config.Parse("f.toml", []byte(digestBase), config.Env{}).PipelineDigest("none"); got != "" {
		t.Errorf("got %s for a pipeline that is not there", got)
	}
}
