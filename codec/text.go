package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

var (
	errNotBool = errors.New("is neither true nor false")
	errNotUUID = errors.New("is not a UUID like 01234567-89ab-cdef-0123-456789abcdef")
	errNotIPv4 = errors.New("is not an IPv4 address")
	errNotIPv6 = errors.New("is not an IPv6 address")
	errEnum    = errors.New("is not one of the type's names")
	errLong    = errors.New("is longer than the type")
	errList    = errors.New("a list can't be written as text")
)

// Text turns texts into values of one type. It may be used by one goroutine at a time.
type Text struct {
	zone  *time.Location   // nil: UTC
	names map[string]int16 // of an Enum
}

// NewText prepares the reading of texts for a type. The error is fault.Misconfigured: the type's zone is not known.
func NewText(t *record.Type) (*Text, error) {
	x := &Text{}
	if t.Kind == record.Timestamp && t.Zone != "" && t.Zone != "UTC" {
		zone, err := time.LoadLocation(t.Zone)
		if err != nil {
			return nil, fault.E("codec.NewText", fault.Misconfigured, fmt.Errorf("time zone %q: %w", t.Zone, err))
		}
		x.zone = zone
	}
	if t.Kind == record.Enum {
		x.names = make(map[string]int16, len(t.Values))
		for _, v := range t.Values {
			x.names[v.Name] = v.Number
		}
	}
	return x, nil
}

// Append appends the value that text says to col, a column of the type that x was made for. It is strict: what does not fit the type
// exactly is refused, and col is unchanged then. The error's text completes a sentence that begins with the value.
//
//	integers, decimals  digits with an optional sign -, point and exponent; the exact value counts: 1.0 and 1e3 are integers
//	floats              the same, rounded to the nearest value; too great, or so small that it would become 0, is refused;
//	                    NaN, Infinity, -Infinity
//	bool                true, false
//	string              as it is; fixed_string: padded with zero bytes
//	date                2006-01-02
//	timestamp           2006-01-02T15:04:05 or with a space, a fraction of as many digits as the type holds (zeros may
//	                    follow), then Z or an offset like +02:00; without one it is in the type's zone, where a time that
//	                    the clocks skip or show twice is refused
//	uuid                01234567-89ab-cdef-0123-456789abcdef, in any case
//	ipv4, ipv6          as in RFC 4291; an IPv4 address in an ipv6 column is stored as ::ffff:a.b.c.d
//	enum                one of the names
func (x *Text) Append(col *record.Column, text []byte) error {
	switch col.Type.Kind {
	case record.String:
		col.AppendBytes(text)
		return nil
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Int128, record.Int256,
		record.Uint8, record.Uint16, record.Uint32, record.Uint64, record.Uint128, record.Uint256, record.Decimal:
		return AppendNumber(col, text)
	case record.Float32, record.Float64:
		return appendFloat(col, text)
	case record.Timestamp:
		return appendTimestamp(col, text, x.zone)
	case record.Bool:
		return appendBool(col, text)
	case record.FixedString:
		return appendFixedString(col, text)
	case record.Date:
		return appendDate(col, text)
	case record.UUID:
		return appendUUID(col, text)
	case record.IPv4:
		return appendIPv4(col, text)
	case record.IPv6:
		return appendIPv6(col, text)
	case record.Enum:
		return x.appendEnum(col, text)
	case record.Array, record.Map, record.Invalid:
		return errList
	}
	return errList
}

// AppendText is [Text.Append] for a single value: it prepares the type each time.
func AppendText(col *record.Column, text []byte) error {
	x, err := NewText(&col.Type)
	if err != nil {
		return err
	}
	return x.Append(col, text)
}

// AppendNumber appends a number from its text to a column of an integer, Decimal or float type, as [Text.Append] does.
func AppendNumber(col *record.Column, text []byte) error {
	t := &col.Type
	if t.Kind == record.Float32 || t.Kind == record.Float64 {
		return appendFloat(col, text)
	}
	n, err := parseNumber(text)
	if err != nil {
		return err
	}
	scale := 0
	if t.Kind == record.Decimal {
		scale = t.Scale
	}
	err = appendScaled(col, &n, scale)
	if errors.Is(err, errInexact) && t.Kind != record.Decimal {
		return errFraction
	}
	return err
}

// AppendEpoch appends a number of units since 1970 to a column of Timestamp, where a unit is 10^-digits seconds. It must be
// exact: a fraction that the type can't hold is refused.
func AppendEpoch(col *record.Column, text []byte, digits int) error {
	n, err := parseNumber(text)
	if err != nil {
		return err
	}
	const digitsOfInt64 = 19
	v, err := n.scaled(col.Type.Precision-digits, digitsOfInt64)
	switch {
	case errors.Is(err, errInexact):
		return errTicks
	case err != nil:
		return err
	case n.negative && v[0] <= 1<<63:
		return appendTicks(col, int64(-v[0]))
	case v[0] > math.MaxInt64:
		return errRange
	}
	return appendTicks(col, int64(v[0]))
}

func parseFloat(text []byte, size int) (float64, error) {
	return strconv.ParseFloat(unsafeString(text), size)
}

func appendBool(col *record.Column, text []byte) error {
	switch string(text) {
	case "true":
		col.AppendUint(1)
	case "false":
		col.AppendUint(0)
	default:
		return errNotBool
	}
	return nil
}

func appendFixedString(col *record.Column, text []byte) error {
	if len(text) > col.Type.Size {
		return errLong
	}
	col.AppendZero()
	copy(col.FixedAt(col.Len()-1), text)
	return nil
}

func appendDate(col *record.Column, text []byte) error {
	const size = 10
	if len(text) != size {
		return errNotDate
	}
	days, err := parseDate(text)
	if err != nil {
		return err
	}
	if err := checkBounds(&col.Type, uint64(days)); err != nil {
		return err
	}
	col.AppendInt(days)
	return nil
}

func appendUUID(col *record.Column, text []byte) error {
	const size = 36
	if len(text) != size || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return errNotUUID
	}
	var raw [16]byte
	at := 0
	for i := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			at++ // the dash
		}
		high, low := hexDigit(text[at]), hexDigit(text[at+1])
		if high > 15 || low > 15 {
			return errNotUUID
		}
		raw[i] = high<<4 | low
		at += 2
	}
	col.AppendFixed(raw[:])
	return nil
}

// hexDigit gives a digit's value, or one above 15.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

func appendIPv4(col *record.Column, text []byte) error {
	address, err := parseAddress(text)
	if err != nil || !address.Is4() {
		return errNotIPv4
	}
	b := address.As4()
	col.AppendUint(uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]))
	return nil
}

func appendIPv6(col *record.Column, text []byte) error {
	address, err := parseAddress(text)
	if err != nil {
		return errNotIPv6
	}
	b := address.As16()
	col.AppendFixed(b[:])
	return nil
}

// parseAddress reads an IP address without a zone. The longest has 45 characters.
func parseAddress(text []byte) (netip.Addr, error) {
	const longest = 45
	if len(text) > longest {
		return netip.Addr{}, errLong
	}
	if bytes.IndexByte(text, '%') >= 0 {
		return netip.Addr{}, errNotIPv6
	}
	return netip.ParseAddr(unsafeString(text))
}

func (x *Text) appendEnum(col *record.Column, text []byte) error {
	number, ok := x.names[string(text)]
	if !ok {
		return errEnum
	}
	col.AppendInt(int64(number))
	return nil
}
