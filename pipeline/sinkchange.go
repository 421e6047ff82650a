package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
)

// sinkChange is how the sinks of the config differ from those of the newest checkpoint.
type sinkChange struct {
	err   error   // a sink left the config before its rows were committed
	notes []Found // sinks that came, and that left with nothing to do
}

// changeOf compares the sinks. A store that does not answer, or holds what can't be read, is for the run to deal with: nothing is
// found then.
func changeOf(ctx context.Context, def *Definition) (change sinkChange) {
	head := newestManifest(ctx, def)
	if head == nil {
		return change
	}
	_, names := def.sinks()
	if left := machine.Orphans(head, names); len(left) > 0 {
		change.err = fault.E("pipeline", fault.Misconfigured, errors.New(left[0].Orphaned()))
		return change
	}
	known := func(name string) bool {
		return slices.ContainsFunc(head.Sinks, func(s checkpoint.SinkState) bool { return s.Name == name })
	}
	for _, name := range names {
		if !known(name) {
			change.notes = append(change.notes, Found{Where: name, Level: "note", Text: fmt.Sprintf(
				"the sink is new: it begins at checkpoint %d, and what was read before does not go there", head.Checkpoint)})
		}
	}
	for _, s := range head.Sinks {
		if !slices.Contains(names, s.Name) {
			change.notes = append(change.notes, Found{Where: s.Name, Level: "note", Text: fmt.Sprintf(
				"the sink is not in the config any more; all that was decided for it is committed, up to checkpoint %d. With this id it may come back", s.Checkpoint)})
		}
	}
	return change
}

// newestManifest returns the newest manifest, or nil if there is none that can be read.
func newestManifest(ctx context.Context, def *Definition) *checkpoint.Manifest {
	entries, err := History(ctx, def)
	if err != nil {
		return nil
	}
	for _, e := range slices.Backward(entries) {
		if e.Err != nil || e.Entry.Manifest != nil {
			return e.Entry.Manifest
		}
	}
	return nil
}

// compareSinks refuses to run without a sink that has rows to commit. The machine does so too, but only after it has taken the lease
// from a run that may be healthy.
func (r *run) compareSinks(ctx context.Context) error {
	change := changeOf(ctx, r.def)
	for _, n := range change.notes {
		r.env.Log.Info("sinks of the config have changed", slog.String("sink", n.Where), slog.String("what", n.Text))
	}
	return change.err
}
