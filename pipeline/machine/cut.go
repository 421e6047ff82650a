package machine

import (
	"bytes"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// stage is how far a cut is on its way into the log.
type stage uint8

const (
	collecting stage = iota // parts are missing
	assembling              // sinks make their committables
	committing              // at-least-once only: commits go before the manifest
	lettering               // at-least-once only: dead letters of refused rows are prepared
	ready                   // everything that the manifest needs is there
	publishing              // frozen
)

// cut is a checkpoint that is not decided yet.
type cut struct {
	cut      sink.Cut
	tasks    bool // tasks take part; without, only positions and sinks' states as they are
	stage    stage
	waiting  int
	parts    []Part
	results  []sink.Assembled // of the first sinks
	replaces []replacement
}

// replacement is a unit with refused rows that a checkpoint replaces.
type replacement struct {
	sink int
	old  sink.Committable
	by   sink.Committable
	rows []int64
}

// ratio is what one checkpoint adds to the window of refused records.
type ratio struct{ in, refused int64 }

// begin cuts the next checkpoint. With tasks it sends the barrier.
func (m *Machine) begin(c sink.Cut, tasks bool) { //nolint:revive // flag-parameter: the two kinds of cut share everything else
	before := id{m.head.Lease, m.head.Checkpoint}
	m.last++
	c.Lease, c.Checkpoint, c.Time = m.lease, m.last, m.now
	invariant.Check("I13", before.less(id{c.Lease, c.Checkpoint}), "a checkpoint number does not grow", m.place())
	m.want = m.roll // a cut of another kind does not do what that asks for
	m.ended = m.ended || tasks && c.Final
	n := cut{cut: c, tasks: tasks}
	var letters []int
	for i := range m.sinks {
		if s := &m.sinks[i]; s.refusal == replaced {
			s.refusal = inCut
			n.replaces = append(n.replaces, replacement{sink: i, old: s.queue[0], by: s.by, rows: s.rows})
			letters = append(letters, i)
		}
	}
	if len(letters) > 0 {
		n.waiting++
		m.emit(Letters{Cut: c, Sinks: letters})
	}
	if tasks {
		n.waiting += m.cfg.Tasks
		m.emit(Barrier{Cut: c})
	}
	m.cuts = append(m.cuts, n)
}

// cutIfDue begins a checkpoint of the tasks when one is asked for and there is room for it. Without room a replacement still
// gets its manifest, by a checkpoint without tasks: the backlog can't shrink before.
func (m *Machine) cutIfDue() {
	if m.phase != running || m.ended || len(m.cuts) > 1 || len(m.cuts) == 1 && m.cuts[0].stage == collecting {
		return
	}
	switch {
	case m.stopping:
		m.begin(sink.Cut{Final: true}, true)
	case m.want && m.waiting() < max(1, m.cfg.MaxPending):
		c := sink.Cut{Roll: m.roll}
		m.roll = false
		m.begin(c, true)
	case m.replacementWaits():
		m.begin(sink.Cut{}, false)
	}
}

// replacementWaits reports whether a decided unit's replacement waits for a manifest that names it.
func (m *Machine) replacementWaits() bool {
	return slices.ContainsFunc(m.sinks, func(s sinkState) bool { return s.refusal == replaced && m.decided(s.name, s.queue[0]) })
}

func (m *Machine) onPartDone(ev PartDone) {
	for i := range m.cuts {
		c := &m.cuts[i]
		if c.cut.Checkpoint != ev.Checkpoint {
			continue
		}
		again := slices.ContainsFunc(c.parts, func(p Part) bool { return p.Task == ev.Part.Task })
		invariant.Check("I2", c.waiting > 0 && !again, "a part that nobody asked for", ev.Part.Task, m.place())
		c.parts = append(c.parts, ev.Part)
		c.waiting--
		return
	}
	invariant.Check("I2", false, "a part of a checkpoint that is not being cut", ev.Checkpoint, m.place())
}

func (m *Machine) onAssembleDone(ev AssembleDone) {
	if len(m.cuts) == 0 || m.cuts[0].stage != assembling || m.cuts[0].cut.Checkpoint != ev.Checkpoint {
		return
	}
	c := &m.cuts[0]
	first := len(c.results)
	for _, r := range ev.Results {
		invariant.Check("I13", inOrder(r.Committables, id{m.lease, c.cut.Checkpoint}), "committables that are not the checkpoint's, in order", m.place())
	}
	c.results = append(c.results, ev.Results...)
	if !m.commitFirst(c) {
		c.stage = ready
		return
	}
	for i, r := range ev.Results {
		m.sinks[first+i].queue = append(m.sinks[first+i].queue, r.Committables...)
		for _, cm := range r.Committables {
			m.noteSegments(cm)
		}
	}
	c.stage = committing
}

// inOrder reports whether all committables are of one checkpoint, lowest unit first.
func inOrder(cs []sink.Committable, of id) bool {
	for i, c := range cs {
		if idOf(c) != of || i > 0 && cs[i-1].Unit >= c.Unit {
			return false
		}
	}
	return true
}

// commitFirst reports whether a cut's commits go before its manifest. With at-least-once only what tasks contribute does: a
// replacement of what an earlier run of exactly-once has decided needs its manifest first.
func (m *Machine) commitFirst(c *cut) bool { return m.cfg.AtLeastOnce && c.tasks }

// advanceCuts moves the lowest cut on as far as it goes.
func (m *Machine) advanceCuts() {
	for len(m.cuts) > 0 {
		c := &m.cuts[0]
		switch c.stage {
		case collecting:
			if c.waiting > 0 {
				return
			}
			if !m.withinRatio(c) {
				m.stop(StoppedByRule, "too many of the last records were refused: max_ratio")
				return
			}
			m.assemble(c)
		case committing:
			m.takeReplacements(c)
			if m.anyQueued() {
				return
			}
			m.lettersOrReady(c)
		case lettering:
			if c.waiting > 0 {
				return
			}
			m.assemble(c)
		case ready:
			if m.skippable(c) {
				m.cuts = m.cuts[1:]
				continue
			}
			c.stage = publishing
			m.decide(c)
			return
		case assembling, publishing:
			return
		}
	}
}

// assemble asks the sinks that were not asked yet. With at-least-once the dead-letter sink comes in a second round, when it is
// known which rows the others refused.
func (m *Machine) assemble(c *cut) {
	c.parts = slices.SortedFunc(slices.Values(c.parts), func(a, b Part) int { return a.Task - b.Task })
	to := len(m.sinks)
	if m.commitFirst(c) && m.cfg.DeadLetter >= 0 && len(c.results) < m.cfg.DeadLetter {
		to = m.cfg.DeadLetter
	}
	a := Assemble{Cut: c.cut}
	for i := len(c.results); i < to; i++ {
		var parts []sink.Part
		for _, p := range c.parts {
			if i < len(p.Sinks) && !emptyPart(p.Sinks[i]) {
				parts = append(parts, p.Sinks[i])
			}
		}
		a.Sinks, a.Parts = append(a.Sinks, i), append(a.Parts, parts)
	}
	c.stage = assembling
	m.emit(a)
}

func emptyPart(p sink.Part) bool { return p.Rows == 0 && len(p.Segments) == 0 && len(p.Data) == 0 }

// takeReplacements lets at-least-once go on within the same checkpoint after refused rows. Everything that was decided before
// is committed before tasks run, so what is queued is the checkpoint's own.
func (m *Machine) takeReplacements(c *cut) {
	for i := range m.sinks {
		s := &m.sinks[i]
		if s.refusal == replaced {
			c.replaces = append(c.replaces, replacement{sink: i, old: s.queue[0], by: s.by, rows: s.rows})
			m.putReplacement(s)
		}
	}
	m.startCommits()
}

// putReplacement puts the unit without refused rows in the old one's place; without rows there is none (I5).
func (m *Machine) putReplacement(s *sinkState) {
	if s.by.Rows > 0 {
		s.queue = append([]sink.Committable{s.by}, s.queue[1:]...)
		m.noteSegments(s.by)
	} else {
		s.queue = s.queue[1:]
	}
	s.refusal, s.rows, s.by = noRefusal, nil, sink.Committable{}
}

func (m *Machine) lettersOrReady(c *cut) {
	var letters []int
	for _, r := range c.replaces {
		letters = append(letters, r.sink)
	}
	prepared := slices.ContainsFunc(c.parts, func(p Part) bool { return p.Task == m.cfg.Tasks })
	switch {
	case len(c.results) == len(m.sinks):
		c.stage = ready
	case len(letters) > 0 && !prepared:
		c.stage, c.waiting = lettering, c.waiting+1
		m.emit(Letters{Cut: c.cut, Sinks: letters})
	default:
		m.assemble(c)
	}
}

func (m *Machine) anyQueued() bool {
	return slices.ContainsFunc(m.sinks, func(s sinkState) bool { return len(s.queue) > 0 })
}

// withinRatio judges the checkpoint's refused records together with those before, over the last RatioWindow records.
func (m *Machine) withinRatio(c *cut) bool {
	if m.cfg.RatioWindow <= 0 || !c.tasks {
		return true
	}
	r := ratio{}
	for _, p := range c.parts {
		for i, s := range p.Stages {
			if i == 0 {
				r.in += s.In
			}
			r.refused += s.Refused
		}
	}
	m.window = append(m.window, r)
	in, refused := int64(0), int64(0)
	for _, w := range m.window {
		in, refused = in+w.in, refused+w.refused
	}
	for len(m.window) > 1 && in-m.window[0].in >= m.cfg.RatioWindow {
		in, refused = in-m.window[0].in, refused-m.window[0].refused
		m.window = m.window[1:]
	}
	return float64(refused) <= m.cfg.MaxRatio*float64(max(in, m.cfg.RatioWindow))
}

// skippable reports whether a manifest would say nothing new: no rows, no progress, and nothing to report as Committed.
func (m *Machine) skippable(c *cut) bool {
	if !c.tasks || c.cut.Final || c.cut.Roll || len(c.replaces) > 0 || m.reportsDue() {
		return false
	}
	for i, r := range c.results {
		if len(r.Committables) > 0 || !bytes.Equal(r.State, m.sinks[i].state) {
			return false
		}
	}
	for _, p := range c.parts {
		if p.State != nil || slices.ContainsFunc(p.Stages, func(s checkpoint.StageCount) bool { return s.In+s.Refused+s.Made > 0 }) {
			return false
		}
		for _, sp := range p.Splits {
			if i, ok := findSplit(m.splits, sp.Split); !ok || m.splits[i] != sp {
				return false
			}
		}
	}
	return len(m.splits) == m.head.SplitCount()
}

// reportsDue reports whether the newest manifest lists a committable that is Committed since.
func (m *Machine) reportsDue() bool {
	listed, left := 0, 0
	for _, s := range m.head.Sinks {
		if m.sinkIndex(s.Name) >= 0 {
			listed += len(s.Pending)
		}
	}
	for i := range m.sinks {
		left += len(m.sinks[i].queue)
	}
	return listed != left
}

func (m *Machine) sinkIndex(name string) int {
	return slices.IndexFunc(m.sinks, func(s sinkState) bool { return s.name == name })
}

// findSplit returns the place of a split among sorted ones.
func findSplit(splits []source.Split, name string) (int, bool) {
	return slices.BinarySearchFunc(splits, name, func(s source.Split, name string) int { return strings.Compare(s.Split, name) })
}

// moveSplits takes over where a checkpoint's parts stand (I1).
func (m *Machine) moveSplits(c *cut) {
	splits := m.knownSplits()
	for _, p := range c.parts {
		for _, sp := range p.Splits {
			i, ok := findSplit(splits, sp.Split)
			invariant.Check("I1", ok, "a split that nobody gave to a task", sp.Split, m.place())
			invariant.Check("I1", sp.Offset >= splits[i].Offset && sp.Identity == splits[i].Identity, "a split goes back", sp.Split, m.place())
			splits[i] = sp
		}
	}
	m.splits = splits
}

func (m *Machine) onDiscovered(ev Discovered) {
	switch {
	case m.phase == discovering && !ev.OK:
		m.backoff(Timer{Kind: TimerSource}, &m.claim.attempt)
	case m.phase == discovering:
		m.splits = mergeSplits(m.splits, ev.Splits)
		m.phase = opening
		m.begin(sink.Cut{}, false)
	case m.phase == running && !m.ended:
		if ev.OK && len(ev.Splits) > 0 && !m.stopping {
			m.splits = mergeSplits(m.splits, ev.Splits)
			m.emit(AddSplits{Splits: ev.Splits})
		}
		m.emit(SetTimer{Timer: Timer{Kind: TimerDiscovery}})
	}
}

func mergeSplits(known, found []source.Split) []source.Split {
	all := append(append([]source.Split(nil), known...), found...)
	sortSplits(all)
	return all
}

func sortSplits(splits []source.Split) {
	slices.SortFunc(splits, func(a, b source.Split) int { return strings.Compare(a.Split, b.Split) })
}

// openIfReady starts the tasks once the run's first manifest is published. With at-least-once nothing decided may be pending
// then: what an earlier run of exactly-once has left is committed first.
func (m *Machine) openIfReady() {
	if m.phase != opening || len(m.cuts) > 0 {
		return
	}
	if m.cfg.AtLeastOnce && m.anyQueued() {
		if m.replacementWaits() {
			m.begin(sink.Cut{}, false)
		}
		return
	}
	m.phase = running
	m.emit(Run{Splits: m.knownSplits(), State: m.head.State()})
	m.emit(SetTimer{Timer: Timer{Kind: TimerInterval}})
	m.emit(SetTimer{Timer: Timer{Kind: TimerDiscovery}})
	m.cutIfDue()
}

// finishIfDone ends a run whose final checkpoint is decided: dead letters that are left, a closing manifest, stop.
func (m *Machine) finishIfDone() {
	if m.phase != finishing || len(m.cuts) > 0 {
		return
	}
	switch {
	case m.replacementWaits():
		m.begin(sink.Cut{Final: true}, false)
	case m.anyQueued():
	case m.reportsDue():
		m.begin(sink.Cut{Final: true}, false)
	default:
		invariant.Check("I6", len(m.listedSegments()) == 0, "a run ends as done with work left", m.place())
		m.stop(Done, "every record is committed")
		return
	}
	m.advanceCuts()
}

func (m *Machine) noteSegments(c sink.Committable) {
	for _, s := range c.Segments {
		if !slices.Contains(m.segments, s.Name) {
			m.segments = append(m.segments, s.Name)
		}
	}
}
