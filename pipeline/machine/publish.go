package machine

import (
	"slices"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// frozen is a manifest whose bytes are fixed: it is sent, the same, until an entry is read at its number.
type frozen struct {
	seq      checkpoint.Seq
	manifest *checkpoint.Manifest
	attempt  int
}

// decide makes a cut's manifest and freezes it.
func (m *Machine) decide(c *cut) {
	m.moveSplits(c)
	man := checkpoint.Manifest{
		StoreID: m.cfg.StoreID, Pipeline: m.cfg.Pipeline, Lane: m.cfg.Lane, Lease: m.lease, Checkpoint: c.cut.Checkpoint,
		ConfigDigest: m.cfg.Digest, Time: c.cut.Time, Shards: m.shards(c), Counters: m.count(c),
		Kept: append([]checkpoint.Seq(nil), m.kept...), Pinned: m.pinned(m.head),
	}
	for i := range m.sinks {
		man.Sinks = append(man.Sinks, m.entryOf(c, i))
	}
	for _, s := range m.head.Sinks { // a sink that left the config keeps its place: it may come back
		if m.sinkIndex(s.Name) < 0 {
			man.Sinks = append(man.Sinks, s)
		}
	}
	for _, r := range c.replaces {
		man.Replaced = append(man.Replaced, checkpoint.Replaced{
			Sink: m.sinks[r.sink].name, Lease: r.old.Lease, Checkpoint: r.old.Checkpoint, Unit: r.old.Unit, By: r.by.Unit, Rows: r.rows,
		})
	}
	m.freeze(man)
}

// entryOf is what the manifest says of one sink: everything that is decided and not known Committed, and the cut's own.
func (m *Machine) entryOf(c *cut, i int) checkpoint.SinkState {
	s, r := &m.sinks[i], c.results[i]
	pending := append([]sink.Committable(nil), s.queue...)
	for _, rep := range c.replaces {
		switch {
		case rep.sink != i || m.commitFirst(c):
		case rep.by.Rows > 0:
			pending[0] = rep.by
		default:
			pending = pending[1:]
		}
	}
	if !m.commitFirst(c) {
		pending = append(pending, r.Committables...)
	}
	return checkpoint.SinkState{
		Name: s.name, Lease: s.known.lease, Checkpoint: s.known.checkpoint, Pending: pending, Held: m.heldAfter(c, i), State: r.State,
	}
}

// heldAfter counts the rows of a sink that are prepared with a cut and before it, and that no committable names.
func (m *Machine) heldAfter(c *cut, i int) int64 {
	n := m.sinks[i].held
	for _, p := range c.parts {
		if i < len(p.Sinks) {
			n += p.Sinks[i].Rows
		}
	}
	for _, u := range c.results[i].Committables {
		n -= u.Rows
	}
	return max(0, n) // what a manifest of before this count holds is not in it
}

// shards is the lane's table: each split is a shard of its own, and all key groups together are one.
func (m *Machine) shards(c *cut) []checkpoint.Shard {
	var out []checkpoint.Shard
	if k := c.state(m.head.State()); k != nil {
		sh := checkpoint.Shard{ID: checkpoint.StateShard, Epoch: 1, Status: checkpoint.ShardOwned}
		if i, ok := slices.BinarySearchFunc(m.head.Shards, sh.ID, byID); ok {
			sh = m.head.Shards[i]
		}
		sh.State = k
		out = append(out, sh)
	}
	for _, sp := range m.splits {
		sh := checkpoint.Shard{ID: sp.Split, Epoch: 1, Status: checkpoint.ShardOwned}
		if i, ok := slices.BinarySearchFunc(m.head.Shards, sp.Split, byID); ok {
			sh = m.head.Shards[i]
		}
		sh.Splits = []source.Split{sp}
		out = append(out, sh)
	}
	slices.SortFunc(out, func(a, b checkpoint.Shard) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// state returns what keyed state is after the cut; before is what it was.
func (c *cut) state(before *checkpoint.KeyedState) *checkpoint.KeyedState {
	for i := range c.parts {
		if c.parts[i].State != nil {
			return c.parts[i].State
		}
	}
	return before
}

func byID(sh checkpoint.Shard, id string) int { return strings.Compare(sh.ID, id) }

// count adds a cut's records to the counters of the newest manifest (I12).
func (m *Machine) count(c *cut) checkpoint.Counters {
	sum := m.carried()
	var refused int64
	for _, p := range c.parts {
		for i, d := range p.Stages {
			invariant.Check("I12", i < len(sum.Stages) && sum.Stages[i].Stage == d.Stage, "a part counts other stages", d.Stage, m.place())
			s := &sum.Stages[i]
			s.Add(d)
			refused += d.Refused
		}
	}
	sum.DeadLetters += refused
	for _, r := range c.replaces {
		n := int64(len(r.rows))
		refused += n
		sum.DeadLetters += m.refuseLate(&sum, checkpoint.SinkStage+m.sinks[r.sink].name, n)
	}
	invariant.Check("I12", sum.Balanced() && refused == m.lettersIn(c), "records are unaccounted for", refused, m.place())
	return sum
}

// refuseLate moves n rows that had passed a stage to what it refused, and returns how many of them the chain of counters holds:
// rows that passed before the stages changed with the config are in Earlier.
func (m *Machine) refuseLate(sum *checkpoint.Counters, stage string, n int64) int64 {
	left, inChain := n, int64(0)
	for i := range sum.Stages {
		if s := &sum.Stages[i]; s.Stage == stage {
			inChain = min(left, s.Passed)
			s.Passed, s.Refused, left = s.Passed-inChain, s.Refused+inChain, left-inChain
		}
	}
	for i := len(sum.Earlier) - 1; i >= 0 && left > 0; i-- {
		if s := &sum.Earlier[i]; s.Stage == stage {
			k := min(left, s.Passed)
			s.Passed, s.Refused, left = s.Passed-k, s.Refused+k, left-k
		}
	}
	invariant.Check("I12", left == 0, "more rows refused than passed", stage, n, m.place())
	return inChain
}

// lettersIn counts the dead letters that a cut's parts brought to the dead-letter sink.
func (m *Machine) lettersIn(c *cut) int64 {
	if m.cfg.DeadLetter < 0 {
		return 0
	}
	var n int64
	for _, p := range c.parts {
		if m.cfg.DeadLetter < len(p.Sinks) {
			n += p.Sinks[m.cfg.DeadLetter].Rows
		}
	}
	return n
}

// carried returns the counters to go on from. When the list of stages changed with the config a new chain begins at zero.
func (m *Machine) carried() checkpoint.Counters {
	old := m.head.Counters
	same := len(old.Stages) == len(m.cfg.Stages)
	for i := range old.Stages {
		same = same && old.Stages[i].Stage == m.cfg.Stages[i]
	}
	if same {
		old.Stages, old.Earlier = slices.Clone(old.Stages), slices.Clone(old.Earlier)
		return old
	}
	sum := checkpoint.Counters{Earlier: append(append([]checkpoint.StageCount(nil), old.Earlier...), old.Stages...)}
	for _, name := range m.cfg.Stages {
		sum.Stages = append(sum.Stages, checkpoint.StageCount{Stage: name})
	}
	return sum
}

func (m *Machine) freeze(man checkpoint.Manifest) {
	invariant.Check("I4", m.publish == nil, "two manifests in flight", m.place())
	m.publish = &frozen{seq: m.next, manifest: &man}
	m.sendPublish()
}

func (m *Machine) sendPublish() {
	if m.publish == nil {
		return
	}
	m.emit(Create{For: ForPublish, Seq: m.publish.seq, Entry: checkpoint.Entry{Manifest: m.publish.manifest}})
}

func (m *Machine) onPublishCreated(ev Created) {
	if m.publish == nil || m.publish.seq != ev.Seq {
		return
	}
	if ev.Result == CreateDone {
		m.published()
		return
	}
	m.emit(Get{For: ForPublish, Seq: ev.Seq})
}

// onPublishGot decides by what stands at the number. Nothing there decides nothing: a request of ours may still land, so the
// same bytes are sent again.
func (m *Machine) onPublishGot(ev Got) {
	if m.publish == nil || m.publish.seq != ev.Seq {
		return
	}
	p := m.publish
	switch {
	case ev.Failed || !ev.Found:
		m.backoff(Timer{Kind: TimerStore, For: ForPublish}, &p.attempt)
	case ev.Entry.Manifest != nil && ev.Entry.Manifest.Lease == m.lease:
		invariant.Check("I4", ev.Entry.Manifest.Checkpoint == p.manifest.Checkpoint, "another checkpoint of this lease stands at the number", m.place())
		m.published()
	case m.foreign(ev.Entry):
		m.stop(StoppedFenced, "a newer run owns this pipeline")
	default:
		invariant.Check("I4", false, "an entry of an older lease follows the claim", ev.Entry.Lease(), m.place())
	}
}

// published takes the frozen manifest over as the newest one: the commit point is passed.
func (m *Machine) published() {
	man, seq := m.publish.manifest, m.publish.seq
	m.publish = nil
	m.forgetState(man)
	m.head, m.headSeq, m.next = man, seq, seq+1
	m.kept = append(m.kept, seq)
	m.emit(Published{Seq: seq, Manifest: *man})
	if m.cfg.Offline {
		m.stop(Done, "the change is published")
		return
	}
	c := m.cuts[0]
	m.cuts = m.cuts[1:]
	for i := range m.sinks {
		m.enqueue(&c, i)
	}
	m.collect()
	m.settle()
	if c.tasks && c.cut.Final {
		m.phase = finishing
	}
}

// enqueue hands a sink what the published cut decided.
func (m *Machine) enqueue(c *cut, i int) {
	s := &m.sinks[i]
	s.held, s.state = m.heldAfter(c, i), c.results[i].State
	if m.commitFirst(c) {
		return
	}
	if slices.ContainsFunc(c.replaces, func(r replacement) bool { return r.sink == i }) {
		m.putReplacement(s)
	}
	s.queue = append(append([]sink.Committable(nil), s.queue...), c.results[i].Committables...)
	for _, cm := range c.results[i].Committables {
		m.noteSegments(cm)
	}
}

// collect names what the newest manifest, which is published, makes superfluous. Never the newest manifest, never a claim (I9).
func (m *Machine) collect() {
	var gone Collect
	free := slices.DeleteFunc(append([]checkpoint.Seq(nil), m.kept...), func(s checkpoint.Seq) bool { return m.head.Pin(s) != nil })
	if n := len(free) - max(1, m.cfg.Keep); n > 0 {
		gone.Manifests = append(gone.Manifests, free[:n]...)
	}
	listed := m.listedSegments()
	var left []string
	for _, name := range m.segments {
		if slices.Contains(listed, name) {
			left = append(left, name)
		} else {
			gone.Segments = append(gone.Segments, name)
		}
	}
	m.segments = left
	gone.State = m.unneededState(gone.Manifests)
	invariant.Check("I9", !slices.Contains(gone.Manifests, m.headSeq), "the newest manifest is collected", m.place())
	if len(gone.Manifests)+len(gone.Segments)+len(gone.State) > 0 {
		m.emit(gone)
	}
	if !m.swept {
		m.swept = true
		m.emit(Sweep{Below: m.lease, Keep: listed})
	}
}

// forgetState notes the objects of keyed state that the next manifest does not name any more: they are needed as long as the
// one that was the newest until then is kept.
func (m *Machine) forgetState(next *checkpoint.Manifest) {
	before, after := m.head.State(), next.State()
	if before == nil || before == after {
		return
	}
	var names []string
	if after != nil {
		names = after.Objects
	}
	for _, name := range before.Objects {
		if _, named := slices.BinarySearch(names, name); !named {
			m.stateGone = append(m.stateGone, stateObject{name, m.headSeq})
		}
	}
}

// stateObject is an object of keyed state with the last manifest that names it.
type stateObject struct {
	name string
	last checkpoint.Seq
}

// unneededState returns the objects that no kept manifest names once some manifests are gone.
func (m *Machine) unneededState(gone []checkpoint.Seq) []string {
	var names []string
	m.stateGone = slices.DeleteFunc(m.stateGone, func(o stateObject) bool {
		unneeded := o.last != m.headSeq && (slices.Contains(gone, o.last) || !slices.Contains(m.kept, o.last)) && !m.pins(o.name)
		if unneeded {
			names = append(names, o.name)
		}
		return unneeded
	})
	return names
}

// pins tells whether a pinned manifest needs an object of keyed state.
func (m *Machine) pins(name string) bool {
	return slices.ContainsFunc(m.head.Pinned, func(p checkpoint.Pin) bool {
		_, named := slices.BinarySearch(p.Objects, name)
		return named
	})
}

// pinned returns the pins of a manifest, without those of manifests that are not there.
func (m *Machine) pinned(man *checkpoint.Manifest) []checkpoint.Pin {
	var pins []checkpoint.Pin
	for _, p := range man.Pinned {
		if slices.Contains(m.kept, p.Seq) {
			pins = append(pins, p)
		}
	}
	return pins
}

func (m *Machine) listedSegments() []string {
	var names []string
	for _, s := range m.head.Sinks {
		for _, c := range s.Pending {
			for _, seg := range c.Segments {
				names = append(names, seg.Name)
			}
		}
	}
	return names
}

func (m *Machine) onDeleted(ev Deleted) {
	m.kept = slices.DeleteFunc(append([]checkpoint.Seq(nil), m.kept...), func(s checkpoint.Seq) bool { return s == ev.Seq && s != m.headSeq })
}

// Head returns the newest published manifest that the run knows, and its number in the log; 0 before there is one.
func (m *Machine) Head() (checkpoint.Manifest, checkpoint.Seq) { return *m.head, m.headSeq }

// Checkpoint returns the number of the newest checkpoint that was cut.
func (m *Machine) Checkpoint() record.Checkpoint { return m.last }
