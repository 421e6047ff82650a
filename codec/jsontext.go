package codec

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ingestd/ingestd/record"
)

// AppendJSON appends one row of a batch to dst as a JSON object on one line, without a line end. Every column is there, under
// its name, in the schema's order; the bytes depend on nothing but the row's values. Nothing is lost or altered:
//
//	null                null
//	integers, decimals  JSON numbers with all digits; a decimal always shows its scale
//	floats              the shortest number that reads back as the same value; "NaN", "Infinity" and "-Infinity" as strings
//	string              a string; bytes that are not valid UTF-8 become the object {"base64": "…"} in its place
//	fixed_string        as string, without the zero bytes of the padding
//	date, timestamp     "2006-01-02" and "2006-01-02T15:04:05.000Z" with all digits of the precision, always in UTC; years
//	                    outside 0000 to 9999 (no decoder makes them) have a sign
//	uuid, ipv4, ipv6    strings
//	enum                its name; a number without a name as a number
//	array               an array
//	map                 an object in the order of the pairs, all keys as strings; if a key is not valid UTF-8, an array of
//	                    [key, value] pairs instead
func AppendJSON(dst []byte, b *record.Batch, row int) []byte {
	dst = append(dst, '{')
	for i := range b.Cols {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, []byte(b.Schema.Fields[i].Name))
		dst = append(dst, ':')
		dst = AppendJSONValue(dst, &b.Cols[i], row)
	}
	return append(dst, '}')
}

// AppendJSONValue appends one value of a column as JSON; see [AppendJSON].
func AppendJSONValue(dst []byte, c *record.Column, row int) []byte {
	if c.IsNull(row) {
		return append(dst, "null"...)
	}
	switch c.Type.Kind {
	case record.Bool:
		return strconv.AppendBool(dst, c.Bool(row))
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32, record.Uint64,
		record.Int128, record.Int256, record.Uint128, record.Uint256, record.Decimal:
		return appendPlain(dst, c, row)
	case record.Float32, record.Float64:
		if v := c.Float(row); math.IsNaN(v) || math.IsInf(v, 0) {
			return appendQuotedPlain(dst, c, row)
		}
		return appendPlain(dst, c, row)
	case record.String:
		return AppendJSONString(dst, c.BytesAt(row))
	case record.FixedString:
		return AppendJSONString(dst, trimPadding(c.FixedAt(row)))
	case record.Date, record.Timestamp, record.UUID, record.IPv4, record.IPv6:
		return appendQuotedPlain(dst, c, row)
	case record.Enum:
		if name, ok := enumName(c, row); ok {
			return AppendJSONString(dst, []byte(name))
		}
		return strconv.AppendInt(dst, c.Int(row), 10)
	case record.Array:
		return appendArray(dst, c, row)
	case record.Map:
		return appendMap(dst, c, row)
	case record.Invalid:
	}
	return append(dst, "null"...)
}

// AppendValue appends one value of a column, which is not null and no Array or Map, as the text that [Text.Append] reads back
// to the same value.
func AppendValue(dst []byte, c *record.Column, row int) []byte {
	switch c.Type.Kind { //nolint:exhaustive // the other kinds are plain
	case record.String:
		return append(dst, c.BytesAt(row)...)
	case record.FixedString:
		return append(dst, trimPadding(c.FixedAt(row))...)
	case record.Bool:
		return strconv.AppendBool(dst, c.Bool(row))
	case record.Enum:
		if name, ok := enumName(c, row); ok {
			return append(dst, name...)
		}
		return strconv.AppendInt(dst, c.Int(row), 10)
	}
	return appendPlain(dst, c, row)
}

// appendPlain appends a value whose text needs no escapes.
func appendPlain(dst []byte, c *record.Column, row int) []byte {
	switch c.Type.Kind { //nolint:exhaustive // the other kinds are stored as integers
	case record.Float32:
		return appendJSONFloat(dst, c.Float(row), 32)
	case record.Float64:
		return appendJSONFloat(dst, c.Float(row), 64)
	case record.Date:
		return appendCivil(dst, c.Int(row)*secondsPerDay, len("2006-01-02"))
	case record.Timestamp:
		return appendTimestampText(dst, c.Int(row), c.Type.Precision)
	case record.UUID:
		return appendUUIDText(dst, c.FixedAt(row))
	case record.IPv4:
		v := uint32(c.Uint(row))
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).AppendTo(dst)
	case record.IPv6:
		return netip.AddrFrom16([16]byte(c.FixedAt(row))).AppendTo(dst)
	}
	if c.Type.Kind != record.Decimal && c.Type.Width() <= 8 {
		if c.Type.Signed() {
			return strconv.AppendInt(dst, c.Int(row), 10)
		}
		return strconv.AppendUint(dst, c.Uint(row), 10)
	}
	return appendScaledText(dst, c.FixedAt(row), &c.Type)
}

func appendQuotedPlain(dst []byte, c *record.Column, row int) []byte {
	dst = append(dst, '"')
	dst = appendPlain(dst, c, row)
	return append(dst, '"')
}

// appendScaledText appends a little-endian integer with a point before the last Scale digits.
func appendScaledText(dst, raw []byte, t *record.Type) []byte {
	var v limbs
	negative := t.Signed() && raw[len(raw)-1]&0x80 != 0
	var wide [32]byte
	if negative {
		for i := range wide {
			wide[i] = 0xff
		}
	}
	copy(wide[:], raw)
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(wide[8*i:])
	}
	if negative {
		v.negate()
		dst = append(dst, '-')
	}
	var digits [80]byte
	at := len(digits)
	for n := 0; v.bitLen() > 0 || n <= t.Scale; n++ {
		if n == t.Scale && n > 0 {
			at--
			digits[at] = '.'
		}
		at--
		digits[at] = '0' + v.pop()
	}
	return append(dst, digits[at:]...)
}

// pop divides by 10 and returns the remainder.
func (v *limbs) pop() byte {
	var remainder uint64
	for i := len(v) - 1; i >= 0; i-- {
		v[i], remainder = bits.Div64(remainder, v[i], 10)
	}
	return byte(remainder)
}

// appendJSONFloat writes floats as ECMAScript does: without an exponent between 1e-6 and 1e21.
func appendJSONFloat(dst []byte, v float64, size int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...)
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, size)
}

func appendTimestampText(dst []byte, ticks int64, precision int) []byte {
	scale := pow10(precision)
	seconds, fraction := ticks/scale, ticks%scale
	if fraction < 0 {
		seconds, fraction = seconds-1, fraction+scale
	}
	dst = appendCivil(dst, seconds, len("2006-01-02T15:04:05"))
	if precision > 0 {
		dst = append(dst, '.')
		for digit := scale / 10; digit > 0; digit /= 10 {
			dst = append(dst, '0'+byte(fraction/digit%10))
		}
	}
	return append(dst, 'Z')
}

// appendCivil appends the date of an instant, or date and time.
func appendCivil(dst []byte, seconds int64, size int) []byte {
	t := time.Unix(seconds, 0).UTC()
	year, month, day := t.Date()
	switch {
	case year > 9999:
		dst = strconv.AppendInt(append(dst, '+'), int64(year), 10)
	case year < 0:
		dst = strconv.AppendInt(dst, int64(year), 10)
	default:
		dst = appendTwo(appendTwo(dst, year/100), year%100)
	}
	dst = appendTwo(append(dst, '-'), int(month))
	dst = appendTwo(append(dst, '-'), day)
	if size == len("2006-01-02") {
		return dst
	}
	dst = appendTwo(append(dst, 'T'), t.Hour())
	dst = appendTwo(append(dst, ':'), t.Minute())
	return appendTwo(append(dst, ':'), t.Second())
}

func appendTwo(dst []byte, v int) []byte {
	return append(dst, '0'+byte(v/10), '0'+byte(v%10))
}

func appendUUIDText(dst, raw []byte) []byte {
	const hex = "0123456789abcdef"
	for i, b := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return dst
}

// trimPadding cuts the zero bytes at the end of a FixedString.
func trimPadding(raw []byte) []byte {
	for len(raw) > 0 && raw[len(raw)-1] == 0 {
		raw = raw[:len(raw)-1]
	}
	return raw
}

func enumName(c *record.Column, row int) (string, bool) {
	number := int16(c.Int(row))
	for i := range c.Type.Values {
		if c.Type.Values[i].Number == number {
			return c.Type.Values[i].Name, true
		}
	}
	return "", false
}

func appendArray(dst []byte, c *record.Column, row int) []byte {
	dst = append(dst, '[')
	from, to := c.Range(row)
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = AppendJSONValue(dst, c.Elem, int(i))
	}
	return append(dst, ']')
}

func appendMap(dst []byte, c *record.Column, row int) []byte {
	from, to := c.Range(row)
	for i := from; i < to; i++ {
		if !validKey(c.Key, int(i)) {
			return appendPairs(dst, c, row)
		}
	}
	dst = append(dst, '{')
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = appendKey(dst, c.Key, int(i))
		dst = append(dst, ':')
		dst = AppendJSONValue(dst, c.Elem, int(i))
	}
	return append(dst, '}')
}

func validKey(c *record.Column, row int) bool {
	switch c.Type.Kind { //nolint:exhaustive // the text of the other kinds is ASCII
	case record.String:
		return utf8.Valid(c.BytesAt(row))
	case record.FixedString:
		return utf8.Valid(trimPadding(c.FixedAt(row)))
	}
	return true
}

// appendKey appends a map's key, which has a text of valid UTF-8, as a JSON string.
func appendKey(dst []byte, c *record.Column, row int) []byte {
	switch c.Type.Kind { //nolint:exhaustive // the text of the other kinds needs no escapes
	case record.String, record.FixedString:
		return AppendJSONValue(dst, c, row)
	case record.Enum:
		if name, ok := enumName(c, row); ok {
			return AppendJSONString(dst, []byte(name))
		}
	}
	dst = append(dst, '"')
	dst = AppendValue(dst, c, row)
	return append(dst, '"')
}

func appendPairs(dst []byte, c *record.Column, row int) []byte {
	dst = append(dst, '[')
	from, to := c.Range(row)
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = append(dst, '[')
		dst = AppendJSONValue(dst, c.Key, int(i))
		dst = append(dst, ',')
		dst = AppendJSONValue(dst, c.Elem, int(i))
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

// AppendJSONString appends text as a JSON string; if it is not valid UTF-8, as the object {"base64": "…"}.
func AppendJSONString(dst, text []byte) []byte {
	if utf8.Valid(text) {
		return record.AppendQuoted(dst, text)
	}
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, text)
	return append(dst, `"}`...)
}
