package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// actor is a queue of what one goroutine does, one after the other.
type actor chan func(ctx context.Context)

// actorQueue bounds an actor's queue: the machine asks one thing at a time of each, and a little beside it.
const actorQueue = 64

func (a actor) run(ctx context.Context) {
	for {
		select {
		case f := <-a:
			f(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// do queues f. It gives up when the run ends.
func (a actor) do(ctx context.Context, f func(ctx context.Context)) {
	select {
	case a <- f:
	case <-ctx.Done():
	}
}

// offer queues f unless the queue is full.
func (a actor) offer(f func(ctx context.Context)) {
	select {
	case a <- f:
	default:
	}
}

// sinkActor owns one sink's committer: fence, commit and replace, one at a time.
type sinkActor struct {
	actor
	owner     *run
	index     int
	name      string
	plugin    sink.Plugin
	sink      sink.Sink
	committer sink.Committer
	flying    record.Checkpoint  // under way; owned by the loop
	done      record.Checkpoint  // the last that is known Committed; owned by the loop
	since     time.Time          // when that was asked for first; owned by the loop
	rejected  []sink.RejectedRow // of the last commit
	letters   []sink.RejectedRow // replaced, and waiting for the coordinator's writer; owned by the loop
}

func (a *sinkActor) fence(ctx context.Context, e machine.FenceSink, lease record.Lease) {
	err := a.open(ctx, e, lease)
	if err == nil {
		err = a.committer.Fence(ctx)
	}
	if err != nil {
		a.owner.send(machine.SinkFenced{Sink: a.index, Kind: fault.KindOf(err), Text: fmt.Sprintf("sink %q: %s", a.name, describe(err))})
		return
	}
	a.owner.send(machine.SinkFenced{Sink: a.index, OK: true})
}

// open opens the sink under the run's lease, once.
func (a *sinkActor) open(ctx context.Context, e machine.FenceSink, lease record.Lease) error {
	if a.committer != nil {
		return nil
	}
	r := a.owner
	s, err := a.plugin.Open(ctx, sink.Env{
		Identity: r.identity(a.name), Lease: lease, Tasks: r.def.parts() + 1, AtLeastOnce: r.def.Delivery == config.AtLeastOnce,
		Segments: r.segments, Cache: r.def.cache(),
	})
	if err != nil {
		return err
	}
	if err := s.Restore(ctx, e.State, e.Pending); err != nil {
		return errors.Join(err, s.Close())
	}
	a.sink, a.committer = s, s.Committer()
	return nil
}

func (a *sinkActor) commit(ctx context.Context, c sink.Committable) {
	outcome, rows, err := a.committer.Commit(ctx, c)
	if outcome == sink.Committed {
		inject.Point(inject.AfterEffect)
	}
	done := machine.CommitDone{Sink: a.index, Outcome: outcome}
	if err != nil {
		done.Text = fmt.Sprintf("sink %q, checkpoint %d of lease %d, %d rows: %s", a.name, c.Checkpoint, c.Lease, c.Rows, describe(err))
	}
	if again := outcome == sink.Retry || outcome == sink.Unknown; again && err != nil && stops(fault.KindOf(err)) {
		a.owner.send(machine.Failed{Kind: fault.KindOf(err), Text: done.Text}) // no other attempt helps
		return
	}
	a.rejected = rows
	for _, r := range rows {
		done.Rows = append(done.Rows, r.Row)
	}
	a.owner.send(done)
}

func (a *sinkActor) replace(ctx context.Context, e machine.Replace) {
	by, err := a.committer.Replace(ctx, e.Committable, a.rejected, e.Unit)
	if err != nil {
		a.owner.send(machine.ReplaceDone{Sink: a.index, Kind: fault.KindOf(err), Text: fmt.Sprintf("sink %q: %s", a.name, describe(err))})
		return
	}
	letters := a.rejected
	a.owner.env.Metrics.DeadLetters(checkpoint.SinkStage+a.name, int64(len(letters)))
	a.owner.post(func() {
		a.letters = append(a.letters, letters...)
		a.owner.step(machine.ReplaceDone{Sink: a.index, OK: true, By: by})
	})
}
