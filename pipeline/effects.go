package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// do carries out one effect. What may wait goes on beside the loop and answers by an event.
func (r *run) do(e machine.Effect) {
	switch e := e.(type) {
	case machine.List:
		r.wg.Go(func() { r.read(listLog(r.ctx, r.def, e)) })
	case machine.Get:
		r.wg.Go(func() { r.read(getEntry(r.ctx, r.def, e)) })
	case machine.Create:
		r.create(e)
	case machine.FenceSink:
		r.fence(e)
	case machine.Commit:
		r.commit(e)
	case machine.Replace:
		a := r.sinks[e.Sink]
		a.do(r.ctx, func(ctx context.Context) { a.replace(ctx, e) })
	case machine.Discover:
		r.wg.Go(func() { r.discover(e) })
	case machine.Run:
		r.start(e)
	case machine.AddSplits:
		r.whenRunning(func() { r.addSplits(e.Splits) })
	case machine.Barrier:
		r.whenRunning(func() { r.barrier(e.Cut) })
	case machine.Letters:
		r.writeLetters(e)
	case machine.Assemble:
		r.assemble(e)
	case machine.Edit:
		r.step(machine.Failed{Kind: fault.Misconfigured, Text: "a run does not edit"})
	case machine.Published:
		inject.Point(inject.AfterPublish)
		r.applyState(e.Manifest.Checkpoint)
	case machine.Settled:
		r.mirror(e.Positions)
	case machine.Collect: // what a slow store leaves behind is removed by the next start
		if !r.holdCollect(e) {
			r.collector.offer(func(ctx context.Context) { r.collect(ctx, e) })
		}
	case machine.Sweep:
		r.collector.do(r.ctx, func(ctx context.Context) { r.sweep(ctx, e) })
	case machine.SetTimer:
		r.wg.Go(func() { r.timer(e) })
	case machine.Stop:
		r.stopped = &e
	}
}

// whenRunning asks the tasks, once they run: what comes before waits for them.
func (r *run) whenRunning(f func()) {
	if len(r.tasks) == 0 {
		r.held = append(r.held, f)
		return
	}
	f()
}

func (r *run) barrier(c sink.Cut) {
	trace(r.env.Log, StepTrigger, c.Checkpoint)
	r.bytes.Store(0)
	for _, t := range slices.Concat(r.tasks, r.tables) {
		r.owe(c.Checkpoint, t.number)
		t.send(r.ctx, control{barrier: &c})
	}
	for _, t := range r.keyed {
		r.owe(c.Checkpoint, t.number)
	}
}

func (r *run) fence(e machine.FenceSink) {
	lease := r.machine.Lease()
	if r.segments == nil {
		r.segments = checkpoint.NewSegments(r.def.Store, r.def.ID, 0, lease)
	}
	a := r.sinks[e.Sink]
	a.do(r.ctx, func(ctx context.Context) { a.fence(ctx, e, lease) })
}

func (r *run) commit(e machine.Commit) {
	trace(r.env.Log, StepCommit, e.Committable.Checkpoint)
	inject.Point(inject.BeforeCommit)
	if !r.opened {
		inject.Point(inject.DuringRecovery)
	}
	a := r.sinks[e.Sink]
	if r.opened {
		r.between(a, e.Committable.Checkpoint)
	}
	if a.flying != e.Committable.Checkpoint {
		a.flying, a.since = e.Committable.Checkpoint, time.Now()
	}
	a.do(r.ctx, func(ctx context.Context) { a.commit(ctx, e.Committable) })
}

// read hands on what the store answered, and tells of an answer that it did not give: the machine asks again.
func (r *run) read(ev machine.Event, err error) {
	if err != nil && r.ctx.Err() == nil {
		r.meter.trouble(storeName, err.Error())
		r.env.Log.Warn("checkpoint store: read", slog.String("error", err.Error()))
	}
	r.send(ev)
}

// listLog answers List from the store. The error is that of an event which asks for another attempt.
func listLog(ctx context.Context, def *Definition, e machine.List) (machine.Event, error) {
	names, err := def.Store.List(ctx, checkpoint.LogPrefix(def.ID, 0), "")
	switch {
	case err != nil && stops(fault.KindOf(err)):
		return machine.Failed{Kind: fault.KindOf(err), Text: "checkpoint store: " + describe(err)}, nil
	case err != nil:
		return machine.Listed{For: e.For, Failed: true}, err
	case len(names) == 0:
		return machine.Listed{For: e.For}, nil
	}
	last, err := checkpoint.ParseEntry(def.ID, 0, names[len(names)-1])
	if err != nil {
		return machine.Failed{Kind: fault.Corrupt, Text: err.Error()}, nil //nolint:nilerr // the event says it
	}
	return machine.Listed{For: e.For, Last: last}, nil
}

// getEntry answers Get from the store. An entry that can't be read stops the pipeline: nothing may be decided without it.
func getEntry(ctx context.Context, def *Definition, e machine.Get) (machine.Event, error) {
	got := machine.Got{For: e.For, Seq: e.Seq}
	name := checkpoint.EntryName(def.ID, 0, e.Seq)
	data, err := def.Store.Get(ctx, name)
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		return got, nil
	case err != nil && stops(fault.KindOf(err)):
		return machine.Failed{Kind: fault.KindOf(err), Text: fmt.Sprintf("log entry %s: %s", name, describe(err))}, nil
	case err != nil:
		got.Failed = true
		return got, err
	}
	entry, err := checkpoint.Decode(data)
	if err != nil {
		return machine.Failed{Kind: fault.KindOf(err), Text: fmt.Sprintf("log entry %s: %s", name, describe(err))}, nil
	}
	got.Found, got.Entry = true, entry
	return got, nil
}

// create sends an entry's bytes. They are made once for each number, so that every attempt sends the same.
func (r *run) create(e machine.Create) {
	data, ok := r.frozen[e.Seq]
	if !ok || e.For != machine.ForPublish {
		var err error
		if data, err = checkpoint.Encode(e.Entry); err != nil {
			r.step(machine.Failed{Kind: fault.Corrupt, Text: fmt.Sprintf("log entry %d: %v", e.Seq, err)})
			return
		}
		clear(r.frozen)
		r.frozen[e.Seq] = data
		traceCreate(r.env.Log, e)
	}
	r.wg.Go(func() {
		if e.For == machine.ForPublish {
			inject.Point(inject.BeforePublish)
		}
		err := r.def.Store.Create(r.ctx, checkpoint.EntryName(r.def.ID, 0, e.Seq), data)
		if e.For == machine.ForPublish && err == nil {
			inject.Point(inject.PublishReplyLost)
		}
		if err == nil || errors.Is(err, checkpoint.ErrExists) {
			r.send(machine.Created{For: e.For, Seq: e.Seq, Result: createResult(err)})
			return
		}
		if kind := fault.KindOf(err); stops(kind) {
			r.send(machine.Failed{Kind: kind, Text: fmt.Sprintf("checkpoint store: log entry %d: %s", e.Seq, describe(err))})
			return
		}
		if r.ctx.Err() == nil {
			r.meter.trouble(storeName, err.Error())
			r.env.Log.Warn("checkpoint store: create", slog.Uint64("entry", uint64(e.Seq)), slog.String("error", err.Error()))
		}
		if e.For == machine.ForClaim {
			pause(r.ctx, claimAttempt, r.env.Random)
		}
		r.send(machine.Created{For: e.For, Seq: e.Seq, Result: machine.CreateUnknown})
	})
}

// claimAttempt is as what attempt a claim without an answer counts for the pause before the log is asked about it: a store that
// answers no Create, and everything else, is not to be asked without end.
const claimAttempt = 4

// pause waits as long as before an attempt, or until ctx ends.
func pause(ctx context.Context, attempt int, random func([]byte)) {
	t := time.NewTimer(backoff(backoffFirst, backoffMax, attempt, random))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// createResult leaves unknown what is unknown. A create that did nothing is not told apart: the same bytes are sent again
// after a look either way.
func createResult(err error) machine.Result {
	switch {
	case err == nil:
		return machine.CreateDone
	case errors.Is(err, checkpoint.ErrExists):
		return machine.CreateExists
	}
	return machine.CreateUnknown
}

// collect deletes manifests first, then segments: a copy that finds a manifest and all its files is whole.
func (r *run) collect(ctx context.Context, e machine.Collect) {
	gone, err := r.garbage.Collect(ctx, e.Manifests, slices.Concat(e.State, e.Segments))
	if err != nil {
		r.env.Log.Debug("collect", slog.String("error", err.Error()))
	}
	for _, seq := range gone {
		r.send(machine.Deleted{Seq: seq})
	}
}

func (r *run) sweep(ctx context.Context, e machine.Sweep) {
	keep := map[string]bool{}
	for _, name := range e.Keep {
		keep[name] = true
	}
	n, err := r.segments.Sweep(ctx, e.Below-1, keep)
	if err != nil {
		r.env.Log.Warn("sweep of older leases' segments", slog.String("error", err.Error()))
	}
	if n > 0 {
		r.env.Log.Info("removed segments that no manifest names", slog.Int("segments", n))
	}
	if err := r.sweepState(ctx, e.Below); err != nil {
		r.env.Log.Warn("sweep of older leases' keyed state", slog.String("error", err.Error()))
	}
}

// assemble runs in the loop: it does no I/O, and checkpoints come in order.
func (r *run) assemble(e machine.Assemble) {
	done := machine.AssembleDone{Checkpoint: e.Cut.Checkpoint}
	for n, i := range e.Sinks {
		a, err := r.sinks[i].sink.Assemble(e.Cut, e.Parts[n])
		if err != nil {
			r.step(machine.Failed{Kind: fault.KindOf(err), Text: fmt.Sprintf("sink %q: assemble checkpoint %d: %s", r.sinks[i].name, e.Cut.Checkpoint, describe(err))})
			return
		}
		done.Results = append(done.Results, a)
	}
	r.step(done)
}

// writeLetters prepares the dead letters of rows that were refused at commit, by a writer of the coordinator's own.
func (r *run) writeLetters(e machine.Letters) {
	batch := record.NewBatch(record.DeadLetterSchema())
	for _, i := range e.Sinks {
		for _, row := range r.sinks[i].letters {
			record.AppendDeadLetter(batch, row.Letter)
		}
		r.sinks[i].letters = nil
	}
	dead := len(r.sinks) - 1
	r.owe(e.Cut.Checkpoint, r.def.parts())
	r.letters.do(r.ctx, func(ctx context.Context) {
		part, err := r.prepareLetters(ctx, e.Cut, batch)
		if err != nil {
			r.fail(fmt.Errorf("dead letters of refused rows: %w", err))
			return
		}
		parts := make([]sink.Part, dead+1)
		part.Task = r.def.parts()
		parts[dead] = part
		r.send(machine.PartDone{Checkpoint: e.Cut.Checkpoint, Part: machine.Part{Task: r.def.parts(), Sinks: parts}})
	})
}

func (r *run) prepareLetters(ctx context.Context, cut sink.Cut, batch *record.Batch) (sink.Part, error) {
	if r.own == nil {
		w, err := r.sinks[len(r.sinks)-1].sink.Writer(ctx, r.def.parts(), batch.Schema)
		if err != nil {
			return sink.Part{}, err
		}
		r.own = w
	}
	refused, err := r.own.Write(ctx, batch)
	if err != nil {
		return sink.Part{}, err
	}
	if len(refused) > 0 {
		return sink.Part{}, fault.E("pipeline.letters", fault.Rejected, fmt.Errorf("the dead-letter sink refused a dead letter: %s", refused[0].Reason))
	}
	return r.own.Prepare(ctx, cut)
}

func (r *run) discover(e machine.Discover) {
	found, err := r.def.discover(r.ctx, e.Known)
	if err == nil {
		r.send(machine.Discovered{OK: true, Splits: found})
		return
	}
	if kind := fault.KindOf(err); kind != fault.Transient && kind != fault.Unknown {
		r.fail(err)
		return
	}
	if r.ctx.Err() == nil {
		r.send(machine.Discovered{Text: err.Error()})
	}
}

// mirror shows the positions of a checkpoint that every sink has committed to lag tools.
func (r *run) mirror(positions []source.Position) {
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, mirrorTimeout)
		defer cancel()
		if err := r.def.committed(ctx, positions); err != nil {
			r.env.Metrics.MirrorFailed()
			r.env.Log.Debug("mirror of positions", slog.String("error", err.Error()))
		}
	})
}

// mirrorTimeout bounds one mirror of positions: the next checkpoint brings newer ones.
const mirrorTimeout = 5 * time.Second

// The delays of timers: short enough that a healthy restart is not felt, long enough that a dead server is not flooded.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMax   = 10 * time.Second
)

// timer waits and tells.
func (r *run) timer(e machine.SetTimer) {
	var d time.Duration
	switch e.Timer.Kind {
	case machine.TimerInterval:
		d = r.def.Checkpoint.Interval
	case machine.TimerDiscovery:
		if d = r.def.DiscoveryInterval; d <= 0 {
			return // the source never finds new splits
		}
	case machine.TimerStore, machine.TimerFence, machine.TimerCommit, machine.TimerReplace, machine.TimerSource:
		d = backoff(backoffFirst, backoffMax, e.Attempt, r.env.Random)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		r.send(machine.TimerFired{Timer: e.Timer})
	case <-r.ctx.Done():
	}
}

// backoff returns the pause before another attempt, counted from 0: it doubles from first to most. Half of it is by chance, so
// that those who failed together don't come back together.
func backoff(first, most time.Duration, attempt int, random func([]byte)) time.Duration {
	d := min(first, most)
	for ; attempt > 0 && d < most; attempt-- {
		d = min(2*d, most)
	}
	var seed [32]byte
	random(seed[:])
	return d/2 + time.Duration(rand.New(rand.NewChaCha8(seed)).Int64N(int64(d/2)+1))
}

// addSplits gives each new split to the task with the fewest.
func (r *run) addSplits(splits []source.Split) {
	for t, add := range r.share(splitsOf(nil, splits)) {
		delete(r.drained, t)
		r.tasks[t].send(r.ctx, control{add: add})
	}
	for k := range r.tables {
		if add := splitsOf(&r.def.Tables[k], splits); len(add) > 0 {
			r.tables[k].send(r.ctx, control{add: add})
		}
	}
}

// share divides splits among the tasks, each to the one with the fewest.
func (r *run) share(splits []source.Split) map[int][]source.Split {
	out := map[int][]source.Split{}
	for _, sp := range splits {
		least := 0
		for t, n := range r.given {
			if n < r.given[least] {
				least = t
			}
		}
		r.given[least]++
		out[least] = append(out[least], sp)
	}
	return out
}
