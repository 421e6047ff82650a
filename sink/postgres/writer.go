package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// writer stages one task's rows as segments. It implements sink.Writer.
type writer struct {
	task   int
	store  sink.SegmentStore
	schema *record.Schema
	layout *layout
	// letters is true for a writer of dead letters, whose texts are made to fit.
	letters  bool
	raw      record.EncodeOptions
	limitRow int64
	limit    int64

	content []byte // of the segment that is being filled
	rows    int64
	bytes   int64 // of all segments, before compression
	uploads sink.Uploads
}

var _ sink.Writer = (*writer)(nil)

func newWriter(task int, store sink.SegmentStore, s *Settings) *writer {
	return &writer{task: task, store: store, uploads: sink.Uploads{Pack: segmentForm().Pack}, limitRow: s.SegmentRows, limit: int64(s.Segment)}
}

// Write stages the batch's rows, except those that the table's types can't hold.
func (w *writer) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	if !sameSchema(b.Schema, w.schema) {
		return nil, fault.E("sink/postgres.Write", fault.Misconfigured, fmt.Errorf("a batch has other columns than the writer was opened for"))
	}
	w.schema = b.Schema
	if w.letters {
		b = storableLetters(b)
	}
	refused := w.check(b)
	if len(refused) > 0 {
		b = without(b, refused)
	}
	w.stage(ctx, b)
	return refused, nil
}

// sameSchema reports whether rows of two schemas are stored in the same way.
func sameSchema(a, b *record.Schema) bool {
	return a == b || slices.EqualFunc(a.Fields, b.Fields, func(f, g record.Field) bool { return f.Name == g.Name && f.Type.Equal(&g.Type) })
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

// check finds the rows that can't be stored, each once, in order.
func (w *writer) check(b *record.Batch) []record.Refusal {
	var refused []record.Refusal
	deletes := w.layout.deletes(b)
	for i := range w.layout.cells {
		l := &w.layout.cells[i]
		col := &b.Cols[l.col]
		if l.check == nil && (!l.notNull || !col.Type.Nullable) {
			continue
		}
		for row := range b.Rows {
			if !l.inKey && deletes(row) {
				continue
			}
			if why := l.refuse(col, row); why != "" {
				refused = append(refused, record.Refusal{Row: row, Reason: why, Column: l.name, Byte: -1})
			}
		}
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
	w.bytes += int64(len(w.content))
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
	part := sink.Part{Task: w.task, Segments: segments, Bytes: w.bytes}
	for _, s := range segments {
		part.Rows += s.Rows
	}
	w.bytes = 0
	return part, nil
}

// Close drops what was not prepared and waits for uploads under way.
func (w *writer) Close() error {
	w.uploads.Stop()
	w.content, w.rows, w.bytes = nil, 0, 0
	return nil
}
