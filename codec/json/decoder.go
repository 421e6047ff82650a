package json

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Decoder decodes records for one schema.
type Decoder struct {
	plan     *plan
	unknown  Unknown
	unit     int // digits of numbers in timestamp columns behind the second; below 0: refused
	bytesMax int
	depthMax int
	framed   bool

	// in holds the record: jsontext reads a bytes.Buffer in place and does not change it. What it and walk still refer to
	// after Decode is not read again.
	in      bytes.Buffer
	dec     *jsontext.Decoder
	options []jsontext.Options
	walk    walker
	seen    []uint64 // a bit for each member's id
	found   int      // columns seen
	depth   int
	scratch []byte
	keys    codec.Keys
	refusal record.Refusal
}

func newDecoder(p *plan, s *Settings) *Decoder {
	d := &Decoder{
		plan:     p,
		unknown:  s.Unknown,
		unit:     -1,
		bytesMax: int(s.RecordBytesMax),
		depthMax: s.DepthMax,
		framed:   s.Framing == Confluent,
		// Names that come twice are looked for among the selected ones only, which is much cheaper.
		options: []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(false)},
		seen:    make([]uint64, (p.count+63)/64),
	}
	if digits, ok := s.TimestampNumbers.digits(); ok {
		d.unit = digits
	}
	d.dec = jsontext.NewDecoder(&d.in, d.options...)
	return d
}

// Decode appends the record in data as a row to the first columns of b, as many as the decoder's schema has.
func (d *Decoder) Decode(b *record.Batch, data []byte) (record.Refusal, bool) {
	row := b.Cols[0].Len()
	d.refusal = record.Refusal{Row: row, Byte: -1}
	if d.framed && data != nil {
		if len(data) < frameBytes || data[0] != 0 {
			d.refuse(-1, 0, "the record does not begin with a byte 0 and a schema's ID")
			return d.refusal, false
		}
		data = data[frameBytes:]
	}
	if d.record(b, data) {
		return record.Refusal{}, true
	}
	if d.framed && d.refusal.Byte >= 0 {
		d.refusal.Byte += frameBytes
	}
	for i := range d.plan.fields {
		b.Cols[i].Truncate(row)
	}
	return d.refusal, false
}

func (d *Decoder) record(b *record.Batch, data []byte) bool {
	switch {
	case data == nil:
		return d.refuse(-1, -1, "the record has no value (a tombstone)")
	case len(data) > d.bytesMax:
		return d.refuse(-1, -1, fmt.Sprintf("the record has %d bytes, record_bytes_max is %d", len(data), d.bytesMax))
	}
	if !d.valid(data) {
		return false
	}
	clear(d.seen)
	d.found, d.depth = 0, 0
	return d.object(b, d.plan.root) && (d.found == len(d.plan.fields) || d.missing(b))
}

// valid checks that data is one JSON object, with its strings in valid UTF-8 and nothing behind it, and puts the walker at its
// beginning.
func (d *Decoder) valid(data []byte) bool {
	d.in = *bytes.NewBuffer(data)
	d.dec.Reset(&d.in, d.options...)
	value, err := d.dec.ReadValue()
	if err != nil {
		return d.syntax(err, len(data))
	}
	end := int(d.dec.InputOffset())
	if rest := bytes.TrimLeft(data[end:], " \t\r\n"); len(rest) > 0 {
		return d.refuse(-1, len(data)-len(rest), "something follows the JSON value")
	}
	start := end - len(value)
	d.walk = walker{data: data[:end], at: start}
	if value[0] != '{' {
		return d.refuse(-1, start, "the record is "+kindName(value[0])+", a JSON object is expected")
	}
	return true
}

// missing fills the columns that the record has no member for.
func (d *Decoder) missing(b *record.Batch) bool {
	for i := range d.plan.fields {
		c, f := &b.Cols[i], &d.plan.fields[i]
		switch {
		case c.Len() > d.refusal.Row:
		case !f.Optional:
			return d.refuse(i, -1, "the record has no such member")
		case f.Type.Nullable:
			c.AppendNull()
		default:
			c.AppendZero()
		}
	}
	return true
}

// object reads the object at which the walker stands, whose members m describes.
func (d *Decoder) object(b *record.Batch, m *member) bool {
	if !d.enter(-1) {
		return false
	}
	slot := &m.first
	for d.walk.peek() != '}' {
		at := d.walk.at
		child := d.lookup(m, *slot)
		if child == nil {
			if !d.skip(at) {
				return false
			}
			continue
		}
		*slot = child
		slot = &child.next
		if !d.member(b, child, at) {
			return false
		}
	}
	d.leave()
	return true
}

// enter goes into the object or array at which the walker stands.
func (d *Decoder) enter(column int) bool {
	if d.depth++; d.depth > d.depthMax {
		return d.tooDeep(column)
	}
	d.walk.at++
	return true
}

// leave goes out of an object or array at its end.
func (d *Decoder) leave() {
	d.depth--
	d.walk.at++
}

func (d *Decoder) tooDeep(column int) bool {
	return d.refuse(column, d.walk.at, fmt.Sprintf("objects and arrays nest deeper than %d", d.depthMax))
}

// lookup takes a name and returns the member of m that has it, or nil.
func (d *Decoder) lookup(m, likely *member) *member {
	quoted, escaped := d.walk.text()
	name := d.content(quoted, escaped)
	if likely != nil && string(name) == likely.name {
		return likely
	}
	return m.members[string(name)]
}

// content returns what a string says. The result is valid until the next call.
func (d *Decoder) content(quoted []byte, escaped bool) []byte { //nolint:revive // escaped is what the walker found
	if !escaped {
		return quoted[1 : len(quoted)-1]
	}
	d.scratch = appendUnquoted(d.scratch[:0], quoted)
	return d.scratch
}

// appendUnquoted appends what a string of valid JSON says.
func appendUnquoted(dst, quoted []byte) []byte {
	dst, _ = jsontext.AppendUnquote(dst, quoted) //nolint:errcheck // the string was checked with the record
	return dst
}

// member reads the value of a selected member, whose name stands at the given place.
func (d *Decoder) member(b *record.Batch, m *member, at int) bool {
	word, bit := &d.seen[m.id/64], uint64(1)<<(m.id%64)
	if *word&bit != 0 {
		return d.refuse(m.field, at, fmt.Sprintf("the member %q is there twice", m.name))
	}
	*word |= bit
	if m.field >= 0 {
		d.found++
		return d.value(&b.Cols[m.field], d.plan.values[m.field], m.field)
	}
	switch c := d.walk.peek(); c {
	case '{':
		return d.object(b, m)
	case 'n': // as if it were not there
		d.walk.plain()
		return true
	default:
		return d.refuse(-1, d.walk.at, fmt.Sprintf("the member %q is %s, an object is expected", m.name, kindName(c)))
	}
}

// skip goes over the value of a member that no column is filled from and whose name stands at the given place.
func (d *Decoder) skip(at int) bool {
	if d.unknown == Refuse {
		return d.refuse(-1, at, "the member "+excerpt(d.walk.data[at:d.walk.at])+" is not a column")
	}
	return d.walk.skip(d.depthMax-d.depth) || d.tooDeep(-1)
}

// refuse says why, in which column (-1: none) and where (-1: unknown) the record does not fit. It returns false.
func (d *Decoder) refuse(column, at int, reason string) bool {
	d.refusal.Reason, d.refusal.Byte = reason, int64(at)
	if column >= 0 {
		d.refusal.Column = d.plan.fields[column].Name
	}
	return false
}

// syntax refuses a record of the given size that is not JSON.
func (d *Decoder) syntax(err error, size int) bool {
	e, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok || errors.Is(err, io.ErrUnexpectedEOF) {
		return d.refuse(-1, size, "not valid JSON: it ends early")
	}
	return d.refuse(-1, int(e.ByteOffset), "not valid JSON: "+e.Err.Error())
}

// kindName says what begins with a byte.
func kindName(c byte) string {
	switch c {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "a number"
}

// excerpt shows the beginning of a JSON value in a message.
func excerpt(raw []byte) string {
	const bytesMax = 64
	if len(raw) <= bytesMax {
		return string(raw)
	}
	cut := bytesMax
	for cut > 0 && !utf8.RuneStart(raw[cut]) {
		cut--
	}
	return string(raw[:cut]) + "…"
}
