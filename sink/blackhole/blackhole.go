// Package blackhole is a sink that counts rows and bytes and forgets them. It measures what a pipeline costs without its target.
//
// What is prepared: nothing. What is the decision's proof: none is needed, there is no effect that could be doubled. Who can
// still act late: nobody, for the same reason. What can expire: nothing.
package blackhole

import (
	"context"
	"sync/atomic"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Settings configure the sink: there is nothing to configure.
type Settings struct{}

// Spec describes the settings.
func Spec() config.Spec {
	return config.Spec{Type: "blackhole", Doc: "Counts rows and bytes and forgets them. It takes any columns. For measurements."}
}

// Plugin is one configured sink. It may be used by several goroutines at the same time.
type Plugin struct {
	rows  atomic.Int64
	bytes atomic.Int64
}

var _ sink.Plugin = (*Plugin)(nil)

// New returns the plugin. It never fails.
func New(Settings) (*Plugin, error) { return &Plugin{}, nil }

// Counts returns how many rows, and how many bytes in columns and provenance, were written since New, by all runs: what was
// written again after a recovery counts again.
func (p *Plugin) Counts() (rows, bytes int64) { return p.rows.Load(), p.bytes.Load() }

// Capabilities tells what the sink promises.
func (p *Plugin) Capabilities() sink.Capabilities {
	return sink.Capabilities{Form: sink.Direct, ExactlyOnce: true, DeadLetters: true, AnyColumns: true, Visible: "never: rows are counted and forgotten"}
}

// Inspect finds nothing: the sink takes any columns.
func (p *Plugin) Inspect(context.Context, sink.Identity) (sink.Inspection, error) {
	return sink.Inspection{}, nil
}

// Open returns the sink of one run.
func (p *Plugin) Open(context.Context, sink.Env) (sink.Sink, error) { return &Sink{plugin: p}, nil }

// Sink is the sink of one run.
type Sink struct {
	plugin *Plugin
}

var _ sink.Sink = (*Sink)(nil)

// Writer returns a task's writer.
func (s *Sink) Writer(_ context.Context, task int, _ *record.Schema) (sink.Writer, error) {
	return &Writer{plugin: s.plugin, part: sink.Part{Task: task}}, nil
}

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer { return Committer{} }

// Restore has nothing to restore.
func (s *Sink) Restore(context.Context, []byte, []sink.Committable) error { return nil }

// Assemble returns no committable: there is nothing to show.
func (s *Sink) Assemble(sink.Cut, []sink.Part) (sink.Assembled, error) { return sink.Assembled{}, nil }

// Close releases nothing: nothing is held.
func (s *Sink) Close() error { return nil }

// Writer counts one task's rows.
type Writer struct {
	plugin *Plugin
	part   sink.Part
}

var _ sink.Writer = (*Writer)(nil)

// Write counts the rows of a batch.
func (w *Writer) Write(_ context.Context, b *record.Batch) ([]record.Refusal, error) {
	rows, bytes := int64(b.Rows), b.Bytes()
	w.part.Rows += rows
	w.part.Bytes += bytes
	w.plugin.rows.Add(rows)
	w.plugin.bytes.Add(bytes)
	return nil, nil
}

// Prepare returns the counts since the last call.
func (w *Writer) Prepare(context.Context, sink.Cut) (sink.Part, error) {
	part := w.part
	w.part.Rows, w.part.Bytes = 0, 0
	return part, nil
}

// Close does nothing.
func (w *Writer) Close() error { return nil }

// Committer commits nothing.
type Committer struct{}

var _ sink.Committer = Committer{}

// Fence has nothing to fence.
func (Committer) Fence(context.Context) error { return nil }

// Commit finds every committable done: its effect is none.
func (Committer) Commit(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	return sink.Committed, nil, nil
}

// Replace returns c under another unit: no row is ever rejected.
func (Committer) Replace(_ context.Context, c sink.Committable, _ []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	c.Unit = unit
	return c, nil
}
