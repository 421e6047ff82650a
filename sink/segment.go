package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestd/ingestd/fault"
)

// Compression says how the payload of a segment is stored. The list is append-only: the numbers stand in segments.
type Compression uint8

const (
	// None stores the payload as it is.
	None Compression = iota
	// S2 is a block of klauspost/compress/s2: little CPU, about half the size of typical rows.
	S2
	// Zstd is one Zstandard frame: smaller, at several times the CPU.
	Zstd
)

// String returns the name of the compression in lower case.
func (c Compression) String() string {
	names := [...]string{"none", "s2", "zstd"}
	if int(c) < len(names) {
		return names[c]
	}
	return "invalid"
}

// SegmentInfo says what a segment's payload is.
type SegmentInfo struct {
	// Kind names the payload's form, by the sink that wrote it: "memory/rows". 1 to 64 bytes.
	Kind string
	// Version is the version of Kind; a reader refuses those that it does not know.
	Version uint32
	// Rows is how many rows the payload holds.
	Rows int64
	// Compression is how the payload was to be stored. A segment that shrinks more than a reader believes is stored as None.
	Compression Compression
}

// The layout of a segment, see docs/formats/segment.md.
const (
	segmentMagic   = "INGSEG\r\n" // the line end shows a transfer as text
	segmentVersion = 1

	segmentFixed    = 48 // bytes before the kind
	segmentChecksum = 8  // bytes of the header's checksum, after the kind
	segmentKindMax  = 64

	offsetVersion     = 8
	offsetCompression = 10
	offsetKindLength  = 11
	offsetKindVersion = 12
	offsetRows        = 16
	offsetPlain       = 24
	offsetStored      = 32
	offsetPayloadSum  = 40
)

// segmentRatioMax is how much a payload may grow when it is decompressed. A Zstandard block of 128 KiB takes 4 bytes at least,
// so nothing that Zstandard makes of rows is above it; a larger one is stored as it is.
const segmentRatioMax = 1 << 15

// SegmentBytesMax is the largest payload that a segment may have.
const SegmentBytesMax = 1 << 30

// EncodeSegment returns the stored form of a payload: header with its checksum, then the payload, compressed and checksummed.
// It keeps no reference to payload. An error is fault.Misconfigured: the info or the size is outside the format's limits.
func EncodeSegment(info SegmentInfo, payload []byte) ([]byte, error) {
	if err := info.check(); err != nil {
		return nil, fault.E("sink.EncodeSegment", fault.Misconfigured, err)
	}
	if len(payload) > SegmentBytesMax {
		return nil, fault.E("sink.EncodeSegment", fault.Misconfigured, fmt.Errorf("the payload has %d bytes, the most is %d", len(payload), SegmentBytesMax))
	}
	stored, used, err := compress(info.Compression, payload)
	if err != nil {
		return nil, fault.E("sink.EncodeSegment", fault.Misconfigured, err)
	}
	out := make([]byte, segmentFixed, segmentFixed+len(info.Kind)+segmentChecksum+len(stored))
	copy(out, segmentMagic)
	binary.LittleEndian.PutUint16(out[offsetVersion:], segmentVersion)
	out[offsetCompression] = byte(used)
	out[offsetKindLength] = byte(len(info.Kind))
	binary.LittleEndian.PutUint32(out[offsetKindVersion:], info.Version)
	binary.LittleEndian.PutUint64(out[offsetRows:], uint64(info.Rows))
	binary.LittleEndian.PutUint64(out[offsetPlain:], uint64(len(payload)))
	binary.LittleEndian.PutUint64(out[offsetStored:], uint64(len(stored)))
	binary.LittleEndian.PutUint64(out[offsetPayloadSum:], xxhash.Sum64(stored))
	out = append(out, info.Kind...)
	out = binary.LittleEndian.AppendUint64(out, xxhash.Sum64(out))
	return append(out, stored...), nil
}

// DecodeSegment reads what EncodeSegment made. limit is the largest payload that the caller takes; no memory is taken before the
// declared sizes were checked against it and against the bytes that are there. The payload may share memory with data. Every
// error is fault.Corrupt, but for a version that this build does not know, which is fault.Misconfigured.
func DecodeSegment(data []byte, limit int64) (SegmentInfo, []byte, error) {
	info, plain, stored, err := segmentHeader(data, limit)
	if err != nil {
		if errors.Is(err, errSegmentVersion) {
			return SegmentInfo{}, nil, fault.WithRemedy("sink.DecodeSegment", fault.Misconfigured, err, "run the version of ingestd that wrote it, or a later one")
		}
		return SegmentInfo{}, nil, fault.E("sink.DecodeSegment", fault.Corrupt, err)
	}
	payload, err := decompress(info.Compression, stored, plain)
	if err != nil {
		return SegmentInfo{}, nil, fault.E("sink.DecodeSegment", fault.Corrupt, err)
	}
	return info, payload, nil
}

var errSegmentVersion = errors.New("unknown format version")

func (i *SegmentInfo) check() error {
	if len(i.Kind) < 1 || len(i.Kind) > segmentKindMax {
		return fmt.Errorf("the kind has %d bytes, it may have 1 to %d", len(i.Kind), segmentKindMax)
	}
	if i.Rows < 0 {
		return fmt.Errorf("%d rows", i.Rows)
	}
	if i.Compression > Zstd {
		return fmt.Errorf("unknown compression %d", i.Compression)
	}
	return nil
}

// segmentHeader checks all but the decompressed bytes, and returns the decompressed size and the stored payload.
func segmentHeader(data []byte, limit int64) (info SegmentInfo, plain int, stored []byte, err error) {
	fail := func(format string, args ...any) (SegmentInfo, int, []byte, error) {
		return SegmentInfo{}, 0, nil, fmt.Errorf(format, args...)
	}
	if len(data) < segmentFixed || string(data[:len(segmentMagic)]) != segmentMagic {
		return fail("%d bytes that are no segment", len(data))
	}
	if v := binary.LittleEndian.Uint16(data[offsetVersion:]); v != segmentVersion {
		return fail("segment of version %d, this build reads %d: %w", v, segmentVersion, errSegmentVersion)
	}
	head := segmentFixed + int(data[offsetKindLength])
	if len(data) < head+segmentChecksum {
		return fail("the header is cut at %d bytes", len(data))
	}
	if sum := xxhash.Sum64(data[:head]); sum != binary.LittleEndian.Uint64(data[head:]) {
		return fail("the header's checksum is %016x, it says %016x", sum, binary.LittleEndian.Uint64(data[head:]))
	}
	info = SegmentInfo{
		Kind:        string(data[segmentFixed:head]),
		Version:     binary.LittleEndian.Uint32(data[offsetKindVersion:]),
		Rows:        int64(binary.LittleEndian.Uint64(data[offsetRows:])),
		Compression: Compression(data[offsetCompression]),
	}
	if err := info.check(); err != nil {
		return fail("%w", err)
	}
	stored = data[head+segmentChecksum:]
	if n := binary.LittleEndian.Uint64(data[offsetStored:]); n != uint64(len(stored)) {
		return fail("the payload is said to have %d stored bytes, there are %d", n, len(stored))
	}
	size := binary.LittleEndian.Uint64(data[offsetPlain:])
	if size > uint64(min(max(limit, 0), SegmentBytesMax)) || size > segmentRatioMax*uint64(len(stored)) {
		return fail("%d stored bytes are said to become %d, above the limit of %d or a factor of %d", len(stored), size, limit, segmentRatioMax)
	}
	if sum := xxhash.Sum64(stored); sum != binary.LittleEndian.Uint64(data[offsetPayloadSum:]) {
		return fail("the payload's checksum is %016x, the header says %016x", sum, binary.LittleEndian.Uint64(data[offsetPayloadSum:]))
	}
	return info, int(size), stored, nil
}

// compress returns the stored bytes and how they were stored.
func compress(c Compression, payload []byte) ([]byte, Compression, error) {
	var stored []byte
	switch c {
	case None:
		return payload, None, nil
	case S2:
		stored = s2.Encode(nil, payload)
	case Zstd:
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, None, err
		}
		stored = encoder.EncodeAll(payload, nil)
	}
	if len(payload) > segmentRatioMax*len(stored) || len(stored) >= len(payload) {
		return payload, None, nil
	}
	return stored, c, nil
}

// decompress returns exactly plain bytes or an error.
func decompress(c Compression, stored []byte, plain int) ([]byte, error) {
	switch c {
	case None:
		if len(stored) != plain {
			return nil, fmt.Errorf("%d bytes that are not compressed are said to be %d", len(stored), plain)
		}
		return stored, nil
	case S2:
		if n, err := s2.DecodedLen(stored); err != nil || n != plain {
			return nil, fmt.Errorf("the s2 block has %d bytes, the header says %d: %w", n, plain, errors.Join(err))
		}
		return s2.Decode(make([]byte, plain), stored)
	case Zstd:
		return decompressZstd(stored, plain)
	}
	return nil, fmt.Errorf("unknown compression %d", c)
}

func decompressZstd(stored []byte, plain int) ([]byte, error) {
	// A window above the frame's content is never needed; without the bound a header may ask for any.
	const windowMin, windowMax = 1 << 10, math.MaxInt32
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(max(plain, windowMin))), zstd.WithDecoderMaxWindow(uint64(min(max(plain, windowMin), windowMax))))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	payload, err := decoder.DecodeAll(stored, make([]byte, 0, plain))
	if err != nil {
		return nil, err
	}
	if len(payload) != plain {
		return nil, fmt.Errorf("the zstd frame has %d bytes, the header says %d", len(payload), plain)
	}
	return payload, nil
}
