package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Keys holds the encoded key and the key group of each row of a batch. The zero value is empty.
type Keys struct {
	bytes  []byte
	ends   []uint32
	groups []Group
}

// Len returns the number of rows.
func (k *Keys) Len() int { return len(k.ends) }

// Key returns the key of a row. It is valid until k is changed.
func (k *Keys) Key(row int) []byte {
	from := uint32(0)
	if row > 0 {
		from = k.ends[row-1]
	}
	to := k.ends[row]
	return k.bytes[from:to:to]
}

// Group returns the key group of a row.
func (k *Keys) Group(row int) Group { return k.groups[row] }

// Append adds a row with a copy of its key.
func (k *Keys) Append(key []byte, group Group) {
	k.bytes = append(k.bytes, key...)
	k.close(group)
}

func (k *Keys) close(group Group) {
	if uint64(len(k.bytes)) > math.MaxUint32 {
		panic("state: the keys of a batch take more than 4 GiB")
	}
	k.ends = append(k.ends, uint32(len(k.bytes)))
	k.groups = append(k.groups, group)
}

// AppendRow adds the key that the columns of a row make, and its key group.
func (k *Keys) AppendRow(b *record.Batch, cols []int, row, groups int) {
	from := len(k.bytes)
	k.bytes = AppendKey(k.bytes, b, cols, row)
	k.close(GroupOf(k.bytes[from:], groups))
}

// Keep drops all rows that are not named. rows must be strictly ascending and below Len, as for [record.Batch.Keep].
func (k *Keys) Keep(rows []uint32) {
	if len(rows) == len(k.ends) {
		return
	}
	end := uint32(0)
	for i, row := range rows {
		key := k.Key(int(row)) // lies at or behind end: copy moves it to the front
		copy(k.bytes[end:], key)
		end += uint32(len(key))
		k.groups[i], k.ends[i] = k.groups[row], end // row >= i; where they are equal nothing was dropped yet
	}
	k.bytes, k.ends, k.groups = k.bytes[:end], k.ends[:len(rows)], k.groups[:len(rows)]
}

// Reset drops all rows and keeps the memory.
func (k *Keys) Reset() { k.bytes, k.ends, k.groups = k.bytes[:0], k.ends[:0], k.groups[:0] }

// GroupOf returns the key group of a key: XXH64 with seed 0, modulo the number of groups, which is 1 to 65,536. It never changes:
// state is stored by it.
func GroupOf(key []byte, groups int) Group { return Group(xxhash.Sum64(key) % uint64(groups)) }

// The first byte of each value in a key tells its class, so that values of different classes are different keys. The numbers
// stand in stored keys.
const (
	tagNull      = 0x00
	tagBool      = 0x01
	tagInteger   = 0x02 // all integers: the same number is the same key whatever the column's width
	tagFloat     = 0x03 // both floats
	tagDecimal   = 0x04
	tagString    = 0x05
	tagFixed     = 0x06
	tagDate      = 0x07
	tagTimestamp = 0x08
	tagUUID      = 0x09
	tagIPv4      = 0x0a
	tagIPv6      = 0x0b
	tagEnum      = 0x0c
	tagArray     = 0x0d
)

// CheckKeyType tells why a column of a type can't be part of a key. The error is [fault.Misconfigured].
func CheckKeyType(t *record.Type) error {
	for ; t.Kind == record.Array; t = t.Elem {
	}
	if t.Kind != record.Map {
		return nil
	}
	return fault.E("state.CheckKeyType", fault.Misconfigured,
		errors.New("a map can't be part of a key: two maps with the same pairs in another order would be two keys"))
}

// AppendKey appends the key that the named columns of a row make. Equal values give equal bytes and different values different
// ones: null is a value of its own, -0 is 0, all NaN are one, and an integer's width does not matter. Decimals and timestamps
// are told apart by scale and precision too. Every column's type must pass [CheckKeyType].
func AppendKey(dst []byte, b *record.Batch, cols []int, row int) []byte {
	for _, c := range cols {
		dst = appendKeyValue(dst, &b.Cols[c], row)
	}
	return dst
}

func appendKeyValue(dst []byte, c *record.Column, row int) []byte {
	if c.IsNull(row) {
		return append(dst, tagNull)
	}
	switch t := &c.Type; t.Kind {
	case record.Bool:
		return append(dst, tagBool, c.FixedAt(row)[0])
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32, record.Uint64,
		record.Int128, record.Int256, record.Uint128, record.Uint256:
		return appendInteger(append(dst, tagInteger), c, row)
	case record.Float32, record.Float64:
		return binary.BigEndian.AppendUint64(append(dst, tagFloat), canonicalFloat(c.Float(row)))
	case record.Decimal:
		return appendInteger(append(dst, tagDecimal, byte(t.Scale)), c, row)
	case record.String:
		return appendUser(append(dst, tagString), c.BytesAt(row))
	case record.FixedString:
		return appendUser(append(dst, tagFixed), c.FixedAt(row))
	case record.Date:
		return appendInteger(append(dst, tagDate), c, row)
	case record.Timestamp:
		return appendInteger(append(dst, tagTimestamp, byte(t.Precision)), c, row)
	case record.UUID:
		return append(append(dst, tagUUID), c.FixedAt(row)...)
	case record.IPv4:
		return append(append(dst, tagIPv4), c.FixedAt(row)...)
	case record.IPv6:
		return append(append(dst, tagIPv6), c.FixedAt(row)...)
	case record.Enum:
		return appendInteger(append(dst, tagEnum), c, row)
	case record.Array:
		return appendArray(dst, c, row)
	case record.Map, record.Invalid:
	}
	panic("state: a column of type " + c.Type.String() + " can't be part of a key")
}

func appendArray(dst []byte, c *record.Column, row int) []byte {
	from, to := c.Range(row)
	dst = binary.AppendUvarint(append(dst, tagArray), uint64(to-from))
	for i := from; i < to; i++ {
		dst = appendKeyValue(dst, c.Elem, int(i))
	}
	return dst
}

// nanBits stands for every NaN.
const nanBits = 0x7ff8000000000001

// canonicalFloat gives equal numbers equal bits, and all NaN the same.
func canonicalFloat(v float64) uint64 {
	switch {
	case v == 0:
		return 0
	case math.IsNaN(v):
		return nanBits
	}
	return math.Float64bits(v)
}

// appendInteger appends the number of bytes and the bytes of the shortest big-endian two's complement form of a stored integer.
// An unsigned one whose first bit is set takes a zero byte in front.
func appendInteger(dst []byte, c *record.Column, row int) []byte {
	stored := c.FixedAt(row)
	fill := byte(0)
	if c.Type.Signed() && stored[len(stored)-1] >= 0x80 {
		fill = math.MaxUint8
	}
	n := len(stored)
	for n > 0 && stored[n-1] == fill {
		n--
	}
	pad := n > 0 && (stored[n-1] >= 0x80) != (fill != 0) // the first bit would say the other sign
	if n == 0 && fill != 0 {
		pad = true // -1 is one byte of ones, 0 is no byte
	}
	if pad {
		dst = append(dst, byte(n+1), fill)
	} else {
		dst = append(dst, byte(n))
	}
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, stored[i])
	}
	return dst
}

// ReadKey is the inverse of [AppendKey]: it appends the values of a key to columns of the types that it was made of, or of others
// of the same class that hold them. The error is [fault.Corrupt]; some columns may have got their value then.
func ReadKey(key []byte, cols ...*record.Column) error {
	for i, c := range cols {
		rest, err := readKeyValue(key, c)
		if err != nil {
			return fault.E("state.ReadKey", fault.Corrupt, fmt.Errorf("value %d of a key, as %s: %w", i, &c.Type, err))
		}
		key = rest
	}
	if len(key) > 0 {
		return fault.E("state.ReadKey", fault.Corrupt, fmt.Errorf("%d bytes follow the key", len(key)))
	}
	return nil
}

var (
	errKeyShort = errors.New("the key ends early")
	errKeyType  = errors.New("the key holds a value of another type")
	errKeyRange = errors.New("the value is out of the type's range")
)

func tagOf(k record.Kind) (tag byte, width int) {
	switch k {
	case record.Bool:
		return tagBool, 1
	case record.Float32, record.Float64:
		return tagFloat, 8
	case record.Decimal:
		return tagDecimal, 0
	case record.String:
		return tagString, 0
	case record.FixedString:
		return tagFixed, 0
	case record.Date:
		return tagDate, 0
	case record.Timestamp:
		return tagTimestamp, 0
	case record.UUID:
		return tagUUID, 16
	case record.IPv4:
		return tagIPv4, 4
	case record.IPv6:
		return tagIPv6, 16
	case record.Enum:
		return tagEnum, 0
	case record.Array:
		return tagArray, 0
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Int128, record.Int256, record.Uint8, record.Uint16,
		record.Uint32, record.Uint64, record.Uint128, record.Uint256, record.Map, record.Invalid:
	}
	return tagInteger, 0
}

func readKeyValue(key []byte, c *record.Column) ([]byte, error) {
	if len(key) == 0 {
		return nil, errKeyShort
	}
	if key[0] == tagNull && c.Type.Nullable {
		c.AppendNull()
		return key[1:], nil
	}
	tag, width := tagOf(c.Type.Kind)
	if key[0] != tag {
		return nil, errKeyType
	}
	key = key[1:]
	if len(key) < width {
		return nil, errKeyShort
	}
	switch tag {
	case tagBool, tagUUID, tagIPv4, tagIPv6:
		c.AppendFixed(key[:width])
		return key[width:], nil
	case tagFloat:
		c.AppendFloat(math.Float64frombits(binary.BigEndian.Uint64(key)))
		return key[width:], nil
	case tagString, tagFixed, tagArray:
		return readKeyBytes(key, c)
	case tagDecimal, tagTimestamp:
		parameter := c.Type.Scale
		if tag == tagTimestamp {
			parameter = c.Type.Precision
		}
		if len(key) == 0 || int(key[0]) != parameter {
			return nil, errKeyType
		}
		key = key[1:]
	}
	return readInteger(key, c)
}

// readKeyBytes reads what begins with a length.
func readKeyBytes(key []byte, c *record.Column) ([]byte, error) {
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) {
		return nil, errKeyShort
	}
	value := key[n : n+int(length)]
	switch c.Type.Kind { //nolint:exhaustive // the three kinds with a length
	case record.Array:
		rest := key[n:]
		var err error
		for i := uint64(0); i < length && err == nil; i++ {
			rest, err = readKeyValue(rest, c.Elem)
		}
		c.CloseList()
		return rest, err
	case record.FixedString:
		if len(value) != c.Type.Width() {
			return nil, errKeyType
		}
		c.AppendFixed(value)
	default:
		c.AppendBytes(value)
	}
	return key[n+int(length):], nil
}

// integerBytesMax is that of a Uint256 whose first bit is set.
const integerBytesMax = 33

func readInteger(key []byte, c *record.Column) ([]byte, error) {
	if len(key) == 0 || int(key[0]) > min(len(key)-1, integerBytesMax) {
		return nil, errKeyShort
	}
	big, rest := key[1:1+key[0]], key[1+int(key[0]):]
	var fill byte
	if len(big) > 0 && big[0] >= 0x80 {
		fill = math.MaxUint8
	}
	var stored [integerBytesMax]byte
	width := c.Type.Width()
	for i := range stored {
		stored[i] = fill
	}
	for i, v := range big {
		stored[len(big)-1-i] = v
	}
	fits := c.Type.Signed() || fill == 0
	for _, v := range stored[width:] {
		fits = fits && v == fill
	}
	if c.Type.Signed() && (stored[width-1] >= 0x80) != (fill != 0) {
		fits = false
	}
	if !fits {
		return nil, errKeyRange
	}
	c.AppendFixed(slices.Clip(stored[:width]))
	return rest, nil
}
