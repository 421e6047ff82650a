package machine

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/record"
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
	state   stateModel
	save    saving
	cuts    uint8 // checkpoints of the tasks
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
	doSweepState
	doCopy
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
		k = r.save.key(r.state.key(k))
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
	c.save.collects = slices.Clone(r.save.collects)
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
	moveSave
)

// moves lists what can happen to a run, except what others do.
func (r *run) moves(x *explorer) []move {
	var out []move
	collects := false
	for i, p := range r.pending {
		mv := move{at: i}
		switch p.kind {
		case doList, doGet, doCreate:
			mv.touch[0], mv.touch[3] = true, x.cfg.holds
		case doFence:
			mv.touch[2+p.sink] = true
		case doCommit:
			mv.touch[2+p.sink], mv.touch[1] = true, x.cfg.collects
		case doCopy:
			mv.touch[0], mv.touch[1] = true, true
		case doCollect, doSweep, doSweepState:
			if collects { // one after the other
				continue
			}
			collects = true
			mv.touch[0], mv.touch[1] = true, true
		case doLetters:
			mv.touch[1], mv.touch[3] = x.cfg.collects, x.cfg.sinks[1] == file
		case doParts:
			mv.touch[1], mv.touch[2], mv.touch[3] = x.deletes(), x.cfg.sinks[0] == file, x.cfg.sinks[1] == file
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
	case doList, doGet, doParts, doLetters, doCollect, doSweep, doSweepState, doCopy:
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
	if x.cfg.saves && r.save.stage == noSaving {
		out = append(out, move{kind: moveSave})
	}
	if left != 0 && int(r.cuts) < x.cfg.cuts && m.waiting() < m.cfg.MaxPending {
		out = append(out, move{kind: moveInterval})
	}
	if left == 0 && x.cfg.ends {
		out = append(out, move{kind: moveEnd})
	}
	return out
}

func (mv move) describe(r *run) string {
	name := [...]string{"", " (answer lost, late)", " (answer lost, not started)", "interval", "input ends", "savepoint"}[mv.kind]
	if mv.kind >= moveInterval {
		return name
	}
	p := r.pending[mv.at]
	what := [...]string{"list", "get", "create", "fence", "commit", "parts", "letters", "collect", "sweep", "sweep of state", "copy"}[p.kind]
	switch p.kind {
	case doList, doGet, doCreate:
		what += fmt.Sprintf(" %s %d", [...]string{"", "claim", "read", "publish", "probe"}[p.purpose], p.seq)
	case doFence:
		what += fmt.Sprintf(" sink %d", p.sink)
	case doCommit:
		what += fmt.Sprintf(" sink %d checkpoint %d, started %v", p.sink, p.number, p.started)
	case doParts:
		what += fmt.Sprintf(" %b of checkpoint %d", mv.rows, p.number)
	case doLetters, doCollect, doSweep, doSweepState, doCopy:
	}
	return what + name
}
