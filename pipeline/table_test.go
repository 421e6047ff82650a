package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// row is what a table holds.
type row struct {
	Split  string
	Offset record.Offset
	Text   string // of a dead letter its reason
}

// table is the target of a sink in memory, which outlives runs.
type table struct {
	mu     sync.Mutex
	rows   []row
	ledger map[string]bool
	lease  record.Lease
	by     map[record.Checkpoint][]row // what was committed by each checkpoint

	// What a test changes, each nil for nothing unusual. They are called without mu held.
	inspect func() (sink.Inspection, error)
	fence   func() error
	write   func(ctx context.Context, rows []row) error
	prepare func(ctx context.Context, task int) error
	commit  func(ctx context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error)
	replace func() error
	caps    sink.Capabilities
}

func newTable() *table {
	return &table{
		ledger: map[string]bool{}, by: map[record.Checkpoint][]row{},
		caps: sink.Capabilities{Form: sink.ServerSide, Ledger: "a map", Fence: "a number", Visible: "at commit", ExactlyOnce: true, DeadLetters: true, AnyColumns: true},
	}
}

// texts returns the texts of all rows, sorted.
func (t *table) texts() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, r := range t.rows {
		out = append(out, r.Text)
	}
	slices.Sort(out)
	return out
}

func (t *table) Capabilities() sink.Capabilities { return t.caps }

func (t *table) Inspect(context.Context, sink.Identity) (sink.Inspection, error) {
	if t.inspect != nil {
		return t.inspect()
	}
	return sink.Inspection{}, nil
}

func (t *table) Open(_ context.Context, env sink.Env) (sink.Sink, error) {
	return &tableSink{table: t, env: env}, nil
}

type tableSink struct {
	table *table
	env   sink.Env
}

func (s *tableSink) Writer(_ context.Context, task int, _ *record.Schema) (sink.Writer, error) {
	return &tableWriter{sink: s, task: task}, nil
}

func (s *tableSink) Committer() sink.Committer { return s }

func (s *tableSink) Restore(context.Context, []byte, []sink.Committable) error { return nil }

func (s *tableSink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	var all []row
	for _, p := range parts {
		all = append(all, decodeRows(p.Data)...)
	}
	if len(all) == 0 {
		return sink.Assembled{}, nil
	}
	return sink.Assembled{Committables: []sink.Committable{{
		Lease: cut.Lease, Checkpoint: cut.Checkpoint, Rows: int64(len(all)), Version: 1, Data: encodeRows(all),
	}}}, nil
}

func (s *tableSink) Close() error { return nil }

func (s *tableSink) Fence(context.Context) error {
	if s.table.fence != nil {
		if err := s.table.fence(); err != nil {
			return err
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.table.lease > s.env.Lease {
		return fault.E("table.Fence", fault.Fenced, errors.New("a newer lease is there"))
	}
	s.table.lease = s.env.Lease
	return nil
}

func (s *tableSink) Commit(ctx context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	if s.table.commit != nil {
		if outcome, rows, err := s.table.commit(ctx, c); outcome != sink.Committed {
			return outcome, rows, err
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.table.lease > s.env.Lease {
		return sink.Fenced, nil, errors.New("a newer lease is there")
	}
	id := fmt.Sprintf("%d/%d/%d", c.Lease, c.Checkpoint, c.Unit)
	if !s.table.ledger[id] {
		s.table.ledger[id] = true
		s.table.rows = append(s.table.rows, decodeRows(c.Data)...)
		s.table.by[c.Checkpoint] = append(s.table.by[c.Checkpoint], decodeRows(c.Data)...)
	}
	return sink.Committed, nil, nil
}

func (s *tableSink) Replace(_ context.Context, c sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	if s.table.replace != nil {
		if err := s.table.replace(); err != nil {
			return sink.Committable{}, err
		}
	}
	var left []row
	for i, r := range decodeRows(c.Data) {
		if !slices.ContainsFunc(rejected, func(x sink.RejectedRow) bool { return x.Row == int64(i) }) {
			left = append(left, r)
		}
	}
	c.Unit, c.Rows, c.Data = unit, int64(len(left)), encodeRows(left)
	return c, nil
}

// rejecting is a commit that refuses rows with a text, once decided for all.
func rejecting(text string) func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	return func(_ context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
		var bad []sink.RejectedRow
		for i, r := range decodeRows(c.Data) {
			if r.Text == text {
				bad = append(bad, sink.RejectedRow{Row: int64(i), Letter: record.DeadLetter{
					Split: r.Split, Offset: r.Offset, Timestamp: -1, Byte: -1, Stage: "sink:sink", Reason: "the target refuses it", Value: []byte(r.Text),
				}})
			}
		}
		if len(bad) > 0 {
			return sink.Rejected, bad, fault.E("table.Commit", fault.Rejected, errors.New("rows are refused"))
		}
		return sink.Committed, nil, nil
	}
}

type tableWriter struct {
	sink *tableSink
	task int
	rows []row
}

func (w *tableWriter) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	var rows []row
	var refused []record.Refusal
	text := b.Schema.Index("text")
	letter := text < 0
	if letter {
		text = b.Schema.Index("reason")
	}
	for i := range b.Rows {
		r := row{Split: b.Meta.Split, Offset: b.Meta.Offsets[i], Text: string(b.Cols[text].BytesAt(i))}
		if n := b.Schema.Index("n"); n >= 0 {
			r.Text += fmt.Sprint(" ", b.Cols[n].Int(i))
		}
		switch {
		case letter:
			r.Split = string(b.Cols[b.Schema.Index("split")].BytesAt(i))
		case r.Text == "invalid":
			refused = append(refused, record.Refusal{Row: i, Reason: "it is invalid", Byte: -1})
			continue
		}
		rows = append(rows, r)
	}
	if w.sink.table.write != nil {
		if err := w.sink.table.write(ctx, rows); err != nil {
			return nil, err
		}
	}
	w.rows = append(w.rows, rows...)
	return refused, nil
}

func (w *tableWriter) Prepare(ctx context.Context, _ sink.Cut) (sink.Part, error) {
	if w.sink.table.prepare != nil {
		if err := w.sink.table.prepare(ctx, w.task); err != nil {
			return sink.Part{}, err
		}
	}
	p := sink.Part{Task: w.task, Rows: int64(len(w.rows))}
	if len(w.rows) > 0 {
		p.Data = encodeRows(w.rows)
	}
	w.rows = nil
	return p, nil
}

func (w *tableWriter) Close() error { return nil }

func encodeRows(rows []row) []byte {
	data, err := json.Marshal(rows)
	if err != nil {
		panic(err)
	}
	return data
}

func decodeRows(data []byte) []row {
	var rows []row
	if err := json.Unmarshal(data, &rows); err != nil {
		panic(err)
	}
	return rows
}
