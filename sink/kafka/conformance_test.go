package kafka

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/internal/kafkacalls"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// lab is a cluster for the suite.
type lab struct {
	brokers []string
	client  *kgo.Client
	topics  atomic.Int64
	run     string
}

func newLab(tb testing.TB, brokers ...string) *lab {
	tb.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return &lab{brokers: brokers, client: client, run: rand.Text()}
}

func fakeLab(tb testing.TB, opts ...kfake.Opt) *lab {
	tb.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return newLab(tb, c.ListenAddrs()...)
}

// target makes a fresh topic with a ledger of its own.
func (l *lab) target(tb testing.TB) sinktest.Target {
	tb.Helper()
	n := l.topics.Add(1)
	t := &suiteTarget{lab: l, topic: fmt.Sprintf("suite-%d-%s", n, l.run), ledger: fmt.Sprintf("suite-ledger-%d-%s", n, l.run), partitions: 3}
	for topic, partitions := range map[string]int32{t.topic: t.partitions, t.ledger: 1} {
		policy := "delete"
		if topic == t.ledger {
			policy = "compact"
		}
		if _, err := create(context.Background(), l.client, newTopic{topic, partitions, 1, map[string]*string{"cleanup.policy": &policy}}); err != nil {
			tb.Fatal(err)
		}
		for p := range partitions { // a broker shows a new topic before it leads it
			for _, err := readStable(context.Background(), l.client, topic, p); err != nil; _, err = readStable(context.Background(), l.client, topic, p) {
				<-time.After(time.Millisecond)
			}
		}
	}
	tb.Cleanup(func() {
		_, _ = kadm.NewClient(l.client).DeleteTopics(context.Background(), t.topic, t.ledger)
	})
	return t
}

// suiteTarget is a topic with three partitions.
type suiteTarget struct {
	lab           *lab
	topic, ledger string
	partitions    int32
}

func (t *suiteTarget) settings() Settings {
	return Settings{
		Brokers: t.lab.brokers, Topic: t.topic, TransactionalIDPrefix: t.topic,
		Ledger: &Ledger{Topic: t.ledger}, TransactionTimeout: 10 * time.Second, BatchBytes: 1 << 10, SegmentBytes: 1 << 10,
	}
}

func (t *suiteTarget) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	s := t.settings()
	s.Dial = kafkacalls.Dial(f.Do)
	return New(s, Encoders{}, slog.New(slog.DiscardHandler))
}

// Rows reads what a consumer of committed records sees. A commit that was answered is decided, and its markers are on their way.
func (t *suiteTarget) Rows(ctx context.Context) ([]sinktest.Row, error) {
	if err := t.settled(ctx); err != nil {
		return nil, err
	}
	var rows []sinktest.Row
	for p := range t.partitions {
		records, err := readStable(ctx, t.lab.client, t.topic, p)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			var v struct {
				ID     int64   `json:"id"`
				Text   string  `json:"text"`
				Stage  string  `json:"stage"`
				Offset int64   `json:"offset"`
				Value  *string `json:"value"`
			}
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return nil, err
			}
			if v.Stage != "" {
				v.ID, v.Text = v.Offset, *v.Value
			}
			rows = append(rows, sinktest.Row{ID: v.ID, Text: v.Text})
		}
	}
	return rows, nil
}

// settled waits until no decided transaction lacks markers.
func (t *suiteTarget) settled(ctx context.Context) error {
	id := transactionalID(&Settings{TransactionalIDPrefix: t.topic}, sink.Identity{Pipeline: "suite", Sink: "sink"})
	for {
		got, err := kadm.NewClient(t.lab.client).DescribeTransactions(ctx, id)
		if err != nil {
			return err
		}
		if s := got[id].State; s != "PrepareCommit" && s != "PrepareAbort" {
			return nil
		}
		<-time.After(time.Millisecond)
	}
}

// readStable reads a partition up to its last stable offset.
func readStable(ctx context.Context, client *kgo.Client, topic string, partition int32) ([]*kgo.Record, error) {
	meta, err := oneTopic(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	leader, err := meta.leader(partition)
	if err != nil {
		return nil, err
	}
	r := &ledgerReader{client: client, topic: meta}
	end, err := r.offset(ctx, leader, partition, atEnd, readCommitted)
	if err != nil {
		return nil, err
	}
	var all []*kgo.Record
	for next := int64(0); next < end; {
		req := kmsg.NewPtrFetchRequest()
		req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = 100, 1, 1<<20, readCommitted, -1
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic, ft.TopicID = topic, meta.id
		fp := kmsg.NewFetchRequestTopicPartition()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = partition, next, 1<<20
		ft.Partitions = append(ft.Partitions, fp)
		req.Topics = append(req.Topics, ft)
		resp, err := send[*kmsg.FetchResponse](ctx, client, leader, req)
		if err != nil {
			return nil, err
		}
		if len(resp.Topics) != 1 {
			return nil, errors.New("no topic in the answer")
		}
		got, after := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
			Offset: next, IsolationLevel: kgo.ReadCommitted(), Topic: topic, Partition: partition,
		}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
		if got.Err != nil {
			return nil, got.Err
		}
		all, next = append(all, got.Records...), after
	}
	return all, nil
}

func (l *lab) harness() sinktest.Harness {
	return sinktest.Harness{Target: l.target, Exact: true, Late: true, Histories: 6, Stride: 31}
}

// setTransactions sets the cluster's transaction.version.
func (l *lab) setTransactions(tb testing.TB, version int16) {
	tb.Helper()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", version, 2
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(context.Background(), l.client)
	if err == nil {
		err = coded(resp.ErrorCode, "update features")
	}
	for i := 0; err == nil && i < len(resp.Results); i++ {
		err = coded(resp.Results[i].ErrorCode, "update features")
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Below transaction version 2 the epoch stays the same from one transaction to the next.
func TestSink_conformanceBelowTransactionVersion2(t *testing.T) {
	l := fakeLab(t)
	l.setTransactions(t, 0)
	broken := regexp.MustCompile("^(commit_|crash_|lostReply_|zombie_|lateEffect_|history_)") // what no broken call shows is the same
	for _, c := range sinktest.Cases() {
		if broken.MatchString(c.Name) {
			t.Run(c.Name, func(t *testing.T) { c.Check(t, l.harness()) })
		}
	}
}

func TestSink_conformance(t *testing.T) {
	l := fakeLab(t)
	sinktest.Run(t, l.harness())
}
