package clickhouse

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/ingestd/ingestd/record"
)

// checker finds the rows of a column that the server could not hold, or would change without a word.
type checker struct {
	name  string
	shape *shape
	enum  map[int64]bool
	// bound is 10^precision of a decimal in words of 64 bits, lowest first; words is how many of them a value has.
	bound [4]uint64
	key   *checker
	elem  *checker
}

func newChecker(name string, s *shape) *checker {
	c := &checker{name: name, shape: s}
	if s.typ.Kind == record.Enum {
		c.enum = make(map[int64]bool, len(s.typ.Values))
		for _, v := range s.typ.Values {
			c.enum[int64(v.Number)] = true
		}
	}
	if s.typ.Kind == record.Decimal {
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s.typ.Precision)), nil)
		const wordBits = 64
		for i := range c.bound {
			c.bound[i] = new(big.Int).Rsh(limit, uint(i)*wordBits).Uint64()
		}
	}
	if s.key != nil {
		c.key = newChecker(name, s.key)
	}
	if s.elem != nil {
		c.elem = newChecker(name, s.elem)
	}
	return c
}

// find calls bad for each row with a reason; a row may come more than once.
func (c *checker) find(col *record.Column, bad func(row int, reason string)) {
	if col.Type.Nullable && !c.shape.typ.Nullable {
		for row, null := range col.Nulls {
			if null != 0 {
				bad(row, "null in a column that is not nullable")
			}
		}
	}
	if c.elem != nil {
		c.findNested(col, bad)
		return
	}
	if !c.limited(col) {
		return
	}
	for row := range col.Len() {
		if col.IsNull(row) {
			continue
		}
		if reason := c.reason(col, row); reason != "" {
			bad(row, reason)
		}
	}
}

// limited reports whether values of the column's kind can be out of what the server holds. It keeps the common columns from
// being walked.
func (c *checker) limited(*record.Column) bool {
	t := &c.shape.typ
	return t.Min != 0 || t.Max != 0 || t.Kind == record.Enum || t.Kind == record.Decimal || t.Kind == record.Bool
}

// findNested maps what is wrong with an element to the row that it belongs to.
func (c *checker) findNested(col *record.Column, bad func(row int, reason string)) {
	var row int
	owner := func(elem int, reason string) {
		if row > 0 && uint32(elem) < col.Off[row] {
			row = 0 // keys were walked before: begin again
		}
		for uint32(elem) >= col.Off[row+1] {
			row++
		}
		bad(row, reason)
	}
	if c.key != nil {
		c.key.find(col.Key, owner)
		row = 0
	}
	c.elem.find(col.Elem, owner)
}

// reason tells why one value can't be stored, or "".
func (c *checker) reason(col *record.Column, row int) string {
	t := &c.shape.typ
	switch t.Kind { //nolint:exhaustive // the other kinds are stored whatever their value
	case record.Bool:
		if v := col.Fixed[row]; v > 1 {
			return fmt.Sprintf("%d is not a boolean", v)
		}
		return ""
	case record.Enum:
		if v := col.Int(row); !c.enum[v] {
			return fmt.Sprintf("%d is no value of %s", v, c.shape.wire)
		}
		return ""
	case record.Decimal:
		if !c.fits(col.FixedAt(row)) {
			return fmt.Sprintf("the number has more than the %d digits of %s", t.Precision, c.shape.wire)
		}
		return ""
	}
	if v := col.Int(row); v < t.Min || v > t.Max {
		return fmt.Sprintf("%s is out of the range of %s", describe(t, v), c.shape.wire)
	}
	return ""
}

// describe writes a date or time as its stored number with the unit.
func describe(t *record.Type, v int64) string {
	if t.Kind == record.Date {
		return fmt.Sprintf("day %d since 1970-01-01", v)
	}
	return fmt.Sprintf("%d ticks of 10^-%d s since 1970", v, t.Precision)
}

// fits reports whether the absolute value of a little-endian two's complement integer is below 10^precision.
func (c *checker) fits(value []byte) bool {
	words := wordsOf(value)
	if words[3]>>63 == 1 { // negative: turn all bits around and add one
		carry := uint64(1)
		for i := range words {
			words[i], carry = bits.Add64(^words[i], 0, carry)
		}
	}
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] != c.bound[i] {
			return words[i] < c.bound[i]
		}
	}
	return false
}

// wordsOf extends an integer of 4, 8, 16 or 32 bytes to 256 bits.
func wordsOf(value []byte) [4]uint64 {
	const wordBytes, intBytes, signBit = 8, 4, 63
	var words [4]uint64
	if len(value) == intBytes {
		words[0] = uint64(int64(int32(binary.LittleEndian.Uint32(value))))
		value = value[:0]
	}
	n := len(value) / wordBytes
	for i := range n {
		words[i] = binary.LittleEndian.Uint64(value[i*wordBytes:])
	}
	last := max(n, 1)
	sign := uint64(int64(words[last-1]) >> signBit)
	for i := last; i < len(words); i++ {
		words[i] = sign
	}
	return words
}
