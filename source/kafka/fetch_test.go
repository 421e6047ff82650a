package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// boundedSource reads topics to their end.
func boundedSource(t *testing.T, c *kfake.Cluster, topics ...string) (*Source, []source.Split) {
	t.Helper()
	s := settings(c, topics...)
	s.Until = untilEnd
	src := newSource(t, s)
	return src, discover(t, src)
}

// What ends a log need not be a record: a control record, an aborted transaction. The position moves over it to the bound.
func TestReader_finishesOverATailWithoutRecords(t *testing.T) {
	cases := []struct {
		name string
		ends []kgo.TransactionEndTry
		want []string
		end  int64
	}{
		{"control record", []kgo.TransactionEndTry{kgo.TryCommit}, []string{"t0-0", "t0-1"}, 3},
		{"aborted transaction", []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort}, []string{"t0-0", "t0-1"}, 6},
		{"only aborted transactions", []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryAbort}, nil, 6},
		{"aborted in between", []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort, kgo.TryCommit},
			[]string{"t1-0", "t1-1", "t3-0", "t3-1"}, 12},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "orders"))
			cl := client(t, c, kgo.TransactionalID("t"))
			for i, end := range tc.ends {
				transaction(t, cl, end, "orders", 0, numbered(fmt.Sprintf("t%d", i), 0, 2)...)
			}
			src, splits := boundedSource(t, c, "orders")
			if int64(splits[0].Until) != tc.end {
				t.Fatalf("got the bound %d, want %d", splits[0].Until, tc.end)
			}
			l := readAll(t, openReader(t, src, splits, nil), splits)
			if diff := cmp.Diff(tc.want, values(l, "orders/0")); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			if at := int64(l.At["orders/0"].Offset); at != tc.end {
				t.Errorf("got the position %d at the end, want %d", at, tc.end)
			}
		})
	}
}

// An unbounded reader reports the same as progress without records, so that positions and lag move.
func TestReader_reportsProgressWithoutRecords(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c, kgo.TransactionalID("t"))
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	transaction(t, cl, kgo.TryAbort, "orders", 0, "a", "b")
	l, err := collect(t, r, splits, func(l *sourcetest.Log) bool { return l.At["orders/0"].Offset == 3 })
	if err != nil || count(l) > 0 {
		t.Errorf("got %d records, %v, want only progress to 3", count(l), err)
	}
}

// Aborted records are there with read_uncommitted.
func TestReader_readUncommittedReadsAll(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c, kgo.TransactionalID("t"))
	transaction(t, cl, kgo.TryAbort, "orders", 0, "aborted")
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "orders", 0, "open")
	s := settings(c, "orders")
	s.Isolation, s.Until = readUncommitted, untilEnd
	src := newSource(t, s)
	splits := discover(t, src)
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff([]string{"aborted", "open"}, values(l, "orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

// emptyFrom makes the cluster answer fetches from an offset on as a broker does whose log has nothing left there: without
// records, without an error.
func emptyFrom(c *kfake.Cluster, offset, end int64) {
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if len(req.Topics) != 1 || req.Topics[0].Partitions[0].FetchOffset < offset {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset, p.LogStartOffset = end, end, 0
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

// The end of the log was compacted away: no answer ever moves the position, and the bound is behind it.
func TestReader_finishesOverACompactedTail(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c)
	produce(t, cl, "orders", 0, numbered("v", 0, 3)...)
	produce(t, cl, "orders", 0, numbered("compacted", 0, 4)...)
	src, splits := boundedSource(t, c, "orders")
	emptyFrom(c, 3, 7)
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff(numbered("v", 0, 3), values(l, "orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	if at := l.At["orders/0"].Offset; at != 7 {
		t.Errorf("got the position %d, want 7", at)
	}
}

// With tiered storage an empty answer proves nothing: the records may be elsewhere. The position stays.
func TestReader_emptyAnswerOfTieredStorageIsNoGap(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c)
	produce(t, cl, "orders", 0, numbered("v", 0, 3)...)
	produce(t, cl, "orders", 0, numbered("tiered", 0, 4)...)
	src, splits := boundedSource(t, c, "orders")
	emptyFrom(c, 3, 7)
	asked := make(chan struct{}, 100)
	c.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.ListOffsetsRequest)
		if req.Topics[0].Partitions[0].Timestamp != atLocalStart {
			return nil, nil, false
		}
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = req.Topics[0].Topic
		p := kmsg.NewListOffsetsResponseTopicPartition()
		p.Offset = 5
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		asked <- struct{}{}
		return resp, nil, true
	})
	r := openReader(t, src, splits, nil)
	readCount(t, r, splits, 3)
	<-asked
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if f, err := r.Poll(ctx); err != nil || f.Next.Split != "" {
		t.Errorf("got %+v, %v, want nothing", f.Next, err)
	}
}

// A gap in the middle, as compaction leaves it.
func TestReader_readsACompactedLog(t *testing.T) {
	c := cluster(t)
	if err := c.CreateTopic("orders", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	cl := client(t, c)
	for i := range 50 {
		send(t, cl, &kgo.Record{Topic: "orders", Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)},
			&kgo.Record{Topic: "orders", Key: []byte("same"), Value: fmt.Append(nil, "same", i)})
	}
	c.Compact()
	src, splits := boundedSource(t, c, "orders")
	l := readAll(t, openReader(t, src, splits, nil), splits)
	got := l.Records["orders/0"]
	if len(got) < 8 || len(got) > 20 {
		t.Errorf("got %d records, want about 9: each key's last", len(got))
	}
	if last := got[len(got)-1]; last.Value != "same49" {
		t.Errorf("got the last record %+v, want same49", last)
	}
	if at := l.At["orders/0"].Offset; at != 100 {
		t.Errorf("got the position %d, want 100", at)
	}
}

// Leaders move all the time while a writer writes; nothing is lost, doubled or out of order.
func TestReader_leaderMovesLoseNothing(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "orders"))
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	cl := client(t, c)
	const each, rounds = 20, 15
	var work sync.WaitGroup
	work.Go(func() {
		for round := range rounds {
			for p := range int32(4) {
				if err := c.MoveTopicPartition("orders", p, int32(round)%3); err != nil {
					t.Error(err)
				}
				for i := range each {
					text := fmt.Appendf(nil, "v-%d", round*each+i)
					cl.Produce(t.Context(), &kgo.Record{Topic: "orders", Partition: p, Value: text}, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
			}
			if err := cl.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	l := readCount(t, r, splits, 4*each*rounds)
	work.Wait()
	for p := range 4 {
		split := fmt.Sprintf("orders/%d", p)
		if diff := cmp.Diff(numbered("v", 0, each*rounds), values(l, split)); diff != "" {
			t.Errorf("split %s: records differ (-want +got):\n%s", split, diff)
		}
		if epoch := l.At[split].LeaderEpoch; epoch < 1 {
			t.Errorf("split %s: got the leader epoch %d, want that of the last leader", split, epoch)
		}
	}
	if why := r.Waiting(); why != "" {
		t.Errorf("got Waiting %q, want none", why)
	}
}

// network is a way to the cluster that can be cut.
type network struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn
	dials int
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	if n.down {
		return nil, errors.New("no route to host")
	}
	conn, err := new(net.Dialer).DialContext(ctx, kind, address)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for _, conn := range n.conns {
		conn.Close()
	}
	n.conns = nil
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}

func (n *network) tries() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// The brokers are away for a while: the reader says so, tries again with growing pauses, and goes on where it was.
func TestReader_brokerDownIsWaitedForVisibly(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"))
	cl := client(t, c)
	produce(t, cl, "orders", 0, "before")
	var way network
	s := settings(c, "orders")
	s.Dial = way.dial
	src := newSource(t, s)
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	readCount(t, r, splits, 1)
	way.cut()
	produce(t, cl, "orders", 0, "meanwhile")
	eventually(t, "the reader says why it waits", func() bool { return strings.Contains(r.Waiting(), "no route to host") })
	if why := r.Waiting(); !strings.Contains(why, "orders/") {
		t.Errorf("got Waiting %q, want the split in it", why)
	}
	before := way.tries()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if f, err := r.Poll(ctx); err != nil || f.Next.Split != "" {
		t.Errorf("poll while the brokers are away: got %+v, %v, want nothing", f.Next, err)
	}
	if n := way.tries() - before; n > 40 {
		t.Errorf("got %d dials in a second, want a pause between them", n)
	}
	way.mend()
	splits[0].Offset = 1
	l := readCount(t, r, splits, 1)
	if diff := cmp.Diff([]string{"meanwhile"}, values(l, "orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	eventually(t, "the reader waits no more", func() bool { return r.Waiting() == "" })
}

func TestSource_discoverIsTransientWhileBrokersAreAway(t *testing.T) {
	way := network{down: true}
	s := Settings{Brokers: []string{"localhost:1"}, Topics: []string{"orders"}, Dial: way.dial}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := newSource(t, s).Discover(ctx, nil)
	wantFault(t, err, fault.Transient, "no route to host")
}

// An idle reader asks rarely: it lets the broker wait.
func TestReader_idleIsQuiet(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(8, "orders"))
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	fetches := observe(t, c, kmsg.Fetch)
	r := openReader(t, src, splits, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if f, err := r.Poll(ctx); err != nil || f.Next.Split != "" {
		t.Errorf("got %+v, %v, want nothing", f.Next, err)
	}
	if n := fetches.Hits(); n < 2 || n > 6 {
		t.Errorf("got %d fetches in 2 s, want one in %s", n, fetchWait)
	}
}

// A busy split next to an idle one: it must not wait for the broker that waits for news of the idle one, each time that its
// queue was full.
func TestReader_idleSplitDoesNotSlowABusyOne(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000000"}))
	cl := client(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	text := strings.Repeat("x", 100_000)
	const records = 640 // 64 MB
	for i := 0; i < records; i += 8 {
		produce(t, cl, "orders", 0, slices.Repeat([]string{text}, 8)...)
	}
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	begin := time.Now()
	n := 0
	for n < records {
		f, err := r.Poll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 { // let the queue fill up
			eventually(t, "the queue is full", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.mu.queued >= splitQueueBytes
			})
		}
		n += len(f.Rows)
		if f.Release != nil {
			f.Release()
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("64 MB took %s, want less than 5s", took)
	}
}

// While a split is held back, the broker is asked for the others, but not without a pause.
func TestReader_heldSplitCausesNoLoop(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"))
	cl := client(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 30 {
		produce(t, cl, "orders", 0, strings.Repeat("x", 500_000))
	}
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	eventually(t, "the queue is full", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.queued >= splitQueueBytes
	})
	fetches := observe(t, c, kmsg.Fetch)
	if err := pause(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if n := fetches.Hits(); n < 5 || n > 30 {
		t.Errorf("got %d fetches in a second, want about 20: one each %s", n, heldRest)
	}
	produce(t, cl, "orders", 1, "other")
	readCount(t, r, splits, 31)
}

// alter changes what the cluster answers to fetches, as often as f says so.
func alter(t *testing.T, c *kfake.Cluster, f func(resp *kmsg.FetchResponse) bool) {
	t.Helper()
	side := client(t, c)
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, ok := kreq.(*kmsg.FetchRequest)
		if !ok || req.MinBytes == 77 { // the question below
			return nil, nil, false
		}
		again := *req
		again.MinBytes, again.MaxWaitMillis = 77, 1
		var resp kmsg.Response
		var err error
		c.SleepControl(func() { resp, err = side.Broker(0).Request(context.Background(), &again) })
		if err != nil {
			return nil, nil, false
		}
		return resp, nil, f(resp.(*kmsg.FetchResponse))
	})
}

// Bytes that fail their check once were damaged on the way: they are fetched again. Three times in a row they are corrupt
// where they are.
func TestReader_checksEveryBatch(t *testing.T) {
	for _, times := range []int{2, 1000} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "orders"))
			cl := client(t, c)
			produce(t, cl, "orders", 0, numbered("first", 0, 3)...)
			produce(t, cl, "orders", 0, numbered("second", 0, 3)...)
			src, splits := boundedSource(t, c, "orders")
			left := times
			alter(t, c, func(resp *kmsg.FetchResponse) bool {
				batches := resp.Topics[0].Partitions[0].RecordBatches
				if left--; left < 0 || len(batches) == 0 {
					return false
				}
				batches[len(batches)-1] ^= 1
				return true
			})
			r := openReader(t, src, splits, nil)
			l, err := collect(t, r, splits, allFinished(splits))
			if times == 2 {
				if err != nil {
					t.Fatalf("damaged on the way: got %v, want no error", err)
				}
				want := append(numbered("first", 0, 3), numbered("second", 0, 3)...)
				if diff := cmp.Diff(want, values(l, "orders/0")); diff != "" {
					t.Errorf("records differ (-want +got):\n%s", diff)
				}
				return
			}
			wantFault(t, err, fault.Corrupt, "orders/0", "offset 3", "CRC-32C")
			if diff := cmp.Diff(numbered("first", 0, 3), values(l, "orders/0")); diff != "" {
				t.Errorf("records before the corrupt ones differ (-want +got):\n%s", diff)
			}
		})
	}
}

// An answer that is cut in the middle of a batch, as brokers cut it, gives the whole batches.
func TestReader_cutBatchIsFetchedAgain(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c)
	for i := range 20 {
		produce(t, cl, "orders", 0, numbered(fmt.Sprint(i), 0, 3)...)
	}
	src, splits := boundedSource(t, c, "orders")
	cuts := 0
	alter(t, c, func(resp *kmsg.FetchResponse) bool {
		p := &resp.Topics[0].Partitions[0]
		if len(p.RecordBatches) < 200 {
			return false
		}
		// The first batch and a part of the next.
		first := int(binary.BigEndian.Uint32(p.RecordBatches[lengthAt:])) + lengthSpan
		p.RecordBatches = p.RecordBatches[:first+1+cuts*7]
		cuts++
		return true
	})
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if count(l) != 60 || cuts < 10 {
		t.Errorf("got %d records over %d cut answers, want 60 over many", count(l), cuts)
	}
}

// A broker that offers a replica in our rack is followed there, and back when the replica fails.
func TestReader_readsFromThePreferredReplica(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "orders"))
	if err := c.MoveTopicPartition("orders", 0, 0); err != nil {
		t.Fatal(err)
	}
	c.SetFollowers("orders", 0, []int32{1})
	cl := client(t, c)
	produce(t, cl, "orders", 0, "first")
	s := settings(c, "orders")
	s.Rack = "r1"
	src := newSource(t, s)
	splits := discover(t, src)
	served := map[int32]int{}
	var mu sync.Mutex
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		mu.Lock()
		served[c.CurrentNode()]++
		mu.Unlock()
		if c.CurrentNode() != 0 || req.Rack != "r1" {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		p.PreferredReadReplica, p.HighWatermark, p.LastStableOffset = 1, 1, 1
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	r := openReader(t, src, splits, nil)
	readCount(t, r, splits, 1)
	mu.Lock()
	leader := served[0]
	if leader == 0 || served[1] == 0 {
		t.Errorf("got %v fetches by broker, want some at the leader and some at the follower", served)
	}
	mu.Unlock()
	// A follower that is behind says out of range: the leader decides.
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Nodes: []int32{1}, Topic: "orders", Err: kerr.OffsetOutOfRange, Count: 1})
	defer h.Remove()
	eventually(t, "the leader is asked again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return served[0] > leader
	})
	produce(t, cl, "orders", 0, "second")
	splits[0].Offset = 1
	l := readCount(t, r, splits, 1)
	if diff := cmp.Diff([]string{"second"}, values(l, "orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

func TestReader_lagCountsRecordsAndSeconds(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders"))
	cl := client(t, c)
	old := time.Now().Add(-time.Hour)
	for i := range 10 {
		send(t, cl, &kgo.Record{Topic: "orders", Partition: 0, Timestamp: old, Value: fmt.Append(nil, i)})
	}
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	eventually(t, "both splits were seen", func() bool {
		lags := r.Lag()
		return lags[0].Records == 10 && lags[1].Records == 0
	})
	lags := r.Lag()
	if lags[0].Seconds < 3600 || lags[0].Seconds > 3660 {
		t.Errorf("got a lag of %f s, want an hour", lags[0].Seconds)
	}
	if lags[1].Seconds != 0 {
		t.Errorf("got a lag of %f s of an empty split, want 0", lags[1].Seconds)
	}
	readCount(t, r, splits, 10)
	if lag := r.Lag()[0]; lag.Records != 0 || lag.Seconds != 0 {
		t.Errorf("got the lag %+v at the end, want 0", lag)
	}
}

// What was fetched before a failure is handed out before the failure.
func TestReader_handsOutWhatCameBeforeAFailure(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 3)...)
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	r := openReader(t, src, splits, nil)
	eventually(t, "records are queued", func() bool { return r.Lag()[0].Seconds >= 0 })
	recreate(t, c, "orders")
	eventually(t, "the reader failed", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.err != nil
	})
	l, err := collect(t, r, splits, func(*sourcetest.Log) bool { return false })
	wantFault(t, err, fault.Lost, "orders/0")
	if count(l) != 3 {
		t.Errorf("got %d records before the failure, want 3", count(l))
	}
}

func TestReader_pollAfterCloseIsRefused(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	src := newSource(t, settings(c, "orders"))
	r, err := src.Open(t.Context(), discover(t, src), sourcetest.NewBudget(unlimited))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Poll(t.Context()); err == nil {
		t.Error("got no error, want one")
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = src.Discover(t.Context(), nil)
	wantFault(t, err, fault.Misconfigured, "the source is closed")
}
