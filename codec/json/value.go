package json

import (
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// value reads the next value into a column, that of the schema's field or one inside it.
func (d *Decoder) value(c *record.Column, v *value, field int) bool {
	kind := d.walk.peek()
	at := d.walk.at
	switch {
	case kind == '"':
		return d.text(c, v, field)
	case kind == '[' && v.typ.Kind == record.Array:
		return d.array(c, v, field)
	case kind == '{' && v.typ.Kind == record.Map:
		return d.mapping(c, v, field)
	case kind == '[' || kind == '{':
		return d.refuse(field, at, kindName(kind)+" does not fit "+v.typ.String())
	case kind == 'n' && v.typ.Nullable:
		d.walk.plain()
		c.AppendNull()
		return true
	case kind == 'n':
		return d.refuse(field, at, "null does not fit "+v.typ.String())
	}
	raw := d.walk.plain()
	var err error
	switch {
	case kind == 't' && v.typ.Kind == record.Bool:
		c.AppendUint(1)
	case kind == 'f' && v.typ.Kind == record.Bool:
		c.AppendUint(0)
	case kind == 't' || kind == 'f':
		return d.misfit(field, at, kind, v, raw)
	case v.typ.Kind >= record.Int8 && v.typ.Kind <= record.Decimal:
		err = codec.AppendNumber(c, raw)
	case v.typ.Kind == record.Timestamp && d.unit >= 0:
		err = codec.AppendEpoch(c, raw, d.unit)
	default:
		return d.misfit(field, at, kind, v, raw)
	}
	return err == nil || d.wrong(field, at, v, raw, err)
}

// misfit refuses a value of a kind that the type does not take.
func (d *Decoder) misfit(field, at int, kind byte, v *value, raw []byte) bool {
	return d.refuse(field, at, kindName(kind)+" does not fit "+v.typ.String()+": "+excerpt(raw))
}

// wrong refuses a value that is wrong by itself.
func (d *Decoder) wrong(field, at int, v *value, raw []byte, err error) bool {
	return d.refuse(field, at, v.typ.String()+": "+excerpt(raw)+" "+err.Error())
}

// text reads the string at which the walker stands.
func (d *Decoder) text(c *record.Column, v *value, field int) bool {
	at := d.walk.at
	quoted, escaped := d.walk.text()
	if v.typ.Kind == record.String {
		if escaped {
			c.Bytes = appendUnquoted(c.Bytes, quoted)
			c.CloseList()
		} else {
			c.AppendBytes(quoted[1 : len(quoted)-1])
		}
		return true
	}
	text := d.content(quoted, escaped)
	if !takesText(v.typ.Kind, text) {
		return d.misfit(field, at, '"', v, quoted)
	}
	if err := v.text.Append(c, text); err != nil {
		return d.wrong(field, at, v, quoted, err)
	}
	return true
}

// takesText reports whether a type is read from strings: the floats only where JSON has no number.
func takesText(k record.Kind, text []byte) bool {
	switch k {
	case record.FixedString, record.Date, record.Timestamp, record.UUID, record.IPv4, record.IPv6, record.Enum, record.Decimal:
		return true
	case record.Float32, record.Float64:
		return string(text) == "NaN" || string(text) == "Infinity" || string(text) == "-Infinity"
	case record.Bool, record.Int8, record.Int16, record.Int32, record.Int64, record.Int128, record.Int256, record.Uint8,
		record.Uint16, record.Uint32, record.Uint64, record.Uint128, record.Uint256, record.String, record.Array, record.Map,
		record.Invalid:
	}
	return false
}

func (d *Decoder) array(c *record.Column, v *value, field int) bool {
	if !d.enter(field) {
		return false
	}
	for d.walk.peek() != ']' {
		if !d.value(c.Elem, v.elem, field) {
			return false
		}
	}
	d.leave()
	c.CloseList()
	return true
}

func (d *Decoder) mapping(c *record.Column, v *value, field int) bool {
	if !d.enter(field) {
		return false
	}
	first := c.Key.Len()
	for d.walk.peek() != '}' {
		if !d.key(c.Key, v.key, field) || !d.value(c.Elem, v.elem, field) {
			return false
		}
	}
	if key := d.keys.Twice(c.Key, first); key >= 0 {
		name := string(codec.AppendJSONValue(nil, c.Key, key))
		return d.refuse(field, d.walk.at, "the map key "+name+" is there twice")
	}
	d.leave()
	c.CloseList()
	return true
}

// key reads a name as a map's key.
func (d *Decoder) key(c *record.Column, v *value, field int) bool {
	at := d.walk.at
	quoted, escaped := d.walk.text()
	if err := v.text.Append(c, d.content(quoted, escaped)); err != nil {
		return d.refuse(field, at, "map key "+v.typ.String()+": "+excerpt(quoted)+" "+err.Error())
	}
	return true
}
