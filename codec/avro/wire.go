package avro

import (
	"encoding/binary"
	"math"
)

// wire is the binary form that a writer gave a value.
type wire uint8

const (
	wireNull wire = iota
	wireBool
	wireInt
	wireLong
	wireFloat
	wireDouble
	wireBytes
	wireString
	wireFixed
	wireEnum
	wireArray
	wireMap
	wireUnion
	wireRecord
)

// reader reads the binary form. Every method reports false when the bytes end early or can't be what is asked for; problem says
// why then.
type reader struct {
	data    []byte
	at      int
	problem string
}

const endsEarly = "the record ends early"

func (r *reader) fail(problem string) bool {
	r.problem = problem
	return false
}

// long reads a zig-zag number of at most 64 bits.
func (r *reader) long() (int64, bool) {
	if r.at < len(r.data) && r.data[r.at] < 0x80 {
		v := r.data[r.at]
		r.at++
		return int64(v>>1) ^ -int64(v&1), true
	}
	return r.longLong()
}

func (r *reader) longLong() (int64, bool) {
	v, n := binary.Uvarint(r.data[r.at:])
	switch {
	case n == 0 && len(r.data)-r.at < binary.MaxVarintLen64:
		return 0, r.fail(endsEarly)
	case n <= 0:
		return 0, r.fail("a number has more than 64 bits")
	}
	r.at += n
	return int64(v>>1) ^ -int64(v&1), true
}

// int reads a zig-zag number of at most 32 bits.
func (r *reader) int() (int64, bool) {
	v, ok := r.long()
	if ok && (v < math.MinInt32 || v > math.MaxInt32) {
		return 0, r.fail("an int has more than 32 bits")
	}
	return v, ok
}

// take returns the next n bytes, which belong to the record.
func (r *reader) take(n int64) ([]byte, bool) {
	if n < 0 {
		return nil, r.fail("a length is negative")
	}
	if n > int64(len(r.data)-r.at) {
		return nil, r.fail(endsEarly)
	}
	b := r.data[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b, true
}

// bytes reads bytes with their length.
func (r *reader) bytes() ([]byte, bool) {
	n, ok := r.long()
	if !ok {
		return nil, false
	}
	return r.take(n)
}

func (r *reader) bool() (int64, bool) {
	b, ok := r.take(1)
	if !ok {
		return 0, false
	}
	if b[0] > 1 {
		return 0, r.fail("a boolean is neither 0 nor 1")
	}
	return int64(b[0]), true
}

func (r *reader) float() (float64, bool) {
	b, ok := r.take(4)
	if !ok {
		return 0, false
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
}

func (r *reader) double() (float64, bool) {
	b, ok := r.take(8)
	if !ok {
		return 0, false
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
}

// block reads the head of a block of an array or map: how many items it has, 0 at the end, and its bytes, -1 if it does not say.
// least is the fewest bytes that an item takes: no more items are believed than the record has room for.
func (r *reader) block(least int) (items, size int64, ok bool) {
	items, ok = r.long()
	size = -1
	if ok && items < 0 {
		if items == math.MinInt64 {
			return 0, 0, r.fail("a block has too many items")
		}
		items = -items
		size, ok = r.long()
		if ok && (size < 0 || size > int64(len(r.data)-r.at)) {
			return 0, 0, r.fail("a block is longer than the record")
		}
	}
	if !ok {
		return 0, 0, false
	}
	if room := int64(len(r.data) - r.at); least > 0 && items > room/int64(least) {
		return 0, 0, r.fail("a block has more items than the record has room for")
	}
	return items, size, true
}

// appendLong appends a zig-zag number.
func appendLong(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}

func appendBytes(dst, b []byte) []byte {
	return append(appendLong(dst, int64(len(b))), b...)
}
