package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/step"
)

// plan is how a pipeline's records become rows: which columns are decoded, and what each step makes of them.
type plan struct {
	guarantee Guarantee
	targets   []Target
	decoded   *record.Schema // what the decoder fills
	metadata  step.Step      // adds the columns that the sink takes from metadata; nil without any
	written   *record.Schema // what comes to the sinks
	shares    []share        // what each of them gets of it
	keyed     *keyedPlan     // nil without keyed steps
}

// newPlan looks at the targets and binds codec and steps to what they take.
func newPlan(ctx context.Context, def *Definition, storeID string, m *meter) (plan, error) {
	inspections, targets, err := inspect(ctx, def, storeID, m)
	if err != nil {
		return plan{}, err
	}
	p := plan{guarantee: Derive(def, inspections), targets: targets}
	if err := p.guarantee.err(); err != nil {
		return p, fault.E("pipeline", fault.Misconfigured, err)
	}
	var takes []*record.Schema
	for i := range def.routes() {
		takes = append(takes, inspections[i].Schema)
	}
	if err := p.bind(def, takes); err != nil {
		return p, err
	}
	p.guarantee.Reasons = append(p.guarantee.Reasons, p.partial(def)...)
	return p, nil
}

// partial names the columns of sinks that don't get all that is written, or that get it in another type.
func (p *plan) partial(def *Definition) []string {
	var out []string
	for i, r := range def.routes() {
		if sh := &p.shares[i]; sh.columns != nil || len(sh.casts) > 0 {
			out = append(out, fmt.Sprintf("%s: gets the columns %s", r.Name, strings.Join(columnsOf(sh.out), ", ")))
		}
	}
	return out
}

// inspect looks at the targets of all sinks, and tells which of them somebody owns.
func inspect(ctx context.Context, def *Definition, storeID string, m *meter) (found []sink.Inspection, owned []Target, err error) {
	plugins, names := def.sinks()
	for i, p := range plugins {
		m.begin(sinkName(names[i]), "look at the target")
		in, err := p.Inspect(ctx, sink.Identity{StoreID: storeID, Pipeline: def.ID, Sink: names[i]})
		if err != nil {
			return nil, nil, fmt.Errorf("sink %q: %w", names[i], err)
		}
		m.end(sinkName(names[i]))
		found = append(found, in)
		if in.Owner != nil {
			owned = append(owned, Target{names[i], *in.Owner})
		}
	}
	return found, owned, nil
}

// bind works out the columns to decode, backwards through the steps from what each sink takes, and checks the way forward.
func (p *plan) bind(def *Definition, takes []*record.Schema) error {
	sinks := merge(takes)
	need := sinks.all
	for i := len(def.Steps) - 1; i >= 0 && need != nil; i-- {
		if w, ok := def.Steps[i].(step.Wanter); ok {
			need = w.Want(need)
		}
	}
	rest, columns, err := step.TakeMetadata(need, nil)
	if err != nil {
		return err
	}
	if p.decoded, err = def.Codec.Schema(rest); err != nil {
		return err
	}
	p.written = p.decoded
	if len(columns) > 0 {
		p.metadata = step.NewMetadata(columns)
		if p.written, _, err = p.metadata.Bind(p.written); err != nil {
			return err
		}
	}
	for i, s := range def.Steps {
		if i == def.firstKeyed() {
			p.keyed = &keyedPlan{in: p.written}
		}
		if err := p.keyed.bind(s, p.written); err != nil {
			return &StepError{i, s.Name(), err}
		}
		if err := endComes(s, def); err != nil {
			return &StepError{i, s.Name(), err}
		}
		if p.written, _, err = s.Bind(p.written); err != nil {
			return &StepError{i, s.Name(), err}
		}
	}
	if err := def.checkTables(); err != nil {
		return err
	}
	return p.divide(def, &sinks)
}

// divide checks the conditions of sinks, and gives each its share of what is written.
func (p *plan) divide(def *Definition, sinks *demand) error {
	conditions := make([]*step.Condition, len(sinks.sinks))
	for i, r := range def.routes() {
		if r.When == "" {
			continue
		}
		var err error
		if conditions[i], err = step.NewCondition(r.When, p.written); err != nil {
			return fault.E("pipeline", fault.Misconfigured, &RouteError{i, r.Name, "when", err})
		}
	}
	if err := sinks.fits(p.written, conditions); err != nil {
		return err
	}
	var err error
	p.shares, err = sinks.divide(p.written, def.routes())
	return err
}

// endComes refuses a step that waits for the end of an input that has none: nothing would ever come out.
func endComes(s step.Step, def *Definition) error {
	k, ok := s.(keyedStep)
	if !ok {
		return nil
	}
	if e, ok := k.KeyedStep.(step.EndBound); ok && e.WaitsForEnd() && !def.Source.Bounded() {
		return fault.WithRemedy("pipeline", fault.Misconfigured, errors.New(`emit = "final" without a window waits for the end of the input, and this source has none`),
			`set source.until, give the step a window, or set emit = "update"`)
	}
	return nil
}

// columnsOf lists columns, "name type".
func columnsOf(s *record.Schema) []string {
	var out []string
	for _, f := range s.Fields {
		out = append(out, f.Name+" "+f.Type.String())
	}
	return out
}

// equip gives a task its decoder, steps and batch.
func (p *plan) equip(t *task, def *Definition) error {
	var err error
	if t.decoder, err = def.Codec.New(p.decoded); err != nil {
		return err
	}
	t.decoded, t.batch = p.decoded, record.NewBatch(p.decoded)
	schema := p.decoded
	if p.metadata != nil {
		if schema, t.metadata, err = p.metadata.Bind(schema); err != nil {
			return err
		}
	}
	for _, s := range def.Steps[:def.firstKeyed()] {
		out, apply, err := s.Bind(schema)
		if err != nil {
			return fmt.Errorf("step %q: %w", s.Name(), err)
		}
		schema, t.applies = out, append(t.applies, apply)
	}
	return nil
}
