package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// start opens the tasks beside the loop: readers and writers may wait for servers, and keyed state for the store.
func (r *run) start(e machine.Run) {
	r.opened = true
	r.given = make([]int, r.def.Tasks)
	shares, lease := r.share(splitsOf(nil, e.Splits)), r.machine.Lease()
	r.wg.Go(func() {
		var all opening
		err := r.openState(e.State, lease)
		for n := 0; n < r.def.Tasks && err == nil; n++ {
			err = r.open(n, shares[n], &all)
		}
		for k := 0; k < len(r.def.Tables) && err == nil; k++ {
			err = r.openTable(k, e.Splits, &all)
		}
		if err != nil {
			all.close(r.env.Log)
			r.fail(err)
			return
		}
		if !r.post(func() { r.onOpened(all) }) {
			all.close(r.env.Log)
		}
	})
}

// opening are the tasks that are open so far.
type opening struct {
	tasks  []*task
	keyed  []*keyedTask
	tables []*task
}

func (o *opening) close(log *slog.Logger) {
	for _, t := range slices.Concat(o.tasks, o.tables) {
		t.close(log)
	}
	for _, t := range o.keyed {
		t.close(log)
	}
}

// open opens a source task, and the keyed task of the same place if there are any.
func (r *run) open(n int, splits []source.Split, all *opening) error {
	t, err := r.openTask(n, splits)
	all.tasks = append(all.tasks, t)
	if err == nil && r.keeper != nil {
		var k *keyedTask
		k, err = r.openKeyed(n)
		all.keyed = append(all.keyed, k)
	}
	if err != nil {
		return fmt.Errorf("start task %d: %w", n, err)
	}
	return nil
}

// onOpened runs the tasks and asks them what has come in the meantime.
func (r *run) onOpened(all opening) {
	r.tasks, r.keyed, r.tables = all.tasks, all.keyed, all.tables
	if r.onRunning != nil {
		r.onRunning()
	}
	for _, t := range slices.Concat(r.tasks, r.tables) {
		r.wg.Go(func() { r.runTask(t.number, t.run) })
	}
	for _, t := range r.keyed {
		r.wg.Go(func() { r.runTask(t.number, t.run) })
	}
	for _, f := range r.held {
		f()
	}
	r.held = nil
}

// runTask runs a task. A panic in it stops this pipeline through the recovery path, not the process.
func (r *run) runTask(number int, work func(context.Context) error) {
	defer func() {
		if p := recover(); p != nil {
			r.env.Log.Error("task panics", slog.Int("task", number), slog.Any("panic", p), slog.String("stack", stack()))
			r.post(func() {
				r.panicked = true
				r.step(machine.Failed{Kind: fault.Unknown, Text: fmt.Sprintf("task %d panics: %v", number, p)})
			})
		}
	}()
	if err := work(r.ctx); err != nil {
		r.fail(fmt.Errorf("task %d: %w", number, err))
	}
}

func (r *run) openTask(n int, splits []source.Split) (*task, error) {
	t := r.newTask(n)
	r.connect(t)
	unfinished := t.own(splits)
	t.meter.begin(t.name, "opens the reader and the writers")
	defer t.meter.end(t.name)
	if err := r.plan.equip(t, r.def); err != nil {
		return t, err
	}
	if err := r.openWriters(&t.output, t.keyed != nil); err != nil {
		return t, err
	}
	if len(r.def.Tables) > 0 {
		t.gate = &gate{source: r.def.Source, splits: unfinished, budget: r.env.Memory}
		return t, nil
	}
	var err error
	t.reader, err = r.def.Source.Open(r.ctx, unfinished, r.env.Memory)
	return t, err
}

func (r *run) newTask(n int) *task {
	return &task{
		output: r.newOutput(n), splits: map[string]source.Split{}, moved: map[string]bool{},
		control: make(chan control, controlQueue), resume: make(chan struct{}, 1),
		full:   func() bool { return r.full.Load() || r.crowded.Load() > 0 },
		drain:  func(context.Context) error { r.post(func() { r.onDrained(n) }); return nil },
		onRead: r.onRead,
	}
}

// own gives a task its splits and returns those that are not finished.
func (t *task) own(splits []source.Split) []source.Split {
	var unfinished []source.Split
	for _, sp := range splits {
		t.splits[sp.Split] = sp
		if !sp.Finished {
			t.open++
			unfinished = append(unfinished, sp)
			t.keyed.add(sp)
		}
	}
	return unfinished
}

func (r *run) newOutput(n int) output {
	t := output{number: n, name: taskName(n), dead: -1, meter: r.meter, letters: record.NewBatch(record.DeadLetterSchema()), part: r.onPart}
	for _, stage := range r.def.stages() {
		t.stages = append(t.stages, checkpoint.StageCount{Stage: stage})
	}
	if r.def.DeadLetter != nil {
		t.dead = len(r.sinks) - 1
	}
	return t
}

// openWriters opens a task's writers; one whose rows go on to others has none but that of dead letters.
func (r *run) openWriters(t *output, lettersOnly bool) error { //nolint:revive // flag-parameter: the two kinds of tasks share the rest
	if !lettersOnly {
		var err error
		if t.outlets, err = newOutlets(r.def, &r.plan); err != nil {
			return err
		}
	}
	for i, s := range r.sinks {
		var w sink.Writer
		var err error
		switch {
		case i == t.dead:
			w, err = s.sink.Writer(r.ctx, t.number, t.letters.Schema)
		case !lettersOnly:
			l := &t.outlets.list[i]
			w, err = s.sink.Writer(r.ctx, t.number, l.share.out)
			l.writer = w
		}
		if err != nil {
			return fmt.Errorf("sink %q: %w", s.name, err)
		}
		t.writers = append(t.writers, w)
	}
	return nil
}

// onRead counts bytes towards the checkpoint that `bytes` asks for.
func (r *run) onRead(n int64) {
	limit := r.def.Checkpoint.Bytes
	if limit <= 0 {
		return
	}
	if before := r.bytes.Add(n) - n; before < limit && before+n >= limit {
		r.send(machine.Requested{Request: machine.CheckpointNow})
	}
}

// close gives up what a task holds. It is called when the task's goroutine has ended.
func (t *task) close(log *slog.Logger) {
	t.output.close(log)
	if t.reader != nil {
		logClose(log, "reader", t.reader.Close())
	}
}

func (t *output) close(log *slog.Logger) {
	for _, w := range t.writers {
		if w != nil {
			logClose(log, "writer", w.Close())
		}
	}
}

// onDrained tells the machine that the input has ended once every task is drained.
func (r *run) onDrained(task int) {
	r.drained[task] = true
	if len(r.drained) == len(r.tasks) && r.def.Source.Bounded() {
		r.step(machine.InputEnded{})
	}
}
