package pipeline

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// Looked is what a look at everything that a pipeline touches found, without changing anything.
type Looked struct {
	Guarantee Guarantee
	Findings  []Found
	Columns   []string // of the rows that come to the sinks, "name type"
	Err       error    // why the pipeline can't start as it is; nil otherwise
}

// Found is one finding with its place: "source", "sink", "dead_letter", "checkpoint".
type Found struct {
	Where, Level, Text, Remedy string
}

// Bind checks codec and steps against each other as far as that is possible without a look at the target, and returns the
// columns that come to the sinks, "name type"; none when only the target knows them. Errors are fault.Misconfigured; one of a step is
// a [StepError], one of a sink's condition a [RouteError].
func Bind(def *Definition) ([]string, error) {
	routes := def.routes()
	for i, r := range routes {
		if r.When == "" {
			continue
		}
		if err := step.CheckSyntax(r.When); err != nil {
			return nil, fault.E("pipeline", fault.Misconfigured, &RouteError{i, r.Name, "when", err})
		}
	}
	for _, r := range routes {
		if !r.Sink.Capabilities().AnyColumns {
			return nil, nil
		}
	}
	var p plan
	if err := p.bind(def, make([]*record.Schema, len(routes))); err != nil {
		return nil, err
	}
	return columnsOf(p.written), nil
}

// StepError says which step does not fit the columns that it gets.
type StepError struct {
	Place int // among the pipeline's steps, from 0
	Name  string
	Err   error
}

// Error names the step.
func (e *StepError) Error() string { return fmt.Sprintf("step %q: %s", e.Name, e.Err) }

// Unwrap returns what does not fit.
func (e *StepError) Unwrap() error { return e.Err }

// Look asks the source, the sinks and the checkpoint store of a pipeline whether it would start, and what it would guarantee.
func Look(ctx context.Context, def *Definition, log *slog.Logger) Looked {
	var out Looked
	fail := func(err error) {
		if out.Err == nil {
			out.Err = err
		}
	}
	check := func(what string, s source.Source) {
		c, ok := s.(source.Checker)
		if !ok {
			return
		}
		for _, f := range c.Check(ctx) {
			out.Findings = append(out.Findings, Found{what, sourceLevel(f.Level), f.Text, f.Remedy})
			if f.Level == source.Blocks {
				fail(fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("%s: %s", what, f.Text), f.Remedy))
			}
		}
	}
	check("source", def.Source)
	for i := range def.Tables {
		check(fmt.Sprintf("table of step %q", def.Tables[i].Step), def.Tables[i].Source)
	}
	names, err := def.Store.List(ctx, checkpoint.LogPrefix(def.ID, 0), "")
	if err != nil {
		fail(fmt.Errorf("checkpoint store: %w", err))
	}
	log.Debug("checkpoint store answers", slog.Int("entries", len(names)))
	id, _, idErr := checkpoint.StoreID(ctx, def.Store)
	if idErr != nil {
		fail(fmt.Errorf("checkpoint store: %w", idErr))
	}
	p, err := newPlan(ctx, def, id, nil)
	if out.Guarantee = p.guarantee; out.Guarantee.Summary == "" { // a target did not answer
		out.Guarantee = Derive(def, nil)
	}
	for _, f := range p.guarantee.Findings {
		out.Findings = append(out.Findings, Found{f.Sink, sinkLevel(f.Level), f.Text, f.Remedy})
	}
	if err != nil {
		fail(err)
		return out
	}
	out.Columns = columnsOf(p.written)
	var more probes
	more.probe(ctx, def, &p)
	out.Findings = append(out.Findings, more.found...)
	if more.err != nil {
		fail(more.err)
	}
	if err := refuseForeign(def, p.targets, id); err != nil && idErr == nil {
		fail(err)
	}
	change := changeOf(ctx, def)
	out.Findings = append(out.Findings, change.notes...)
	if change.err != nil {
		fail(change.err)
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
