package avro

import (
	"encoding/binary"
	"fmt"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// The bounds of what a record can make a decoder do beyond its own length.
const (
	// freeItemsMax is how many items that take no bytes a record may have.
	freeItemsMax = 1 << 16
	// growthMax is how many times its greatest length a record may become by defaults and as JSON.
	growthMax = 4
)

// program is what a decoder does with records of one writer's schema.
type program struct {
	root    *walk
	refused string // every record, why
}

// Decoder decodes records for one schema of columns.
type Decoder struct {
	factory  *Factory
	schema   *record.Schema
	targets  *target
	bytesMax int
	depthMax int

	programs map[uint32]*program
	last     *program
	lastID   uint32

	reader
	column   int // that is being filled, or -1
	found    int // columns that were filled
	outside  bool
	depth    int
	free     int // items without bytes
	grown    int // bytes that came from defaults and as JSON
	keys     codec.Keys
	names    []bool // keys of a map that were found; see walkMap
	scratch  []byte
	refusal  record.Refusal
	refusing bool
}

// Decode appends the record in value as a row to the first columns of b, as many as the decoder's schema has.
func (d *Decoder) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	row := b.Cols[0].Len()
	d.refusal = record.Refusal{Row: row, Byte: -1}
	d.refusing = false
	ok := d.record(b, value)
	d.data = nil // it is the source's
	if ok {
		return record.Refusal{}, true
	}
	for i := range d.schema.Fields {
		b.Cols[i].Truncate(row)
	}
	return d.refusal, false
}

func (d *Decoder) record(b *record.Batch, value []byte) bool {
	d.column, d.outside = -1, true
	switch {
	case value == nil:
		return d.refuse("the record has no value (a tombstone)")
	case len(value) > d.bytesMax:
		return d.refuse(fmt.Sprintf("the record has %d bytes, record_bytes_max is %d", len(value), d.bytesMax))
	}
	d.reader = reader{data: value}
	d.outside, d.depth, d.free, d.grown, d.found = false, 0, 0, 0, 0
	p, ok := d.program()
	if !ok {
		return false
	}
	if p.refused != "" {
		d.outside = true
		return d.refuse(p.refused)
	}
	if !d.walk(b, p.root) {
		return d.broken()
	}
	if d.at < len(d.data) {
		return d.refuse(fmt.Sprintf("%d bytes follow the record: it was not written with this schema", len(d.data)-d.at))
	}
	return d.found == len(d.schema.Fields) || d.missing(b)
}

// program reads the header and returns what to do with the record.
func (d *Decoder) program() (*program, bool) {
	var id uint32
	if d.factory.framed() {
		const header = 5
		if len(d.data) < header {
			return nil, d.refuse(fmt.Sprintf("the record has %d bytes, the header of a schema registry has %d", len(d.data), header))
		}
		if d.data[0] != 0 {
			return nil, d.refuse(fmt.Sprintf("the first byte is %d, records of a schema registry begin with 0", d.data[0]))
		}
		id = binary.BigEndian.Uint32(d.data[1:])
		d.at = header
	}
	if d.last != nil && d.lastID == id {
		return d.last, true
	}
	p := d.programs[id]
	if p == nil {
		var err error
		if p, err = d.factory.program(d.schema, d.targets, id); err != nil {
			d.at = min(d.at, 1)
			return nil, d.refuse(err.Error())
		}
		const programsMax = 1024 // beyond, somebody registers schemas in a loop
		if len(d.programs) >= programsMax {
			clear(d.programs)
		}
		d.programs[id] = p
	}
	d.last, d.lastID = p, id
	return p, true
}

// missing fills the columns that the record has no value for.
func (d *Decoder) missing(b *record.Batch) bool {
	row := d.refusal.Row
	for i := range d.schema.Fields {
		c, f := &b.Cols[i], &d.schema.Fields[i]
		switch {
		case c.Len() > row:
		case !f.Optional:
			d.column, d.outside = i, true
			return d.refuse("the record has no such field")
		case f.Type.Nullable:
			c.AppendNull()
		default:
			c.AppendZero()
		}
	}
	return true
}

// walk goes through a value. It returns false after a refusal, or with the reader's problem.
func (d *Decoder) walk(b *record.Batch, w *walk) bool {
	switch w.kind {
	case walkSkip:
		return d.skip(w.node)
	case walkColumn:
		d.column = w.column
		ok := d.value(w.conv, &b.Cols[w.column])
		if ok {
			d.column = -1
			d.found++
		}
		return ok
	case walkRecord:
		if !d.enter() {
			return false
		}
		for i := range w.steps {
			s := &w.steps[i]
			if s.absent {
				if !d.fallback(s.fallback, func() bool { return d.walk(b, s.walk) }) {
					return false
				}
				continue
			}
			if !d.walk(b, s.walk) {
				return false
			}
		}
		d.depth--
		return true
	case walkUnion:
		i, ok := d.branch(len(w.members))
		return ok && d.walk(b, w.members[i])
	case walkMap:
		return d.walkMap(b, w)
	case walkRefuse:
		return d.refuse(w.reason)
	}
	return d.refuse("the schema is not known")
}

// walkMap goes through a map for the columns that are filled from some of its keys.
func (d *Decoder) walkMap(b *record.Batch, w *walk) bool {
	start := len(d.names)
	for range w.names {
		d.names = append(d.names, false)
	}
	ok := d.items(w.node, func() bool {
		key, ok := d.bytes()
		if !ok {
			return false
		}
		for i, name := range w.names {
			if string(key) != name {
				continue
			}
			if d.names[start+i] {
				return d.refuse(fmt.Sprintf("the map key %q is there twice", name))
			}
			d.names[start+i] = true
			return d.walk(b, w.members[i])
		}
		return d.skip(w.node.item)
	})
	d.names = d.names[:start]
	return ok
}

// items calls read for each item of an array or map.
func (d *Decoder) items(n *node, read func() bool) bool {
	if !d.enter() {
		return false
	}
	least := n.itemLeast()
	for {
		items, _, ok := d.block(least)
		if !ok {
			return false
		}
		if items == 0 {
			d.depth--
			return true
		}
		if least == 0 && !d.without(items) {
			return false
		}
		for range items {
			if !read() {
				return false
			}
		}
	}
}

// without counts items that take no bytes.
func (d *Decoder) without(items int64) bool {
	if items > int64(freeItemsMax-d.free) {
		return d.refuse(fmt.Sprintf("more than %d items that take no bytes", freeItemsMax))
	}
	d.free += int(items)
	return true
}

// branch reads which type of a union follows.
func (d *Decoder) branch(n int) (int, bool) {
	i, ok := d.long()
	if !ok {
		return 0, false
	}
	if i < 0 || i >= int64(n) {
		return 0, d.fail(fmt.Sprintf("type %d of a union of %d", i, n))
	}
	return int(i), true
}

// enter goes into a record, array or map.
func (d *Decoder) enter() bool {
	if d.depth++; d.depth > d.depthMax {
		return d.refuse(fmt.Sprintf("records, arrays and maps nest deeper than %d", d.depthMax))
	}
	return true
}

// fallback reads from the bytes of a default in place of the record's.
func (d *Decoder) fallback(value []byte, read func() bool) bool {
	if !d.grow(len(value) + 1) {
		return false
	}
	outer, outside := d.reader, d.outside
	d.reader, d.outside = reader{data: value}, true
	if !read() {
		return d.broken()
	}
	d.reader, d.outside = outer, outside
	return true
}

// grow counts bytes that a record becomes beyond its own.
func (d *Decoder) grow(n int) bool {
	if d.grown += n; d.grown > growthMax*d.bytesMax {
		return d.refuse(fmt.Sprintf("with defaults and as JSON the record has more than %d bytes", growthMax*d.bytesMax))
	}
	return true
}

// skip goes over a value.
func (d *Decoder) skip(n *node) bool {
	switch n.wire {
	case wireNull:
		return true
	case wireBool:
		_, ok := d.bool()
		return ok
	case wireInt:
		_, ok := d.int()
		return ok
	case wireLong:
		_, ok := d.long()
		return ok
	case wireEnum:
		_, ok := d.symbol(n)
		return ok
	case wireFloat:
		_, ok := d.take(4)
		return ok
	case wireDouble:
		_, ok := d.take(8)
		return ok
	case wireBytes, wireString:
		_, ok := d.bytes()
		return ok
	case wireFixed:
		_, ok := d.take(int64(n.size))
		return ok
	case wireUnion:
		i, ok := d.branch(len(n.members))
		return ok && d.skip(n.members[i])
	case wireArray, wireMap:
		return d.skipItems(n)
	case wireRecord:
		if !d.enter() {
			return false
		}
		for i := range n.fields {
			if !d.skip(n.fields[i].node) {
				return false
			}
		}
		d.depth--
		return true
	}
	return d.refuse("the schema is not known")
}

// skipItems goes over an array or map, whole blocks at a time where they tell their bytes.
func (d *Decoder) skipItems(n *node) bool {
	if !d.enter() {
		return false
	}
	least := n.itemLeast()
	for {
		items, size, ok := d.block(least)
		switch {
		case !ok:
			return false
		case items == 0:
			d.depth--
			return true
		case size >= 0:
			d.at += int(size)
			continue
		case least == 0 && !d.without(items):
			return false
		}
		for range items {
			if n.wire == wireMap {
				if _, ok := d.bytes(); !ok {
					return false
				}
			}
			if !d.skip(n.item) {
				return false
			}
		}
	}
}

// symbol reads an enum.
func (d *Decoder) symbol(n *node) (int, bool) {
	i, ok := d.int()
	if !ok {
		return 0, false
	}
	if i < 0 || i >= int64(len(n.symbols)) {
		return 0, d.fail(fmt.Sprintf("symbol %d of %d of %s", i, len(n.symbols), n.name))
	}
	return int(i), true
}

// broken refuses the record for the reader's problem, if it was not refused already.
func (d *Decoder) broken() bool {
	if d.refusing {
		return false
	}
	return d.refuse(d.problem)
}

// refuse says why the record does not fit, where the reader stands. Only the first reason counts. It returns false.
func (d *Decoder) refuse(reason string) bool {
	if d.refusing {
		return false
	}
	d.refusing = true
	d.refusal.Reason, d.refusal.Byte = reason, int64(d.at)
	if d.outside {
		d.refusal.Byte = -1
	}
	if d.column >= 0 {
		d.refusal.Column = d.schema.Fields[d.column].Name
	}
	return false
}
