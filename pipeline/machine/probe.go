package machine

import (
	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// probeState is a look at the own log, because a sink answered Fenced or Lost. Only the log can say that a newer run owns the
// lane: a zombie's late act at the sink looks the same.
type probeState struct {
	active  bool
	sink    int
	lost    bool // the sink says that the committable is lost
	leaving bool // the run ends in any case
	reason  Reason
	fencing bool // it was the fence itself that was refused
	text    string
	attempt int
}

// startProbe begins a look. Until it is answered nothing is sent to the sink. If a look is under way already, for another sink,
// this one is asked again later.
func (m *Machine) startProbe(p probeState) {
	m.sinks[p.sink].backoff = true
	if m.probe.active {
		t := Timer{Kind: TimerCommit, Sink: p.sink}
		if p.fencing {
			m.sinks[p.sink].backoff, t.Kind = false, TimerFence
		}
		m.backoff(t, &m.sinks[p.sink].attempt)
		return
	}
	p.active = true
	m.probe = p
	m.emit(List{For: ForProbe})
}

// startLeaving ends the run as soon as the own log has told whether a newer run is the cause. If a look is under way already
// its answer serves. Nothing else is done meanwhile.
func (m *Machine) startLeaving(ev Failed) {
	asked := m.probe.active
	m.phase = leaving
	m.probe = probeState{active: true, leaving: true, reason: reasonOfFailure(ev.Kind), text: ev.Text, attempt: m.probe.attempt}
	if !asked {
		m.emit(List{For: ForProbe})
	}
}

// leave takes the events of a run that ends: the answers to its look, and the wish not to wait for them.
func (m *Machine) leave(ev Event) {
	switch ev := ev.(type) {
	case Listed:
		if ev.For == ForProbe {
			m.onProbeListed(ev)
		}
	case Got:
		if ev.For == ForProbe {
			m.onProbeGot(ev)
		}
	case TimerFired:
		if ev.Timer.Kind == TimerStore && ev.Timer.For == ForProbe {
			m.retryStore(ForProbe)
		}
	case Requested:
		if ev.Request != CheckpointNow && ev.Request != RollNow {
			m.stop(m.probe.reason, m.probe.text)
		}
	case Failed:
		if ev.Kind == fault.Corrupt || ev.Kind == fault.Misconfigured { // the log itself can't be read
			m.stop(ReasonFor(ev.Kind), ev.Text)
		}
	case Started, Created, SinkFenced, CommitDone, ReplaceDone, Discovered, PartDone, AssembleDone, InputEnded, Deleted, Edited:
	}
}

func (m *Machine) onProbeListed(ev Listed) {
	if !m.probe.active {
		return
	}
	switch {
	case ev.Failed:
		m.backoff(Timer{Kind: TimerStore, For: ForProbe}, &m.probe.attempt)
	case ev.Last < m.next: // nothing above what this run has published
		m.probed(false)
	default:
		m.emit(Get{For: ForProbe, Seq: ev.Last})
	}
}

func (m *Machine) onProbeGot(ev Got) {
	if !m.probe.active {
		return
	}
	if ev.Failed || !ev.Found {
		m.backoff(Timer{Kind: TimerStore, For: ForProbe}, &m.probe.attempt)
		return
	}
	// What was published in the meantime is this run's own, and may be collected and filled by a claim that does not count.
	m.probed(ev.Seq >= m.next && m.foreign(ev.Entry))
}

// probed does what the own log says.
func (m *Machine) probed(fenced bool) {
	p := m.probe
	m.probe = probeState{}
	switch {
	case fenced:
		m.stop(StoppedFenced, "a newer run owns this pipeline")
	case p.leaving:
		m.stop(p.reason, p.text)
	case p.lost:
		m.stop(StoppedLost, p.text)
	case p.fencing:
		m.stop(StoppedMisconfigured, p.text)
	default: // a zombie got in: take the sink over again, then retry
		s := &m.sinks[p.sink]
		s.fenced, s.backoff = false, false
		m.backoff(Timer{Kind: TimerFence, Sink: p.sink}, &s.attempt)
	}
}

// foreign reports whether an entry shows that another run has taken the lane.
func (m *Machine) foreign(e checkpoint.Entry) bool { return e.Lease() > m.lease }
