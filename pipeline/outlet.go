package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/step"
)

// outlets are the ways of a task's rows to the sinks, in their order. They belong to the task's goroutine.
type outlets struct {
	list   []outlet
	first  int    // place of the first sink's account
	route  int    // place of the account of rows that no sink wants; -1 without one
	wanted []bool // by row of the batch under way: a sink takes it, or can't tell
	passed int64  // rows that are wanted: what every sink's account takes in
}

// outlet is the way to one sink: which rows it takes, and which columns of them.
type outlet struct {
	stage  string
	writer sink.Writer
	when   *step.Condition // nil: every row
	share  share
	cast   step.Apply // nil: columns are as the sink takes them
	result step.Result

	chosen  []uint32         // rows that it takes; not filled where these are all
	refused []record.Refusal // rows of which when can't tell, and those with a null that the sink does not take
	view    record.Batch     // columns of the written batch
	copied  *record.Batch    // rows of its own
}

// newOutlets binds conditions and casts for one task. Writers come later.
func newOutlets(def *Definition, p *plan) (*outlets, error) {
	routes := def.routes()
	o := &outlets{first: len(def.stages()) - len(routes), route: -1}
	if def.routed() {
		o.route = o.first - 1
	}
	for i, r := range routes {
		l := outlet{stage: checkpoint.SinkStage + r.Name, share: p.shares[i], copied: record.NewBatch(p.shares[i].schema)}
		var err error
		if r.When != "" {
			if l.when, err = step.NewCondition(r.When, p.written); err != nil {
				return nil, fmt.Errorf("sink %q: %w", r.Name, err)
			}
		}
		if len(l.share.casts) > 0 {
			c := step.Cast{ID: r.Name, Columns: l.share.casts}
			if l.share.out, l.cast, err = c.Bind(l.share.schema); err != nil {
				return nil, fmt.Errorf("sink %q: %w", r.Name, err)
			}
		}
		o.list = append(o.list, l)
	}
	return o, nil
}

// write hands each sink the rows that it takes, and the refusals of each to the dead letters: a row that one sink refuses is in the
// others all the same.
func (t *output) write(ctx context.Context, b *record.Batch) error {
	if b.Rows == 0 {
		return nil
	}
	t.choose(b)
	for i := range t.outlets.list {
		if err := t.hand(ctx, t.outlets.first+i, &t.outlets.list[i], b); err != nil {
			return err
		}
	}
	return nil
}

// choose finds the rows of each sink, and counts those that nobody wants.
func (t *output) choose(b *record.Batch) {
	o := t.outlets
	o.passed = int64(b.Rows)
	everyRow := false
	for i := range o.list {
		l := &o.list[i]
		l.choose(b)
		everyRow = everyRow || l.when == nil
	}
	if o.route < 0 {
		return
	}
	if !everyRow {
		o.passed = o.wantedRows(b.Rows)
	}
	t.count(o.route, int64(b.Rows), o.passed, int64(b.Rows)-o.passed)
}

// wantedRows counts the rows that some sink takes, or can't tell.
func (o *outlets) wantedRows(rows int) (n int64) {
	o.wanted = append(o.wanted[:0], make([]bool, rows)...)
	for i := range o.list {
		for _, row := range o.list[i].chosen {
			o.wanted[row] = true
		}
		for _, r := range o.list[i].refused {
			o.wanted[r.Row] = true
		}
	}
	for _, w := range o.wanted {
		if w {
			n++
		}
	}
	return n
}

func (l *outlet) choose(b *record.Batch) {
	l.chosen, l.refused = l.chosen[:0], l.refused[:0]
	if l.when == nil {
		return
	}
	for row := range b.Rows {
		holds, err := l.when.Holds(b, row)
		switch {
		case err != nil:
			l.refused = append(l.refused, record.Refusal{Row: row, Reason: err.Error(), Byte: -1})
		case holds:
			l.chosen = append(l.chosen, uint32(row))
		}
	}
}

// hand writes a sink's rows, and counts them among those that some sink wants.
func (t *output) hand(ctx context.Context, stage int, l *outlet, b *record.Batch) error {
	takes := b.Rows
	if l.when != nil {
		takes = len(l.chosen) + len(l.refused)
	}
	own := l.rows(b)
	refused := len(l.refused) + len(l.result.Refused)
	for _, r := range l.refused {
		record.AppendDeadLetter(t.letters, b.Letter(r.Row, l.stage, r))
	}
	for _, letter := range l.result.Refused {
		letter.Stage = l.stage
		record.AppendDeadLetter(t.letters, letter)
	}
	if rows := own.Rows; rows > 0 {
		bad, err := l.writer.Write(ctx, own)
		if err != nil {
			return err
		}
		invariant.Check("I12", own.Rows == rows, "a writer changed the batch that it got:", l.stage, rows, own.Rows)
		for _, r := range bad {
			record.AppendDeadLetter(t.letters, own.Letter(r.Row, l.stage, r))
		}
		refused += len(bad)
	}
	l.forget()
	t.count(stage, t.outlets.passed, int64(takes-refused), t.outlets.passed-int64(takes))
	return nil
}

// forget lets go of the fetch that the rows came from: its memory is given back.
func (l *outlet) forget() {
	l.copied.Reset()
	l.view.Meta = record.Provenance{}
}

// rows returns the rows that the sink takes, in its columns. They share the memory of b where nothing has to be left out or
// changed: writers read what they get, and change nothing.
func (l *outlet) rows(b *record.Batch) *record.Batch {
	l.result.Refused = l.result.Refused[:0]
	l.refuseNulls(b)
	whole := len(l.chosen) == b.Rows || l.when == nil && len(l.refused) == 0
	switch {
	case whole && l.cast == nil && l.share.columns == nil:
		return b
	case whole && l.cast == nil:
		return l.look(b)
	case whole:
		l.chooseAll(b)
	}
	l.copy(b)
	if l.cast != nil {
		l.cast(l.copied, &l.result)
	}
	return l.copied
}

// refuseNulls takes out the rows with a null that the sink's column does not take.
func (l *outlet) refuseNulls(b *record.Batch) {
	for _, i := range l.share.bare {
		c := &b.Cols[l.share.columns[i]]
		if !c.Type.Nullable || bytes.IndexByte(c.Nulls[:b.Rows], 1) < 0 {
			continue
		}
		if l.when == nil && len(l.refused) == 0 {
			l.chooseAll(b)
		}
		f := &l.share.schema.Fields[i]
		l.chosen = slices.DeleteFunc(l.chosen, func(row uint32) bool {
			if c.Nulls[row] == 0 {
				return false
			}
			l.refused = append(l.refused, record.Refusal{Row: int(row), Column: f.Name, Reason: fmt.Sprintf("null does not fit %s", &f.Type), Byte: -1})
			return true
		})
	}
}

// chooseAll names every row.
func (l *outlet) chooseAll(b *record.Batch) {
	l.chosen = l.chosen[:0]
	for row := range b.Rows {
		l.chosen = append(l.chosen, uint32(row))
	}
}

// look returns the sink's columns of b, without copying them.
func (l *outlet) look(b *record.Batch) *record.Batch {
	l.view.Schema, l.view.Rows, l.view.Meta, l.view.Cols = l.share.schema, b.Rows, b.Meta, l.view.Cols[:0]
	for _, c := range l.share.columns {
		l.view.Cols = append(l.view.Cols, b.Cols[c])
	}
	for _, i := range l.share.bare { // there is no null in them
		l.view.Cols[i].Type, l.view.Cols[i].Nulls = l.share.schema.Fields[i].Type, nil
	}
	return &l.view
}

// copy makes a batch of the chosen rows, in the sink's columns.
func (l *outlet) copy(b *record.Batch) {
	c := l.copied
	c.Reshape(l.share.schema)
	c.Meta.Split, c.Meta.Topic, c.Meta.Partition = b.Meta.Split, b.Meta.Topic, b.Meta.Partition
	for i := range c.Cols {
		from := i
		if l.share.columns != nil {
			from = l.share.columns[i]
		}
		appendRows(&c.Cols[i], &b.Cols[from], l.chosen)
	}
	m := &b.Meta
	for _, row := range l.chosen {
		c.AppendMeta(record.RowMeta{Offset: m.Offsets[row], Timestamp: m.Timestamps[row], Key: m.Keys[row], Value: m.Values[row], Headers: m.Headers[row]})
	}
}

// appendRows appends rows of a column to one that is stored in the same way, faster than one by one where the width is fixed.
func appendRows(dst, src *record.Column, rows []uint32) {
	w := src.Type.Width()
	if w == 0 {
		for _, row := range rows {
			dst.AppendFrom(src, int(row))
		}
		return
	}
	for _, row := range rows {
		dst.Fixed = append(dst.Fixed, src.Fixed[w*int(row):w*int(row)+w]...)
	}
	switch {
	case !dst.Type.Nullable:
	case !src.Type.Nullable:
		dst.Nulls = append(dst.Nulls, make([]uint8, len(rows))...)
	default:
		for _, row := range rows {
			dst.Nulls = append(dst.Nulls, src.Nulls[row])
		}
	}
}
