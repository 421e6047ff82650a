package codec

import (
	"fmt"
	"unicode/utf8"

	"github.com/ingestd/ingestd/record"
)

// UTF8 looks for texts of a row that are not valid UTF-8. It is for encoders of formats that can't hold them.
type UTF8 struct {
	fields  []record.Field
	columns []int // whose values may hold a text
}

// NewUTF8 prepares the look at columns of a schema; nil are all.
func NewUTF8(s *record.Schema, columns []int) *UTF8 {
	u := &UTF8{fields: s.Fields}
	if columns == nil {
		for i := range s.Fields {
			columns = append(columns, i)
		}
	}
	for _, i := range columns {
		if holdsText(&s.Fields[i].Type) {
			u.columns = append(u.columns, i)
		}
	}
	return u
}

func holdsText(t *record.Type) bool {
	return t.Kind == record.String || t.Kind == record.FixedString || t.Key != nil && holdsText(t.Key) || t.Elem != nil && holdsText(t.Elem)
}

// Check refuses a row that holds such a text.
func (u *UTF8) Check(b *record.Batch, row int) (record.Refusal, bool) {
	for _, i := range u.columns {
		if !validText(&b.Cols[i], row) {
			return record.Refusal{Row: row, Reason: "a text is not valid UTF-8", Column: u.fields[i].Name, Byte: -1}, false
		}
	}
	return record.Refusal{}, true
}

func validText(c *record.Column, row int) bool {
	if c.IsNull(row) {
		return true
	}
	switch c.Type.Kind { //nolint:exhaustive // the other kinds hold no text
	case record.String:
		return utf8.Valid(c.BytesAt(row))
	case record.FixedString:
		return utf8.Valid(trimPadding(c.FixedAt(row)))
	case record.Array, record.Map:
		if !holdsText(&c.Type) {
			return true
		}
		from, to := c.Range(row)
		for i := int(from); i < int(to); i++ {
			if c.Key != nil && !validText(c.Key, i) || !validText(c.Elem, i) {
				return false
			}
		}
	}
	return true
}

// Pick returns the places of columns by their names, in the names' order; no names are all columns.
func Pick(s *record.Schema, names []string) ([]int, error) {
	picked := make([]int, 0, len(s.Fields))
	if len(names) == 0 {
		for i := range s.Fields {
			picked = append(picked, i)
		}
		return picked, nil
	}
	for _, name := range names {
		at := s.Index(name)
		if at < 0 {
			return nil, fmt.Errorf("there is no column %q to encode; %s", name, lacks(s))
		}
		picked = append(picked, at)
	}
	return picked, nil
}
