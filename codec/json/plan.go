package json

import (
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// plan is a schema prepared for decoding: the tree of members that are looked at.
type plan struct {
	fields []record.Field
	values []*value // as many as fields
	root   *member
	count  int // of members, the root not included: ids are below it
}

// member is a member of an object that a column is filled from, or that holds such members.
type member struct {
	name    string
	id      int
	field   int                // the column; -1 if the member holds members
	members map[string]*member // nil for a column
	// first and next remember which member came first, and which came after this one, in the last record: usually it is
	// the same again, and comparing one name is cheaper than looking one up.
	first, next *member
}

// value tells how to read the values of a type.
type value struct {
	typ       record.Type
	text      *codec.Text
	key, elem *value
}

func newPlan(s *record.Schema) (*plan, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &plan{fields: s.Fields, root: &member{field: -1, members: make(map[string]*member)}}
	var errs []error
	for i := range s.Fields {
		f := &s.Fields[i]
		v, err := newValue(&f.Type)
		if err == nil {
			err = p.add(f, i)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", f.Name, err))
		}
		p.values = append(p.values, v)
	}
	return p, errors.Join(errs...)
}

func newValue(t *record.Type) (*value, error) {
	text, err := codec.NewText(t)
	if err != nil {
		return nil, err
	}
	v := &value{typ: *t, text: text}
	if t.Key != nil {
		if v.key, err = newValue(t.Key); err != nil {
			return nil, err
		}
	}
	if t.Elem != nil {
		if v.elem, err = newValue(t.Elem); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// add puts a column into the tree of members.
func (p *plan) add(f *record.Field, index int) error {
	path := f.Path
	if path == "" {
		path = f.Name
	}
	steps, err := codec.SplitPath(path)
	if err != nil {
		return err
	}
	at := p.root
	for i, step := range steps {
		next := at.members[step]
		last := i == len(steps)-1
		switch {
		case next == nil:
			next = &member{name: step, id: p.count, field: -1}
			p.count++
			at.members[step] = next
			if last {
				next.field = index
			} else {
				next.members = make(map[string]*member)
			}
		case last && next.field >= 0:
			return fmt.Errorf("column %q is filled from %q already", p.fields[next.field].Name, path)
		case last:
			return fmt.Errorf("other columns are filled from inside %q", path)
		case next.field >= 0:
			return fmt.Errorf("its path leads through %q, which column %q is filled from", step, p.fields[next.field].Name)
		}
		at = next
	}
	return nil
}
