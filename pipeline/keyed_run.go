package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// newKeeper returns the keeper of a run before anything is restored, nil without keyed steps.
func (r *run) newKeeper() *keeper {
	if !r.def.hasState() {
		return nil
	}
	return &keeper{
		objects: checkpoint.NewStateObjects(r.def.Store, r.def.ID), log: r.env.Log, groups: r.groups, exported: make(chan *local.Base, 1), discards: r.discards,
		applied: func(task int, f *state.Frozen) { r.keyed[task].applied <- f },
	}
}

// openState has the keeper restore keyed state, waits for it, and makes what the tasks of both stages share.
func (r *run) openState(from *checkpoint.KeyedState, lease record.Lease) error {
	if r.keeper == nil {
		return nil
	}
	r.exchange = newExchange(r.def.edges(), r.def.Tasks)
	done := make(chan error, 1)
	r.kept.do(r.ctx, func(ctx context.Context) { done <- r.restoreState(ctx, from, lease) })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("keyed state: %w", err)
		}
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

func (r *run) restoreState(ctx context.Context, from *checkpoint.KeyedState, lease record.Lease) error {
	const who = "keyed state"
	trace(r.env.Log, StepRestore, 0)
	r.meter.begin(who, "open the local database")
	defer r.meter.end(who)
	const parts = 2 // of the memory: the local database's, and the tasks'
	var err error
	if r.keeper.db, err = openState(r.env.State, r.def.ID, r.def.StateMemory/parts, r.env.Log); err != nil {
		return err
	}
	r.keeper.prefix = checkpoint.StatePrefix(0, lease)
	began := time.Now()
	err = r.keeper.restore(ctx, from, r.plan.keyed, func(text string) { r.meter.begin(who, text) })
	inject.Point(inject.AfterRestore)
	if err != nil {
		return err
	}
	trace(r.env.Log, StepRestored, 0)
	r.env.Log.Info("keyed state is restored", slog.Uint64("delta", r.keeper.kept.State.Seq), slog.String("took", time.Since(began).Round(time.Millisecond).String()))
	return nil
}

// closeState closes the local database; one that failed is emptied, so that the next run restores it.
func (r *run) closeState() {
	if r.keeper == nil || r.keeper.db == nil {
		return
	}
	logClose(r.env.Log, "keyed state", r.keeper.db.Close())
	if r.poisoned.Load() {
		r.env.Log.Warn("local keyed state is thrown away, and is restored from the checkpoint store")
		logClose(r.env.Log, "keyed state", r.env.State.Wipe(r.def.ID))
	}
}

// connect gives a source task its way to the keyed tasks.
func (r *run) connect(t *task) {
	if r.keeper == nil {
		return
	}
	k := r.plan.keyed
	t.keyed = &toKeyed{
		router: newRouter(r.exchange, t.number, k.routes, r.groups), event: k.event, byEvent: k.byEvent,
		tracker: step.NewWatermarkTracker(r.def.EventTime), splits: map[string]bool{}, newest: map[string]int64{},
	}
	for _, s := range r.keeper.kept.Times {
		t.keyed.newest[s.Split] = s.Newest
	}
	t.drain = func(ctx context.Context) error {
		if !r.def.Source.Bounded() {
			return nil
		}
		return t.keyed.end(ctx)
	}
}

// openKeyed opens a keyed task.
func (r *run) openKeyed(n int) (*keyedTask, error) {
	tasks, edges := r.def.Tasks, r.def.edges()
	t := &keyedTask{
		output: r.newOutput(tasks + n), index: n, x: r.exchange, groups: r.groups, first: stepsAt + r.def.firstKeyed(),
		applied: make(chan *state.Frozen, appliedQueue), marks: make([]int64, edges), over: make([]bool, edges), aligned: make([]bool, edges),
		at: r.keeper.watermark, tables: map[string]step.TableOperator{},
	}
	for i := range t.marks {
		t.marks[i] = state.NoTime
		t.over[i] = i >= tasks // no event time comes of a table, and no end is waited for
	}
	t.full = func(full bool) {
		if full {
			r.crowded.Add(1)
			r.send(machine.Requested{Request: machine.CheckpointNow})
			return
		}
		r.crowded.Add(-1)
		r.post(r.goOn)
	}
	t.ended = func() { r.post(func() { r.onDrained(t.number) }) }
	t.freezes = func(c record.Checkpoint) { trace(r.env.Log, StepFreeze, c) }
	const shares = 4 // of the memory: two are the local database's, one is for changes, one for what was read
	t.state = state.NewTask(state.TaskOptions{
		Reader: r.keeper.db, Registry: r.keeper.registry, Groups: r.groups, Own: ownGroups(n, tasks, r.groups),
		DirtyMax: r.def.StateMemory / int64(shares*tasks), CacheBytes: r.def.StateMemory / int64(shares*tasks),
	})
	t.meter.begin(t.name, "opens steps and writers")
	defer t.meter.end(t.name)
	if err := r.plan.keyed.equip(t, r.def); err != nil {
		return t, err
	}
	return t, r.openWriters(&t.output, false)
}

// appliedQueue has room for every checkpoint that may be on its way.
const appliedQueue = 64

// onPart takes a task's part of a checkpoint. With keyed state the parts are kept until all are there: what they changed in the
// state is stored first, and one of them names it.
func (r *run) onPart(p part) {
	if r.keeper == nil {
		r.send(machine.PartDone{Checkpoint: p.checkpoint, Part: p.Part})
		return
	}
	r.post(func() {
		parts := append(r.gathered[p.checkpoint], p)
		if r.gathered[p.checkpoint] = parts; len(parts) == r.def.parts() {
			delete(r.gathered, p.checkpoint)
			r.prepareState(p.checkpoint, parts)
		}
	})
}

func (r *run) prepareState(c record.Checkpoint, parts []part) {
	byTask := make([]part, len(parts))
	for _, p := range parts {
		byTask[p.Task] = p
	}
	r.kept.do(r.ctx, func(ctx context.Context) {
		trace(r.env.Log, StepPrepare, c)
		r.meter.begin("keyed state", fmt.Sprintf("store what checkpoint %d changed", c))
		began := time.Now()
		stored, err := r.keeper.prepare(ctx, c, byTask)
		r.meter.end("keyed state")
		r.env.Metrics.Phase("state", time.Since(began))
		if err != nil {
			r.fail(fmt.Errorf("keyed state of checkpoint %d: %w", c, err))
			return
		}
		inject.Point(inject.AfterStateStored)
		byTask[0].State = stored
		r.env.Metrics.StateChanged(r.keeper.changed(byTask))
		r.env.Metrics.StateStored(r.keeper.kept.State.Bytes(), r.keeper.eventTime())
		r.post(func() {
			for _, p := range byTask {
				r.step(machine.PartDone{Checkpoint: c, Part: p.Part})
			}
		})
	})
}

// applyState lets the keeper apply what is published, and make a base when one is due.
func (r *run) applyState(c record.Checkpoint) {
	if r.keeper == nil {
		return
	}
	r.kept.do(r.ctx, func(ctx context.Context) {
		trace(r.env.Log, StepApply, c)
		r.meter.begin("keyed state", fmt.Sprintf("apply checkpoint %d to the local database", c))
		began := time.Now()
		err := r.keeper.publish(ctx, c)
		r.meter.end("keyed state")
		r.env.Metrics.Phase("apply", time.Since(began))
		if err != nil {
			r.fail(fmt.Errorf("keyed state: apply checkpoint %d: %w", c, err))
			return
		}
		trace(r.env.Log, StepApplied, c)
		r.keeper.baseIfDue(ctx, time.Now(), r.def.StateLimits, func(f func()) { r.wg.Go(f) })
	})
}

// sweepState deletes what older leases left of keyed state and no kept manifest names (I9).
func (r *run) sweepState(ctx context.Context, below record.Lease) error {
	if r.keeper == nil {
		return nil
	}
	entries, err := History(ctx, r.def)
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, e := range entries {
		if e.Err != nil {
			return e.Err
		}
		if e.Entry.Manifest == nil || e.Entry.Manifest.State() == nil {
			continue
		}
		for _, name := range e.Entry.Manifest.State().Objects {
			keep[name] = true
		}
	}
	n, err := r.keeper.objects.Sweep(ctx, 0, below, keep)
	if n > 0 {
		r.env.Log.Info("removed keyed state that no manifest names", slog.Int("objects", n))
	}
	return err
}
