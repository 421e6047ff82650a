package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/ingestd/ingestd/fault"
)

// The form of an encoded delta; docs/formats/state.md describes it.
const (
	deltaMagic   = "idlt"
	deltaVersion = 1
	deltaHeader  = 16

	flagZstd = 1 << 0

	opWrite  = 0
	opDelete = 1

	// sharedMax bounds how many bytes of the key before a key takes over, and by that how much a small delta can grow.
	sharedMax = 255
	// plainMax is the size up to which compression does not pay.
	plainMax = 256
	// windowBytes is what compression looks back, and what a reader must hold for it.
	windowBytes = 4 << 20
	// DeltaBytesMax bounds what a delta takes when it is decoded. It is far above any limit on dirty bytes.
	DeltaBytesMax = 4 << 30
)

// EncodeDelta appends deltas as one, which is in the form that a checkpoint stores. Each is sorted; they are of different tasks, so no
// key stands in two of them: one that does is an error. The bytes depend on nothing but the operations.
func EncodeDelta(dst []byte, deltas ...Delta) ([]byte, error) {
	d, err := mergeDeltas(deltas)
	if err != nil {
		return nil, fault.E("state.EncodeDelta", fault.Corrupt, err)
	}
	body := appendBody(make([]byte, 0, bodySize(d)), d)
	if uint64(len(body)) > DeltaBytesMax {
		return nil, fault.E("state.EncodeDelta", fault.Misconfigured, fmt.Errorf("the changes of a checkpoint take %d bytes", len(body)))
	}
	var flags byte
	packed := body
	if len(body) > plainMax {
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(windowBytes))
		if err != nil {
			return nil, fault.E("state.EncodeDelta", fault.Misconfigured, err)
		}
		flags, packed = flagZstd, encoder.EncodeAll(body, nil)
	}
	dst = append(dst, deltaMagic...)
	dst = append(dst, deltaVersion, flags, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(body)))
	return append(dst, packed...), nil
}

// NextChain returns the hash that stands for a delta and all before it: SHA-256 over the hash before, the delta's sequence number as 8
// bytes, big endian, and the encoded delta. The hash before the first is zero.
func NextChain(prev [sha256.Size]byte, seq uint64, encoded []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(binary.BigEndian.AppendUint64(nil, seq))
	h.Write(encoded)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

func bodySize(d Delta) int {
	const perOp = 8
	n := 2 * binary.MaxVarintLen64
	for i := range d.Drops {
		n += perOp + len(d.Drops[i].From) + len(d.Drops[i].To)
	}
	for i := range d.Ops {
		n += perOp + len(d.Ops[i].Key) + len(d.Ops[i].Value)
	}
	return n
}

func appendBody(dst []byte, d Delta) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.Drops)))
	for i := range d.Drops {
		dst = appendUser(dst, d.Drops[i].From)
		dst = appendUser(dst, d.Drops[i].To)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.Ops)))
	var prev []byte
	for i := range d.Ops {
		op := &d.Ops[i]
		same := shared(prev, op.Key)
		kind := uint64(opWrite)
		if op.Delete {
			kind = opDelete
		}
		dst = binary.AppendUvarint(dst, uint64(same)<<1|kind)
		dst = appendUser(dst, op.Key[same:])
		if !op.Delete {
			dst = appendUser(dst, op.Value)
		}
		prev = op.Key
	}
	return dst
}

// shared returns how many bytes two keys begin with in common, as far as a delta makes use of it.
func shared(a, b []byte) int {
	n := min(len(a), len(b), sharedMax)
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

var (
	errDeltaOrder = errors.New("keys or ranges are out of order or stand twice")
	errDeltaShort = errors.New("the delta ends early")
)

// mergeDeltas merges sorted deltas into one. With one delta it is the delta, checked.
func mergeDeltas(deltas []Delta) (Delta, error) {
	var merged Delta
	drops, ops := 0, 0
	for i := range deltas {
		drops += len(deltas[i].Drops)
		ops += len(deltas[i].Ops)
	}
	switch len(deltas) {
	case 0:
	case 1:
		merged = deltas[0]
	default:
		merged.Drops = make([]Range, 0, drops)
		merged.Ops = make([]Op, 0, ops)
		mergeInto(deltas, &merged)
	}
	return merged, checkDelta(&merged)
}

// mergeInto takes the least of what the deltas have left, again and again. Tasks own whole key groups, so it takes long runs of one.
func mergeInto(deltas []Delta, merged *Delta) {
	left := append([]Delta(nil), deltas...)
	for {
		least := -1
		for i := range left {
			if len(left[i].Drops) > 0 && (least < 0 || bytes.Compare(left[i].Drops[0].From, left[least].Drops[0].From) < 0) {
				least = i
			}
		}
		if least < 0 {
			break
		}
		merged.Drops = append(merged.Drops, left[least].Drops[0])
		left[least].Drops = left[least].Drops[1:]
	}
	for {
		least := -1
		for i := range left {
			if len(left[i].Ops) > 0 && (least < 0 || bytes.Compare(left[i].Ops[0].Key, left[least].Ops[0].Key) < 0) {
				least = i
			}
		}
		if least < 0 {
			return
		}
		merged.Ops = append(merged.Ops, left[least].Ops[0])
		left[least].Ops = left[least].Ops[1:]
	}
}

func checkDelta(d *Delta) error {
	for i := range d.Drops {
		r := &d.Drops[i]
		if bytes.Compare(r.From, r.To) >= 0 || i > 0 && bytes.Compare(d.Drops[i-1].To, r.From) > 0 {
			return errDeltaOrder
		}
	}
	for i := 1; i < len(d.Ops); i++ {
		if bytes.Compare(d.Ops[i-1].Key, d.Ops[i].Key) >= 0 {
			return errDeltaOrder
		}
	}
	return nil
}

// DecodeDelta reads what [EncodeDelta] wrote, and nothing else. The delta may refer to data. It never panics, and takes no more
// memory than data says and [DeltaBytesMax] allows; the error is [fault.Corrupt].
func DecodeDelta(data []byte) (Delta, error) {
	d, err := decodeDelta(data)
	if err != nil {
		return Delta{}, fault.E("state.DecodeDelta", fault.Corrupt, err)
	}
	return d, nil
}

func decodeDelta(data []byte) (Delta, error) {
	if len(data) < deltaHeader || string(data[:4]) != deltaMagic {
		return Delta{}, errors.New("not a delta of keyed state")
	}
	if data[4] != deltaVersion {
		return Delta{}, fmt.Errorf("delta format version %d, this program reads version %d", data[4], deltaVersion)
	}
	flags, size := data[5], binary.LittleEndian.Uint64(data[8:])
	if flags&^flagZstd != 0 || data[6] != 0 || data[7] != 0 || size > DeltaBytesMax {
		return Delta{}, errors.New("unknown flags or an impossible size in the delta's header")
	}
	body := data[deltaHeader:]
	if flags&flagZstd != 0 {
		var err error
		if body, err = unpack(body, size); err != nil {
			return Delta{}, err
		}
	}
	if uint64(len(body)) != size {
		return Delta{}, fmt.Errorf("the delta has %d bytes and says %d", len(body), size)
	}
	r := &deltaReader{data: body}
	d := Delta{Drops: r.drops(), Ops: r.ops()}
	if r.err == nil && len(r.data) > 0 {
		r.err = fmt.Errorf("%d bytes follow the delta", len(r.data))
	}
	if r.err == nil {
		r.err = checkDelta(&d)
	}
	return d, r.err
}

// unpack decompresses to exactly size bytes. Memory grows with what comes out, not with what the header says.
func unpack(packed []byte, size uint64) ([]byte, error) {
	decoder, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(DeltaBytesMax),
		zstd.WithDecoderMaxWindow(windowBytes))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	var out bytes.Buffer
	const firstMax = 64
	out.Grow(int(min(size, firstMax*uint64(len(packed)))))
	n, err := out.ReadFrom(io.LimitReader(decoder, int64(size)+1))
	switch {
	case err != nil:
		return nil, err
	case uint64(n) > size:
		return nil, fmt.Errorf("the delta has more than the %d bytes that it says", size)
	}
	return out.Bytes(), nil
}

type deltaReader struct {
	data []byte
	err  error
	keys []byte // memory for keys that are put together
}

func (r *deltaReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.data)
	if n <= 0 || n > 1 && r.data[n-1] == 0 {
		r.err = errDeltaShort
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads the number of things of at least size bytes each.
func (r *deltaReader) count(size int) int {
	n := r.uvarint()
	if r.err == nil && n > uint64(len(r.data)/size) {
		r.err = errDeltaShort
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *deltaReader) bytes() []byte {
	n := r.count(1)
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *deltaReader) drops() []Range {
	const rangeMin = 2
	n := r.count(rangeMin)
	if n == 0 {
		return nil
	}
	drops := make([]Range, n)
	for i := range drops {
		drops[i] = Range{From: r.bytes(), To: r.bytes()}
	}
	return drops
}

func (r *deltaReader) ops() []Op {
	const opMin = 2
	n := r.count(opMin)
	if n == 0 {
		return nil
	}
	ops := make([]Op, 0, n)
	var prev []byte
	for range n {
		head := r.uvarint()
		same := head >> 1
		if r.err == nil && same > uint64(len(prev)) {
			r.err = errDeltaShort
		}
		rest := r.bytes()
		op := Op{Delete: head&opDelete != 0}
		if !op.Delete {
			op.Value = r.bytes()
		}
		if r.err != nil {
			return nil
		}
		op.Key = r.join(prev[:same], rest)
		if shared(prev, op.Key) != int(same) {
			r.err = errors.New("a key shares more with the one before than it says")
			return nil
		}
		ops = append(ops, op)
		prev = op.Key
	}
	return ops
}

// join puts a key together in memory that many keys share.
func (r *deltaReader) join(head, rest []byte) []byte {
	const chunk = 64 << 10
	size := len(head) + len(rest)
	if size > cap(r.keys)-len(r.keys) {
		r.keys = make([]byte, 0, max(chunk, size))
	}
	at := len(r.keys)
	r.keys = append(append(r.keys, head...), rest...)
	return r.keys[at:len(r.keys):len(r.keys)]
}
