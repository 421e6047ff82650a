package avro

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/ingestd/ingestd/codec"
)

const secondsPerDay = 24 * 60 * 60

// json appends the next value as JSON: a union is the value that it holds, and what has a text and is no number is a string.
func (d *Decoder) json(dst []byte, n *node) ([]byte, bool) {
	if n.refused != "" {
		return dst, d.refuse(n.refused)
	}
	start := len(dst)
	out, ok := d.jsonValue(dst, n)
	holds := n.wire == wireUnion || n.wire == wireArray || n.wire == wireMap || n.wire == wireRecord
	if ok && !holds && !d.grow(len(out)-start) { // what holds others adds as much as they have, at most
		return out, false
	}
	return out, ok
}

func (d *Decoder) jsonValue(dst []byte, n *node) ([]byte, bool) {
	switch n.wire {
	case wireNull:
		return append(dst, "null"...), true
	case wireBool:
		v, ok := d.bool()
		return strconv.AppendBool(dst, v == 1), ok
	case wireUnion:
		i, ok := d.branch(len(n.members))
		if !ok {
			return dst, false
		}
		return d.json(dst, n.members[i])
	case wireArray, wireMap:
		return d.jsonItems(dst, n)
	case wireRecord:
		return d.jsonRecord(dst, n)
	case wireString, wireBytes, wireFixed:
		if n.meaning == meansPlain || n.meaning == meansUUID && n.text {
			raw, ok := d.raw(n)
			if !ok {
				return dst, false
			}
			return codec.AppendJSONString(dst, raw), true
		}
	case wireInt, wireLong, wireFloat, wireDouble, wireEnum:
	}
	return d.jsonText(dst, n)
}

// jsonText appends a value that has a text: as a number where it is one, else as a string.
func (d *Decoder) jsonText(dst []byte, n *node) ([]byte, bool) {
	number := n.meaning == meansDecimal || n.wire != wireEnum && n.meaning == meansPlain || n.meaning == meansFloat || n.meaning == meansDouble
	if n.wire == wireFloat || n.wire == wireDouble || n.meaning == meansFloat || n.meaning == meansDouble {
		v, ok := d.real(n)
		if !ok {
			return dst, false
		}
		number = !math.IsNaN(v) && !math.IsInf(v, 0)
		return quoted(dst, number, func(dst []byte) []byte { return appendReal(dst, v, n) }), true
	}
	if number {
		return d.text(dst, n)
	}
	dst, ok := d.text(append(dst, '"'), n)
	return append(dst, '"'), ok
}

func quoted(dst []byte, number bool, write func(dst []byte) []byte) []byte { //nolint:revive // number is what the value is
	if number {
		return write(dst)
	}
	return append(write(append(dst, '"')), '"')
}

func appendReal(dst []byte, v float64, n *node) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...)
	}
	size := 64
	if n.meaning == meansFloat || n.wire == wireFloat && n.meaning == meansPlain {
		size = 32
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, size)
}

// text appends the text of a number, a time, a decimal, a UUID, a duration or an enum.
func (d *Decoder) text(dst []byte, n *node) ([]byte, bool) {
	switch n.wire { //nolint:exhaustive // the others have no text of their own
	case wireInt, wireLong:
		v, ok := d.integer(n)
		if !ok {
			return dst, false
		}
		return d.integerText(dst, n, v)
	case wireEnum:
		i, ok := d.symbol(n)
		if ok && n.symbols[i] == "" {
			ok = d.unknownSymbol(n, i, nil)
		}
		if !ok {
			return dst, false
		}
		return append(dst, n.symbols[i]...), true
	}
	raw, ok := d.raw(n)
	if !ok {
		return dst, false
	}
	switch n.meaning { //nolint:exhaustive // the others are no sequences
	case meansDecimal:
		if dst, ok = codec.UnscaledText(dst, raw, n.scale); !ok {
			return dst, d.refuse(n.describe() + " has more digits than can be written")
		}
		return dst, true
	case meansUUID:
		return appendUUID(dst, raw), true
	case meansDuration:
		return appendDuration(dst, raw), true
	}
	return dst, d.refuse(n.describe() + " has no text")
}

func (d *Decoder) integerText(dst []byte, n *node, v int64) ([]byte, bool) {
	switch n.meaning {
	case meansDate:
		return codec.AppendDaysText(dst, v), true
	case meansTimestamp:
		return codec.AppendTicksText(dst, v, n.digits), true
	case meansLocal:
		dst = codec.AppendTicksText(dst, v, n.digits)
		return dst[:len(dst)-1], true // without Z
	case meansTime:
		day := int64(secondsPerDay)
		for range n.digits {
			day *= 10
		}
		if v < 0 || v >= day {
			return dst, d.refuse(n.describe() + " is not within a day")
		}
		const date = len("1970-01-01T")
		start := len(dst)
		dst = codec.AppendTicksText(dst, v, n.digits)
		return append(dst[:start], dst[start+date:len(dst)-1]...), true
	case meansPlain, meansFloat, meansDouble, meansDecimal, meansUUID, meansDuration:
	}
	return strconv.AppendInt(dst, v, 10), true
}

func appendUUID(dst, raw []byte) []byte {
	const hex = "0123456789abcdef"
	for i, b := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return dst
}

// appendDuration appends a duration as ISO 8601 has it: P1M2DT3.004S.
func appendDuration(dst, raw []byte) []byte {
	months, days, millis := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:]), binary.LittleEndian.Uint32(raw[8:])
	dst = append(dst, 'P')
	dst = append(strconv.AppendUint(dst, uint64(months), 10), 'M')
	dst = append(strconv.AppendUint(dst, uint64(days), 10), 'D')
	dst = append(strconv.AppendUint(append(dst, 'T'), uint64(millis/1000), 10), '.')
	rest := millis % 1000
	return append(dst, '0'+byte(rest/100), '0'+byte(rest/10%10), '0'+byte(rest%10), 'S')
}

func (d *Decoder) jsonItems(dst []byte, n *node) ([]byte, bool) {
	begin, end := byte('['), byte(']')
	if n.wire == wireMap {
		begin, end = '{', '}'
	}
	dst = append(dst, begin)
	first := true
	ok := d.items(n, func() bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if n.wire == wireMap {
			key, ok := d.bytes()
			if !ok {
				return false
			}
			dst = append(codec.AppendJSONString(dst, key), ':')
			if !d.grow(len(key)) {
				return false
			}
		}
		var ok bool
		dst, ok = d.json(dst, n.item)
		return ok
	})
	return append(dst, end), ok
}

func (d *Decoder) jsonRecord(dst []byte, n *node) ([]byte, bool) {
	if !d.enter() {
		return dst, false
	}
	ok, first := true, true
	name := func(name string) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(codec.AppendJSONString(dst, []byte(name)), ':')
		return d.grow(len(name))
	}
	dst = append(dst, '{')
	for i := range n.fields {
		f := &n.fields[i]
		if f.name == "" {
			if !d.skip(f.node) {
				return dst, false
			}
			continue
		}
		if !name(f.name) {
			return dst, false
		}
		if dst, ok = d.json(dst, f.node); !ok {
			return dst, false
		}
	}
	for i := range n.absent {
		f := &n.absent[i]
		if !name(f.name) {
			return dst, false
		}
		if !d.fallback(f.value, func() bool {
			dst, ok = d.json(dst, f.node)
			return ok
		}) {
			return dst, false
		}
	}
	d.depth--
	return append(dst, '}'), true
}
