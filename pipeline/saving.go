package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/savepoint"
)

// saving is a savepoint that is asked of a run: at a checkpoint of its own, at which sinks hold nothing back, and when all that it
// lists is committed. It belongs to the run's loop, but for the answer.
type saving struct {
	ctx      context.Context //nolint:containedctx // of who asks: when it ends nobody waits any more
	ask      SavepointRequest
	cut      record.Checkpoint // 0 while the barrier is awaited
	of       logged            // once that is published
	copying  bool
	collects []machine.Collect // what is not deleted while it is copied
	answered chan saved        // with room for the answer
}

type saved struct {
	index savepoint.Index
	err   error
}

const opSaving = "pipeline.Savepoint"

// Savepoint makes a savepoint of the pipeline while it runs: a checkpoint is cut for it, and it is copied when every committable up to
// it is committed. Until then nothing is collected; the pipeline goes on meanwhile. It waits until ctx ends. When the pipeline has ended
// the newest checkpoint is copied.
//
// Error kinds: fault.Misconfigured when the name is taken, fault.Transient when ctx ended or the run did, those of [CreateSavepoint].
func (s *Supervisor) Savepoint(ctx context.Context, q SavepointRequest) (savepoint.Index, error) {
	if err := savepoint.CheckName(q.Name); err != nil {
		return savepoint.Index{}, err
	}
	if st := s.Status().State; st == Finished || st == Down {
		return CreateSavepoint(ctx, s.def, s.env, q)
	}
	w := &saving{ctx: ctx, ask: q, answered: make(chan saved, 1)}
	select {
	case s.saves <- w:
	case <-ctx.Done():
		return savepoint.Index{}, fault.E(opSaving, fault.Transient, fmt.Errorf("the pipeline is %s: %w", s.Status().State, context.Cause(ctx)))
	}
	a := <-w.answered // a run answers when ctx ends, and when it ends itself
	return a.index, a.err
}

// save begins a savepoint.
func (r *run) save(w *saving) {
	if r.saving != nil {
		w.answered <- saved{err: fault.E(opSaving, fault.Transient, errors.New("another savepoint of the pipeline is being made"))}
		return
	}
	r.saving = w
	context.AfterFunc(w.ctx, func() { r.post(func() { r.forgetSaving(w) }) })
	r.step(machine.Requested{Request: machine.RollNow})
}

// noteSaving follows the checkpoint that a savepoint is to be of.
func (r *run) noteSaving(e machine.Effect) {
	w := r.saving
	if w == nil {
		return
	}
	switch e := e.(type) {
	case machine.Barrier:
		if e.Cut.Roll && w.cut == 0 {
			w.cut = e.Cut.Checkpoint
		}
	case machine.Published:
		if e.Manifest.Checkpoint == w.cut {
			r.published(w, logged{e.Seq, e.Manifest})
		}
	case machine.List, machine.Get, machine.Create, machine.FenceSink, machine.Commit, machine.Replace, machine.Discover, machine.Run, machine.AddSplits,
		machine.Letters, machine.Assemble, machine.Edit, machine.Settled, machine.Collect, machine.Sweep, machine.SetTimer, machine.Stop:
	}
}

// published takes the checkpoint, unless a writer has gone on with rows that were to be handed out: then another is asked for.
func (r *run) published(w *saving, of logged) {
	err := holdsNothing(r.def, &of.man)
	switch {
	case errors.Is(err, errHeld):
		w.cut = 0
		r.step(machine.Requested{Request: machine.RollNow})
	case err != nil:
		r.endSaving(w, saved{err: err})
	default:
		w.of = of
	}
}

// saveIfCommitted copies the checkpoint once nothing of it is pending.
func (r *run) saveIfCommitted() {
	w := r.saving
	if w == nil || w.copying || w.of.seq == 0 || !r.machine.CommittedUpTo(w.cut) {
		return
	}
	_, names := r.def.sinks()
	w.of.man.Sinks = slices.Clone(w.of.man.Sinks)
	for i := range w.of.man.Sinks {
		st := &w.of.man.Sinks[i]
		if !slices.Contains(names, st.Name) && len(st.Pending) > 0 {
			r.endSaving(w, saved{err: fault.E(opSaving, fault.Misconfigured, fmt.Errorf("sink %q, which the config does not have any more, has commits pending", st.Name))})
			return
		}
		settleSink(st)
	}
	w.copying = true
	r.wg.Go(func() {
		ctx, cancel := context.WithCancelCause(w.ctx)
		defer cancel(nil)
		stop := context.AfterFunc(r.ctx, func() { cancel(context.Cause(r.ctx)) })
		defer stop()
		index, err := writeSavepoint(ctx, r.def, r.env, w.ask, w.of)
		w.answered <- saved{index, err}
		r.post(func() { r.goOnCollecting(w) })
	})
}

// holdCollect keeps what may be part of a savepoint from being deleted until that is made.
func (r *run) holdCollect(e machine.Collect) bool {
	if r.saving == nil {
		return false
	}
	r.saving.collects = append(r.saving.collects, e)
	return true
}

// forgetSaving ends a savepoint that nobody waits for any more. A copy that is under way ends by itself, and answers.
func (r *run) forgetSaving(w *saving) {
	if r.saving != w || w.copying {
		return
	}
	what := "its checkpoint is not published"
	if w.of.seq > 0 {
		what = fmt.Sprintf("checkpoint %d is not committed by every sink", w.cut)
	}
	r.endSaving(w, saved{err: fault.E(opSaving, fault.Transient, fmt.Errorf("given up: %s: %w", what, context.Cause(w.ctx)))})
}

func (r *run) endSaving(w *saving, a saved) {
	w.answered <- a
	r.goOnCollecting(w)
}

// goOnCollecting deletes what was kept for a savepoint.
func (r *run) goOnCollecting(w *saving) {
	if r.saving != w {
		return
	}
	r.saving = nil
	for _, e := range w.collects {
		r.collector.offer(func(ctx context.Context) { r.collect(ctx, e) })
	}
}

// leaveSaving answers who waits for a savepoint when the run ends.
func (r *run) leaveSaving() {
	if w := r.saving; w != nil && !w.copying {
		text := "the run ended before the savepoint was made"
		if r.stopped != nil {
			text += ": " + r.stopped.Text
		}
		w.answered <- saved{err: fault.WithRemedy(opSaving, fault.Transient, errors.New(text), "the same command again")}
	}
}
