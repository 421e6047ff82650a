package pipeline

import (
	"context"
	"fmt"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// gate keeps a task of the source from reading until all tables are read up to where they ended when the run began. Its reader is
// opened then: one that is open may take all memory for what nobody reads yet, and the tables would wait for it.
type gate struct {
	source source.Source
	splits []source.Split
	budget source.Budget
}

// begin opens the gate.
func (t *task) begin(ctx context.Context) error {
	t.meter.begin(t.name, "opens the reader")
	defer t.meter.end(t.name)
	var err error
	t.reader, err = t.gate.source.Open(ctx, t.gate.splits, t.gate.budget)
	t.gate = nil
	return err
}

// tableRows is what the task of a table has besides. Its methods but send do on nil what is right for other tasks.
type tableRows struct {
	deletions *deletions
	gone      []bool                   // by row of the batch under way, whether it takes its key out
	behind    map[string]record.Offset // splits that are not read up to where they ended; -1: it is not known yet
	loaded    func()                   // told once when there is none
}

// decode appends a record to the batch, a deleted row by its key.
func (x *tableRows) decode(t *task, b *record.Batch, r *source.Row) (record.Refusal, bool) {
	if x == nil {
		return t.decoder.Decode(b, r.Value)
	}
	decode := func() (record.Refusal, bool) { return t.decoder.Decode(b, r.Value) }
	if r.Value == nil {
		decode = func() (record.Refusal, bool) { return x.deletions.append(b, r.Key) }
	}
	refusal, ok := decode()
	if ok {
		x.gone = append(x.gone, r.Value == nil)
	}
	return refusal, ok
}

// send sends what was decoded of a fetch to the keyed tasks. It is counted as absorbed where rows of the source pass (I12).
func (x *tableRows) send(ctx context.Context, t *task, in int64) error {
	rows := int64(t.batch.Rows)
	invariant.Check("I12", len(x.gone) == t.batch.Rows, "a table's rows and what is known of them", len(x.gone), rows)
	t.stages[1].Add(checkpoint.StageCount{In: in, Absorbed: rows, Refused: in - rows})
	t.keyed.gone = x.gone
	err := t.keyed.route(ctx, t.batch, t.keyed.told)
	x.gone = x.gone[:0]
	if err != nil {
		return err
	}
	return t.bury(ctx)
}

// look notes how far the table is read, and tells once it is read up to where it ended.
func (x *tableRows) look(t *task) {
	if x == nil || x.loaded == nil {
		return
	}
	for _, l := range t.reader.Lag() {
		if end, ok := x.behind[l.Split]; ok && end < 0 && l.Records >= 0 {
			x.behind[l.Split] = t.splits[l.Split].Offset + record.Offset(l.Records)
		}
	}
	for name, end := range x.behind {
		if sp := t.splits[name]; sp.Finished || end >= 0 && sp.Offset >= end {
			delete(x.behind, name)
		}
	}
	if len(x.behind) == 0 {
		x.loaded()
		x.loaded = nil
	}
}

// openTable opens the task of a table.
func (r *run) openTable(k int, splits []source.Split, all *opening) error {
	table := &r.def.Tables[k]
	t := r.newTask(r.def.tableTask(k))
	all.tables = append(all.tables, t)
	if err := r.equipTable(t, k); err != nil {
		return fmt.Errorf("start the task of the table of step %q: %w", table.Step, err)
	}
	unfinished := t.own(splitsOf(table, splits))
	for _, sp := range unfinished {
		t.table.behind[sp.Split] = -1
	}
	t.meter.begin(t.name, "opens the reader and the writers")
	defer t.meter.end(t.name)
	err := r.openWriters(&t.output, true)
	if err == nil {
		t.reader, err = tableSource{table.Source, table.prefix()}.Open(r.ctx, unfinished, r.env.Memory)
	}
	if err != nil {
		return fmt.Errorf("start the task of the table of step %q: %w", table.Step, err)
	}
	return nil
}

// equipTable gives the task of a table its decoder and its way to the keyed tasks.
func (r *run) equipTable(t *task, k int) error {
	table := &r.def.Tables[k]
	e, _ := r.def.enrich(table)
	var err error
	if t.decoder, err = table.Codec.New(e.Table); err != nil {
		return err
	}
	t.decoded, t.batch = e.Table, record.NewBatch(e.Table)
	x := &tableRows{behind: map[string]record.Offset{}, loaded: func() { r.post(r.onLoaded) }}
	if x.deletions, err = table.deletions(e); err != nil {
		return err
	}
	var key []int
	for _, name := range e.TableKey {
		key = append(key, e.Table.Index(name))
	}
	router := newRouter(r.exchange, r.def.Tasks+k, key, r.groups)
	router.table = table.Step
	t.keyed = &toKeyed{router: router, tracker: step.NewWatermarkTracker(r.def.EventTime), splits: map[string]bool{}}
	t.drain = func(context.Context) error { t.table.look(t); return nil } // without splits nothing else tells
	t.table = x
	return nil
}

// onLoaded opens the gates when all tables are read. It is the loop that does so: the tasks are asked in the order in which they are
// asked for barriers, so that no row of the source is before a barrier that a row of a table is behind.
func (r *run) onLoaded() {
	if r.loaded++; r.loaded < len(r.def.Tables) {
		return
	}
	for _, t := range r.tasks {
		t.send(r.ctx, control{begin: true})
	}
}
