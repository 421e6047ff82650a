package step

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/ingestd/ingestd/record"
)

// Set fills columns from expressions. All expressions see the record as it was before the step.
type Set struct {
	ID      string
	Columns []Assignment
}

// Assignment is a column and the expression that fills it.
type Assignment struct {
	Column string
	Value  string
	// Type is the column's type. nil: that of the column that is there, or for a new one the type of the expression: int64,
	// float64, string, bool or timestamp(9), nullable if the expression may be null.
	Type *record.Type
}

var (
	_ Step   = (*Set)(nil)
	_ Wanter = (*Set)(nil)
)

// Name returns the id.
func (s *Set) Name() string { return s.ID }

// Want takes the columns out that the step makes. One that its own expression reads, and whose type the step does not name,
// must be there before with the type that it has afterwards.
func (s *Set) Want(out *record.Schema) *record.Schema {
	made := make(map[string]bool, len(s.Columns))
	for _, c := range s.Columns {
		made[c.Column] = c.Type != nil || !reads(c.Value, c.Column)
	}
	return without(out, func(name string) bool { return made[name] })
}

// assignment is an Assignment that was checked.
type assignment struct {
	value  *expression
	writer *writer
	column string
	place  int // of the column that it replaces, or -1
}

// Bind checks the expressions and finds the types.
func (s *Set) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	out := &record.Schema{Fields: slices.Clone(in.Fields)}
	var assignments []assignment
	var errs []error
	for _, c := range s.Columns {
		a, field, err := bindAssignment(c, in)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", c.Column, err))
			continue
		}
		if a.place >= 0 {
			out.Fields[a.place] = field
		} else {
			out.Fields = append(out.Fields, field)
		}
		assignments = append(assignments, a)
	}
	if len(errs) == 0 {
		errs = append(errs, out.Check())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, misconfigured(s.ID, err)
	}
	r := refuser{step: s.ID}
	return out, func(b *record.Batch, res *Result) {
		r.begin(b)
		first := len(b.Cols)
		for i := range assignments {
			assignments[i].fill(b, &r)
		}
		for i := range assignments { // only now: all expressions saw the old columns
			if place := assignments[i].place; place >= 0 {
				b.MoveColumn(first, place)
				continue
			}
			first++
		}
		b.Schema = out
		r.end(b, res)
	}, nil
}

func bindAssignment(c Assignment, in *record.Schema) (assignment, record.Field, error) {
	a := assignment{column: c.Column, place: in.Index(c.Column)}
	field := record.Field{Name: c.Column}
	if a.place >= 0 {
		field = in.Fields[a.place]
	}
	var err error
	if a.value, err = compile(c.Value, in); err != nil {
		return a, field, err
	}
	switch {
	case c.Type != nil:
		field.Type = *c.Type
	case a.place < 0:
		t, ok := kindOfResult(a.value.result)
		if !ok {
			return a, field, fmt.Errorf("the type of the expression %q is not known before it runs: give the column a type", c.Value)
		}
		field.Type = t
	}
	if err := field.Type.Check(); err != nil {
		return a, field, err
	}
	if a.writer, err = newWriter(&field.Type); err != nil {
		return a, field, err
	}
	if !a.writer.takes(a.value.result) {
		return a, field, fmt.Errorf("expression %q: its result is %s, the column is %s",
			c.Value, typeName(a.value.result), &field.Type)
	}
	if t := a.value.result; t != nil && t.Kind() == reflect.Pointer && !field.Type.Nullable {
		return a, field, fmt.Errorf("expression %q: its result may be null, the column is %s: write (…) ?? VALUE", c.Value, &field.Type)
	}
	return a, field, nil
}

// fill evaluates the expression for all rows that are still in the batch, into a new last column.
func (a *assignment) fill(b *record.Batch, r *refuser) {
	c := b.AddColumn(&a.writer.typ)
	for row := range b.Rows {
		if r.out[row] {
			c.AppendZero()
			continue
		}
		v, err := a.value.eval(b, row)
		if err == nil {
			err = a.writer.append(c, v)
		}
		if err != nil {
			c.Truncate(row)
			c.AppendZero()
			r.refuse(row, a.column, err.Error())
		}
	}
}
