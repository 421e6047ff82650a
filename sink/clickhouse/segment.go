package clickhouse

import (
	"context"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

const opSegment fault.Op = "sink/clickhouse.Segment"

// The segments' form; the number changes with the bytes.
const (
	segmentKind    = "clickhouse/batches"
	segmentVersion = 1
)

func segmentForm() sink.BatchForm { return sink.BatchForm{Kind: segmentKind, Version: segmentVersion} }

// loadUnit reads all batches of a committable, in order.
func loadUnit(ctx context.Context, store sink.SegmentStore, c *sink.Committable) ([]*record.Batch, error) {
	var batches []*record.Batch
	var rows int64
	for _, s := range c.Segments {
		data, err := store.Get(ctx, s)
		if err != nil {
			return nil, err
		}
		part, err := segmentForm().Unpack(data)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", s.Name, err)
		}
		for _, b := range part {
			rows += int64(b.Rows)
		}
		batches = append(batches, part...)
	}
	if rows != c.Rows {
		return nil, fault.E(opSegment, fault.Corrupt, fmt.Errorf("the segments hold %d rows, the committable says %d", rows, c.Rows))
	}
	return batches, nil
}
