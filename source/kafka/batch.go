package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Layout of a record batch (magic 2) from its first byte; Kafka protocol, "Record Batch". CRC-32C covers all from attributes on.
const (
	lengthAt     = 8
	epochAt      = 12
	magicAt      = 16
	crcAt        = 17
	attributesAt = 21
	lastDeltaAt  = 23
	firstTimeAt  = 27
	maxTimeAt    = 35
	producerAt   = 43
	countAt      = 57
	recordsAt    = 61

	// lengthSpan is what a batch's length does not count: its offset and the length itself.
	lengthSpan = 12

	attrCodec         = 0x07
	attrAppendTime    = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

// batch is the header of one record batch; raw is the whole.
type batch struct {
	raw        []byte
	first      int64
	last       int64
	epoch      int32
	attributes int16
	firstTime  int64
	maxTime    int64
	producer   int64
	count      int
}

// errCut means that a batch is cut off: a broker may send a part of a last batch for which there was no room.
var errCut = errors.New("cut batch")

// take splits the first batch or message off in. magic tells its kind; only with magic 2 has it more than raw, first and
// last. It does not check the sum.
func take(in []byte) (b batch, magic byte, rest []byte, err error) {
	if len(in) <= magicAt {
		return batch{}, 0, nil, errCut
	}
	size := int64(int32(binary.BigEndian.Uint32(in[lengthAt:]))) + lengthSpan
	if size <= magicAt {
		return batch{}, 0, nil, fmt.Errorf("a batch of %d bytes", size)
	}
	if size > int64(len(in)) {
		return batch{}, 0, nil, errCut
	}
	b.raw, rest = in[:size], in[size:]
	b.first = int64(binary.BigEndian.Uint64(in))
	b.last = b.first
	if magic = in[magicAt]; magic != 2 {
		return b, magic, rest, nil
	}
	if size < recordsAt {
		return batch{}, 0, nil, fmt.Errorf("a record batch of %d bytes", size)
	}
	b.epoch = int32(binary.BigEndian.Uint32(in[epochAt:]))
	b.attributes = int16(binary.BigEndian.Uint16(in[attributesAt:]))
	b.last = b.first + int64(int32(binary.BigEndian.Uint32(in[lastDeltaAt:])))
	b.firstTime = int64(binary.BigEndian.Uint64(in[firstTimeAt:]))
	b.maxTime = int64(binary.BigEndian.Uint64(in[maxTimeAt:]))
	b.producer = int64(binary.BigEndian.Uint64(in[producerAt:]))
	b.count = int(int32(binary.BigEndian.Uint32(in[countAt:])))
	if b.last < b.first || b.count < 0 {
		return batch{}, 0, nil, fmt.Errorf("a record batch at offset %d with %d records and last offset %d", b.first, b.count, b.last)
	}
	return b, magic, rest, nil
}

// verify checks the sum.
func (b *batch) verify(table *crc32.Table) error {
	want := binary.BigEndian.Uint32(b.raw[crcAt:])
	if got := crc32.Checksum(b.raw[attributesAt:], table); got != want {
		return fmt.Errorf("the record batch at offset %d has CRC-32C %08x, and %08x is written in it", b.first, got, want)
	}
	return nil
}

func (b *batch) codec() kgo.CompressionCodecType {
	return kgo.CompressionCodecType(b.attributes & attrCodec)
}
func (b *batch) control() bool       { return b.attributes&attrControl != 0 }
func (b *batch) transactional() bool { return b.attributes&attrTransactional != 0 }
func (b *batch) records() []byte     { return b.raw[recordsAt:] }

// aborts reports whether a control batch ends its producer's transaction by aborting it. Control batches are never compressed.
func (b *batch) aborts() bool {
	var rec rawRecord
	if _, err := rec.parse(b.records()); err != nil {
		return false
	}
	// A control record's key is a version and a type, 0 for an abort.
	const keyLen = 4
	return len(rec.key) >= keyLen && binary.BigEndian.Uint16(rec.key[2:]) == 0
}

// aborted knows which transactions in an answer were aborted: for each producer the first offsets, ascending.
type aborted map[int64][]int64

func newAborted(list []kmsg.FetchResponseTopicPartitionAbortedTransaction) aborted {
	if len(list) == 0 {
		return nil
	}
	a := make(aborted)
	for i := range list {
		a[list[i].ProducerID] = append(a[list[i].ProducerID], list[i].FirstOffset)
	}
	// Not every broker sends them in order.
	for _, firsts := range a {
		slices.Sort(firsts)
	}
	return a
}

// holds reports whether the batch belongs to an aborted transaction.
func (a aborted) holds(b *batch) bool {
	firsts := a[b.producer]
	return b.transactional() && len(firsts) > 0 && b.first >= firsts[0]
}

// end notes a control batch.
func (a aborted) end(b *batch) {
	if firsts := a[b.producer]; len(firsts) > 0 && b.first >= firsts[0] && b.aborts() {
		a[b.producer] = firsts[1:]
	}
}

// rawRecord is one record of a batch. Its slices alias the batch.
type rawRecord struct {
	timeDelta   int64
	offsetDelta int64
	key         []byte
	value       []byte
	headers     []byte // the encoded headers
	headerCount int
}

var errRecord = errors.New("malformed record")

// parse reads the first record of in and returns what follows it.
func (r *rawRecord) parse(in []byte) ([]byte, error) {
	size, n := binary.Varint(in)
	if n <= 0 || size < 1 || size > int64(len(in)-n) {
		return nil, errRecord
	}
	body, rest := in[n:n+int(size)], in[n+int(size):]
	body = body[1:] // attributes, unused
	if r.timeDelta, n = binary.Varint(body); n <= 0 {
		return nil, errRecord
	}
	body = body[n:]
	if r.offsetDelta, n = binary.Varint(body); n <= 0 {
		return nil, errRecord
	}
	body = body[n:]
	var ok bool
	if r.key, body, ok = takeBytes(body); !ok {
		return nil, errRecord
	}
	if r.value, body, ok = takeBytes(body); !ok {
		return nil, errRecord
	}
	count, n := binary.Varint(body)
	// A header takes two bytes at least.
	if n <= 0 || count < 0 || count > int64(len(body)-n)/2 {
		return nil, errRecord
	}
	r.headerCount, r.headers = int(count), body[n:]
	return rest, nil
}

// takeBytes reads a length and as many bytes; nil for the length -1.
func takeBytes(in []byte) (data, rest []byte, ok bool) {
	size, n := binary.Varint(in)
	if n <= 0 || size < -1 || size > int64(len(in)-n) {
		return nil, nil, false
	}
	if in = in[n:]; size < 0 {
		return nil, in, true
	}
	return in[:size:size], in[size:], true
}
