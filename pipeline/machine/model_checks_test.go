package machine

import "fmt"

// checkMove holds I3, I6 and the ends of runs.
func (x *explorer) checkMove(s state, out *result) string {
	if out.bad != "" {
		return out.bad
	}
	log := x.logs.all[s[0]]
	for n, u := range out.sent {
		if u != 0 && !x.cfg.alo && !log.decided(x, n, u) {
			return "I3: a commit is sent before its manifest is published"
		}
	}
	if out.settled && out.upTo&^x.accounted(s, 0) != 0 {
		return "I6: a checkpoint is told to be settled, and records have no effect"
	}
	if out.saved&^x.accounted(s, 0) != 0 {
		return "SAVEPOINT: it is made, and records below its positions have no effect"
	}
	switch out.stop {
	case StoppedFenced:
		if out.claimAt == 0 && !log.owned(x, out.lease) || out.claimAt > 0 && !log.overtaken(x, out.claimAt) {
			return "FALSE-FENCE: a run stops as fenced, and nobody else has claimed"
		}
	case StoppedLost, StoppedCorrupt, StoppedMisconfigured, StoppedByRule:
		return fmt.Sprintf("FALSE-STOP: a run stops as %v", out.stop)
	case 0, Done, Restart:
	}
	return ""
}

// accounted returns the records that have had their effect in every sink; a refused one in the dead letters alone.
func (x *explorer) accounted(s state, besides records) records {
	first, second := x.targets[0].all[s[2]].effective(), x.targets[1].all[s[3]].effective()
	if x.cfg.refuses != 0 {
		return first&^x.cfg.refuses | second&x.cfg.refuses | besides
	}
	return first & second
}

// judge checks a state: I7 in exactly-once, I1 and I5 by what the newest manifest accounts for, and the rescuer.
func (x *explorer) judge(s state) string {
	world := [4]uint32(s[:4])
	if x.judged[world] {
		return ""
	}
	x.judged[world] = true
	if bad := x.checkEffects(s); bad != "" {
		return bad
	}
	if bad := x.checkNewest(s); bad != "" {
		return bad
	}
	if bad := x.checkKept(s); bad != "" {
		return bad
	}
	for _, after := range []bool{false, true} {
		if bad := x.rescue(s, after); bad != "" {
			return bad
		}
	}
	return ""
}

func (x *explorer) checkEffects(s state) string {
	a, b := x.targets[0].all[s[2]], x.targets[1].all[s[3]]
	twice := a.doubled() || b.doubled()
	if x.cfg.refuses != 0 {
		twice = twice || a.effective()&b.effective() != 0
	}
	x.doubled = x.doubled || twice
	if twice && !x.cfg.alo {
		return "DUP (I7): a record has its effect twice"
	}
	return ""
}

// checkNewest holds I1, I5 and I9 for the newest manifest: what lies below its positions has had its effect or is pending, and
// the segments of what is pending are there.
func (x *explorer) checkNewest(s state) string {
	n := x.logs.all[s[0]].newest()
	if n.seq == 0 {
		return ""
	}
	man := x.entries[n.entry].Manifest
	below := x.below(man.Positions())
	var letters records
	for i := range man.Sinks {
		rows := x.targets[i].all[s[2+i]].effective() | heldIn(&man.Sinks[i])
		for j := range man.Sinks[i].Pending {
			c := &man.Sinks[i].Pending[j]
			rows |= rowsIn(c)
			if x.cfg.collects && x.cfg.sinks[i] != file && !x.segs.all[s[1]].has(segment{uint8(i), unitOf(c)}) && rowsIn(c)&^x.targets[i].all[s[2+i]].effective() != 0 {
				return "I9: a segment of a pending unit is gone"
			}
		}
		switch {
		case x.cfg.refuses == 0 && below&^rows != 0:
			return "I5: a record below the positions is neither committed nor pending"
		case i == 0:
			letters = below & x.cfg.refuses &^ rows // what is replaced must be with the dead letters
			if below&^rows&^x.cfg.refuses != 0 {
				return "I5: a record below the positions is neither committed nor pending"
			}
		case letters&^rows != 0:
			return "I5: a refused record is not with the dead letters"
		}
	}
	return ""
}

// rescuer is the slot of the run that begins when all others stand still. It makes no mistakes.
const rescuer = 7

// rescue runs a fresh run to its end while all others stand still.
func (x *explorer) rescue(s state, landAfter bool) string { //nolint:revive // flag-parameter: the two orders of a test
	st := &step{
		x: x, r: x.newRun(rescuer), log: x.logs.all[s[0]].clone(), segs: x.segs.all[s[1]],
		targets: [2]*target{x.targets[0].all[s[2]].clone(), x.targets[1].all[s[3]].clone()},
		copied:  [4]bool{true, true, true, true},
	}
	if landAfter && len(st.log.late)+len(st.targets[0].late)+len(st.targets[1].late) == 0 {
		return ""
	}
	if !landAfter {
		x.landAll(st)
	}
	for n := 0; !st.r.over; n++ {
		mv, ok := x.next(st.r)
		if !ok || n > 200 {
			return fmt.Sprintf("NOT-RECOVERED: the rescuer stands still in phase %d", st.r.m.phase)
		}
		st.do(mv)
		if st.out.bad != "" {
			return "rescuer: " + st.out.bad
		}
	}
	if landAfter {
		x.landAll(st)
	}
	if st.out.stop != Done {
		return fmt.Sprintf("NOT-RECOVERED: the rescuer stops as %v", st.out.stop)
	}
	return x.checkEnd(st)
}

func (x *explorer) landAll(st *step) {
	for len(st.log.late) > 0 {
		if bad := x.landLog(st.log, 0); bad != "" {
			st.fail(bad)
		}
	}
	for _, t := range st.targets {
		for len(t.late) > 0 {
			t.land(0, caller{mutant: x.mutant, client: &client{}})
		}
	}
}

// next is the rescuer's next move: whatever is pending, then a checkpoint with all that is left, then the end of input.
func (x *explorer) next(r *run) (move, bool) {
	if len(r.pending) > 0 {
		mv := move{}
		if r.pending[0].kind == doParts {
			mv.rows = r.untaken(x)
		}
		return mv, true
	}
	if r.m.phase != running {
		return move{}, false
	}
	switch {
	case r.untaken(x) != 0:
		return move{kind: moveInterval}, true
	case x.cfg.saves && r.save.stage == noSaving:
		return move{kind: moveSave}, true
	case x.cfg.saves && r.save.stage != saved:
		return move{}, false
	}
	return move{kind: moveEnd}, true
}

// checkEnd holds what the end of a run promises: every record committed, once in exactly-once, and counted once (I12).
func (x *explorer) checkEnd(st *step) string {
	all := records(1<<x.bits() - 1)
	for n, t := range st.targets {
		want := all
		if x.cfg.refuses != 0 {
			want = [2]records{all &^ x.cfg.refuses, x.cfg.refuses}[n]
		}
		switch {
		case t.effective() != want:
			return fmt.Sprintf("MISSING: sink %d has %b in the end, want %b", n, t.effective(), want)
		case t.doubled() && !x.cfg.alo:
			return fmt.Sprintf("DUP (I7): sink %d has %v in the end", n, t.counts)
		}
	}
	man := x.entries[st.log.newest().entry].Manifest
	if man.Counters.Stages[0].In != all.count() || man.Counters.DeadLetters != x.cfg.refuses.count() {
		return fmt.Sprintf("I12: the counters in the end are %+v", man.Counters)
	}
	for _, s := range man.Sinks {
		if len(s.Pending) > 0 {
			return "I5: the closing manifest lists something pending"
		}
	}
	return ""
}
