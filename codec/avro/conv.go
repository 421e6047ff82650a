package avro

import (
	"slices"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// convOp says how a value becomes one of a column.
type convOp uint8

const (
	opRefuse  convOp = iota
	opNull           // null
	opBool           // boolean to bool
	opInt64          // int and long to int64 without bounds
	opInteger        // int and long to the other numbers
	opReal           // float and double
	opEpoch          // int and long to timestamp, in the configured unit
	opDays           // date to date
	opTicks          // timestamp to timestamp
	opLocal          // local timestamp to timestamp
	opDecimal        // decimal to integers and decimal
	opString         // string to string
	opBytes          // bytes and fixed to string
	opText           // string to whatever has a text
	opFixed          // bytes and fixed to fixed_string, uuid and ipv6
	opSymbol         // enum to enum
	opPlain          // what has a text to string
	opTexts          // what has a text to a type that is read from it
	opArray          //
	opMap            //
	opPairs          // record to map
	opUnion          //
	opJSON           // anything to string
)

// conv is how values of a node become values of a type.
type conv struct {
	op      convOp
	node    *node
	typ     *record.Type
	text    *codec.Text
	key     *codec.Text // of a map
	elem    *conv
	members []*conv // of a union, or the fields of a record that becomes a map
	absent  []*conv // of a record that becomes a map: the fields that only the reader has
	numbers []int16 // of an enum, by symbol
	known   []bool  // of an enum: whether the symbol has a number
	reason  string
}

// conv returns how values of a node become values of a type; its op is opRefuse if none can.
func (p *planner) conv(n *node, t *record.Type) *conv {
	c := &conv{node: n, typ: t}
	if p.depth++; p.depth > 2*record.DepthMax { // types nest less deep; only unions in unions do not exist
		c.reason = "types nest too deep"
		return c
	}
	defer func() { p.depth-- }()
	if n.refused != "" {
		c.reason = n.refused
		return c
	}
	text, err := codec.NewText(t)
	if err != nil {
		c.reason = err.Error()
		return c
	}
	c.text = text
	switch n.wire {
	case wireUnion:
		p.union(c)
	case wireNull:
		c.op = opNull
	case wireBool:
		c.pick(t.Kind == record.Bool, opBool)
	case wireInt, wireLong:
		c.integer(p.unit)
	case wireFloat, wireDouble:
		c.pick(isFloat(t), opReal)
	case wireString, wireBytes, wireFixed:
		c.sequence()
	case wireEnum:
		c.enum()
	case wireArray, wireMap, wireRecord:
		p.nested(c)
	}
	if c.op == opRefuse && c.reason == "" {
		c.reason = n.describe() + " does not fit " + t.String()
	}
	return c
}

// describe names a node's type in messages.
func (n *node) describe() string { return n.name }

// pick sets an operation if the type takes it.
func (c *conv) pick(fits bool, op convOp) { //nolint:revive // fits is the caller's finding
	if fits {
		c.op = op
	}
}

func isFloat(t *record.Type) bool   { return t.Kind == record.Float32 || t.Kind == record.Float64 }
func isInteger(t *record.Type) bool { return t.Kind >= record.Int8 && t.Kind <= record.Uint256 }

// integer sets the operation for an int or long.
func (c *conv) integer(unit int) {
	t := c.typ
	switch c.node.meaning {
	case meansFloat, meansDouble:
		c.pick(isFloat(t), opReal)
		return
	case meansDate:
		c.pick(t.Kind == record.Date, opDays)
	case meansTimestamp:
		c.pick(t.Kind == record.Timestamp, opTicks)
	case meansLocal:
		c.pick(t.Kind == record.Timestamp, opLocal)
	case meansPlain:
		c.pick(isFloat(t) || t.Kind == record.Decimal, opInteger)
		c.pick(t.Kind == record.Timestamp && unit >= 0, opEpoch)
	case meansTime, meansDecimal, meansUUID, meansDuration:
	}
	switch {
	case t.Kind == record.Int64 && t.Min == 0 && t.Max == 0:
		c.op = opInt64
	case isInteger(t):
		c.op = opInteger // the number as it is stored
	case t.Kind == record.String && c.node.meaning != meansPlain:
		c.op = opPlain
	}
}

// sequence sets the operation for a string, bytes or a fixed.
func (c *conv) sequence() {
	n, t := c.node, c.typ
	list := t.Kind == record.Array || t.Kind == record.Map || t.Kind == record.Bool
	switch {
	case n.meaning == meansDecimal:
		c.pick(isInteger(t) || t.Kind == record.Decimal, opDecimal)
		c.pick(isFloat(t), opTexts)
		c.pick(t.Kind == record.String, opPlain)
	case n.meaning == meansUUID && n.wire == wireFixed:
		c.pick(t.Kind == record.UUID, opFixed)
		c.pick(t.Kind == record.String, opPlain)
	case n.meaning == meansDuration && t.Kind == record.String:
		c.op = opPlain
	case n.text && t.Kind == record.String:
		c.op = opString
	case n.text:
		c.pick(!list && !isInteger(t), opText)
	case t.Kind == record.String:
		c.op = opBytes
	default:
		c.pick(t.Kind == record.FixedString || t.Kind == record.UUID || t.Kind == record.IPv6, opFixed)
	}
}

// enum sets the operation for an enum.
func (c *conv) enum() {
	n, t := c.node, c.typ
	switch t.Kind { //nolint:exhaustive // an enum does not fit the others
	case record.Enum:
		c.op = opSymbol
		for _, symbol := range n.symbols {
			at := slices.IndexFunc(t.Values, func(v record.EnumValue) bool { return v.Name == symbol })
			c.known = append(c.known, at >= 0)
			c.numbers = append(c.numbers, 0)
			if at >= 0 {
				c.numbers[len(c.numbers)-1] = t.Values[at].Number
			}
		}
	case record.String:
		c.op = opPlain
	case record.FixedString:
		c.op = opTexts
	}
}

// union sets the operation for a union. One with several types goes to a string column as JSON, unless all of them are texts.
func (p *planner) union(c *conv) {
	c.op = opUnion
	others, texts := 0, 0
	for _, m := range c.node.members {
		if m.wire != wireNull {
			others++
		}
		if m.text && m.meaning == meansPlain || m.wire == wireEnum || m.meaning == meansUUID {
			texts++
		}
	}
	asJSON := c.typ.Kind == record.String && others > 1 && texts < others
	fits := false
	for _, m := range c.node.members {
		member := p.conv(m, c.typ)
		if asJSON && m.wire != wireNull && m.refused == "" {
			member.op = opJSON
		}
		fits = fits || member.op != opRefuse && (member.op != opNull || c.typ.Nullable)
		c.members = append(c.members, member)
	}
	if !fits {
		c.op = opRefuse
	}
}

// nested sets the operation for what holds values.
func (p *planner) nested(c *conv) {
	n, t := c.node, c.typ
	var err error
	switch {
	case t.Kind == record.String:
		c.op = opJSON
	case n.wire == wireArray && t.Kind == record.Array:
		c.op, c.elem = opArray, p.conv(n.item, t.Elem)
	case n.wire == wireMap && t.Kind == record.Map:
		c.op, c.elem = opMap, p.conv(n.item, t.Elem)
		c.key, err = codec.NewText(t.Key)
	case n.wire == wireRecord && t.Kind == record.Map:
		c.op = opPairs
		c.key, err = codec.NewText(t.Key)
		for i := range n.fields {
			c.members = append(c.members, p.conv(n.fields[i].node, t.Elem))
		}
		for i := range n.absent {
			c.absent = append(c.absent, p.conv(n.absent[i].node, t.Elem))
		}
	}
	if err != nil {
		c.op, c.reason = opRefuse, err.Error()
	}
	if c.elem != nil && c.elem.op == opRefuse {
		c.op, c.reason = opRefuse, c.elem.reason
	}
}
