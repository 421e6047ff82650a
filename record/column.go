package record

import (
	"encoding/binary"
	"math"
)

// NewColumn returns an empty column of a type, with its nested columns. t must pass [Type.Check].
func NewColumn(t Type) Column {
	c := Column{Type: t}
	if t.Nullable {
		c.Nulls = []uint8{}
	}
	switch t.Kind { //nolint:exhaustive // every other kind has a fixed width and needs nothing
	case String:
		c.Off = []uint32{0}
	case Array:
		elem := NewColumn(*t.Elem)
		c.Off, c.Elem = []uint32{0}, &elem
	case Map:
		key, elem := NewColumn(*t.Key), NewColumn(*t.Elem)
		c.Off, c.Key, c.Elem = []uint32{0}, &key, &elem
	}
	return c
}

// Len returns the number of rows. Elements of an Array or Map that were appended since the last CloseList don't count yet.
func (c *Column) Len() int {
	if w := c.Type.Width(); w > 0 {
		return len(c.Fixed) / w
	}
	return max(len(c.Off)-1, 0)
}

// IsNull reports whether row i is null.
func (c *Column) IsNull(i int) bool { return c.Type.Nullable && c.Nulls[i] != 0 }

// AppendNull appends a null. The type must be nullable.
func (c *Column) AppendNull() {
	if !c.Type.Nullable {
		panic("record: AppendNull on a column of type " + c.Type.String())
	}
	c.AppendZero()
	c.Nulls[len(c.Nulls)-1] = 1
}

// AppendZero appends the type's zero: 0, false, "", an empty list; for an Enum the number of its first value.
func (c *Column) AppendZero() {
	switch c.Type.Kind { //nolint:exhaustive // every other kind's zero is zero bytes
	case Enum:
		if len(c.Type.Values) > 0 {
			c.AppendInt(int64(c.Type.Values[0].Number))
			return
		}
		c.AppendInt(0)
	case String, Array, Map:
		c.CloseList()
	default:
		c.notNull()
		c.Fixed = appendZeros(c.Fixed, c.Type.Width())
	}
}

// AppendInt appends a value of a kind that is stored as an integer of at most 8 bytes: the integers, Bool, Date, Timestamp,
// Enum, IPv4, Decimal up to 18 digits. v must be in the kind's range; it is not checked.
func (c *Column) AppendInt(v int64) { c.AppendUint(uint64(v)) }

// AppendUint is [Column.AppendInt] for a value that may be above the range of int64.
func (c *Column) AppendUint(v uint64) {
	c.notNull()
	switch c.Type.Width() {
	case 1:
		c.Fixed = append(c.Fixed, byte(v))
	case 2:
		c.Fixed = binary.LittleEndian.AppendUint16(c.Fixed, uint16(v))
	case 4:
		c.Fixed = binary.LittleEndian.AppendUint32(c.Fixed, uint32(v))
	case 8:
		c.Fixed = binary.LittleEndian.AppendUint64(c.Fixed, v)
	default:
		panic("record: AppendInt on a column of type " + c.Type.String())
	}
}

// AppendFloat appends to a column of Float32, to which v is rounded, or Float64.
func (c *Column) AppendFloat(v float64) {
	if c.Type.Kind == Float32 {
		c.AppendUint(uint64(math.Float32bits(float32(v))))
		return
	}
	c.AppendUint(math.Float64bits(v))
}

// AppendBool appends to a column of Bool.
func (c *Column) AppendBool(v bool) { //nolint:revive // the flag is the value
	if v {
		c.AppendUint(1)
		return
	}
	c.AppendUint(0)
}

// AppendBytes appends to a column of String. It copies b.
func (c *Column) AppendBytes(b []byte) {
	c.Bytes = append(c.Bytes, b...)
	c.CloseList()
}

// AppendString is [Column.AppendBytes] for a string.
func (c *Column) AppendString(s string) {
	c.Bytes = append(c.Bytes, s...)
	c.CloseList()
}

// AppendFixed appends a value of a kind with a fixed width from its stored form, exactly [Type.Width] bytes.
func (c *Column) AppendFixed(b []byte) {
	if w := c.Type.Width(); len(b) != w || w == 0 {
		panic("record: AppendFixed with a wrong number of bytes on a column of type " + c.Type.String())
	}
	c.notNull()
	c.Fixed = append(c.Fixed, b...)
}

// CloseList ends a row of an Array or Map: the elements appended to Elem (and Key) since the last CloseList are its own. On a
// String the bytes appended to Bytes are the row.
func (c *Column) CloseList() {
	end := len(c.Bytes)
	if c.Elem != nil {
		end = c.Elem.Len()
	}
	if uint64(end) > math.MaxUint32 {
		panic("record: a column holds more than 4 GiB")
	}
	c.notNull()
	if len(c.Off) == 0 {
		c.Off = append(c.Off, 0)
	}
	c.Off = append(c.Off, uint32(end))
}

// notNull makes the place in Nulls of a row that is about to be appended.
func (c *Column) notNull() {
	if c.Type.Nullable {
		c.Nulls = append(c.Nulls, 0)
	}
}

// Int returns row i of a column that is stored as an integer of at most 8 bytes (see [Column.AppendInt]). A Uint64 above the
// range of int64 comes out negative: use Uint.
func (c *Column) Int(i int) int64 {
	v := c.Uint(i)
	if !c.Type.Signed() {
		return int64(v)
	}
	switch c.Type.Width() {
	case 1:
		return int64(int8(v))
	case 2:
		return int64(int16(v))
	case 4:
		return int64(int32(v))
	}
	return int64(v)
}

// Uint returns the bytes that row i is stored in as an unsigned integer; the width is at most 8 bytes.
func (c *Column) Uint(i int) uint64 {
	switch w := c.Type.Width(); w {
	case 1:
		return uint64(c.Fixed[i])
	case 2:
		return uint64(binary.LittleEndian.Uint16(c.Fixed[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(c.Fixed[4*i:]))
	case 8:
		return binary.LittleEndian.Uint64(c.Fixed[8*i:])
	}
	panic("record: Int on a column of type " + c.Type.String())
}

// Float returns row i of a column of Float32 or Float64.
func (c *Column) Float(i int) float64 {
	if c.Type.Kind == Float32 {
		return float64(math.Float32frombits(uint32(c.Uint(i))))
	}
	return math.Float64frombits(c.Uint(i))
}

// Bool returns row i of a column of Bool.
func (c *Column) Bool(i int) bool { return c.Fixed[i] != 0 }

// BytesAt returns row i of a column of String. The slice belongs to the column and is valid until it is changed.
func (c *Column) BytesAt(i int) []byte {
	from, to := c.Off[i], c.Off[i+1]
	return c.Bytes[from:to:to]
}

// FixedAt returns the stored bytes of row i of a column with a fixed width. The slice belongs to the column.
func (c *Column) FixedAt(i int) []byte {
	w := c.Type.Width()
	return c.Fixed[i*w : i*w+w : i*w+w]
}

// Range returns the rows of Elem (and Key) that are row i of an Array or Map.
func (c *Column) Range(i int) (from, to uint32) { return c.Off[i], c.Off[i+1] }

// Truncate drops all rows from the given number on, and elements of a list that is not closed. It keeps the memory.
func (c *Column) Truncate(rows int) {
	rows = min(rows, c.Len())
	if c.Type.Nullable {
		c.Nulls = c.Nulls[:rows]
	}
	if w := c.Type.Width(); w > 0 {
		c.Fixed = c.Fixed[:rows*w]
		return
	}
	if len(c.Off) == 0 {
		c.Off = append(c.Off, 0)
	}
	c.Off = c.Off[:rows+1]
	end := int(c.Off[rows])
	if c.Type.Kind == String {
		c.Bytes = c.Bytes[:end]
		return
	}
	if c.Key != nil {
		c.Key.Truncate(end)
	}
	c.Elem.Truncate(end)
}

// AppendFrom appends a row of src, a column of a type that is stored in the same way ([Type.SameLayout]). A null row of src
// must not go to a column that is not nullable.
func (c *Column) AppendFrom(src *Column, row int) {
	if src.IsNull(row) {
		c.AppendNull()
		return
	}
	if w := c.Type.Width(); w > 0 {
		c.AppendFixed(src.FixedAt(row))
		return
	}
	if c.Type.Kind == String {
		c.AppendBytes(src.BytesAt(row))
		return
	}
	from, to := src.Range(row)
	for i := int(from); i < int(to); i++ {
		if c.Key != nil {
			c.Key.AppendFrom(src.Key, i)
		}
		c.Elem.AppendFrom(src.Elem, i)
	}
	c.CloseList()
}

// AppendAll appends all rows of src, a column of a type that is stored in the same way ([Type.SameLayout]). A column that is
// not nullable takes a nullable one without nulls only. c and src must not be the same column.
func (c *Column) AppendAll(src *Column) {
	c.appendNulls(src)
	if c.Type.Width() > 0 {
		c.Fixed = append(c.Fixed, src.Fixed...)
		return
	}
	base := len(c.Bytes)
	if c.Elem != nil {
		base = c.Elem.Len()
	}
	rows := src.Len()
	if rows > 0 && uint64(base)+uint64(src.Off[rows]) > math.MaxUint32 {
		panic("record: a column holds more than 4 GiB")
	}
	if len(c.Off) == 0 {
		c.Off = append(c.Off, 0)
	}
	for i := range rows {
		c.Off = append(c.Off, uint32(base)+src.Off[i+1])
	}
	if c.Type.Kind == String {
		c.Bytes = append(c.Bytes, src.Bytes...)
		return
	}
	if c.Key != nil {
		c.Key.AppendAll(src.Key)
	}
	c.Elem.AppendAll(src.Elem)
}

func (c *Column) appendNulls(src *Column) {
	switch {
	case c.Type.Nullable && src.Type.Nullable:
		c.Nulls = append(c.Nulls, src.Nulls...)
	case c.Type.Nullable:
		c.Nulls = appendZeros(c.Nulls, src.Len())
	case src.Type.Nullable:
		for _, null := range src.Nulls {
			if null != 0 {
				panic("record: AppendAll of a null to a column of type " + c.Type.String())
			}
		}
	}
}

// keep gathers rows, in strictly ascending order, to the front and drops the others.
func (c *Column) keep(rows []uint32) {
	switch w := c.Type.Width(); {
	case w == 8:
		for i, row := range rows {
			copy(c.Fixed[8*i:8*i+8], c.Fixed[8*int(row):8*int(row)+8])
		}
	case w > 0:
		for i, row := range rows {
			copy(c.Fixed[w*i:w*i+w], c.Fixed[w*int(row):])
		}
	default:
		for i, row := range rows {
			c.moveList(i, int(row))
		}
	}
	if c.Type.Nullable {
		for i, row := range rows {
			c.Nulls[i] = c.Nulls[row]
		}
	}
	c.Truncate(len(rows))
}

// move puts row src in the place of row dst <= src. Called with ascending rows from dst = 0 on it needs no other memory: what
// it overwrites lies before everything that is still to be read.
func (c *Column) move(dst, src int) {
	if c.Type.Nullable {
		c.Nulls[dst] = c.Nulls[src]
	}
	if w := c.Type.Width(); w > 0 {
		copy(c.Fixed[w*dst:w*dst+w], c.Fixed[w*src:])
		return
	}
	c.moveList(dst, src)
}

func (c *Column) moveList(dst, src int) {
	at, from, to := int(c.Off[dst]), int(c.Off[src]), int(c.Off[src+1])
	c.Off[dst+1] = uint32(at + to - from)
	if c.Type.Kind == String {
		copy(c.Bytes[at:], c.Bytes[from:to])
		return
	}
	for i := range to - from {
		if c.Key != nil {
			c.Key.move(at+i, from+i)
		}
		c.Elem.move(at+i, from+i)
	}
}

// bytes returns the memory that the column's rows take.
func (c *Column) bytes() int64 {
	n := int64(len(c.Nulls)) + int64(len(c.Fixed)) + 4*int64(len(c.Off)) + int64(len(c.Bytes))
	if c.Key != nil {
		n += c.Key.bytes()
	}
	if c.Elem != nil {
		n += c.Elem.bytes()
	}
	return n
}

func appendZeros(b []byte, n int) []byte {
	const chunk = 64
	var zeros [chunk]byte
	for ; n > chunk; n -= chunk {
		b = append(b, zeros[:]...)
	}
	return append(b, zeros[:n]...)
}
