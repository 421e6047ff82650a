package file

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// The compressions of files.
const (
	compressionNone = "none"
	compressionGzip = "gzip"
	compressionZstd = "zstd"
)

// extension returns how the names of files end; format is how they would end without compression.
func extension(format, compression string) (string, error) {
	switch compression {
	case compressionNone:
		return format, nil
	case compressionGzip:
		return format + ".gz", nil
	case compressionZstd:
		return format + ".zst", nil
	}
	return "", fmt.Errorf("compression %q is not one of none, gzip and zstd", compression)
}

// packer compresses what lies between begin and end as one member or frame, so that the bytes up to each end can be read, cut and
// joined.
type packer interface {
	io.Writer
	begin(to io.Writer)
	end() error
}

func newPacker(compression string) (packer, error) {
	switch compression {
	case compressionNone:
		return &plain{}, nil
	case compressionGzip:
		w, err := gzip.NewWriterLevel(io.Discard, gzip.DefaultCompression)
		return &gzipper{w}, err
	case compressionZstd:
		w, err := zstd.NewWriter(io.Discard, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		return &zstandard{w}, err
	}
	return nil, fmt.Errorf("compression %q is unknown", compression)
}

type plain struct{ io.Writer }

func (p *plain) begin(to io.Writer) { p.Writer = to }
func (p *plain) end() error         { return nil }

type gzipper struct{ *gzip.Writer }

func (g *gzipper) begin(to io.Writer) { g.Reset(to) }
func (g *gzipper) end() error         { return g.Close() }

type zstandard struct{ *zstd.Encoder }

func (z *zstandard) begin(to io.Writer) { z.Reset(to) }
func (z *zstandard) end() error         { return z.Close() }
