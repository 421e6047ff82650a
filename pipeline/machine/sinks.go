package machine

import (
	"fmt"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// refusal is how far the replacement of a unit with refused rows is.
type refusal uint8

const (
	noRefusal refusal = iota
	replacing         // the sink makes the replacement
	replaced          // it is there, and waits for a checkpoint that names it
	inCut             // a checkpoint under way names it
)

// sinkState is one sink's line of committables, lowest first, of which at most one is under way (I7).
type sinkState struct {
	name    string
	fenced  bool
	known   id // the last checkpoint of which every unit is known Committed
	state   []byte
	held    int64              // rows that the state has and no committable
	queue   []sink.Committable // decided (at-least-once: about to be) and not known Committed
	flying  bool               // a Commit is under way
	backoff bool               // a timer runs before the next attempt
	attempt int
	refusal refusal
	rows    []int64          // the refused rows of queue[0]
	by      sink.Committable // what takes its place
}

// id orders checkpoints across runs (I13).
type id struct {
	lease      record.Lease
	checkpoint record.Checkpoint
}

func idOf(c sink.Committable) id { return id{c.Lease, c.Checkpoint} }

func (a id) less(b id) bool {
	return a.lease < b.lease || a.lease == b.lease && a.checkpoint < b.checkpoint
}

func (s *sinkState) adopt(man *checkpoint.Manifest) {
	for _, st := range man.Sinks {
		if st.Name == s.name {
			s.known, s.state, s.held = id{st.Lease, st.Checkpoint}, st.State, st.Held
			s.queue = append([]sink.Committable(nil), st.Pending...)
		}
	}
}

func (m *Machine) emitFence(i int) {
	s := &m.sinks[i]
	m.emit(FenceSink{Sink: i, State: s.state, Pending: append([]sink.Committable(nil), s.queue...)})
}

func (m *Machine) onSinkFenced(ev SinkFenced) {
	s := &m.sinks[ev.Sink]
	switch {
	case ev.OK:
		s.fenced = true
		if m.phase == fencing { // later, the commit that was fenced is still the same trouble
			s.attempt = 0
		}
	case ev.Kind == fault.Unknown || ev.Kind == fault.Transient:
		m.backoff(Timer{Kind: TimerFence, Sink: ev.Sink}, &s.attempt)
	case ev.Kind == fault.Fenced:
		m.startProbe(probeState{sink: ev.Sink, fencing: true, text: ev.Text})
	default:
		m.stop(ReasonFor(ev.Kind), ev.Text)
	}
}

func (m *Machine) advanceFencing() {
	for i := range m.sinks {
		if !m.sinks[i].fenced {
			return
		}
	}
	m.phase = recovering
	m.advanceRecovering()
}

// advanceRecovering commits what is pending and goes on when nothing is, or when what is left waits for a manifest.
func (m *Machine) advanceRecovering() {
	m.startCommits()
	for i := range m.sinks {
		if s := &m.sinks[i]; len(s.queue) > 0 && s.refusal != replaced {
			return
		}
	}
	m.phase = discovering
	m.emit(Discover{Known: m.knownSplits()})
}

// startCommits sends each sink's lowest committable, if nothing of that sink is under way.
func (m *Machine) startCommits() {
	if m.phase < recovering || m.phase == stopped {
		return
	}
	for i := range m.sinks {
		s := &m.sinks[i]
		if len(s.queue) == 0 || !s.fenced || s.flying || s.backoff || s.refusal != noRefusal {
			continue
		}
		c := s.queue[0]
		invariant.Check("I3", m.decided(s.name, c) || m.commitsFirst(c), "commit of a checkpoint that is not published", m.place())
		invariant.Check("I7", s.known.less(idOf(c)), "commit at or below the last one known", m.place())
		s.flying = true
		m.emit(Commit{Sink: i, Committable: c})
	}
}

// commitsFirst reports whether at-least-once commits c before its manifest.
func (m *Machine) commitsFirst(c sink.Committable) bool {
	return m.cfg.AtLeastOnce && len(m.cuts) > 0 && m.cuts[0].stage == committing && idOf(c) == (id{m.lease, m.cuts[0].cut.Checkpoint})
}

// decided reports whether the newest published manifest lists the committable for the sink.
func (m *Machine) decided(name string, c sink.Committable) bool {
	for _, st := range m.head.Sinks {
		if st.Name != name {
			continue
		}
		for _, p := range st.Pending {
			if idOf(p) == idOf(c) && p.Unit == c.Unit {
				return true
			}
		}
	}
	return false
}

func (m *Machine) onCommitDone(ev CommitDone) {
	s := &m.sinks[ev.Sink]
	invariant.Check("I7", s.flying && len(s.queue) > 0, "an answer to no commit", m.place())
	s.flying = false
	switch ev.Outcome {
	case sink.Committed:
		m.committed(s)
	case sink.Unknown, sink.Retry:
		s.backoff = true
		m.backoff(Timer{Kind: TimerCommit, Sink: ev.Sink}, &s.attempt)
	case sink.Rejected:
		m.rejected(ev)
	case sink.Lost:
		if !m.decided(s.name, s.queue[0]) { // at-least-once: its rows are read again
			m.startLeaving(Failed{Kind: fault.Transient, Text: ev.Text})
			return
		}
		m.startProbe(probeState{sink: ev.Sink, lost: true, text: ev.Text})
	case sink.Fenced:
		m.startProbe(probeState{sink: ev.Sink, text: ev.Text})
	}
}

// committed forgets the lowest committable: the only place where one is forgotten as done (I5).
func (m *Machine) committed(s *sinkState) {
	c := s.queue[0]
	s.queue, s.attempt = s.queue[1:], 0
	invariant.Check("I7", len(s.queue) == 0 || !idOf(s.queue[0]).less(idOf(c)), "committables out of order", m.place())
	if len(s.queue) == 0 || idOf(s.queue[0]) != idOf(c) {
		s.known = idOf(c)
	}
	m.settle()
}

// settle tells once when all that the newest manifest lists is known Committed.
func (m *Machine) settle() {
	if m.head.Lease != m.lease || m.settled == m.head.Checkpoint || !m.CommittedUpTo(m.head.Checkpoint) {
		return
	}
	m.settled = m.head.Checkpoint
	m.emit(Settled{Checkpoint: m.head.Checkpoint, Positions: m.head.Positions()})
}

// CommittedUpTo reports whether every committable up to a checkpoint of this run is known Committed, or replaced by a later one's.
func (m *Machine) CommittedUpTo(c record.Checkpoint) bool {
	for i := range m.sinks {
		if q := m.sinks[i].queue; len(q) > 0 && !(id{m.lease, c}).less(idOf(q[0])) {
			return false
		}
	}
	return true
}

func (m *Machine) rejected(ev CommitDone) {
	s := &m.sinks[ev.Sink]
	c := s.queue[0]
	if m.cfg.DeadLetter < 0 || ev.Sink == m.cfg.DeadLetter {
		m.stop(StoppedByRule, fmt.Sprintf("sink %q refused %d rows of checkpoint %d: %s", s.name, len(ev.Rows), c.Checkpoint, ev.Text))
		return
	}
	invariant.Check("I12", rowsOf(c, ev.Rows), "refused rows that are not the unit's, sorted and each once", m.place())
	s.refusal, s.rows = replacing, ev.Rows
	m.window = append(m.window, ratio{refused: int64(len(ev.Rows))})
	m.emitReplace(ev.Sink)
}

// rowsOf reports whether rows are places in c, at least one, sorted and each once.
func rowsOf(c sink.Committable, rows []int64) bool {
	before := int64(-1)
	for _, row := range rows {
		if row <= before || row >= c.Rows {
			return false
		}
		before = row
	}
	return before >= 0
}

func (m *Machine) emitReplace(i int) {
	c := m.sinks[i].queue[0]
	m.emit(Replace{Sink: i, Committable: c, Unit: c.Unit + 1})
}

func (m *Machine) onReplaceDone(ev ReplaceDone) {
	s := &m.sinks[ev.Sink]
	if s.refusal != replacing {
		return
	}
	switch {
	case ev.OK:
		old := s.queue[0]
		invariant.Check("I5", idOf(ev.By) == idOf(old) && ev.By.Unit == old.Unit+1 && ev.By.Rows == old.Rows-int64(len(s.rows)),
			"a replacement that is not the old unit less its refused rows", m.place())
		s.refusal, s.by, s.attempt = replaced, ev.By, 0
		m.want = m.want || m.decided(s.name, old) // a manifest must name it before anything else is sent
	case ev.Kind == fault.Unknown || ev.Kind == fault.Transient:
		m.backoff(Timer{Kind: TimerReplace, Sink: ev.Sink}, &s.attempt)
	default:
		m.onFailed(Failed{Kind: ev.Kind, Text: ev.Text})
	}
}

// Full reports whether a checkpoint is due that can't be cut, because as many as may wait for their commit: the input waits
// until it is cut.
func (m *Machine) Full() bool {
	return m.phase == running && m.want && !m.stopping && m.waiting() >= max(1, m.cfg.MaxPending)
}

// waiting counts the checkpoints that wait for a commit, those that are being cut among them.
func (m *Machine) waiting() int {
	if m.cfg.AtLeastOnce { // what is queued is of the first cut
		return len(m.cuts)
	}
	most := 0
	for i := range m.sinks {
		n, before := 0, id{}
		for _, c := range m.sinks[i].queue {
			if idOf(c) != before {
				n, before = n+1, idOf(c)
			}
		}
		most = max(most, n)
	}
	return most + len(m.cuts)
}
