package kafka

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// observe counts requests of a key without touching them.
func observe(t *testing.T, c *kfake.Cluster, key kmsg.Key) *kfake.FaultHandle {
	t.Helper()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Observe: true, Count: -1})
	t.Cleanup(h.Remove)
	return h
}

// Records that were deleted before they were read: the reader says which, once for all, and reads nothing behind the gap.
func TestReader_deletedRecordsAreLost(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	splits[0].Offset = 2
	if err := c.DeleteRecords("orders", 0, 6); err != nil {
		t.Fatal(err)
	}
	fetches := observe(t, c, kmsg.Fetch)
	r := openReader(t, src, splits, nil)
	err := pollError(t, r, splits)
	wantFault(t, err, fault.Lost, "orders/0", "records 2 to 5 were deleted")
	if !strings.Contains(fault.RemedyOf(err), "orders/0 = 6") {
		t.Errorf("got the remedy %q, want the offset to go on at", fault.RemedyOf(err))
	}
	if again := pollError(t, r, splits); again == nil {
		t.Error("got no error from the next poll, want the same again")
	}
	if n := fetches.Hits(); n > 3 {
		t.Errorf("got %d fetches, want no loop", n)
	}
}

func TestReader_skipGoesOnBehindDeletedRecordsAndCounts(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	s := settings(c, "orders")
	s.OnLoss = lossSkip
	var log lines
	src := loggingSource(t, s, slog.New(slog.NewTextHandler(&log, nil)))
	splits := discover(t, src)
	splits[0].Offset = 2
	if err := c.DeleteRecords("orders", 0, 6); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, src, splits, nil)
	l := readCount(t, r, splits, 4)
	if diff := cmp.Diff(numbered("v", 6, 10), l.Values("orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	if got := r.Lost(); got != 4 {
		t.Errorf("got %d records lost, want 4", got)
	}
	if !strings.Contains(log.String(), `level=ERROR msg="records lost" split=orders/0 from=2 to=5 records=4`) {
		t.Errorf("got the log %q, want it to say what was lost", log.String())
	}
}

// With a bound inside what was deleted the split ends there, and only what was wanted counts as lost.
func TestReader_skipEndsAtTheBound(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	s := settings(c, "orders")
	s.OnLoss, s.Until = lossSkip, untilEnd
	src := newSource(t, s)
	splits := discover(t, src)
	splits[0].Offset, splits[0].Until = 2, 4
	if err := c.DeleteRecords("orders", 0, 6); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, src, splits, nil)
	l := readAll(t, r, splits)
	if at := l.At["orders/0"].Offset; at != 4 || count(l) != 0 || r.Lost() != 2 {
		t.Errorf("got the position %d, %d records, %d lost; want 4, none, 2", at, count(l), r.Lost())
	}
}

// A position above the log's end, without a leader epoch: never a jump, also with skip, for what is gone was read before.
func TestReader_positionAboveTheEndIsTruncation(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	for _, onLoss := range []string{lossStop, lossSkip} {
		s := settings(c, "orders")
		s.OnLoss = onLoss
		src := newSource(t, s)
		splits := discover(t, src)
		splits[0].Offset, splits[0].LeaderEpoch = 15, record.NoLeaderEpoch
		err := pollError(t, openReader(t, src, splits, nil), splits)
		wantFault(t, err, fault.Lost, "orders/0", "truncated", "ends at offset 10, and the position is 15")
	}
}

// The leader epoch of the position tells of a truncation although the offset is in range. The client library's consumer would
// reset to the log's end by itself.
func TestReader_leaderEpochTellsOfTruncation(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	splits[0].Offset, splits[0].LeaderEpoch = 8, 0
	c.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
		topic.Topic = "orders"
		p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		p.LeaderEpoch, p.EndOffset = req.Topics[0].Partitions[0].LeaderEpoch, 5
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	fetches := observe(t, c, kmsg.Fetch)
	err := pollError(t, openReader(t, src, splits, nil), splits)
	wantFault(t, err, fault.Lost, "orders/0", "leader epoch 0 ends at offset 5", "records 5 to 7")
	if n := fetches.Hits(); n > 0 {
		t.Errorf("got %d fetches, want none before the logs are compared", n)
	}
}

// A position from a leader epoch that the log has not come to is from another log.
func TestReader_epochOfTheFutureIsTruncation(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	splits[0].Offset, splits[0].LeaderEpoch = 8, 7
	err := pollError(t, openReader(t, src, splits, nil), splits)
	wantFault(t, err, fault.Lost, "orders/0", "leader epoch is 0, and the position is from epoch 7")
}

func recreate(t *testing.T, c *kfake.Cluster, topic string) (id string) {
	t.Helper()
	if err := c.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	return topicID(c.TopicInfo(topic).TopicID).String()
}

// A saved position on a recreated topic: offset and epoch fit, and only the ID tells. Nothing of the new topic is read.
func TestReader_recreatedTopicIsLostAtOpen(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("old", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	splits[0].Offset = 5
	before := splits[0].Identity
	after := recreate(t, c, "orders")
	produce(t, client(t, c), "orders", 0, numbered("new", 0, 20)...)
	err := pollError(t, openReader(t, src, splits, nil), splits)
	wantFault(t, err, fault.Lost, "orders/0", before, after)
}

func TestReader_recreatedTopicIsLostWhileReading(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("old", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	readCount(t, r, splits, 10)
	after := recreate(t, c, "orders")
	produce(t, client(t, c), "orders", 0, numbered("new", 0, 20)...)
	fetches := observe(t, c, kmsg.Fetch)
	splits[0].Offset = 10
	err := pollError(t, r, splits)
	wantFault(t, err, fault.Lost, "orders/0", splits[0].Identity, after)
	if n := fetches.Hits(); n > 10 {
		t.Errorf("got %d fetches, want no loop", n)
	}
}

// A deleted topic: the client library's consumer would be silent for ever.
func TestReader_deletedTopicIsLostAfterAWhile(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders", "others"))
	cl := client(t, c)
	produce(t, cl, "orders", 0, "v")
	s := settings(c, "orders", "others")
	src := newSource(t, s)
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	readCount(t, r, splits, 1)
	if err := c.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "others", 0, "goes on")
	begin := time.Now()
	fetches := observe(t, c, kmsg.Fetch)
	splits[0].Offset = 1
	l, err := sourcetest.Collect(t, r, splits, func(*sourcetest.Log) bool { return false })
	wantFault(t, err, fault.Lost, "orders/0", splits[0].Identity)
	if waited := time.Since(begin); waited < s.GoneAfter {
		t.Errorf("got the error after %s, want it after gone_after = %s", waited, s.GoneAfter)
	}
	if diff := cmp.Diff([]string{"goes on"}, l.Values("others/0")); diff != "" {
		t.Errorf("the other topic's records differ (-want +got):\n%s", diff)
	}
	if n := fetches.Hits(); n > 20 {
		t.Errorf("got %d fetches, want no loop", n)
	}
}

// The same codes that a deleted topic causes come for a moment when leaders move: then nothing is lost.
func TestReader_unknownForAMomentGoesOn(t *testing.T) {
	for _, code := range []*kerr.Error{
		kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID, kerr.NotLeaderForPartition, kerr.FencedLeaderEpoch,
		kerr.UnknownLeaderEpoch, kerr.ReplicaNotAvailable, kerr.KafkaStorageError, kerr.OffsetNotAvailable, kerr.UnknownServerError,
	} {
		t.Run(code.Message, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "orders"))
			produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
			s := settings(c, "orders")
			s.Until = untilEnd
			src := newSource(t, s)
			splits := discover(t, src)
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: code, Count: 3})
			defer h.Remove()
			begin := time.Now()
			l := readAll(t, openReader(t, src, splits, nil), splits)
			if diff := cmp.Diff(numbered("v", 0, 10), l.Values("orders/0")); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			if h.Hits() != 3 {
				t.Errorf("got %d failed fetches, want 3", h.Hits())
			}
			if took := time.Since(begin); took < 7*backoffMin {
				t.Errorf("three failures took %s, want a growing pause between them", took)
			}
		})
	}
}

func TestReader_permissionIsMisconfigured(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
	defer h.Remove()
	err := pollError(t, openReader(t, src, splits, nil), splits)
	wantFault(t, err, fault.Misconfigured, "orders/0")
	if fault.RemedyOf(err) == "" {
		t.Error("got no remedy, want the permission that is missing")
	}
}

func TestReader_refusesForeignPositions(t *testing.T) {
	src := newSource(t, settings(cluster(t, kfake.SeedTopics(1, "orders")), "orders"))
	for _, p := range []source.Position{
		{Split: "orders", Offset: 1},
		{Split: "orders/0", Offset: -1},
		{Split: "orders/0", Identity: "not base64!", Offset: 1},
	} {
		_, err := src.Open(t.Context(), []source.Split{{Position: p}}, sourcetest.NewBudget(1))
		if fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%+v: got %v, want it refused", p, err)
		}
	}
}
