package pipeline

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// Looked is what a look at everything that a pipeline touches found, without changing anything.
type Looked struct {
	Guarantee Guarantee
	Findings  []Found
	Columns   []string // of the rows that are written, "name type"
	Err       error    // why the pipeline can't start as it is; nil otherwise
}

// Found is one finding with its place: "source", "sink", "dead_letter", "checkpoint".
type Found struct {
	Where, Level, Text, Remedy string
}

// Look asks the source, the sinks and the checkpoint store of a pipeline whether it would start, and what it would guarantee.
func Look(ctx context.Context, def *Definition, log *slog.Logger) Looked {
	var out Looked
	if c, ok := def.Source.(source.Checker); ok {
		for _, f := range c.Check(ctx) {
			out.Findings = append(out.Findings, Found{"source", sourceLevel(f.Level), f.Text, f.Remedy})
			if f.Level == source.Blocks && out.Err == nil {
				out.Err = fmt.Errorf("source: %s", f.Text)
			}
		}
	}
	if names, err := def.Store.List(ctx, checkpoint.LogPrefix(def.ID, 0), ""); err != nil {
		out.Err = fmt.Errorf("checkpoint store: %w", err)
	} else {
		log.Debug("checkpoint store answers", slog.Int("entries", len(names)))
	}
	p, err := newPlan(ctx, def, "", nil)
	out.Guarantee = p.guarantee
	for _, f := range p.guarantee.Findings {
		out.Findings = append(out.Findings, Found{f.Sink, sinkLevel(f.Level), f.Text, f.Remedy})
	}
	if err != nil {
		out.Err = err
		return out
	}
	for _, f := range p.written.Fields {
		out.Columns = append(out.Columns, f.Name+" "+f.Type.String())
	}
	return out
}

func sourceLevel(l source.Level) string {
	switch l {
	case source.Note:
		return "note"
	case source.Weakens:
		return "weakens"
	case source.Blocks:
		return "blocks"
	}
	return "note"
}

func sinkLevel(l sink.Level) string {
	switch l {
	case sink.Note:
		return "note"
	case sink.Weakens:
		return "weakens"
	case sink.Forbids:
		return "forbids"
	case sink.Blocks:
		return "blocks"
	}
	return "note"
}
