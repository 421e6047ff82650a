package sinktest

import (
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// faultCases are the rules that show when calls to the target break.
func faultCases() []Case {
	return []Case{
		{
			Name: "commit_unknownIsAskedAgain", Level: must, run: commitUnknown,
			Rule: "A call of Commit that fails, before or after its effect, never leads to Committed for what is not there; the same Commit again leads to its rows, once.",
		},
		{
			Name: "crash_atEveryCall", Level: must, run: crashEverywhere,
			Rule: "After the end of the process at any call, a run under the next lease recovers by the protocol's order and every row is there once.",
		},
		{
			Name: "powerLoss_atEveryCall", Level: must, run: powerLossEverywhere, skip: needsMachine,
			Rule: "After power is lost at any call, and everything that was not made durable with it, every row is there once.",
		},
		{
			Name: "powerLoss_afterCommitted", Level: must, run: powerLossAfterCommitted, skip: needsMachine,
			Rule: "Committed means durably so, also when it was found and not done: a manifest forgets the committable, and power may be lost then.",
		},
		{
			Name: "lostReply_atEveryCall", Level: must, run: failuresEverywhere,
			Rule: "A call that fails, before or after its effect, is met by the same call again or by a recovery, and every row is there once.",
		},
		{
			Name: "crash_inRecovery", Level: must, run: crashTwice,
			Rule: "A crash in a recovery is a crash like any other.",
		},
		{
			Name: "zombie_commitAfterFence", Level: must, run: zombieAfterFence, skip: needsLedger,
			Rule: "A Commit that an older lease begins after the newer one's Fence has no effect, and answers Committed only for what is there.",
		},
		{
			Name: "zombie_isNotToldCommitted", Level: must, run: zombieUnpublished, skip: needsLedger,
			Rule: "An older lease is not told Committed for a committable of its own that nobody published, though a newer lease's commits stand above it in the ledger.",
		},
		{
			Name: "zombie_wakesInCommit", Level: must, run: zombieHeld, skip: needsLedger,
			Rule: "A process that stops inside a Commit and wakes up when a newer lease has fenced, or has committed the same, doubles nothing.",
		},
		{
			Name: "lateEffect_afterUnknown", Level: must, run: lateEffects, skip: needsLate,
			Rule: "A call whose effect comes after its caller was told that it failed doubles nothing: neither after the same Commit again nor after a newer lease's.",
		},
		{
			Name: "copiedStore_isLoud", Level: should, run: copiedStore, skip: needsLedger,
			Rule: "Two runs under one lease of one store exist only when the store was copied as a whole: the one that comes second, or the first when it asks again, is Fenced.",
		},
		{
			Name: "atLeastOnce_numberComesAgain", Level: must, run: numberComesAgain,
			Rule: "A checkpoint that was committed and not published is not taken for the next run's checkpoint of the same number: only lease and number together name one.",
		},
		{
			Name: "atLeastOnce_losesNothing", Level: must, run: atLeastOnceCrashes,
			Rule: "With commits before the manifest a crash may double rows and loses none: what an unpublished checkpoint committed is not taken for what the next run commits.",
		},
	}
}

func needsLate(h *Harness, _ sink.Capabilities) string {
	if !h.Late {
		return "no call to the target takes effect late"
	}
	return ""
}

func needsMachine(h *Harness, _ sink.Capabilities) string {
	if h.LosesPower {
		return ""
	}
	return "the target's machine can't lose power here"
}

// pending returns a world with one run that has n checkpoints published and nothing committed.
func (s *suite) pendingWorld(label string, n int) (*world, *run) {
	w := s.world(label)
	r := w.mustStart(2)
	for i := range n {
		w.must(r.write(i%2, 2+i))
		w.must(r.cut(i == n-1))
	}
	if len(r.pending) == 0 {
		w.fatalf("nothing is pending after a final checkpoint with rows")
	}
	return w, r
}

// commitCalls counts the calls of one undisturbed commit.
func (s *suite) commitCalls() int {
	w, r := s.pendingWorld("count", 2)
	w.plan.calls = 0
	w.must(r.commitFirst())
	return w.plan.calls
}

func commitUnknown(s *suite) {
	for n := 1; n <= s.commitCalls(); n++ {
		for _, f := range []Fault{FailBefore, LoseReply} {
			w, r := s.pendingWorld("commit", 2)
			w.plan.calls, w.plan.at, w.plan.fault = 0, n, f
			outcome, _, err := r.commit(&r.pending[0])
			w.check()
			if outcome == sink.Rejected || outcome == sink.Lost || outcome == sink.Fenced {
				w.fatalf("a failed call makes Commit answer %s: %v", outcome, err)
			}
			for range attemptsMax {
				if outcome == sink.Committed {
					break
				}
				outcome, _, err = r.commit(&r.pending[0])
				w.check()
			}
			if outcome != sink.Committed {
				w.fatalf("the commit does not come to an end: %s, %v", outcome, err)
			}
			r.pending = r.pending[1:]
			w.must(r.commitAll())
			w.checkEnd()
		}
	}
}

// everywhere plays the script once for each call and fault.
func (s *suite) everywhere(faults []Fault, prepare func(w *world) (die func(*run))) {
	count := s.world("count")
	count.play(script(), prepare(count))
	calls := count.plan.calls
	if calls == 0 {
		s.Skip("the harness lets no call be broken")
	}
	for n := 1; n <= calls; n += s.stride() {
		for _, f := range faults {
			w := s.world("script")
			die := prepare(w)
			w.plan.at, w.plan.fault = n, f
			w.play(script(), die)
		}
	}
}

func crashEverywhere(s *suite) {
	s.everywhere([]Fault{DieBefore, DieAfter}, func(w *world) func(*run) { return w.processDies })
}

func powerLossEverywhere(s *suite) {
	for seed := range uint64(3) {
		s.everywhere([]Fault{DieBefore}, func(w *world) func(*run) {
			return func(*run) { w.losePower(seed) }
		})
	}
}

// powerLossAfterCommitted breaks each call of a commit, and lets the same run or its successor bring it to an end. Then, with or
// without a manifest that says so, it drops what is not durable.
func powerLossAfterCommitted(s *suite) {
	for n := 1; n <= s.commitCalls(); n++ {
		for _, f := range []Fault{DieBefore, DieAfter, FailBefore, LoseReply} {
			for _, published := range []bool{false, true} {
				w, r := s.pendingWorld("power is lost later", 1)
				w.plan.calls, w.plan.at, w.plan.fault = 0, n, f
				if err := r.commitAll(); err != nil {
					r = w.revive(r, err, w.processDies)
				}
				w.plan.fault = 0
				if published {
					w.must(r.cut(false))
				}
				w.losePower(0)
				w.finish(w.mustStart(1), nil)
			}
		}
	}
}

func failuresEverywhere(s *suite) {
	s.everywhere([]Fault{FailBefore, LoseReply}, func(w *world) func(*run) { return w.processDies })
}

// crashTwice ends the first run with everything pending, and its successor at each of its calls.
func crashTwice(s *suite) {
	for n := 1; ; n += s.stride() {
		for _, f := range []Fault{DieBefore, DieAfter} {
			w, r := s.pendingWorld("two crashes", 3)
			w.must(r.write(0, 2))
			w.crash(r)
			w.plan.calls, w.plan.at, w.plan.fault = 0, n, f
			r, err := w.start(2)
			r = w.revive(r, err, w.processDies)
			done := w.plan.hit == ""
			w.finish(r, nil)
			if done {
				return
			}
		}
	}
}

// takeOver starts a run beside the old one and stops before it commits anything.
func (w *world) takeOver(tasks int) *run {
	w.s.Helper()
	w.lease++
	r := &run{w: w, lease: w.lease, tasks: tasks, faults: &Faults{plan: &w.plan}}
	w.runs = append(w.runs, r)
	w.logf("lease %d: claimed beside an older run", r.lease)
	w.must(r.open())
	w.must(r.fence())
	return r
}

func zombieAfterFence(s *suite) {
	for _, committed := range []int{0, 1} {
		w, old := s.pendingWorld("zombie", 3)
		for range committed {
			w.must(old.commitFirst())
		}
		stale := old.pending
		r := w.takeOver(3)
		w.zombieCommits(old, stale)
		w.must(r.commitAll())
		w.zombieCommits(old, stale)
		w.must(r.write(2, 3))
		w.must(r.cut(false))
		w.must(r.commitAll())
		w.zombieCommits(old, stale)
		if err := old.commits.Fence(s.ctx); err == nil || fault.KindOf(err) != fault.Fenced {
			w.fatalf("the older lease raises its fence after a newer one's: %v", err)
		}
		w.finish(r, nil)
		w.zombieCommits(old, stale)
		w.checkEnd()
	}
}

// zombieCommits sends the commits of a run that was fenced, and demands that nothing changes.
func (w *world) zombieCommits(old *run, stale []sink.Committable) {
	w.s.Helper()
	for i := range stale {
		before := len(w.visible())
		_, wasKnown := w.known[idOf(&stale[i])]
		_, wasTried := w.tried[idOf(&stale[i])] // by the successor, which does not know how that ended
		outcome, _, _ := old.commit(&stale[i])  //nolint:errcheck // its form was checked, and its text is logged
		if after := len(w.visible()); after != before {
			w.fatalf("a commit under lease %d, begun after lease %d had fenced, showed %d rows", old.lease, w.lease, after-before)
		}
		if outcome == sink.Committed && !wasKnown && !wasTried {
			w.fatalf("lease %d is told that %s is committed, and it is not", old.lease, describeUnit(&stale[i]))
		}
		if !wasTried {
			delete(w.tried, idOf(&stale[i])) // proven above
		}
		w.check()
	}
}

// zombieUnpublished has an old run commit before it publishes, after a newer run committed other checkpoints.
func zombieUnpublished(s *suite) {
	w := s.world("zombie before its manifest")
	w.atLeastOnce = true
	old := w.mustStart(2)
	w.must(old.write(0, 3))
	w.must(old.cut(false))
	w.must(old.write(1, 4))
	m, err := old.prepare(true)
	w.must(err)
	r := w.takeOver(2)
	for range 4 {
		w.must(r.write(0, 2))
		w.must(r.cut(true))
		before := len(w.visible())
		for i := range m.Pending {
			outcome, _, _ := old.commit(&m.Pending[i]) //nolint:errcheck // its form was checked, and its text is logged
			if outcome == sink.Committed || len(w.visible()) != before {
				w.fatalf("lease %d is told %s for %s after lease %d fenced, and %d rows came of it", old.lease, outcome, describeUnit(&m.Pending[i]), r.lease, len(w.visible())-before)
			}
		}
		r.end()
		r = w.mustStart(1)
	}
	w.finish(r, nil)
}

// zombieHeld stops an old run in each call of its commit, and wakes it at each of three moments of its successor.
func zombieHeld(s *suite) {
	for n := 1; n <= s.commitCalls(); n++ {
		for moment := range 3 {
			w, old := s.pendingWorld(fmt.Sprintf("zombie, moment %d", moment), 2)
			c := old.pending[0]
			w.tried[idOf(&c)] = c.Rows
			w.plan.calls, w.plan.at, w.plan.fault = 0, n, Hold
			old.faults.prepareHold()
			answer := make(chan sink.Outcome, 1)
			go func() {
				outcome, _, _ := old.commits.Commit(s.ctx, c) //nolint:errcheck // the outcome says what counts
				answer <- outcome
			}()
			select {
			case <-old.faults.held:
			case outcome := <-answer:
				w.fatalf("the commit answers %s before its call %d, which an equal commit made", outcome, n)
			}
			wake := func() {
				close(old.faults.wake)
				if outcome := <-answer; outcome == sink.Committed {
					w.committed(&c)
				}
				w.check()
			}
			r := w.takeOver(2)
			if moment == 0 {
				wake()
			}
			w.must(r.commitFirst())
			w.check()
			if moment == 1 {
				wake()
			}
			w.must(r.commitAll())
			w.must(r.write(1, 2))
			w.must(r.cut(false))
			w.must(r.commitAll())
			w.check()
			if moment == 2 {
				wake()
			}
			w.finish(r, nil)
		}
	}
}

// lateEffects breaks each call of a commit so that it takes effect later: after the retry, after a newer fence, and after the
// newer lease's commit.
func lateEffects(s *suite) {
	for n := 1; n <= s.commitCalls(); n++ {
		for moment := range 3 {
			w, r := s.pendingWorld(fmt.Sprintf("late effect, moment %d", moment), 2)
			w.plan.calls, w.plan.at, w.plan.fault = 0, n, Late
			outcome, _, err := r.commit(&r.pending[0])
			if outcome == sink.Lost || outcome == sink.Rejected {
				w.fatalf("a lost reply makes Commit answer %s: %v", outcome, err)
			}
			late := r.faults
			if moment == 0 {
				w.must(r.commitFirst())
				w.check()
				late.land()
				w.check()
				w.finish(r, nil)
				continue
			}
			r = w.takeOver(1)
			if moment == 1 {
				late.land()
				w.check()
			}
			w.must(r.commitAll())
			w.check()
			late.land()
			w.check()
			w.finish(r, nil)
		}
	}
}

func copiedStore(s *suite) {
	w, r := s.pendingWorld("copied store", 2)
	copied := s.world("the copy")
	copied.target, copied.machine, copied.lease = w.target, nil, w.lease-1
	err := copied.tryOpen()
	if err == nil {
		err = r.commits.Fence(s.ctx)
	}
	if err == nil || fault.KindOf(err) != fault.Fenced {
		w.fatalf("two runs under lease %d both go on: %v", w.lease, err)
	}
}

// numberComesAgain commits a checkpoint before its manifest and dies; the next run cuts another one under the same number.
func numberComesAgain(s *suite) {
	w := s.world("the same number under the next lease")
	w.atLeastOnce = true
	r := w.mustStart(1)
	w.must(r.write(0, 1))
	w.must(r.cut(true))
	w.must(r.write(0, 2))
	m, err := r.prepare(true)
	w.must(err)
	r.pending = m.Pending
	w.must(r.commitAll())
	w.crash(r)
	r = w.mustStart(2)
	w.must(r.write(1, 5))
	w.must(r.cut(true))
	w.finish(r, nil)
}

func atLeastOnceCrashes(s *suite) {
	setUp := func(w *world) func(*run) {
		w.atLeastOnce = true
		return w.processDies
	}
	s.everywhere([]Fault{DieBefore, DieAfter, LoseReply}, setUp)
	if !s.h.LosesPower {
		return
	}
	s.everywhere([]Fault{DieBefore}, func(w *world) func(*run) {
		w.atLeastOnce = true
		return func(*run) { w.losePower(0) }
	})
}
