package avro

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Encoder encodes rows of one schema.
type Encoder struct {
	fields  []record.Field
	root    *put
	header  []byte // of the framing
	scratch []byte
	reason  string
	column  int // whose value has no form
}

// Encode appends the row as one Avro record, with its framing.
func (e *Encoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	out, ok := e.field(append(dst, e.header...), e.root, b, row)
	if ok {
		return out, record.Refusal{}, true
	}
	return dst, record.Refusal{Row: row, Reason: e.reason, Column: e.fields[e.column].Name, Byte: -1}, false
}

// field writes a field of a record.
func (e *Encoder) field(dst []byte, p *put, b *record.Batch, row int) ([]byte, bool) {
	switch p.op { //nolint:exhaustive // the others are values
	case putConst:
		return append(dst, p.bytes...), true
	case putRecord:
		for _, f := range p.fields {
			var ok bool
			if dst, ok = e.field(dst, f, b, row); !ok {
				return dst, false
			}
		}
		return dst, true
	}
	e.column = p.column
	return e.value(dst, p, &b.Cols[p.column], row)
}

func (e *Encoder) fail(reason string) bool {
	e.reason = reason
	return false
}

// value writes row i of a column, that of a field or one inside it.
func (e *Encoder) value(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	switch p.op {
	case putUnion:
		if c.IsNull(i) {
			return append(dst, p.null...), true
		}
		return e.value(append(dst, p.place...), p.elem, c, i)
	case putBool:
		return append(dst, c.FixedAt(i)[0]), true
	case putInt, putLong, putTicks:
		return e.integer(dst, p, c, i)
	case putFloat:
		return binary.LittleEndian.AppendUint32(dst, uint32(c.Uint(i))), true
	case putDouble:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(c.Float(i))), true
	case putString, putBytes, putFixed, putText:
		return e.sequence(dst, p, c, i)
	case putNumber:
		return e.decimal(dst, p, c, i)
	case putSymbol, putWord:
		return e.symbol(dst, p, c, i)
	case putArray, putMap:
		return e.list(dst, p, c, i)
	case putConst, putRecord:
	}
	return dst, e.fail("it has no form")
}

func (e *Encoder) integer(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	v := c.Int(i)
	switch {
	case p.op == putTicks:
		var ok bool
		if v, ok = rescale(v, c.Type.Precision, p.digits); !ok {
			return dst, e.fail("the timestamp has more digits than the schema's, or is out of its range")
		}
	case v < 0 && !c.Type.Signed():
		return dst, e.fail("the number is above the range of long")
	case p.op == putInt && !inInt(v):
		return dst, e.fail("the number is out of the range of int")
	}
	return appendLong(dst, v), true
}

// rescale turns ticks of 10^-from seconds into ticks of 10^-to.
func rescale(v int64, from, to int) (int64, bool) {
	for ; from < to; from++ {
		if v > math.MaxInt64/10 || v < math.MinInt64/10 {
			return 0, false
		}
		v *= 10
	}
	for ; from > to; from-- {
		if v%10 != 0 {
			return 0, false
		}
		v /= 10
	}
	return v, true
}

func (e *Encoder) sequence(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	var raw []byte
	switch {
	case p.op == putText || p.op == putString && c.Type.Kind == record.FixedString:
		e.scratch = codec.AppendValue(e.scratch[:0], c, i)
		raw = e.scratch
	case c.Type.Kind == record.String:
		raw = c.BytesAt(i)
	default:
		raw = c.FixedAt(i)
	}
	if p.op == putFixed {
		if len(raw) != p.size {
			return dst, e.fail("the value has another length than the schema's fixed")
		}
		return append(dst, raw...), true
	}
	if p.op == putString && !utf8.Valid(raw) {
		return dst, e.fail("a text is not valid UTF-8")
	}
	return appendBytes(dst, raw), true
}

// decimal writes the stored integer, its highest byte first: in as few bytes as hold it, or in those of a fixed.
func (e *Encoder) decimal(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	raw := c.FixedAt(i) // the lowest byte first
	sign := byte(0)
	if c.Type.Signed() && raw[len(raw)-1] >= 0x80 {
		sign = 0xff
	}
	n := len(raw)
	for n > 0 && raw[n-1] == sign {
		n--
	}
	if n == 0 || (raw[n-1]^sign) >= 0x80 {
		n++ // for the sign
	}
	size := n
	if p.size > 0 {
		if n > p.size {
			return dst, e.fail("the number has more bytes than the schema's fixed")
		}
		size = p.size
	} else {
		dst = appendLong(dst, int64(n))
	}
	for at := size - 1; at >= 0; at-- {
		if at < len(raw) {
			dst = append(dst, raw[at])
		} else {
			dst = append(dst, sign)
		}
	}
	return dst, true
}

func (e *Encoder) symbol(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	if p.op == putSymbol {
		at, ok := p.places[int16(c.Int(i))]
		if !ok {
			return dst, e.fail("the number has no name")
		}
		return appendLong(dst, int64(at)), true
	}
	word := c.BytesAt(i)
	at := slices.IndexFunc(p.symbols, func(s string) bool { return s == string(word) })
	if at < 0 {
		return dst, e.fail("\"" + codec.Excerpt(word) + "\" is not a symbol of the schema's enum")
	}
	return appendLong(dst, int64(at)), true
}

func (e *Encoder) list(dst []byte, p *put, c *record.Column, i int) ([]byte, bool) {
	from, to := c.Range(i)
	if to > from {
		dst = appendLong(dst, int64(to-from))
	}
	for at := int(from); at < int(to); at++ {
		if p.op == putMap {
			e.scratch = codec.AppendValue(e.scratch[:0], c.Key, at)
			if !utf8.Valid(e.scratch) {
				return dst, e.fail("a map key is not valid UTF-8")
			}
			dst = appendBytes(dst, e.scratch)
		}
		var ok bool
		if dst, ok = e.value(dst, p.elem, c.Elem, at); !ok {
			return dst, false
		}
	}
	return append(dst, 0), true
}
