package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// task is one goroutine that owns splits, from reading to prepared rows. Everything in it belongs to that goroutine but the
// control queue.
type task struct {
	output
	reader   source.Reader
	decoder  codec.Decoder
	metadata step.Apply // nil without metadata columns
	applies  []step.Apply
	keyed    *toKeyed   // where rows go on when there are keyed steps; nil: to the main sink
	table    *tableRows // nil: the rows are the source's own
	gate     *gate      // nil: it may read

	decoded *record.Schema
	batch   *record.Batch
	splits  map[string]source.Split // where each split stands
	moved   map[string]bool         // since the last barrier
	open    int                     // splits that are not finished
	drained bool                    // said that none is
	told    time.Time               // when the meter was told of lag
	lost    int64                   // offsets passed over, as told
	full    func() bool             // the input waits for commits
	resume  chan struct{}           // the input goes on

	drain   func(ctx context.Context) error
	onRead  func(bytes int64)
	control chan control
	wake    struct {
		sync.Mutex
		cancel context.CancelFunc // of the Poll under way
	}
}

// control is what the driver sends to a task, in order.
type control struct {
	barrier *sink.Cut
	add     []source.Split
	begin   bool // the tables are read: the gate opens
}

// controlQueue bounds what a task is asked before it answers: two barriers and additions between them.
const controlQueue = 16

// pollMax bounds one wait for records, so that a task tells of its lag also when nothing arrives.
const pollMax = time.Second

// send puts a control into the task's queue and wakes it from its Poll.
func (t *task) send(ctx context.Context, c control) {
	select {
	case t.control <- c:
	case <-ctx.Done():
		return
	}
	t.wake.Lock()
	defer t.wake.Unlock()
	if t.wake.cancel != nil {
		t.wake.cancel()
	}
}

// goOn wakes a task whose input waited for commits.
func (t *task) goOn() {
	select {
	case t.resume <- struct{}{}:
	default: // it is woken already
	}
}

// run works until the final barrier, an error or the end of ctx.
func (t *task) run(ctx context.Context) error {
	if err := t.keyed.idle(ctx); err != nil { // without splits nothing else tells
		return err
	}
	for {
		if t.open == 0 && !t.drained {
			t.drained = true
			if err := t.drain(ctx); err != nil {
				return err
			}
		}
		c, ok, err := t.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			if err := t.poll(ctx); err != nil {
				return err
			}
			continue
		}
		final, err := t.obey(ctx, c)
		if err != nil || final {
			return err
		}
	}
}

// next takes a control from the queue. With splits to read it waits for one only while as many checkpoints as may wait for
// their commit: what is read then could not be part of a checkpoint, and would only fill the disk.
func (t *task) next(ctx context.Context) (control, bool, error) {
	for t.open == 0 || t.gate != nil || t.full() {
		var tick <-chan time.Time
		if t.open > 0 {
			tick = time.After(pollMax)
		}
		select {
		case c := <-t.control:
			return c, true, nil
		case <-t.resume:
		case <-tick:
			t.tell()
		case <-ctx.Done():
			return control{}, false, context.Cause(ctx)
		}
	}
	select {
	case c := <-t.control:
		return c, true, nil
	case <-ctx.Done():
		return control{}, false, context.Cause(ctx)
	default:
		return control{}, false, nil
	}
}

func (t *task) obey(ctx context.Context, c control) (final bool, err error) {
	if c.barrier != nil {
		return c.barrier.Final, t.prepare(ctx, *c.barrier)
	}
	if c.begin {
		return false, t.begin(ctx)
	}
	for _, sp := range c.add {
		t.splits[sp.Split] = sp
		t.open++
		t.keyed.add(sp)
	}
	t.drained = false
	if t.gate != nil {
		t.gate.splits = append(t.gate.splits, c.add...)
		return false, nil
	}
	return false, t.reader.Add(ctx, c.add)
}

// poll waits for one fetch, or for a control, and takes what came all the way to the writers.
func (t *task) poll(ctx context.Context) error {
	pollCtx, cancel := context.WithTimeout(ctx, pollMax)
	defer cancel()
	t.wake.Lock()
	t.wake.cancel = cancel
	waiting := len(t.control) > 0
	t.wake.Unlock()
	if waiting {
		return nil
	}
	f, err := t.reader.Poll(pollCtx)
	if err != nil {
		return err
	}
	if err := t.take(ctx, f); err != nil {
		return err
	}
	t.tell()
	t.table.look(t)
	return t.keyed.idle(ctx)
}

// tell tells the meter from time to time how the reader is.
func (t *task) tell() {
	now := time.Now()
	if t.reader == nil || now.Sub(t.told) < pollMax {
		return
	}
	t.told = now
	t.meter.source(t.number, t.reader.Lag(), t.reader.Waiting())
	if l, ok := t.reader.(source.LossCounter); ok {
		n := l.Lost()
		t.meter.lost(n - t.lost)
		t.lost = n
	}
}

// take decodes, transforms and writes one fetch, and moves the split's position past it (I1, I2, I10).
func (t *task) take(ctx context.Context, f source.Fetch) error {
	release := f.Release
	if t.keyed != nil {
		t.keyed.begin(release)
		release = t.keyed.finish
	}
	if release != nil {
		defer release()
	}
	if f.Next.Split == "" {
		return nil
	}
	sp, ok := t.splits[f.Next.Split]
	if !ok {
		return fault.E("pipeline.task", fault.Unknown, fmt.Errorf("the source handed out split %q, which is not of task %d", f.Next.Split, t.number))
	}
	inOrder(sp.Position, f)
	t.meter.begin(t.name, "hands rows to the sinks")
	if err := t.process(ctx, f); err != nil {
		return fmt.Errorf("split %s, offset %d: %w", sp.Split, sp.Offset, err)
	}
	t.meter.end(t.name)
	t.meter.moved(t.number, sp.Split)
	sp.Position = f.Next
	if f.Finished && !sp.Finished {
		sp.Finished = true
		t.open--
		t.keyed.remove(sp.Split)
	}
	t.splits[sp.Split] = sp
	t.moved[sp.Split] = true
	return nil
}

// inOrder asserts that a fetch goes on where the one before it ended, and holds its records in their order.
func inOrder(at source.Position, f source.Fetch) {
	invariant.Check("I10", f.Next.Offset >= at.Offset, "a split goes back:", at.Split, at.Offset, f.Next.Offset)
	if n := len(f.Rows); n > 0 {
		invariant.Check("I10", f.Rows[0].Offset >= at.Offset && f.Rows[n-1].Offset < f.Next.Offset,
			"records outside of the fetch:", at.Split, at.Offset, f.Rows[0].Offset, f.Rows[n-1].Offset, f.Next.Offset)
	}
	if invariant.Expensive {
		for i := 1; i < len(f.Rows); i++ {
			invariant.Check("I10", f.Rows[i-1].Offset < f.Rows[i].Offset, "records out of order:", at.Split, f.Rows[i-1].Offset, f.Rows[i].Offset)
		}
	}
}

func (t *task) process(ctx context.Context, f source.Fetch) error {
	if len(f.Rows)+len(f.Refused) == 0 {
		return nil
	}
	b := t.batch
	b.Reshape(t.decoded)
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = f.Next.Split, f.Topic, f.Partition
	t.letters.Reset()
	for _, l := range f.Refused {
		record.AppendDeadLetter(t.letters, l)
	}
	in, passed := int64(len(f.Rows)+len(f.Refused)), int64(len(f.Rows))
	t.count(0, in, passed, 0)
	bytes := t.decode(f)
	t.meter.read(in, bytes)
	t.onRead(bytes)
	if t.table != nil {
		return t.table.send(ctx, t, passed)
	}
	t.count(1, passed, int64(b.Rows), 0)
	for i, apply := range t.applies {
		t.step(stepsAt+i, apply, b)
	}
	var err error
	if t.keyed != nil {
		err = t.keyed.rows(ctx, b)
	} else {
		err = t.write(ctx, b)
	}
	if err != nil {
		return err
	}
	return t.bury(ctx)
}

// decode fills the batch from a fetch and returns the bytes that were read.
func (t *task) decode(f source.Fetch) (bytes int64) {
	b := t.batch
	for i := range f.Rows {
		r := &f.Rows[i]
		bytes += int64(len(r.Key) + len(r.Value))
		refusal, ok := t.table.decode(t, b, r)
		if ok {
			b.AppendMeta(record.RowMeta{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: r.Headers})
			continue
		}
		record.AppendDeadLetter(t.letters, record.DeadLetter{
			Split: f.Next.Split, Topic: f.Topic, Partition: f.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
			Key: r.Key, Value: r.Value, Headers: r.Headers, Stage: "decode", Reason: refusal.Reason, Column: refusal.Column, Byte: refusal.Byte,
		})
	}
	if t.metadata != nil {
		t.apply(t.metadata, "decode", b)
	}
	return bytes
}

// prepare makes the task's part of a checkpoint durable and reports it.
func (t *task) prepare(ctx context.Context, c sink.Cut) error {
	if err := t.keyed.barrier(ctx, c); err != nil {
		return err
	}
	var moved []source.Split
	for name := range t.moved {
		moved = append(moved, t.splits[name])
	}
	clear(t.moved)
	return t.cut(ctx, c, func(p *part) { p.Splits, p.times = moved, t.keyed.times() })
}
