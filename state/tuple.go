package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Tuple is the codec of rows of columns of given types, in their encoded form: [Tuple.AppendRow] writes it and [Tuple.ReadRow] reads
// it into columns. What Decode returns is not a copy: it is valid until state is next read or changed.
type Tuple struct{ Types []record.Type }

// tupleVersion counts the encodings of [AppendValue].
const tupleVersion = 1

// Type returns the types as they are written in a config: "tuple(int64, nullable(string))".
func (t Tuple) Type() string {
	var b strings.Builder
	b.WriteString("tuple(")
	for i := range t.Types {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(t.Types[i].String())
	}
	b.WriteString(")")
	return b.String()
}

// Version is that of the encoding of values.
func (Tuple) Version() int { return tupleVersion }

// Append appends an encoded row.
func (Tuple) Append(dst, row []byte) []byte { return append(dst, row...) }

// Decode returns b.
func (Tuple) Decode(b []byte) ([]byte, error) { return b, nil }

// AppendRow appends the encoded form of a row's values in the named columns, which are of the tuple's types.
func (t Tuple) AppendRow(dst []byte, b *record.Batch, cols []int, row int) []byte {
	for _, c := range cols {
		dst = AppendValue(dst, &b.Cols[c], row)
	}
	return dst
}

// ReadRow appends the values of an encoded row to columns of the tuple's types. The error is [fault.Corrupt]; some columns may have
// got their value then.
func (t Tuple) ReadRow(row []byte, cols ...*record.Column) error {
	for i, c := range cols {
		rest, err := ReadValue(row, c)
		if err != nil {
			return fault.E("state.Tuple.ReadRow", fault.Corrupt, fmt.Errorf("value %d of %s: %w", i, t.Type(), err))
		}
		row = rest
	}
	if len(row) > 0 {
		return fault.E("state.Tuple.ReadRow", fault.Corrupt, fmt.Errorf("%d bytes follow the row", len(row)))
	}
	return nil
}

// varies tells whether a kind is stored as a number of variable length, and whether that is zigzag coded.
func varies(t *record.Type) (varint, signed bool) {
	switch t.Kind {
	case record.Int16, record.Int32, record.Int64, record.Date, record.Timestamp, record.Enum, record.Uint16, record.Uint32, record.Uint64:
		return true, t.Signed()
	case record.Decimal:
		return t.Width() <= 8, true
	case record.Invalid, record.Bool, record.Int8, record.Uint8, record.Int128, record.Int256, record.Uint128, record.Uint256,
		record.Float32, record.Float64, record.String, record.FixedString, record.UUID, record.IPv4, record.IPv6, record.Array, record.Map:
	}
	return false, false
}

// AppendValue appends a value of a column: one byte 1 for null or 0 if the type is nullable; integers of 2 to 8 bytes as varints, others of
// fixed width as they lie in the column; strings with their length; lists with their number of elements, then those.
func AppendValue(dst []byte, c *record.Column, row int) []byte {
	if c.Type.Nullable {
		if c.IsNull(row) {
			return append(dst, 1)
		}
		dst = append(dst, 0)
	}
	if varint, signed := varies(&c.Type); varint {
		if signed {
			return binary.AppendVarint(dst, c.Int(row))
		}
		return binary.AppendUvarint(dst, c.Uint(row))
	}
	if c.Type.Width() > 0 {
		return append(dst, c.FixedAt(row)...)
	}
	if c.Type.Kind == record.String {
		return appendUser(dst, c.BytesAt(row))
	}
	from, to := c.Range(row)
	dst = binary.AppendUvarint(dst, uint64(to-from))
	for i := int(from); i < int(to); i++ {
		if c.Key != nil {
			dst = AppendValue(dst, c.Key, i)
		}
		dst = AppendValue(dst, c.Elem, i)
	}
	return dst
}

// ReadValue is the inverse of [AppendValue]: it appends the value that b begins with to a column of the same type and returns what
// follows it. It takes any bytes. After an error the column may hold a part of the value.
func ReadValue(b []byte, c *record.Column) (rest []byte, err error) {
	if c.Type.Nullable {
		if len(b) == 0 || b[0] > 1 {
			return nil, errValue
		}
		if b[0] == 1 {
			c.AppendNull()
			return b[1:], nil
		}
		b = b[1:]
	}
	if varint, signed := varies(&c.Type); varint {
		return readVarint(b, c, signed)
	}
	if w := c.Type.Width(); w > 0 {
		if len(b) < w || c.Type.Kind == record.Bool && b[0] > 1 {
			return nil, errValue
		}
		c.AppendFixed(b[:w])
		return b[w:], nil
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) || n > math.MaxUint32 {
		return nil, errValue
	}
	b = b[size:]
	if c.Type.Kind == record.String {
		c.AppendBytes(b[:n])
		return b[n:], nil
	}
	for range n {
		if c.Key != nil {
			if b, err = ReadValue(b, c.Key); err != nil {
				return nil, err
			}
		}
		if b, err = ReadValue(b, c.Elem); err != nil {
			return nil, err
		}
	}
	c.CloseList()
	return b, nil
}

func readVarint(b []byte, c *record.Column, signed bool) ([]byte, error) { //nolint:revive // the type's property
	const bits = 8
	width := c.Type.Width() * bits
	if signed {
		v, n := binary.Varint(b)
		if n <= 0 || v<<(64-width)>>(64-width) != v {
			return nil, errValue
		}
		c.AppendInt(v)
		return b[n:], nil
	}
	v, n := binary.Uvarint(b)
	if n <= 0 || v<<(64-width)>>(64-width) != v {
		return nil, errValue
	}
	c.AppendUint(v)
	return b[n:], nil
}
