package pipeline

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/step"
)

// demand is what the sinks of a pipeline take together.
type demand struct {
	sinks  []*record.Schema // of each sink; nil: any columns
	all    *record.Schema   // nil: any columns
	unlike []clash          // columns that all does not have, because nobody can say what they are decoded as
}

// clash is a column that two targets have with types that are not stored in the same way.
type clash struct {
	column string
	routes [2]int
	types  [2]record.Type
}

// merge makes of what each sink takes what is to be decoded:
//
//   - A column that every sink names is decoded as their common type. It takes null when one of them does.
//   - A column that not every sink names takes null, and a record may lack it: the record may be for the others. A sink that does
//     not take the null refuses the row.
//   - A column that two sinks have with types that differ in more than null and bounds is nobody's to guess: the config declares it.
//
// One sink alone gets what it takes, unchanged.
func merge(sinks []*record.Schema) demand {
	d := demand{sinks: sinks}
	if len(sinks) == 1 {
		d.all = sinks[0]
		return d
	}
	var names []string
	for _, s := range sinks {
		if s == nil {
			continue
		}
		if d.all == nil {
			d.all = &record.Schema{}
		}
		for _, f := range s.Fields {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		if f, ok := d.common(name); ok {
			d.all.Fields = append(d.all.Fields, f)
		}
	}
	return d
}

// common returns a column as it suits all sinks; ok is false for a clash, which it notes.
func (d *demand) common(name string) (f record.Field, ok bool) {
	first, missing := -1, false
	for i, s := range d.sinks {
		at := -1
		if s != nil {
			at = s.Index(name)
		}
		switch {
		case at < 0:
			missing = true
		case first < 0:
			f, first = s.Fields[at], i
		case !join(&f, &s.Fields[at]):
			d.unlike = append(d.unlike, clash{name, [2]int{first, i}, [2]record.Type{f.Type, s.Fields[at].Type}})
			return f, false
		}
	}
	if missing && !f.Optional {
		f.Type.Nullable, f.Optional = true, true
	}
	return f, true
}

// join widens a field so that it holds the values of another, if both are stored in the same way.
func join(f, other *record.Field) bool {
	t, u := &f.Type, &other.Type
	if !t.SameLayout(u) || t.Zone != u.Zone {
		return false
	}
	t.Nullable = t.Nullable || u.Nullable
	f.Optional = f.Optional && other.Optional || t.Nullable
	switch bounded := func(t *record.Type) bool { return t.Min != 0 || t.Max != 0 }; {
	case !bounded(t) || !bounded(u):
		t.Min, t.Max = 0, 0
	default:
		t.Min, t.Max = min(t.Min, u.Min), max(t.Max, u.Max)
	}
	return true
}

// share is what one sink gets of the rows that are written.
type share struct {
	columns []int                  // places of its columns; nil: all, as they are
	schema  *record.Schema         // of these, before casts
	bare    []int                  // places among these of columns that take null, and the sink does not
	casts   map[string]record.Type // columns that are of another type than it takes
	out     *record.Schema         // what its writer gets
}

// divide gives each sink its share: the columns that it names, or all if it takes any, each in its own type.
func (d *demand) divide(written *record.Schema, routes []Route) ([]share, error) {
	for _, c := range d.unlike {
		if written.Index(c.column) < 0 {
			return nil, fault.WithRemedy("pipeline", fault.Misconfigured, fmt.Errorf("the column %q is %s for sink %q and %s for sink %q",
				c.column, &c.types[0], routes[c.routes[0]].Name, &c.types[1], routes[c.routes[1]].Name),
				"declare it in decode.columns, or make it by a step: each sink then gets it cast to its own type")
		}
	}
	var out []share
	for i, s := range d.sinks {
		sh, err := d.share(s, written)
		if err != nil {
			return nil, &RouteError{Place: i, Name: routes[i].Name, Err: err}
		}
		out = append(out, sh)
	}
	return out, nil
}

func (d *demand) share(own, written *record.Schema) (share, error) {
	sh := share{schema: written, out: written}
	if own == nil {
		return sh, nil
	}
	sh.schema, sh.casts = &record.Schema{}, map[string]record.Type{}
	for i := range written.Fields {
		f := &written.Fields[i]
		at := own.Index(f.Name)
		if at < 0 {
			continue
		}
		g, t := *f, &own.Fields[at].Type
		if d.widened(f.Name, t) && !t.Equal(&f.Type) {
			if g.Type.Nullable = false; g.Type.Equal(t) {
				sh.bare = append(sh.bare, len(sh.columns))
			} else {
				g, sh.casts[f.Name] = *f, *t
			}
		}
		sh.columns, sh.schema.Fields = append(sh.columns, i), append(sh.schema.Fields, g)
	}
	if sh.out = sh.schema; len(sh.columns) == len(written.Fields) && len(sh.bare) == 0 {
		sh.columns, sh.schema, sh.out = nil, written, written
	}
	if len(sh.casts) == 0 {
		return sh, nil
	}
	var err error
	sh.out, _, err = (&step.Cast{ID: "cast", Columns: sh.casts}).Bind(sh.schema)
	return sh, err
}

// widened reports whether what is decoded for a column is not of the type that a sink takes.
func (d *demand) widened(column string, t *record.Type) bool {
	if d.all == nil {
		return false
	}
	i := d.all.Index(column)
	return i < 0 || !d.all.Fields[i].Type.Equal(t)
}

// unclaimed returns a column that no sink takes and no condition reads.
func (d *demand) unclaimed(written *record.Schema, conditions []*step.Condition) (column string, found bool) {
	if slices.Contains(d.sinks, nil) {
		return "", false
	}
	for i := range written.Fields {
		name := written.Fields[i].Name
		takes := func(s *record.Schema) bool { return s.Index(name) >= 0 }
		reads := func(c *step.Condition) bool { return c != nil && c.Reads(name) }
		if !slices.ContainsFunc(d.sinks, takes) && !slices.ContainsFunc(conditions, reads) {
			return name, true
		}
	}
	return "", false
}

// fits refuses columns that no target has: better now than at the first batch.
func (d *demand) fits(written *record.Schema, conditions []*step.Condition) error {
	column, found := d.unclaimed(written, conditions)
	if !found {
		return nil
	}
	text := "the sink's target has no column %q"
	if len(d.sinks) > 1 {
		text = "no sink's target has the column %q"
	}
	return fault.WithRemedy("pipeline", fault.Misconfigured, fmt.Errorf(text, column),
		"take it out with a step of type drop, or give the target the column")
}

// RouteError says which sink does not fit the columns that are there.
type RouteError struct {
	Place int // among the pipeline's sinks, from 0
	Name  string
	Key   string // "when", or "" where it is about the sink's columns
	Err   error
}

// Error names the sink.
func (e *RouteError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("sink %q: %s: %s", e.Name, e.Key, e.Err)
	}
	return fmt.Sprintf("sink %q: %s", e.Name, e.Err)
}

// Unwrap returns what does not fit.
func (e *RouteError) Unwrap() error { return e.Err }
