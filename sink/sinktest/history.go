package sinktest

import (
	"fmt"
	"math/rand/v2"
)

// historyCases drive random histories.
func historyCases() []Case {
	return []Case{
		{
			Name: "history_exactlyOnce", Level: must, run: func(s *suite) { s.randomHistories(nil) },
			Rule: "Through any history of writes, checkpoints, aborts, crashes, restarts, zombies and broken calls every row is there once.",
		},
		{
			Name: "history_atLeastOnce", Level: must, run: func(s *suite) { s.randomHistories(func(w *world) { w.atLeastOnce = true }) },
			Rule: "Through any such history with commits before the manifest no row is lost.",
		},
	}
}

// history is one random history.
type history struct {
	w      *world
	random *rand.Rand
	run    *run
	old    []*run // fenced, and not aware of it
}

func (s *suite) randomHistories(prepare func(w *world)) {
	for seed := s.firstSeed(); seed < s.firstSeed()+uint64(s.histories()); seed++ {
		w := s.world(fmt.Sprintf("of Harness.Seed %d", seed))
		if prepare != nil {
			prepare(w)
		}
		h := &history{w: w, random: rand.New(rand.NewPCG(seed, 0x5eed))}
		h.play()
	}
}

func (h *history) play() {
	w := h.w
	r, err := w.start(1 + h.random.IntN(3))
	h.run = w.revive(r, err, h.die)
	acts := 10 + h.random.IntN(40)
	for range acts {
		err := h.act()
		h.run = w.revive(h.run, err, h.die)
		w.check()
	}
	h.run.faults.arm(0, 0)
	w.finish(h.run, h.die)
	for _, old := range h.old {
		old.faults.land()
	}
	w.checkEnd()
}

// die ends the process or, when it can, the machine.
func (h *history) die(r *run) {
	if h.w.machine != nil && h.random.IntN(2) == 0 {
		h.old = nil
		h.w.losePower(h.random.Uint64())
		return
	}
	h.w.crash(r)
}

// act does one thing, chosen at random.
func (h *history) act() error {
	r, w := h.run, h.w
	switch n := h.random.IntN(100); {
	case n < 30:
		return r.write(h.random.IntN(r.tasks), 1+h.random.IntN(5))
	case n < 35:
		w.clock += int64(h.random.IntN(90_000))
		return r.overlap(h.random.IntN(r.tasks))
	case n < 38:
		return r.aside()
	case n < 50:
		w.clock += int64(h.random.IntN(90_000))
		return r.cut(h.random.IntN(10) == 0)
	case n < 65:
		return h.commitSome()
	case n < 72:
		return h.abort()
	case n < 78:
		return errDead
	case n < 82:
		r.tasks = 1 + h.random.IntN(4)
		return errRestart
	case n < 86:
		return h.takeOver()
	case n < 92:
		return h.zombieActs()
	}
	h.breakSomething()
	return nil
}

func (h *history) commitSome() error {
	for range 1 + h.random.IntN(2) {
		if len(h.run.pending) == 0 {
			return nil
		}
		if err := h.run.commitFirst(); err != nil {
			return err
		}
	}
	return nil
}

// abort prepares a checkpoint that is not published: the run recovers.
func (h *history) abort() error {
	if _, err := h.run.prepare(false); err != nil {
		return err
	}
	return errOver
}

// takeOver makes a zombie of the run.
func (h *history) takeOver() error {
	h.old = append(h.old, h.run)
	r, err := h.w.start(1 + h.random.IntN(3))
	h.run = r
	return err
}

// zombieActs lets a fenced run do what it can still do. It fails sooner or later, and then ends.
func (h *history) zombieActs() error {
	if len(h.old) == 0 {
		return nil
	}
	w, old := h.w, h.old[h.random.IntN(len(h.old))]
	if old.faults.Dead() || old.sink == nil || old.writers == nil {
		return nil
	}
	switch h.random.IntN(4) {
	case 0:
		if old.write(h.random.IntN(old.tasks), 1) != nil {
			old.faults.kill()
		}
	case 1:
		if m, err := old.prepare(false); err != nil {
			old.faults.kill()
		} else if w.publish(old, m) {
			w.fatalf("the suite let a zombie publish")
		}
	case 2:
		if len(old.pending) > 0 {
			w.zombieCommits(old, old.pending[:1])
		}
	case 3:
		old.faults.land()
	}
	return nil
}

// breakSomething breaks a call of the run that comes soon.
func (h *history) breakSomething() {
	faults := []Fault{FailBefore, LoseReply, DieBefore, DieAfter}
	if h.w.s.h.Late {
		faults = append(faults, Late)
	}
	fault, within := faults[h.random.IntN(len(faults))], h.random.IntN(12)
	h.w.logf("lease %d: call %d from now %s", h.run.lease, within+1, fault)
	h.run.faults.arm(fault, within)
}
