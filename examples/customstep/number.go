package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// numberSpec describes the step's section; `customstep reference` documents it as those of ingestd itself.
func numberSpec() config.Spec {
	return config.Spec{
		Type: "number",
		Doc:  "Numbers the records of each key: 1, 2, 3 …, without a gap and without a number that comes twice, also over a crash.",
		Keys: []config.Key{
			{
				Name: "id", Kind: config.KindString, Min: "1", Example: "order-number",
				Doc: "The step's name, and that of its state. By default its type and its place, such as number-2.",
			},
			{Name: "key", Kind: config.KindStrings, Required: true, Example: `["user"]`, Doc: "The columns that make the key."},
			{Name: "column", Kind: config.KindString, Min: "1", Default: "number", Doc: "The column that the number goes to, an int64."},
		},
	}
}

// numberSettings is what a section may say.
type numberSettings struct {
	ID     string   `config:"id"`
	Key    []string `config:"key"`
	Column string   `config:"column"`
}

// number is the configured step.
type number struct{ numberSettings }

var (
	_ step.KeyedStep = (*number)(nil)
	_ step.Wanter    = (*number)(nil)
)

// newNumber makes the step of a section. What it returns as an error is shown with the section's place.
func newNumber(s numberSettings, env cli.Env) (step.KeyedStep, error) {
	if s.ID == "" {
		s.ID = "number-" + strconv.Itoa(env.Place)
	}
	if slices.Contains(s.Key, s.Column) {
		return nil, fmt.Errorf("column: %q is a part of the key", s.Column)
	}
	return &number{s}, nil
}

// Name returns the id.
func (n *number) Name() string { return n.ID }

// KeyColumns returns the key: all records of one key come to the same task, in their order.
func (n *number) KeyColumns() []string { return n.Key }

// Want takes the column out that the step makes: nothing before it has to.
func (n *number) Want(out *record.Schema) *record.Schema {
	return &record.Schema{Fields: slices.DeleteFunc(slices.Clone(out.Fields), func(f record.Field) bool { return f.Name == n.Column })}
}

// BindKeyed checks the columns and declares the state. A state whose type or version is another than that of an earlier run is refused
// at the start, so the key's types are declared too.
func (n *number) BindKeyed(in *record.Schema) (step.KeyedBinding, error) {
	var types []string
	for _, name := range n.Key {
		at := in.Index(name)
		if at < 0 {
			return step.KeyedBinding{}, fault.E("number", fault.Misconfigured, fmt.Errorf("key: there is no column %q", name))
		}
		if err := state.CheckKeyType(&in.Fields[at].Type); err != nil {
			return step.KeyedBinding{}, err
		}
		types = append(types, in.Fields[at].Type.String())
	}
	if in.Index(n.Column) >= 0 {
		return step.KeyedBinding{}, fault.E("number", fault.Misconfigured, fmt.Errorf("column: there is a column %q already", n.Column))
	}
	made := record.Field{Name: n.Column, Type: record.Type{Kind: record.Int64}}
	out := &record.Schema{Fields: append(slices.Clone(in.Fields), made)}
	last := state.Describe(n.ID, "last", state.KindValue, state.Int64{})
	key := state.Descriptor{Step: n.ID, Name: "key", Kind: state.KindValue, Type: "key of " + strings.Join(types, ", "), Version: 1}
	return step.KeyedBinding{
		Out: out, States: []state.Descriptor{last, key},
		Open: func(t *state.Task) (step.Operator, error) {
			value, err := state.NewValue(t, last, state.Int64{}, state.TTL{})
			return &operator{task: t, last: value, out: out, made: made.Type}, err
		},
	}, nil
}

// operator is the step in one task. It needs no lock: only the task's goroutine uses it.
type operator struct {
	task *state.Task
	last state.Value[int64] // the last number of each key
	out  *record.Schema
	made record.Type
}

var errFull = errors.New("the numbers are used up")

// Process gives each row its number. It takes no row out, so there is nothing to account for. What it changes in the state takes
// effect with the checkpoint that the rows belong to, or not at all.
func (o *operator) Process(b *record.Batch, keys *state.Keys, _ *step.KeyedResult) error {
	column := b.AddColumn(&o.made)
	for row := range b.Rows {
		o.task.For(keys.Key(row), keys.Group(row))
		n, _, err := o.last.Get()
		if err != nil {
			return err
		}
		if n++; n < 0 {
			return fault.E("number", fault.Misconfigured, errFull)
		}
		o.last.Set(n)
		column.AppendInt(n)
	}
	b.Schema = o.out
	return nil
}

// Advance has nothing to do: no row waits for a time.
func (*operator) Advance(_, _ int64, _ *record.Batch, _ *step.KeyedResult) error { return nil }

// End has nothing to do: no row waits for the end.
func (*operator) End(*record.Batch, *step.KeyedResult) error { return nil }
