package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// keyedTask is one goroutine that owns key groups: it takes what the source tasks send, runs the keyed steps and all behind them,
// and writes. Everything in it belongs to that goroutine but its queues.
type keyedTask struct {
	output
	index  int // among the keyed tasks
	x      *exchange
	state  *state.Task
	stages []keyedStage
	tables map[string]step.TableOperator // by the name of their step
	first  int                           // place of the first stage in the accounts
	groups int

	applied chan *state.Frozen // layers that the local database shows, in order
	full    func(bool)         // tells whether the changes have reached their bound
	ended   func()             // told once the input of all source tasks is over
	freezes func(record.Checkpoint)

	marks    []int64   // watermark of each edge
	over     []bool    // edges that have ended, or that only bring rows of tables
	at       int64     // the watermark of all
	cut      *sink.Cut // the barrier that is being aligned
	aligned  []bool    // edges on which it has come
	held     []parcel  // what came behind it, in the order of arrival: rows of a table stay before what is to find them
	finished bool      // End was called
	isFull   bool
	rest     []parcel // to be taken before anything else
}

// keyedStage is one step of the second stage: an operator, or a step without state.
type keyedStage struct {
	name  string
	op    step.Operator
	key   []int // columns of the key in the batches that the operator gets
	apply step.Apply
	made  *record.Schema // of what the operator makes
	out   *record.Batch  // by time
	keys  state.Keys     // of out
}

// advanceEvery is how often processing time goes on while no rows come.
const advanceEvery = time.Second

// run works until the final barrier, an error or the end of ctx.
func (t *keyedTask) run(ctx context.Context) error {
	tick := time.NewTicker(advanceEvery)
	defer tick.Stop()
	if err := t.advance(ctx); err != nil { // operators want to know the time before their first row
		return err
	}
	for {
		p, ok, err := t.next(ctx, tick.C)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		final, err := t.receive(ctx, p)
		if final || err != nil {
			return err
		}
	}
}

// next returns the next parcel, or does what is due besides.
func (t *keyedTask) next(ctx context.Context, tick <-chan time.Time) (p parcel, ok bool, err error) {
	if p, ok = t.takeRest(); ok {
		return p, true, nil
	}
	select {
	case p = <-t.x.inboxes[t.index]:
		return p, true, nil
	case f := <-t.applied:
		t.forget(f)
	case <-tick:
		return parcel{}, false, t.tick(ctx)
	case <-ctx.Done():
		return parcel{}, false, context.Cause(ctx)
	}
	return parcel{}, false, nil
}

// sweepMost bounds how many expired entries are looked for at once.
const sweepMost = 1000

// tick lets processing time go on, and drops some of what has expired.
func (t *keyedTask) tick(ctx context.Context) error {
	if err := t.advance(ctx); err != nil {
		return err
	}
	if _, err := t.state.Sweep(sweepMost); err != nil {
		return err
	}
	t.tellFull()
	return nil
}

func (t *keyedTask) takeRest() (parcel, bool) {
	if len(t.rest) == 0 {
		return parcel{}, false
	}
	p := t.rest[0]
	t.rest = t.rest[1:]
	return p, true
}

// receive takes one parcel, or keeps it when its edge has passed the barrier that others have not.
func (t *keyedTask) receive(ctx context.Context, p parcel) (final bool, err error) {
	if t.cut != nil && t.aligned[p.from] {
		t.held = append(t.held, p)
		return false, nil
	}
	defer t.x.credit(t.index, p.from)
	if p.rows != nil {
		err := t.rows(ctx, p.rows)
		p.rows.done()
		if err != nil {
			return false, err
		}
	}
	t.marks[p.from] = p.watermark
	switch {
	case p.barrier != nil:
		return t.align(ctx, p)
	case p.ended:
		t.over[p.from] = true
	}
	if err := t.advance(ctx); err != nil {
		return false, err
	}
	return false, t.end(ctx)
}

// align notes a barrier. When it has come on all edges the checkpoint is cut, and what was kept is next.
func (t *keyedTask) align(ctx context.Context, p parcel) (final bool, err error) {
	if t.cut == nil {
		t.cut = p.barrier
	}
	if t.cut.Checkpoint != p.barrier.Checkpoint {
		return false, fault.E("pipeline.keyedTask", fault.Unknown, fmt.Errorf("the barrier of checkpoint %d meets that of %d", p.barrier.Checkpoint, t.cut.Checkpoint))
	}
	t.aligned[p.from] = true
	if slices.Contains(t.aligned, false) {
		return false, nil
	}
	c := *t.cut
	t.cut = nil
	clear(t.aligned)
	t.rest = append(t.held, t.rest...) // what was kept came before what is left
	t.held = nil
	t.freezes(c.Checkpoint)
	frozen := t.state.Freeze()
	err = t.output.cut(ctx, c, func(p *part) {
		p.frozen, p.watermark, p.changed, p.expired = frozen, t.at, t.state.DirtyBytes(), t.state.Expired()
	})
	return c.Final, err
}

// forget drops changes that the local database shows.
func (t *keyedTask) forget(f *state.Frozen) {
	t.state.Applied(f)
	t.tellFull()
}

func (t *keyedTask) tellFull() {
	if full := t.state.Full(); full != t.isFull {
		t.isFull = full
		t.full(full)
	}
}

// rows takes a shipment all the way to the writers, or into the table that it is of.
func (t *keyedTask) rows(ctx context.Context, s *shipment) error {
	if s.table != "" {
		t.tables[s.table].Update(s.batch, &s.keys, func(row int) bool { return s.gone[row] })
		t.tellFull()
		return nil
	}
	t.meter.begin(t.name, "hands rows to the sinks")
	defer t.meter.end(t.name)
	t.letters.Reset()
	if err := t.through(ctx, 0, s.batch, &s.keys); err != nil {
		return err
	}
	t.tellFull()
	return t.bury(ctx)
}

// through runs the stages from one on, and writes what is left. keys is nil when it has to be made.
func (t *keyedTask) through(ctx context.Context, from int, b *record.Batch, keys *state.Keys) error {
	for i := from; i < len(t.stages) && b.Rows > 0; i++ {
		g := &t.stages[i]
		if g.op == nil {
			t.step(t.first+i, g.apply, b)
			keys = nil
			continue
		}
		if keys == nil {
			var err error
			if keys, err = t.keysOf(g, b); err != nil {
				return err
			}
		}
		in := int64(b.Rows)
		t.result = step.KeyedResult{Result: step.Result{Refused: t.result.Refused[:0]}}
		if err := g.op.Process(b, keys, &t.result); err != nil {
			return fmt.Errorf("step %q: %w", g.name, err)
		}
		t.refuse("")
		t.account(t.first+i, in, int64(b.Rows))
	}
	return t.write(ctx, b)
}

// keysOf makes the keys of rows again. Steps in between must have left the key as it was: only the task that owns a key group may
// change its state.
func (t *keyedTask) keysOf(g *keyedStage, b *record.Batch) (*state.Keys, error) {
	g.keys.Reset()
	for row := range b.Rows {
		g.keys.AppendRow(b, g.key, row, t.groups)
		if owner(g.keys.Group(row), len(t.x.inboxes)) != t.index {
			return nil, fault.WithRemedy("pipeline.keyedTask", fault.Misconfigured, fmt.Errorf("step %q: the key was changed behind an earlier keyed step", g.name),
				"change key columns before the first keyed step")
		}
	}
	return &g.keys, nil
}

// advance tells the operators how far time has come, and takes what they make of it to the writers.
func (t *keyedTask) advance(ctx context.Context) error {
	t.at = max(t.at, t.watermark())
	return t.due(ctx, func(op step.Operator, out *record.Batch, res *step.KeyedResult) error {
		return op.Advance(t.at, clock(), out, res)
	})
}

// end tells the operators once that no row follows, when it is so on all edges.
func (t *keyedTask) end(ctx context.Context) error {
	if t.finished || slices.Contains(t.over, false) {
		return nil
	}
	t.finished = true
	if err := t.due(ctx, func(op step.Operator, out *record.Batch, res *step.KeyedResult) error { return op.End(out, res) }); err != nil {
		return err
	}
	t.ended()
	return nil
}

// due asks each operator for rows until it has no more.
func (t *keyedTask) due(ctx context.Context, ask func(op step.Operator, out *record.Batch, res *step.KeyedResult) error) error {
	t.letters.Reset()
	for i := range t.stages {
		g := &t.stages[i]
		for g.op != nil {
			g.out.Reshape(g.made) // steps behind may have changed its columns
			t.result = step.KeyedResult{Result: step.Result{Refused: t.result.Refused[:0]}}
			if err := ask(g.op, g.out, &t.result); err != nil {
				return fmt.Errorf("step %q: %w", g.name, err)
			}
			t.refuse("")
			t.account(t.first+i, 0, int64(g.out.Rows))
			if g.out.Rows == 0 {
				break
			}
			if err := t.through(ctx, i+1, g.out, nil); err != nil {
				return err
			}
		}
	}
	t.tellFull()
	return t.bury(ctx)
}

// watermark is the least of all edges that have not ended and have splits. Without any it is where it was: what waits for an end
// is asked for by End.
func (t *keyedTask) watermark() int64 {
	least := noSplits
	for from, mark := range t.marks {
		if !t.over[from] {
			least = min(least, mark)
		}
	}
	if least == noSplits {
		return t.at
	}
	return least
}
