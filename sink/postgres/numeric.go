package postgres

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/ingestd/ingestd/record"
)

// limbs is an unsigned integer of 320 bits, lowest word first: what 256 bits times 10^3 need.
type limbs [5]uint64

const (
	limbBits  = 64
	limbBytes = 8
)

// divide divides by d and returns the remainder.
func (v *limbs) divide(d uint64) (rest uint64) {
	for i := len(v) - 1; i >= 0; i-- {
		v[i], rest = bits.Div64(rest, v[i], d)
	}
	return rest
}

// multiply multiplies by m. What is above 320 bits is lost.
func (v *limbs) multiply(m uint64) {
	var carry uint64
	for i := range v {
		hi, lo := bits.Mul64(v[i], m)
		var c uint64
		v[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
}

// negate turns a negative two's complement into its absolute value.
func (v *limbs) negate() {
	carry := uint64(1)
	for i := range v {
		v[i], carry = bits.Add64(^v[i], 0, carry)
	}
}

func (v *limbs) isZero() bool { return *v == limbs{} }

// less reports v < w.
func (v *limbs) less(w *limbs) bool {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

// tenTo is 10^n. ok is false when it is above 320 bits.
func tenTo(n int) (v limbs, ok bool) {
	b := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	if b.BitLen() > len(v)*limbBits {
		return v, false
	}
	for i := range v {
		v[i] = new(big.Int).Rsh(b, uint(i*limbBits)).Uint64()
	}
	return v, true
}

// magnitude reads an integer of 1 to 32 bytes, little endian.
func magnitude(raw []byte, signed bool) (v limbs, negative bool) { //nolint:revive // the flag is half of the type
	var fill uint64
	if signed && raw[len(raw)-1]&0x80 != 0 {
		fill, negative = ^uint64(0), true
	}
	for i := range v {
		word := fill
		for j := range limbBytes {
			if at := i*limbBytes + j; at < len(raw) {
				shift := uint(8 * j)
				word = word&^(0xff<<shift) | uint64(raw[at])<<shift
			}
		}
		v[i] = word
	}
	if negative {
		v.negate()
	}
	return v, negative
}

// numeric takes every integer and decimal.
func (l *cell) numeric(s *shape, t *record.Type) bool {
	if t.Kind < record.Int8 || t.Kind > record.Uint256 && t.Kind != record.Decimal {
		return false
	}
	signed, have := t.Signed(), t.Scale
	shown := s.scale // digits behind the point
	if s.digits == 0 {
		shown = -1 // as many as are needed
	}
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		v, negative := magnitude(c.FixedAt(row), signed)
		return appendNumeric(dst, v, negative, decimalForm{have: have, shown: shown})
	}
	if s.digits > 0 {
		l.check = numericCheck(s, signed, have)
	}
	return true
}

// numericCheck finds values that have more digits than the type on either side of the point.
func numericCheck(s *shape, signed bool, have int) func(c *record.Column, row int) string {
	drop := have - s.scale // digits that the type does not keep
	limit, limited := limbs{1}, true
	if n := s.digits - s.scale + have; n >= 0 {
		limit, limited = tenTo(n)
	}
	return func(c *record.Column, row int) string {
		v, _ := magnitude(c.FixedAt(row), signed)
		if limited && !v.less(&limit) {
			return fmt.Sprintf("the number has more digits than %s(%d, %d) before the point", s.name, s.digits, s.scale)
		}
		for range drop {
			if v.isZero() {
				break
			}
			if v.divide(10) != 0 {
				return fmt.Sprintf("the number has more digits than %s(%d, %d) behind the point", s.name, s.digits, s.scale)
			}
		}
		return ""
	}
}

// decimalForm says where a number's point is, and how many digits behind it are shown, -1 for those that are not zero at the end.
type decimalForm struct{ have, shown int }

// The sign of a numeric.
const (
	numericPositive = 0x0000
	numericNegative = 0x4000
)

// appendNumeric writes the server's form: the number of digits of base 10000, the weight of the first, sign, digits behind the
// point to be shown, the digits.
func appendNumeric(dst []byte, v limbs, negative bool, form decimalForm) []byte { //nolint:revive // the sign is a part of the value
	const base, group = 10_000, 4
	have := form.have
	for have > 0 && form.shown < 0 && !v.isZero() { // trim what is zero at the end
		w := v
		if w.divide(10) != 0 {
			break
		}
		v, have = w, have-1
	}
	shown := form.shown
	if shown < 0 {
		shown = have
	}
	if v.isZero() {
		return binary.BigEndian.AppendUint64(dst, uint64(uint16(max(shown, 0))))
	}
	pad := (group - have%group) % group // so that the point lies between two digits
	v.multiply(uint64(powerOfTen(pad)))
	behind := (have + pad) / group
	var digits [24]uint16 // 320 bits are 97 decimal digits, but a value has 80 at most
	n := 0
	for !v.isZero() {
		digits[n] = uint16(v.divide(base))
		n++
	}
	low := 0
	for digits[low] == 0 {
		low++
	}
	sign := uint16(numericPositive)
	if negative {
		sign = numericNegative
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(n-low))
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(n-1-behind)))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(max(shown, 0)))
	for i := n - 1; i >= low; i-- {
		dst = binary.BigEndian.AppendUint16(dst, digits[i])
	}
	return dst
}
