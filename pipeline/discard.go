package pipeline

import (
	"log/slog"
	"slices"

	"github.com/ingestd/ingestd/state"
)

// discards are the steps whose stored state a person gives up with this start. It remembers over the runs of a process which state
// that was: what is kept since is never given up, whatever became of the checkpoint that says so first.
type discards struct {
	steps []string
	upTo  map[string]uint16 // the highest slot of each step when state was restored first; nil before that
}

// now returns the steps whose state is given up by a run that begins with the stored slots.
func (d *discards) now(stored []state.Slot, log *slog.Logger) []string {
	if d == nil || len(d.steps) == 0 {
		return nil
	}
	if d.upTo == nil {
		d.first(stored, log)
	}
	var out []string
	for _, id := range d.steps {
		if slices.ContainsFunc(stored, func(s state.Slot) bool { return s.Step == id && !s.Discarded && s.Slot <= d.upTo[id] }) {
			out = append(out, id)
		}
	}
	return out
}

func (d *discards) first(stored []state.Slot, log *slog.Logger) {
	d.upTo = map[string]uint16{}
	for _, id := range d.steps {
		for _, s := range stored {
			if s.Step == id && !s.Discarded {
				d.upTo[id] = max(d.upTo[id], s.Slot)
			}
		}
		if d.upTo[id] == 0 {
			log.Warn("there is no state to discard", slog.String("step", id))
			continue
		}
		log.Warn("the stored state of a step is given up with the next checkpoint", slog.String("step", id))
	}
}
