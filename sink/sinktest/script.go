package sinktest

import "errors"

// step is one act of a script.
type step func(r *run) error

func write(task, n int) step { return func(r *run) error { return r.write(task%r.tasks, n) } }

func cut() step { return func(r *run) error { return r.cut(false) } }

func finalCut() step { return func(r *run) error { return r.cut(true) } }

func commitAll() step { return func(r *run) error { return r.commitAll() } }

func overlap(task int) step { return func(r *run) error { return r.overlap(task % r.tasks) } }

func aside() step { return func(r *run) error { return r.aside() } }

// wait lets the clock go on, so that what is done by age is done.
func wait(seconds int64) step {
	return func(r *run) error {
		r.w.clock += seconds * 1000
		return nil
	}
}

// errRestart asks for an orderly end of the run and a new one.
var errRestart = errors.New("restart")

func restart(tasks int) step {
	return func(r *run) error {
		r.w.logf("lease %d: is to restart with %d tasks", r.lease, tasks)
		r.tasks = tasks // for the next run
		return errRestart
	}
}

// script is a whole life: several tasks, several checkpoints in flight, an empty one, an orderly and a disorderly end, another
// number of tasks, a final checkpoint and a life after it.
func script() []step {
	return []step{
		write(0, 3), write(1, 2), cut(), commitAll(),
		write(0, 2), cut(), write(1, 3), cut(), commitAll(),
		cut(), // empty
		write(0, 1), cut(), restart(3),
		write(2, 2), write(0, 1), wait(3600), cut(), commitAll(), cut(), commitAll(),
		write(0, 1), overlap(0), commitAll(), wait(3600), overlap(1), wait(3600), aside(), cut(), aside(), commitAll(),
		write(1, 2), cut(), write(1, 1), restart(1), // what was not cut is written again
		write(0, 2), cut(), commitAll(), finalCut(), commitAll(), restart(2),
		write(1, 2), cut(), write(0, 1),
	}
}

// play carries out a script, recovers from whatever happens, and ends with a final checkpoint in which everything is committed.
// die is what the end of a process means: that of the process or of the machine.
func (w *world) play(steps []step, die func(*run)) {
	w.s.Helper()
	r, err := w.start(2)
	r = w.revive(r, err, die)
	for _, st := range steps {
		err := st(r)
		r = w.revive(r, err, die)
		if !w.plan.waits() {
			w.check()
		}
	}
	w.finish(r, die)
}

// finish cuts the final checkpoint and demands that everything decided is there.
func (w *world) finish(r *run, die func(*run)) {
	w.s.Helper()
	for range attemptsMax {
		err := r.cut(true)
		if err == nil {
			err = r.commitAll()
		}
		if err == nil {
			w.checkEnd()
			r.end()
			w.checkEnd()
			return
		}
		r = w.revive(r, err, die)
	}
	w.fatalf("the history does not come to an end")
}

// revive starts new runs after an error until one is up.
func (w *world) revive(r *run, err error, die func(*run)) *run {
	w.s.Helper()
	for n := 0; err != nil; n++ {
		if n > attemptsMax {
			w.fatalf("no run comes up: %v", err)
		}
		if errors.Is(err, errDead) {
			die(r)
		} else {
			r.end()
		}
		w.check()
		r, err = w.start(r.tasks)
	}
	return r
}

// processDies is the end of one process: everything that it did stays.
func (w *world) processDies(r *run) { w.crash(r) }
