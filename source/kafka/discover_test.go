package kafka

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// bounds is a split's start and bound.
type bounds struct{ Start, Until record.Offset }

func boundsOf(splits []source.Split) map[string]bounds {
	all := map[string]bounds{}
	for _, s := range splits {
		all[s.Split] = bounds{s.Offset, s.Until}
	}
	return all
}

// policyCluster has a partition with records, one that was emptied, one that never had a record, and one with an open
// transaction at its end.
func policyCluster(t *testing.T) (c *kfake.Cluster, middle time.Time) {
	t.Helper()
	c = cluster(t, kfake.SeedTopics(4, "orders"))
	cl := client(t, c)
	middle = time.UnixMilli(1_700_000_000_000)
	for i := range 10 {
		at := middle.Add(time.Duration(i-5) * time.Second)
		send(t, cl, &kgo.Record{Topic: "orders", Partition: 0, Timestamp: at, Value: []byte("v")})
	}
	produce(t, cl, "orders", 1, numbered("gone", 0, 7)...)
	if err := c.DeleteRecords("orders", 1, -1); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "orders", 3, numbered("v", 0, 4)...)
	open := client(t, c, kgo.TransactionalID("open"))
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, open, "orders", 3, numbered("open", 0, 3)...)
	return c, middle
}

// Every policy gives numbers, of empty partitions too: a position like -1 would lose what comes before the next start.
func TestSource_resolvesPoliciesToNumbers(t *testing.T) {
	c, middle := policyCluster(t)
	table := map[string]int64{"orders/0": 3, "orders/1": 7, "orders/2": 0, "orders/3": 1}
	cases := []struct {
		name   string
		change func(s *Settings)
		want   map[string]bounds
	}{
		{"earliest", func(*Settings) {}, map[string]bounds{
			"orders/0": {0, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {0, -1},
		}},
		{"latest is the last stable offset", func(s *Settings) { s.Start = startLatest }, map[string]bounds{
			"orders/0": {10, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {4, -1},
		}},
		{"latest of what is not committed", func(s *Settings) { s.Start, s.Isolation = startLatest, readUncommitted }, map[string]bounds{
			"orders/0": {10, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {7, -1},
		}},
		{"timestamp", func(s *Settings) { s.Start, s.StartTimestamp = startTimestamp, middle }, map[string]bounds{
			"orders/0": {5, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {0, -1},
		}},
		{"timestamp between records", func(s *Settings) {
			s.Start, s.StartTimestamp = startTimestamp, middle.Add(time.Millisecond)
		}, map[string]bounds{
			"orders/0": {6, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {0, -1},
		}},
		{"timestamp after all records", func(s *Settings) {
			s.Start, s.StartTimestamp = startTimestamp, time.Now().Add(time.Hour)
		}, map[string]bounds{
			"orders/0": {10, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {4, -1},
		}},
		{"offsets", func(s *Settings) { s.Start, s.StartOffsets = startOffsets, table }, map[string]bounds{
			"orders/0": {3, -1}, "orders/1": {7, -1}, "orders/2": {0, -1}, "orders/3": {1, -1},
		}},
		{"until the end", func(s *Settings) { s.Until = untilEnd }, map[string]bounds{
			"orders/0": {0, 10}, "orders/1": {7, 7}, "orders/2": {0, 0}, "orders/3": {0, 4},
		}},
		{"until a timestamp", func(s *Settings) { s.Until, s.UntilTimestamp = untilTimestamp, middle }, map[string]bounds{
			"orders/0": {0, 5}, "orders/1": {7, 7}, "orders/2": {0, 0}, "orders/3": {0, 0},
		}},
		{"until a timestamp before the start", func(s *Settings) {
			s.Start, s.Until, s.UntilTimestamp = startLatest, untilTimestamp, middle
		}, map[string]bounds{
			"orders/0": {10, 10}, "orders/1": {7, 7}, "orders/2": {0, 0}, "orders/3": {4, 4},
		}},
		{"until offsets", func(s *Settings) { s.Until, s.UntilOffsets = untilOffsets, table }, map[string]bounds{
			"orders/0": {0, 3}, "orders/1": {7, 7}, "orders/2": {0, 0}, "orders/3": {0, 1},
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := settings(c, "orders")
			tc.change(&s)
			splits := discover(t, newSource(t, s))
			if diff := cmp.Diff(tc.want, boundsOf(splits)); diff != "" {
				t.Errorf("positions differ (-want +got):\n%s", diff)
			}
			for _, split := range splits {
				if id := topicID(c.TopicInfo("orders").TopicID).String(); split.Identity != id || id == "" {
					t.Errorf("split %s: got the identity %q, want the topic ID %q", split.Split, split.Identity, id)
				}
			}
		})
	}
}

func TestSource_refusesOffsetsThatAreNotThere(t *testing.T) {
	c, _ := policyCluster(t)
	s := settings(c, "orders")
	s.Start, s.StartOffsets = startOffsets, map[string]int64{"orders/0": 11, "orders/1": 6, "orders/9": 0, "orders/3": 0}
	_, err := newSource(t, s).Discover(t.Context(), nil)
	wantFault(t, err, fault.Misconfigured,
		"orders/0 = 11 is out of range; it has the offsets 0 to 10",
		"orders/1 = 6 is out of range; it has the offsets 7 to 7",
		"orders/2 is missing; it has the offsets 0 to 0",
		"there is no partition orders/9")
	s = settings(c, "orders")
	s.Until, s.UntilOffsets = untilOffsets, map[string]int64{"orders/0": 11}
	_, err = newSource(t, s).Discover(t.Context(), nil)
	wantFault(t, err, fault.Misconfigured, "until_offsets: orders/1 is missing")
}

// A record that arrives between the questions for the end and for the timestamp must not be passed over.
func TestSource_timestampRaceLosesNothing(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c)
	produce(t, cl, "orders", 0, "old")
	s := settings(c, "orders")
	s.Start, s.StartTimestamp = startTimestamp, time.Now().Add(time.Hour)
	// The record comes after the end was told, and the answer for the timestamp is "none".
	asked := 0
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ListOffsetsRequest)
		if asked++; req.Topics[0].Partitions[0].Timestamp > 0 {
			c.SleepControl(func() { produce(t, cl, "orders", 0, "new") })
		}
		return nil, nil, false
	})
	splits := discover(t, newSource(t, s))
	if got := splits[0].Offset; got != 1 || asked < 3 {
		t.Errorf("got the start %d after %d questions, want 1: before the record that arrived", got, asked)
	}
}

func TestSource_findsNewPartitionsAndTopics(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders-a", "payments"))
	cl := client(t, c)
	produce(t, cl, "orders-a", 0, "v")
	s := settings(c)
	s.TopicsRegex, s.Start = "orders-.*", startLatest
	src := newSource(t, s)
	known := discover(t, src)
	if diff := cmp.Diff(map[string]bounds{"orders-a/0": {1, -1}}, boundsOf(known)); diff != "" {
		t.Fatalf("first start differs (-want +got):\n%s", diff)
	}
	if again := discover(t, src, known...); len(again) > 0 {
		t.Errorf("got %v with nothing new, want none", again)
	}
	req := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = "orders-a", 2
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("orders-b", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("not-orders-c", 1, nil); err != nil {
		t.Fatal(err)
	}
	cl.ForceMetadataRefresh()
	eventually(t, "the producer learns of the partition", func() bool {
		return cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders-a", Partition: 1, Value: []byte("first")}).FirstErr() == nil
	})
	produce(t, cl, "orders-b", 0, "first", "second")
	found := discover(t, src, known...)
	want := map[string]bounds{"orders-a/1": {0, -1}, "orders-b/0": {0, -1}} // in spite of start = latest
	if diff := cmp.Diff(want, boundsOf(found)); diff != "" {
		t.Errorf("new splits differ (-want +got):\n%s", diff)
	}
	r := openReader(t, src, known, nil)
	if err := r.Add(t.Context(), found); err != nil {
		t.Fatal(err)
	}
	l := readCount(t, r, append(known, found...), 3)
	if diff := cmp.Diff([]string{"first", "second"}, l.Values("orders-b/0")); diff != "" {
		t.Errorf("records of the new topic differ (-want +got):\n%s", diff)
	}
	if err := r.Add(t.Context(), found[:1]); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("add a split twice: got %v, want it refused", err)
	}
	if src.Bounded() || src.DiscoveryInterval() != time.Minute {
		t.Errorf("got bounded %t and the interval %s, want false and 1m", src.Bounded(), src.DiscoveryInterval())
	}
}

func TestSource_boundedFindsNothingNew(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders-a"))
	s := settings(c)
	s.TopicsRegex, s.Until = "orders-.*", untilEnd
	src := newSource(t, s)
	known := discover(t, src)
	if err := c.CreateTopic("orders-b", 1, nil); err != nil {
		t.Fatal(err)
	}
	if found := discover(t, src, known...); len(found) > 0 {
		t.Errorf("got %v, want none", found)
	}
	if src.DiscoveryInterval() != 0 {
		t.Errorf("got the interval %s, want 0", src.DiscoveryInterval())
	}
}

func TestSource_regexWithoutTopicsIsEmpty(t *testing.T) {
	s := settings(cluster(t, kfake.SeedTopics(1, "orders")))
	s.TopicsRegex = "none.*"
	if found := discover(t, newSource(t, s)); len(found) > 0 {
		t.Errorf("got %v, want none", found)
	}
}

// A topic that was recreated holds other records under the same offsets; only its ID tells.
func TestSource_discoverRefusesRecreatedTopic(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	src := newSource(t, settings(c, "orders"))
	known := discover(t, src)
	before := known[0].Identity
	if err := c.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic("orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	after := topicID(c.TopicInfo("orders").TopicID).String()
	_, err := src.Discover(t.Context(), known)
	wantFault(t, err, fault.Lost, "orders/0", before, after)
	if fault.RemedyOf(err) == "" {
		t.Error("got no remedy, want one")
	}
	// A split that is finished is not read again: its topic may be gone.
	known[0].Finished = true
	if _, err := src.Discover(t.Context(), known); err != nil {
		t.Errorf("with a finished split: got %v, want no error", err)
	}
}

func TestSource_discoverWaitsBeforeATopicIsGone(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	src := newSource(t, settings(c, "orders"))
	known := discover(t, src)
	fault503 := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "orders", Err: kerr.UnknownTopicOrPartition, Count: 2})
	defer fault503.Remove()
	if _, err := src.Discover(t.Context(), known); err != nil {
		t.Errorf("a topic that is missing for a moment: got %v, want no error", err)
	}
	if err := c.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := src.Discover(t.Context(), known)
	wantFault(t, err, fault.Lost, "orders/0", known[0].Identity)
	if waited := time.Since(begin); waited < src.plan.GoneAfter {
		t.Errorf("got the error after %s, want it after gone_after = %s", waited, src.plan.GoneAfter)
	}
	_, err = src.Discover(t.Context(), nil)
	wantFault(t, err, fault.Misconfigured, "the topic orders does not exist")
}

func TestSource_discoverRidesOverTransientErrors(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"))
	src := newSource(t, settings(c, "orders"))
	for _, f := range []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "orders", Err: kerr.LeaderNotAvailable, Count: 2},
		{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "orders", Err: kerr.NotLeaderForPartition, Count: 2},
		{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "orders", Err: kerr.OffsetNotAvailable, Count: 2},
	} {
		h := c.Fault(f)
		if got := discover(t, src); len(got) != 2 {
			t.Errorf("%v: got %d splits, want 2", f.Err, len(got))
		}
		if h.Hits() == 0 {
			t.Errorf("%v: the fault was never met", f.Err)
		}
		h.Remove()
	}
}

// Brokers before Kafka 2.8 have no topic IDs: everything works but the notice of recreated topics.
func TestSource_worksWithoutTopicIDs(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"), kfake.MaxVersions(kversion.V2_4_0()))
	cl := client(t, c)
	produce(t, cl, "orders", 0, numbered("v", 0, 5)...)
	s := settings(c, "orders")
	s.Until = untilEnd
	src := newSource(t, s)
	splits := discover(t, src)
	if splits[0].Identity != "" {
		t.Errorf("got the identity %q, want none", splits[0].Identity)
	}
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff(numbered("v", 0, 5), l.Values("orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	findings := src.Check(t.Context())
	if len(findings) != 1 || findings[0].Level != source.Weakens {
		t.Errorf("got the findings %+v, want one that weakens", findings)
	}
}

func TestNew_refusesBadSettings(t *testing.T) {
	now := time.Now()
	cases := []struct {
		name string
		s    Settings
		want string
	}{
		{"nothing", Settings{}, "brokers: the key is missing"},
		{"no topics", Settings{Brokers: []string{"b"}}, "either topics or topics_regex"},
		{"both", Settings{Brokers: []string{"b"}, Topics: []string{"t"}, TopicsRegex: "t"}, "either topics or topics_regex"},
		{"regex", Settings{Brokers: []string{"b"}, TopicsRegex: "("}, "topics_regex: error parsing regexp"},
		{"timestamp without policy", Settings{StartTimestamp: now}, `start_timestamp: it goes together with start = "timestamp"`},
		{"policy without timestamp", Settings{Start: startTimestamp}, `start_timestamp: it goes together`},
		{"policy without offsets", Settings{Start: startOffsets}, `start_offsets: it goes together`},
		{"bound without timestamp", Settings{Until: untilTimestamp}, `until_timestamp: it goes together`},
		{"offsets without bound", Settings{UntilOffsets: map[string]int64{"a/0": 1}}, `until_offsets: it goes together`},
		{"split name", Settings{Start: startOffsets, StartOffsets: map[string]int64{"a": 1}}, `"a" is not of the form topic/partition`},
		{"negative offset", Settings{Start: startOffsets, StartOffsets: map[string]int64{"a/0": -1}}, "an offset is 0 or more"},
		{"key without cert", Settings{TLS: &TLS{Key: "k"}}, "cert and key go together"},
	}
	for _, c := range cases {
		_, err := New(c.s, quietLog())
		t.Run(c.name, func(t *testing.T) { wantFault(t, err, fault.Misconfigured, c.want) })
	}
}

// A broker that does not answer is told of soon, with the reason, long before Discover gives up.
func TestDiscover_tellsOfBrokersThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		refuse := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		src := loggingSource(t, Settings{Brokers: []string{"broker:9092"}, Topics: []string{"a"}, Dial: refuse}, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := src.Discover(ctx, nil); err == nil {
			t.Fatal("brokers that do not answer tell the topics")
		}
		if !strings.Contains(log.String(), "connection refused") || !strings.Contains(log.String(), "again_in=") {
			t.Errorf("the log says %q", log.String())
		}
	})
}
