package kafka

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// produceRaw writes ready batches to partition 0 of a topic.
func produceRaw(t *testing.T, c *kfake.Cluster, topic string, batches ...[]byte) {
	t.Helper()
	cl := client(t, c)
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	reqTopic := kmsg.NewProduceRequestTopic()
	reqTopic.Topic, reqTopic.TopicID = topic, c.TopicInfo(topic).TopicID
	reqTopic.Partitions = append(reqTopic.Partitions, kmsg.NewProduceRequestTopicPartition())
	req.Topics = append(req.Topics, reqTopic)
	for _, raw := range batches {
		req.Topics[0].Partitions[0].Records = raw
		kresp, err := cl.Broker(int(c.LeaderFor(topic, 0))).Request(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if err := coded(kresp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, "produce"); err != nil {
			t.Fatal(err)
		}
	}
}

// compressibleBatch returns a batch of records with 300 bytes that compress to almost nothing.
func compressibleBatch(t *testing.T, n int) []byte {
	t.Helper()
	b := testBatch{lastDelta: -1, attributes: 4, producer: -1, records: make([]testRecord, n)}
	value := []byte(strings.Repeat("very compressible ", 20)[:300])
	for i := range b.records {
		b.records[i] = testRecord{delta: int64(i), value: value}
	}
	raw := b.encode(t)
	// As an idempotent producer does not write it.
	for at := producerAt; at < countAt; at++ {
		raw[at] = 0xff
	}
	return seal(raw)
}

// 120 MB of records in less than 1 MB of answers: the client library's own limits would let all of it in. Here the budget is
// the bound, of what is counted and, but for the slack, of what is held.
func TestReader_compressedRecordsKeepTheBudget(t *testing.T) {
	const batches, each, capacity = 40, 10_000, 24 << 20
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produceRaw(t, c, "orders", slices.Repeat([][]byte{compressibleBatch(t, each)}, batches)...)
	if size := c.PartitionInfo("orders", 0).NumBytes; size > 1<<20 {
		t.Fatalf("the log has %d bytes, want less than 1 MiB", size)
	}
	src, splits := boundedSource(t, c, "orders")
	budget := sourcetest.NewBudget(capacity)
	before := heap()
	r := openReader(t, src, splits, budget)
	// Nobody polls: the reader stops where the queue is full.
	eventually(t, "the reader stops", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.mu.queued >= splitQueueBytes && !r.mu.splits[0].busy || r.mu.blocked > 0
	})
	next := record.Offset(0)
	var held []source.Fetch
	most := uint64(0)
	for next < batches*each {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		f, err := r.Poll(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if f.Next.Split == "" { // as a rule, the budget is used up by what is held here
			if budget.Waiters() == 0 {
				continue
			}
			most = max(most, heap())
			if budget.Used() < capacity/2 {
				t.Fatalf("the reader waits with %d of %d bytes in use", budget.Used(), capacity)
			}
			for _, f := range held {
				f.Release()
			}
			held = nil
			continue
		}
		for _, row := range f.Rows {
			if row.Offset != next || len(row.Value) != 300 {
				t.Fatalf("got %d bytes at the offset %d, want 300 at %d", len(row.Value), row.Offset, next)
			}
			next++
		}
		held = append(held, f)
	}
	for _, f := range held {
		f.Release()
	}
	if peak := budget.Peak(); peak > capacity || peak < capacity/2 {
		t.Errorf("got a peak of %d bytes, want at most %d, and most of it", peak, capacity)
	}
	// The slack: an answer, a piece, a batch of 3 MB, what the pools keep of pieces that were given back, and what the fake
	// cluster, which is in the same process, holds for its answers.
	const slack = 24 << 20
	if most > before+capacity+slack {
		t.Errorf("got %d bytes of heap above the start, want at most the budget of %d and the slack of %d", most-before, capacity, slack)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if budget.Used() != 0 {
		t.Errorf("got %d bytes in use at the end, want 0", budget.Used())
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A batch far larger than the whole budget still passes, piece by piece.
func TestReader_batchLargerThanTheBudgetPasses(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produceRaw(t, c, "orders", compressibleBatch(t, 60_000)) // 18 MB
	src, splits := boundedSource(t, c, "orders")
	budget := sourcetest.NewBudget(6 << 20)
	l := readAll(t, openReader(t, src, splits, budget), splits)
	if count(l) != 60_000 {
		t.Errorf("got %d records, want 60000", count(l))
	}
	if budget.Peak() > 6<<20 {
		t.Errorf("got a peak of %d bytes, want at most 6 MiB", budget.Peak())
	}
}

// Several readers share a budget that is too small for all: none waits for ever for what another holds and can't hand out.
func TestReader_sharedBudgetNeverLocksUp(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(6, "orders"))
	cl := client(t, c)
	const each = 20
	for p := range int32(6) {
		for range each {
			produce(t, cl, "orders", p, strings.Repeat("x", 50_000), strings.Repeat("y", 50_000))
		}
	}
	src, splits := boundedSource(t, c, "orders")
	capacity := src.AcquireMax() - int64(src.plan.RecordBytesMax) // no record here is large
	budget := sourcetest.NewBudget(capacity)
	done := make(chan int, len(splits))
	for i := range splits {
		r := openReader(t, src, splits[i:i+1], budget)
		go func() {
			n := 0
			defer func() { done <- n }()
			for {
				f, err := r.Poll(t.Context())
				if err != nil || f.Finished {
					n += len(f.Rows)
					if f.Release != nil {
						f.Release()
					}
					return
				}
				n += len(f.Rows)
				if f.Release != nil {
					f.Release()
				}
			}
		}()
	}
	for range splits {
		if n := <-done; n != 2*each {
			t.Errorf("got %d records of a split, want %d", n, 2*each)
		}
	}
	if budget.Peak() > capacity {
		t.Errorf("got a peak of %d bytes, want at most %d", budget.Peak(), capacity)
	}
}

// Closing while the budget is used up must not wait for it.
func TestReader_closesWhileItWaitsForTheBudget(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	produce(t, client(t, c), "orders", 0, numbered("v", 0, 10)...)
	src := newSource(t, settings(c, "orders"))
	budget := sourcetest.NewBudget(10)
	if !budget.TryAcquire(10) {
		t.Fatal("the budget is empty")
	}
	r, err := src.Open(t.Context(), discover(t, src), budget)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reader waits", func() bool { return budget.Waiters() == 1 })
	if why := r.Waiting(); why != "the memory budget is used up" {
		t.Errorf("got Waiting %q, want that it waits for memory", why)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if budget.Used() != 10 {
		t.Errorf("got %d bytes in use, want the 10 of the test", budget.Used())
	}
}

// In steady state a record costs no allocation.
func TestReader_allocatesNothingPerRecord(t *testing.T) {
	const n = 5000
	answer := bytes.Clone(compressibleBatch(t, n))
	p, err := Settings{Brokers: []string{"none"}, Topics: []string{"t"}}.check()
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(&Source{plan: p, log: quietLog(), pool: newPool()}, nil, sourcetest.NewBudget(unlimited))
	if err := r.add([]source.Split{{Position: source.Position{Split: "t/0"}, Until: source.Unbounded}}); err != nil {
		t.Fatal(err)
	}
	s := r.mu.splits[0]
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = answer
	allocs := testing.AllocsPerRun(20, func() {
		b := &builder{r: r, s: s, until: -1}
		if _, err := b.take(t.Context(), &rp); err != nil {
			t.Fatal(err)
		}
		f, _, err := r.pop()
		if err != nil || len(f.Rows) != n {
			t.Fatal(fmt.Errorf("%d rows, %w", len(f.Rows), err))
		}
		f.Release()
	})
	if perRecord := allocs / n; perRecord > 0.01 {
		t.Errorf("got %f allocations per record (%f per fetch), want none", perRecord, allocs)
	}
}

func BenchmarkBuilder(b *testing.B) {
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		b.Run(name, func(b *testing.B) {
			batch := testBatch{lastDelta: -1, attributes: int16(codec), records: make([]testRecord, 3000)}
			for i := range batch.records {
				value := fmt.Appendf(nil, `{"id":%d,"user":"user-%d","event":"click","text":%q}`, i, i*7919%5000, strings.Repeat(fmt.Sprint(i), 40))
				batch.records[i] = testRecord{delta: int64(i), time: int64(i), key: fmt.Append(nil, i), value: value[:min(300, len(value))]}
			}
			answer := batch.encode(b)
			p, err := Settings{Brokers: []string{"none"}, Topics: []string{"t"}}.check()
			if err != nil {
				b.Fatal(err)
			}
			r := newReader(&Source{plan: p, log: quietLog(), pool: newPool()}, nil, sourcetest.NewBudget(unlimited))
			if err := r.add([]source.Split{{Position: source.Position{Split: "t/0"}, Until: source.Unbounded}}); err != nil {
				b.Fatal(err)
			}
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.RecordBatches = answer
			b.ReportAllocs()
			for b.Loop() {
				one := &builder{r: r, s: r.mu.splits[0], until: -1}
				if _, err := one.take(b.Context(), &rp); err != nil {
					b.Fatal(err)
				}
				f, _, err := r.pop()
				if err != nil {
					b.Fatal(err)
				}
				f.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.records)), "ns/record")
		})
	}
}

// BenchmarkReader measures the whole way from a broker to Poll, in records of 300 bytes.
func BenchmarkReader(b *testing.B) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "orders"), kfake.SyntheticFetch(kfake.SyntheticBatch{
		Records: 500, RecordBytes: 300, RandomFrac: 0.3, Compression: kgo.Lz4Compression(),
	}))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	src, err := New(settings(c, "orders"), quietLog())
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	splits, err := src.Discover(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	r, err := src.Open(b.Context(), splits, sourcetest.NewBudget(64<<20))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		f, err := r.Poll(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		n += len(f.Rows)
		f.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
