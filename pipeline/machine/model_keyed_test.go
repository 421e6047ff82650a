package machine

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/record"
)

// hand is a change that a run makes by hand in place of running.
type hand uint8

const (
	noHand hand = iota
	pinNewest
	unpinAll
)

// stateSink stands for keyed state where segments name a sink: its objects are kept among them, one for each checkpoint that changed
// it, named by the lease that cut it and the checkpoint.
const stateSink = 2

// stateModel is keyed state as of the newest checkpoint that a run has prepared: the records that have had their effect on it, and the
// objects that it can be made from.
type stateModel struct {
	rows    records
	objects [2]unit // oldest first; 0 is none
}

func (m stateModel) key(k key) key {
	return k.num(uint64(m.rows), uint64(m.objects[0]), uint64(m.objects[1]))
}

// saveStage is how far a savepoint of a run is.
type saveStage uint8

const (
	noSaving saveStage = iota
	asked
	cutting   // its barrier is known
	published // its checkpoint is decided
	copying   // all of it is committed
	saved
)

// saving is a savepoint that is asked of a run, as the driver follows it. Until it is made nothing is collected.
type saving struct {
	stage    saveStage
	cut      record.Checkpoint
	entry    uint32
	collects []uint32
}

func (w saving) key(k key) key {
	k = k.num(uint64(w.stage), uint64(w.cut), uint64(w.entry), uint64(len(w.collects)))
	for _, c := range w.collects {
		k = k.num(uint64(c))
	}
	return k
}

func (w saving) active() bool { return w.stage > noSaving && w.stage < saved }

// stateName names an object of keyed state.
func (x *explorer) stateName(u unit) string {
	name := fmt.Sprintf("%sd%016d", checkpoint.StatePrefix(0, u.lease()), u.checkpoint())
	x.segmentNames[name] = segment{stateSink, u}
	return name
}

// storeState stores what a checkpoint changed, as one object, before any part names it.
func (s *step) storeState(n record.Checkpoint, rows records) *checkpoint.KeyedState {
	u := makeUnit(s.r.m.lease, n, 0)
	s.segs, s.copied[1] = s.segs.with(segment{stateSink, u}), true
	m := &s.r.state
	m.rows, m.objects = m.rows|rows, [2]unit{m.objects[1], u}
	if !s.x.cfg.shared {
		m.objects[0] = 0
	}
	k := &checkpoint.KeyedState{Groups: 1, Version: 1, Data: []byte{byte(m.rows)}}
	for _, u := range m.objects {
		if u != 0 {
			k.Objects = append(k.Objects, s.x.stateName(u))
		}
	}
	return k
}

// restore begins with the state that the machine gives.
func (s *step) restore(e Run) {
	s.r.state = stateModel{}
	if e.State == nil {
		return
	}
	s.r.state.rows = records(e.State.Data[0])
	for i, name := range e.State.Objects {
		s.r.state.objects[2-len(e.State.Objects)+i] = s.x.segmentNames[name].unit
	}
}

// checkState holds I2 for a manifest that is about to be there: its keyed state and its positions are of the same records. And no pin
// of the one before it is lost, unless it is let go by hand.
func (x *explorer) checkState(man *checkpoint.Manifest, before logged) string {
	rows := records(0)
	if k := man.State(); k != nil {
		rows = records(k.Data[0])
	}
	if x.cfg.keyed && rows != x.below(man.Positions()) {
		return "I2: keyed state and positions are of other records"
	}
	if before.seq == 0 || slices.Contains(x.cfg.hands[:], unpinAll) {
		return ""
	}
	for _, p := range x.entries[before.entry].Manifest.Pinned {
		if man.Pin(p.Seq) == nil {
			return "I9: a pin is lost"
		}
	}
	return ""
}

// checkKept holds I9 for keyed state: all that a manifest names is there as long as that is there itself, and what the newest one pins
// is there.
func (x *explorer) checkKept(s state) string {
	if !x.cfg.keyed {
		return ""
	}
	log, segs := x.logs.all[s[0]], x.segs.all[s[1]]
	gone := func(names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return !segs.has(x.segmentNames[name]) })
	}
	for _, e := range log.entries {
		if m := x.entries[e.entry].Manifest; m != nil && m.State() != nil && gone(m.State().Objects) {
			return "I9: keyed state is gone that a manifest names"
		}
	}
	n := log.newest()
	if n.seq == 0 {
		return ""
	}
	for _, p := range x.entries[n.entry].Manifest.Pinned {
		if e, there := log.find(p.Seq); !there || x.entries[e].Manifest == nil || gone(p.Objects) {
			return "I9: a pinned checkpoint is gone"
		}
	}
	return ""
}

func (s *step) removeState(g segment) { s.segs, s.copied[1] = s.segs.without(g), true }

// lookBeforeSweep reads which keyed state kept manifests name. What they do not name is deleted later: the two are not one act.
func (s *step) lookBeforeSweep(p pending) {
	var keep Collect
	for _, e := range s.log.entries {
		m := s.x.entries[e.entry].Manifest
		if m == nil || m.State() == nil || s.x.mutant == sweepKeepsNewest && s.r.slot != rescuer && e != s.log.newest() {
			continue
		}
		keep.State = append(keep.State, m.State().Objects...)
	}
	s.wait(pending{kind: doSweepState, seq: p.seq, id: s.x.collect(keep)})
}

func (s *step) sweepState(p pending) {
	keep := s.x.collected[p.id].State
	for _, g := range s.segs {
		if g.sink == stateSink && g.unit.lease() < record.Lease(p.seq) && !slices.Contains(keep, s.x.stateName(g.unit)) {
			s.removeState(g)
		}
	}
}

// takeCollect notes what is to be deleted; while a savepoint is made it waits.
func (s *step) takeCollect(c Collect) {
	if !s.x.cfg.collects {
		c.Segments = nil
	}
	if !s.x.deletes() || len(c.Manifests)+len(c.Segments)+len(c.State) == 0 {
		return
	}
	id := s.x.collect(c)
	if s.r.save.active() && (s.x.mutant != collectWhileSaving || s.r.slot == rescuer) {
		s.r.save.collects = append(s.r.save.collects, id)
		return
	}
	s.wait(pending{kind: doCollect, number: s.r.m.last, id: id})
}

// edit makes a change by hand. Only the newest checkpoint is pinned: a run that was alive until then may still be deleting what it has
// given up before.
func (s *step) edit(e Edit) Event {
	man := e.Head
	switch s.x.cfg.hands[s.r.slot] {
	case pinNewest:
		if e.Seq == 0 {
			return Edited{}
		}
		pin := checkpoint.Pin{Seq: e.Seq}
		if k := man.State(); k != nil {
			pin.Objects = k.Objects
		}
		man.Pinned = append(slices.Clone(man.Pinned), pin)
	case unpinAll:
		if len(man.Pinned) == 0 {
			return Edited{}
		}
		man.Pinned = nil
	case noHand:
	}
	return Edited{OK: true, Manifest: man}
}

// published is where the driver begins to apply the checkpoint's changes to the local database (I8), and where a savepoint learns that
// its checkpoint is decided.
func (s *step) published(e Published) {
	entry := s.x.entry(checkpoint.Entry{Manifest: &e.Manifest})
	if s.x.cfg.keyed && !slices.Contains(s.log.published, logged{e.Seq, entry}) {
		s.fail("I8: keyed state is applied before its manifest is published")
	}
	w := &s.r.save
	if w.stage != cutting || e.Manifest.Checkpoint != w.cut {
		return
	}
	w.stage, w.entry = published, entry
	if heldBy(&e.Manifest) != 0 {
		s.fail("SAVEPOINT: rows are held back at its checkpoint")
	}
}

func (s *step) noteBarrier(e Barrier) {
	w := &s.r.save
	if w.stage == asked && (e.Cut.Roll || s.x.mutant == rollForgotten && s.r.slot != rescuer) {
		w.stage, w.cut = cutting, e.Cut.Checkpoint
	}
}

// saveIfCommitted begins to copy a savepoint once nothing of it is pending.
func (s *step) saveIfCommitted() {
	w := &s.r.save
	switch {
	case s.r.over:
		return
	case w.stage == cutting && !slices.ContainsFunc(s.r.m.cuts, func(c cut) bool { return c.cut.Checkpoint == w.cut }):
		s.fail("SAVEPOINT: its checkpoint is skipped")
	}
	if w.stage != published {
		return
	}
	if !s.r.m.CommittedUpTo(w.cut) && (s.x.mutant != saveAtPublish || s.r.slot == rescuer) {
		return
	}
	w.stage = copying
	s.out.saved = s.x.below(s.x.entries[w.entry].Manifest.Positions())
	s.wait(pending{kind: doCopy})
}

// copy copies a savepoint's keyed state. Only a run that took over may have deleted something meanwhile.
func (s *step) copy() {
	w := &s.r.save
	if k := s.x.entries[w.entry].Manifest.State(); k != nil && !s.log.owned(s.x, s.r.m.lease) {
		for _, name := range k.Objects {
			if !s.segs.has(s.x.segmentNames[name]) {
				s.fail("SAVEPOINT: keyed state is gone before it is copied")
			}
		}
	}
	for _, id := range w.collects {
		s.wait(pending{kind: doCollect, number: s.r.m.last, id: id})
	}
	w.stage, w.collects = saved, nil
}

// holding reports whether a sink keeps rows back until it is asked for them.
func (x *explorer) holding(n int) bool { return x.cfg.holds && n == 1 }

// handOut is what a sink that holds rows back gives for a checkpoint: all that it has, or nothing and what it holds.
func (s *step) handOut(e Assemble, rows records) (records, []byte) {
	if st := s.r.m.sinks[1].state; len(st) > 0 {
		rows |= records(st[0])
	}
	roll := e.Cut.Roll || e.Cut.Final
	if !roll && rows != 0 {
		return 0, []byte{byte(rows)}
	}
	s.prepare(1, makeUnit(e.Cut.Lease, e.Cut.Checkpoint, 0), rows)
	return rows, nil
}

// heldIn are the rows that a sink holds back: durable in its file, which the manifest records.
func heldIn(st *checkpoint.SinkState) records {
	if len(st.State) == 0 {
		return 0
	}
	return records(st.State[0])
}

func heldBy(man *checkpoint.Manifest) records {
	var rows records
	for i := range man.Sinks {
		rows |= heldIn(&man.Sinks[i])
	}
	return rows
}
