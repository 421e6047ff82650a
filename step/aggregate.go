package step

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// Emit says when results come out.
type Emit string

// The ways to emit.
const (
	// EmitUpdate gives, with each batch, a row for each key (and window) that the batch changed.
	EmitUpdate Emit = "update"
	// EmitFinal gives one row for each key and window once nothing can change it any more; without a window, at the end of a bounded input
	// for each key that changed since the last such end.
	EmitFinal Emit = "final"
)

// Late says what becomes of rows whose windows are gone.
type Late string

// What becomes of late rows.
const (
	LateDeadLetter Late = "dead_letter"
	LateDrop       Late = "drop" // they are counted
)

// Aggregate computes aggregates by key, or by key and window. The rows that it makes have the key columns, with a window its start and
// end, and the aggregates. A null is no value for an aggregate; count() counts rows.
//
// A window ends when the watermark reaches its end plus the allowed lateness. A row all of whose windows have ended is late. A
// window that has ended in a key group never begins again, so it is final once (also over a restart that loses the watermark).
type Aggregate struct {
	ID      string
	Key     []string
	Columns []AggregateColumn
	Window  Window
	// Start and End name the columns of the window's bounds, timestamps in milliseconds; "": there is no such column.
	Start, End string
	Emit       Emit // "": EmitFinal with a window, EmitUpdate without
	// TimeColumn is the column of the event time; "": the records' timestamps.
	TimeColumn      string
	AllowedLateness time.Duration
	Late            Late // "": LateDeadLetter
	// TTL is how long a key without a window is kept after its last row.
	TTL state.TTL
}

// AggregateColumn is a column and the aggregate that it shows, such as sum(price * quantity).
type AggregateColumn struct {
	Column string
	Value  string
}

// EventTimed is implemented by keyed steps that work by event time: the source's watermarks must come from the same column.
type EventTimed interface {
	// EventTimeColumn returns the column ("": the records' timestamps), and whether the step needs event time at all.
	EventTimeColumn() (column string, needed bool)
}

// EndBound is implemented by keyed steps that may say nothing before a bounded input is over.
type EndBound interface {
	// WaitsForEnd reports whether it is so.
	WaitsForEnd() bool
}

var (
	_ KeyedStep  = (*Aggregate)(nil)
	_ EndBound   = (*Aggregate)(nil)
	_ EventTimed = (*Aggregate)(nil)
	_ Wanter     = (*Aggregate)(nil)
)

// Name returns the id.
func (a *Aggregate) Name() string { return a.ID }

// KeyColumns returns the key.
func (a *Aggregate) KeyColumns() []string { return a.Key }

// Want takes out all but the key: it is the decoder's config that has the columns that the aggregates read.
func (a *Aggregate) Want(out *record.Schema) *record.Schema {
	return without(out, func(name string) bool { return !slices.Contains(a.Key, name) })
}

// EventTimeColumn returns the column of the event time.
func (a *Aggregate) EventTimeColumn() (column string, needed bool) {
	return a.TimeColumn, a.Window.Kind != NoWindow || a.TTL.For > 0 && a.TTL.By == state.EventTime
}

// WaitsForEnd reports whether the step says nothing before a bounded input is over.
func (a *Aggregate) WaitsForEnd() bool { return a.Window.Kind == NoWindow && a.Emit == EmitFinal }

// aggregateBinding is an Aggregate as bound to a schema.
type aggregateBinding struct {
	step    Aggregate // with its defaults
	out     *record.Schema
	keys    int // key columns
	time    EventTime
	columns []boundColumn

	accCodec state.Versioned[[]byte]

	accumulators, closed, sessions, ends state.Descriptor
}

// boundColumn is one aggregate.
type boundColumn struct {
	typ     aggregateType
	place   []int            // of its argument; nil: none
	own     state.Descriptor // where typ.describe is not nil
	text    string           // what its accumulator is
	value   string           // the expression that is the argument, when it is no column
	hasExpr bool
}

// BindKeyed checks the settings, the key's and the arguments' types.
func (a *Aggregate) BindKeyed(in *record.Schema) (KeyedBinding, error) {
	bound := &aggregateBinding{step: *a, out: &record.Schema{}, keys: len(a.Key)}
	bound.step.defaults()
	errs := []error{bound.step.check(), bound.bindKey(in)}
	var err error
	if bound.time, err = NewEventTime(in, a.TimeColumn); err != nil {
		errs = append(errs, fmt.Errorf("time_column: %w", err))
	}
	bound.bindWindow()
	hidden := len(in.Fields)
	for _, c := range a.Columns {
		err := bound.bindColumn(c, in, &hidden)
		if err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", c.Column, err))
		}
	}
	if err = errors.Join(errs...); err == nil {
		err = bound.out.Check()
	}
	if err != nil {
		return KeyedBinding{}, misconfigured(a.ID, err)
	}
	return KeyedBinding{
		Out: bound.out, States: bound.describe(),
		Open: func(t *state.Task) (Operator, error) { return newAggregateOperator(bound, in, t) },
	}, nil
}

func (a *Aggregate) defaults() {
	if a.Emit == "" {
		a.Emit = EmitUpdate
		if a.Window.Kind != NoWindow {
			a.Emit = EmitFinal
		}
	}
	if a.Late == "" {
		a.Late = LateDeadLetter
	}
}

// check returns what is wrong with settings that exclude each other.
func (a *Aggregate) check() error {
	errs := []error{a.Window.Check()}
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.Emit != EmitUpdate && a.Emit != EmitFinal {
		refuse("emit: %q is neither update nor final", a.Emit)
	}
	if a.Late != LateDeadLetter && a.Late != LateDrop {
		refuse("late: %q is neither dead_letter nor drop", a.Late)
	}
	if a.AllowedLateness < 0 || a.AllowedLateness%time.Millisecond != 0 || a.AllowedLateness.Milliseconds() > eventTimeMax {
		refuse("allowed_lateness: %s is not a whole number of milliseconds", a.AllowedLateness)
	}
	if len(a.Columns) == 0 {
		refuse("columns: there must be at least one aggregate")
	}
	windowed := a.Window.Kind != NoWindow
	switch {
	case windowed && a.TTL.For > 0:
		refuse("ttl: a window has its own end; take the ttl out")
	case !windowed && a.AllowedLateness > 0:
		refuse("allowed_lateness: there is no window")
	case a.Window.Kind == Session && a.Emit == EmitUpdate:
		refuse(`emit: sessions can grow together, and what was emitted of one can't be taken back: use emit = "final"`)
	}
	return errors.Join(errs...)
}

// bindKey finds the key columns.
func (a *aggregateBinding) bindKey(in *record.Schema) error {
	fields, err := keyFields(a.step.Key, in)
	a.out.Fields = append(a.out.Fields, fields...)
	return err
}

// keyFields returns the fields of the columns of a key.
func keyFields(key []string, in *record.Schema) (fields []record.Field, err error) {
	var errs []error
	if len(key) == 0 {
		errs = append(errs, errors.New("key: there must be at least one column"))
	}
	for i, name := range key {
		at := in.Index(name)
		switch {
		case at < 0:
			errs = append(errs, fmt.Errorf("key: %w", unknownColumn(name, in)))
		case slices.Contains(key[:i], name):
			errs = append(errs, fmt.Errorf("key: the column %q is there twice", name))
		default:
			if err := state.CheckKeyType(&in.Fields[at].Type); err != nil {
				errs = append(errs, fmt.Errorf("key: column %q: %w", name, err))
			}
			fields = append(fields, record.Field{Name: name, Type: in.Fields[at].Type, Optional: in.Fields[at].Optional})
		}
	}
	return fields, errors.Join(errs...)
}

// describeKey returns a state that holds nothing and whose type is the key, so that state that was kept by another key is not taken
// for a step's own. An integer may change its width: its key stays the same, see [state.AppendKey].
func describeKey(step string, fields []record.Field) state.Descriptor {
	texts := make([]string, len(fields))
	for i := range fields {
		plain := fields[i].Type
		plain.Nullable, plain.Min, plain.Max = false, 0, 0
		class := plain.String()
		switch {
		case isInteger(&plain):
			class = "integer"
		case isFloat(&plain):
			class = "float"
		}
		texts[i] = fields[i].Name + " " + class
	}
	return state.Descriptor{Step: step, Name: "key", Kind: state.KindValue, Type: "key of " + strings.Join(texts, ", "), Version: 1}
}

func isInteger(t *record.Type) bool {
	return t.Kind >= record.Int8 && t.Kind <= record.Uint256
}

func (a *aggregateBinding) bindWindow() {
	if a.step.Window.Kind == NoWindow {
		a.step.Start, a.step.End = "", ""
		return
	}
	const millis = 3
	for _, name := range []string{a.step.Start, a.step.End} {
		if name != "" {
			a.out.Fields = append(a.out.Fields, record.Field{Name: name, Type: record.Type{Kind: record.Timestamp, Precision: millis}})
		}
	}
}

// bindColumn binds one aggregate. hidden is the place of the next column for the value of an expression.
func (a *aggregateBinding) bindColumn(column AggregateColumn, in *record.Schema, hidden *int) error {
	c, err := parseCall(column.Value)
	if err != nil {
		return err
	}
	bound := boundColumn{}
	var t record.Type
	switch at := in.Index(c.argument); {
	case c.argument == "":
	case at >= 0:
		t, bound.place = in.Fields[at].Type, []int{at}
	default:
		if t, err = typeOfArgument(c.argument, in); err != nil {
			return err
		}
		bound.place, bound.value, bound.hasExpr = []int{*hidden}, c.argument, true
		*hidden++
	}
	t.Min, t.Max = 0, 0 // they are what the source's or sink's column allows, not what a sum must keep
	if bound.typ, err = c.fn.bind(c, &t); err != nil {
		return err
	}
	plain := t
	plain.Nullable = false
	bound.text = c.fn.name + "()"
	switch {
	case c.fn.name == "approx_count_distinct":
		bound.text = fmt.Sprintf("%s(%s, %d)", c.fn.name, &plain, c.param)
	case c.argument != "" && c.fn.name != "count":
		bound.text = fmt.Sprintf("%s(%s)", c.fn.name, &plain)
	}
	if bound.typ.describe != nil {
		if a.step.TTL.For > 0 {
			return fmt.Errorf("%s does not go with ttl: use a window, such as a session", c.fn.name)
		}
		bound.own = bound.typ.describe(a.step.ID, fmt.Sprintf("values %d", len(a.columns)+1)) // a column may get another name
	}
	a.columns = append(a.columns, bound)
	a.out.Fields = append(a.out.Fields, record.Field{Name: column.Column, Type: bound.typ.result})
	return nil
}

func typeOfArgument(text string, in *record.Schema) (record.Type, error) {
	e, err := compile(text, in)
	if err != nil {
		return record.Type{}, err
	}
	t, ok := kindOfResult(e.result)
	if !ok {
		return t, fmt.Errorf("the type of %q is not one of a column: make a column of it with a set step before this one, and name its type there", text)
	}
	return t, nil
}

// describe lists the states. The type of the accumulators tells all that decides whether they can be read and mean the same.
func (a *aggregateBinding) describe() []state.Descriptor {
	texts := make([]string, len(a.columns))
	for i := range a.columns {
		texts[i] = a.columns[i].text
	}
	a.accCodec = accumulatorsCodec(a.step.Window.String() + ": " + strings.Join(texts, ", "))
	a.accumulators = state.Describe(a.step.ID, "accumulators", state.KindValue, state.Codec[[]byte](a.accCodec))
	list := []state.Descriptor{describeKey(a.step.ID, a.out.Fields[:a.keys]), a.accumulators}
	for i := range a.columns {
		if a.columns[i].typ.describe != nil {
			list = append(list, a.columns[i].own)
		}
	}
	if a.step.Window.Kind == NoWindow {
		return list
	}
	a.closed = state.Describe(a.step.ID, "closed", state.KindValue, state.Codec[int64](state.Int64{}))
	list = append(list, a.closed)
	if a.step.Window.Kind == Session {
		a.sessions = state.Describe(a.step.ID, "sessions", state.KindValue, state.Codec[sessions](sessionsCodec()))
		a.ends = state.DescribeTimers(a.step.ID, "ends", state.EventTime)
		list = append(list, a.sessions, a.ends)
	}
	return list
}

// accumulatorsCodec is the codec of accumulators: those of all columns, one after the other, behind a byte that says whether the result was emitted at
// the end of a bounded input.
func accumulatorsCodec(name string) state.Versioned[[]byte] {
	return state.Versioned[[]byte]{
		Name: name, V: 1,
		Put:  func(dst, v []byte) []byte { return append(dst, v...) },
		Read: func(b []byte) ([]byte, error) { return b, nil },
	}
}
