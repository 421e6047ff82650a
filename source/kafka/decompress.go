package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// errNoRoom means that the decompressed data is larger than the room for it.
var errNoRoom = errors.New("decompressed data is larger than its bound")

// decompressor decompresses batches into memory that the caller bounds. The client library's own decompressor has no bound
// that can be set from outside, and its limit of 2 GiB is none. It is safe for use by several goroutines.
type decompressor struct {
	gzips sync.Pool // *gzip.Reader
	lz4s  sync.Pool // *lz4.Reader
	zstds sync.Pool // *zstd.Decoder
}

// into appends the data to dst without growing it: it answers errNoRoom when cap(dst) does not suffice, and then dst's
// contents up to its length are as before.
func (d *decompressor) into(dst, src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	switch codec {
	case kgo.CodecNone:
		if len(src) > cap(dst)-len(dst) {
			return nil, errNoRoom
		}
		return append(dst, src...), nil
	case kgo.CodecGzip:
		return d.gzip(dst, src)
	case kgo.CodecSnappy:
		return snappy(dst, src)
	case kgo.CodecLz4:
		return d.lz4(dst, src)
	case kgo.CodecZstd:
		return d.zstd(dst, src)
	case kgo.CodecError:
	}
	return nil, fmt.Errorf("unknown compression codec %d", codec)
}

func (d *decompressor) gzip(dst, src []byte) ([]byte, error) {
	r, ok := d.gzips.Get().(*gzip.Reader)
	if !ok {
		r = new(gzip.Reader)
	}
	defer d.gzips.Put(r)
	if err := r.Reset(bytes.NewReader(src)); err != nil {
		return nil, err
	}
	return fill(dst, r)
}

func (d *decompressor) lz4(dst, src []byte) ([]byte, error) {
	r, ok := d.lz4s.Get().(*lz4.Reader)
	if !ok {
		r = lz4.NewReader(nil)
	}
	defer d.lz4s.Put(r)
	r.Reset(bytes.NewReader(src))
	return fill(dst, r)
}

func (d *decompressor) zstd(dst, src []byte) ([]byte, error) {
	dec, ok := d.zstds.Get().(*zstd.Decoder)
	if !ok {
		var err error
		dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
	}
	defer d.zstds.Put(dec)
	if cap(dst) == len(dst) {
		return nil, errNoRoom // a full slice would count as none, and be replaced
	}
	out, err := dec.DecodeAll(src, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return nil, errNoRoom
	}
	return out, err
}

// fill reads r to its end into the room behind dst.
func fill(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			var one [1]byte
			n, err := io.ReadFull(r, one[:])
			if n > 0 {
				return nil, errNoRoom
			}
			if errors.Is(err, io.EOF) {
				return dst, nil
			}
			return nil, err
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// xerialHeaderLen is the length of the frame header that Java clients put before blocks of snappy: magic and two versions.
const xerialHeaderLen = 16

func snappy(dst, src []byte) ([]byte, error) {
	if len(src) < xerialHeaderLen || !bytes.HasPrefix(src, []byte("\x82SNAPPY\x00")) {
		return snappyBlock(dst, src)
	}
	for src = src[xerialHeaderLen:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, errors.New("snappy: cut frame")
		}
		size := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; int64(len(src)) < size {
			return nil, errors.New("snappy: cut block")
		}
		var err error
		if dst, err = snappyBlock(dst, src[:size]); err != nil {
			return nil, err
		}
		src = src[size:]
	}
	return dst, nil
}

func snappyBlock(dst, block []byte) ([]byte, error) {
	size, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if size > cap(dst)-len(dst) {
		return nil, errNoRoom
	}
	out, err := s2.Decode(dst[len(dst):], block)
	if err != nil {
		return nil, err
	}
	return dst[:len(dst)+len(out)], nil
}

// bounded is a decompressor for the client library, for message sets older than record batches.
type bounded struct {
	inner *decompressor
	limit int
}

// Decompress decompresses src into memory of its own, of at most the limit.
func (b bounded) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	out, err := b.inner.grow(src, codec, b.limit)
	if errors.Is(err, errNoRoom) {
		return nil, fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	}
	return out, err
}

// grow decompresses src into memory of its own that it doubles until the data fits, up to the limit.
func (d *decompressor) grow(src []byte, codec kgo.CompressionCodecType, limit int) ([]byte, error) {
	for size := min(limit, max(4*len(src), pieceBytes)); ; size = min(limit, 2*size) {
		out, err := d.into(make([]byte, 0, size), src, codec)
		if !errors.Is(err, errNoRoom) || size == limit {
			return out, err
		}
	}
}
