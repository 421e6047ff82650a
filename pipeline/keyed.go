package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// Keyed makes a keyed step one of a pipeline's steps. The first one begins the second stage: it and all steps behind it run in the
// keyed tasks, after the exchange.
func Keyed(s step.KeyedStep) step.Step { return keyedStep{s} }

// keyedStep is a keyed step among others. Its Apply is nil: an operator takes its place.
type keyedStep struct{ step.KeyedStep }

// Bind checks the step and returns what comes out of it.
func (k keyedStep) Bind(in *record.Schema) (*record.Schema, step.Apply, error) {
	b, err := k.BindKeyed(in)
	return b.Out, nil, err
}

// Want asks the keyed step, if it knows what it needs; else nobody knows it.
func (k keyedStep) Want(out *record.Schema) *record.Schema {
	if w, ok := k.KeyedStep.(step.Wanter); ok {
		return w.Want(out)
	}
	return nil
}

// firstKeyed returns the place of the first keyed step, or the number of steps without any.
func (d *Definition) firstKeyed() int {
	for i, s := range d.Steps {
		if _, ok := s.(keyedStep); ok {
			return i
		}
	}
	return len(d.Steps)
}

// hasState reports whether the pipeline has keyed steps.
func (d *Definition) hasState() bool { return d.firstKeyed() < len(d.Steps) }

// parts is how many tasks give a part to each checkpoint: the source tasks, as many keyed tasks behind them, and those of tables.
func (d *Definition) parts() int {
	if d.hasState() {
		return d.tableTask(len(d.Tables))
	}
	return d.Tasks
}

// keyedPlan is what a pipeline's second stage works on.
type keyedPlan struct {
	in      *record.Schema // what goes through the exchange
	key     []string       // the key of all keyed steps
	routes  []int          // its columns in in
	event   step.EventTime
	byEvent bool
	column  string // of the event time
	states  []state.Descriptor
	fixed   []string // steps whose state is that of a table
}

// wanted is what the steps want of stored state, and what a person gives up of it.
func (k *keyedPlan) wanted(discard []string) state.Wanted {
	return state.Wanted{States: k.states, Fixed: k.fixed, Discard: discard}
}

// bind takes a step into the plan. All keyed steps have the same key, and the same event time, which the rows have before the
// first of them.
func (k *keyedPlan) bind(s step.Step, in *record.Schema) error {
	ks, ok := s.(keyedStep)
	if !ok {
		return nil
	}
	const op = "pipeline.plan"
	b, err := ks.BindKeyed(in)
	if err != nil {
		return err
	}
	k.states = append(k.states, b.States...)
	if _, is := ks.KeyedStep.(*step.Enrich); is {
		k.fixed = append(k.fixed, ks.Name())
	}
	if k.key == nil {
		k.key = ks.KeyColumns()
		for _, name := range k.key {
			k.routes = append(k.routes, k.in.Index(name))
		}
	}
	if !slices.Equal(k.key, ks.KeyColumns()) {
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("its key is %q, that of the keyed step before is %q", ks.KeyColumns(), k.key),
			"give all keyed steps of a pipeline the same key, or write to a topic by the one and read it by another pipeline with the other")
	}
	timed, ok := ks.KeyedStep.(step.EventTimed)
	if !ok {
		return nil
	}
	column, needed := timed.EventTimeColumn()
	switch {
	case !needed:
	case !k.byEvent:
		k.byEvent, k.column = true, column
		if k.event, err = step.NewEventTime(k.in, column); err != nil {
			return fault.E(op, fault.Misconfigured, fmt.Errorf("time_column: %w", err))
		}
	case column != k.column:
		return fault.E(op, fault.Misconfigured, fmt.Errorf("its time_column is %q, that of a keyed step before is %q", column, k.column))
	}
	return nil
}

// equip gives a keyed task the stages from the first keyed step on.
func (k *keyedPlan) equip(t *keyedTask, def *Definition) error {
	schema := k.in
	for _, s := range def.Steps[def.firstKeyed():] {
		g := keyedStage{name: s.Name()}
		if ks, ok := s.(keyedStep); ok {
			b, err := ks.BindKeyed(schema)
			if err != nil {
				return err
			}
			for _, name := range ks.KeyColumns() {
				g.key = append(g.key, schema.Index(name))
			}
			if g.op, err = b.Open(t.state); err != nil {
				return fmt.Errorf("step %q: %w", g.name, err)
			}
			schema, g.out, g.made = b.Out, record.NewBatch(b.Out), b.Out
		} else {
			out, apply, err := s.Bind(schema)
			if err != nil {
				return fmt.Errorf("step %q: %w", g.name, err)
			}
			schema, g.apply = out, apply
		}
		if op, ok := g.op.(step.TableOperator); ok {
			t.tables[g.name] = op
		}
		t.stages = append(t.stages, g)
	}
	return nil
}

// toKeyed is the way from a source task to the keyed tasks: rows by their key, and how far event time has come. Its methods do
// nothing on nil, as in a pipeline without keyed steps.
type toKeyed struct {
	*router
	event   step.EventTime
	byEvent bool
	tracker *step.WatermarkTracker
	splits  map[string]bool  // that are read
	newest  map[string]int64 // of splits, as the checkpoint says that was begun from
}

// noSplits is the mark of a source task that reads no split: it holds no watermark back.
const noSplits int64 = math.MaxInt64

// mark is the watermark after everything that was sent.
func (k *toKeyed) mark() int64 {
	if len(k.splits) == 0 {
		return noSplits
	}
	return k.tracker.Watermark(clock())
}

func clock() int64 { return time.Now().UnixMilli() }

// add begins with a split.
func (k *toKeyed) add(sp source.Split) {
	if k == nil || sp.Finished {
		return
	}
	newest, known := k.newest[sp.Split]
	if !known {
		newest = state.NoTime
	}
	k.tracker.Add(sp.Split, newest, clock())
	k.splits[sp.Split] = true
}

// remove ends with a split that is finished: it holds the watermark back no longer.
func (k *toKeyed) remove(split string) {
	if k != nil {
		k.tracker.Remove(split)
		delete(k.splits, split)
	}
}

// rows sends a batch on, with the watermark after it.
func (k *toKeyed) rows(ctx context.Context, b *record.Batch) error {
	if b.Rows == 0 {
		return nil
	}
	if k.byEvent {
		newest := state.NoTime
		for row := range b.Rows {
			if at, ok := k.event.At(b, row); ok {
				newest = max(newest, at)
			}
		}
		k.tracker.Observe(b.Meta.Split, newest, clock())
	}
	return k.route(ctx, b, k.mark())
}

// idle tells the keyed tasks of a watermark that has moved without rows: splits were silent for long enough, are finished, or
// there are none.
func (k *toKeyed) idle(ctx context.Context) error {
	if k == nil || !k.byEvent {
		return nil
	}
	w := k.mark()
	if w == k.told {
		return nil
	}
	k.told = w
	return k.tell(ctx, parcel{})
}

// barrier sends a barrier along all edges, behind everything that was sent before.
func (k *toKeyed) barrier(ctx context.Context, c sink.Cut) error {
	if k == nil {
		return nil
	}
	return k.tell(ctx, parcel{barrier: &c})
}

// end tells that no row follows.
func (k *toKeyed) end(ctx context.Context) error {
	if err := k.idle(ctx); err != nil {
		return err
	}
	return k.tell(ctx, parcel{ended: true})
}

// times returns how far event time has come in each split.
func (k *toKeyed) times() []step.SplitTime {
	if k == nil || !k.byEvent {
		return nil
	}
	return k.tracker.Splits()
}
