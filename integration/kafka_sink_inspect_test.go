//go:build integration

package integration

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/sink"
	kafkasink "github.com/ingestd/ingestd/sink/kafka"
)

// What a look at a real cluster finds, each with what mends it.
func TestKafkaSink_inspectNamesWhatIsWrong(t *testing.T) {
	c := startSinkKafka(t, nil)
	ok := c.settings(t, 2)
	compacted, forgetful := ok.Topic+"-compacted", ok.Topic+"-forgetful"
	c.create(t, compacted, 1, "compact")
	c.create(t, forgetful, 1, "delete")
	for name, k := range map[string]struct {
		change func(s *kafkasink.Settings)
		level  sink.Level
		text   string
		remedy string
	}{
		"no topic":          {func(s *kafkasink.Settings) { s.Topic = "nowhere" }, sink.Blocks, "does not exist", "kafka-topics --bootstrap-server"},
		"a topic to create": {func(s *kafkasink.Settings) { s.Topic, s.Create = "nowhere", &kafkasink.Create{} }, sink.Note, "will be created", ""},
		"no ledger": {
			func(s *kafkasink.Settings) { s.Ledger = &kafkasink.Ledger{Topic: "no-ledger"} }, sink.Blocks,
			"the ledger no-ledger does not exist", "--config cleanup.policy=compact",
		},
		"a ledger that forgets": {
			func(s *kafkasink.Settings) { s.Ledger = &kafkasink.Ledger{Topic: forgetful} }, sink.Blocks,
			"it forgets what is committed", "--add-config cleanup.policy=compact",
		},
		"no key for a compacted topic": {func(s *kafkasink.Settings) { s.Topic = compacted }, sink.Blocks, "records have no key", "set `key`"},
		"a key for a compacted topic":  {func(s *kafkasink.Settings) { s.Topic, s.Key = compacted, []string{"id"} }, sink.Weakens, "has one replica", ""},
		"a timeout above the brokers'": {
			func(s *kafkasink.Settings) { s.TransactionTimeout = time.Hour }, sink.Blocks,
			"the brokers allow 15m0s at most", `transaction_timeout = "15m0s"`,
		},
		"large batches": {func(s *kafkasink.Settings) { s.BatchBytes = config.Bytes(4 << 20) }, sink.Note, "max.message.bytes is 1048588", ""},
	} {
		s := ok
		k.change(&s)
		found := inspectKafka(t, s)
		matched := false
		for _, f := range found.Findings {
			matched = matched || f.Level == k.level && strings.Contains(f.Text, k.text) && strings.Contains(f.Remedy, k.remedy)
			if f.Level > max(k.level, sink.Weakens) { // one replica weakens every one of them
				t.Errorf("%s: worse than expected: %+v", name, f)
			}
		}
		if !matched {
			t.Errorf("%s: got %+v", name, found.Findings)
		}
		if found.Owner != nil {
			t.Errorf("%s: a fresh ledger has the owner %+v", name, found.Owner)
		}
	}
	if err := existsNot(c.admin, "nowhere", "no-ledger"); err != "" {
		t.Errorf("Inspect created %s", err)
	}
}

func inspectKafka(t *testing.T, s kafkasink.Settings) sink.Inspection {
	t.Helper()
	p, err := kafkasink.New(s, kafkasink.Encoders{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	found, err := p.Inspect(context.Background(), sink.Identity{StoreID: "store", Pipeline: "traps", Sink: "sink"})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func existsNot(admin *kadm.Client, topics ...string) string {
	found, err := admin.ListTopics(context.Background(), topics...)
	if err != nil {
		return err.Error()
	}
	for _, topic := range topics {
		if found.Has(topic) {
			return topic
		}
	}
	return ""
}

// The cluster's transaction.version is told, and the newest run.
func TestKafkaSink_inspectTellsVersionAndOwner(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		s := c.settings(t, 1)
		startSinkRun(t, runOf{s, 7, new(segmentsInMemory)}, nil)
		found := inspectKafka(t, s)
		if found.Owner == nil || *found.Owner != (sink.Owner{StoreID: "store", Lease: 7}) {
			t.Errorf("got the owner %+v", found.Owner)
		}
		told := false
		for _, f := range found.Findings {
			told = told || strings.Contains(f.Text, "transaction.version is ") && strings.Contains(f.Remedy, "transaction.version=2")
		}
		if want := !strings.HasSuffix(t.Name(), "=2"); told != want {
			t.Errorf("transaction.version is told: %t, want %t: %+v", told, want, found.Findings)
		}
	})
}
