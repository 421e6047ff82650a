package kafka

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kgo"
)

// compressor compresses bodies of batches. It is used by one goroutine at a time.
type compressor struct {
	library kgo.Compressor // nil for none
	scratch bytes.Buffer
}

func newCompressor(compression string) *compressor {
	codec, ok := codecOf(compression)
	if !ok {
		return &compressor{}
	}
	library, err := kgo.DefaultCompressor(codec)
	if err != nil {
		panic("sink/kafka: a codec of the client library is unknown to it: " + err.Error())
	}
	return &compressor{library: library}
}

// compress returns the stored form of a body and the codec's number in the batch's attributes. What does not get smaller stays as
// it is, so that a batch is never larger than its records. The result is valid until the next call.
func (c *compressor) compress(body []byte) ([]byte, kgo.CompressionCodecType) {
	if c.library == nil {
		return body, kgo.CodecNone
	}
	c.scratch.Reset()
	out, codec := c.library.Compress(&c.scratch, body)
	if len(out) >= len(body) {
		return body, kgo.CodecNone
	}
	return out, codec
}
