package machine

import (
	"fmt"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

func sinkName(i int) string { return flowConfig().Sinks[i] }

func purposeName(p Purpose) string { return [...]string{"", "claim", "read", "publish", "probe"}[p] }

// effectName is the effect's type.
func effectName(e Effect) string { return strings.TrimPrefix(fmt.Sprintf("%T", e), "machine.") }

// printEffect tells an effect in one line.
func printEffect(e Effect) string {
	return effectName(e) + strings.TrimRight(" "+effectDetails(e), " ")
}

func effectDetails(e Effect) string {
	switch e := e.(type) {
	case List:
		return purposeName(e.For)
	case Get:
		return fmt.Sprintf("%s %d", purposeName(e.For), e.Seq)
	case Create:
		return fmt.Sprintf("%s %d: %s", purposeName(e.For), e.Seq, printEntry(e.Entry))
	case FenceSink:
		return fmt.Sprintf("%s%s", sinkName(e.Sink), printPending(" pending", e.Pending))
	case Commit:
		return fmt.Sprintf("%s %s", sinkName(e.Sink), printCommittable(e.Committable))
	case Replace:
		return fmt.Sprintf("%s %s by unit %d", sinkName(e.Sink), printCommittable(e.Committable), e.Unit)
	case Discover:
		return "besides " + printSplits(e.Known)
	case Run:
		return printSplits(e.Splits)
	case AddSplits:
		return printSplits(e.Splits)
	case Barrier:
		return printCut(e.Cut)
	case Letters:
		return fmt.Sprintf("%s of sinks %v", printCut(e.Cut), e.Sinks)
	case Assemble:
		return printCut(e.Cut) + printParts(e)
	case Edit:
		return fmt.Sprintf("of log entry %d", e.Seq)
	case Published:
		return fmt.Sprintf("%d: checkpoint %d", e.Seq, e.Manifest.Checkpoint)
	case Settled:
		return fmt.Sprintf("checkpoint %d", e.Checkpoint)
	case Collect:
		return fmt.Sprintf("log entries %v, segments %v", e.Manifests, e.Segments)
	case Sweep:
		return fmt.Sprintf("below lease %d but %v", e.Below, e.Keep)
	case SetTimer:
		return printTimer(e)
	case Stop:
		return printStop(e)
	}
	return ""
}

func printTimer(e SetTimer) string {
	name := [...]string{"", "interval", "discovery", "store", "fence", "commit", "replace", "source"}[e.Timer.Kind]
	switch e.Timer.Kind {
	case TimerStore:
		name += " " + purposeName(e.Timer.For)
	case TimerFence, TimerCommit, TimerReplace:
		name += " " + sinkName(e.Timer.Sink)
	case TimerInterval, TimerDiscovery, TimerSource:
		return name
	}
	return fmt.Sprintf("%s, attempt %d", name, e.Attempt)
}

func printStop(e Stop) string {
	out := fmt.Sprintf("%s: %s", e.Reason, e.Text)
	for _, p := range e.Pending {
		out += fmt.Sprintf("; %s%s", p.Name, printPending(" has left", p.Committables))
	}
	return out
}

func printEntry(e checkpoint.Entry) string {
	if e.Claim != nil {
		return fmt.Sprintf("claim lease %d by %s", e.Claim.Lease, e.Claim.Nonce)
	}
	m := e.Manifest
	out := fmt.Sprintf("manifest lease %d checkpoint %d at %s", m.Lease, m.Checkpoint, printSplits(positions(m)))
	for _, s := range m.Sinks {
		out += printPending(", "+s.Name, s.Pending)
	}
	for _, r := range m.Replaced {
		out += fmt.Sprintf(", replaced %s %d/%d.%d rows %v by .%d", r.Sink, r.Lease, r.Checkpoint, r.Unit, r.Rows, r.By)
	}
	if m.Counters.DeadLetters > 0 {
		out += fmt.Sprintf(", %d dead letters", m.Counters.DeadLetters)
	}
	for _, s := range m.Counters.Earlier {
		out += fmt.Sprintf(", earlier %s %d of which refused %d", s.Stage, s.In, s.Refused)
	}
	if m.Author != "" {
		out += ", by " + m.Author
	}
	return out
}

func positions(m *checkpoint.Manifest) []source.Split {
	var out []source.Split
	for _, sh := range m.Shards {
		out = append(out, sh.Splits...)
	}
	return out
}

func printCut(c sink.Cut) string {
	if c.Final {
		return fmt.Sprintf("%d, final", c.Checkpoint)
	}
	if c.Roll {
		return fmt.Sprintf("%d, roll", c.Checkpoint)
	}
	return fmt.Sprint(c.Checkpoint)
}

func printParts(e Assemble) string {
	out := ":"
	for n, parts := range e.Parts {
		var rows []string
		for _, p := range parts {
			rows = append(rows, string(p.Data))
		}
		out += fmt.Sprintf(" %s [%s]", sinkName(e.Sinks[n]), strings.Join(rows, " "))
	}
	return out
}

func printPending(name string, cs []sink.Committable) string {
	if len(cs) == 0 {
		return ""
	}
	var out []string
	for _, c := range cs {
		out = append(out, printCommittable(c))
	}
	return name + " " + strings.Join(out, " ")
}

// printCommittable is lease/checkpoint.unit and the rows.
func printCommittable(c sink.Committable) string {
	return fmt.Sprintf("%d/%d.%d[%s]", c.Lease, c.Checkpoint, c.Unit, c.Data)
}

func printSplits(ss []source.Split) string {
	var out []string
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%s:%d", s.Split, s.Offset))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " ")
}

func printCreated(ev Event) string {
	created, ok := ev.(Created)
	if !ok {
		return fmt.Sprintf("%T\n", ev)
	}
	return fmt.Sprintf("%s at %d\n", [...]string{"unknown", "created", "taken"}[created.Result], created.Seq)
}
