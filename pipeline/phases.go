package pipeline

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// phases are the times of the run's checkpoints. They belong to the loop.
type phases struct {
	cuts    []cutTimes // of the tasks, oldest first
	frozen  time.Time  // when the manifest under way was sent first
	settled bool       // everything that the newest manifest lists is committed
}

// cutTimes are those of one checkpoint.
type cutTimes struct {
	checkpoint record.Checkpoint
	began      time.Time
	published  bool
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
		r.noteCut(e.Cut.Checkpoint)
	case machine.Published:
		r.notePublished(e)
	case machine.Settled:
		r.noteSettled(e)
	case machine.Get, machine.Run, machine.AddSplits, machine.Letters, machine.Assemble, machine.Edit, machine.Collect, machine.Sweep,
		machine.SetTimer, machine.Stop:
	}
}

// noteFrozen is called for each attempt to publish a manifest.
func (r *run) noteFrozen(what string) {
	r.meter.begin(storeName, what)
	if r.phases.frozen.IsZero() {
		r.phases.frozen = time.Now()
	}
}

func (r *run) noteCut(c record.Checkpoint) {
	p := &r.phases
	if n := len(p.cuts); n > 1 { // at most two are under way, and they end in order
		r.noteEmpty(p.cuts[n-1].checkpoint)
	}
	p.cuts = append(p.cuts, cutTimes{checkpoint: c, began: time.Now()})
}

// noteEmpty counts the cuts below a checkpoint that had nothing to say. If nothing waits for its commit either, then all that
// was read before is committed.
func (r *run) noteEmpty(below record.Checkpoint) {
	for _, c := range r.phases.cuts {
		if c.published || c.checkpoint >= below {
			continue
		}
		r.env.Metrics.Checkpoint("empty")
		if r.phases.settled {
			r.env.Metrics.Committed(c.began)
		}
	}
	r.phases.cuts = slices.DeleteFunc(r.phases.cuts, func(c cutTimes) bool { return !c.published && c.checkpoint < below })
}

func (r *run) notePublished(e machine.Published) {
	p := &r.phases
	r.meter.end(storeName)
	r.env.Metrics.Checkpoint("published")
	r.env.Metrics.Phase("publish", time.Since(p.frozen))
	p.frozen, p.settled = time.Time{}, false
	r.noteEmpty(e.Manifest.Checkpoint)
	for i := range p.cuts {
		if p.cuts[i].checkpoint == e.Manifest.Checkpoint {
			p.cuts[i].published, r.advanced = true, true
		}
	}
	for _, s := range e.Manifest.Sinks {
		r.env.Metrics.Pending(s.Name, len(s.Pending))
	}
	r.env.Log.Debug("checkpoint published", slog.Uint64("checkpoint", uint64(e.Manifest.Checkpoint)), slog.Uint64("log", uint64(e.Seq)))
}

func (r *run) noteSettled(e machine.Settled) {
	p := &r.phases
	p.settled = true
	r.env.Metrics.Committed(time.Now())
	for _, c := range p.cuts {
		if c.published && c.checkpoint == e.Checkpoint {
			r.env.Metrics.Phase("total", time.Since(c.began))
		}
	}
	p.cuts = slices.DeleteFunc(p.cuts, func(c cutTimes) bool { return c.checkpoint <= e.Checkpoint })
}

// noteLeft counts the checkpoints that a run left undecided when it ended. One that was sent may be published all the same.
func (r *run) noteLeft() {
	for _, c := range r.phases.cuts {
		switch {
		case c.published:
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
		r.meter.end(sinkName(a.name))
		r.env.Metrics.Phase("commit", time.Since(a.since))
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
