package kafka

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// testRecord is a record to encode.
type testRecord struct {
	delta      int64 // of the offset
	time       int64 // delta of the timestamp
	key, value []byte
	headers    []kgo.RecordHeader
}

// testBatch is a record batch to encode.
type testBatch struct {
	first      int64
	lastDelta  int64 // -1: the last record's
	epoch      int32
	attributes int16 // codec included
	firstTime  int64
	maxTime    int64
	producer   int64
	count      int // 0: as many as there are records
	records    []testRecord
}

func appendBytes(to, data []byte) []byte {
	if data == nil {
		return binary.AppendVarint(to, -1)
	}
	return append(binary.AppendVarint(to, int64(len(data))), data...)
}

func encodeRecords(records []testRecord) []byte {
	var out []byte
	for _, r := range records {
		body := []byte{0}
		body = binary.AppendVarint(body, r.time)
		body = binary.AppendVarint(body, r.delta)
		body = appendBytes(appendBytes(body, r.key), r.value)
		body = binary.AppendVarint(body, int64(len(r.headers)))
		for _, h := range r.headers {
			body = appendBytes(appendBytes(body, []byte(h.Key)), h.Value)
		}
		out = append(binary.AppendVarint(out, int64(len(body))), body...)
	}
	return out
}

// compressors keeps a compressor of each codec: making one is slow.
var compressors = sync.OnceValue(func() map[kgo.CompressionCodec]kgo.Compressor {
	all := map[kgo.CompressionCodec]kgo.Compressor{}
	for _, codec := range codecs() {
		c, err := kgo.DefaultCompressor(codec)
		if err != nil {
			panic(err)
		}
		all[codec] = c
	}
	return all
})

func compress(codec kgo.CompressionCodec, data []byte) []byte {
	c := compressors()[codec]
	if c == nil {
		return data
	}
	out, _ := c.Compress(new(bytes.Buffer), data)
	return bytes.Clone(out)
}

// codecs returns every codec by its number in a batch's attributes.
func codecs() []kgo.CompressionCodec {
	return []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
}

func (b testBatch) encode(tb testing.TB) []byte {
	tb.Helper()
	data := compress(codecs()[b.attributes&attrCodec], encodeRecords(b.records))
	raw := make([]byte, recordsAt, recordsAt+len(data))
	raw = append(raw, data...)
	binary.BigEndian.PutUint64(raw, uint64(b.first))
	binary.BigEndian.PutUint32(raw[lengthAt:], uint32(len(raw)-lengthSpan))
	binary.BigEndian.PutUint32(raw[epochAt:], uint32(b.epoch))
	raw[magicAt] = 2
	binary.BigEndian.PutUint16(raw[attributesAt:], uint16(b.attributes))
	if b.lastDelta < 0 {
		b.lastDelta = b.records[len(b.records)-1].delta
	}
	binary.BigEndian.PutUint32(raw[lastDeltaAt:], uint32(b.lastDelta))
	binary.BigEndian.PutUint64(raw[firstTimeAt:], uint64(b.firstTime))
	binary.BigEndian.PutUint64(raw[maxTimeAt:], uint64(b.maxTime))
	binary.BigEndian.PutUint64(raw[producerAt:], uint64(b.producer))
	if b.count == 0 {
		b.count = len(b.records)
	}
	binary.BigEndian.PutUint32(raw[countAt:], uint32(b.count))
	return seal(raw)
}

// seal writes a batch's sum.
func seal(raw []byte) []byte {
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Checksum(raw[attributesAt:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func control(tb testing.TB, first, producer int64, commit byte) []byte {
	tb.Helper()
	return testBatch{
		first: first, lastDelta: -1, attributes: attrControl | attrTransactional, producer: producer,
		records: []testRecord{{key: []byte{0, 0, 0, commit}, value: []byte{0, 0, 0, 0, 0, 0}}},
	}.encode(tb)
}

// messageV1 encodes a message of the format before record batches.
func messageV1(offset int64, attributes byte, timestamp int64, key, value []byte) []byte {
	body := []byte{1, attributes}
	body = binary.BigEndian.AppendUint64(body, uint64(timestamp))
	for _, data := range [][]byte{key, value} {
		if data == nil {
			body = binary.BigEndian.AppendUint32(body, 0xffffffff)
			continue
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(data))), data...)
	}
	out := binary.BigEndian.AppendUint64(nil, uint64(offset))
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)+4))
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	return append(out, body...)
}
