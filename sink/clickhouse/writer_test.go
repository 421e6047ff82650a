package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// folder is a segment store in memory; putErr fails every Put.
type folder struct {
	mu     sync.Mutex
	data   map[string][]byte
	putErr error
}

func (f *folder) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.putErr != nil {
		return sink.Segment{}, f.putErr
	}
	if f.data == nil {
		f.data = make(map[string][]byte)
	}
	name := fmt.Sprint("s", len(f.data))
	f.data[name] = data
	return sink.Segment{Name: name, Rows: rows, Bytes: int64(len(data)), Checksum: xxhash.Sum64(data)}, nil
}

func (f *folder) Get(_ context.Context, s sink.Segment) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.data[s.Name]
	if !ok {
		return nil, fault.E("", fault.Lost, errors.New("no such segment"))
	}
	return data, nil
}

func dateSchema() *record.Schema {
	return &record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Uint32}},
		{Name: "day", Type: record.Type{Kind: record.Date}},
	}}
}

// dateBatch has ids from first on; day is the id, and -1, which Date can't hold, for the bad ids.
func dateBatch(split string, first, rows int, bad ...int) *record.Batch {
	b := record.NewBatch(dateSchema())
	b.Meta.Split = split
	for id := first; id < first+rows; id++ {
		b.Cols[0].AppendInt(int64(id))
		day := int64(id)
		if slices.Contains(bad, id) {
			day = -1
		}
		b.Cols[1].AppendInt(day)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(id), Timestamp: int64(id) * 10, Key: fmt.Appendf(nil, "k%d", id), Value: fmt.Appendf(nil, "v%d", id)})
	}
	return b
}

func dateWriter(t *testing.T, f *folder, limit Settings) *writer {
	t.Helper()
	var shapes []*shape
	for _, name := range []string{"UInt32", "Date"} {
		s, err := parseShape(name)
		if err != nil {
			t.Fatal(err)
		}
		shapes = append(shapes, s)
	}
	w := newWriter(3, f, dateSchema(), shapes)
	w.limits(&limit)
	return w
}

// stored reads all rows of segments as "split/offset=id".
func stored(t *testing.T, f *folder, segments []sink.Segment) (rows []string) {
	t.Helper()
	c := &sink.Committable{Segments: segments}
	for _, s := range segments {
		c.Rows += s.Rows
	}
	batches, err := loadUnit(context.Background(), f, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		for i := range b.Rows {
			rows = append(rows, fmt.Sprintf("%s/%d=%d", b.Meta.Split, b.Meta.Offsets[i], b.Cols[0].Int(i)))
		}
	}
	return rows
}

func TestWriter_stagesEveryRowInOrderWithinTheLimits(t *testing.T) {
	ctx := context.Background()
	f := new(folder)
	w := dateWriter(t, f, Settings{UnitRows: 1000, SegmentRows: 7, UnitBytes: 1 << 20, Segment: 1 << 20})
	var want []string
	for i, split := range []string{"a/0", "a/1", "a/0"} {
		if refused, err := w.Write(ctx, dateBatch(split, i*10, 10)); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
		for id := i * 10; id < i*10+10; id++ {
			want = append(want, fmt.Sprintf("%s/%d=%d", split, id, id))
		}
	}
	part, err := w.Prepare(ctx, sink.Cut{})
	if err != nil {
		t.Fatal(err)
	}
	if part.Task != 3 || part.Rows != 30 || len(part.Segments) != 5 {
		t.Errorf("got task %d, %d rows, %d segments; want 3, 30, 5", part.Task, part.Rows, len(part.Segments))
	}
	for _, s := range part.Segments {
		if s.Rows > 7 {
			t.Errorf("a segment has %d rows, the limit is 7", s.Rows)
		}
	}
	if diff := cmp.Diff(want, stored(t, f, part.Segments)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if part, err = w.Prepare(ctx, sink.Cut{}); err != nil || part.Rows != 0 || len(part.Segments) != 0 {
		t.Errorf("got %+v, %v for a checkpoint without rows", part, err)
	}
}

func TestWriter_bytesCloseASegment(t *testing.T) {
	ctx := context.Background()
	f := new(folder)
	w := dateWriter(t, f, Settings{UnitRows: 1000, SegmentRows: 1000, UnitBytes: 1 << 20, Segment: config.Bytes(500)})
	for i := range 10 {
		if _, err := w.Write(ctx, dateBatch("a/0", i*10, 10)); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.Prepare(ctx, sink.Cut{})
	if err != nil {
		t.Fatal(err)
	}
	if len(part.Segments) < 4 || part.Rows != 100 {
		t.Errorf("got %d segments of %d rows, want several of 100", len(part.Segments), part.Rows)
	}
}

// What is refused is named in order, the rest is staged, and the batch is left as it was: dead letters are made of it.
func TestWriter_refusedRowsAreNotTaken(t *testing.T) {
	ctx := context.Background()
	f := new(folder)
	w := dateWriter(t, f, Settings{UnitRows: 1000, SegmentRows: 1000, UnitBytes: 1 << 20, Segment: 1 << 20})
	b := dateBatch("a/0", 100, 6, 101, 105)
	refused, err := w.Write(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(refused) != 2 || refused[0].Row != 1 || refused[1].Row != 5 || refused[0].Column != "day" || refused[0].Reason == "" || refused[0].Byte != -1 {
		t.Errorf("got %+v, want the rows 1 and 5 of the column day", refused)
	}
	if l := b.Letter(5, "sink:sink", refused[1]); b.Rows != 6 || l.Offset != 105 || string(l.Value) != "v105" {
		t.Errorf("the batch was changed: %d rows, letter %+v", b.Rows, l)
	}
	part, err := w.Prepare(ctx, sink.Cut{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/0/100=100", "a/0/102=102", "a/0/103=103", "a/0/104=104"}, stored(t, f, part.Segments)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := w.Write(ctx, record.NewBatch(&record.Schema{Fields: dateSchema().Fields[:1]})); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got %v for a batch of other columns, want an error", err)
	}
}

func TestWriter_failedUploadFailsThePart(t *testing.T) {
	ctx := context.Background()
	broken := errors.New("no space")
	f := &folder{putErr: broken}
	w := dateWriter(t, f, Settings{UnitRows: 1000, SegmentRows: 2, UnitBytes: 1 << 20, Segment: 1 << 20})
	if _, err := w.Write(ctx, dateBatch("a/0", 0, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prepare(ctx, sink.Cut{}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the store's error", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	w = dateWriter(t, new(folder), Settings{UnitRows: 1000, SegmentRows: 2, UnitBytes: 1 << 20, Segment: 1 << 20})
	if _, err := w.Write(ended, dateBatch("a/0", 0, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prepare(ended, sink.Cut{}); err == nil {
		t.Error("a part is prepared under an ended context")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// The replacement has every row but the rejected ones, the raw records of the rest, and the same block number.
func TestCommitter_replacementLeavesOutTheRejectedRows(t *testing.T) {
	ctx := context.Background()
	f := new(folder)
	w := dateWriter(t, f, Settings{UnitRows: 1000, SegmentRows: 4, UnitBytes: 1 << 20, Segment: 1 << 20})
	w.raw.Raw = true
	for i := range 3 {
		if _, err := w.Write(ctx, dateBatch(fmt.Sprint("a/", i), i*5, 5)); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.Prepare(ctx, sink.Cut{})
	if err != nil {
		t.Fatal(err)
	}
	s := assembling(1, 1000, 1<<20)
	s.settings.SegmentRows, s.settings.Segment, s.env.Segments = 4, 1<<20, f
	a, err := s.Assemble(sink.Cut{Lease: 2, Checkpoint: 9}, []sink.Part{part})
	if err != nil {
		t.Fatal(err)
	}
	u := a.Committables[0]
	by, err := newCommitter(s).Replace(ctx, u, []sink.RejectedRow{{Row: 0}, {Row: 14}, {Row: 7}}, u.Unit+1)
	if err != nil {
		t.Fatal(err)
	}
	if by.Lease != 2 || by.Checkpoint != 9 || by.Unit != 1 || by.Rows != 12 || string(by.Data) != string(u.Data) {
		t.Errorf("got %+v, want unit 1 of 12 rows with the same data", by)
	}
	var want []string
	for id := range 15 {
		if id != 0 && id != 14 && id != 7 {
			want = append(want, fmt.Sprintf("a/%d/%d=%d", id/5, id, id))
		}
	}
	if diff := cmp.Diff(want, stored(t, f, by.Segments)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	batches, err := loadUnit(ctx, f, &by)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(batches[0].Meta.Values[0]); got != "v1" {
		t.Errorf("got the raw record %q, want v1", got)
	}
	all := make([]sink.RejectedRow, 15)
	for i := range all {
		all[i].Row = int64(i)
	}
	if by, err = newCommitter(s).Replace(ctx, u, all, u.Unit+1); err != nil || by.Rows != 0 || len(by.Segments) != 0 {
		t.Errorf("got %+v, %v; want an empty replacement", by, err)
	}
	if o, _, err := newCommitter(s).Commit(ctx, by); o != sink.Committed {
		t.Errorf("got %v (%v) for an empty unit, want committed", o, err)
	}
}

func TestSegment_damageIsFound(t *testing.T) {
	content := sink.AppendBatch(nil, dateBatch("a/0", 0, 3), record.EncodeOptions{})
	content = sink.AppendBatch(content, dateBatch("a/1", 3, 2), record.EncodeOptions{Raw: true})
	data, err := segmentForm().Pack(content, 5)
	if err != nil {
		t.Fatal(err)
	}
	batches, err := segmentForm().Unpack(data)
	if err != nil || len(batches) != 2 || batches[1].Meta.Split != "a/1" || string(batches[1].Meta.Values[1]) != "v4" {
		t.Fatalf("got %d batches, %v", len(batches), err)
	}
	for i := range data {
		broken := slices.Clone(data)
		broken[i] ^= 1
		if _, err := segmentForm().Unpack(broken); err == nil {
			t.Errorf("a wrong bit in byte %d is not seen", i)
		}
	}
	for _, cut := range []int{1, 3, len(content) - 1} {
		if _, err := sink.SplitBatches(content[:cut]); err == nil {
			t.Errorf("content cut to %d bytes is taken", cut)
		}
	}
	foreign, err := sink.EncodeSegment(sink.SegmentInfo{Kind: "other/rows", Version: 1, Rows: 5}, content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := segmentForm().Unpack(foreign); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("got %v for a segment of another sink, want corrupt", err)
	}
	newer, err := sink.EncodeSegment(sink.SegmentInfo{Kind: segmentKind, Version: segmentVersion + 1, Rows: 5}, content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := segmentForm().Unpack(newer); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got %v for a newer version, want misconfigured", err)
	}
	f := new(folder)
	s, err := f.Put(context.Background(), data, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadUnit(context.Background(), f, &sink.Committable{Rows: 6, Segments: []sink.Segment{s}}); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("got %v for segments with fewer rows than the unit, want corrupt", err)
	}
}

// Content never panics the reader.
func FuzzSegment(f *testing.F) {
	f.Add(sink.AppendBatch(nil, dateBatch("a/0", 0, 3), record.EncodeOptions{Raw: true}))
	f.Add([]byte{1, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, content []byte) {
		batches, err := sink.SplitBatches(content)
		if err != nil {
			return
		}
		again := []byte{}
		for _, b := range batches {
			again = sink.AppendBatch(again, b, record.EncodeOptions{Raw: hasRaw([]*record.Batch{b})})
		}
		if _, err := sink.SplitBatches(again); err != nil {
			t.Errorf("what was read can't be written: %v", err)
		}
	})
}
