package pipeline

import (
	"fmt"
	"log/slog"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// start opens the tasks beside the loop: readers and writers may wait for servers.
func (r *run) start(splits []source.Split) {
	r.opened = true
	r.given = make([]int, r.def.Tasks)
	shares := r.share(splits)
	r.wg.Go(func() {
		var tasks []*task
		for n := range r.def.Tasks {
			t, err := r.openTask(n, shares[n])
			if t != nil {
				tasks = append(tasks, t)
			}
			if err != nil {
				for _, t := range tasks {
					t.close(r.env.Log)
				}
				r.fail(fmt.Errorf("start task %d: %w", n, err))
				return
			}
		}
		if !r.post(func() { r.onOpened(tasks) }) {
			for _, t := range tasks {
				t.close(r.env.Log)
			}
		}
	})
}

// onOpened runs the tasks and asks them what has come in the meantime.
func (r *run) onOpened(tasks []*task) {
	r.tasks = tasks
	if r.onRunning != nil {
		r.onRunning()
	}
	for _, t := range tasks {
		r.wg.Go(func() { r.runTask(t) })
	}
	for _, f := range r.held {
		f()
	}
	r.held = nil
}

// runTask runs a task. A panic in it stops this pipeline through the recovery path, not the process.
func (r *run) runTask(t *task) {
	defer func() {
		if p := recover(); p != nil {
			r.env.Log.Error("task panics", slog.Int("task", t.number), slog.Any("panic", p), slog.String("stack", stack()))
			r.post(func() {
				r.panicked = true
				r.step(machine.Failed{Kind: fault.Unknown, Text: fmt.Sprintf("task %d panics: %v", t.number, p)})
			})
		}
	}()
	if err := t.run(r.ctx); err != nil {
		r.fail(fmt.Errorf("task %d: %w", t.number, err))
	}
}

func (r *run) openTask(n int, splits []source.Split) (*task, error) {
	t := &task{
		number: n, name: taskName(n), dead: -1, meter: r.meter, splits: map[string]source.Split{}, moved: map[string]bool{},
		control: make(chan control, controlQueue), resume: make(chan struct{}, 1), full: r.full.Load,
		part:   func(p machine.PartDone) { r.send(p) },
		drain:  func() { r.post(func() { r.onDrained(n) }) },
		onRead: r.onRead,
	}
	var unfinished []source.Split
	for _, sp := range splits {
		t.splits[sp.Split] = sp
		if !sp.Finished {
			t.open++
			unfinished = append(unfinished, sp)
		}
	}
	for _, stage := range r.def.stages() {
		t.stages = append(t.stages, checkpoint.StageCount{Stage: stage})
	}
	if r.def.DeadLetter != nil {
		t.dead = len(r.sinks) - 1
	}
	t.letters = record.NewBatch(record.DeadLetterSchema())
	t.meter.begin(t.name, "opens the reader and the writers")
	defer t.meter.end(t.name)
	if err := r.plan.equip(t, r.def); err != nil {
		return t, err
	}
	for i, s := range r.sinks {
		schema := r.plan.written
		if i == t.dead {
			schema = t.letters.Schema
		}
		w, err := s.sink.Writer(r.ctx, n, schema)
		if err != nil {
			return t, err
		}
		t.writers = append(t.writers, w)
	}
	var err error
	t.reader, err = r.def.Source.Open(r.ctx, unfinished, r.env.Memory)
	return t, err
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
	for _, w := range t.writers {
		logClose(log, "writer", w.Close())
	}
	if t.reader != nil {
		logClose(log, "reader", t.reader.Close())
	}
}

// onDrained tells the machine that the input has ended once every task is drained.
func (r *run) onDrained(task int) {
	r.drained[task] = true
	if len(r.drained) == len(r.tasks) && r.def.Source.Bounded() {
		r.step(machine.InputEnded{})
	}
}
