package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

const opSegment fault.Op = "sink/postgres.Segment"

// The segments' form; the number changes with the bytes.
const (
	segmentKind    = "postgres/batches"
	segmentVersion = 1
)

func segmentForm() sink.BatchForm { return sink.BatchForm{Kind: segmentKind, Version: segmentVersion} }

// span is a range of rows of a unit.
type span struct{ from, to int64 }

// reader reads the rows of a committable one segment at a time, from any row on.
type reader struct {
	store sink.SegmentStore
	unit  *sink.Committable
	// last is the segment that was read last: a search for refused rows reads the same ones again and again.
	last    string
	batches []*record.Batch
}

// schema is that of the unit's first batch.
func (r *reader) schema(ctx context.Context) (*record.Schema, error) {
	for i := range r.unit.Segments {
		if err := r.segment(ctx, &r.unit.Segments[i]); err != nil {
			return nil, err
		}
		if len(r.batches) > 0 {
			return r.batches[0].Schema, nil
		}
	}
	return nil, fault.E(opSegment, fault.Corrupt, errors.New("the unit holds no rows"))
}

// each calls f for each batch that has rows of a span, with the batch's rows to take and the number of its first row in the
// unit.
func (r *reader) each(ctx context.Context, s span, f func(b *record.Batch, first int64, from, to int) error) error {
	var first int64
	for i := range r.unit.Segments {
		g := &r.unit.Segments[i]
		if first+g.Rows > s.from && first < s.to {
			if err := r.segment(ctx, g); err != nil {
				return err
			}
			if err := within(r.batches, first, s, f); err != nil {
				return err
			}
		}
		first += g.Rows
	}
	if first != r.unit.Rows {
		return fault.E(opSegment, fault.Corrupt, fmt.Errorf("the segments hold %d rows, the committable says %d", first, r.unit.Rows))
	}
	return nil
}

func within(batches []*record.Batch, first int64, s span, f func(b *record.Batch, first int64, from, to int) error) error {
	for _, b := range batches {
		from, to := max(s.from-first, 0), min(s.to-first, int64(b.Rows))
		if from < to {
			if err := f(b, first, int(from), int(to)); err != nil {
				return err
			}
		}
		first += int64(b.Rows)
	}
	return nil
}

// segment makes a segment the last that was read.
func (r *reader) segment(ctx context.Context, g *sink.Segment) error {
	if r.last == g.Name {
		return nil
	}
	r.last, r.batches = "", nil // before the next is read, so that one is in memory
	data, err := r.store.Get(ctx, *g)
	if err != nil {
		return err
	}
	batches, err := segmentForm().Unpack(data)
	if err != nil {
		return fmt.Errorf("segment %s: %w", g.Name, err)
	}
	var rows int64
	for _, b := range batches {
		rows += int64(b.Rows)
	}
	if rows != g.Rows {
		return fault.E(opSegment, fault.Corrupt, fmt.Errorf("segment %s holds %d rows, the committable says %d", g.Name, rows, g.Rows))
	}
	r.last, r.batches = g.Name, batches
	return nil
}
