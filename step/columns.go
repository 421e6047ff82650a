package step

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/record"
)

// Rename gives columns other names. All names change at once, so two columns can swap theirs.
type Rename struct {
	ID      string
	Columns map[string]string // from the old name to the new one
}

// Drop takes columns out.
type Drop struct {
	ID      string
	Columns []string
}

var (
	_ Step   = (*Rename)(nil)
	_ Wanter = (*Rename)(nil)
	_ Step   = (*Drop)(nil)
	_ Wanter = (*Drop)(nil)
)

// Name returns the id.
func (s *Rename) Name() string { return s.ID }

// Bind checks that the old names exist and that no name is there twice afterwards.
func (s *Rename) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	var errs []error
	out := &record.Schema{Fields: slices.Clone(in.Fields)}
	for _, old := range sorted(s.Columns) {
		if i := in.Index(old); i >= 0 {
			out.Fields[i].Name = s.Columns[old]
		} else {
			errs = append(errs, unknownColumn(old, in))
		}
	}
	if err := out.Check(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, misconfigured(s.ID, err)
	}
	return out, func(b *record.Batch, _ *Result) { b.Schema = out }, nil
}

// Want gives the columns their old names back. A column whose name is renamed away can't come after the step.
func (s *Rename) Want(out *record.Schema) *record.Schema {
	old := make(map[string]string, len(s.Columns))
	for from, to := range s.Columns {
		old[to] = from
	}
	in := &record.Schema{}
	for _, f := range out.Fields {
		from, renamed := old[f.Name]
		switch _, away := s.Columns[f.Name]; {
		case renamed:
			f.Name = from
		case away:
			continue
		}
		in.Fields = append(in.Fields, f)
	}
	return in
}

// Want takes out what is dropped; it is the decoder's config that has it.
func (s *Drop) Want(out *record.Schema) *record.Schema {
	return without(out, func(name string) bool { return slices.Contains(s.Columns, name) })
}

// without returns a schema without some of its columns.
func without(s *record.Schema, gone func(name string) bool) *record.Schema {
	rest := &record.Schema{}
	for _, f := range s.Fields {
		if !gone(f.Name) {
			rest.Fields = append(rest.Fields, f)
		}
	}
	return rest
}

// Name returns the id.
func (s *Drop) Name() string { return s.ID }

// Bind checks that the columns exist and that one is left.
func (s *Drop) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	var errs []error
	for _, name := range s.Columns {
		if in.Index(name) < 0 {
			errs = append(errs, unknownColumn(name, in))
		}
	}
	out := &record.Schema{}
	var gone []int // from the last to the first, so that the places stay right
	for i, f := range slices.Backward(in.Fields) {
		if slices.Contains(s.Columns, f.Name) {
			gone = append(gone, i)
			continue
		}
		out.Fields = append(out.Fields, f)
	}
	slices.Reverse(out.Fields)
	if len(out.Fields) == 0 {
		errs = append(errs, errors.New("no column is left"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, misconfigured(s.ID, err)
	}
	return out, func(b *record.Batch, _ *Result) {
		for _, i := range gone {
			b.RemoveColumn(i)
		}
		b.Schema = out
	}, nil
}

func unknownColumn(name string, in *record.Schema) error {
	return fmt.Errorf("there is no column %q before this step; the columns are %s (decode.columns declares more)", name, columnNames(in))
}
