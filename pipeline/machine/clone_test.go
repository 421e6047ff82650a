package machine

import (
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// clone returns a machine that can step without changing m. What a step only replaces is shared: manifests, committables, and
// the elements of slices to which a step may append (their capacity is clipped, so that it appends to a copy).
func (m *Machine) clone() *Machine {
	c := *m
	c.out = nil
	c.kept, c.splits, c.segments, c.window = slices.Clip(m.kept), slices.Clip(m.splits), slices.Clip(m.segments), slices.Clip(m.window)
	c.stateGone = slices.Clone(m.stateGone)
	c.sinks = slices.Clone(m.sinks)
	for i := range c.sinks {
		c.sinks[i].queue = slices.Clip(c.sinks[i].queue)
	}
	c.cuts = slices.Clone(m.cuts)
	for i := range c.cuts {
		n := &c.cuts[i]
		n.parts, n.results, n.replaces = slices.Clip(n.parts), slices.Clip(n.results), slices.Clip(n.replaces)
	}
	if m.publish != nil {
		p := *m.publish
		c.publish = &p
	}
	return &c
}

// key is a compact canonical form of a value: two values with the same key behave the same from here on.
type key []byte

func (k key) num(ns ...uint64) key {
	for _, n := range ns {
		k = binary.AppendUvarint(k, n)
	}
	return k
}

func (k key) str(s string) key { return append(k.num(uint64(len(s))), s...) }

func (k key) flags(bits ...bool) key {
	var b byte
	for i, bit := range bits {
		if bit {
			b |= 1 << i
		}
	}
	return append(k, b)
}

// machine appends everything that decides what m does next. Left out are what only people read (texts, times), how long
// somebody has waited (attempts), and the config, which is the same in all states of a run.
func (k key) machine(m *Machine) key {
	k = k.num(uint64(m.phase), uint64(m.claim.at), uint64(m.claim.reading), uint64(m.lease), uint64(m.headSeq), uint64(m.next),
		uint64(m.last), uint64(m.settled))
	k = k.flags(m.want, m.roll, m.stopping, m.ended, m.swept, m.claim.claim != nil, m.publish != nil, m.probe.active)
	if m.claim.claim != nil {
		k = k.num(uint64(m.claim.claim.Lease), uint64(m.claim.there), uint64(m.claim.lease), uint64(m.claim.newer))
	}
	k = k.manifest(m.head).seqs(m.kept).splits(m.splits)
	if m.publish != nil {
		k = k.num(uint64(m.publish.seq)).manifest(m.publish.manifest)
	}
	if p := &m.probe; p.active {
		k = k.num(uint64(p.sink), uint64(p.reason)).flags(p.lost, p.leaving, p.fencing)
	}
	for i := range m.sinks {
		k = k.sinkState(&m.sinks[i])
	}
	k = k.num(uint64(len(m.cuts)))
	for i := range m.cuts {
		k = k.cut(&m.cuts[i])
	}
	k = k.num(uint64(len(m.segments)))
	for _, s := range m.segments {
		k = k.str(s)
	}
	k = k.num(uint64(len(m.stateGone)))
	for _, o := range m.stateGone {
		k = k.str(o.name).num(uint64(o.last))
	}
	k = k.num(uint64(len(m.window)))
	for _, w := range m.window {
		k = k.num(uint64(w.in), uint64(w.refused))
	}
	return k
}

func (k key) sinkState(s *sinkState) key {
	k = k.flags(s.fenced, s.flying, s.backoff).num(uint64(s.refusal), uint64(s.known.lease), uint64(s.known.checkpoint))
	k = k.str(string(s.state)).num(uint64(s.held)).committables(s.queue)
	if s.refusal == noRefusal {
		return k
	}
	return k.rows(s.rows).committable(&s.by)
}

func (k key) cut(c *cut) key {
	k = k.num(uint64(c.cut.Lease), uint64(c.cut.Checkpoint), uint64(c.stage), uint64(c.waiting)).flags(c.tasks, c.cut.Final, c.cut.Roll)
	parts := slices.SortedFunc(slices.Values(c.parts), func(a, b Part) int { return a.Task - b.Task }) // the order of answers is forgotten
	k = k.num(uint64(len(parts)))
	for _, p := range parts {
		k = k.num(uint64(p.Task)).splits(p.Splits).stages(p.Stages).keyed(p.State)
		for _, s := range p.Sinks {
			k = k.num(uint64(s.Rows)).str(string(s.Data)).segments(s.Segments)
		}
	}
	k = k.num(uint64(len(c.results)))
	for _, r := range c.results {
		k = k.committables(r.Committables).str(string(r.State))
	}
	k = k.num(uint64(len(c.replaces)))
	for _, r := range c.replaces {
		k = k.num(uint64(r.sink)).committable(&r.old).committable(&r.by).rows(r.rows)
	}
	return k
}

func (k key) manifest(m *checkpoint.Manifest) key {
	k = k.num(uint64(m.Lease), uint64(m.Checkpoint), uint64(len(m.Shards)), uint64(len(m.Sinks)), uint64(len(m.Replaced)))
	for i := range m.Shards {
		k = k.splits(m.Shards[i].Splits).keyed(m.Shards[i].State)
	}
	for i := range m.Sinks {
		s := &m.Sinks[i]
		k = k.str(s.Name).num(uint64(s.Lease), uint64(s.Checkpoint), uint64(s.Held)).committables(s.Pending).str(string(s.State))
	}
	for _, r := range m.Replaced {
		k = k.str(r.Sink).num(uint64(r.Lease), uint64(r.Checkpoint), uint64(r.Unit), uint64(r.By)).rows(r.Rows)
	}
	return k.stages(m.Counters.Stages).num(uint64(m.Counters.DeadLetters)).stages(m.Counters.Earlier).seqs(m.Kept).pins(m.Pinned)
}

func (k key) pins(pins []checkpoint.Pin) key {
	k = k.num(uint64(len(pins)))
	for _, p := range pins {
		k = k.num(uint64(p.Seq), uint64(len(p.Objects)))
		for _, name := range p.Objects {
			k = k.str(name)
		}
	}
	return k
}

func (k key) keyed(s *checkpoint.KeyedState) key {
	if s == nil {
		return k.num(0)
	}
	k = k.num(1, uint64(s.Watermark)).str(string(s.Data)).num(uint64(len(s.Objects)))
	for _, name := range s.Objects {
		k = k.str(name)
	}
	return k
}

func (k key) committables(cs []sink.Committable) key {
	k = k.num(uint64(len(cs)))
	for i := range cs {
		k = k.committable(&cs[i])
	}
	return k
}

func (k key) committable(c *sink.Committable) key {
	return k.num(uint64(c.Lease), uint64(c.Checkpoint), uint64(c.Unit), uint64(c.Rows)).str(string(c.Data)).segments(c.Segments)
}

func (k key) segments(ss []sink.Segment) key {
	k = k.num(uint64(len(ss)))
	for i := range ss {
		k = k.str(ss[i].Name)
	}
	return k
}

func (k key) splits(ss []source.Split) key {
	k = k.num(uint64(len(ss)))
	for i := range ss {
		k = k.str(ss[i].Split).num(uint64(ss[i].Offset)).flags(ss[i].Finished)
	}
	return k
}

func (k key) stages(ss []checkpoint.StageCount) key {
	k = k.num(uint64(len(ss)))
	for _, s := range ss {
		k = k.num(uint64(s.In), uint64(s.Passed), uint64(s.Filtered), uint64(s.Refused), uint64(s.Deduplicated), uint64(s.Absorbed), uint64(s.Late), uint64(s.Made))
	}
	return k
}

func (k key) seqs(ss []checkpoint.Seq) key {
	k = k.num(uint64(len(ss)))
	for _, s := range ss {
		k = k.num(uint64(s))
	}
	return k
}

func (k key) rows(rows []int64) key {
	k = k.num(uint64(len(rows)))
	for _, r := range rows {
		k = k.num(uint64(r))
	}
	return k
}

// A field that clone and key don't know would make the exploration blind or wrong without a sign. Each type's number of fields
// is written down here: whoever adds one looks at both functions.
func TestKey_knowsEveryField(t *testing.T) {
	for _, test := range []struct {
		value any
		want  int
	}{
		{Machine{}, 25},
		{stateObject{}, 2},
		{claimState{}, 7},
		{sinkState{}, 12},
		{cut{}, 7},
		{replacement{}, 4},
		{frozen{}, 3},
		{probeState{}, 8},
		{ratio{}, 2},
		{Part{}, 5},
		{sink.Part{}, 5},
		{sink.Cut{}, 5},
		{sink.Assembled{}, 2},
		{sink.Committable{}, 8},
		{source.Split{}, 3},
		{source.Position{}, 4},
		{checkpoint.Manifest{}, 15},
		{checkpoint.Pin{}, 2},
		{checkpoint.SinkState{}, 6},
		{checkpoint.Replaced{}, 6},
		{checkpoint.Counters{}, 3},
		{checkpoint.Shard{}, 7},
		{checkpoint.KeyedState{}, 5},
		{checkpoint.StageCount{}, 9},
	} {
		if got := reflect.TypeOf(test.value).NumField(); got != test.want {
			t.Errorf("%T: got %d fields, want %d: teach clone and key the new one, then correct this number", test.value, got, test.want)
		}
	}
}

// A clone that steps must leave the original as it was, and do what the original would have done.
func TestClone_sharesNothingThatChanges(t *testing.T) {
	for _, alo := range []bool{false, true} {
		cfg := flowConfig()
		cfg.AtLeastOnce = alo
		f := newFlow(t, cfg)
		f.refuse, f.records = "a1", 3
		steps := 0
		f.before = func(ev Event) {
			steps++
			before := string(key(nil).machine(f.m))
			one, two := f.m.clone(), f.m.clone()
			one.Step(1, ev)
			two.Step(1, ev)
			if string(key(nil).machine(f.m)) != before {
				t.Fatalf("%T changed the original of a clone", ev)
			}
			if string(key(nil).machine(one)) != string(key(nil).machine(two)) {
				t.Fatalf("%T: two clones differ", ev)
			}
		}
		f.run()
		if steps < 30 {
			t.Errorf("got %d steps, want a run of many", steps)
		}
	}
}

// The order in which tasks answer is not part of a state, and nothing depends on it.
func TestMachine_partsMayComeInAnyOrder(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.send(Started{})
	other := f.m.clone()
	cut := sink.Cut{Lease: f.m.Lease(), Checkpoint: f.m.Checkpoint() + record.Checkpoint(1)}
	var effects [2][]Effect
	for i, m := range []*Machine{f.m, other} {
		m.Step(1000, TimerFired{Timer{Kind: TimerInterval}})
		parts := []Event{f.part(cut, 0), f.part(cut, 1)}
		f.pos, f.segment = [2]int{}, 0
		if i == 1 {
			slices.Reverse(parts)
		}
		for _, p := range parts {
			effects[i] = m.Step(1000, p)
		}
	}
	if !reflect.DeepEqual(effects[0], effects[1]) || string(key(nil).machine(f.m)) != string(key(nil).machine(other)) {
		t.Errorf("got %+v in one order and %+v in the other", effects[0], effects[1])
	}
}
