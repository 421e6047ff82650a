package step

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// Missing says what becomes of rows whose key is not in the table.
type Missing string

// What becomes of rows without a match.
const (
	MissingNull       Missing = "null" // the columns are null
	MissingDeadLetter Missing = "dead_letter"
)

// Enrich adds columns of a table to rows, by key. The table is state: the newest row of each key, as of what the task has taken in of it;
// checkpoints hold it together with all else.
type Enrich struct {
	ID  string
	Key []string
	// Table is the schema of the table's rows, and TableKey the columns there that match Key, in its order.
	Table    *record.Schema
	TableKey []string
	Columns  []EnrichColumn
	Missing  Missing // "": MissingNull
	// Input is where the table comes from, as the config says it; nil when nothing was configured. The step itself reads nothing.
	Input *EnrichInput
}

// EnrichInput names the plugins that the rows of a table come from. Whoever knows plugins makes them of it, and sets the table's schema.
type EnrichInput struct {
	Source, Decode *config.Section
	KeyDecode      *config.Section // nil: the record's key is a text
}

// EnrichColumn is a column that is added, and the table's column that it shows.
type EnrichColumn struct {
	Column string
	From   string
}

var _ KeyedStep = (*Enrich)(nil)

// TableOperator is an [Operator] that keeps a table, to which rows of a second input come.
type TableOperator interface {
	Operator
	// Update takes rows of the table, of the task's key groups; keys has one entry for each. Of several rows of a key the last one
	// counts. A row that deleted names takes its key out of the table; its columns say nothing.
	Update(b *record.Batch, keys *state.Keys, deleted func(row int) bool)
}

// Name returns the id.
func (e *Enrich) Name() string { return e.ID }

// KeyColumns returns the key.
func (e *Enrich) KeyColumns() []string { return e.Key }

// Want takes out the columns that the step makes.
func (e *Enrich) Want(out *record.Schema) *record.Schema {
	return without(out, func(name string) bool {
		return slices.ContainsFunc(e.Columns, func(c EnrichColumn) bool { return c.Column == name })
	})
}

// BindKeyed checks the key against the table's.
func (e *Enrich) BindKeyed(in *record.Schema) (KeyedBinding, error) {
	fields, err := keyFields(e.Key, in)
	tableFields, tableErr := keyFields(e.TableKey, e.Table)
	errs := []error{err}
	if tableErr != nil {
		errs = append(errs, fmt.Errorf("table: %w", tableErr))
	}
	if len(e.Key) != len(e.TableKey) {
		errs = append(errs, fmt.Errorf("the key has %d columns, the table's has %d", len(e.Key), len(e.TableKey)))
	}
	for i := range min(len(fields), len(tableFields)) {
		if a, b := &fields[i].Type, &tableFields[i].Type; err == nil && tableErr == nil && !sameKeys(a, b) {
			errs = append(errs, fmt.Errorf("key: column %q is %s, the table's column %q is %s: no value of one equals one of the other",
				fields[i].Name, a, tableFields[i].Name, b))
		}
	}
	if e.Missing != "" && e.Missing != MissingNull && e.Missing != MissingDeadLetter {
		errs = append(errs, fmt.Errorf("missing: %q is neither null nor dead_letter", e.Missing))
	}
	o := &enrichOperator{id: e.ID, out: &record.Schema{Fields: slices.Clone(in.Fields)}, refuseMissing: e.Missing == MissingDeadLetter}
	errs = append(errs, o.bindColumns(e))
	if err := errors.Join(errs...); err != nil {
		return KeyedBinding{}, misconfigured(e.ID, err)
	}
	described := state.Describe(e.ID, "table", state.KindValue, state.Codec[[]byte](o.codec))
	states := []state.Descriptor{describeKey(e.ID, tableFields), described}
	return KeyedBinding{Out: o.out, States: states, Open: func(t *state.Task) (Operator, error) {
		table, err := state.NewValue(t, described, state.Codec[[]byte](o.codec), state.TTL{})
		if err != nil {
			return nil, err
		}
		own := *o
		own.t, own.table, own.r = t, table, refuser{step: e.ID}
		own.found = make([]record.Column, len(o.codec.Types))
		for i := range own.found {
			own.found[i] = record.NewColumn(o.codec.Types[i])
			own.pointers = append(own.pointers, &own.found[i])
		}
		return &own, nil
	}}, nil
}

// sameKeys tells whether equal values of two types are equal keys, see [state.AppendKey].
func sameKeys(a, b *record.Type) bool {
	switch {
	case isInteger(a) && isInteger(b), isFloat(a) && isFloat(b):
		return true
	case a.Kind == record.Decimal && b.Kind == record.Decimal:
		return a.Scale == b.Scale
	case a.Kind == record.Array && b.Kind == record.Array:
		return sameKeys(a.Elem, b.Elem)
	}
	return a.SameLayout(b)
}

// bindColumns finds the columns that are added.
func (o *enrichOperator) bindColumns(e *Enrich) error {
	var errs []error
	if len(e.Columns) == 0 {
		errs = append(errs, errors.New("columns: there must be at least one"))
	}
	for _, c := range e.Columns {
		at := e.Table.Index(c.From)
		if at < 0 {
			errs = append(errs, fmt.Errorf("column %q: the table has no column %q; it has %s", c.Column, c.From, columnNames(e.Table)))
			continue
		}
		t := e.Table.Fields[at].Type
		o.from = append(o.from, at)
		o.codec.Types = append(o.codec.Types, t)
		t.Nullable = t.Nullable || !o.refuseMissing
		o.out.Fields = append(o.out.Fields, record.Field{Name: c.Column, Type: t, Optional: t.Nullable})
	}
	if len(errs) == 0 {
		errs = append(errs, o.out.Check())
	}
	return errors.Join(errs...)
}

type enrichOperator struct {
	id            string
	out           *record.Schema
	from          []int // the columns of the table that are kept
	codec         state.Tuple
	refuseMissing bool

	t        *state.Task
	table    state.Value[[]byte]
	r        refuser
	found    []record.Column // one row
	pointers []*record.Column
	buf      []byte
}

var _ TableOperator = (*enrichOperator)(nil)

// Update takes rows of the table.
func (o *enrichOperator) Update(b *record.Batch, keys *state.Keys, deleted func(row int) bool) {
	for row := range b.Rows {
		o.t.For(keys.Key(row), keys.Group(row))
		if deleted(row) {
			o.table.Clear()
			continue
		}
		o.buf = o.codec.AppendRow(o.buf[:0], b, o.from, row)
		o.table.Set(o.buf)
	}
}

// Process adds the columns to the rows of a batch.
func (o *enrichOperator) Process(b *record.Batch, keys *state.Keys, res *KeyedResult) error {
	rows, first := b.Rows, len(b.Cols)
	o.r.begin(b)
	for i := range o.codec.Types {
		b.AddColumn(&o.out.Fields[first+i].Type)
	}
	for row := range rows {
		o.t.For(keys.Key(row), keys.Group(row))
		stored, ok, err := o.table.Get()
		if err != nil {
			return err
		}
		if !ok {
			o.miss(b, first, row)
			continue
		}
		for i := range o.found {
			o.found[i].Truncate(0)
		}
		if err := o.codec.ReadRow(stored, o.pointers...); err != nil {
			return err
		}
		for i := range o.found {
			b.Cols[first+i].AppendFrom(&o.found[i], 0)
		}
	}
	b.Schema = o.out
	return o.end(b, keys, res, rows)
}

// miss deals with a row whose key is not in the table.
func (o *enrichOperator) miss(b *record.Batch, first, row int) {
	for i := range o.found {
		if c := &b.Cols[first+i]; c.Type.Nullable {
			c.AppendNull()
		} else {
			c.AppendZero()
		}
	}
	if o.refuseMissing {
		o.r.refuse(row, "", "the table has no row with this key")
	}
}

// end takes the refused rows out.
func (o *enrichOperator) end(b *record.Batch, keys *state.Keys, res *KeyedResult, rows int) error {
	o.r.end(b, &res.Result)
	if o.r.leaving > 0 {
		keys.Keep(o.r.kept)
	}
	invariant.Check("I12", keys.Len() == b.Rows && rows == b.Rows+o.r.leaving, "step", o.id, "in", rows, "passed", b.Rows, "keys", keys.Len())
	return nil
}

// Advance has nothing to do: nothing in the table ends by time.
func (*enrichOperator) Advance(int64, int64, *record.Batch, *KeyedResult) error { return nil }

// End has nothing to do: no row waits.
func (*enrichOperator) End(*record.Batch, *KeyedResult) error { return nil }
