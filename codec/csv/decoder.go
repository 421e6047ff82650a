package csv

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Decoder decodes records for one schema.
type Decoder struct {
	dialect
	bytesMax int
	fields   []record.Field
	texts    []*codec.Text // as many as fields
	column   []int         // by field of a record: the column that it fills, or -1
	missing  []int         // columns that no field fills

	scratch []byte
	refusal record.Refusal
}

// field is one field of a record.
type field struct {
	text   []byte
	at     int
	quoted bool
}

// Decode appends the record in value as a row to the first columns of b, as many as the decoder's schema has.
func (d *Decoder) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	row := b.Cols[0].Len()
	d.refusal = record.Refusal{Row: row, Byte: -1}
	if d.record(b, value) {
		return record.Refusal{}, true
	}
	for i := range d.fields {
		b.Cols[i].Truncate(row)
	}
	return d.refusal, false
}

func (d *Decoder) record(b *record.Batch, value []byte) bool {
	switch {
	case value == nil:
		return d.refuse(-1, -1, "the record has no value (a tombstone)")
	case len(value) > d.bytesMax:
		return d.refuse(-1, -1, fmt.Sprintf("the record has %d bytes, record_bytes_max is %d", len(value), d.bytesMax))
	}
	line := trimEnd(value)
	at := 0
	for n := range d.column {
		f, next, ok := d.next(line, at)
		if !ok {
			return false
		}
		if i := d.column[n]; i >= 0 && !d.value(&b.Cols[i], i, f) {
			return false
		}
		last := n == len(d.column)-1
		switch {
		case last && next < len(line):
			return d.refuse(-1, next, fmt.Sprintf("the record has more than %d fields", len(d.column)))
		case !last && next == len(line):
			return d.refuse(-1, next, fmt.Sprintf("the record has %d fields, %d are expected", n+1, len(d.column)))
		}
		at = next + 1
	}
	for _, i := range d.missing {
		if b.Cols[i].Type.Nullable {
			b.Cols[i].AppendNull()
		} else {
			b.Cols[i].AppendZero()
		}
	}
	return true
}

// trimEnd cuts one line end.
func trimEnd(value []byte) []byte {
	value = bytes.TrimSuffix(value, []byte("\n"))
	return bytes.TrimSuffix(value, []byte("\r"))
}

// next reads the field at a place. The next place is that of the delimiter behind it, or the line's length.
func (d *Decoder) next(line []byte, at int) (f field, next int, ok bool) {
	if at < len(line) && line[at] == d.quote {
		return d.quoted(line, at)
	}
	for next = at; next < len(line); next++ {
		switch line[next] {
		case d.delimiter:
			return field{text: line[at:next], at: at}, next, true
		case d.quote:
			return f, 0, d.refuse(-1, next, "a quote inside a field that is not quoted")
		case '\r', '\n':
			return f, 0, d.refuse(-1, next, "a line end inside a field that is not quoted")
		}
	}
	return field{text: line[at:], at: at}, len(line), true
}

// quoted reads the field whose quote stands at a place.
func (d *Decoder) quoted(line []byte, at int) (f field, next int, ok bool) {
	f = field{at: at, quoted: true}
	from := at + 1
	d.scratch = d.scratch[:0]
	for {
		n := bytes.IndexByte(line[from:], d.quote)
		if n < 0 {
			return f, 0, d.refuse(-1, at, "a quote without its end")
		}
		end := from + n
		switch {
		case end+1 < len(line) && line[end+1] == d.quote:
			d.scratch = append(d.scratch, line[from:end+1]...)
			from = end + 2
			continue
		case end+1 < len(line) && line[end+1] != d.delimiter:
			return f, 0, d.refuse(-1, end+1, "something between the end of a quoted field and the delimiter")
		}
		if f.text = line[from:end]; len(d.scratch) > 0 {
			d.scratch = append(d.scratch, f.text...)
			f.text = d.scratch
		}
		return f, end + 1, true
	}
}

// value appends a field to its column.
func (d *Decoder) value(c *record.Column, i int, f field) bool {
	if !f.quoted && string(f.text) == d.null {
		switch {
		case c.Type.Nullable:
			c.AppendNull()
			return true
		case d.null != "":
			return d.refuse(i, f.at, "null does not fit "+c.Type.String())
		}
	}
	if (c.Type.Kind == record.String || c.Type.Kind == record.FixedString) && !utf8.Valid(f.text) {
		return d.refuse(i, f.at, "the field is not valid UTF-8")
	}
	if err := d.texts[i].Append(c, f.text); err != nil {
		return d.refuse(i, f.at, c.Type.String()+": \""+codec.Excerpt(f.text)+"\" "+err.Error())
	}
	return true
}

// refuse says why, in which column (-1: none) and where (-1: unknown) the record does not fit. It returns false.
func (d *Decoder) refuse(column, at int, reason string) bool {
	d.refusal.Reason, d.refusal.Byte = reason, int64(at)
	if column >= 0 {
		d.refusal.Column = d.fields[column].Name
	}
	return false
}
