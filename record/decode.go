package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/ingestd/ingestd/fault"
)

// DecodeBatch reads what [EncodeBatch] wrote, and nothing else. The batch refers to data, which must not be changed as long as
// the batch is used, and the batch must be read only, except that whole columns may be appended elsewhere: it shares data's
// memory. It never panics and takes no more memory than a small multiple of len(data), whatever data holds; the error is
// [fault.Corrupt]. It checks the structure, not the values: an Enum may hold a number without a name.
func DecodeBatch(data []byte) (*Batch, error) {
	b, err := decodeBatch(data)
	if err != nil {
		return nil, fault.E("record.DecodeBatch", fault.Corrupt, err)
	}
	return b, nil
}

var (
	errShort   = errors.New("the batch ends early")
	errList    = errors.New("the ends of a list are out of order")
	errByte    = errors.New("a byte that must be 0 or 1 is neither")
	errTooDeep = errors.New("types nest too deep")
)

func decodeBatch(data []byte) (*Batch, error) {
	if len(data) < headerSize || string(data[:4]) != batchMagic {
		return nil, errors.New("not a batch")
	}
	version, flags := data[4], data[5]
	if version != batchVersion {
		return nil, fmt.Errorf("batch format version %d, this program reads version %d", version, batchVersion)
	}
	if flags&^flagRaw != 0 || data[6] != 0 || data[7] != 0 {
		return nil, errors.New("unknown flags in the batch's header")
	}
	rows, fields := binary.LittleEndian.Uint32(data[8:]), binary.LittleEndian.Uint32(data[12:])
	r := &reader{data: data[headerSize:]}
	b := &Batch{Schema: r.schema(int(fields))}
	if r.err == nil {
		r.err = b.Schema.Check()
	}
	if r.err == nil && uint64(rows) > math.MaxInt32 {
		r.err = errors.New("more rows than a batch can have")
	}
	r.provenance(&b.Meta, int(rows))
	if flags&flagRaw != 0 {
		r.raw(&b.Meta)
	}
	if r.err != nil {
		return nil, r.err
	}
	b.Rows = int(rows)
	b.Cols = make([]Column, len(b.Schema.Fields))
	for i := range b.Cols {
		b.Cols[i] = r.column(&b.Schema.Fields[i].Type, b.Rows)
		if r.err != nil {
			return nil, fmt.Errorf("column %q: %w", b.Schema.Fields[i].Name, r.err)
		}
	}
	if len(r.data) > 0 {
		return nil, fmt.Errorf("%d bytes follow the batch", len(r.data))
	}
	return b, nil
}

// reader takes values from the front of data. After the first error every read gives zeros.
type reader struct {
	data []byte
	err  error
}

// take returns the next n bytes, which have no capacity beyond.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.data)) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// flags reads a byte of which only the bits in known may be set.
func (r *reader) flags(known byte) byte {
	b := r.byte()
	if b&^known != 0 && r.err == nil {
		r.err = errors.New("an unknown flag is set")
	}
	return b
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uvarint reads a number in its shortest form, so that every batch has one encoding.
func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.err = errShort
		return 0
	}
	if n > 1 && r.data[n-1] == 0 {
		r.err = errors.New("a number is not in its shortest form")
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads the number of things that take at least size bytes each.
func (r *reader) count(size uint64) int {
	n := r.uvarint()
	if r.err == nil && n > uint64(len(r.data))/size {
		r.err = errShort
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) text() string { return string(r.take(r.uvarint())) }

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	return r.take(n - 1)
}

func (r *reader) schema(fields int) *Schema {
	const fieldSize = 5 // flags, two empty texts, a type's two bytes
	if fields > len(r.data)/fieldSize {
		r.err = errShort
		return nil
	}
	s := &Schema{Fields: make([]Field, fields)}
	for i := range s.Fields {
		f := &s.Fields[i]
		f.Optional = r.flags(flagOptional) != 0
		f.Name = r.text()
		f.Path = r.text()
		f.Type = r.typ(1)
	}
	return s
}

func (r *reader) typ(depth int) Type {
	if depth > DepthMax && r.err == nil {
		r.err = errTooDeep
	}
	if r.err != nil {
		return Type{}
	}
	t := Type{Kind: Kind(r.byte())}
	flags := r.flags(typeFlags)
	t.Nullable = flags&flagNullable != 0
	if flags&flagBounds != 0 {
		t.Min, t.Max = int64(r.uint64()), int64(r.uint64())
		if t.Min == 0 && t.Max == 0 && r.err == nil {
			r.err = errors.New("bounds that are none")
		}
	}
	switch t.Kind { //nolint:exhaustive // the other kinds have no parameters
	case Decimal:
		t.Precision, t.Scale = int(r.byte()), int(r.byte())
	case FixedString:
		t.Size = int(min(r.uvarint(), FixedSizeMax+1))
	case Timestamp:
		t.Precision, t.Zone = int(r.byte()), r.text()
	case Enum:
		const valueSize = 3
		t.Values = make([]EnumValue, r.count(valueSize))
		for i := range t.Values {
			t.Values[i].Name = r.text()
			t.Values[i].Number = int16(uint16(r.byte()) | uint16(r.byte())<<8)
		}
	case Array:
		t.Elem = r.nested(depth)
	case Map:
		t.Key, t.Elem = r.nested(depth), r.nested(depth)
	}
	return t
}

func (r *reader) nested(depth int) *Type {
	t := r.typ(depth + 1)
	return &t
}

func (r *reader) provenance(m *Provenance, rows int) {
	m.Split, m.Topic = r.text(), r.text()
	if b := r.take(4); b != nil {
		m.Partition = int32(binary.LittleEndian.Uint32(b))
	}
	const size = 8
	offsets, timestamps := r.take(size*uint64(rows)), r.take(size*uint64(rows))
	if r.err != nil {
		return
	}
	m.Offsets, m.Timestamps = make([]Offset, rows), make([]int64, rows)
	for i := range rows {
		m.Offsets[i] = Offset(binary.LittleEndian.Uint64(offsets[size*i:]))
		m.Timestamps[i] = int64(binary.LittleEndian.Uint64(timestamps[size*i:]))
	}
	m.Keys, m.Values, m.Headers = make([][]byte, rows), make([][]byte, rows), make([][]Header, rows)
}

func (r *reader) raw(m *Provenance) {
	const headerSize = 2
	for i := range m.Keys {
		m.Keys[i], m.Values[i] = r.bytes(), r.bytes()
		headers := r.count(headerSize)
		if r.err != nil {
			return
		}
		if headers == 0 {
			continue
		}
		m.Headers[i] = make([]Header, headers)
		for j := range m.Headers[i] {
			m.Headers[i][j] = Header{Key: r.text(), Value: r.bytes()}
		}
	}
}

// column reads a column of the given number of rows. Its type has passed Check.
func (r *reader) column(t *Type, rows int) Column {
	c := Column{Type: *t}
	if t.Nullable {
		c.Nulls = r.zeroOrOne(rows)
	}
	if w := t.Width(); w > 0 {
		if t.Kind == Bool {
			c.Fixed = r.zeroOrOne(rows)
		} else {
			c.Fixed = r.take(uint64(rows) * uint64(w))
		}
		return c
	}
	c.Off = r.ends(rows)
	if r.err != nil {
		return c
	}
	end := c.Off[rows]
	if t.Kind == String {
		c.Bytes = r.take(uint64(end))
		return c
	}
	if t.Key != nil {
		key := r.column(t.Key, int(end))
		c.Key = &key
	}
	elem := r.column(t.Elem, int(end))
	c.Elem = &elem
	return c
}

func (r *reader) zeroOrOne(rows int) []byte {
	b := r.take(uint64(rows))
	for _, v := range b {
		if v > 1 {
			r.err = errByte
		}
	}
	return b
}

func (r *reader) ends(rows int) []uint32 {
	const size = 4
	b := r.take(size * uint64(rows))
	if r.err != nil {
		return nil
	}
	off := make([]uint32, rows+1)
	for i := range rows {
		off[i+1] = binary.LittleEndian.Uint32(b[size*i:])
		if off[i+1] < off[i] {
			r.err = errList
			return nil
		}
	}
	return off
}
