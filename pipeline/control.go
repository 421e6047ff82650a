package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
)

// asking is a checkpoint that somebody waits for. It belongs to the run's loop, but for the answer.
type asking struct {
	cut      record.Checkpoint // 0 while its barrier is awaited
	answered chan Taken        // with room for the answer
}

// Taken is a checkpoint that was asked for.
type Taken struct {
	Seq        checkpoint.Seq // in the log
	Checkpoint record.Checkpoint
	// Fresh is false when there was nothing new: then this is the newest one, which was there before.
	Fresh bool
	err   error
}

const opCheckpoint = "pipeline.TakeCheckpoint"

// TakeCheckpoint asks for a checkpoint before its time, and waits until it is published or ctx ends. Error kinds: fault.Transient
// when the run ended before, or nothing runs.
func (s *Supervisor) TakeCheckpoint(ctx context.Context) (Taken, error) {
	w := &asking{answered: make(chan Taken, 1)}
	select {
	case s.asks <- w:
	case <-ctx.Done():
		return Taken{}, fault.E(opCheckpoint, fault.Transient, fmt.Errorf("the pipeline is %s: %w", s.Status().State, context.Cause(ctx)))
	}
	select {
	case a := <-w.answered:
		return a, a.err
	case <-ctx.Done():
		return Taken{}, fault.E(opCheckpoint, fault.Transient, fmt.Errorf("it is not published yet: %w", context.Cause(ctx)))
	}
}

// Pause keeps a pipeline from reading on. What was read is checkpointed and committed, and it stays so over restarts within the
// process, until Resume. It may be called at any time.
func (s *Supervisor) Pause() { s.pause(true) }

// Resume lets a pipeline read on.
func (s *Supervisor) Resume() { s.pause(false) }

func (s *Supervisor) pause(on bool) { //nolint:revive // flag-parameter: Pause and Resume name it
	s.paused.Store(on)
	s.mu.Lock()
	from, to := Running, Paused
	if !on {
		from, to = Paused, Running
	}
	is := s.mu.state == from
	s.mu.Unlock()
	if is {
		s.set(to, "")
	}
	select {
	case s.pauses <- struct{}{}:
	default: // somebody looks already
	}
}

// runs tells that a run reads.
func (s *Supervisor) runs() {
	if s.paused.Load() {
		s.set(Paused, "")
		return
	}
	s.set(Running, "")
}

// obeyPause keeps the tasks from reading, or lets them.
func (r *run) obeyPause() {
	on := r.paused != nil && r.paused.Load()
	switch {
	case on == r.pausing:
	case on:
		r.crowded.Add(1)
	default:
		r.crowded.Add(-1)
		r.goOn()
	}
	r.pausing = on
}

// ask begins a checkpoint that somebody waits for.
func (r *run) ask(w *asking) {
	r.asks = append(r.asks, w)
	r.step(machine.Requested{Request: machine.CheckpointNow})
}

// noteAsking follows the checkpoints that are asked for.
func (r *run) noteAsking(e machine.Effect) {
	switch e := e.(type) {
	case machine.Barrier:
		for _, w := range r.asks {
			if w.cut == 0 {
				w.cut = e.Cut.Checkpoint
			}
		}
	case machine.Published:
		r.answerAsking(e.Manifest.Checkpoint, Taken{Seq: e.Seq, Checkpoint: e.Manifest.Checkpoint, Fresh: true})
	case machine.List, machine.Get, machine.Create, machine.FenceSink, machine.Commit, machine.Replace, machine.Discover, machine.Run, machine.AddSplits,
		machine.Letters, machine.Assemble, machine.Edit, machine.Settled, machine.Collect, machine.Sweep, machine.SetTimer, machine.Stop:
	}
}

// nothingNew answers those whose checkpoint was dropped because it had nothing to say.
func (r *run) nothingNew(c record.Checkpoint) {
	head, seq := r.machine.Head()
	r.answerAsking(c, Taken{Seq: seq, Checkpoint: head.Checkpoint})
}

// answerAsking answers everybody whose checkpoint is c or an earlier one.
func (r *run) answerAsking(c record.Checkpoint, a Taken) {
	var left []*asking
	for _, w := range r.asks {
		if w.cut == 0 || w.cut > c {
			left = append(left, w)
			continue
		}
		w.answered <- a
	}
	r.asks = left
}

// leaveAsking answers those who wait when the run ends.
func (r *run) leaveAsking() {
	for _, w := range r.asks {
		w.answered <- Taken{err: fault.WithRemedy(opCheckpoint, fault.Transient, errors.New("the run ended before the checkpoint was published"), "the same command again")}
	}
	r.asks = nil
}
