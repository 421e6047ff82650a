package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// took is what became of an answer.
type took struct {
	fetches []source.Fetch
	records []sourcetest.Record
	next    int64
	epoch   record.LeaderEpoch
	done    bool
	err     error
}

// taking is how an answer is taken in.
type taking struct {
	next, until int64
	aborted     map[int64]int64 // producer to first offset
	plan        func(p *plan)
	budget      source.Budget
}

// takeIn gives an answer to a reader and polls all that comes of it. The fetches are not released.
func takeIn(tb testing.TB, how taking, answer []byte) took {
	tb.Helper()
	p, err := Settings{Brokers: []string{"none"}, Topics: []string{"t"}}.check()
	if err != nil {
		tb.Fatal(err)
	}
	if how.plan != nil {
		how.plan(p)
	}
	if how.budget == nil {
		how.budget = sourcetest.NewBudget(unlimited)
	}
	r := newReader(&Source{plan: p, log: quietLog(), pool: newPool()}, nil, how.budget)
	split := source.Split{Position: source.Position{Split: "t/0", Offset: record.Offset(how.next), LeaderEpoch: -1}, Until: record.Offset(how.until)}
	if err := r.add([]source.Split{split}); err != nil {
		tb.Fatal(err)
	}
	s := r.mu.splits[0]
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = answer
	for producer, first := range how.aborted {
		rp.AbortedTransactions = append(rp.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: producer, FirstOffset: first})
	}
	b := &builder{r: r, s: s, next: s.next, epoch: s.epoch, said: s.next, until: how.until}
	got := took{next: how.next, epoch: -1}
	_, got.err = b.take(context.Background(), &rp)
	for {
		f, ok, err := r.pop()
		if !ok || err != nil {
			return got
		}
		got.fetches = append(got.fetches, f)
		got.records = append(got.records, sourcetest.Records(f)...)
		got.next, got.epoch, got.done = int64(f.Next.Offset), f.Next.LeaderEpoch, f.Finished
	}
}

func offsetsOf(records []sourcetest.Record) []int64 {
	var all []int64
	for _, r := range records {
		all = append(all, int64(r.Offset))
	}
	return all
}

func numberedRecords(n int) []testRecord {
	records := make([]testRecord, n)
	for i := range records {
		records[i] = testRecord{delta: int64(i), time: int64(i), value: fmt.Append(nil, i)}
	}
	return records
}

// Every part of a record, in every codec.
func TestBuilder_decodesEveryPartOfARecord(t *testing.T) {
	records := []testRecord{
		{delta: 0, time: 5, key: []byte("k"), value: []byte("v")},
		{delta: 1, time: -3, key: nil, value: nil},
		{delta: 4, time: 0, key: []byte{}, value: []byte{}},
		{delta: 5, value: []byte("h"), headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}},
	}
	want := []source.Row{
		{Offset: 100, Timestamp: 1005, Key: []byte("k"), Value: []byte("v")},
		{Offset: 101, Timestamp: 997},
		{Offset: 104, Timestamp: 1000, Key: []byte{}, Value: []byte{}},
		{Offset: 105, Timestamp: 1000, Value: []byte("h"), Headers: []record.Header{{Key: "a", Value: []byte("1")}, {}, {Key: "a", Value: []byte{}}}},
	}
	for codec := range codecs() {
		raw := testBatch{first: 100, lastDelta: 7, epoch: 3, attributes: int16(codec), firstTime: 1000, maxTime: 2000, records: records}.encode(t)
		got := takeIn(t, taking{next: 100, until: -1}, raw)
		if got.err != nil || len(got.fetches) != 1 {
			t.Fatalf("codec %d: got %d fetches, %v, want 1", codec, len(got.fetches), got.err)
		}
		if diff := cmp.Diff(want, got.fetches[0].Rows); diff != "" {
			t.Errorf("codec %d: rows differ (-want +got):\n%s", codec, diff)
		}
		// The last offset of a batch that was compacted counts, not its last record's.
		if got.next != 108 || got.epoch != 3 {
			t.Errorf("codec %d: got the position %d of epoch %d, want 108 of 3", codec, got.next, got.epoch)
		}
	}
	raw := testBatch{first: 100, lastDelta: -1, attributes: attrAppendTime, firstTime: 1000, maxTime: 2000, records: records}.encode(t)
	for _, row := range takeIn(t, taking{next: 0, until: -1}, raw).fetches[0].Rows {
		if row.Timestamp != 2000 {
			t.Errorf("offset %d: got the timestamp %d, want the broker's 2000", row.Offset, row.Timestamp)
		}
	}
}

// The start lies in a batch, or the bound does, or both.
func TestBuilder_startsAndEndsInsideABatch(t *testing.T) {
	var answer []byte
	for i := range int64(3) {
		answer = append(answer, testBatch{first: 10 * i, lastDelta: 9, records: numberedRecords(8)}.encode(t)...)
	}
	cases := []struct {
		next, until int64
		want        []int64
		at          int64
		done        bool
	}{
		{0, -1, []int64{0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 24, 25, 26, 27}, 30, false},
		{15, -1, []int64{15, 16, 17, 20, 21, 22, 23, 24, 25, 26, 27}, 30, false},
		{18, -1, []int64{20, 21, 22, 23, 24, 25, 26, 27}, 30, false},
		{15, 17, []int64{15, 16}, 17, true},
		{15, 18, []int64{15, 16, 17}, 18, true},
		{15, 20, []int64{15, 16, 17}, 20, true},
		{15, 19, []int64{15, 16, 17}, 19, true},
		{18, 19, nil, 19, true},
		{19, 20, nil, 20, true},
		{15, 21, []int64{15, 16, 17, 20}, 21, true},
		{28, 30, nil, 30, true},
		{28, 31, nil, 30, false},
		{30, -1, nil, 30, false},
	}
	for _, c := range cases {
		got := takeIn(t, taking{next: c.next, until: c.until}, answer)
		if diff := cmp.Diff(c.want, offsetsOf(got.records)); diff != "" || got.err != nil {
			t.Errorf("%d to %d: %v; offsets differ (-want +got):\n%s", c.next, c.until, got.err, diff)
		}
		if got.next != c.at || got.done != c.done {
			t.Errorf("%d to %d: got the position %d, finished %t, want %d, %t", c.next, c.until, got.next, got.done, c.at, c.done)
		}
	}
}

// Aborted transactions of several producers overlap, and the list of them is in any order.
func TestBuilder_leavesOutAbortedTransactions(t *testing.T) {
	data := func(first, producer int64, attributes int16) []byte {
		return testBatch{first: first, lastDelta: -1, attributes: attributes, producer: producer, records: numberedRecords(1)}.encode(t)
	}
	const tx = attrTransactional
	answer := bytes.Join([][]byte{
		data(0, 1, tx), // committed
		data(1, 2, tx), // aborted
		data(2, 3, 0),  // no transaction
		control(t, 3, 1, 1),
		data(4, 1, tx), // aborted
		data(5, 2, tx), // aborted
		control(t, 6, 2, 0),
		data(7, 2, tx), // committed: the abort is over
		control(t, 8, 1, 0),
		data(9, 1, 0), // no transaction, of the same producer
		control(t, 10, 2, 1),
	}, nil)
	aborted := map[int64]int64{2: 1, 1: 4}
	got := takeIn(t, taking{next: 0, until: -1, aborted: aborted}, answer)
	if diff := cmp.Diff([]int64{0, 2, 7, 9}, offsetsOf(got.records)); diff != "" || got.next != 11 {
		t.Errorf("position %d, want 11; offsets differ (-want +got):\n%s", got.next, diff)
	}
	// From inside the aborted transaction: its first offset is before the position.
	got = takeIn(t, taking{next: 5, until: -1, aborted: aborted}, answer)
	if diff := cmp.Diff([]int64{7, 9}, offsetsOf(got.records)); diff != "" {
		t.Errorf("from 5: offsets differ (-want +got):\n%s", diff)
	}
	all := func(p *plan) { p.isolation = 0 }
	got = takeIn(t, taking{next: 0, until: -1, aborted: aborted, plan: all}, answer)
	if diff := cmp.Diff([]int64{0, 1, 2, 4, 5, 7, 9}, offsetsOf(got.records)); diff != "" {
		t.Errorf("read_uncommitted: offsets differ (-want +got):\n%s", diff)
	}
}

// A batch without records, which compaction keeps for its offset.
func TestBuilder_passesAnEmptyBatch(t *testing.T) {
	raw := testBatch{first: 5, lastDelta: 3, records: nil}.encode(t)
	got := takeIn(t, taking{next: 5, until: -1}, raw)
	if got.next != 9 || len(got.records) > 0 || got.err != nil {
		t.Errorf("got the position %d, %d records, %v; want 9, none", got.next, len(got.records), got.err)
	}
}

// What can't be is corrupt, and named; what came before it counts.
func TestBuilder_refusesMalformedBatches(t *testing.T) {
	good := testBatch{first: 0, lastDelta: -1, records: numberedRecords(3)}.encode(t)
	cases := map[string]func() []byte{
		"too many records": func() []byte {
			return testBatch{first: 3, lastDelta: 9, count: 7, records: numberedRecords(3)}.encode(t)
		},
		"negative count": func() []byte {
			return testBatch{first: 3, lastDelta: 9, count: -1, records: numberedRecords(3)}.encode(t)
		},
		"offset twice": func() []byte {
			return testBatch{first: 3, lastDelta: 9, records: []testRecord{{delta: 1}, {delta: 1}}}.encode(t)
		},
		"offset behind": func() []byte { return testBatch{first: 3, lastDelta: 0, records: []testRecord{{delta: 1}}}.encode(t) },
		"last before first": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			binary.BigEndian.PutUint32(raw[lastDeltaAt:], 0xffffffff)
			return seal(raw)
		},
		"cut record": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			raw = raw[:len(raw)-1]
			binary.BigEndian.PutUint32(raw[lengthAt:], uint32(len(raw)-lengthSpan))
			return seal(raw)
		},
		"bad zstd": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			raw[attributesAt+1] = byte(kgo.CodecZstd)
			return seal(raw)
		},
		"unknown codec": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			raw[attributesAt+1] = 7
			return seal(raw)
		},
		"wrong sum": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			raw[len(raw)-1] ^= 1
			return raw
		},
		"negative length": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			binary.BigEndian.PutUint32(raw[lengthAt:], 1<<31)
			return raw
		},
		"header alone": func() []byte {
			raw := make([]byte, 30)
			binary.BigEndian.PutUint32(raw[lengthAt:], 18)
			raw[magicAt] = 2
			return raw
		},
		"future magic": func() []byte {
			raw := testBatch{first: 3, lastDelta: -1, records: numberedRecords(1)}.encode(t)
			raw[magicAt] = 9
			return raw
		},
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			got := takeIn(t, taking{next: 0, until: -1}, append(bytes.Clone(good), bad()...))
			var corrupt *corruptError
			if !errors.As(got.err, &corrupt) || !strings.Contains(got.err.Error(), "split t/0 offset ") {
				t.Errorf("got %v, want a corruption that names split and offset", got.err)
			}
			if len(got.records) < 3 || got.next < 3 {
				t.Errorf("got %d records up to %d, want the 3 of the good batch", len(got.records), got.next)
			}
		})
	}
	if got := takeIn(t, taking{next: 0, until: -1}, append(bytes.Clone(good), good[:len(good)-1]...)); got.err != nil || got.next != 3 {
		t.Errorf("a cut batch at the end: got %v, position %d, want no error, 3", got.err, got.next)
	}
}

// Fetches have bounds, whatever the batches are like.
func TestBuilder_boundsFetches(t *testing.T) {
	small := testBatch{first: 0, lastDelta: -1, attributes: 4, records: numberedRecords(20_000)}
	var many []byte
	for i := range int64(300) {
		many = append(many, testBatch{first: i * 100, lastDelta: -1, attributes: 2, records: numberedRecords(100)}.encode(t)...)
	}
	big := testBatch{first: 0, lastDelta: -1, attributes: 4}
	for i := range 13 {
		value := []byte(strings.Repeat("x", 700_000))
		big.records = append(big.records, testRecord{delta: int64(i), value: value, headers: []kgo.RecordHeader{{Key: "h", Value: fmt.Append(nil, i)}}})
	}
	for name, answer := range map[string][]byte{"many rows in a batch": small.encode(t), "many batches": many, "large batch": big.encode(t)} {
		got := takeIn(t, taking{next: 0, until: -1}, answer)
		if got.err != nil {
			t.Fatalf("%s: %v", name, got.err)
		}
		next := record.Offset(0)
		for _, f := range got.fetches {
			size := 0
			for _, row := range f.Rows {
				if row.Offset != next {
					t.Fatalf("%s: got the offset %d, want %d", name, row.Offset, next)
				}
				if row.Headers != nil && string(row.Headers[0].Value) != fmt.Sprint(next) {
					t.Fatalf("%s: got the header %q of offset %d", name, row.Headers[0].Value, next)
				}
				next++
				size += len(row.Key) + len(row.Value)
			}
			if len(f.Rows) > pieceRows || size > pieceBytes {
				t.Errorf("%s: got %d rows with %d bytes in one fetch, want at most %d and %d", name, len(f.Rows), size, pieceRows, pieceBytes)
			}
		}
		if len(got.fetches) < 3 || int64(next) != got.next {
			t.Errorf("%s: got %d fetches with %d records up to %d", name, len(got.fetches), next, got.next)
		}
	}
}

// A batch that decompresses to more than its bound is refused, in every codec, without the memory for it.
func TestBuilder_refusesDecompressionBombs(t *testing.T) {
	value := make([]byte, 9<<20)
	for codec := 1; codec < len(codecs()); codec++ {
		raw := testBatch{first: 7, lastDelta: -1, attributes: int16(codec), records: []testRecord{{value: value}}}.encode(t)
		limit := func(p *plan) { p.BatchBytesMax = 8 << 20 }
		got := takeIn(t, taking{next: 7, until: -1, plan: limit}, raw)
		wantFault(t, got.err, fault.Misconfigured, "t/0", "the offsets 7 to 7", "8MiB")
		if !strings.Contains(fault.RemedyOf(got.err), "batch_bytes_max") {
			t.Errorf("got the remedy %q, want the key to change", fault.RemedyOf(got.err))
		}
		fits := func(p *plan) { p.BatchBytesMax, p.RecordBytesMax = 10<<20, 10<<20 }
		if got := takeIn(t, taking{next: 7, until: -1, plan: fits}, raw); got.err != nil || len(got.records) != 1 || len(got.records[0].Value) != len(value) {
			t.Errorf("codec %d: got %d records, %v, want the one", codec, len(got.records), got.err)
		}
	}
}

func TestBuilder_refusesLargeRecords(t *testing.T) {
	records := numberedRecords(3)
	records[1].key, records[1].value = []byte("key"), []byte(strings.Repeat("x", 5000))
	records[1].headers = []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}
	large := []testRecord{records[0], {delta: 1, value: []byte(strings.Repeat("y", 6<<20))}, {delta: 2, value: []byte("after")}}
	limit := func(p *plan) { p.RecordBytesMax = 1024 }
	got := takeIn(t, taking{next: 0, until: -1, plan: limit}, testBatch{lastDelta: -1, firstTime: 50, attributes: 4, records: records}.encode(t))
	want := record.DeadLetter{
		Split: "t/0", Topic: "t", Offset: 1, Timestamp: 51, Key: []byte("key"), Value: []byte(strings.Repeat("x", 1021)),
		Headers: []record.Header{{Key: "h", Value: []byte("1")}}, Stage: "source", Byte: -1,
		Reason: "the record has 5003 bytes, more than record_bytes_max = 1KiB, and is cut",
	}
	if len(got.fetches) != 1 || len(got.fetches[0].Refused) != 1 || len(got.fetches[0].Rows) != 2 {
		t.Fatalf("got %+v, want one refusal and two rows", got.fetches)
	}
	if diff := cmp.Diff(want, got.fetches[0].Refused[0]); diff != "" {
		t.Errorf("dead letter differs (-want +got):\n%s", diff)
	}
	// In a batch that is larger than a piece, and copied.
	got = takeIn(t, taking{next: 0, until: -1, plan: limit}, testBatch{lastDelta: -1, attributes: 4, records: large}.encode(t))
	wantRecords := []sourcetest.Record{{Value: "0"}, {Offset: 1, Value: strings.Repeat("y", 1024), Refused: true}, {Offset: 2, Value: "after"}}
	if diff := cmp.Diff(wantRecords, got.records); diff != "" {
		t.Errorf("large batch: records differ (-want +got):\n%s", diff)
	}
}

// Topics that were last written before Kafka 0.11 still hold messages of the old format.
func TestBuilder_readsOldMessages(t *testing.T) {
	inner := bytes.Join([][]byte{messageV1(0, 0, 11, nil, []byte("c")), messageV1(1, 0, 12, []byte("k"), nil)}, nil)
	answer := bytes.Join([][]byte{
		messageV1(5, 0, 9, nil, []byte("a")),
		messageV1(6, 0, 10, nil, []byte("b")),
		messageV1(8, 1, 12, nil, compress(kgo.GzipCompression(), inner)),
		testBatch{first: 9, lastDelta: -1, records: numberedRecords(1)}.encode(t),
	}, nil)
	got := takeIn(t, taking{next: 6, until: -1}, answer)
	want := []sourcetest.Record{{Offset: 6, Value: "b"}, {Offset: 7, Value: "c"}, {Offset: 8, Key: "k", Null: true}, {Offset: 9, Value: "0"}}
	if diff := cmp.Diff(want, got.records); diff != "" || got.err != nil || got.next != 10 {
		t.Errorf("position %d, %v; records differ (-want +got):\n%s", got.next, got.err, diff)
	}
	got = takeIn(t, taking{next: 6, until: 8}, answer)
	if diff := cmp.Diff(want[:2], got.records); diff != "" || !got.done || got.next != 8 {
		t.Errorf("with a bound: position %d, finished %t; records differ (-want +got):\n%s", got.next, got.done, diff)
	}
	bomb := messageV1(5, 1, 9, nil, compress(kgo.GzipCompression(), messageV1(0, 0, 1, nil, make([]byte, 9<<20))))
	limit := func(p *plan) { p.BatchBytesMax = 8 << 20 }
	wantFault(t, takeIn(t, taking{next: 5, until: -1, plan: limit}, bomb).err, fault.Misconfigured, "t/0", "8MiB")
}

// Any splitting of records into batches, any codec and any start give the same records as the list.
func TestBuilder_randomLogsGiveTheirRecords(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range 60 {
		var (
			answer []byte
			want   []sourcetest.Record
			at     int64
		)
		for range 1 + rng.IntN(20) {
			b := testBatch{first: at, attributes: int16(rng.IntN(5)), records: make([]testRecord, 0, 50)}
			for delta := int64(0); len(b.records) < 1+rng.IntN(50); delta += 1 + int64(rng.IntN(3)) {
				r := testRecord{delta: delta, key: fmt.Append(nil, delta), value: bytes.Repeat([]byte{'v'}, rng.IntN(300))}
				b.records = append(b.records, r)
				want = append(want, sourcetest.Record{Offset: record.Offset(at + delta), Key: string(r.key), Value: string(r.value)})
				b.lastDelta = delta
			}
			b.lastDelta += int64(rng.IntN(3))
			answer = append(answer, b.encode(t)...)
			at += b.lastDelta + 1
		}
		start := rng.Int64N(at)
		var rest []sourcetest.Record
		for _, r := range want {
			if int64(r.Offset) >= start {
				rest = append(rest, r)
			}
		}
		budget := sourcetest.NewBudget(unlimited)
		got := takeIn(t, taking{next: start, until: -1, budget: budget}, answer)
		if diff := cmp.Diff(rest, got.records); diff != "" || got.err != nil || got.next != at {
			t.Fatalf("seed %d round %d from %d: position %d, want %d; %v; records differ (-want +got):\n%s", seed, round, start, got.next, at, got.err, diff)
		}
		for _, f := range got.fetches {
			if f.Release != nil {
				f.Release()
			}
		}
		if budget.Used() != 0 {
			t.Fatalf("seed %d round %d: got %d bytes in use at the end, want 0", seed, round, budget.Used())
		}
	}
}

// FuzzBuilder gives any bytes to the builder: it must not panic, take memory without bound, or go back.
func FuzzBuilder(f *testing.F) {
	f.Add(testBatch{lastDelta: -1, attributes: 4, records: numberedRecords(3)}.encode(f), int64(1), int64(2))
	f.Add(testBatch{lastDelta: 9, attributes: 3 | attrTransactional, producer: 1, records: numberedRecords(3)}.encode(f), int64(0), int64(-1))
	f.Add(control(f, 3, 1, 0), int64(0), int64(-1))
	f.Add(messageV1(5, 1, 9, nil, compress(kgo.GzipCompression(), messageV1(0, 0, 1, nil, []byte("v")))), int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, answer []byte, next, until int64) {
		if next < 0 || until < -1 || until >= 0 && until <= next {
			return
		}
		// The sums are made to fit: otherwise nothing but the check of them would be tried.
		for in := answer; len(in) > 0; {
			b, magic, rest, err := take(in)
			if err != nil {
				break
			}
			if magic == 2 {
				seal(b.raw)
			}
			in = rest
		}
		budget := sourcetest.NewBudget(unlimited)
		limit := func(p *plan) { p.BatchBytesMax, p.RecordBytesMax = 5<<20, config.Bytes(1000) }
		got := takeIn(t, taking{next: next, until: until, aborted: map[int64]int64{1: 0}, plan: limit, budget: budget}, answer)
		last := record.Offset(next) - 1
		for _, r := range got.records {
			if r.Offset <= last || until >= 0 && int64(r.Offset) >= until {
				t.Errorf("got the offset %d after %d, with the bound %d", r.Offset, last, until)
			}
			last = r.Offset
		}
		if got.next < next || int64(last) >= got.next {
			t.Errorf("got the position %d, from %d and after the offset %d", got.next, next, last)
		}
		for _, f := range got.fetches {
			if f.Release != nil {
				f.Release()
			}
		}
		if budget.Used() != 0 {
			t.Errorf("got %d bytes in use at the end, want 0", budget.Used())
		}
	})
}
