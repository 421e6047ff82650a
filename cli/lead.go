package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
)

// leadOn is the command by which a person goes on after a loud stop.
func leadOn(r pipeline.Result, config string) string {
	command := func(verb string) string { return commandLine(verb, config) }
	switch r.Reason {
	case machine.StoppedFenced:
		return "nothing, if the newer run is meant to run; " + command("checkpoint list "+r.Name) + " shows who claimed, and when"
	case machine.StoppedLost:
		if errors.Is(r.Err, pipeline.ErrForeign) {
			return "if the store of before is gone for good, " + command("checkpoint adopt "+r.Name+" --reason WHY") + " shows what is taken over, and does it with --yes"
		}
		for _, p := range r.Pending {
			if strings.Contains(r.Text, fmt.Sprintf("sink %q", p.Name)) {
				return command("checkpoint drop "+r.Name+" "+p.Name+" --accept-loss --reason WHY") + " shows what is given up, and does it with --yes"
			}
		}
		return command("offsets show "+r.Name) + ", then " +
			command("offsets set "+r.Name+" SPLIT=OFFSET --accept-loss --reason WHY") + " shows the change, and does it with --yes"
	case machine.StoppedCorrupt:
		return "keep the files as they are; " + command("checkpoint list "+r.Name) + " shows what can be read"
	case machine.StoppedMisconfigured:
		if errors.Is(r.Err, pipeline.ErrGuarantee) {
			return "what is named mends it, or another delivery; then " + command("validate --connect")
		}
		return "mend what is named, then " + command("validate --connect")
	case machine.StoppedByRule:
		return "look at the dead letters, mend the records or the rule, then " + command("run")
	case machine.Done, machine.Restart:
	}
	return command("run") + " goes on by recovery"
}

// commandLine is a verb with its arguments as a person types it.
func commandLine(verb, config string) string { return "ingestd " + verb + " -c " + quoted(config) }

// quoted is a word as a shell takes it.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:@%,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
