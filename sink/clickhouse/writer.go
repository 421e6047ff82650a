package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// writer stages one task's rows as segments. It implements sink.Writer.
type writer struct {
	task     int
	store    sink.SegmentStore
	schema   *record.Schema
	checkers []*checker
	raw      record.EncodeOptions
	limitRow int64
	limit    int64

	content []byte // of the segment that is being filled
	rows    int64
	uploads sink.Uploads
	part    partData
}

var _ sink.Writer = (*writer)(nil)

// partData is what a part tells Assemble beside its segments.
type partData struct {
	// Raw has each segment's bytes before compression: what counts for the size of a unit.
	Raw []int64 `json:"raw"`
}

func newWriter(task int, store sink.SegmentStore, schema *record.Schema, shapes []*shape) *writer {
	w := &writer{task: task, store: store, schema: schema, uploads: sink.Uploads{Pack: segmentForm().Pack}}
	for i, s := range shapes {
		w.checkers = append(w.checkers, newChecker(schema.Fields[i].Name, s))
	}
	return w
}

// Write stages the batch's rows, except those that the table's types can't hold.
func (w *writer) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	if err := w.sameSchema(b.Schema); err != nil {
		return nil, fault.E("sink/clickhouse.Write", fault.Misconfigured, err)
	}
	refused := w.check(b)
	if len(refused) > 0 {
		b = without(b, refused)
	}
	w.stage(ctx, b)
	return refused, nil
}

// limits sets how large a segment gets.
func (w *writer) limits(s *Settings) {
	w.limitRow = min(s.SegmentRows, s.UnitRows)
	w.limit = min(int64(s.Segment), int64(s.UnitBytes))
}

// stage adds rows to segments.
func (w *writer) stage(ctx context.Context, b *record.Batch) {
	for from := 0; from < b.Rows; {
		room := int(w.limitRow - w.rows)
		part := b
		if from > 0 || b.Rows > room {
			part = slice(b, from, min(b.Rows, from+room))
		}
		w.content = sink.AppendBatch(w.content, part, w.raw)
		w.rows += int64(part.Rows)
		from += part.Rows
		if w.rows >= w.limitRow || int64(len(w.content)) >= w.limit {
			w.flush(ctx)
		}
	}
}

// sameSchema reports an error if a batch has other columns than the writer was made for.
func (w *writer) sameSchema(s *record.Schema) error {
	if s == w.schema {
		return nil
	}
	same := slices.EqualFunc(s.Fields, w.schema.Fields, func(a, b record.Field) bool { return a.Name == b.Name && a.Type.Equal(&b.Type) })
	if !same {
		return fmt.Errorf("a batch has other columns than the writer was opened for")
	}
	w.schema = s
	return nil
}

// check finds the rows that can't be stored, each once, in order.
func (w *writer) check(b *record.Batch) []record.Refusal {
	var refused []record.Refusal
	for i, c := range w.checkers {
		c.find(&b.Cols[i], func(row int, reason string) {
			refused = append(refused, record.Refusal{Row: row, Reason: reason, Column: c.name, Byte: -1})
		})
	}
	if len(refused) == 0 {
		return nil
	}
	slices.SortStableFunc(refused, func(a, b record.Refusal) int { return a.Row - b.Row })
	return slices.CompactFunc(refused, func(a, b record.Refusal) bool { return a.Row == b.Row })
}

// without copies a batch without the refused rows: the caller still needs the batch as it is for the dead letters.
func without(b *record.Batch, refused []record.Refusal) *record.Batch {
	keep := make([]uint32, 0, b.Rows)
	for row := range b.Rows {
		if len(refused) > 0 && refused[0].Row == row {
			refused = refused[1:]
			continue
		}
		keep = append(keep, uint32(row))
	}
	return pick(b, keep)
}

// slice copies the rows from from to below to.
func slice(b *record.Batch, from, to int) *record.Batch {
	rows := make([]uint32, 0, to-from)
	for row := from; row < to; row++ {
		rows = append(rows, uint32(row))
	}
	return pick(b, rows)
}

// pick copies rows of a batch.
func pick(b *record.Batch, rows []uint32) *record.Batch {
	out := record.NewBatch(b.Schema)
	out.Meta.Split, out.Meta.Topic, out.Meta.Partition = b.Meta.Split, b.Meta.Topic, b.Meta.Partition
	for _, r := range rows {
		row := int(r)
		for i := range b.Cols {
			out.Cols[i].AppendFrom(&b.Cols[i], row)
		}
		meta := record.RowMeta{Offset: b.Meta.Offsets[row], Timestamp: b.Meta.Timestamps[row]}
		if row < len(b.Meta.Values) { // a batch from a segment may have been stored without
			meta.Key, meta.Value, meta.Headers = b.Meta.Keys[row], b.Meta.Values[row], b.Meta.Headers[row]
		}
		out.AppendMeta(meta)
	}
	return out
}

// flush sends the segment on its way to the store; Prepare waits for it.
func (w *writer) flush(ctx context.Context) {
	if w.rows == 0 {
		return
	}
	w.part.Raw = append(w.part.Raw, int64(len(w.content)))
	w.uploads.Add(ctx, w.store, w.content, w.rows)
	w.content, w.rows = nil, 0
}

// Prepare waits until all segments are durable.
func (w *writer) Prepare(ctx context.Context, _ sink.Cut) (sink.Part, error) {
	w.flush(ctx)
	segments, err := w.uploads.Wait(ctx)
	if err != nil {
		return sink.Part{}, fmt.Errorf("stage rows of task %d: %w", w.task, err)
	}
	part := sink.Part{Task: w.task, Segments: segments}
	for i, s := range segments {
		part.Rows += s.Rows
		part.Bytes += w.part.Raw[i]
	}
	if part.Data, err = json.Marshal(w.part); err != nil {
		return sink.Part{}, fmt.Errorf("stage rows of task %d: %w", w.task, err)
	}
	w.part = partData{}
	return part, nil
}

// Close drops what was not prepared and waits for uploads under way.
func (w *writer) Close() error {
	w.uploads.Stop()
	w.content, w.rows = nil, 0
	return nil
}
