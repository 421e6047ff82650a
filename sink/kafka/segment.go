package kafka

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// A segment's content is sealed batches one after the other, each with its partition and its length, 4 bytes each, little endian,
// before it.
const (
	segmentKind    = "kafka/batches"
	segmentVersion = 1
	pieceHeader    = 8
)

// appendPiece seals a batch into a segment's content.
func appendPiece(content []byte, o *open, c *compressor) []byte {
	at := len(content)
	content = append(content, make([]byte, pieceHeader)...)
	content = o.seal(content, c)
	binary.LittleEndian.PutUint32(content[at:], uint32(o.partition))
	binary.LittleEndian.PutUint32(content[at+4:], uint32(len(content)-at-pieceHeader))
	return content
}

// pack makes a segment's stored bytes of its content, which is compressed already.
func pack(content []byte, rows int64) ([]byte, error) {
	return sink.EncodeSegment(sink.SegmentInfo{Kind: segmentKind, Version: segmentVersion, Rows: rows, Compression: sink.None}, content)
}

// unpack reads what pack made. The pieces share its memory.
func unpack(data []byte) ([]piece, error) {
	info, content, err := sink.DecodeSegment(data, sink.SegmentBytesMax)
	if err != nil {
		return nil, err
	}
	if info.Kind != segmentKind {
		return nil, fault.E("", fault.Corrupt, fmt.Errorf("it holds %q, not %q", info.Kind, segmentKind))
	}
	if info.Version != segmentVersion {
		return nil, fault.E("", fault.Misconfigured, fmt.Errorf("it has version %d of %s, this build knows %d", info.Version, segmentKind, segmentVersion))
	}
	pieces, rows, err := splitContent(content)
	if err == nil && rows != info.Rows {
		err = fmt.Errorf("its batches have %d records, its header says %d", rows, info.Rows)
	}
	if err != nil {
		return nil, fault.E("", fault.Corrupt, err)
	}
	return pieces, nil
}

func splitContent(content []byte) (pieces []piece, rows int64, err error) {
	for len(content) > 0 {
		if len(content) < pieceHeader+batchHeader {
			return nil, 0, fmt.Errorf("%d bytes after the last batch", len(content))
		}
		p := piece{partition: int32(binary.LittleEndian.Uint32(content))}
		n := int64(binary.LittleEndian.Uint32(content[4:]))
		content = content[pieceHeader:]
		if n < batchHeader || n > int64(len(content)) {
			return nil, 0, fmt.Errorf("a batch of %d bytes, but %d are left", n, len(content))
		}
		p.batch = content[:n:n]
		if p.partition < 0 || p.batch[atMagic] != magic || int64(binary.BigEndian.Uint32(p.batch[atLength:])) != n-lengthCovers || count(p.batch) <= 0 {
			return nil, 0, fmt.Errorf("%d bytes for partition %d that are no batch", n, p.partition)
		}
		rows += int64(count(p.batch))
		pieces = append(pieces, p)
		content = content[n:]
	}
	return pieces, rows, nil
}

// loaded is a segment that was read, or why not.
type loaded struct {
	pieces []piece
	err    error
}

// load reads a committable's segments in order, one ahead of its reader. The channel is closed after the last, or after an error.
// Its goroutine ends with ctx.
func load(ctx context.Context, store sink.SegmentStore, segments []sink.Segment) <-chan loaded {
	out := make(chan loaded)
	go func() {
		defer close(out)
		for _, s := range segments {
			var l loaded
			data, err := store.Get(ctx, s)
			if err == nil {
				l.pieces, err = unpack(data)
			}
			if err != nil {
				l.err = fmt.Errorf("segment %s: %w", s.Name, err)
			}
			select {
			case out <- l:
			case <-ctx.Done():
				return
			}
			if l.err != nil {
				return
			}
		}
	}()
	return out
}
