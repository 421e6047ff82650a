// Package machine is the coordinator's pure part: it decides claiming, taking over, when to cut, publish, commit, replace,
// collect and stop, by Step(event) -> effects over plain values.
//
// One [Machine] is one pipeline under one run. It has no clock, no goroutine and no I/O, never sees rows or a library's
// error, and does the same for the same events. After a failure it does not go back: it stops, and the next run's machine
// recovers by the same path as after a crash.
package machine

import (
	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// Config is what a run knows before its first event.
type Config struct {
	StoreID  string
	Pipeline string // the pipeline's ID
	Lane     record.Lane
	Nonce    string // random, of this run
	Who      string // for people
	Digest   string // of the pipeline's config

	Stages []string // in the order of a record's way, as in [checkpoint.Counters]
	Sinks  []string // in the order of commits; the dead-letter sink is the last
	// DeadLetter is the place of the dead-letter sink in Sinks, or -1.
	DeadLetter  int
	Tasks       int
	AtLeastOnce bool
	// MaxPending bounds the checkpoints that wait for their commit before no further one is cut.
	MaxPending int
	// Keep is how many manifests stay, the newest among them; at least 1.
	Keep int
	// MaxRatio of refused records among the last RatioWindow stops the pipeline; RatioWindow 0 never does.
	MaxRatio    float64
	RatioWindow int64
	// LeaseMin is the lowest lease that the run may take: above those of another store whose targets it adopts.
	LeaseMin record.Lease
	// Offline asks for one change by hand in place of a run: claim, read, [Edit], publish, stop.
	Offline bool
}

type phase uint8

const (
	idle phase = iota
	claiming
	reading
	fencing
	recovering
	discovering
	opening
	running
	finishing
	editing
	leaving
	stopped
)

// Machine is the state of one run. Make it with [New].
type Machine struct {
	cfg   Config
	phase phase
	now   int64

	claim   claimState
	lease   record.Lease
	head    *checkpoint.Manifest // the newest published manifest, never changed; its Lease is 0 before the first
	headSeq checkpoint.Seq
	next    checkpoint.Seq // of the next manifest
	last    record.Checkpoint
	kept    []checkpoint.Seq // manifests that are there, lowest first

	sinks    []sinkState
	splits   []source.Split // every split that the run knows, sorted by name; as of the newest cut that is decided
	cuts     []cut          // at most two: the first may be under way to the log, the second collects parts
	publish  *frozen
	probe    probeState
	segments []string // of published or committed checkpoints, that no Collect has named
	// stateGone are objects of keyed state that the newest manifest does not name and no Collect has named.
	stateGone []stateObject
	window    []ratio

	want     bool // a checkpoint is asked for
	roll     bool // one at which sinks hold nothing back is asked for
	stopping bool // a final checkpoint is asked for
	ended    bool // the final cut was made: tasks give no more parts
	swept    bool
	settled  record.Checkpoint
	out      []Effect
}

// New returns the machine of a new run. Send it [Started] first.
func New(cfg Config) *Machine {
	m := &Machine{cfg: cfg, head: &checkpoint.Manifest{}}
	for _, name := range cfg.Sinks {
		m.sinks = append(m.sinks, sinkState{name: name})
	}
	return m
}

// Lease returns the run's lease, 0 before the claim is effective.
func (m *Machine) Lease() record.Lease { return m.lease }

// Step takes one event and returns what is to be done, in order. Now is the daemon's clock in milliseconds since 1970; it is
// stored and never compared. The effects share memory with the machine: they must not be changed.
func (m *Machine) Step(now int64, ev Event) []Effect {
	if m.phase == stopped {
		return nil
	}
	m.now, m.out = now, nil
	if m.phase == leaving {
		m.leave(ev)
		return m.out
	}
	m.record(ev)
	m.advance()
	return m.out
}

// record takes over what an event says.
func (m *Machine) record(ev Event) {
	switch ev := ev.(type) {
	case Started:
		m.phase = claiming
		m.emit(List{For: ForClaim})
	case Listed:
		m.onListed(ev)
	case Got:
		m.onGot(ev)
	case Created:
		m.onCreated(ev)
	case SinkFenced:
		m.onSinkFenced(ev)
	case CommitDone:
		m.onCommitDone(ev)
	case ReplaceDone:
		m.onReplaceDone(ev)
	case Discovered:
		m.onDiscovered(ev)
	case PartDone:
		m.onPartDone(ev)
	case AssembleDone:
		m.onAssembleDone(ev)
	case InputEnded:
		m.stopping = true
	case Deleted:
		m.onDeleted(ev)
	case Edited:
		m.onEdited(ev)
	case TimerFired:
		m.onTimer(ev.Timer)
	case Requested:
		m.onRequested(ev.Request)
	case Failed:
		m.onFailed(ev)
	}
}

// advance does everything that has become possible.
func (m *Machine) advance() {
	switch m.phase {
	case idle, claiming, reading, discovering, editing, leaving, stopped:
	case fencing:
		m.advanceFencing()
	case recovering:
		m.advanceRecovering()
	case opening:
		m.advanceCuts()
		m.startCommits()
		m.openIfReady()
	case running, finishing:
		m.advanceCuts()
		m.startCommits()
		m.cutIfDue()
		m.finishIfDone()
	}
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

// onFailed ends the run. What a newer run's takeover may have caused is not believed before the own log was read: a run that
// was taken over must not restart, as it would take the lane back from a healthy successor.
func (m *Machine) onFailed(ev Failed) {
	switch ev.Kind {
	case fault.Unknown, fault.Transient, fault.Fenced, fault.Lost:
		if m.lease != 0 {
			m.startLeaving(ev)
			return
		}
	case fault.Rejected, fault.Corrupt, fault.Misconfigured:
	}
	m.stop(reasonOfFailure(ev.Kind), ev.Text)
}

// reasonOfFailure is [ReasonFor], but Fenced, which only the own log can say.
func reasonOfFailure(kind fault.Kind) Reason {
	if kind == fault.Fenced {
		return Restart
	}
	return ReasonFor(kind)
}

func (m *Machine) onRequested(r Request) {
	switch r {
	case CheckpointNow:
		m.want = true
	case RollNow:
		m.want, m.roll = true, true
	case StopGracefully:
		m.stopping = true
		if m.phase < opening {
			m.stop(Done, "stopped before it ran")
		}
	case StopWaiting:
		m.stop(Done, "stopped before every commit was done")
	}
}

func (m *Machine) onTimer(t Timer) {
	switch t.Kind {
	case TimerInterval:
		m.want = true
		m.emit(SetTimer{Timer: t})
	case TimerDiscovery:
		if m.phase == running && !m.stopping {
			m.emit(Discover{Known: m.knownSplits()})
		}
	case TimerSource:
		m.emit(Discover{Known: m.knownSplits()})
	case TimerStore:
		m.retryStore(t.For)
	case TimerFence:
		m.emitFence(t.Sink)
	case TimerCommit:
		m.sinks[t.Sink].backoff = false
	case TimerReplace:
		m.emitReplace(t.Sink)
	}
}

// stop ends the run. Whatever is under way is resolved by the next run.
func (m *Machine) stop(reason Reason, text string) {
	if m.phase == stopped {
		return
	}
	m.phase = stopped
	var pending []PendingSink // what is decided: with at-least-once the rest is read again
	for i := range m.sinks {
		if s := &m.sinks[i]; len(s.queue) > 0 && m.decided(s.name, s.queue[0]) {
			pending = append(pending, PendingSink{Name: s.name, Committables: s.queue})
		}
	}
	m.emit(Stop{Reason: reason, Text: text, Pending: pending})
}

// backoff sets a timer for another attempt and counts it.
func (m *Machine) backoff(t Timer, attempt *int) {
	m.emit(SetTimer{Timer: t, Attempt: *attempt})
	*attempt++
}

func (m *Machine) knownSplits() []source.Split {
	return append([]source.Split(nil), m.splits...)
}

// place is where a run is, for the text of a violation.
type place struct {
	lease      record.Lease
	checkpoint record.Checkpoint
	log        checkpoint.Seq
}

func (m *Machine) place() place { return place{m.lease, m.last, m.next} }
