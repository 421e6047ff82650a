//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	kafkasink "github.com/ingestd/ingestd/sink/kafka"
)

// sinkCluster is a broker for tests of the sink, which time transactions out.
type sinkCluster struct {
	addr     string
	addrs    []string // of all brokers
	replicas int16    // of topics that are made
	client   *kgo.Client
	admin    *kadm.Client
}

var (
	sinkTopics   atomic.Int64
	sinkClusters = struct {
		sync.Mutex
		addrs map[string]string
	}{addrs: map[string]string{}}
)

// startSinkKafka returns the broker with more settings of its own; each set is started once, and ends with the test binary.
func startSinkKafka(t *testing.T, more map[string]string) *sinkCluster {
	t.Helper()
	sinkClusters.Lock()
	defer sinkClusters.Unlock()
	key := fmt.Sprint(more)
	if sinkClusters.addrs[key] == "" {
		env := map[string]string{"KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "200"}
		maps.Copy(env, more)
		addrs, _ := startKafka(t, kafkaSetup{env: env})
		sinkClusters.addrs[key] = addrs[0]
	}
	return newSinkCluster(t, 1, sinkClusters.addrs[key])
}

func newSinkCluster(t *testing.T, replicas int16, addrs ...string) *sinkCluster {
	t.Helper()
	c := &sinkCluster{addr: addrs[0], addrs: addrs, replicas: replicas}
	var err error
	if c.client, err = kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DisableClientMetrics(), kgo.MetadataMinAge(50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.Close)
	c.admin = kadm.NewClient(c.client)
	c.warm(t)
	return c
}

// warm waits until the broker coordinates transactions: it makes a topic for that at the first one.
func (c *sinkCluster) warm(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; waitABit() {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = new("warm"), 1000, -1, -1
		resp, err := req.RequestWith(context.Background(), c.client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the broker coordinates no transactions: %v", err)
		}
	}
}

// create makes a topic and waits until the broker leads it. Its records are kept, however old their timestamps are.
func (c *sinkCluster) create(tb testing.TB, topic string, partitions int32, policy string) {
	tb.Helper()
	ctx := context.Background()
	if _, err := c.admin.CreateTopic(ctx, partitions, c.replicas, map[string]*string{"cleanup.policy": &policy, "retention.ms": new("-1")}, topic); err != nil {
		tb.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; waitABit() {
		offsets, err := c.admin.ListEndOffsets(ctx, topic)
		if err == nil && offsets.Error() == nil && len(offsets[topic]) == int(partitions) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("topic %s does not come: %v, %v", topic, err, offsets.Error())
		}
	}
}

// remove deletes topics and waits until the broker has forgotten them.
func (c *sinkCluster) remove(tb testing.TB, topics ...string) {
	tb.Helper()
	ctx := context.Background()
	if _, err := c.admin.DeleteTopics(ctx, topics...); err != nil {
		tb.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; waitABit() {
		found, err := c.admin.ListTopics(ctx, topics...)
		if err == nil && !slices.ContainsFunc(topics, found.Has) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("topics %v do not go", topics)
		}
	}
}

// settings are those of a sink on a fresh topic with a ledger of its own.
func (c *sinkCluster) settings(tb testing.TB, partitions int32) kafkasink.Settings {
	tb.Helper()
	topic := fmt.Sprintf("sink-%d-%d", time.Now().UnixNano(), sinkTopics.Add(1))
	c.create(tb, topic, partitions, "delete")
	c.create(tb, topic+"-ledger", 1, "compact")
	return kafkasink.Settings{
		Brokers: c.addrs, Topic: topic, TransactionalIDPrefix: topic, Ledger: &kafkasink.Ledger{Topic: topic + "-ledger"},
		TransactionTimeout: 10 * time.Second,
	}
}

// state is what the coordinator says of a transactional id, "" when it does not know it.
func (c *sinkCluster) state(tb testing.TB, id string) string {
	tb.Helper()
	got, err := c.admin.DescribeTransactions(context.Background(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return got[id].State
}

// wait waits until the state of a transactional id fits.
func (c *sinkCluster) wait(tb testing.TB, id string, fits func(state string) bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; waitABit() {
		state := c.state(tb, id)
		if fits(state) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the transactional id %s stays in the state %q", id, state)
		}
	}
}

func decided(state string) bool { return state != "PrepareCommit" && state != "PrepareAbort" }

// committed reads what a consumer of committed records sees now, up to the last stable offsets, each partition in order.
func (c *sinkCluster) committed(ctx context.Context, topic string) ([]*kgo.Record, error) {
	found, err := c.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	meta := found[topic]
	if meta.Err != nil || len(meta.Partitions) == 0 {
		return nil, fmt.Errorf("topic %s has %d partitions: %w", topic, len(meta.Partitions), meta.Err)
	}
	ends, err := c.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err == nil && len(ends[topic]) != len(meta.Partitions) {
		err = fmt.Errorf("topic %s has %d partitions and %d ends", topic, len(meta.Partitions), len(ends[topic]))
	}
	if err != nil {
		return nil, err
	}
	var all []*kgo.Record
	for p := range meta.Partitions {
		for next, end := int64(0), ends[topic][p].Offset; next < end; {
			records, after, err := c.fetch(ctx, &meta, p, next)
			if err != nil {
				return nil, err
			}
			all, next = append(all, records...), after
		}
	}
	return all, nil
}

// fetch reads once from an offset of a partition, and returns where to go on.
func (c *sinkCluster) fetch(ctx context.Context, meta *kadm.TopicDetail, partition int32, from int64) ([]*kgo.Record, int64, error) {
	const limit = 8 << 20
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = 100, 1, limit, 1, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = meta.Topic, meta.ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, limit
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := c.client.Broker(int(meta.Partitions[partition].Leader)).Request(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	topics := resp.(*kmsg.FetchResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("fetch %s/%d: no answer for it", meta.Topic, partition)
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: meta.Topic, Partition: partition,
	}, &topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return got.Records, next, got.Err
}

// topicID is a topic's ID as Kafka's tools print it.
func (c *sinkCluster) topicID(tb testing.TB, topic string) string {
	tb.Helper()
	found, err := c.admin.ListTopics(context.Background(), topic)
	if err != nil {
		tb.Fatal(err)
	}
	id := found[topic].ID
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// setTransactionVersion sets the cluster's feature.
func (c *sinkCluster) setTransactionVersion(tb testing.TB, version int16) {
	tb.Helper()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", version, 1
	if version < 2 {
		f.UpgradeType = 2
	}
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(context.Background(), c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	for i := 0; err == nil && i < len(resp.Results); i++ {
		err = kerr.ErrorForCode(resp.Results[i].ErrorCode)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// segmentsInMemory is a staging folder.
type segmentsInMemory struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (s *segmentsInMemory) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("segment-%d", len(s.data))
	if s.data == nil {
		s.data = map[string][]byte{}
	}
	s.data[name] = bytes.Clone(data)
	return sink.Segment{Name: name, Bytes: int64(len(data)), Rows: rows, Checksum: xxhash.Sum64(data)}, nil
}

func (s *segmentsInMemory) Get(_ context.Context, g sink.Segment) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[g.Name]
	if !ok {
		return nil, fault.E("segmentsInMemory.Get", fault.Lost, fmt.Errorf("no segment %s", g.Name))
	}
	return bytes.Clone(data), nil
}

// sinkRun is one run of a sink, as the coordinator drives it.
type sinkRun struct {
	tb       testing.TB
	lease    record.Lease
	sink     sink.Sink
	commits  sink.Committer
	writer   sink.Writer
	segments *segmentsInMemory
	number   record.Checkpoint
	state    []byte
}

// runOf says what a run is of.
type runOf struct {
	settings kafkasink.Settings
	lease    record.Lease
	segments *segmentsInMemory
}

var sinkRunSchema = &record.Schema{Fields: []record.Field{
	{Name: "id", Type: record.Type{Kind: record.Int64}},
	{Name: "text", Type: record.Type{Kind: record.String}},
}}

// openSinkRun opens a sink under a lease and restores it. It does not fence.
func openSinkRun(tb testing.TB, of runOf, state []byte, pending ...sink.Committable) (*sinkRun, error) {
	tb.Helper()
	ctx := context.Background()
	p, err := kafkasink.New(of.settings, kafkasink.Encoders{}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	opened, err := p.Open(ctx, sink.Env{
		Identity: sink.Identity{StoreID: "store", Pipeline: "traps", Sink: "sink"}, Lease: of.lease, Segments: of.segments, Tasks: 1,
	})
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { opened.Close() })
	if err := opened.Restore(ctx, state, pending); err != nil {
		return nil, err
	}
	r := &sinkRun{tb: tb, lease: of.lease, sink: opened, commits: opened.Committer(), segments: of.segments, state: state, number: record.Checkpoint(len(pending))}
	for i := range pending {
		r.number = max(r.number, pending[i].Checkpoint)
	}
	return r, nil
}

// startSinkRun opens and fences.
func startSinkRun(tb testing.TB, of runOf, state []byte, pending ...sink.Committable) *sinkRun {
	tb.Helper()
	r, err := openSinkRun(tb, of, state, pending...)
	if err != nil {
		tb.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; waitABit() { // a new broker has no coordinator yet
		err := r.commits.Fence(context.Background())
		if err == nil {
			return r
		}
		if k := fault.KindOf(err); k != fault.Unknown && k != fault.Transient || time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

// transactionalIDOf is what the sink calls itself.
func transactionalIDOf(s kafkasink.Settings) string {
	return s.TransactionalIDPrefix + "/traps/0/sink"
}

// unit prepares rows from one ID to another as the next checkpoint.
func (r *sinkRun) unit(from, to int64) sink.Committable {
	r.tb.Helper()
	ctx := context.Background()
	if r.writer == nil {
		w, err := r.sink.Writer(ctx, 0, sinkRunSchema)
		if err != nil {
			r.tb.Fatal(err)
		}
		r.writer = w
	}
	b := record.NewBatch(sinkRunSchema)
	for id := from; id < to; id++ {
		b.Cols[0].AppendInt(id)
		b.Cols[1].AppendString(fmt.Sprintf("row %d", id))
		b.AppendMeta(record.RowMeta{Offset: record.Offset(id), Timestamp: -1})
	}
	if refused, err := r.writer.Write(ctx, b); err != nil || len(refused) > 0 {
		r.tb.Fatalf("write: %v, %v", refused, err)
	}
	r.number++
	cut := sink.Cut{Lease: r.lease, Checkpoint: r.number}
	part, err := r.writer.Prepare(ctx, cut)
	if err != nil {
		r.tb.Fatal(err)
	}
	a, err := r.sink.Assemble(cut, []sink.Part{part})
	if err != nil || len(a.Committables) != 1 {
		r.tb.Fatalf("assemble: %d committables, %v", len(a.Committables), err)
	}
	r.state = a.State
	return a.Committables[0]
}

// commit asks once.
func (r *sinkRun) commit(c sink.Committable) (sink.Outcome, error) {
	r.tb.Helper()
	outcome, rejected, err := r.commits.Commit(context.Background(), c)
	if len(rejected) > 0 || outcome == sink.Lost || outcome == sink.Rejected || outcome == sink.Retry {
		r.tb.Fatalf("commit answers %s: %v", outcome, err)
	}
	return outcome, err
}

// commitAll asks until it is committed.
func (r *sinkRun) commitAll(all ...sink.Committable) {
	r.tb.Helper()
	for _, c := range all {
		var outcome sink.Outcome
		var err error
		for range 20 {
			if outcome, err = r.commit(c); outcome != sink.Unknown {
				break
			}
			waitABit()
		}
		if outcome != sink.Committed {
			r.tb.Fatalf("checkpoint %d of lease %d under lease %d: %s, %v", c.Checkpoint, c.Lease, r.lease, outcome, err)
		}
	}
}
