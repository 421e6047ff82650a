package pipeline

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/sink"
)

// Guarantee is what a pipeline's parts allow it to promise, with the reasons.
type Guarantee struct {
	Delivery config.Delivery
	// Holds is false when the delivery that was asked for can't be kept: the pipeline is refused, never downgraded in silence.
	Holds   bool
	Summary string
	Reasons []string
	// Findings are what a look at the targets brought up, worst first within each sink; empty without a look.
	Findings []NamedFinding
}

// NamedFinding is a finding with the sink that it is about.
type NamedFinding struct {
	Sink string
	sink.Finding
}

// ErrGuarantee says that a pipeline was refused because the delivery that it asks for can't hold.
var ErrGuarantee = errors.New("the guarantee can't hold")

// Derive tells what a pipeline promises. Inspections are those of the sinks, in order; nil when nobody looked.
func Derive(def *Definition, inspections []sink.Inspection) Guarantee {
	g := Guarantee{Delivery: def.Delivery, Holds: true}
	plugins, names := def.sinks()
	exceptions := 0
	for i, p := range plugins {
		c := p.Capabilities()
		g.Reasons = append(g.Reasons, reasons(names[i], c)...)
		if def.Delivery == config.ExactlyOnce && !c.ExactlyOnce {
			g.Holds = false
			g.Reasons = append(g.Reasons, fmt.Sprintf("%s: can't tell whether a commit took effect, so a retry may double rows", names[i]))
		}
		if i >= len(inspections) {
			continue
		}
		for _, f := range inspections[i].Findings {
			g.Findings = append(g.Findings, NamedFinding{names[i], f})
			g.Holds = g.Holds && f.Level != sink.Blocks && (f.Level != sink.Forbids || def.Delivery == config.AtLeastOnce)
			if f.Level == sink.Weakens {
				exceptions++
			}
		}
	}
	if def.DeadLetter == nil {
		g.Reasons = append(g.Reasons, "no dead_letter section: a record that is refused stops the pipeline")
	}
	g.Summary = g.summary(exceptions)
	return g
}

func reasons(name string, c sink.Capabilities) []string {
	var out []string
	for _, r := range []struct{ what, text string }{
		{"ledger", c.Ledger}, {"fence", c.Fence}, {"expiry", c.Expiry}, {"visible", c.Visible},
	} {
		if r.text != "" {
			out = append(out, fmt.Sprintf("%s: %s: %s", name, r.what, r.text))
		}
	}
	return out
}

func (g *Guarantee) summary(exceptions int) string {
	switch {
	case !g.Holds:
		return fmt.Sprintf("%s can't hold", g.Delivery)
	case g.Delivery == config.AtLeastOnce:
		return "at-least-once: no record is lost; after a crash some may be doubled"
	case exceptions == 1:
		return "exactly-once, with one exception named below"
	case exceptions > 1:
		return fmt.Sprintf("exactly-once, with %d exceptions named below", exceptions)
	}
	return "exactly-once: each record has its effect in each sink once, whatever is killed"
}

// err returns why the pipeline is refused, or nil.
func (g *Guarantee) err() error {
	if g.Holds {
		return nil
	}
	lines := []string{}
	for _, f := range g.Findings {
		if f.Level < sink.Forbids {
			continue
		}
		line := f.Sink + ": " + f.Text
		if f.Remedy != "" {
			line += "\n  next: " + f.Remedy
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = g.Reasons
	}
	return fmt.Errorf("%w: %s\n%s", ErrGuarantee, g.Summary, strings.Join(lines, "\n"))
}
