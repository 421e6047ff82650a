package sinktest

import (
	"errors"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// run is one daemon run: a lease, one open sink, and what its coordinator knows.
type run struct {
	w       *world
	lease   record.Lease
	faults  *Faults
	tasks   int
	sink    sink.Sink
	commits sink.Committer
	writers []sink.Writer
	next    int64             // the next record to write
	roll    bool              // cuts ask sinks to hold nothing back
	unsent  int64             // rows since the last cut
	number  record.Checkpoint // the last that was cut; another lease may use the same number again
	pending []sink.Committable
	last    manifest // that this run knows
}

// attemptsMax is how often the suite repeats a call that may be repeated. A world has one fault at a time, so a few are enough.
const attemptsMax = 6

// start claims the next lease and recovers by the protocol's order: the newest manifest is read, the sink is opened, told its
// state and fenced, then everything pending is committed, oldest first. errOver or errDead: the run ended.
func (w *world) start(tasks int) (*run, error) {
	w.s.Helper()
	w.lease++
	r := &run{w: w, lease: w.lease, tasks: tasks, faults: &Faults{plan: &w.plan}}
	w.runs = append(w.runs, r)
	w.logf("lease %d: claimed, %d tasks, newest manifest is checkpoint %d of lease %d", r.lease, tasks, w.newest.Checkpoint, w.newest.Lease)
	return r, r.recover()
}

func (r *run) recover() error {
	if err := r.open(); err != nil {
		return err
	}
	if err := r.fence(); err != nil {
		return err
	}
	return r.commitAll()
}

// open opens the sink and restores its state. A failure that may pass is met by opening again, under the same lease.
func (r *run) open() error {
	w := r.w
	r.last = w.copyOf(w.newest)
	r.next, r.pending, r.number = r.last.Position, r.last.Pending, r.last.Checkpoint
	plugin, err := w.target.Plugin(r.faults)
	if err != nil {
		w.fatalf("the plugin can't be made: %v", err)
	}
	for range attemptsMax {
		err = r.openOnce(plugin)
		if err == nil {
			return nil
		}
		if r.faults.Dead() {
			return errDead
		}
		w.logf("lease %d: open: %v", r.lease, err)
		if k := fault.KindOf(err); k != fault.Unknown && k != fault.Transient {
			break
		}
	}
	w.fatalf("lease %d: the sink can't be opened: %v", r.lease, err)
	return errOver
}

func (r *run) openOnce(plugin sink.Plugin) error {
	w := r.w
	s, err := plugin.Open(w.s.ctx, sink.Env{
		Identity: w.identity(), Lease: r.lease, Tasks: r.tasks, AtLeastOnce: w.atLeastOnce, Adopt: w.adopts,
		Segments: &view{all: &w.store, lease: r.lease, faults: r.faults},
	})
	if err != nil {
		return err
	}
	again := w.copyOf(r.last)
	if err := s.Restore(w.s.ctx, again.State, again.Pending); err != nil {
		return errors.Join(err, ignore(s.Close()))
	}
	r.sink, r.commits, r.writers = s, s.Committer(), make([]sink.Writer, r.tasks)
	return nil
}

func (w *world) identity() sink.Identity {
	return sink.Identity{StoreID: w.storeID, Pipeline: "suite", Lane: 0, Sink: "sink"}
}

// fence raises the fence to the run's lease. Fenced is obeyed only when the own log shows a newer claim.
func (r *run) fence() error {
	w := r.w
	for range attemptsMax {
		err := r.commits.Fence(w.s.ctx)
		if err == nil {
			w.logf("lease %d: fenced", r.lease)
			return nil
		}
		if r.faults.Dead() {
			return errDead
		}
		w.logf("lease %d: fence: %v", r.lease, err)
		switch k := fault.KindOf(err); {
		case k == fault.Fenced && r.lease < w.lease:
			return errOver
		case k != fault.Unknown && k != fault.Transient && k != fault.Fenced:
			w.fatalf("lease %d: fence answers %s: %v", r.lease, k, err)
		}
	}
	w.fatalf("lease %d: the sink can't be fenced", r.lease)
	return errOver
}

// write writes n rows by one task. The batch is overwritten afterwards.
func (r *run) write(task, n int) error {
	w := r.w
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{ID: r.next + int64(i), Text: w.textOf(r.next + int64(i))}
	}
	b := batch(rows)
	if w.letters {
		b = letterBatch(rows)
	}
	if r.writers[task] == nil {
		wr, err := r.sink.Writer(w.s.ctx, task, b.Schema)
		if err != nil {
			return r.failed("writer", err)
		}
		r.writers[task] = wr
	}
	refused, err := r.writers[task].Write(w.s.ctx, b)
	if err != nil {
		return r.failed("write", err)
	}
	invalid := func(i int) bool { return w.s.h.Invalid != "" && rows[i].Text == w.s.h.Invalid }
	var got []int
	for _, x := range refused {
		got = append(got, x.Row)
		w.refused[rows[x.Row].ID] = true
		if x.Reason == "" {
			w.fatalf("row %d is refused without a reason", x.Row)
		}
	}
	for i := range rows {
		if invalid(i) != slices.Contains(got, i) {
			w.fatalf("write refused the rows %v of a batch in which %q is what can't be stored", got, w.s.h.Invalid)
		}
	}
	if !slices.IsSorted(got) {
		w.fatalf("refusals are not in order: %v", got)
	}
	scribble(b)
	w.logf("lease %d: task %d wrote rows %d to %d, %d refused", r.lease, task, r.next, r.next+int64(n)-1, len(got))
	r.next += int64(n)
	r.unsent += int64(n - len(got))
	return nil
}

// failed turns an error of a task into the end of the run.
func (r *run) failed(what string, err error) error {
	r.w.logf("lease %d: %s: %v", r.lease, what, err)
	if r.faults.Dead() {
		return errDead
	}
	switch k := fault.KindOf(err); k {
	case fault.Unknown, fault.Transient, fault.Fenced:
		return errOver
	case fault.Rejected, fault.Lost, fault.Corrupt, fault.Misconfigured:
		r.w.fatalf("lease %d: %s answers %s: %v", r.lease, what, k, err)
	}
	return errOver
}

// barrier is a checkpoint that every task has prepared and that is not assembled.
type barrier struct {
	cut      sink.Cut
	parts    []sink.Part
	position int64
	rows     int64 // of the parts
}

// barrier lets every open writer prepare.
func (r *run) barrier(final bool) (barrier, error) {
	w := r.w
	r.number++
	w.clock += 1000
	b := barrier{cut: sink.Cut{Lease: r.lease, Checkpoint: r.number, Time: w.clock, Final: final, Roll: r.roll}, position: r.next}
	for task, wr := range r.writers {
		if wr == nil {
			continue
		}
		part, err := wr.Prepare(w.s.ctx, b.cut)
		if err != nil {
			return b, r.failed("prepare", err)
		}
		part.Task = task
		b.rows += part.Rows
		b.parts = append(b.parts, part)
	}
	if b.rows != r.unsent {
		w.fatalf("lease %d: the parts of checkpoint %d have %d rows, %d were written", r.lease, r.number, b.rows, r.unsent)
	}
	w.logf("lease %d: checkpoint %d prepared, final %t, %d rows", r.lease, r.number, final, b.rows)
	r.unsent = 0
	return b, nil
}

// assemble lets the sink make its part of the manifest. The manifest before is published.
func (r *run) assemble(b barrier) (manifest, error) {
	w := r.w
	a, err := r.sink.Assemble(b.cut, b.parts)
	if err != nil {
		if r.faults.Dead() {
			return manifest{}, errDead
		}
		w.fatalf("lease %d: assemble checkpoint %d: %v", r.lease, b.cut.Checkpoint, err)
	}
	r.checkAssembled(b, a.Committables)
	w.logf("lease %d: checkpoint %d assembled, %d committables", r.lease, b.cut.Checkpoint, len(a.Committables))
	return manifest{
		Lease: r.lease, Checkpoint: b.cut.Checkpoint, Position: b.position,
		Pending: append(slices.Clone(r.pending), a.Committables...), State: a.State,
	}, nil
}

// prepare cuts a checkpoint: every open writer prepares, the sink assembles. Nothing is published.
func (r *run) prepare(final bool) (manifest, error) {
	b, err := r.barrier(final)
	if err != nil {
		return manifest{}, err
	}
	return r.assemble(b)
}

func (r *run) checkAssembled(b barrier, cs []sink.Committable) {
	w, cut := r.w, b.cut
	var rows int64
	for i := range cs {
		c := &cs[i]
		if c.Lease != cut.Lease || c.Checkpoint != cut.Checkpoint || c.Unit != record.Unit(i)*sink.UnitStep {
			w.fatalf("committable %d of checkpoint %d of lease %d is named lease %d, checkpoint %d, unit %d", i, cut.Checkpoint, cut.Lease, c.Lease, c.Checkpoint, c.Unit)
		}
		if c.Rows <= 0 {
			w.fatalf("committable %d of checkpoint %d has %d rows", i, cut.Checkpoint, c.Rows)
		}
		rows += c.Rows
		w.shape = append(w.shape, describeUnit(c))
	}
	if w.s.h.Exact && rows != b.rows {
		w.fatalf("the committables of checkpoint %d have %d rows, %d were written", cut.Checkpoint, rows, b.rows)
	}
}

// cut prepares and publishes a checkpoint.
func (r *run) cut(final bool) error {
	b, err := r.barrier(final)
	if err != nil {
		return err
	}
	return r.decide(b)
}

// decide assembles and publishes; in at-least-once mode what becomes visible is committed in between.
func (r *run) decide(b barrier) error {
	m, err := r.assemble(b)
	if err != nil {
		return err
	}
	if r.w.atLeastOnce {
		r.pending = m.Pending
		if err := r.commitAll(); err != nil {
			return err
		}
		m.Pending = nil
	}
	return r.publish(m)
}

// aside publishes a checkpoint in which no task takes part, as one that only names replaced units does: positions stay, and what
// tasks have written since the last barrier stays open.
func (r *run) aside() error {
	r.number++
	r.w.clock += 1000
	return r.decide(barrier{
		cut: sink.Cut{Lease: r.lease, Checkpoint: r.number, Time: r.w.clock}, position: r.last.Position,
	})
}

// overlap cuts two checkpoints, and tasks go on writing before the first is assembled, and before the second is.
func (r *run) overlap(task int) error {
	first, err := r.barrier(false)
	if err != nil {
		return err
	}
	if err := r.write(task, 2); err != nil {
		return err
	}
	second, err := r.barrier(false)
	if err != nil {
		return err
	}
	if err := r.write((task+1)%r.tasks, 1); err != nil {
		return err
	}
	if err := r.decide(first); err != nil {
		return err
	}
	if err := r.write(task, 1); err != nil {
		return err
	}
	if err := r.decide(second); err != nil {
		return err
	}
	return r.aside()
}

func (r *run) publish(m manifest) error {
	if r.faults.Dead() {
		return errDead // also when the sink said that its last call went well
	}
	if !r.w.publish(r, m) {
		return errOver
	}
	r.last, r.pending = r.w.copyOf(m), r.w.copyOf(m).Pending
	return nil
}

// commitAll commits everything pending, oldest first.
func (r *run) commitAll() error {
	for len(r.pending) > 0 {
		if err := r.commitFirst(); err != nil {
			return err
		}
	}
	return nil
}

// commitFirst commits the oldest pending committable until its outcome is known.
func (r *run) commitFirst() error {
	w, c := r.w, &r.pending[0]
	for range attemptsMax {
		outcome, rejected, err := r.commit(c)
		switch outcome {
		case sink.Committed:
			r.pending = r.pending[1:]
			return nil
		case sink.Unknown, sink.Retry:
			if r.faults.Dead() {
				return errDead
			}
		case sink.Rejected:
			return r.replace(c, rejected)
		case sink.Lost:
			if r.lease == w.lease && !w.atLeastOnce {
				w.fatalf("lease %d: %s is lost: %v", r.lease, describeUnit(c), err)
			}
			return errOver
		case sink.Fenced:
			if r.lease != w.lease {
				return errOver
			}
			if err := r.fence(); err != nil {
				return err
			}
		}
	}
	w.fatalf("lease %d: %s can't be committed", r.lease, describeUnit(c))
	return errOver
}

// commit sends one Commit and checks the form of the answer.
func (r *run) commit(c *sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	w := r.w
	if _, known := w.known[idOf(c)]; !known {
		w.tried[idOf(c)] = c.Rows
	}
	outcome, rejected, err := r.commits.Commit(w.s.ctx, *c)
	w.logf("lease %d: commit of %s: %s, %v", r.lease, describeUnit(c), outcome, err)
	if (outcome == sink.Committed) != (err == nil) {
		w.fatalf("commit answers %s with the error %v", outcome, err)
	}
	if (outcome == sink.Rejected) != (len(rejected) > 0) {
		w.fatalf("commit answers %s with %d rejected rows", outcome, len(rejected))
	}
	if outcome > sink.Fenced {
		w.fatalf("commit answers with outcome %d", outcome)
	}
	if outcome == sink.Committed {
		w.committed(c)
	}
	return outcome, rejected, err
}

// end closes the run's sink without a commit, as an ordinary stop after a failure does.
func (r *run) end() {
	for _, wr := range r.writers {
		if wr != nil {
			r.closed("writer", wr.Close())
		}
	}
	if r.sink != nil {
		r.closed("sink", r.sink.Close())
	}
	r.w.forget(r)
}

func (r *run) closed(what string, err error) {
	if err != nil {
		r.w.logf("lease %d: closing the %s: %v", r.lease, what, err)
	}
}
