package step

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/bits"

	"github.com/ingestd/ingestd/record"
)

// wide is an integer of 256 bits in two's complement, the lowest 64 bits first. Decimals are the integers that they are stored as.
type wide [4]uint64

const wideBytes = 32

// wideAt returns the integer that a value is stored as. The kind must not be Uint256, whose upper half does not fit.
func wideAt(c *record.Column, row int) wide {
	raw := c.FixedAt(row)
	if len(raw) <= 8 {
		if c.Type.Signed() {
			return wideOf(c.Int(row))
		}
		return wide{c.Uint(row)}
	}
	var w wide
	for i := range len(raw) / 8 {
		w[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	if c.Type.Signed() && raw[len(raw)-1] >= 0x80 {
		for i := len(raw) / 8; i < len(w); i++ {
			w[i] = math.MaxUint64
		}
	}
	return w
}

func wideOf(v int64) wide {
	sign := uint64(v >> 63)
	return wide{uint64(v), sign, sign, sign}
}

func (w *wide) negative() bool { return w[3]>>63 != 0 }

// plus adds; ok is false when the sum does not fit 256 bits.
func (w *wide) plus(v *wide) (sum wide, ok bool) {
	var carry uint64
	for i := range sum {
		sum[i], carry = bits.Add64(w[i], v[i], carry)
	}
	return sum, w.negative() != v.negative() || sum.negative() == w.negative()
}

// compare returns -1, 0 or 1.
func (w *wide) compare(v *wide) int {
	const sign = 1 << 63
	for i := len(w) - 1; i >= 0; i-- {
		a, b := w[i], v[i]
		if i == len(w)-1 {
			a, b = a^sign, b^sign
		}
		switch {
		case a < b:
			return -1
		case a > b:
			return 1
		}
	}
	return 0
}

// appendTo appends the integer to a column whose kind holds it.
func (w *wide) appendTo(c *record.Column) {
	var raw [wideBytes]byte
	for i, limb := range w {
		binary.LittleEndian.PutUint64(raw[8*i:], limb)
	}
	c.AppendFixed(raw[:c.Type.Width()])
}

func (w *wide) big() *big.Int {
	v := new(big.Int)
	for i := len(w) - 1; i >= 0; i-- {
		v.Lsh(v, 64)
		v.Or(v, new(big.Int).SetUint64(w[i]))
	}
	if w.negative() {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), 8*wideBytes))
	}
	return v
}

// wideFrom is the inverse of big, for integers that fit.
func wideFrom(v *big.Int) wide {
	var w wide
	m := new(big.Int).Set(v)
	if v.Sign() < 0 {
		m.Add(m, new(big.Int).Lsh(big.NewInt(1), 8*wideBytes))
	}
	var raw [wideBytes]byte
	m.FillBytes(raw[:])
	for i := range w {
		w[i] = binary.BigEndian.Uint64(raw[wideBytes-8*(i+1):])
	}
	return w
}

var errShort = errors.New("the stored bytes end early")

// save appends the number of bytes that say something and those bytes, the lowest first.
func (w *wide) save(dst []byte) []byte {
	fill := byte(0)
	if w.negative() {
		fill = math.MaxUint8
	}
	var raw [wideBytes]byte
	for i, limb := range w {
		binary.LittleEndian.PutUint64(raw[8*i:], limb)
	}
	n := wideBytes
	for n > 0 && raw[n-1] == fill && (n == 1 && fill == 0 || n > 1 && raw[n-2]>>7 == fill>>7) {
		n--
	}
	return append(append(dst, byte(n)), raw[:n]...)
}

// load reads what save wrote.
func (w *wide) load(b []byte) (rest []byte, err error) {
	if len(b) == 0 || int(b[0]) > min(wideBytes, len(b)-1) {
		return nil, errShort
	}
	stored, rest := b[1:1+b[0]], b[1+b[0]:]
	var raw [wideBytes]byte
	if len(stored) > 0 && stored[len(stored)-1] >= 0x80 {
		for i := range raw {
			raw[i] = math.MaxUint8
		}
	}
	copy(raw[:], stored)
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	return rest, nil
}

// bounds are the least and the greatest integer that a type stores.
type bounds struct{ low, high wide }

// boundsOf returns the bounds of an integer or decimal type other than Uint256.
func boundsOf(t *record.Type) bounds {
	one := big.NewInt(1)
	var high *big.Int
	low := new(big.Int)
	switch {
	case t.Kind == record.Decimal:
		high = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Precision)), nil)
		high.Sub(high, one)
		low.Neg(high)
	case t.Signed():
		low.Lsh(one, uint(8*t.Width()-1))
		high = new(big.Int).Sub(low, one)
		low.Neg(low)
	default:
		high = new(big.Int).Lsh(one, uint(8*t.Width()))
		high.Sub(high, one)
	}
	return bounds{low: wideFrom(low), high: wideFrom(high)}
}

func (b *bounds) hold(w *wide) bool { return w.compare(&b.low) >= 0 && w.compare(&b.high) <= 0 }
