package codec

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/ingestd/ingestd/record"
)

// AppendInteger appends a whole number to a column of an integer type, Decimal or a float type, if it is in range.
func AppendInteger(col *record.Column, v int64) error {
	t := &col.Type
	switch {
	case t.Kind == record.Float32 || t.Kind == record.Float64:
		col.AppendFloat(float64(v))
		return nil
	case t.Kind == record.Decimal || t.Width() > 8:
		var raw [8]byte
		binary.BigEndian.PutUint64(raw[:], uint64(v))
		return AppendUnscaled(col, raw[:], 0)
	case !t.Signed():
		if v < 0 {
			return errNegative
		}
		if w := 8 * t.Width(); w < 64 && v>>w != 0 {
			return errRange
		}
	default:
		if shift := 64 - 8*t.Width(); v<<shift>>shift != v {
			return errRange
		}
	}
	if err := checkBounds(t, uint64(v)); err != nil {
		return err
	}
	col.AppendInt(v)
	return nil
}

// AppendUnscaled appends a number times 10 to the minus scale to a column of an integer type or Decimal, which must hold it
// exactly. The number is two's complement in any number of bytes, the highest first; none are 0.
func AppendUnscaled(col *record.Column, raw []byte, scale int) error {
	t := &col.Type
	if v, ok := shortUnscaled(raw); ok && t.Kind == record.Decimal && t.Scale == scale && t.Precision <= 18 {
		if limit := pow10(t.Precision); v >= limit || v <= -limit {
			return errRange
		}
		if err := checkBounds(t, uint64(v)); err != nil {
			return err
		}
		col.AppendInt(v)
		return nil
	}
	var text [96]byte
	digits, ok := UnscaledText(text[:0], raw, 0)
	if !ok {
		return errRange
	}
	n, err := parseNumber(digits)
	if err != nil {
		return err
	}
	n.exponent -= scale
	target := 0
	if t.Kind == record.Decimal {
		target = t.Scale
	}
	err = appendScaled(col, &n, target)
	if errors.Is(err, errInexact) && t.Kind != record.Decimal {
		return errFraction
	}
	return err
}

func shortUnscaled(raw []byte) (int64, bool) {
	if len(raw) > 8 {
		return 0, false
	}
	var v int64
	if len(raw) > 0 && raw[0] >= 0x80 {
		v = -1
	}
	for _, b := range raw {
		v = v<<8 | int64(b)
	}
	return v, true
}

// UnscaledText appends a number times 10 to the minus scale as text with a point before its last digits, the number being two's
// complement, the highest byte first. ok is false for more than 256 bits, not counting the sign of a positive number.
func UnscaledText(dst, raw []byte, scale int) (out []byte, ok bool) {
	t := record.Type{Kind: record.Uint256, Scale: scale}
	fill := byte(0)
	if len(raw) > 0 && raw[0] >= 0x80 {
		t.Kind, fill = record.Int256, 0xff
	}
	for len(raw) > 0 && raw[0] == fill && (fill == 0 || len(raw) > 1 && raw[1] >= 0x80) {
		raw = raw[1:]
	}
	const widest = 32
	if len(raw) > widest || scale > record.PrecisionMax {
		return dst, false
	}
	var wide [widest]byte
	for i := range wide {
		wide[i] = fill
	}
	for i, b := range raw {
		wide[len(raw)-1-i] = b
	}
	return appendScaledText(dst, wide[:], &t), true
}

// AppendReal appends a float to a column of a float type; one that becomes infinite, or 0, in a narrower type is refused.
func AppendReal(col *record.Column, v float64) error {
	if col.Type.Kind == record.Float32 {
		narrow := float64(float32(v))
		switch {
		case math.IsInf(narrow, 0) && !math.IsInf(v, 0):
			return errRange
		case narrow == 0 && v != 0:
			return errUnderflow
		}
	}
	col.AppendFloat(v)
	return nil
}
