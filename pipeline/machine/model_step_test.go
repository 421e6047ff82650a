package machine

import (
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// step is one move under way, on copies of what it changes.
type step struct {
	x       *explorer
	r       *run
	log     *logModel
	segs    segments
	targets [2]*target
	copied  [4]bool
	soon    []Event // only in mutants: answers to what is not asked
	out     result
}

// result is what the checks of a move need beside the parts of the world that it changed.
type result struct {
	bad     string
	sent    [2]unit // the unit that a commit was sent for, of each sink
	settled bool
	upTo    records // what was told to be settled
	saved   records // what a savepoint says is in the targets
	stop    Reason
	lease   record.Lease   // of a run that stopped
	claimAt checkpoint.Seq // of a run that stopped before it had a lease
}

func (s *step) fail(bad string) {
	if s.out.bad == "" {
		s.out.bad = bad
	}
}

func (s *step) wlog() *logModel {
	if !s.copied[0] {
		s.log, s.copied[0] = s.log.clone(), true
	}
	return s.log
}

func (s *step) target(i uint8) *target {
	if !s.copied[2+i] {
		s.targets[i], s.copied[2+i] = s.targets[i].clone(), true
	}
	return s.targets[i]
}

// do makes the move. A violation of the machine's own assertions is reported like any other.
func (s *step) do(mv move) {
	defer func() {
		if p := recover(); p != nil {
			v, ok := p.(invariant.Violation)
			if !ok {
				panic(p)
			}
			s.fail(v.ID + " (asserted): " + v.Detail)
		}
	}()
	switch mv.kind {
	case moveInterval:
		s.r.cuts++
		s.deliver(TimerFired{Timer{Kind: TimerInterval}})
	case moveEnd:
		s.deliver(InputEnded{})
	case moveSave:
		s.r.save.stage = asked
		s.deliver(Requested{RollNow})
	case moveAnswer, moveLate, moveQueue:
		p := s.r.pending[mv.at]
		s.r.pending = slices.Delete(s.r.pending, mv.at, mv.at+1)
		s.answer(p, mv)
	}
	slices.SortFunc(s.r.pending, func(a, b pending) int {
		switch ka, kb := a.sortKey(), b.sortKey(); {
		case ka < kb:
			return -1
		case ka > kb:
			return 1
		}
		return 0
	})
}

func (s *step) answer(p pending, mv move) {
	switch p.kind {
	case doList:
		s.deliver(Listed{For: p.purpose, Last: s.log.last()})
	case doGet:
		s.deliver(s.get(p))
	case doCreate:
		s.create(p, mv)
	case doFence:
		s.fence(p, mv)
	case doCommit:
		s.commit(p, mv)
	case doParts:
		s.parts(p, mv.rows)
	case doLetters:
		s.partLetters(p)
	case doCollect:
		s.collect(p)
	case doSweep:
		s.sweep(p)
	case doSweepState:
		s.sweepState(p)
	case doCopy:
		s.copy()
	}
}

func (s *step) get(p pending) Event {
	seq := p.seq
	e, ok := s.log.find(seq)
	if !ok {
		return Got{For: p.purpose, Seq: seq}
	}
	return Got{For: p.purpose, Seq: seq, Found: true, Entry: s.x.entries[e]}
}

func (s *step) create(p pending, mv move) {
	e := logged{p.seq, p.id}
	if mv.kind == moveLate {
		l := s.wlog()
		l.late = append(l.late, e)
		slices.SortFunc(l.late, func(a, b logged) int { return int(a.seq)<<20 + int(a.entry) - int(b.seq)<<20 - int(b.entry) })
		s.deliver(Created{For: p.purpose, Seq: p.seq, Result: CreateUnknown})
		return
	}
	created, bad := s.wlog().create(s.x, e)
	if bad != "" {
		s.fail(bad)
	}
	res := CreateExists
	if created {
		res = CreateDone
	}
	s.deliver(Created{For: p.purpose, Seq: p.seq, Result: res})
}

func (s *step) caller(n uint8) caller {
	c := caller{slot: s.r.slot, lease: s.r.m.lease, client: &s.r.clients[n], alo: s.x.cfg.alo, mutant: s.x.mutant, data: true}
	if s.r.slot == rescuer {
		c.mutant = none
	}
	return c
}

func (s *step) fence(p pending, mv move) {
	c := s.caller(p.sink)
	if p.unasked {
		c.lease = record.Lease(p.seq)
	}
	for i := range s.x.committables[p.id] {
		c.pendings = append(c.pendings, unitOf(&s.x.committables[p.id][i]))
	}
	t := s.target(p.sink)
	if mv.kind == moveLate { // it may take effect later, which for a fence that only grows is to take effect now, unheard
		t.raise(c)
		s.deliver(SinkFenced{Sink: int(p.sink)})
		return
	}
	ok := t.raise(c)
	if p.unasked {
		return
	}
	ev := SinkFenced{Sink: int(p.sink), OK: ok}
	if !ok {
		ev.Kind = fault.Fenced
	}
	s.deliver(ev)
}

func (s *step) commit(p pending, mv move) {
	c := s.caller(p.sink)
	cm := &s.x.committables[p.id][0]
	u, rows := unitOf(cm), rowsIn(cm)
	c.data = !s.x.cfg.collects || s.segs.has(segment{p.sink, u})
	if p.sink == 0 {
		c.refuses = s.x.cfg.refuses
	}
	s.out.sent[p.sink] = u
	t := s.target(p.sink)
	switch {
	case p.started:
		s.finish(p, mv, c)
	case p.unasked:
		t.commit(c, u, rows)
	case mv.kind == moveLate || mv.kind == moveQueue:
		s.commitDone(p.sink, u, rows, CommitDone{Outcome: s.sendLate(t, c, u, rows)})
	case t.kind == clickhouse:
		r, outcome := t.insert(c, u, rows)
		if outcome == sink.Unknown {
			p.started, p.insert = true, r
			s.r.pending = append(s.r.pending, p)
			return
		}
		s.commitDone(p.sink, u, rows, CommitDone{Outcome: outcome})
	default:
		s.commitDone(p.sink, u, rows, CommitDone{Outcome: t.commit(c, u, rows)})
	}
}

// sendLate sends a commit whose answer stays away, and which takes effect later or never.
func (s *step) sendLate(t *target, c caller, u unit, rows records) sink.Outcome {
	r := request{unit: u, rows: rows, lease: uint8(c.lease)}
	switch t.kind {
	case kafka:
		if c.client.uncertain && s.x.mutant != retryInOldEpoch {
			t.raise(c)
		}
		switch { // before anything is sent the ledger is read
		case t.fence != c.token() || t.writer > c.lease:
			return sink.Fenced
		case t.seen(c, u):
			return sink.Committed
		}
		r.by, c.client.uncertain = c.token(), true
	case clickhouse:
		r.conditional = u.lease() != c.lease
		if c.client.uncertain && s.x.mutant != blindRetry {
			if !t.raise(c) {
				return sink.Fenced
			}
			r.conditional = true
		}
		r.by, c.client.uncertain = c.row(), true
	case ledger, file:
	}
	if c.data && rows&c.refuses == 0 {
		t.send(r)
	}
	return sink.Unknown
}

func (s *step) finish(p pending, mv move, c caller) {
	done := CommitDone{Outcome: sink.Unknown}
	if mv.kind == moveAnswer && s.target(p.sink).finish(p.insert) {
		done.Outcome = sink.Committed
	}
	c.client.uncertain = done.Outcome == sink.Unknown
	s.commitDone(p.sink, p.insert.unit, p.insert.rows, done)
}

// commitDone answers a commit. What is told to be committed must be so (I6).
func (s *step) commitDone(n uint8, u unit, rows records, done CommitDone) {
	done.Sink = int(n)
	if done.Outcome == sink.Committed && rows&^s.targets[n].effective() != 0 {
		s.fail("I6: a unit without effect is said to be committed")
	}
	if done.Outcome == sink.Rejected {
		for i, k := 0, int64(0); i < recordsMax; i++ {
			if rows>>i&1 == 0 {
				continue
			}
			if s.x.cfg.refuses>>i&1 == 1 {
				done.Rows = append(done.Rows, k)
			}
			k++
		}
	}
	s.deliver(done)
}

// prepare makes a unit's rows durable.
func (s *step) prepare(n uint8, u unit, rows records) {
	switch {
	case rows == 0:
	case s.x.cfg.sinks[n] == file:
		s.target(n).put(u)
	case s.x.cfg.collects:
		s.segs, s.copied[1] = s.segs.with(segment{n, u}), true
	}
}

// parts answers a barrier for all tasks at once: the order of their answers is proven to be of no consequence by
// TestMachine_partsMayComeInAnyOrder, and nothing can be seen of a checkpoint before the last of them.
func (s *step) parts(p pending, rows records) {
	for n := range s.x.cfg.sinks {
		if s.x.cfg.refuses != 0 && n == 1 {
			continue
		}
		if s.x.holding(n) { // its file is ended when it is handed out
			continue
		}
		for i, mine := range s.x.unitsOf(rows) {
			s.prepare(uint8(n), makeUnit(s.r.m.lease, p.number, record.Unit(i)*sink.UnitStep), mine)
		}
	}
	left := s.r.untaken(s.x)
	for task, count := range s.x.cfg.records {
		part := Part{Task: task, Sinks: make([]sink.Part, 2)}
		var mine records
		at := 0
		for o := range count {
			b := s.x.bit(task, o)
			if left&b == 0 || rows&b != 0 {
				at = o + 1
			}
			mine |= rows & b
		}
		part.Splits = []source.Split{s.x.split(task, at)}
		n := mine.count()
		part.Stages = []checkpoint.StageCount{{Stage: "source", In: n, Passed: n}, {Stage: "sink:main", In: n, Passed: n}}
		for i := range part.Sinks {
			if n > 0 && (i == 0 || s.x.cfg.refuses == 0) {
				part.Sinks[i] = sink.Part{Task: task, Rows: n, Data: []byte{byte(mine)}}
			}
		}
		if task == 0 && rows != 0 && s.x.cfg.keyed {
			part.State = s.storeState(p.number, rows)
		}
		s.deliver(PartDone{Checkpoint: p.number, Part: part})
	}
}

func (s *step) partLetters(p pending) {
	s.prepare(1, makeUnit(s.r.m.lease, p.number, 0), s.r.letters)
	part := Part{Task: s.r.m.cfg.Tasks, Sinks: make([]sink.Part, 2)}
	part.Sinks[1] = sink.Part{Task: part.Task, Rows: s.r.letters.count(), Data: []byte{byte(s.r.letters)}}
	s.r.letters = 0
	s.deliver(PartDone{Checkpoint: p.number, Part: part})
}

func (s *step) collect(p pending) {
	c := s.x.collected[p.id]
	for _, seq := range c.Manifests {
		if bad := s.wlog().remove(s.x, seq); bad != "" {
			s.fail(bad)
		}
		s.deliver(Deleted{Seq: seq})
	}
	for _, name := range c.Segments {
		s.removeSegment(s.x.segmentNames[name])
	}
	for _, name := range c.State {
		s.removeState(s.x.segmentNames[name])
	}
}

func (s *step) sweep(p pending) {
	c := s.x.collected[p.id]
	if s.x.cfg.keyed {
		s.lookBeforeSweep(p)
	}
	for _, g := range s.segs {
		if g.sink == stateSink {
			continue
		}
		kept := slices.ContainsFunc(c.Segments, func(name string) bool { return s.x.segmentNames[name] == g })
		if kept || p.unasked && s.listed(g) {
			continue
		}
		if g.unit.lease() < record.Lease(p.seq) {
			s.removeSegment(g)
		}
	}
}

// listed reports whether the newest manifest lists a segment.
func (s *step) listed(g segment) bool {
	n := s.log.newest()
	return n.seq > 0 && slices.ContainsFunc(s.x.entries[n.entry].Manifest.Sinks[g.sink].Pending, func(c sink.Committable) bool {
		return unitOf(&c) == g.unit
	})
}

// removeSegment deletes a segment, unless the newest manifest lists it (I9).
func (s *step) removeSegment(g segment) {
	if s.listed(g) {
		s.fail("I9: a segment that the newest manifest lists is deleted")
	}
	s.segs, s.copied[1] = s.segs.without(g), true
}

// deliver gives the machine an event, and at once what no other run can see: timers that back off, the search for splits, the
// sinks' assembly, the replacement of a unit, and reading the log below an effective claim, where nothing can change any more.
func (s *step) deliver(events ...Event) {
	for len(events) > 0 && !s.r.over {
		ev := s.mutateEvent(events[0])
		events = events[1:]
		for _, e := range s.mutateEffects(ev, s.r.m.Step(0, ev)) {
			if now := s.take(e); now != nil {
				events = append(events, now)
			}
		}
		s.saveIfCommitted()
		events, s.soon = append(events, s.soon...), nil
	}
}

func (s *step) wait(p pending) Event {
	s.r.pending = append(s.r.pending, p)
	return nil
}

// take takes an effect: it returns the answer if that comes at once.
func (s *step) take(e Effect) Event {
	switch e := e.(type) {
	case List:
		return s.wait(pending{kind: doList, purpose: e.For})
	case Get:
		if e.For == ForRead {
			return s.get(pending{purpose: e.For, seq: e.Seq})
		}
		return s.wait(pending{kind: doGet, purpose: e.For, seq: e.Seq})
	case Create:
		return s.wait(pending{kind: doCreate, purpose: e.For, seq: e.Seq, id: s.x.entry(e.Entry)})
	case FenceSink:
		return s.wait(pending{kind: doFence, sink: uint8(e.Sink), id: s.x.committableList(e.Pending)})
	case Commit:
		return s.wait(pending{kind: doCommit, sink: uint8(e.Sink), number: e.Committable.Checkpoint, id: s.x.committableList([]sink.Committable{e.Committable})})
	case Replace:
		return s.replace(e)
	case Discover:
		return s.discover(e)
	case Barrier:
		s.noteBarrier(e)
		return s.wait(pending{kind: doParts, number: e.Cut.Checkpoint, final: e.Cut.Final})
	case Letters:
		return s.wait(pending{kind: doLetters, number: e.Cut.Checkpoint})
	case Assemble:
		return s.assemble(e)
	case SetTimer:
		if e.Timer.Kind != TimerInterval && e.Timer.Kind != TimerDiscovery {
			return TimerFired{e.Timer}
		}
	case Settled:
		s.out.settled, s.out.upTo = true, s.x.below(e.Positions)&^heldBy(s.r.m.head)
	case Collect:
		s.takeCollect(e)
	case Edit:
		return s.edit(e)
	case Run:
		s.restore(e)
	case Published:
		s.published(e)
	case Sweep:
		if s.x.deletes() {
			return s.wait(pending{kind: doSweep, seq: checkpoint.Seq(e.Below), id: s.x.collect(Collect{Segments: e.Keep})})
		}
	case Stop:
		s.stop(e)
	case AddSplits:
	}
	return nil
}

// stop ends the run. What is on the wire may still take effect.
func (s *step) stop(e Stop) {
	s.out.stop, s.out.lease = e.Reason, s.r.m.lease
	if s.r.m.lease == 0 {
		s.out.claimAt = s.r.m.claim.at
	}
	s.r.over = true
	s.r.pending = slices.DeleteFunc(s.r.pending, func(p pending) bool {
		return p.kind != doCreate && p.kind != doFence && p.kind != doCommit && p.kind != doCollect && p.kind != doSweep && p.kind != doSweepState
	})
}

func (s *step) replace(e Replace) Event {
	by := e.Committable
	rows := rowsIn(&by)
	s.r.letters |= rows & s.x.cfg.refuses
	rows &^= s.x.cfg.refuses
	by.Unit, by.Rows, by.Data = e.Unit, rows.count(), []byte{byte(rows)}
	by.Segments = s.x.segmentsOf(uint8(e.Sink), unitOf(&by))
	s.prepare(uint8(e.Sink), unitOf(&by), rows)
	return ReplaceDone{Sink: e.Sink, OK: true, By: by}
}

func (s *step) discover(e Discover) Event {
	ev := Discovered{OK: true}
	if len(e.Known) == 0 {
		for i := range s.x.cfg.records {
			ev.Splits = append(ev.Splits, s.x.split(i, 0))
		}
	}
	return ev
}

func (s *step) assemble(e Assemble) Event {
	done := AssembleDone{Checkpoint: e.Cut.Checkpoint}
	for n, parts := range e.Parts {
		var rows records
		for _, p := range parts {
			rows |= records(p.Data[0])
		}
		var a sink.Assembled
		if s.x.holding(n) {
			rows, a.State = s.handOut(e, rows)
		}
		for i, mine := range s.x.unitsOf(rows) {
			c := sink.Committable{
				Lease: e.Cut.Lease, Checkpoint: e.Cut.Checkpoint, Unit: record.Unit(i) * sink.UnitStep, Rows: mine.count(), Data: []byte{byte(mine)},
			}
			c.Segments = s.x.segmentsOf(uint8(e.Sinks[n]), unitOf(&c))
			a.Committables = append(a.Committables, c)
		}
		done.Results = append(done.Results, a)
	}
	return done
}
