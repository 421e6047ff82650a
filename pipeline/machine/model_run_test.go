package machine

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// run is one run of the daemon: its machine, and the effects that are asked for and not done. A run may stop for ever at any
// moment or wake up at any later one: that is the same as doing nothing for a while. So what is asked for can take effect at
// any time, and a crash needs no step of its own.
type run struct {
	slot    uint8
	m       *Machine
	over    bool // the machine has stopped: what is on the wire may still take effect, and nobody hears the answer
	pending []pending
	clients [2]client
	letters records // refused and replaced, not yet with the writer of dead letters
	cuts    uint8   // checkpoints of the tasks
	read    checkpoint.Seq
}

type pendingKind uint8

const (
	doList pendingKind = iota
	doGet
	doCreate
	doFence
	doCommit
	doParts
	doLetters
	doCollect
	doSweep
)

// pending is one effect that is asked for.
type pending struct {
	kind    pendingKind
	purpose Purpose
	sink    uint8
	started bool // clickhouse: the insert runs
	final   bool
	unasked bool // only in mutants: the machine has not asked for it and hears no answer
	seq     checkpoint.Seq
	number  record.Checkpoint
	id      uint32  // of an entry, a committable or a collect
	insert  request // clickhouse: what runs
}

func (p pending) sortKey() uint64 {
	return uint64(p.kind)<<60 | uint64(p.purpose)<<56 | uint64(p.sink)<<52 | uint64(p.seq)<<40 | uint64(p.number)<<28 | uint64(p.id)
}

func (r *run) key() key {
	k := key{r.slot}.num(uint64(r.letters), uint64(r.cuts), uint64(r.read))
	switch {
	case r.over && len(r.pending) == 0:
		return key{255}
	case r.over:
		k = key{254, r.slot}.num(uint64(r.m.lease))
	default:
		k = k.machine(r.m)
	}
	for _, c := range r.clients {
		k = k.num(uint64(c.attempt)).flags(c.uncertain, c.seen, c.looked)
	}
	for _, p := range r.pending {
		k = k.num(p.sortKey(), p.insert.num()).flags(p.started, p.final, p.unasked)
	}
	return k
}

func (r *run) clone() *run {
	c := *r
	c.m = r.m.clone()
	c.pending = slices.Clone(r.pending)
	return &c
}

// claimed reports whether the run has taken its lease.
func (r *run) claimed() bool { return r.m.phase > claiming }

// untaken returns the input that no checkpoint of the run has taken.
func (r *run) untaken(x *explorer) records {
	at := make([]record.Offset, len(x.cfg.records))
	for i := range r.m.splits {
		at[r.m.splits[i].Split[0]-'a'] = r.m.splits[i].Offset
	}
	for i := range r.m.cuts {
		for _, p := range r.m.cuts[i].parts {
			for _, sp := range p.Splits {
				at[sp.Split[0]-'a'] = sp.Offset
			}
		}
	}
	var left records
	for i, n := range x.cfg.records {
		for o := int(at[i]); o < n; o++ {
			left |= x.bit(i, o)
		}
	}
	return left
}

// move is one thing that can happen to a run.
type move struct {
	kind  moveKind
	at    int     // of the pending effect
	rows  records // of a checkpoint's parts
	fault bool    // it costs one
	touch [4]bool // log, segments, first and second target
	held  bool    // only in mutants: not before the commit's manifest is published
}

type moveKind uint8

const (
	moveAnswer moveKind = iota // it is done and answered
	moveLate                   // it is sent, its answer stays away, and it takes effect some time later or never
	moveQueue                  // clickhouse: the same, before it has passed the fence
	moveInterval
	moveEnd
)

// moves lists what can happen to a run, except what others do.
func (r *run) moves(x *explorer) []move {
	var out []move
	collects := false
	for i, p := range r.pending {
		mv := move{at: i}
		switch p.kind {
		case doList, doGet, doCreate:
			mv.touch[0] = true
		case doFence:
			mv.touch[2+p.sink] = true
		case doCommit:
			mv.touch[2+p.sink], mv.touch[1] = true, x.cfg.collects
		case doCollect, doSweep:
			if collects { // one after the other
				continue
			}
			collects = true
			mv.touch[0], mv.touch[1] = true, true
		case doLetters:
			mv.touch[1], mv.touch[3] = x.cfg.collects, x.cfg.sinks[1] == file
		case doParts:
			mv.touch[1], mv.touch[2], mv.touch[3] = x.cfg.collects, x.cfg.sinks[0] == file, x.cfg.sinks[1] == file
			for _, rows := range x.choices(r.untaken(x)) {
				mv.rows = rows
				out = append(out, mv)
			}
			continue
		}
		if p.kind == doCommit && x.mutant == twoInFlight { // it waits until the manifest is there
			mv.touch[0], mv.held = true, true
		}
		out = append(out, mv)
		out = append(out, r.faults(x, mv, p)...)
	}
	return append(out, r.wishes(x)...)
}

// faults lists what can go wrong with a pending effect.
func (r *run) faults(x *explorer, mv move, p pending) []move {
	mv.fault = true
	switch p.kind {
	case doCreate, doFence:
		mv.kind = moveLate
		return []move{mv}
	case doCommit:
		mv.kind = moveLate
		if x.cfg.sinks[p.sink] != clickhouse || p.started {
			return []move{mv}
		}
		mv.kind = moveQueue
		return []move{mv}
	case doList, doGet, doParts, doLetters, doCollect, doSweep:
	}
	return nil
}

// wishes lists what the run's surroundings may want.
func (r *run) wishes(x *explorer) []move {
	m := r.m
	if r.over || m.phase != running || m.stopping || m.want || len(m.cuts) > 1 || len(m.cuts) == 1 && m.cuts[0].stage == collecting {
		return nil
	}
	left := r.untaken(x)
	var out []move
	if left != 0 && int(r.cuts) < x.cfg.cuts && m.waiting() < m.cfg.MaxPending {
		out = append(out, move{kind: moveInterval})
	}
	if left == 0 && x.cfg.ends {
		out = append(out, move{kind: moveEnd})
	}
	return out
}

func (mv move) describe(r *run) string {
	name := [...]string{"", " (answer lost, late)", " (answer lost, not started)", "interval", "input ends"}[mv.kind]
	if mv.kind >= moveInterval {
		return name
	}
	p := r.pending[mv.at]
	what := [...]string{"list", "get", "create", "fence", "commit", "parts", "letters", "collect", "sweep"}[p.kind]
	switch p.kind {
	case doList, doGet, doCreate:
		what += fmt.Sprintf(" %s %d", [...]string{"", "claim", "read", "publish", "probe"}[p.purpose], p.seq)
	case doFence:
		what += fmt.Sprintf(" sink %d", p.sink)
	case doCommit:
		what += fmt.Sprintf(" sink %d checkpoint %d, started %v", p.sink, p.number, p.started)
	case doParts:
		what += fmt.Sprintf(" %b of checkpoint %d", mv.rows, p.number)
	case doLetters, doCollect, doSweep:
	}
	return what + name
}

// step is one move under way, on copies of what it changes.
type step struct {
	x       *explorer
	r       *run
	log     *logModel
	segs    segments
	targets [2]*target
	copied  [4]bool
	out     result
}

// result is what the checks of a move need beside the parts of the world that it changed.
type result struct {
	bad     string
	sent    [2]unit // the unit that a commit was sent for, of each sink
	settled bool
	upTo    records // what was told to be settled
	stop    Reason
	lease   record.Lease // of a run that stopped, or of its attempt to claim
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
	r := request{unit: u, rows: rows, by: fenceRow{who: uint8(c.lease)}}
	switch t.kind {
	case kafka:
		if t.fence == c.token() && t.seen(c, u) {
			return sink.Committed // the ledger is read first, and nothing is sent
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
}

func (s *step) sweep(p pending) {
	c := s.x.collected[p.id]
	for _, g := range s.segs {
		kept := slices.ContainsFunc(c.Segments, func(name string) bool { return s.x.segmentNames[name] == g })
		if g.unit.lease() < record.Lease(p.seq) && !kept && !(p.unasked && s.listed(g)) {
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
		s.out.settled, s.out.upTo = true, s.x.below(e.Positions)
	case Collect:
		if s.x.cfg.collects {
			return s.wait(pending{kind: doCollect, number: s.r.m.last, id: s.x.collect(e)})
		}
	case Sweep:
		if s.x.cfg.collects {
			return s.wait(pending{kind: doSweep, seq: checkpoint.Seq(e.Below), id: s.x.collect(Collect{Segments: e.Keep})})
		}
	case Stop:
		s.stop(e)
	case answerNow:
		return e.Event
	case ask:
		return s.wait(e.pending)
	case Run, AddSplits, Published, Edit:
	}
	return nil
}

// stop ends the run. What is on the wire may still take effect.
func (s *step) stop(e Stop) {
	s.out.stop, s.out.lease = e.Reason, s.r.m.lease
	if s.r.m.lease == 0 && s.r.m.claim.claim != nil {
		s.out.lease = s.r.m.claim.claim.Lease - 1 // whoever took the lease that it asked for is newer
	}
	s.r.over = true
	s.r.pending = slices.DeleteFunc(s.r.pending, func(p pending) bool {
		return p.kind != doCreate && p.kind != doFence && p.kind != doCommit && p.kind != doCollect && p.kind != doSweep
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
