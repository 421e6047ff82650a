package pipeline

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// phases are the times of the run's checkpoints. They belong to the loop.
type phases struct {
	cuts   []cutTimes // of the tasks, in order; the first is not done yet
	frozen time.Time  // when the manifest under way was sent first
}

// cutTimes are those of one checkpoint.
type cutTimes struct {
	checkpoint record.Checkpoint
	began      time.Time // the barrier
	published  bool
	empty      bool // it had nothing to say
	left       int  // published committables that are not known Committed
	positions  []source.Position
}

// noteEffect tells the meter and the phases what begins.
func (r *run) noteEffect(e machine.Effect) {
	switch e := e.(type) {
	case machine.List:
		switch e.For {
		case machine.ForClaim:
			r.meter.begin(storeName, "claim of the next lease")
		case machine.ForProbe:
			r.meter.begin(storeName, "look at the own log after a failure")
		case machine.ForRead, machine.ForPublish:
		}
	case machine.Create:
		if e.For == machine.ForPublish {
			r.noteFrozen(fmt.Sprintf("publish of log entry %d, checkpoint %d", e.Seq, e.Entry.Manifest.Checkpoint))
		}
	case machine.FenceSink:
		r.meter.end(storeName)
		r.meter.begin(sinkName(r.sinks[e.Sink].name), "fence")
	case machine.Commit:
		a := r.sinks[e.Sink]
		r.meter.begin(sinkName(a.name), fmt.Sprintf("commit of checkpoint %d, unit %d", e.Committable.Checkpoint, e.Committable.Unit))
	case machine.Replace:
		r.meter.begin(sinkName(r.sinks[e.Sink].name), "replacement of refused rows")
	case machine.Discover:
		if !r.opened {
			r.meter.begin("source", "look for splits")
		}
	case machine.Barrier:
		r.phases.cuts = append(r.phases.cuts, cutTimes{checkpoint: e.Cut.Checkpoint, began: time.Now()})
	case machine.Published:
		r.notePublished(e)
	case machine.Get, machine.Run, machine.AddSplits, machine.Letters, machine.Assemble, machine.Edit, machine.Settled, machine.Collect,
		machine.Sweep, machine.SetTimer, machine.Stop:
	}
}

// noteFrozen is called for each attempt to publish a manifest.
func (r *run) noteFrozen(what string) {
	r.meter.begin(storeName, what)
	if r.phases.frozen.IsZero() {
		r.phases.frozen = time.Now()
	}
}

// cut returns the times of a checkpoint that is not done, or nil.
func (p *phases) cut(c record.Checkpoint) *cutTimes {
	for i := range p.cuts {
		if p.cuts[i].checkpoint == c {
			return &p.cuts[i]
		}
	}
	return nil
}

// advance tells of the checkpoints that are done, in order.
func (r *run) advance() {
	p := &r.phases
	for len(p.cuts) > 0 {
		c := p.cuts[0]
		switch {
		case c.empty:
		case c.published && c.left <= 0:
			r.env.Metrics.Phase("total", time.Since(c.began))
			if len(p.cuts) > 1 && p.cuts[1].published { // else the machine says when all is settled
				r.mirror(c.positions)
			}
		default:
			return
		}
		r.env.Metrics.Committed(c.began)
		p.cuts = p.cuts[1:]
	}
}

// noteAssembled finds the checkpoints that the machine drops because they have nothing to say: nothing follows their assembly.
func (r *run) noteAssembled(ev machine.AssembleDone, effects []machine.Effect) {
	for _, a := range ev.Results {
		if len(a.Committables) > 0 {
			return
		}
	}
	for _, e := range effects {
		switch e := e.(type) {
		case machine.Create:
			if e.For == machine.ForPublish && e.Entry.Manifest.Checkpoint == ev.Checkpoint {
				return
			}
		case machine.Assemble:
			if e.Cut.Checkpoint == ev.Checkpoint {
				return
			}
		case machine.Letters:
			if e.Cut.Checkpoint == ev.Checkpoint {
				return
			}
		case machine.Stop:
			return
		case machine.List, machine.Get, machine.FenceSink, machine.Commit, machine.Replace, machine.Discover, machine.Run, machine.AddSplits,
			machine.Barrier, machine.Edit, machine.Published, machine.Settled, machine.Collect, machine.Sweep, machine.SetTimer:
		}
	}
	if c := r.phases.cut(ev.Checkpoint); c != nil {
		r.env.Metrics.Checkpoint("empty")
		c.empty = true
		r.nothingNew(ev.Checkpoint)
		r.advance()
	}
}

func (r *run) notePublished(e machine.Published) {
	p := &r.phases
	r.meter.end(storeName)
	r.env.Metrics.Checkpoint("published")
	r.env.Metrics.Phase("publish", time.Since(p.frozen))
	p.frozen = time.Time{}
	c := p.cut(e.Manifest.Checkpoint)
	for _, s := range e.Manifest.Sinks {
		r.env.Metrics.Pending(s.Name, len(s.Pending))
		for _, u := range s.Pending {
			if c != nil && u.Checkpoint == c.checkpoint {
				c.left++
			}
		}
	}
	if c != nil {
		c.published, r.advanced, c.positions = true, true, e.Manifest.Positions()
	}
	r.advance()
	r.env.Log.Debug("checkpoint published", slog.Uint64("checkpoint", uint64(e.Manifest.Checkpoint)), slog.Uint64("log", uint64(e.Seq)))
}

// noteUnitDone tells of a unit of a checkpoint that is committed, or that has no row left.
func (r *run) noteUnitDone(of record.Checkpoint) {
	if c := r.phases.cut(of); c != nil {
		c.left--
		r.advance()
	}
}

// noteLeft counts the checkpoints that a run left undecided when it ended. One that was sent may be published all the same.
func (r *run) noteLeft() {
	for _, c := range r.phases.cuts {
		switch {
		case c.published || c.empty:
		case !r.phases.frozen.IsZero():
			r.phases.frozen = time.Time{}
			r.env.Metrics.Checkpoint("unknown")
		default:
			r.env.Metrics.Checkpoint("aborted")
		}
	}
}

// noteEvent tells logs, metrics and the meter of an event before the machine decides on it.
func (r *run) noteEvent(ev machine.Event) {
	switch ev := ev.(type) {
	case machine.SinkFenced:
		r.noteFenced(ev)
	case machine.CommitDone:
		r.noteCommitDone(ev)
	case machine.ReplaceDone:
		r.noteReplaced(ev)
	case machine.Discovered:
		if ev.OK {
			r.meter.end("source")
			return
		}
		r.meter.trouble("source", ev.Text)
		r.env.Log.Warn("source: look for splits", slog.String("error", ev.Text))
	case machine.PartDone:
		r.paid(ev)
	case machine.Started, machine.Listed, machine.Got, machine.Created, machine.AssembleDone, machine.InputEnded, machine.Deleted,
		machine.Edited, machine.TimerFired, machine.Requested, machine.Failed:
	}
}

func (r *run) noteFenced(ev machine.SinkFenced) {
	a := r.sinks[ev.Sink]
	switch {
	case !ev.OK:
		r.meter.trouble(sinkName(a.name), ev.Text)
		r.env.Log.Warn("fence is not done", slog.String("sink", a.name), slog.String("kind", ev.Kind.String()), slog.String("error", ev.Text))
	case a.flying == 0: // else the commit that was fenced is still the same trouble
		r.meter.end(sinkName(a.name))
	}
}

func (r *run) noteCommitDone(done machine.CommitDone) {
	a := r.sinks[done.Sink]
	r.env.Metrics.Outcome(a.name, done.Outcome.String())
	switch done.Outcome {
	case sink.Committed:
		trace(r.env.Log, StepCommitted, a.flying)
		r.meter.end(sinkName(a.name))
		r.env.Metrics.Phase("commit", time.Since(a.since))
		r.noteUnitDone(a.flying)
	case sink.Rejected:
		r.meter.end(sinkName(a.name))
		fallthrough
	case sink.Unknown, sink.Retry, sink.Lost, sink.Fenced:
		r.meter.trouble(sinkName(a.name), done.Text)
		r.env.Log.Warn("commit is not done", slog.String("sink", a.name), slog.String("outcome", done.Outcome.String()), slog.String("error", done.Text))
		return
	}
	r.between(a, a.flying)
	a.done, a.flying = a.flying, 0
	inject.Point(inject.AfterCommit)
}

// between is a fault point: one sink has committed a checkpoint, and another has not, or is about to.
func (r *run) between(a *sinkActor, c record.Checkpoint) {
	for _, other := range r.sinks {
		if other != a && (other.flying == c || other.done == c) {
			inject.Point(inject.BetweenSinks)
		}
	}
}

func (r *run) noteReplaced(ev machine.ReplaceDone) {
	a := r.sinks[ev.Sink]
	if ev.OK {
		r.meter.end(sinkName(a.name))
		if ev.By.Rows == 0 {
			r.noteUnitDone(ev.By.Checkpoint)
		}
		return
	}
	r.meter.trouble(sinkName(a.name), ev.Text)
	r.env.Log.Warn("refused rows are not replaced", slog.String("sink", a.name), slog.String("kind", ev.Kind.String()), slog.String("error", ev.Text))
}

// stops reports whether a failure is for a person, not for another attempt.
func stops(kind fault.Kind) bool {
	switch kind {
	case fault.Rejected, fault.Corrupt, fault.Misconfigured:
		return true
	case fault.Unknown, fault.Transient, fault.Fenced, fault.Lost:
	}
	return false
}
