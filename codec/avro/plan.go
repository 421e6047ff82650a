package avro

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// target is a member that a column is filled from, or that holds such members.
type target struct {
	column  int                // -1 if it holds members
	members map[string]*target // nil for a column
}

// newTargets makes the tree of the members that the columns of a schema are filled from.
func newTargets(s *record.Schema) (*target, error) {
	root := &target{column: -1, members: map[string]*target{}}
	for i := range s.Fields {
		if err := root.add(s, i); err != nil {
			return nil, fmt.Errorf("column %q: %w", s.Fields[i].Name, err)
		}
	}
	return root, nil
}

func (t *target) add(s *record.Schema, column int) error {
	path := s.Fields[column].Path
	if path == "" {
		path = s.Fields[column].Name
	}
	steps, err := codec.SplitPath(path)
	if err != nil {
		return err
	}
	at := t
	for i, step := range steps {
		next, last := at.members[step], i == len(steps)-1
		switch {
		case next == nil && last:
			next = &target{column: column}
		case next == nil:
			next = &target{column: -1, members: map[string]*target{}}
		case last && next.column >= 0:
			return fmt.Errorf("column %q is filled from %q already", s.Fields[next.column].Name, path)
		case last:
			return fmt.Errorf("other columns are filled from inside %q", path)
		case next.column >= 0:
			return fmt.Errorf("its path leads through %q, which column %q is filled from", step, s.Fields[next.column].Name)
		}
		at.members[step] = next
		at = next
	}
	return nil
}

// walkKind says how a value is gone through for the columns that are filled from inside it.
type walkKind uint8

const (
	walkSkip walkKind = iota
	walkColumn
	walkRecord
	walkUnion
	walkMap
	walkRefuse
)

// walk is a value of a record and what becomes of it.
type walk struct {
	kind    walkKind
	node    *node
	column  int
	conv    *conv
	steps   []step
	members []*walk
	names   []string // of a map: the keys that are looked for, and their walks are the members
	reason  string
}

// step is a field of a record; one that only the reader has stands behind the others and has its default's bytes.
type step struct {
	walk     *walk
	absent   bool
	fallback []byte
}

// planner compiles a plan: the walk through records of one pair of schemas into columns of one schema.
type planner struct {
	schema *record.Schema
	unit   int // digits of plain numbers in timestamp columns behind the second; below 0: refused
	depth  int
	// misfits are columns that no value of their field fits, with the reason.
	misfits []error
}

// plan returns the walk through the whole record.
func (p *planner) plan(n *node, root *target) *walk {
	if n.wire != wireRecord && n.wire != wireMap && n.wire != wireUnion && len(p.schema.Fields) == 1 {
		return p.walk(n, &target{column: 0}) // the record is one plain value
	}
	if n.wire == wireUnion && len(p.schema.Fields) == 1 && !slices.ContainsFunc(n.members, (*node).holds) {
		return p.walk(n, &target{column: 0})
	}
	return p.walk(n, root)
}

// holds tells whether a value has members.
func (n *node) holds() bool { return n.wire == wireRecord || n.wire == wireMap }

func (p *planner) walk(n *node, t *target) *walk {
	w := &walk{node: n, column: -1}
	switch {
	case t == nil:
		return w
	case t.column >= 0:
		w.kind, w.column = walkColumn, t.column
		w.conv = p.conv(n, &p.schema.Fields[t.column].Type)
		if w.conv.op == opRefuse {
			p.misfits = append(p.misfits, fmt.Errorf("column %q: %s", p.schema.Fields[t.column].Name, w.conv.reason))
		}
		return w
	case n.refused != "":
		w.kind, w.reason = walkRefuse, n.refused
		return w
	}
	switch n.wire { //nolint:exhaustive // no path leads into the others
	case wireRecord:
		w.kind = walkRecord
		for i := range n.fields {
			f := &n.fields[i]
			w.steps = append(w.steps, step{walk: p.walk(f.node, t.member(f.name))})
		}
		for i := range n.absent {
			if f := &n.absent[i]; t.member(f.name) != nil {
				w.steps = append(w.steps, step{walk: p.walk(f.node, t.member(f.name)), absent: true, fallback: f.value})
			}
		}
	case wireUnion:
		w.kind = walkUnion
		for _, m := range n.members {
			w.members = append(w.members, p.walk(m, t))
		}
	case wireMap:
		w.kind = walkMap
		for name, member := range t.members {
			w.names = append(w.names, name)
			w.members = append(w.members, p.walk(n.item, member))
		}
	case wireNull:
		w.kind = walkSkip // as if it were not there
	default:
		w.kind, w.reason = walkRefuse, n.name+" has no members"
	}
	return w
}

// member returns the target of a field; a field that the reader does not know has no name, and no column is filled from it.
func (t *target) member(name string) *target {
	if name == "" {
		return nil
	}
	return t.members[name]
}
