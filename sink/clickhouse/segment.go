package clickhouse

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

const opSegment fault.Op = "sink/clickhouse.Segment"

// A segment's content is batches one after the other, each with its length in 4 bytes, little endian, before it.
const (
	segmentKind    = "clickhouse/batches"
	segmentVersion = 1
	lengthBytes    = 4
)

// pack makes a segment's stored bytes of its content.
func pack(content []byte, rows int64) ([]byte, error) {
	return sink.EncodeSegment(sink.SegmentInfo{Kind: segmentKind, Version: segmentVersion, Rows: rows, Compression: sink.S2}, content)
}

// unpack reads what pack made, as batches.
func unpack(data []byte) ([]*record.Batch, error) {
	info, content, err := sink.DecodeSegment(data, sink.SegmentBytesMax)
	if err != nil {
		return nil, err
	}
	if info.Kind != segmentKind {
		return nil, fault.E(opSegment, fault.Corrupt, fmt.Errorf("it holds %q, not %q", info.Kind, segmentKind))
	}
	if info.Version != segmentVersion {
		return nil, fault.E(opSegment, fault.Misconfigured, fmt.Errorf("it has version %d of %s, this build knows %d", info.Version, segmentKind, segmentVersion))
	}
	batches, err := splitContent(content)
	if err != nil {
		return nil, fault.E(opSegment, fault.Corrupt, err)
	}
	return batches, nil
}

// appendBatch adds a batch to a segment's content.
func appendBatch(content []byte, b *record.Batch, raw record.EncodeOptions) []byte {
	start := len(content)
	content = append(content, make([]byte, lengthBytes)...)
	content = record.EncodeBatchWith(content, b, raw)
	binary.LittleEndian.PutUint32(content[start:], uint32(len(content)-start-lengthBytes))
	return content
}

// splitContent decodes a segment's batches. They share its memory.
func splitContent(content []byte) ([]*record.Batch, error) {
	var batches []*record.Batch
	for len(content) > 0 {
		if len(content) < lengthBytes {
			return nil, fmt.Errorf("%d bytes after the last batch", len(content))
		}
		n := int(binary.LittleEndian.Uint32(content))
		content = content[lengthBytes:]
		if n > len(content) {
			return nil, fmt.Errorf("a batch of %d bytes, but %d are left", n, len(content))
		}
		b, err := record.DecodeBatch(content[:n])
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
		content = content[n:]
	}
	return batches, nil
}

// loadUnit reads all batches of a committable, in order.
func loadUnit(ctx context.Context, store sink.SegmentStore, c *sink.Committable) ([]*record.Batch, error) {
	var batches []*record.Batch
	var rows int64
	for _, s := range c.Segments {
		data, err := store.Get(ctx, s)
		if err != nil {
			return nil, err
		}
		part, err := unpack(data)
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
