//go:build integration

package integration

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// The suite on a real broker: all codecs, aborted transactions inside and at the end, control records, an empty partition.
func TestKafkaSource_conforms(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 3, "conforms", nil)
	split := func(p int32) string { return fmt.Sprintf("%s/%d", topic, p) }
	want := map[string][]sourcetest.Record{split(0): nil, split(1): nil, split(2): nil}
	for n, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		cl := kafkaWriter(t, k.addr, kgo.ProducerBatchCompression(codec))
		var records []*kgo.Record
		for i := range 300 {
			r := &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "%d %s", n, strings.Repeat("v", i))}
			if i%10 == 3 {
				r.Value = nil
			}
			records = append(records, r)
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			want[split(0)] = append(want[split(0)], sourcetest.Record{
				Offset: record.Offset(r.Offset), Key: string(r.Key), Value: string(r.Value), Null: r.Value == nil,
			})
		}
	}
	tx := kafkaWriter(t, k.addr, kgo.TransactionalID(topic))
	for i := range 12 {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		records := recordsOf(topic, fmt.Sprint("t", i), 4)
		for _, r := range records {
			r.Partition = 2
		}
		if err := tx.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		committed := i%3 == 0
		if err := tx.EndTransaction(t.Context(), kgo.TransactionEndTry(committed)); err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if committed {
				want[split(2)] = append(want[split(2)], sourcetest.Record{Offset: record.Offset(r.Offset), Value: string(r.Value)})
			}
		}
	}
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t *testing.T) source.Source {
			t.Helper()
			src, err := kafka.New(kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}, Until: "end"}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return src
		},
		Want:     want,
		Capacity: 6 << 20,
	})
}

// Everything before the bound is compacted away after the bound was resolved: the split finishes all the same.
func TestKafkaSource_finishesOverACompactedGap(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "compacted", map[string]string{
		"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0",
		"min.compaction.lag.ms": "0", "max.compaction.lag.ms": "500",
	})
	keyed := func(key string, value []byte) *kgo.Record {
		return &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	}
	k.send(t, keyed("stays", []byte("1")))
	for i := range 20 {
		k.send(t, keyed(fmt.Sprint(i%5), []byte("old")))
	}
	for i := range 5 {
		k.send(t, keyed(fmt.Sprint(i), nil))
	}
	src := kafkaSource(t, kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}, Until: "end"})
	splits := discoverAll(t, src)
	if splits[0].Until != 26 {
		t.Fatalf("got the bound %d, want 26", splits[0].Until)
	}
	// Segments are rolled by what comes behind the bound, until the cleaner has removed all but the first record.
	untilTrue(t, "the log is compacted", func() bool {
		k.send(t, keyed("ticks", []byte("t")))
		l, err := sourcetest.Collect(t, openSource(t, src, splits), splits, finished)
		if err != nil {
			t.Fatal(err)
		}
		if at := l.At[topic+"/0"].Offset; at != 26 {
			t.Fatalf("got the position %d, want the bound 26", at)
		}
		return len(l.Records[topic+"/0"]) == 1
	})
	l, err := sourcetest.Collect(t, openSource(t, src, splits), splits, finished)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1"}, l.Values(topic+"/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	// From inside the gap.
	splits[0].Offset = 10
	if l, err = sourcetest.Collect(t, openSource(t, src, splits), splits, finished); err != nil || len(l.Records) > 0 {
		t.Errorf("from inside the gap: got %v, %v, want no record", l.Records, err)
	}
}

// A recreated topic holds other records under the same offsets. It is found at the start, at open and while reading.
func TestKafkaSource_recreatedTopicIsLost(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "recreated", nil)
	k.send(t, recordsOf(topic, "old", 10)...)
	src := kafkaSource(t, kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}})
	splits := discoverAll(t, src)
	r := openSource(t, src, splits)
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return len(l.Records[topic+"/0"]) == 10 })
	if err != nil {
		t.Fatal(err)
	}
	saved := slices.Clone(splits)
	saved[0].Position = l.At[topic+"/0"]
	saved[0].Offset = 5
	id := k.recreate(t, topic)
	newTopics(t).send(t, recordsOf(topic, "new", 20)...) // the old client knows the old ID
	splits[0].Position = l.At[topic+"/0"]
	_, err = sourcetest.Collect(t, r, splits, never)
	wantLost(t, err, topic+"/0", saved[0].Identity, id)
	_, err = sourcetest.Collect(t, openSource(t, src, saved), saved, never)
	wantLost(t, err, topic+"/0", saved[0].Identity, id)
	_, err = src.Discover(t.Context(), saved)
	wantLost(t, err, topic+"/0", saved[0].Identity, id)
}

// A topic that is deleted while it is read is lost after gone_after, not before.
func TestKafkaSource_deletedTopicIsLost(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "deleted", nil)
	k.send(t, recordsOf(topic, "v", 3)...)
	src := kafkaSource(t, kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}, GoneAfter: 2 * time.Second})
	splits := discoverAll(t, src)
	r := openSource(t, src, splits)
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return len(l.Records[topic+"/0"]) == 3 })
	if err != nil {
		t.Fatal(err)
	}
	splits[0].Position = l.At[topic+"/0"]
	begin := time.Now()
	if _, err := k.adm.DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	_, err = sourcetest.Collect(t, r, splits, never)
	wantLost(t, err, topic+"/0", splits[0].Identity)
	if waited := time.Since(begin); waited < 2*time.Second {
		t.Errorf("got the error after %s, want it after gone_after = 2s", waited)
	}
}

// Records that were deleted before they were read stop the reader, or are passed over and counted. A position above the end
// and one from a leader epoch that the log never had are truncations.
func TestKafkaSource_offsetsThatAreGone(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "gone", nil)
	k.send(t, recordsOf(topic, "v", 10)...)
	settings := kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}}
	src := kafkaSource(t, settings)
	splits := discoverAll(t, src)
	splits[0].Offset = 2
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 6, -1)
	if _, err := k.adm.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	_, err := sourcetest.Collect(t, openSource(t, src, splits), splits, never)
	wantLost(t, err, "records 2 to 5 were deleted")
	settings.OnLoss = "skip"
	r := openSource(t, kafkaSource(t, settings), splits)
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return len(l.Records[topic+"/0"]) == 4 })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"v-6", "v-7", "v-8", "v-9"}, l.Values(topic+"/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	if counter, ok := r.(source.LossCounter); !ok || counter.Lost() != 4 {
		t.Errorf("got the reader %T, want one that counted 4 lost records", r)
	}
	splits[0].Offset, splits[0].LeaderEpoch = 15, record.NoLeaderEpoch
	_, err = sourcetest.Collect(t, openSource(t, src, splits), splits, never)
	wantLost(t, err, "ends at offset 10, and the position is 15")
	splits[0].LeaderEpoch = 0
	_, err = sourcetest.Collect(t, openSource(t, src, splits), splits, never)
	wantLost(t, err, "truncated", "epoch 0 ends at offset 10")
	splits[0].Offset, splits[0].LeaderEpoch = 8, 7
	_, err = sourcetest.Collect(t, openSource(t, src, splits), splits, never)
	wantLost(t, err, "the position is from epoch 7")
}

// An open transaction holds back what follows it; the end is the last stable offset, and the reader names who.
func TestKafkaSource_openTransaction(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "open", nil)
	k.send(t, recordsOf(topic, "v", 3)...)
	tx := kafkaWriter(t, k.addr, kgo.TransactionalID("holder-"+topic), kgo.TransactionTimeout(5*time.Minute))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(t.Context(), recordsOf(topic, "open", 2)...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	settings := kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}, Start: "latest"}
	if at := discoverAll(t, kafkaSource(t, settings))[0].Offset; at != 3 {
		t.Errorf("got the end %d, want the last stable offset 3", at)
	}
	settings.Start = "earliest"
	src := kafkaSource(t, settings)
	splits := discoverAll(t, src)
	r := openSource(t, src, splits)
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return len(l.Records[topic+"/0"]) == 3 })
	if err != nil {
		t.Fatal(err)
	}
	untilTrue(t, "the transaction is named", func() bool {
		return strings.Contains(r.Waiting(), fmt.Sprintf("the open transaction %q", "holder-"+topic))
	})
	if why := r.Waiting(); !strings.Contains(why, "state Ongoing") || !strings.Contains(why, "holds back 2 records from offset 3 on") {
		t.Errorf("got Waiting %q, want state and records", why)
	}
	if err := tx.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	splits[0].Position = l.At[topic+"/0"]
	l, err = sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return l.At[topic+"/0"].Offset == 6 })
	if err != nil || len(l.Records) > 0 {
		t.Errorf("after the abort: got %v, %v, want progress to 6 without records", l.Records, err)
	}
}

// The mirror is seen by Kafka's own tools; a group with a member, of either protocol, is refused.
func TestKafkaSource_mirrorsPositions(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 1, "mirror", nil)
	k.send(t, recordsOf(topic, "v", 3)...)
	settings := kafka.Settings{Brokers: []string{k.addr}, Topics: []string{topic}, GroupMirror: "mirror-" + topic}
	src := kafkaSource(t, settings)
	splits := discoverAll(t, src)
	splits[0].Offset = 2
	if err := src.Committed(t.Context(), []source.Position{splits[0].Position}); err != nil {
		t.Fatal(err)
	}
	got, err := k.adm.FetchOffsets(t.Context(), settings.GroupMirror)
	if at, ok := got.Lookup(topic, 0); err != nil || !ok || at.At != 2 {
		t.Errorf("got %v, %v, want the offset 2", at, err)
	}
	for name, opts := range map[string][]kgo.Opt{
		"classic": nil, "modern": {kgo.WithContext(context.WithValue(t.Context(), "opt_in_kafka_next_gen_balancer_beta", true))}, //nolint:staticcheck // the client's key
	} {
		group := name + "-" + topic
		member := kafkaWriter(t, k.addr, append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		ctx, cancel := context.WithTimeout(t.Context(), sourcePatience)
		if fetches := member.PollFetches(ctx); fetches.NumRecords() == 0 {
			t.Fatalf("%s: the member reads nothing: %v", name, fetches.Err())
		}
		cancel()
		settings.GroupMirror = group
		_, err := kafkaSource(t, settings).Discover(t.Context(), nil)
		if fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), "has 1 members") {
			t.Errorf("%s: got %v, want the group refused", name, err)
		}
	}
}

// A broker that restarts: the reader waits, visibly, compares logs with the new leader epoch, and goes on where it was.
func TestKafkaSource_brokerRestarts(t *testing.T) {
	addr, broker := kafkaServer(t)
	k := newTopics(t)
	topic := k.create(t, 4, "restarts", nil)
	want := map[string][]string{}
	write := func(prefix string) {
		for p := range int32(4) {
			records := recordsOf(topic, prefix, 50)
			for _, r := range records {
				r.Partition = p
				split := fmt.Sprintf("%s/%d", topic, p)
				want[split] = append(want[split], string(r.Value))
			}
			k.send(t, records...)
		}
	}
	write("before")
	src := kafkaSource(t, kafka.Settings{Brokers: []string{addr}, Topics: []string{topic}})
	splits := discoverAll(t, src)
	r := openSource(t, src, splits)
	count := func(n int) func(l *sourcetest.Log) bool {
		return func(l *sourcetest.Log) bool {
			all := 0
			for _, records := range l.Records {
				all += len(records)
			}
			return all == n
		}
	}
	l, err := sourcetest.Collect(t, r, splits, count(200))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	note := func(l *sourcetest.Log) {
		for split := range l.Records {
			got[split] = append(got[split], l.Values(split)...)
		}
		for i := range splits {
			splits[i].Position = l.At[splits[i].Split]
		}
	}
	note(l)
	old := slices.Clone(splits)
	before := splits[0].LeaderEpoch
	hard := time.Duration(0)
	if err := broker.Stop(t.Context(), &hard); err != nil {
		t.Fatal(err)
	}
	untilTrue(t, "the reader says that it waits", func() bool { return r.Waiting() != "" })
	t.Logf("waiting: %s", r.Waiting())
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	write("after")
	if l, err = sourcetest.Collect(t, r, splits, count(200)); err != nil {
		t.Fatal(err)
	}
	note(l)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	if after := splits[0].LeaderEpoch; after <= before {
		t.Errorf("got the leader epoch %d after %d, want a newer one", after, before)
	}
	if why := r.Waiting(); why != "" {
		t.Errorf("got Waiting %q at the end, want none", why)
	}
	// A position from before the restart is good, and one that claims the old epoch for what came later is not.
	if _, err := sourcetest.Collect(t, openSource(t, src, old), old, count(200)); err != nil {
		t.Errorf("from positions before the restart: %v", err)
	}
	splits[0].LeaderEpoch = before
	_, err = sourcetest.Collect(t, openSource(t, src, splits[:1]), splits[:1], never)
	wantLost(t, err, "truncated", "ends at offset 50, and the position is 100")
}
