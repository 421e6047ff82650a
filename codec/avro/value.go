package avro

import (
	"unicode/utf8"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// value reads the next value into a column, that of the schema's field or one inside it.
func (d *Decoder) value(v *conv, c *record.Column) bool {
	switch v.op {
	case opInt64:
		n, ok := d.integer(v.node)
		if ok {
			c.AppendInt(n)
		}
		return ok
	case opString:
		return d.str(c)
	case opUnion:
		i, ok := d.branch(len(v.members))
		return ok && d.value(v.members[i], c)
	case opNull:
		if !c.Type.Nullable {
			return d.refuse("null does not fit " + c.Type.String())
		}
		c.AppendNull()
		return true
	case opBool:
		n, ok := d.bool()
		if ok {
			c.AppendUint(uint64(n))
		}
		return ok
	case opInteger, opEpoch, opDays, opTicks, opLocal:
		return d.number(v, c)
	case opReal:
		n, ok := d.real(v.node)
		return ok && d.check(v, codec.AppendReal(c, n))
	case opBytes:
		raw, ok := d.raw(v.node)
		if ok {
			c.AppendBytes(raw)
		}
		return ok
	case opDecimal, opText, opFixed:
		return d.sequence(v, c)
	case opSymbol:
		return d.enum(v, c)
	case opPlain, opTexts:
		return d.textual(v, c)
	case opArray, opMap:
		return d.list(v, c)
	case opPairs:
		return d.pairs(v, c)
	case opJSON:
		return d.asJSON(v, c)
	case opRefuse:
	}
	return d.refuse(v.reason)
}

// check refuses the value of a node for an error of its conversion.
func (d *Decoder) check(v *conv, err error) bool {
	return err == nil || d.refuse(v.typ.String()+": "+v.node.describe()+" "+err.Error())
}

// integer reads an int or long.
func (d *Decoder) integer(n *node) (int64, bool) {
	if n.wire == wireInt {
		return d.int()
	}
	return d.long()
}

// real reads a number as the float that its reader takes it for.
func (d *Decoder) real(n *node) (float64, bool) {
	switch n.wire { //nolint:exhaustive // the others are no numbers
	case wireFloat:
		return d.float()
	case wireDouble:
		return d.double()
	}
	v, ok := d.integer(n)
	if n.meaning == meansFloat {
		return float64(float32(v)), ok
	}
	return float64(v), ok
}

// raw reads a string, bytes or a fixed.
func (d *Decoder) raw(n *node) ([]byte, bool) {
	if n.wire == wireFixed {
		return d.take(int64(n.size))
	}
	return d.bytes()
}

func (d *Decoder) str(c *record.Column) bool {
	at := d.at
	text, ok := d.bytes()
	if !ok {
		return false
	}
	if !utf8.Valid(text) {
		d.at = at
		return d.refuse("a string is not valid UTF-8")
	}
	c.AppendBytes(text)
	return true
}

func (d *Decoder) number(v *conv, c *record.Column) bool {
	at := d.at
	n, ok := d.integer(v.node)
	if !ok {
		return false
	}
	var err error
	switch v.op { //nolint:exhaustive // the others are not numbers
	case opInteger:
		err = codec.AppendInteger(c, n)
	case opEpoch:
		err = codec.AppendTicks(c, n, d.factory.unit)
	case opDays:
		err = codec.AppendDays(c, n)
	case opTicks:
		err = codec.AppendTicks(c, n, v.node.digits)
	case opLocal:
		err = v.text.AppendLocal(c, n, v.node.digits)
	}
	if err != nil {
		d.at = at
		return d.check(v, err)
	}
	return true
}

func (d *Decoder) sequence(v *conv, c *record.Column) bool {
	at := d.at
	raw, ok := d.raw(v.node)
	if !ok {
		return false
	}
	var err error
	switch {
	case v.op == opDecimal:
		err = codec.AppendUnscaled(c, raw, v.node.scale)
	case v.op == opText && c.Type.Kind == record.FixedString && !utf8.Valid(raw):
		d.at = at
		return d.refuse("a string is not valid UTF-8")
	case v.op == opText:
		if err = v.text.Append(c, raw); err != nil {
			d.at = at
			return d.refuse(v.typ.String() + ": \"" + codec.Excerpt(raw) + "\" " + err.Error())
		}
	case c.Type.Kind == record.FixedString:
		err = v.text.Append(c, raw)
	case len(raw) != c.Type.Width():
		d.at = at
		return d.refuse(v.node.describe() + " of another length than " + c.Type.String())
	default:
		c.AppendFixed(raw)
	}
	if err != nil {
		d.at = at
		return d.check(v, err)
	}
	return true
}

func (d *Decoder) enum(v *conv, c *record.Column) bool {
	at := d.at
	i, ok := d.symbol(v.node)
	if !ok {
		return false
	}
	if !v.known[i] {
		d.at = at
		return d.unknownSymbol(v.node, i, &c.Type)
	}
	c.AppendInt(int64(v.numbers[i]))
	return true
}

func (d *Decoder) unknownSymbol(n *node, i int, t *record.Type) bool {
	if n.symbols[i] == "" {
		return d.refuse(n.name + ": the reader's schema does not have the symbol, and no default")
	}
	return d.refuse(t.String() + ": \"" + n.symbols[i] + "\" is not one of the type's names")
}

// textual reads a value that has a text.
func (d *Decoder) textual(v *conv, c *record.Column) bool {
	at := d.at
	var ok bool
	if d.scratch, ok = d.text(d.scratch[:0], v.node); !ok {
		return false
	}
	if v.op == opPlain {
		c.AppendBytes(d.scratch)
		return true
	}
	if err := v.text.Append(c, d.scratch); err != nil {
		d.at = at
		return d.check(v, err)
	}
	return true
}

// list reads an array or map.
func (d *Decoder) list(v *conv, c *record.Column) bool {
	first := 0
	if c.Key != nil {
		first = c.Key.Len()
	}
	read := func() bool { return d.value(v.elem, c.Elem) }
	if v.op == opMap {
		read = func() bool { return d.key(v, c) && d.value(v.elem, c.Elem) }
	}
	if !d.items(v.node, read) {
		return false
	}
	return d.close(c, first)
}

// close ends a list, in which no key may be twice.
func (d *Decoder) close(c *record.Column, first int) bool {
	if c.Key != nil {
		if key := d.keys.Twice(c.Key, first); key >= 0 {
			return d.refuse("the map key " + string(codec.AppendJSONValue(nil, c.Key, key)) + " is there twice")
		}
	}
	c.CloseList()
	return true
}

func (d *Decoder) key(v *conv, c *record.Column) bool {
	at := d.at
	key, ok := d.bytes()
	if !ok {
		return false
	}
	return d.putKey(v, c, key, at)
}

func (d *Decoder) putKey(v *conv, c *record.Column, key []byte, at int) bool {
	if !utf8.Valid(key) {
		d.at = at
		return d.refuse("a map key is not valid UTF-8")
	}
	if err := v.key.Append(c.Key, key); err != nil {
		d.at = at
		return d.refuse("map key " + c.Key.Type.String() + ": \"" + codec.Excerpt(key) + "\" " + err.Error())
	}
	return true
}

// pairs reads a record into a map of its fields.
func (d *Decoder) pairs(v *conv, c *record.Column) bool {
	if !d.enter() {
		return false
	}
	first := c.Key.Len()
	for i := range v.node.fields {
		f := &v.node.fields[i]
		if f.name == "" {
			if !d.skip(f.node) {
				return false
			}
			continue
		}
		if !d.putKey(v, c, []byte(f.name), d.at) || !d.value(v.members[i], c.Elem) {
			return false
		}
	}
	for i := range v.node.absent {
		f := &v.node.absent[i]
		if !d.putKey(v, c, []byte(f.name), d.at) || !d.fallback(f.value, func() bool { return d.value(v.absent[i], c.Elem) }) {
			return false
		}
	}
	d.depth--
	return d.close(c, first)
}

func (d *Decoder) asJSON(v *conv, c *record.Column) bool {
	var ok bool
	start := len(c.Bytes)
	if c.Bytes, ok = d.json(c.Bytes, v.node); !ok {
		c.Bytes = c.Bytes[:start]
		return false
	}
	c.CloseList()
	return true
}
