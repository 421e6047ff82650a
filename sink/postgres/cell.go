package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// cell writes the values of one column of a batch into one column of the table.
type cell struct {
	name string
	// put appends a value that is not null, without its length.
	put func(dst []byte, c *record.Column, row int) []byte
	// check tells why a value that is not null can't be stored, or ""; nil when every value can.
	check func(c *record.Column, row int) string
	// notNull is true when the table takes no null.
	notNull bool
}

// append writes the value with its length, as a field of a tuple.
func (l *cell) append(dst []byte, c *record.Column, row int) []byte {
	if c.IsNull(row) {
		return appendNull(dst)
	}
	return appendSized(dst, func(dst []byte) []byte { return l.put(dst, c, row) })
}

// appendNull writes a null field.
func appendNull(dst []byte) []byte { return append(dst, 0xff, 0xff, 0xff, 0xff) }

// appendSized writes what put appends behind its length.
func appendSized(dst []byte, put func(dst []byte) []byte) []byte {
	const size = 4
	start := len(dst)
	dst = put(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-size))
	return dst
}

// refuse tells why a row can't be stored for this column's value, or "".
func (l *cell) refuse(c *record.Column, row int) string {
	if c.IsNull(row) {
		if l.notNull {
			return "null in a column that takes none"
		}
		return ""
	}
	if l.check == nil {
		return ""
	}
	return l.check(c, row)
}

// newCell finds how a column of type t is written as s. The error names the pair when it is none, or could lose something that is
// not seen value by value.
func newCell(s *shape, t *record.Type) (*cell, error) {
	l := &cell{}
	ok := false
	switch s.form {
	case formBool:
		ok = l.boolean(t)
	case formInt:
		ok = l.integer(s, t)
	case formFloat:
		ok = l.float(s, t)
	case formNumeric:
		ok = l.numeric(s, t)
	case formString, formText, formEnum:
		ok = l.text(s, t)
	case formBytes:
		ok = l.bytes(t)
	case formDate:
		ok = l.date(s, t)
	case formTimestamp:
		ok = l.timestamp(s, t)
	case formTime:
		ok = l.time(s, t)
	case formUUID:
		ok = t.Kind == record.UUID
		l.put = func(dst []byte, c *record.Column, row int) []byte { return append(dst, c.FixedAt(row)...) }
	case formJSON, formJSONB:
		ok = l.json(s)
	case formInet:
		ok = l.inet(s, t)
	case formArray:
		return l.array(s, t)
	}
	if !ok {
		return nil, fmt.Errorf("%s can't be written as %s without loss: use a step of type cast", t, s.name)
	}
	return l, nil
}

func (l *cell) boolean(t *record.Type) bool {
	l.put = func(dst []byte, c *record.Column, row int) []byte { return append(dst, c.Fixed[row]) }
	l.check = func(c *record.Column, row int) string {
		if v := c.Fixed[row]; v > 1 {
			return fmt.Sprintf("%d is not a boolean", v)
		}
		return ""
	}
	return t.Kind == record.Bool
}

// whole reports whether values of a kind are integers of at most 8 bytes.
func whole(k record.Kind) bool {
	return k >= record.Int8 && k <= record.Int64 || k >= record.Uint8 && k <= record.Uint64
}

// bounds are the least and the greatest value of an integer of so many bytes.
func bounds(size int, signed bool) (least int64, most uint64) { //nolint:revive // the flag is half of the type
	bits := uint(8 * size)
	if signed {
		return -1 << (bits - 1), 1<<(bits-1) - 1
	}
	return 0, math.MaxUint64 >> (64 - bits)
}

func (l *cell) integer(s *shape, t *record.Type) bool {
	if !whole(t.Kind) {
		return false
	}
	least, most := bounds(s.size, !s.unsigned)
	haveLeast, haveMost := bounds(t.Width(), t.Signed())
	signed := t.Signed()
	if haveLeast < least || haveMost > most {
		l.check = func(c *record.Column, row int) string {
			v := c.Int(row)
			if signed && (v < least || v > 0 && uint64(v) > most) {
				return fmt.Sprintf("%d is out of the range of %s", v, s.name)
			}
			if !signed && c.Uint(row) > most {
				return fmt.Sprintf("%d is out of the range of %s", c.Uint(row), s.name)
			}
			return ""
		}
	}
	switch s.size {
	case 2:
		l.put = func(dst []byte, c *record.Column, row int) []byte {
			return binary.BigEndian.AppendUint16(dst, uint16(c.Int(row)))
		}
	case 4:
		l.put = func(dst []byte, c *record.Column, row int) []byte {
			return binary.BigEndian.AppendUint32(dst, uint32(c.Int(row)))
		}
	default:
		l.put = func(dst []byte, c *record.Column, row int) []byte {
			return binary.BigEndian.AppendUint64(dst, uint64(c.Int(row)))
		}
	}
	return true
}

// float takes floats that are no wider, and integers that a mantissa holds.
func (l *cell) float(s *shape, t *record.Type) bool {
	const single = 4
	value := func(c *record.Column, row int) float64 { return c.Float(row) }
	switch {
	case t.Kind == record.Float32, t.Kind == record.Float64 && s.size > single:
	case whole(t.Kind) && t.Width() < s.size:
		value = func(c *record.Column, row int) float64 { return float64(c.Int(row)) }
	default:
		return false
	}
	if s.size == single {
		l.put = func(dst []byte, c *record.Column, row int) []byte {
			return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(value(c, row))))
		}
		return true
	}
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(value(c, row)))
	}
	return true
}

// content returns how the bytes of a text are read from a column, nil when it holds none. An enumeration's are its names.
func content(t *record.Type) func(c *record.Column, row int) []byte {
	switch t.Kind { //nolint:exhaustive // the other kinds are no text
	case record.String:
		return func(c *record.Column, row int) []byte { return c.BytesAt(row) }
	case record.FixedString:
		return func(c *record.Column, row int) []byte { return bytes.TrimRight(c.FixedAt(row), "\x00") }
	case record.Enum:
		names := make(map[int64][]byte, len(t.Values))
		for _, v := range t.Values {
			names[int64(v.Number)] = []byte(v.Name)
		}
		return func(c *record.Column, row int) []byte { return names[c.Int(row)] }
	}
	return nil
}

// storable tells why a text can't be one of the server's, or "".
func storable(text []byte) string {
	if bytes.IndexByte(text, 0) >= 0 {
		return "a text can't hold a zero byte"
	}
	if !utf8.Valid(text) {
		return "the text is not valid UTF-8"
	}
	return ""
}

func (l *cell) text(s *shape, t *record.Type) bool {
	read := content(t)
	if read == nil {
		return false
	}
	l.put = func(dst []byte, c *record.Column, row int) []byte { return append(dst, read(c, row)...) }
	known := map[int64]bool{}
	for _, v := range t.Values {
		known[int64(v.Number)] = true
	}
	l.check = func(c *record.Column, row int) string {
		if t.Kind == record.Enum && !known[c.Int(row)] {
			return fmt.Sprintf("%d is no value of the enumeration", c.Int(row))
		}
		text := read(c, row)
		if why := storable(text); why != "" {
			return why
		}
		if s.limit > 0 && len(text) > s.limit && utf8.RuneCount(text) > s.limit {
			return fmt.Sprintf("the text has more than the %d characters of %s", s.limit, s.name)
		}
		if s.form == formEnum && !s.labels[string(text)] {
			return fmt.Sprintf("%q is no value of %s", text, s.name)
		}
		return ""
	}
	return true
}

func (l *cell) bytes(t *record.Type) bool {
	read := content(t)
	if t.Kind == record.FixedString {
		read = func(c *record.Column, row int) []byte { return c.FixedAt(row) }
	}
	l.put = func(dst []byte, c *record.Column, row int) []byte { return append(dst, read(c, row)...) }
	return t.Kind == record.String || t.Kind == record.FixedString
}

// json takes a text, which must be JSON, and any other column as the JSON that codecs write.
func (l *cell) json(s *shape) bool {
	const versionOfJSONB = 1
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		if s.form == formJSONB {
			dst = append(dst, versionOfJSONB)
		}
		if c.Type.Kind == record.String {
			return append(dst, c.BytesAt(row)...)
		}
		return codec.AppendJSONValue(dst, c, row)
	}
	l.check = func(c *record.Column, row int) string {
		if c.Type.Kind != record.String {
			return ""
		}
		text := c.BytesAt(row)
		if why := storable(text); why != "" {
			return why
		}
		if !json.Valid(text) {
			return "the text is not valid JSON"
		}
		return ""
	}
	return true
}

func (l *cell) date(s *shape, t *record.Type) bool {
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		return binary.BigEndian.AppendUint32(dst, uint32(int32(c.Int(row)-epochDays)))
	}
	l.check = func(c *record.Column, row int) string {
		if v := c.Int(row); v < dateMin || v > dateMax {
			return fmt.Sprintf("day %d since 1970-01-01 is out of the range of %s", v, s.name)
		}
		return ""
	}
	return t.Kind == record.Date
}

// powerOfTen is 10^n for n from 0 to 18.
func powerOfTen(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

func (l *cell) timestamp(s *shape, t *record.Type) bool {
	if t.Kind != record.Timestamp {
		return false
	}
	up, down := powerOfTen(max(timestampTick-t.Precision, 0)), powerOfTen(max(t.Precision-timestampTick, 0))
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		return binary.BigEndian.AppendUint64(dst, uint64(c.Int(row)/down*up-epochMicros))
	}
	least := timestampMin / up
	if down > 1 {
		least = math.MinInt64 // nanoseconds begin in 1677
	}
	most := math.MaxInt64 / up
	finer := powerOfTen(max(t.Precision-s.ticks, 0))
	l.check = func(c *record.Column, row int) string {
		v := c.Int(row)
		if v < least || v > most {
			return fmt.Sprintf("%d ticks of 10^-%d s since 1970 are out of the range of %s", v, t.Precision, s.name)
		}
		if v%finer != 0 {
			return fmt.Sprintf("the time has more than the %d digits behind the second of %s", s.ticks, s.name)
		}
		return ""
	}
	return true
}

// time takes a text HH:MM:SS with at most as many digits behind the second as the type has.
func (l *cell) time(s *shape, t *record.Type) bool {
	l.put = func(dst []byte, c *record.Column, row int) []byte {
		micros, _ := parseTime(string(c.BytesAt(row)), s.ticks) //nolint:errcheck // it was checked
		return binary.BigEndian.AppendUint64(dst, uint64(micros))
	}
	l.check = func(c *record.Column, row int) string {
		if _, err := parseTime(string(c.BytesAt(row)), s.ticks); err != nil {
			return fmt.Sprintf("%q is no time of day: %v", c.BytesAt(row), err)
		}
		return ""
	}
	return t.Kind == record.String
}

// parseTime reads a time of day in microseconds.
func parseTime(text string, ticks int) (int64, error) {
	const clock = "HH:MM:SS"
	form := fmt.Errorf("it must be %s with at most %d digits behind the second", clock, ticks)
	main, fraction, point := strings.Cut(text, ".")
	if len(main) != len(clock) || main[2] != ':' || main[5] != ':' || point && fraction == "" || len(fraction) > ticks {
		return 0, form
	}
	var parts [3]int64
	for i := range parts {
		n, ok := decimal(main[3*i : 3*i+2])
		if !ok {
			return 0, form
		}
		parts[i] = n
	}
	micros, ok := decimal(fraction)
	if !ok {
		return 0, form
	}
	micros *= powerOfTen(timestampTick - len(fraction))
	const hour, minute, second, day = 3_600_000_000, 60_000_000, 1_000_000, 86_400_000_000
	total := parts[0]*hour + parts[1]*minute + parts[2]*second + micros
	if parts[1] > 59 || parts[2] > 59 || total > day {
		return 0, fmt.Errorf("it is out of range")
	}
	return total, nil
}

// decimal reads digits; none are 0.
func decimal(text string) (n int64, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}
