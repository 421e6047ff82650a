// Package memory is the reference sink of the conformance suite: a table in the process's memory that several runs share, with
// a ledger and a fence as a database has them. Nothing outlives the process.
//
// What is prepared: segments in the checkpoint store hold the batches. What is the decision's proof: a ledger entry for each
// (pipeline ID, lane, sink), written in the same transaction as the rows: the highest (lease, checkpoint, unit) that took
// effect, the lease that wrote it, and the store ID. Who can still act late: an older lease, and every transaction compares its
// lease with the fence, which a run raises before it looks at the ledger. What can expire: nothing.
package memory

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Settings configure the sink.
type Settings struct {
	// SegmentRows is how many rows a segment holds at most; 0 means 1024.
	SegmentRows int `config:"segment_rows"`
	// UnitSegments is how many segments a committable holds at most; 0 means 64.
	UnitSegments int `config:"unit_segments"`
	// Invalid is a text that Write refuses rows for that hold it; "" for none.
	Invalid string `config:"invalid"`
	// Poison is a text that the table refuses rows for that hold it; "" for none.
	Poison string `config:"poison"`
}

// Spec describes the settings.
func Spec() config.Spec {
	return config.Spec{
		Type: "memory",
		Doc:  "Keeps rows in the memory of the process. For tests.",
		Keys: []config.Key{
			{Name: "segment_rows", Kind: config.KindInt, Default: "1024", Min: "1", Doc: "Rows of a segment."},
			{Name: "unit_segments", Kind: config.KindInt, Default: "64", Min: "1", Doc: "Segments of a committable."},
			{Name: "invalid", Kind: config.KindString, Doc: "Rows that hold this text are refused when they are written."},
			{Name: "poison", Kind: config.KindString, Doc: "Rows that hold this text are refused when they are committed."},
		},
	}
}

// Calls carries out a call to the table, which effect is. Tests break calls here.
type Calls func(call string, effect func() error) error

// Plugin is one configured sink.
type Plugin struct {
	settings Settings
	table    *Table
	calls    Calls
	flaw     flaw
}

var _ sink.Plugin = (*Plugin)(nil)

// New returns the plugin for a table. calls may be nil.
func New(settings Settings, table *Table, calls Calls) (*Plugin, error) {
	if settings.SegmentRows < 0 || settings.UnitSegments < 0 || table == nil {
		return nil, fault.E("sink/memory.New", fault.Misconfigured, errors.New("a table and no negative numbers are needed"))
	}
	const segmentRows, unitSegments = 1024, 64
	if settings.SegmentRows == 0 {
		settings.SegmentRows = segmentRows
	}
	if settings.UnitSegments == 0 {
		settings.UnitSegments = unitSegments
	}
	if calls == nil {
		calls = func(_ string, effect func() error) error { return effect() }
	}
	return &Plugin{settings: settings, table: table, calls: calls}, nil
}

// Capabilities tells what the sink promises.
func (p *Plugin) Capabilities() sink.Capabilities {
	return sink.Capabilities{
		Form:        sink.Staged,
		Ledger:      "an entry for each pipeline, lane and sink, written with the rows",
		Fence:       "every transaction compares its lease with the highest that fenced",
		ExactlyOnce: true,
		DeadLetters: true,
		AnyColumns:  true,
		Visible:     "when their checkpoint is committed",
	}
}

// Inspect finds who raised the fence last: the table takes any columns.
func (p *Plugin) Inspect(_ context.Context, id sink.Identity) (sink.Inspection, error) {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	f, ok := t.mu.fences[owner{id.Pipeline, id.Lane, id.Sink}]
	if !ok {
		return sink.Inspection{}, nil
	}
	return sink.Inspection{Owner: &sink.Owner{StoreID: f.storeID, Lease: f.lease}}, nil
}

// Open returns the sink of one run.
func (p *Plugin) Open(_ context.Context, env sink.Env) (sink.Sink, error) {
	if env.Lease == 0 || env.Segments == nil {
		return nil, fault.E("sink/memory.Open", fault.Misconfigured, errors.New("a lease and a segment store are needed"))
	}
	return &Sink{plugin: p, env: env, nonce: rand.Text()}, nil
}

// Sink is the sink of one run.
type Sink struct {
	plugin *Plugin
	env    sink.Env
	nonce  string
	state  state
}

var _ sink.Sink = (*Sink)(nil)

// state is what the sink keeps in the manifest: what was assembled last, and the rows ever assembled.
type state struct {
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Rows       int64             `json:"rows"`
}

// Writer returns a task's writer.
func (s *Sink) Writer(_ context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	return &Writer{sink: s, task: task, batch: record.NewBatch(schema)}, nil
}

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer { return &Committer{sink: s} }

// Restore reads the state of the newest manifest.
func (s *Sink) Restore(_ context.Context, data []byte, _ []sink.Committable) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, &s.state); err != nil {
		return fault.E("sink/memory.Restore", fault.Corrupt, err)
	}
	return nil
}

// Assemble makes committables of the parts' segments, in order of tasks.
func (s *Sink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	if cut.Lease < s.state.Lease || cut.Lease == s.state.Lease && cut.Checkpoint <= s.state.Checkpoint {
		return sink.Assembled{}, fault.E("sink/memory.Assemble", fault.Corrupt,
			fmt.Errorf("checkpoint %d of lease %d comes after %d of %d", cut.Checkpoint, cut.Lease, s.state.Checkpoint, s.state.Lease))
	}
	var a sink.Assembled
	size := s.plugin.flaw.unitSegments(s.plugin.settings.UnitSegments)
	var segments []sink.Segment
	for _, p := range parts {
		if s.plugin.flaw != dropsTasks || p.Task < 2 {
			segments = append(segments, p.Segments...)
		}
	}
	for len(segments) > 0 || s.plugin.flaw == emptyCommittables && len(a.Committables) == 0 {
		n := min(size, len(segments))
		c := sink.Committable{
			Lease: cut.Lease, Checkpoint: cut.Checkpoint, Unit: record.Unit(len(a.Committables)) * sink.UnitStep, Segments: segments[:n], Version: 1,
		}
		for _, g := range c.Segments {
			c.Rows += g.Rows
			c.Bytes += g.Bytes
		}
		a.Committables = append(a.Committables, c)
		s.state.Rows += c.Rows
		segments = segments[n:]
	}
	s.state.Lease, s.state.Checkpoint = cut.Lease, cut.Checkpoint
	var err error
	a.State, err = json.Marshal(s.state)
	return a, err
}

// Close releases nothing: nothing is held.
func (s *Sink) Close() error { return nil }

// Writer collects one task's batches into segments.
type Writer struct {
	sink  *Sink
	task  int
	batch *record.Batch // of the segment that is being filled
	part  sink.Part
	held  []*record.Batch // what a flawed writer refers to
}

var _ sink.Writer = (*Writer)(nil)

// Write takes the rows of a batch.
func (w *Writer) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	var refused []record.Refusal
	if w.sink.plugin.flaw == keepsBatch {
		w.held = append(w.held, shallow(b))
		return nil, nil
	}
	for row := range b.Rows {
		if invalid := w.sink.plugin.settings.Invalid; invalid != "" && bytes.Contains(rowJSON(b, row), quoted(invalid)) {
			refused = append(refused, record.Refusal{Row: row, Reason: "the row holds what is not allowed", Byte: -1})
			continue
		}
		if w.batch.Rows > 0 && (w.batch.Rows >= w.sink.plugin.settings.SegmentRows || w.batch.Meta.Split != b.Meta.Split) {
			if err := w.flush(ctx); err != nil {
				return nil, err
			}
		}
		appendRow(w.batch, b, row)
	}
	return refused, nil
}

// flush stores the segment that is being filled.
func (w *Writer) flush(ctx context.Context) error {
	rows := int64(w.batch.Rows)
	if rows == 0 {
		return nil
	}
	data, err := sink.EncodeSegment(
		sink.SegmentInfo{Kind: segmentKind, Version: segmentVersion, Rows: rows, Compression: sink.S2},
		record.EncodeBatchWith(nil, w.batch, record.EncodeOptions{Raw: true}))
	if err != nil {
		return err
	}
	s, err := w.store(ctx, data, rows)
	if err != nil {
		return err
	}
	w.part.Segments = append(w.part.Segments, s)
	w.part.Rows += rows
	w.part.Bytes += s.Bytes
	w.batch.Reset()
	return nil
}

func (w *Writer) store(ctx context.Context, data []byte, rows int64) (sink.Segment, error) {
	if w.sink.plugin.flaw == keepsSegments {
		return w.sink.plugin.table.keep(data, rows), nil
	}
	return w.sink.env.Segments.Put(ctx, data, rows)
}

// Prepare stores what is left and returns the part.
func (w *Writer) Prepare(ctx context.Context, cut sink.Cut) (sink.Part, error) {
	for _, b := range w.held {
		for row := range b.Rows {
			appendRow(w.batch, b, row)
		}
	}
	w.held = nil
	if err := w.flush(ctx); err != nil {
		return sink.Part{}, err
	}
	part := w.part
	part.Task, w.part = w.task, sink.Part{}
	if w.sink.plugin.flaw == showsPrepared {
		return part, w.sink.show(ctx, cut, part)
	}
	return part, nil
}

// Close forgets what was not prepared.
func (w *Writer) Close() error { return nil }
