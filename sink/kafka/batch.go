package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/record"
)

// The layout of a record batch of magic 2, big endian, as the protocol's documentation has it. The base offset is 0 and the leader
// epoch -1 when a producer sends it.
const (
	atLength      = 8
	atLeaderEpoch = 12
	atMagic       = 16
	atCRC         = 17
	atAttributes  = 21 // the CRC covers everything from here on
	atLastDelta   = 23
	atFirstTime   = 27
	atMaxTime     = 35
	atProducer    = 43
	atEpoch       = 51
	atSequence    = 53
	atCount       = 57
	batchHeader   = 61

	lengthCovers  = 12 // bytes before what the length counts
	magic         = 2
	transactional = 0x10
)

// row is one record that is about to be written. A nil key or value is none.
type row struct {
	key, value []byte
	headers    []record.Header
	timestamp  int64 // milliseconds since 1970
}

// open is a batch that is being filled.
type open struct {
	partition  int32
	count      int32
	first, max int64 // timestamps
	body       []byte
}

// size is what r takes in the batch, uncompressed.
func (o *open) size(r *row) int {
	n := o.bodySize(r)
	return varintSize(int64(n)) + n
}

func (o *open) bodySize(r *row) int {
	delta := int64(0)
	if o.count > 0 {
		delta = r.timestamp - o.first
	}
	n := 1 + varintSize(delta) + varintSize(int64(o.count)) + bytesSize(r.key) + bytesSize(r.value) + varintSize(int64(len(r.headers)))
	for i := range r.headers {
		h := &r.headers[i]
		n += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	return n
}

// append adds a record.
func (o *open) append(r *row) {
	if o.count == 0 {
		o.first, o.max = r.timestamp, r.timestamp
	}
	o.max = max(o.max, r.timestamp)
	b := binary.AppendVarint(o.body, int64(o.bodySize(r)))
	b = append(b, 0) // attributes: none are defined
	b = binary.AppendVarint(b, r.timestamp-o.first)
	b = binary.AppendVarint(b, int64(o.count))
	b = appendBytes(b, r.key)
	b = appendBytes(b, r.value)
	b = binary.AppendVarint(b, int64(len(r.headers)))
	for i := range r.headers {
		h := &r.headers[i]
		b = binary.AppendVarint(b, int64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendBytes(b, h.Value)
	}
	o.body = b
	o.count++
}

// varintSize is the length of binary.AppendVarint's encoding.
func varintSize(v int64) int {
	n := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

// appendBytes appends a length and bytes; nil is the length -1.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// seal appends the batch to dst as it is sent, but for producer, epoch, sequence and CRC: see patch.
func (o *open) seal(dst []byte, c *compressor) []byte {
	body, codec := c.compress(o.body)
	at := len(dst)
	dst = append(dst, make([]byte, batchHeader)...)
	b := dst[at:]
	binary.BigEndian.PutUint32(b[atLength:], uint32(batchHeader-lengthCovers+len(body)))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], math.MaxUint32)
	b[atMagic] = magic
	binary.BigEndian.PutUint16(b[atAttributes:], transactional|uint16(codec))
	binary.BigEndian.PutUint32(b[atLastDelta:], uint32(o.count-1))
	binary.BigEndian.PutUint64(b[atFirstTime:], uint64(o.first))
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(o.max))
	binary.BigEndian.PutUint32(b[atCount:], uint32(o.count))
	return append(dst, body...)
}

// producer is who sends, as InitProducerId or EndTxn said.
type producer struct {
	id    int64
	epoch int16
}

// patch writes producer and sequence into a sealed batch, and the CRC.
func patch(b []byte, p producer, sequence int32) {
	binary.BigEndian.PutUint64(b[atProducer:], uint64(p.id))
	binary.BigEndian.PutUint16(b[atEpoch:], uint16(p.epoch))
	binary.BigEndian.PutUint32(b[atSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // the table is the standard library's own

// count returns how many records a sealed batch has.
func count(b []byte) int32 { return int32(binary.BigEndian.Uint32(b[atCount:])) }

// codecOf returns the client library's codec for the name of a compression; ok is false for none.
func codecOf(compression string) (codec kgo.CompressionCodec, ok bool) {
	switch compression {
	case compressionLZ4:
		return kgo.Lz4Compression(), true
	case compressionZstd:
		return kgo.ZstdCompression(), true
	case compressionSnappy:
		return kgo.SnappyCompression(), true
	case compressionGzip:
		return kgo.GzipCompression(), true
	}
	return kgo.NoCompression(), false
}
