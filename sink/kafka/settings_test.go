package kafka

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
)

func TestSpec_isSound(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Fatal(err)
	}
}

// The defaults of the config and those of settings made in code are the same.
func TestSettings_defaultsAgreeWithTheSpec(t *testing.T) {
	section := config.ParseSection("c.toml", []byte("type = \"kafka\"\nbrokers = [\"localhost:9092\"]\ntopic = \"out\"\nledger = {}\n"), config.Env{})
	var got Settings
	if !section.Decode(Spec(), &got) {
		t.Fatal(section.Err())
	}
	got.defaults()
	want := Settings{Brokers: []string{"localhost:9092"}, Topic: "out"}
	want.defaults()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-in code +in a config):\n%s", diff)
	}
}

func TestSettings_mistakesAreNamed(t *testing.T) {
	ok := func(change func(s *Settings)) Settings {
		s := Settings{Brokers: []string{"localhost:9092"}, Topic: "out"}
		change(&s)
		return s
	}
	for want, s := range map[string]Settings{
		"brokers and topic are needed":                 {},
		`"localhost" is not host:port`:                 ok(func(s *Settings) { s.Brokers = []string{"localhost"} }),
		"topic: it can't be the ledger":                ok(func(s *Settings) { s.Topic = "ingestd-ledger" }),
		"value: it goes in place of columns":           ok(func(s *Settings) { s.Value, s.Columns = "v", []string{"a"} }),
		"keep_key: it goes in place of key":            ok(func(s *Settings) { s.KeepKey, s.Key = true, []string{"a"} }),
		`timestamp_column: it goes together with`:      ok(func(s *Settings) { s.TimestampColumn = "a" }),
		`partition_column: it goes together with`:      ok(func(s *Settings) { s.Partitioner = partitionColumn }),
		`partitioner: "key" needs key or keep_key`:     ok(func(s *Settings) { s.Partitioner = partitionKey }),
		`accept_topic_id: "x" is not a topic ID`:       ok(func(s *Settings) { s.AcceptTopicID = "x" }),
		`ledger.accept_id: "x" is not a topic ID`:      ok(func(s *Settings) { s.Ledger = &Ledger{AcceptID: "x"} }),
		"tls: cert and key go together":                ok(func(s *Settings) { s.TLS = &TLS{Cert: "c"} }),
		"transactional_id_prefix: it holds a control ": ok(func(s *Settings) { s.TransactionalIDPrefix = "a\n" }),
	} {
		if _, err := New(s, Encoders{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// suffix is an encoder of a test.
type suffix string

func (s suffix) New(schema *record.Schema) (codec.Encoder, error) { return s, nil }

func (s suffix) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if b.Cols[0].Int(row) < 0 {
		return dst, record.Refusal{Reason: "no form", Column: b.Schema.Fields[0].Name}, false
	}
	return append(codec.AppendJSON(dst, b, row), s...), record.Refusal{}, true
}

// The encoders of the sections make value and key, each of its columns, and what they refuse is refused.
func TestOpen_usesTheEncodersOfItsSections(t *testing.T) {
	section := config.ParseSection("c.toml", []byte(`type = "kafka"
brokers = ["localhost:9092"]
topic = "out"
columns = ["id", "name"]
encode = { type = "one" }
key = ["id"]
key_encode = { type = "two" }
transaction_timeout = "5s"
`), config.Env{})
	p, err := Open(section, func(s *config.Section) (codec.EncoderFactory, bool) { return suffix(" " + s.Type()), true }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if p.settings.TransactionTimeout != 5*time.Second {
		t.Errorf("the transaction timeout is %s", p.settings.TransactionTimeout)
	}
	b := formBatch(t)
	f, err := newFormer(&p.settings, &target{partitions: 1}, p.encoders, b.Schema)
	if err != nil {
		t.Fatal(err)
	}
	f.take(b)
	if _, ok, err := f.form(b, 0, 5); !ok || err != nil || string(f.row.key) != `{"id":7} two` || string(f.row.value) != `{"id":7,"name":"Ada"} one` {
		t.Errorf("got key %s, value %s, %t, %v", f.row.key, f.row.value, ok, err)
	}
	if _, ok, err := f.form(b, 1, 5); ok || err != nil || f.reason.Reason != "no form" {
		t.Errorf("a row without a form: %t, %v, %+v", ok, err, f.reason)
	}
	broken := config.ParseSection("c.toml", []byte("type = \"kafka\"\nbrokers = [\"localhost:9092\"]\ntopic = \"out\"\npartitioner = \"key\"\n"), config.Env{})
	if _, err := Open(broken, nil, slog.New(slog.DiscardHandler)); err == nil || broken.Err() == nil {
		t.Errorf("got %v, %v", err, broken.Err())
	}
}
