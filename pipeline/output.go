package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// output is what a task does with rows that leave a stage: it hands them to writers, buries what was refused, keeps account of
// all (I12), and makes its part of a checkpoint of that. It belongs to the task's goroutine.
type output struct {
	number  int
	name    string
	meter   *meter
	outlets *outlets      // to the sinks; nil where rows go on to other tasks
	writers []sink.Writer // in the order of sinks; nil where the task writes nothing
	dead    int           // place of the dead-letter writer, or -1
	letters *record.Batch
	result  step.KeyedResult
	stages  []checkpoint.StageCount // since the last barrier
	part    func(part)
}

// part is a task's part of a checkpoint, with what the driver makes the state's part of.
type part struct {
	checkpoint record.Checkpoint
	machine.Part
	times     []step.SplitTime // of a source task's splits
	frozen    *state.Frozen    // of a keyed task
	watermark int64            // of a keyed task, at the barrier
	changed   int64            // bytes of memory that its changes take
	expired   func(key, value []byte) bool
}

// apply runs a step over a batch and takes its refusals to the dead letters, under a stage's name if one is given.
func (t *output) apply(apply step.Apply, stage string, b *record.Batch) {
	t.result = step.KeyedResult{Result: step.Result{Refused: t.result.Refused[:0]}}
	apply(b, &t.result.Result)
	t.refuse(stage)
}

func (t *output) refuse(stage string) {
	for _, l := range t.result.Refused {
		if stage != "" {
			l.Stage = stage
		}
		record.AppendDeadLetter(t.letters, l)
	}
}

// step runs a stateless step and counts.
func (t *output) step(stage int, apply step.Apply, b *record.Batch) {
	in := int64(b.Rows)
	t.apply(apply, "", b)
	t.account(stage, in, int64(b.Rows))
}

// account counts what a step made of a batch, by its result: what it did not take out passed, and what is there beside that was
// made.
func (t *output) account(stage int, in, after int64) {
	r := &t.result
	passed := in - r.Filtered - int64(len(r.Refused)) - r.Deduplicated - r.Absorbed - r.Late
	t.stages[stage].Add(checkpoint.StageCount{
		In: in, Passed: passed, Filtered: r.Filtered, Refused: int64(len(r.Refused)),
		Deduplicated: r.Deduplicated, Absorbed: r.Absorbed, Late: r.Late, Made: after - passed,
	})
}

// bury writes the dead letters of a fetch, or stops the pipeline when there is no place for them.
func (t *output) bury(ctx context.Context) error {
	if t.letters.Rows == 0 {
		return nil
	}
	if t.dead < 0 {
		return fault.WithRemedy("pipeline.task", fault.Rejected, errors.New(describeLetter(t.letters)),
			"add the pipeline's dead_letter section to go on past records like this one, or correct the decode section")
	}
	refused, err := t.writers[t.dead].Write(ctx, t.letters)
	if err == nil && len(refused) > 0 {
		err = fault.E("pipeline.task", fault.Rejected, fmt.Errorf("the dead-letter sink refused a dead letter: %s", refused[0].Reason))
	}
	return err
}

// count adds to a stage's account; what neither passed nor was filtered was refused.
func (t *output) count(stage int, in, passed, filtered int64) {
	s := &t.stages[stage]
	s.In, s.Passed, s.Filtered, s.Refused = s.In+in, s.Passed+passed, s.Filtered+filtered, s.Refused+in-passed-filtered
}

// cut makes everything that was written since the last barrier durable and reports the part; fill adds what the task has
// besides.
func (t *output) cut(ctx context.Context, c sink.Cut, fill func(p *part)) error {
	start := time.Now()
	t.meter.begin(t.name, fmt.Sprintf("prepare of checkpoint %d", c.Checkpoint))
	p := part{checkpoint: c.Checkpoint, Part: machine.Part{Task: t.number, Stages: append([]checkpoint.StageCount(nil), t.stages...)}}
	fill(&p)
	for _, w := range t.writers {
		var written sink.Part
		if w != nil {
			var err error
			if written, err = w.Prepare(ctx, c); err != nil {
				return fmt.Errorf("prepare checkpoint %d: %w", c.Checkpoint, err)
			}
		}
		written.Task = t.number
		p.Sinks = append(p.Sinks, written)
	}
	inject.Point(inject.AfterPrepare)
	t.meter.end(t.name)
	for i := range t.stages {
		t.stages[i] = checkpoint.StageCount{Stage: t.stages[i].Stage}
	}
	t.meter.prepared(p.Part, time.Since(start))
	t.part(p)
	return nil
}

// describeLetter names the first dead letter of a batch, for a pipeline that has no place for it.
func describeLetter(b *record.Batch) string {
	text := func(name string) string { return string(b.Cols[b.Schema.Index(name)].BytesAt(0)) }
	return fmt.Sprintf("%d records were refused and there is no dead-letter sink; the first: %s of split %s, offset %d: %s",
		b.Rows, text("stage"), text("split"), b.Meta.Offsets[0], text("reason"))
}
