package step

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Cast changes the types of columns. A value that the new type can't hold exactly refuses the record, with one exception: what
// becomes a float is rounded to the nearest one.
//
// Numbers become numbers, everything but lists becomes a string, a string becomes what codec.Text reads from it, a bool becomes
// the integer 0 or 1, a timestamp becomes another timestamp or, at midnight UTC, a date, a date a timestamp, an ipv4 an ipv6, an
// enum another enum by its names, and lists become lists if their elements can be cast.
type Cast struct {
	ID      string
	Columns map[string]record.Type
}

var (
	_ Step   = (*Cast)(nil)
	_ Wanter = (*Cast)(nil)
)

// Name returns the id.
func (s *Cast) Name() string { return s.ID }

// Want takes the columns out whose types change: what they are before stands in the decoder's config.
func (s *Cast) Want(out *record.Schema) *record.Schema {
	return without(out, func(name string) bool {
		_, changed := s.Columns[name]
		return changed
	})
}

// casting is one column's change.
type casting struct {
	place  int
	column string
	to     record.Type
	cast   caster
}

// caster appends row of src to dst.
type caster func(dst, src *record.Column, row int) error

// Bind checks that the columns exist and that their types can be changed.
func (s *Cast) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	out := &record.Schema{Fields: slices.Clone(in.Fields)}
	var castings []casting
	var errs []error
	for i := range in.Fields {
		f := &in.Fields[i]
		to, ok := s.Columns[f.Name]
		if !ok {
			continue
		}
		cast, err := newCaster(&f.Type, &to)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", f.Name, err))
		}
		castings = append(castings, casting{place: i, column: f.Name, to: to, cast: cast})
		out.Fields[i].Type = to
	}
	for name := range s.Columns {
		if in.Index(name) < 0 {
			errs = append(errs, unknownColumn(name, in))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, misconfigured(s.ID, err)
	}
	r := refuser{step: s.ID}
	return out, func(b *record.Batch, res *Result) {
		r.begin(b)
		for i := range castings {
			castings[i].apply(b, &r)
		}
		b.Schema = out
		r.end(b, res)
	}, nil
}

func (c *casting) apply(b *record.Batch, r *refuser) {
	dst := b.AddColumn(&c.to)
	src := &b.Cols[c.place]
	for row := range b.Rows {
		if err := c.cast(dst, src, row); err != nil {
			dst.Truncate(row)
			dst.AppendZero()
			r.refuse(row, c.column, err.Error())
		}
	}
	b.MoveColumn(len(b.Cols)-1, c.place)
}

// newCaster returns how values of one type become values of another.
func newCaster(from, to *record.Type) (caster, error) {
	if err := to.Check(); err != nil {
		return nil, err
	}
	plain, err := newPlainCaster(from, to)
	if err != nil || !from.Nullable {
		return plain, err
	}
	return func(dst, src *record.Column, row int) error {
		if !src.IsNull(row) {
			return plain(dst, src, row)
		}
		if !to.Nullable {
			return fmt.Errorf("null does not fit %s", to)
		}
		dst.AppendNull()
		return nil
	}, nil
}

func newPlainCaster(from, to *record.Type) (caster, error) {
	switch {
	case from.Kind == record.Array && to.Kind == record.Array:
		return newArrayCaster(from, to)
	case from.Kind == record.Map && to.Kind == record.Map:
		return newMapCaster(from, to)
	case from.SameLayout(to) && boundsHold(from, to):
		return func(dst, src *record.Column, row int) error {
			dst.AppendFrom(src, row)
			return nil
		}, nil
	case !castable(from, to):
		return nil, fmt.Errorf("%s can't be cast to %s", from, to)
	}
	text, err := codec.NewText(to)
	if err != nil {
		return nil, err
	}
	to = clone(to)
	var scratch []byte
	return func(dst, src *record.Column, row int) error {
		scratch = castText(scratch[:0], src, row, to.Kind)
		if err := text.Append(dst, scratch); err != nil {
			return fmt.Errorf("%s: %q %w", to, excerpt(scratch), err)
		}
		return nil
	}, nil
}

// boundsHold reports whether every value of one type is in the bounds of the other.
func boundsHold(from, to *record.Type) bool {
	unbounded := func(t *record.Type) bool { return t.Min == 0 && t.Max == 0 }
	return unbounded(to) || !unbounded(from) && from.Min >= to.Min && from.Max <= to.Max
}

func clone(t *record.Type) *record.Type {
	u := *t
	return &u
}

// castable tells which kinds go through text.
func castable(from, to *record.Type) bool {
	list := func(t *record.Type) bool { return t.Kind == record.Array || t.Kind == record.Map }
	text := func(t *record.Type) bool { return t.Kind == record.String || t.Kind == record.FixedString }
	number := func(t *record.Type) bool { return t.Kind >= record.Int8 && t.Kind <= record.Decimal }
	day := func(t *record.Type) bool { return t.Kind == record.Date || t.Kind == record.Timestamp }
	switch {
	case list(from) || list(to):
		return false
	case text(from) || text(to):
		return true
	case number(from) && number(to), day(from) && day(to):
		return true
	case from.Kind == record.Bool:
		return number(to) || to.Kind == record.Bool
	case from.Kind == record.IPv4:
		return to.Kind == record.IPv6 || to.Kind == record.IPv4
	}
	return from.Kind == to.Kind // such as one enum to another
}

// castText writes a value as the text that the other kind reads.
func castText(dst []byte, src *record.Column, row int, to record.Kind) []byte {
	if src.Type.Kind == record.Bool && to != record.String && to != record.FixedString && to != record.Bool {
		if src.Bool(row) {
			return append(dst, '1')
		}
		return append(dst, '0')
	}
	dst = codec.AppendValue(dst, src, row)
	switch {
	case src.Type.Kind == record.Date && to == record.Timestamp:
		return append(dst, "T00:00:00Z"...)
	case src.Type.Kind == record.Timestamp && to == record.Date:
		return cutMidnight(dst)
	}
	return dst
}

// cutMidnight cuts the time of a timestamp if it is 0; another one stays, and no date reads it.
func cutMidnight(text []byte) []byte {
	const day = len("2006-01-02")
	for i := day; i < len(text); i++ {
		if text[i] >= '1' && text[i] <= '9' {
			return text
		}
	}
	return text[:min(day, len(text))]
}

func newArrayCaster(from, to *record.Type) (caster, error) {
	elem, err := newCaster(from.Elem, to.Elem)
	if err != nil {
		return nil, err
	}
	return func(dst, src *record.Column, row int) error {
		first, end := src.Range(row)
		for i := first; i < end; i++ {
			if err := elem(dst.Elem, src.Elem, int(i)); err != nil {
				return err
			}
		}
		dst.CloseList()
		return nil
	}, nil
}

func newMapCaster(from, to *record.Type) (caster, error) {
	key, err := newCaster(from.Key, to.Key)
	if err != nil {
		return nil, err
	}
	elem, err := newCaster(from.Elem, to.Elem)
	if err != nil {
		return nil, err
	}
	return func(dst, src *record.Column, row int) error {
		first, end := src.Range(row)
		for i := int(first); i < int(end); i++ {
			if err := key(dst.Key, src.Key, i); err != nil {
				return err
			}
			if err := elem(dst.Elem, src.Elem, i); err != nil {
				return err
			}
		}
		dst.CloseList()
		return nil
	}, nil
}

// excerpt shows the beginning of a text in a message.
func excerpt(text []byte) []byte {
	const bytesMax = 64
	return text[:min(len(text), bytesMax)]
}
