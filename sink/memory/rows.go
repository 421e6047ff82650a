package memory

import (
	"context"
	"fmt"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// The payload of a segment: one batch with its raw records.
const (
	segmentKind     = "memory/batch"
	segmentVersion  = 1
	segmentBytesMax = 64 << 20
)

func rowJSON(b *record.Batch, row int) []byte { return codec.AppendJSON(nil, b, row) }

// quoted is a text as it stands in a row's JSON.
func quoted(text string) []byte { return codec.AppendJSONString(nil, []byte(text)) }

// appendRow copies a row with its provenance.
func appendRow(dst, src *record.Batch, row int) {
	dst.Meta.Split, dst.Meta.Topic, dst.Meta.Partition = src.Meta.Split, src.Meta.Topic, src.Meta.Partition
	for i := range dst.Cols {
		dst.Cols[i].AppendFrom(&src.Cols[i], row)
	}
	l := src.Letter(row, "", record.Refusal{}) // a copy of the row's provenance
	dst.AppendMeta(record.RowMeta{Offset: l.Offset, Timestamp: l.Timestamp, Key: l.Key, Value: l.Value, Headers: l.Headers})
}

// load reads the batches of a committable, in order.
func (s *Sink) load(ctx context.Context, c *sink.Committable) ([]*record.Batch, error) {
	batches := make([]*record.Batch, 0, len(c.Segments))
	var rows int64
	for _, g := range c.Segments {
		b, err := s.loadSegment(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("segment %s: %w", g.Name, err)
		}
		rows += int64(b.Rows)
		batches = append(batches, b)
	}
	if rows != c.Rows {
		return nil, fault.E("sink/memory.Load", fault.Corrupt, fmt.Errorf("the segments hold %d rows, the committable says %d", rows, c.Rows))
	}
	return batches, nil
}

func (s *Sink) loadSegment(ctx context.Context, g sink.Segment) (*record.Batch, error) {
	data, kept := s.plugin.table.kept(g)
	if !kept {
		var err error
		if data, err = s.env.Segments.Get(ctx, g); err != nil {
			return nil, err
		}
	}
	info, payload, err := sink.DecodeSegment(data, segmentBytesMax)
	if err != nil {
		return nil, err
	}
	if info.Kind != segmentKind || info.Version != segmentVersion {
		return nil, fault.E("sink/memory.Load", fault.Misconfigured, fmt.Errorf("the payload is %q of version %d", info.Kind, info.Version))
	}
	return record.DecodeBatch(payload)
}
