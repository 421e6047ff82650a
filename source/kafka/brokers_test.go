package kafka

import (
	"context"
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
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ingestd/ingestd/fault"
)

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
		if diff := cmp.Diff(numbered("v", 0, each*rounds), l.Values(split)); diff != "" {
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
	if diff := cmp.Diff([]string{"meanwhile"}, l.Values("orders/0")); diff != "" {
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
	if diff := cmp.Diff([]string{"second"}, l.Values("orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

// Catching up on many partitions: what has no room in an answer waits for its turn and is not asked for alone.
func TestReader_fullAnswersAreSharedInTurn(t *testing.T) {
	const partitions = 40
	c := cluster(t, kfake.SeedTopics(partitions, "orders"))
	cl := client(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for p := range int32(partitions) {
		produce(t, cl, "orders", p, strings.Repeat("x", 300_000))
	}
	s := settings(c, "orders")
	s.Until, s.FetchBytesMax = untilEnd, 1<<20
	src := newSource(t, s)
	splits := discover(t, src)
	fetches := observe(t, c, kmsg.Fetch)
	places := observe(t, c, kmsg.ListOffsets)
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if count(l) != partitions {
		t.Errorf("got %d records, want %d", count(l), partitions)
	}
	if n := fetches.Hits(); n > 30 {
		t.Errorf("got %d fetches for 12 MB, want about 14", n)
	}
	if n := places.Hits(); n > 0 {
		t.Errorf("got %d questions for offsets, want none: there is no gap", n)
	}
}

// A broker without a way to compare logs is read all the same.
func TestReader_worksWithoutLeaderEpochRequests(t *testing.T) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.OffsetForLeaderEpoch), -1)
	c := cluster(t, kfake.SeedTopics(1, "orders"), kfake.MaxVersions(versions))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 5)...)
	src, splits := boundedSource(t, c, "orders")
	splits[0].Offset, splits[0].LeaderEpoch = 2, 0
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff(numbered("v", 2, 5), l.Values("orders/0")); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

// A broker that answers at once and leaves the partition out is not asked in a loop.
func TestReader_emptyAnswersCauseNoLoop(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	src := newSource(t, settings(c, "orders"))
	splits := discover(t, src)
	var mu sync.Mutex
	asked := 0
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		asked++
		return kreq.ResponseKind(), nil, true
	})
	openReader(t, src, splits, nil)
	if err := pause(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked < 3 || asked > 25 {
		t.Errorf("got %d fetches in a second, want about 20", asked)
	}
}
