package sinktest

import (
	"context"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

const (
	must   = "MUST"
	should = "SHOULD"
)

// contractCases are the rules that show without any fault.
func contractCases() []Case {
	cases := []Case{
		{
			Name: "capabilities_areComplete", Level: must, run: capabilitiesComplete,
			Rule: "A sink states its form, and one that promises exactly-once names its ledger, its fence and when rows are visible: the guarantee that a person reads is derived from it.",
		},
		{
			Name: "inspect_changesNothing", Level: must, run: inspectChangesNothing,
			Rule: "Inspect only looks: it is called by validate, without a lease, beside a running daemon.",
		},
		{
			Name: "prepare_showsNothing", Level: must, run: prepareShowsNothing,
			Rule: "No row is visible before Commit: until the manifest is published its checkpoint may be aborted, and its records are read again.",
		},
		{
			Name: "commit_showsExactlyItsRows", Level: must, run: commitShowsItsRows,
			Rule: "A Commit shows the rows of its committable, all at once, and no others.",
		},
		{
			Name: "commit_repeatedChangesNothing", Level: must, run: commitRepeated,
			Rule: "A Commit that took effect answers Committed and changes nothing, in the same run, in a later one, and after newer commits: the run that learned the outcome may have died before a manifest says so.",
		},
		{
			Name: "commit_endedContextIsNoSuccess", Level: must, run: commitEndedContext,
			Rule: "When its context ends Commit answers, and Committed only for what is there.",
		},
		{
			Name: "abort_neverBecomesVisible", Level: must, run: abortNeverVisible,
			Rule: "What was prepared for a checkpoint that was not published never becomes visible, also when the same records come again under the same task, and whatever names it used are not used again.",
		},
		{
			Name: "emptyCheckpoint_showsNothing", Level: must, run: emptyCheckpoints,
			Rule: "A checkpoint without rows has no committable of 0 rows, and keeps the state.",
		},
		{
			Name: "tasks_mayChangeBetweenRuns", Level: must, run: tasksChange,
			Rule: "The number of tasks is a run's own: what fewer or more tasks left behind is not lost and not doubled.",
		},
		{
			Name: "restore_atAnyManifest", Level: must, run: restoreAnywhere,
			Rule: "A sink goes on from the state in the newest manifest alone, whichever that is: nothing else of the run before is left.",
		},
		{
			Name: "assemble_isDeterministic", Level: should, run: assembleDeterministic,
			Rule: "The same calls assemble the same committables: a decision is taken once, from the cut and the parts, not from a clock.",
		},
		{
			Name: "writer_keepsNoBatch", Level: must, run: func(s *suite) { s.world("one").play(script(), nil) },
			Rule: "Write takes what it needs: the batch is used again for other rows as soon as it returns.",
		},
		{
			Name: "otherStore_isLoud", Level: must, run: otherStore, skip: needsLedger,
			Rule: "A target that another checkpoint store wrote to is refused before anything takes effect: a copied or a fresh store would double or skip rows.",
		},
		{
			Name: "otherStore_isAdopted", Level: must, run: otherStoreAdopted, skip: needsLedger,
			Rule: "Inspect tells which store and lease raised the fence last, and a run with Adopt and a higher lease takes the target over: from then on the older store's runs are fenced, and later runs of the new one need no Adopt.",
		},
		{
			Name: "deadLetters_areTaken", Level: must, run: deadLetters, skip: needsDeadLetters,
			Rule: "A sink that takes dead letters takes batches of the dead-letter schema under the same contract.",
		},
	}
	return append(append(cases, refusalCases()...), rollCases()...)
}

func refusalCases() []Case {
	return []Case{
		{
			Name: "write_refusesWhatCantBeStored", Level: should, run: writeRefuses, skip: needsInvalid,
			Rule: "What the target's schema lets us know is refused by Write, row by row: later it stops a whole unit.",
		},
		{
			Name: "rejected_isReplaced", Level: must, run: rejectedReplaced, skip: needsPoison,
			Rule: "Rejected names every refused row with its letter, nothing of the unit is visible then or later, and Replace makes a unit of the rest that is committed like any other.",
		},
		{
			Name: "rejected_replacementKeepsTheOrder", Level: must, run: replacementOrder, skip: needsPoison,
			Rule: "A replacement is committed in the place of the unit that it replaces: later units, also of the same checkpoint, are not taken for done.",
		},
	}
}

func needsLedger(_ *Harness, c sink.Capabilities) string {
	if !c.ExactlyOnce {
		return "the sink has no ledger"
	}
	return ""
}

func needsDeadLetters(_ *Harness, c sink.Capabilities) string {
	if !c.DeadLetters {
		return "the sink takes no dead letters"
	}
	return ""
}

func needsPoison(h *Harness, _ sink.Capabilities) string {
	if h.Poison == "" {
		return "the target refuses nothing at commit"
	}
	return ""
}

func needsInvalid(h *Harness, _ sink.Capabilities) string {
	if h.Invalid == "" {
		return "the sink can store every row"
	}
	return ""
}

func capabilitiesComplete(s *suite) {
	c := s.caps
	if c.Form < sink.Staged || c.Form > sink.Direct {
		s.Fatalf("form %d", c.Form)
	}
	if c.Visible == "" {
		s.Fatalf("the sink does not say when rows are visible")
	}
	if c.ExactlyOnce && c.Form != sink.Direct && (c.Ledger == "" || c.Fence == "") {
		s.Fatalf("exactly-once with the ledger %q and the fence %q", c.Ledger, c.Fence)
	}
}

func inspectChangesNothing(s *suite) {
	w := s.world("inspect")
	r := w.mustStart(1)
	w.must(r.write(0, 2))
	m := w.mustPrepare(r)
	p, err := w.target.Plugin(&Faults{})
	if err != nil {
		s.Fatal(err)
	}
	got, err := p.Inspect(s.ctx, w.identity())
	if err != nil {
		w.fatalf("inspect: %v", err)
	}
	for _, f := range got.Findings {
		if f.Level >= sink.Forbids && s.caps.ExactlyOnce {
			w.fatalf("the harness's target is not fit for exactly-once: %s", f.Text)
		}
	}
	w.must(r.publish(m))
	w.finish(r, nil)
}

// mustStart starts a run that nothing disturbs.
func (w *world) mustStart(tasks int) *run {
	w.s.Helper()
	r, err := w.start(tasks)
	w.must(err)
	return r
}

func (w *world) must(err error) {
	w.s.Helper()
	if err != nil {
		w.fatalf("without a fault the run ends: %v", err)
	}
}

func (w *world) mustPrepare(r *run) manifest {
	w.s.Helper()
	m, err := r.prepare(false)
	w.must(err)
	return m
}

func prepareShowsNothing(s *suite) {
	w := s.world("prepare")
	r := w.mustStart(3)
	for range 3 {
		for task := range 3 {
			w.must(r.write(task, 4))
			w.checkEmpty()
		}
		m := w.mustPrepare(r)
		w.checkEmpty()
		w.must(r.publish(m))
		w.checkEmpty()
	}
	w.must(r.fence())
	w.checkEmpty()
	w.finish(r, nil)
}

func (w *world) checkEmpty() {
	w.s.Helper()
	if rows := w.visible(); len(rows) > 0 {
		w.fatalf("%d rows are visible and nothing was committed", len(rows))
	}
}

func commitShowsItsRows(s *suite) {
	w := s.world("commit")
	r := w.mustStart(2)
	for range 4 {
		w.must(r.write(0, 3))
		w.must(r.write(1, 5))
		w.must(r.cut(false))
	}
	w.must(r.cut(true))
	for len(r.pending) > 0 {
		before, c := len(w.visible()), r.pending[0]
		w.must(r.commitFirst())
		w.check()
		if got := len(w.visible()) - before; int64(got) != c.Rows {
			w.fatalf("the commit of %s showed %d rows", describeUnit(&c), got)
		}
	}
	w.checkEnd()
}

func commitRepeated(s *suite) {
	w := s.world("repeat")
	var done []sink.Committable
	w.onCommitted = func(c sink.Committable) { done = append(done, c) }
	r := w.mustStart(2)
	again := func(r *run) {
		for i := range done {
			outcome, _, err := r.commit(&done[i])
			if outcome != sink.Committed {
				w.fatalf("the repeated commit of %s answers %s: %v", describeUnit(&done[i]), outcome, err)
			}
			w.check()
		}
	}
	for i := range 5 {
		w.must(r.write(i%2, 3))
		w.must(r.cut(i == 4))
		w.must(r.commitAll())
		again(r)
	}
	r.end()
	w.clock += 30 * 24 * 3600 * 1000
	r = w.mustStart(1)
	again(r)
	w.must(r.write(0, 1))
	w.must(r.cut(true))
	again(r)
	w.must(r.commitAll())
	again(r)
	w.checkEnd()
}

func commitEndedContext(s *suite) {
	w := s.world("ended context")
	r := w.mustStart(1)
	w.must(r.write(0, 3))
	w.must(r.cut(true))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	c := &r.pending[0]
	w.tried[idOf(c)] = c.Rows
	outcome, _, err := r.commits.Commit(ctx, *c)
	if (outcome == sink.Committed) != (err == nil) || outcome == sink.Lost || outcome == sink.Rejected {
		w.fatalf("commit under an ended context answers %s, %v", outcome, err)
	}
	if outcome == sink.Committed {
		w.committed(c)
	}
	w.check()
	w.must(r.commitAll())
	w.checkEnd()
}

func abortNeverVisible(s *suite) {
	w := s.world("abort")
	for range 3 {
		r := w.mustStart(2)
		w.must(r.write(0, 4))
		w.mustPrepare(r)
		w.check()
		r.end()
		w.check()
	}
	r := w.mustStart(2)
	w.must(r.write(1, 2))
	w.must(r.cut(false))
	w.must(r.commitAll())
	w.must(r.write(0, 2))
	w.mustPrepare(r)
	w.crash(r)
	w.finish(w.mustStart(1), nil)
	if w.newest.Position != 2 {
		w.fatalf("the position is %d", w.newest.Position)
	}
}

func emptyCheckpoints(s *suite) {
	w := s.world("empty")
	r := w.mustStart(2)
	w.must(r.cut(false))
	w.must(r.cut(false))
	w.must(r.write(1, 2))
	w.must(r.cut(false))
	for range 3 {
		w.must(r.cut(false))
		w.must(r.commitAll())
		w.check()
	}
	w.finish(r, nil)
	r = w.mustStart(2)
	w.must(r.cut(true))
	w.must(r.commitAll())
	w.checkEnd()
}

func tasksChange(s *suite) {
	w := s.world("tasks")
	r := w.mustStart(1)
	for _, tasks := range []int{4, 2, 5, 1, 3} {
		for task := range r.tasks {
			w.must(r.write(task, 1+task))
		}
		w.must(r.cut(false))
		w.check()
		r.end()
		r = w.mustStart(tasks)
	}
	w.finish(r, nil)
}

func restoreAnywhere(s *suite) {
	steps := script()
	for stop := range steps {
		w := s.world(fmt.Sprintf("ended after step %d", stop))
		w.play(slices.Concat(steps[:stop+1], []step{func(*run) error { return errDead }}), w.processDies)
	}
}

func assembleDeterministic(s *suite) {
	var shapes [2][]string
	for i := range shapes {
		w := s.world("same calls")
		w.play(slices.Concat([]step{write(0, 40), write(1, 30), cut(), write(0, 35), cut(), commitAll()}, script()), nil)
		shapes[i] = w.shape
	}
	if !slices.Equal(shapes[0], shapes[1]) {
		s.Fatalf("the same calls assembled\n%q\nand\n%q\nrule: %s", shapes[0], shapes[1], s.rule)
	}
}

func otherStore(s *suite) {
	w := s.world("other store")
	r := w.mustStart(1)
	w.must(r.write(0, 3))
	w.finish(r, nil)
	other := s.world("the other store")
	other.target, other.machine, other.storeID = w.target, nil, "store-2"
	before := len(w.visible())
	err := other.tryOpen()
	if err == nil {
		other.fatalf("another store opens the sink and raises its fence")
	}
	if k := fault.KindOf(err); k != fault.Lost && k != fault.Misconfigured {
		other.fatalf("another store is answered %s: %v", k, err)
	}
	if after := len(w.visible()); after != before {
		w.fatalf("another store changed the target: %d rows, before %d", after, before)
	}
	w.finish(w.mustStart(1), nil)
}

// otherStoreAdopted gives the target to a store with an empty log, beside a run of the store before that has something prepared.
func otherStoreAdopted(s *suite) {
	w := s.world("adopted")
	old := w.mustStart(2)
	w.must(old.write(0, 3))
	w.must(old.cut(true))
	w.must(old.commitAll())
	w.must(old.write(1, 2))
	left, err := old.prepare(true)
	w.must(err)
	w.checkOwner(old.lease)
	w.storeID, w.adopts = "store-2", true
	w.newest = manifest{Position: w.newest.Position}
	r := w.mustStart(2)
	w.adopts = false
	w.checkOwner(r.lease)
	w.zombieCommits(old, left.Pending)
	w.must(r.write(0, 4))
	w.must(r.cut(true))
	w.must(r.commitAll())
	w.zombieCommits(old, left.Pending)
	w.crash(r)
	w.finish(w.mustStart(1), nil)
}

// checkOwner demands that Inspect names the world's store and a lease.
func (w *world) checkOwner(lease record.Lease) {
	w.s.Helper()
	p, err := w.target.Plugin(&Faults{})
	w.must(err)
	in, err := p.Inspect(w.s.ctx, w.identity())
	w.must(err)
	if want := (sink.Owner{StoreID: w.storeID, Lease: lease}); in.Owner == nil || *in.Owner != want {
		w.fatalf("Inspect names the owner %v, want %v", in.Owner, want)
	}
}

// tryOpen opens and fences once, and returns the first error.
func (w *world) tryOpen() error {
	w.lease++
	r := &run{w: w, lease: w.lease, tasks: 1, faults: &Faults{}}
	p, err := w.target.Plugin(r.faults)
	if err != nil {
		return err
	}
	if err := r.openOnce(p); err != nil {
		return err
	}
	defer r.end()
	return r.commits.Fence(w.s.ctx)
}

func deadLetters(s *suite) {
	w := s.world("letters")
	w.letters = true
	w.play(script(), nil)
}
