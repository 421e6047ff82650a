package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// Derive tells what a pipeline promises: what the weakest of its sinks allows, each said by name. Inspections are those of the sinks,
// in order; nil when nobody looked.
func Derive(def *Definition, inspections []sink.Inspection) Guarantee {
	g := Guarantee{Delivery: def.Delivery, Holds: true}
	plugins, names := def.sinks()
	exceptions := 0
	var broken []string
	for i, p := range plugins {
		one := promise{name: names[i], delivery: def.Delivery, can: p.Capabilities()}
		if i < len(inspections) {
			one.findings = inspections[i].Findings
		}
		if def.routed() {
			g.Reasons = append(g.Reasons, one.text(def, i))
		}
		g.Reasons = append(g.Reasons, reasons(names[i], one.can)...)
		if one.forgets() {
			g.Reasons = append(g.Reasons, fmt.Sprintf("%s: can't tell whether a commit took effect, so a retry may double rows", names[i]))
		}
		for _, f := range one.findings {
			g.Findings = append(g.Findings, NamedFinding{names[i], f})
		}
		exceptions += one.exceptions()
		if !one.holds() {
			broken = append(broken, strconv.Quote(names[i]))
		}
	}
	if def.DeadLetter == nil {
		g.Reasons = append(g.Reasons, "no dead_letter section: a record that is refused stops the pipeline")
	}
	g.Holds = len(broken) == 0
	g.Summary = g.summary(exceptions)
	if !g.Holds && def.routed() {
		g.Summary += " for sink " + strings.Join(broken, ", ")
	}
	return g
}

// promise is what one sink allows.
type promise struct {
	name     string
	delivery config.Delivery
	can      sink.Capabilities
	findings []sink.Finding
}

// forgets reports whether the sink can't do what is asked for, whatever its target is.
func (p *promise) forgets() bool { return p.delivery == config.ExactlyOnce && !p.can.ExactlyOnce }

func (p *promise) holds() bool {
	return !p.forgets() && !slices.ContainsFunc(p.findings, func(f sink.Finding) bool {
		return f.Level == sink.Blocks || f.Level == sink.Forbids && p.delivery != config.AtLeastOnce
	})
}

func (p *promise) exceptions() int {
	n := 0
	for _, f := range p.findings {
		if f.Level == sink.Weakens {
			n++
		}
	}
	return n
}

// text is the promise of one of several sinks in a line, with the rows that it is about.
func (p *promise) text(def *Definition, i int) string {
	text := string(p.delivery)
	switch n := p.exceptions(); {
	case !p.holds():
		text += " can't hold"
	case p.delivery == config.ExactlyOnce && n > 0:
		text += fmt.Sprintf(", with %d of the exceptions named below", n)
	}
	routes := def.routes()
	switch {
	case i >= len(routes):
		return fmt.Sprintf("%s: %s, for what any of the others refuses", p.name, text)
	case routes[i].When != "":
		return fmt.Sprintf("%s: %s, for rows with %s", p.name, text, routes[i].When)
	}
	return fmt.Sprintf("%s: %s, for every row", p.name, text)
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
