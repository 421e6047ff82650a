package codec

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"unsafe"

	"github.com/ingestd/ingestd/record"
)

var (
	errNotNumber = errors.New("is not a number")
	errInexact   = errors.New("has more digits behind the point than the type holds")
	errFraction  = errors.New("is not a whole number")
	errRange     = errors.New("is out of the type's range")
	errNegative  = errors.New("is negative")
	errUnderflow = errors.New("is too small: it would become 0")
)

// limbs is an unsigned integer of 256 bits, the lowest 64 bits first.
type limbs [4]uint64

// number is a decimal number taken apart: the value is the digits of text, read as one integer, times 10 to the exponent. There
// are no leading and no trailing zeros among the digits; zero has no digits.
type number struct {
	negative bool
	text     []byte // digits, of which the first and the last are not 0, with at most one point among them
	digits   int
	exponent int
}

// exponentMax bounds exponents: beyond it every type overflows, or has too few digits behind the point.
const exponentMax = 1 << 20

// parseNumber takes a number apart: -?digits[.digits][(e|E)[+-]digits]. Leading zeros are allowed.
func parseNumber(text []byte) (number, error) {
	var n number
	rest := text
	if len(rest) > 0 && rest[0] == '-' {
		n.negative, rest = true, rest[1:]
	}
	whole := countDigits(rest)
	if whole == 0 {
		return n, errNotNumber
	}
	mantissa, fraction := rest[:whole], 0
	rest = rest[whole:]
	if len(rest) > 0 && rest[0] == '.' {
		if fraction = countDigits(rest[1:]); fraction == 0 {
			return n, errNotNumber
		}
		mantissa, rest = mantissa[:whole+1+fraction], rest[1+fraction:]
	}
	exponent, ok := parseExponent(rest)
	if !ok {
		return n, errNotNumber
	}
	n.trim(mantissa, fraction, exponent)
	return n, nil
}

// trim sets the digits from a mantissa with the given number of digits behind its point.
func (n *number) trim(mantissa []byte, fraction, exponent int) {
	lead, end := 0, len(mantissa)
	for lead < end && (mantissa[lead] == '0' || mantissa[lead] == '.') {
		lead++
	}
	if lead == end {
		return
	}
	exponent -= fraction
	point := len(mantissa) - fraction - 1 // of a mantissa with a fraction
	for mantissa[end-1] == '0' || mantissa[end-1] == '.' {
		if mantissa[end-1] == '0' {
			exponent++
		}
		end--
	}
	n.text, n.digits, n.exponent = mantissa[lead:end], end-lead, exponent
	if fraction > 0 && lead < point && point < end {
		n.digits--
	}
}

func countDigits(text []byte) int {
	for i, c := range text {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(text)
}

// parseExponent reads what follows the mantissa, up to the end.
func parseExponent(text []byte) (exponent int, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		negative, text = text[0] == '-', text[1:]
	}
	if len(text) == 0 || countDigits(text) != len(text) {
		return 0, false
	}
	for _, c := range text {
		exponent = min(exponent*10+int(c-'0'), exponentMax)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, true
}

// scaled returns the number's magnitude times 10 to the scale as an integer, if it is one and has at most the given digits.
func (n *number) scaled(scale, digitsMax int) (limbs, error) {
	if n.digits == 0 {
		return limbs{}, nil
	}
	zeros := n.exponent + scale
	if zeros < 0 {
		return limbs{}, errInexact
	}
	if n.digits+zeros > digitsMax {
		return limbs{}, errRange
	}
	const digitsOfUint64 = 19 // each number of 19 digits fits
	var v limbs
	if n.digits+zeros <= digitsOfUint64 {
		for _, c := range n.text {
			if c != '.' {
				v[0] = v[0]*10 + uint64(c-'0')
			}
		}
		for range zeros {
			v[0] *= 10
		}
		return v, nil
	}
	for _, c := range n.text {
		if c != '.' && !v.push(uint64(c-'0')) {
			return limbs{}, errRange
		}
	}
	for range zeros {
		if !v.push(0) {
			return limbs{}, errRange
		}
	}
	return v, nil
}

// push appends a decimal digit; false means that 256 bits are too few.
func (v *limbs) push(digit uint64) bool {
	carry := digit
	for i := range v {
		high, low := bits.Mul64(v[i], 10)
		var c uint64
		v[i], c = bits.Add64(low, carry, 0)
		carry = high + c
	}
	return carry == 0
}

// bitLen returns how many bits the integer needs.
func (v *limbs) bitLen() int {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] != 0 {
			return 64*i + bits.Len64(v[i])
		}
	}
	return 0
}

// negate makes the two's complement.
func (v *limbs) negate() {
	carry := uint64(1)
	for i := range v {
		v[i], carry = bits.Add64(^v[i], 0, carry)
	}
}

// powerOfTwo reports whether exactly one bit is set.
func (v *limbs) powerOfTwo() bool {
	n := 0
	for _, limb := range v {
		n += bits.OnesCount64(limb)
	}
	return n == 1
}

// appendScaled appends the number times 10 to the scale to a column whose values are stored as integers.
func appendScaled(col *record.Column, n *number, scale int) error {
	t := &col.Type
	const digitsOf256Bits = 78
	digitsMax := digitsOf256Bits
	if t.Kind == record.Decimal {
		digitsMax = t.Precision
	}
	v, err := n.scaled(scale, digitsMax)
	if err != nil {
		return err
	}
	if err := checkBits(t, n, &v); err != nil {
		return err
	}
	if n.negative {
		v.negate()
	}
	if t.Width() <= 8 {
		if err := checkBounds(t, v[0]); err != nil {
			return err
		}
		col.AppendUint(v[0])
		return nil
	}
	var raw [32]byte
	for i, limb := range v {
		binary.LittleEndian.PutUint64(raw[8*i:], limb)
	}
	col.AppendFixed(raw[:t.Width()])
	return nil
}

// checkBits tells whether a magnitude with its sign fits the type's width.
func checkBits(t *record.Type, n *number, magnitude *limbs) error {
	size, width := magnitude.bitLen(), 8*t.Width()
	switch {
	case size == 0:
		return nil
	case !t.Signed() && n.negative:
		return errNegative
	case size > width:
		return errRange
	case t.Signed() && size == width && (!n.negative || !magnitude.powerOfTwo()): // only -2^(width-1) has all bits
		return errRange
	}
	return nil
}

// checkBounds applies Type.Min and Max to a stored integer.
func checkBounds(t *record.Type, v uint64) error {
	if t.Min == 0 && t.Max == 0 {
		return nil
	}
	if !t.Signed() && v > math.MaxInt64 {
		return errRange // Max is at most the greatest int64
	}
	if int64(v) < t.Min || int64(v) > t.Max {
		return errRange
	}
	return nil
}

// appendFloat appends the value of type float that is nearest to the number in text.
func appendFloat(col *record.Column, text []byte) error {
	size := 64
	if col.Type.Kind == record.Float32 {
		size = 32
	}
	switch string(text) {
	case "NaN":
		col.AppendFloat(math.NaN())
		return nil
	case "Infinity":
		col.AppendFloat(math.Inf(1))
		return nil
	case "-Infinity":
		col.AppendFloat(math.Inf(-1))
		return nil
	}
	n, err := parseNumber(text)
	if err != nil {
		return err
	}
	v, err := parseFloat(text, size)
	if err != nil {
		return errRange // the grammar was checked: this can only be an overflow
	}
	if v == 0 && n.digits > 0 {
		return errUnderflow
	}
	col.AppendFloat(v)
	return nil
}

// unsafeString looks at bytes as a string without a copy. The callee must not keep it.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
