package sink

import (
	"encoding/binary"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// BatchForm is the form of a sink's segments whose content is batches one after the other, each with its length in 4 bytes, little
// endian, before it; see [AppendBatch].
type BatchForm struct {
	Kind    string // of [SegmentInfo]
	Version uint32
}

// batchLengthBytes stand before each batch.
const batchLengthBytes = 4

const opBatches fault.Op = "sink.Unpack"

// Pack makes a segment's stored bytes of its content. It keeps no reference to content. Errors are as those of [EncodeSegment].
func (f BatchForm) Pack(content []byte, rows int64) ([]byte, error) {
	return EncodeSegment(SegmentInfo{Kind: f.Kind, Version: f.Version, Rows: rows, Compression: S2}, content)
}

// Unpack reads what Pack made, as batches, which may share memory with data. Errors are fault.Corrupt, but for a version that this
// build does not know, which is fault.Misconfigured.
func (f BatchForm) Unpack(data []byte) ([]*record.Batch, error) {
	info, content, err := DecodeSegment(data, SegmentBytesMax)
	if err != nil {
		return nil, err
	}
	if info.Kind != f.Kind {
		return nil, fault.E(opBatches, fault.Corrupt, fmt.Errorf("it holds %q, not %q", info.Kind, f.Kind))
	}
	if info.Version != f.Version {
		return nil, fault.E(opBatches, fault.Misconfigured, fmt.Errorf("it has version %d of %s, this build knows %d", info.Version, f.Kind, f.Version))
	}
	batches, err := SplitBatches(content)
	if err != nil {
		return nil, fault.E(opBatches, fault.Corrupt, err)
	}
	return batches, nil
}

// AppendBatch adds a batch to a segment's content.
func AppendBatch(content []byte, b *record.Batch, raw record.EncodeOptions) []byte {
	start := len(content)
	content = append(content, make([]byte, batchLengthBytes)...)
	content = record.EncodeBatchWith(content, b, raw)
	binary.LittleEndian.PutUint32(content[start:], uint32(len(content)-start-batchLengthBytes))
	return content
}

// SplitBatches decodes a segment's batches. They share its memory.
func SplitBatches(content []byte) ([]*record.Batch, error) {
	var batches []*record.Batch
	for len(content) > 0 {
		if len(content) < batchLengthBytes {
			return nil, fmt.Errorf("%d bytes after the last batch", len(content))
		}
		n := int(binary.LittleEndian.Uint32(content))
		content = content[batchLengthBytes:]
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
