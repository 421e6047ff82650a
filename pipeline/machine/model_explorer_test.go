package machine

import (
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// The exploration visits every state that runs, store and sinks can reach together in a small configuration, breadth first,
// over the real Machine.
//
// A state is a tuple of parts: the log, the segments, two targets, up to three runs, and the faults that were used. Parts are
// interned, so a tuple is eight small numbers, and a move is computed once for the parts that it touches, however many states
// share them (collapse compression). Three reductions hold no behaviour back:
//   - Doing an effect and hearing the answer is one move. A run that hears its answer late does nothing in between, and what it
//     would do on the answer is pending, so it can be as late.
//   - What no other run can see or change is done at once: see [step.deliver].
//   - Runs are numbered by their first look at the log: before it they are all the same.
//
// From every state a rescuer starts: all runs stand still, and a fresh one without faults must end with every record committed.
// What is under way to store and targets lands before it begins, or after it has ended. It depends on log, segments and targets
// alone, so it runs once for each of their combinations.
type explorer struct {
	cfg    exploration
	mutant mutant

	entries      []checkpoint.Entry
	committables [][]sink.Committable
	collected    []Collect
	ids          map[string]uint32 // of the three, by key
	segmentNames map[string]segment

	logs    parts[*logModel]
	segs    parts[segments]
	targets [2]parts[*target]
	runs    parts[*run]
	acts    [][]move // of each run
	done    map[moveKey]moved
	judged  map[[4]uint32]bool

	states  pages[state]
	from    pages[origin]
	visited table
	moves   int
	depth   int
	doubled bool // some record has had an effect twice
}

// exploration is one small configuration.
type exploration struct {
	name     string
	sinks    [2]kind
	records  []int // of each split; task n owns split n
	runs     int   // besides the rescuer
	dies     int   // the run that does nothing after its claim; -1 for none
	cuts     int   // checkpoints of the tasks in each run
	faults   int
	alo      bool
	refuses  records // refused by the first sink; the second takes dead letters then
	collects bool    // segments and collection are explored, with keep manifests
	keyed    bool    // checkpoints have keyed state, whose objects are collected
	shared   bool    // a checkpoint's keyed state names the object of the one before, too
	hands    [3]hand // changes that a run makes by hand in place of running
	oneByOne bool    // a run does nothing any more once the next has looked at the log
	saves    bool    // savepoints are made while it runs
	holds    bool    // the second sink, of files, hands out rows only at a checkpoint that asks it to, and at the end
	keep     int
	ends     bool // the end of input is explored
	idle     bool // a checkpoint may also be empty
	units    bool // each record is a unit of its own
	pending  int  // MaxPending
	limit    int  // states, 0 for all
	states   int  // at least so many must be found
}

// state is a tuple of parts: log, segments, two targets, three runs, and the faults that were used.
type state [8]uint32

type origin struct {
	parent uint32
	who    uint8 // a run, or 3 and 4 for the targets, 5 for the log
	act    uint16
}

type moveKey struct {
	who   uint8
	act   uint16
	parts [5]uint32
}

// moved is what a move makes of the parts that it touches.
type moved struct {
	parts [5]uint32
	out   result
}

// parts interns one kind of part.
type parts[T interface{ key() key }] struct {
	ids map[string]uint32
	all []T
}

func (p *parts[T]) id(v T) uint32 {
	k := v.key()
	if id, ok := p.ids[string(k)]; ok {
		return id
	}
	if p.ids == nil {
		p.ids = map[string]uint32{}
	}
	id := uint32(len(p.all))
	p.ids[string(k)] = id
	p.all = append(p.all, v)
	return id
}

// pages is a list that grows without moving what it holds.
type pages[T any] struct {
	all [][]T
	n   int
}

const pageSize = 1 << 14

func (p *pages[T]) at(i int) *T { return &p.all[i/pageSize][i%pageSize] }

func (p *pages[T]) add(v T) {
	if p.n%pageSize == 0 {
		p.all = append(p.all, make([]T, pageSize))
	}
	*p.at(p.n) = v
	p.n++
}

// table finds states by value.
type table struct {
	seed  maphash.Seed
	slots []uint32 // index + 1
	n     int
}

func (t *table) find(states *pages[state], s state) (slot int, ok bool) {
	for i := int(maphash.Comparable(t.seed, s) & uint64(len(t.slots)-1)); ; i = (i + 1) & (len(t.slots) - 1) {
		switch n := t.slots[i]; {
		case n == 0:
			return i, false
		case *states.at(int(n - 1)) == s:
			return i, true
		}
	}
}

// add notes a state and reports whether it is new.
func (x *explorer) add(s state, from origin) bool {
	t := &x.visited
	if 2*t.n >= len(t.slots) {
		t.slots = make([]uint32, max(1<<12, 4*t.n))
		for i := range x.states.n {
			slot, _ := t.find(&x.states, *x.states.at(i))
			t.slots[slot] = uint32(i + 1)
		}
	}
	slot, ok := t.find(&x.states, s)
	if ok {
		return false
	}
	x.states.add(s)
	x.from.add(from)
	t.n++
	t.slots[slot] = uint32(x.states.n)
	return true
}

func newExplorer(cfg exploration, mu mutant) *explorer {
	if cfg.keep == 0 {
		cfg.keep = 100
	}
	if cfg.pending == 0 {
		cfg.pending = 2
	}
	return &explorer{
		cfg: cfg, mutant: mu, ids: map[string]uint32{}, segmentNames: map[string]segment{},
		done: map[moveKey]moved{}, judged: map[[4]uint32]bool{}, visited: table{seed: maphash.MakeSeed()},
	}
}

func (x *explorer) machineConfig(nonce string) Config {
	cfg := Config{
		StoreID: "store", Pipeline: "p", Nonce: nonce, Stages: []string{"source", "sink:main"}, Sinks: []string{"main", "second"},
		DeadLetter: -1, Tasks: len(x.cfg.records), AtLeastOnce: x.cfg.alo,
		MaxPending: x.cfg.pending, Keep: x.cfg.keep,
	}
	if x.cfg.refuses != 0 {
		cfg.DeadLetter = 1
	}
	return cfg
}

// deletes reports whether anything is collected.
func (x *explorer) deletes() bool { return x.cfg.collects || x.cfg.keyed }

func (x *explorer) newRun(slot int) *run {
	cfg := x.machineConfig(fmt.Sprint("run ", slot))
	cfg.Offline = slot < len(x.cfg.hands) && x.cfg.hands[slot] != noHand
	r := &run{slot: uint8(slot), m: New(cfg)}
	s := step{x: x, r: r}
	s.deliver(Started{})
	return r
}

// explore searches until all states are visited, or the limit is reached, and returns the first violation.
func (x *explorer) explore() (bad string, at int) {
	s := state{x.logs.id(&logModel{}), x.segs.id(nil)}
	for n, k := range x.cfg.sinks {
		s[2+n] = x.targets[n].id(&target{kind: k})
	}
	for slot := range 3 {
		if slot < x.cfg.runs {
			s[4+slot] = x.runs.id(x.newRun(slot))
		} else {
			s[4+slot] = x.runs.id(&run{over: true})
		}
	}
	x.add(s, origin{})
	level := 1
	for i := 0; i < x.states.n; i++ { //nolint:intrange // the list grows meanwhile
		if i == level {
			x.depth, level = x.depth+1, x.states.n
		}
		if x.cfg.limit > 0 && x.states.n >= x.cfg.limit {
			break
		}
		if bad := x.expand(uint32(i)); bad != "" {
			return bad, x.states.n - 1
		}
	}
	return "", 0
}

// expand makes every move that is possible in a state.
func (x *explorer) expand(i uint32) string {
	s := *x.states.at(int(i))
	for slot := range x.cfg.runs {
		if slot > 0 && !x.looked(s[3+slot]) {
			break
		}
		if x.cfg.oneByOne && slot+1 < x.cfg.runs && x.looked(s[4+slot+1]) {
			continue
		}
		for n, mv := range x.movesOf(s[4+slot]) {
			if mv.fault && int(s[7]) >= x.cfg.faults || slot == x.cfg.dies && x.runs.all[s[4+slot]].claimed() || mv.held && x.holds(s, slot, mv) {
				continue
			}
			if bad := x.move(i, slot, n, mv); bad != "" {
				return bad
			}
		}
	}
	return x.landings(i)
}

// looked reports whether a run has looked at the log.
func (x *explorer) looked(id uint32) bool {
	r := x.runs.all[id]
	first := r.m != nil && r.m.phase == claiming && r.m.claim.at == 0 && len(r.pending) == 1 && r.pending[0].kind == doList
	return !first
}

func (x *explorer) movesOf(id uint32) []move {
	for len(x.acts) <= int(id) {
		r := x.runs.all[len(x.acts)]
		var moves []move
		if r.m != nil {
			moves = r.moves(x)
		}
		x.acts = append(x.acts, moves)
	}
	return x.acts[id]
}

func (x *explorer) move(i uint32, slot, n int, mv move) string {
	s := *x.states.at(int(i))
	k := moveKey{who: 0, act: uint16(n), parts: [5]uint32{4: s[4+slot]}}
	for p, touched := range mv.touch {
		if touched {
			k.parts[p] = s[p] + 1
		}
	}
	got, ok := x.done[k]
	if !ok {
		got = x.compute(s, slot, mv)
		x.done[k] = got
	}
	next := s
	for p := range 4 {
		if got.parts[p] > 0 {
			next[p] = got.parts[p] - 1
		}
	}
	next[4+slot] = got.parts[4]
	if mv.fault {
		next[7]++
	}
	return x.arrive(next, origin{i, uint8(slot), uint16(n)}, &got.out)
}

func (x *explorer) step(s state, slot int) *step {
	return &step{
		x: x, r: x.runs.all[s[4+slot]].clone(), log: x.logs.all[s[0]], segs: x.segs.all[s[1]],
		targets: [2]*target{x.targets[0].all[s[2]], x.targets[1].all[s[3]]},
	}
}

func (x *explorer) compute(s state, slot int, mv move) moved {
	st := x.step(s, slot)
	st.do(mv)
	got := moved{out: st.out}
	for p, copied := range st.copied {
		if copied && !mv.touch[p] {
			panic(fmt.Sprintf("%s changes part %d without saying so", mv.describe(x.runs.all[s[4+slot]]), p))
		}
	}
	if st.copied[0] {
		got.parts[0] = x.logs.id(st.log) + 1
	}
	if st.copied[1] {
		got.parts[1] = x.segs.id(st.segs) + 1
	}
	for n := range st.targets {
		if st.copied[2+n] {
			got.parts[2+n] = x.targets[n].id(st.targets[n]) + 1
		}
	}
	got.parts[4] = x.runs.id(st.r)
	return got
}

// landings lets what nobody waits for take effect.
func (x *explorer) landings(i uint32) string {
	s := *x.states.at(int(i))
	for n := range x.targets {
		for at := range x.targets[n].all[s[2+n]].late {
			next := s
			next[2+n] = x.land(n, s[2+n], at)
			if bad := x.arrive(next, origin{i, uint8(3 + n), uint16(at)}, &result{}); bad != "" {
				return bad
			}
		}
	}
	for at := range x.logs.all[s[0]].late {
		next, out := s, result{}
		l := x.logs.all[s[0]].clone()
		out.bad = x.landLog(l, at)
		next[0] = x.logs.id(l)
		if bad := x.arrive(next, origin{i, 5, uint16(at)}, &out); bad != "" {
			return bad
		}
	}
	return ""
}

func (x *explorer) land(n int, id uint32, at int) uint32 {
	k := moveKey{who: uint8(1 + n), act: uint16(at), parts: [5]uint32{id}}
	got, ok := x.done[k]
	if !ok {
		t := x.targets[n].all[id].clone()
		t.land(at, caller{mutant: x.mutant, client: &client{}})
		got.parts[0] = x.targets[n].id(t)
		x.done[k] = got
	}
	return got.parts[0]
}

func (x *explorer) landLog(l *logModel, at int) string {
	e := l.late[at]
	l.late = slices.Delete(l.late, at, at+1)
	_, bad := l.create(x, e)
	return bad
}

// arrive checks a move and the state that it leads to.
func (x *explorer) arrive(s state, from origin, out *result) string {
	x.moves++
	bad, isNew := x.checkMove(s, out), x.add(s, from)
	switch {
	case isNew && bad == "":
		return x.judge(s)
	case bad != "" && !isNew: // for the trace
		x.states.add(s)
		x.from.add(from)
	}
	return bad
}

// trace tells how a state was reached.
func (x *explorer) trace(i int) []string {
	var lines []string
	for i > 0 {
		o := x.from.at(i)
		s := x.states.at(int(o.parent))
		var line string
		switch {
		case o.who < 3:
			line = fmt.Sprintf("run %d: %s", o.who+1, x.movesOf(s[4+o.who])[o.act].describe(x.runs.all[s[4+o.who]]))
		case o.who < 5:
			line = fmt.Sprintf("sink %d: a late request takes effect", o.who-3)
		default:
			line = "store: a late create takes effect"
		}
		lines = append(lines, line)
		i = int(o.parent)
	}
	slices.Reverse(lines)
	return lines
}

func (x *explorer) bits() int {
	n := 0
	for _, r := range x.cfg.records {
		n += r
	}
	return n
}

// bit is the bit of a record: split by split.
func (x *explorer) bit(task, offset int) records {
	for _, n := range x.cfg.records[:task] {
		offset += n
	}
	return 1 << offset
}

func (x *explorer) split(task, at int) source.Split {
	n := x.cfg.records[task]
	return source.Split{
		Position: source.Position{Split: string(rune('a' + task)), Offset: record.Offset(at), LeaderEpoch: record.NoLeaderEpoch},
		Until:    record.Offset(n), Finished: at >= n,
	}
}

// unitsOf divides a checkpoint's rows into units.
func (x *explorer) unitsOf(rows records) []records {
	if rows == 0 || !x.cfg.units {
		return []records{rows}[:min(1, rows)]
	}
	var out []records
	for i := range recordsMax {
		if b := records(1) << i; rows&b != 0 {
			out = append(out, b)
		}
	}
	return out
}

func (x *explorer) below(positions []source.Position) records {
	var r records
	for _, p := range positions {
		for o := range int(p.Offset) {
			r |= x.bit(int(p.Split[0]-'a'), o)
		}
	}
	return r
}

// choices lists what a checkpoint may take of what is left: one or two records, each split in order.
func (x *explorer) choices(left records) []records {
	if left == 0 {
		return []records{0}
	}
	prefixes := make([][]records, len(x.cfg.records))
	for task, count := range x.cfg.records {
		var p records
		prefixes[task] = []records{0}
		for o := range count {
			if b := x.bit(task, o); left&b != 0 {
				p |= b
				prefixes[task] = append(prefixes[task], p)
			}
		}
	}
	out := []records{0}
	for _, ps := range prefixes {
		var next []records
		for _, have := range out {
			for _, p := range ps {
				if n := (have | p).count(); n <= 2 {
					next = append(next, have|p)
				}
			}
		}
		out = next
	}
	if x.cfg.idle {
		return out
	}
	return out[1:] // the first takes nothing
}

func (x *explorer) intern(kind byte, k key, n int) (uint32, bool) {
	name := string(append(key{kind}, k...))
	if id, ok := x.ids[name]; ok {
		return id, false
	}
	x.ids[name] = uint32(n)
	return uint32(n), true
}

func (x *explorer) entry(e checkpoint.Entry) uint32 {
	k := key{0}
	if e.Claim != nil {
		k = key{1}.num(uint64(e.Claim.Lease)).str(e.Claim.Nonce)
	} else {
		k = k.manifest(e.Manifest)
	}
	id, isNew := x.intern(0, k, len(x.entries))
	if isNew {
		x.entries = append(x.entries, e)
	}
	return id
}

func (x *explorer) committableList(cs []sink.Committable) uint32 {
	id, isNew := x.intern(1, key(nil).committables(cs), len(x.committables))
	if isNew {
		x.committables = append(x.committables, slices.Clone(cs))
	}
	return id
}

func (x *explorer) collect(c Collect) uint32 {
	k := key(nil).seqs(c.Manifests)
	for _, list := range [][]string{c.Segments, c.State} {
		k = k.num(uint64(len(list)))
		for _, s := range list {
			k = k.str(s)
		}
	}
	id, isNew := x.intern(2, k, len(x.collected))
	if isNew {
		x.collected = append(x.collected, c)
	}
	return id
}

// segmentsOf names a unit's one segment. Its lease is the one that prepared it, which for a replacement is a later one; the name
// only has to be its own.
func (x *explorer) segmentsOf(n uint8, u unit) []sink.Segment {
	if x.cfg.sinks[n] == file {
		return nil
	}
	name := checkpoint.SegmentName(0, u.lease(), uint64(n)<<32|uint64(u))
	x.segmentNames[name] = segment{n, u}
	return []sink.Segment{{Name: name}}
}
