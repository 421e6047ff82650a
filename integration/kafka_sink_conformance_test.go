//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"testing"

	"github.com/ingestd/ingestd/internal/kafkacalls"
	"github.com/ingestd/ingestd/sink"
	kafkasink "github.com/ingestd/ingestd/sink/kafka"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// The suite runs on the real broker. Every request is one call that the suite can break: before it is sent, after its answer has
// come, or by sending it later on its old connection.
func TestKafkaSink_conformance(t *testing.T) {
	c := startSinkKafka(t, nil)
	for _, k := range sinktest.Cases() {
		t.Run(k.Name, func(t *testing.T) {
			k.Check(t, sinktest.Harness{Target: c.suiteTarget, Exact: true, Late: true, Histories: 6, Stride: 61})
		})
	}
}

// Below transaction version 2 an EndTxn that comes late would end the next transaction, and requests are those of before. The rules
// that no broken call shows are the same there.
func TestKafkaSink_conformanceBelowTransactionVersion2(t *testing.T) {
	c := startSinkKafka(t, map[string]string{"KAFKA_NUM_NETWORK_THREADS": "2"}) // a broker of its own
	c.setTransactionVersion(t, 0)
	defer c.setTransactionVersion(t, 2)
	broken := regexp.MustCompile("^(commit_|crash_|lostReply_|zombie_|lateEffect_|history_)")
	for _, k := range sinktest.Cases() {
		if !broken.MatchString(k.Name) {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			k.Check(t, sinktest.Harness{Target: c.suiteTarget, Exact: true, Late: true, Histories: 4, Stride: 97})
		})
	}
}

func (c *sinkCluster) suiteTarget(tb testing.TB) sinktest.Target {
	tb.Helper()
	s := c.settings(tb, 2)
	s.SegmentBytes, s.BatchBytes = 1<<10, 1<<10
	tb.Cleanup(func() { _, _ = c.admin.DeleteTopics(context.Background(), s.Topic, s.Ledger.Topic) })
	return &kafkaSuiteTarget{cluster: c, settings: s, tb: tb}
}

// kafkaSuiteTarget is a topic.
type kafkaSuiteTarget struct {
	cluster  *sinkCluster
	settings kafkasink.Settings
	tb       testing.TB
}

func (k *kafkaSuiteTarget) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	s := k.settings
	s.Dial = kafkacalls.Dial(f.Do)
	return kafkasink.New(s, kafkasink.Encoders{}, slog.New(slog.DiscardHandler))
}

// Rows waits for the markers of what is decided: a commit that was answered is, and its markers are on their way.
func (k *kafkaSuiteTarget) Rows(ctx context.Context) ([]sinktest.Row, error) {
	k.cluster.wait(k.tb, k.settings.TransactionalIDPrefix+"/suite/0/sink", decided)
	records, err := k.cluster.committed(ctx, k.settings.Topic)
	if err != nil {
		return nil, err
	}
	var rows []sinktest.Row
	for _, r := range records {
		var v struct {
			ID     int64  `json:"id"`
			Text   string `json:"text"`
			Stage  string `json:"stage"`
			Offset int64  `json:"offset"`
			Value  string `json:"value"`
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return nil, err
		}
		if v.Stage != "" {
			v.ID, v.Text = v.Offset, v.Value
		}
		rows = append(rows, sinktest.Row{ID: v.ID, Text: v.Text})
	}
	return rows, nil
}
