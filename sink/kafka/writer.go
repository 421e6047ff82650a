package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// writer stages one task's rows as ready record batches. It implements sink.Writer.
type writer struct {
	task     int
	settings *Settings
	target   *target
	encoders encoders
	store    sink.SegmentStore
	schema   *record.Schema
	former   *former

	open    map[int32]*open // batches that are being filled
	full    []*open         // batches that are complete, in order
	bytes   int64           // of both
	rows    int64           // of both
	trial   *compressor     // for records that may be too large
	uploads uploads
	part    partData
}

var _ sink.Writer = (*writer)(nil)

// partData is what a part tells Assemble beside its segments: how many records each has for each partition.
type partData struct {
	Segments []layout `json:"segments,omitempty"`
}

// layout is pairs of a partition and its number of records, by partition.
type layout [][2]int64

func newWriter(s *Sink, task int, schema *record.Schema) (*writer, error) {
	w := &writer{
		task: task, settings: s.settings, target: &s.target, encoders: s.encoders, store: s.env.Segments, schema: schema,
		open: map[int32]*open{}, trial: newCompressor(s.settings.Compression), uploads: uploads{compression: s.settings.Compression},
	}
	var err error
	w.former, err = newFormer(s.settings, w.target, w.encoders, schema)
	if w.former != nil {
		w.former.turn = int32(task) // tasks begin at different partitions
	}
	return w, err
}

// Write stages the batch's rows, except those that can't be a record of the topic.
func (w *writer) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	const op = "sink/kafka.Write"
	if err := w.sameSchema(b.Schema); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	w.former.take(b)
	now := time.Now().UnixMilli()
	var refused []record.Refusal
	for i := range b.Rows {
		partition, ok, err := w.former.form(b, i, now)
		if err != nil {
			return nil, at(op, fault.Misconfigured, err)
		}
		if ok {
			ok = w.add(partition, i)
		}
		if !ok {
			w.former.reason.Row = i
			refused = append(refused, w.former.reason)
		}
		if w.bytes >= int64(w.settings.SegmentBytes) {
			w.flush(ctx)
		}
	}
	return refused, nil
}

// sameSchema goes on with another schema value of the same columns.
func (w *writer) sameSchema(s *record.Schema) error {
	if s == w.schema {
		return nil
	}
	same := slices.EqualFunc(s.Fields, w.schema.Fields, func(a, b record.Field) bool { return a.Name == b.Name && a.Type.Equal(&b.Type) })
	if !same {
		return errors.New("a batch has other columns than the writer was opened for")
	}
	w.schema = s
	return nil
}

// add puts the former's record into the batch of its partition.
func (w *writer) add(partition int32, i int) bool {
	r := &w.former.row
	o := w.open[partition]
	if o == nil {
		o = &open{partition: partition, body: w.uploads.body()}
		w.open[partition] = o
	}
	room := min(int(w.settings.BatchBytes), w.target.bodyMax())
	size := o.size(r)
	if o.count > 0 && len(o.body)+size > room {
		w.full = append(w.full, o)
		o = &open{partition: partition, body: w.uploads.body()}
		w.open[partition] = o
		size = o.size(r)
	}
	if size > w.target.bodyMax() && !w.fits(r) {
		return w.former.refuse(i, "", fmt.Sprintf("the record has %d bytes, and the topic's max.message.bytes is %d", size+batchHeader, w.target.messageMax))
	}
	o.append(r)
	w.bytes += int64(size)
	w.rows++
	return true
}

// fits compresses a record that is too large as it is.
func (w *writer) fits(r *row) bool {
	alone := open{}
	alone.append(r)
	body, _ := w.trial.compress(alone.body)
	return len(body) <= w.target.bodyMax()
}

// flush sends the segment on its way to the store; Prepare waits for it.
func (w *writer) flush(ctx context.Context) {
	if w.rows == 0 {
		return
	}
	batches := w.full
	for _, partition := range sortedKeys(w.open) {
		if o := w.open[partition]; o.count > 0 {
			batches = append(batches, o)
		}
	}
	w.part.Segments = append(w.part.Segments, layoutOf(batches))
	w.uploads.add(ctx, w.store, batches, w.rows)
	w.full, w.bytes, w.rows = nil, 0, 0
	clear(w.open)
}

// layoutOf sums up batches by partition.
func layoutOf(batches []*open) layout {
	sums := map[int32]int64{}
	for _, o := range batches {
		sums[o.partition] += int64(o.count)
	}
	return newLayout(sums)
}

func newLayout(sums map[int32]int64) layout {
	var l layout
	for _, partition := range sortedKeys(sums) {
		l = append(l, [2]int64{int64(partition), sums[partition]})
	}
	return l
}

// Prepare waits until all segments are durable.
func (w *writer) Prepare(ctx context.Context, _ sink.Cut) (sink.Part, error) {
	w.flush(ctx)
	done, err := w.uploads.wait(ctx)
	if err != nil {
		return sink.Part{}, fmt.Errorf("stage rows of task %d: %w", w.task, err)
	}
	part := sink.Part{Task: w.task}
	for _, u := range done {
		part.Segments = append(part.Segments, u.segment)
		part.Rows += u.segment.Rows
		part.Bytes += u.bytes
	}
	if part.Data, err = json.Marshal(w.part); err != nil {
		return sink.Part{}, fmt.Errorf("stage rows of task %d: %w", w.task, err)
	}
	w.part = partData{}
	return part, nil
}

// Close drops what was not prepared and waits for uploads under way.
func (w *writer) Close() error {
	w.uploads.stop()
	clear(w.open)
	w.full = nil
	return nil
}
