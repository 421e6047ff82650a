package kafka

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
		{
			"aborted in between",
			[]kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort, kgo.TryCommit},
			[]string{"t1-0", "t1-1", "t3-0", "t3-1"},
			12,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(t, kfake.SeedTopics(1, "orders"))
			cl := client(t, c, kgo.TransactionalID("t"))
			for i, end := range tc.ends {
				transaction(t, cl, end, "orders", numbered(fmt.Sprintf("t%d", i), 0, 2)...)
			}
			src, splits := boundedSource(t, c, "orders")
			if int64(splits[0].Until) != tc.end {
				t.Fatalf("got the bound %d, want %d", splits[0].Until, tc.end)
			}
			l := readAll(t, openReader(t, src, splits, nil), splits)
			if diff := cmp.Diff(tc.want, l.Values("orders/0")); diff != "" {
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
	transaction(t, cl, kgo.TryAbort, "orders", "a", "b")
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return l.At["orders/0"].Offset == 3 })
	if err != nil || count(l) > 0 {
		t.Errorf("got %d records, %v, want only progress to 3", count(l), err)
	}
}

// Aborted records are there with read_uncommitted.
func TestReader_readUncommittedReadsAll(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	cl := client(t, c, kgo.TransactionalID("t"))
	transaction(t, cl, kgo.TryAbort, "orders", "aborted")
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, "orders", 0, "open")
	s := settings(c, "orders")
	s.Isolation, s.Until = readUncommitted, untilEnd
	src := newSource(t, s)
	splits := discover(t, src)
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff([]string{"aborted", "open"}, l.Values("orders/0")); diff != "" {
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
	src, splits := boundedSource(t, c, "orders")
	splits[0].Until = 7
	emptyFrom(c, 3, 7)
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if diff := cmp.Diff(numbered("v", 0, 3), l.Values("orders/0")); diff != "" {
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
	src, splits := boundedSource(t, c, "orders")
	splits[0].Until = 7
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

// rawBatches returns the record batches of a partition as they are in its log.
func rawBatches(t *testing.T, cl *kgo.Client, c *kfake.Cluster, topic string) [][]byte {
	t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.SessionEpoch = 1<<30, -1
	reqTopic := kmsg.NewFetchRequestTopic()
	reqTopic.Topic, reqTopic.TopicID = topic, c.TopicInfo(topic).TopicID
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes = 1 << 30
	reqTopic.Partitions = append(reqTopic.Partitions, p)
	req.Topics = append(req.Topics, reqTopic)
	resp, err := cl.Broker(0).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for in := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches; len(in) > 0; {
		b, _, rest, err := take(in)
		if err != nil {
			t.Fatal(err)
		}
		all, in = append(all, b.raw), rest
	}
	return all
}

// serve makes the cluster answer every fetch of its one partition with what answer returns for the batches from the offset on.
func serve(c *kfake.Cluster, batches [][]byte, answer func(left [][]byte) []byte) {
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		for i, raw := range batches {
			b, _, _, err := take(raw)
			if err != nil {
				return nil, err, true
			}
			p.HighWatermark = b.last + 1
			if p.RecordBatches == nil && b.last >= req.Topics[0].Partitions[0].FetchOffset {
				p.RecordBatches = answer(batches[i:])
			}
		}
		p.LastStableOffset = p.HighWatermark
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
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
			serve(c, rawBatches(t, cl, c, "orders"), func(batches [][]byte) []byte {
				all := slices.Concat(batches...)
				if left--; left >= 0 {
					all[len(all)-1] ^= 1
				}
				return all
			})
			r := openReader(t, src, splits, nil)
			l, err := sourcetest.Collect(t, r, splits, allFinished(splits))
			if times == 2 {
				if err != nil {
					t.Fatalf("damaged on the way: got %v, want no error", err)
				}
				want := append(numbered("first", 0, 3), numbered("second", 0, 3)...)
				if diff := cmp.Diff(want, l.Values("orders/0")); diff != "" {
					t.Errorf("records differ (-want +got):\n%s", diff)
				}
				return
			}
			wantFault(t, err, fault.Corrupt, "orders/0", "offset 3", "CRC-32C")
			if diff := cmp.Diff(numbered("first", 0, 3), l.Values("orders/0")); diff != "" {
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
	serve(c, rawBatches(t, cl, c, "orders"), func(batches [][]byte) []byte {
		all := slices.Concat(batches...)
		if len(batches) == 1 {
			return all
		}
		cuts++
		return all[:len(batches[0])+cuts*5] // the first batch and a part of the next
	})
	l := readAll(t, openReader(t, src, splits, nil), splits)
	if count(l) != 60 || cuts < 10 {
		t.Errorf("got %d records over %d cut answers, want 60 over many", count(l), cuts)
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
	l, err := sourcetest.Collect(t, r, splits, func(*sourcetest.Log) bool { return false })
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
