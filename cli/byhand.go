package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
)

// handmade is a change of the newest checkpoint by a person.
type handmade struct {
	author, reason string
	apply          func(checkpoint.Manifest) (checkpoint.Manifest, error)
}

// target is the pipeline that a change is for, and the checkpoint that the difference is shown for.
type target struct {
	loaded *loaded
	def    *pipeline.Definition
	head   pipeline.Logged
}

func (t target) close() {
	if t.loaded != nil {
		t.loaded.close()
	}
}

// newestOf finds a pipeline's newest checkpoint, beside whatever runs. The target is to be closed also after an error.
func (a *app) newestOf(ctx context.Context, name string, log io.Writer) (target, error) {
	var t target
	var err error
	if t.loaded, t.def, err = a.definition(name, log); err != nil {
		return t, err
	}
	entries, err := pipeline.History(ctx, t.def)
	if err != nil {
		return t, exitWith(exitForKind(fault.KindOf(err)), err)
	}
	var ok bool
	if t.head, ok, err = newest(entries); err != nil {
		return t, err
	}
	if !ok {
		return t, exitWith(exitFailed, errors.New("no checkpoint yet: set source.start instead"))
	}
	return t, nil
}

// publishByHand makes a change under the data directory's lock and the lease.
func (a *app) publishByHand(ctx context.Context, t target, out io.Writer, h handmade) error {
	lock, err := a.plugins.Lock(t.loaded.daemon.DataDir)
	if err != nil {
		return exitWith(exitConfig, errors.New(describe(err)))
	}
	defer func() { _ = lock.Close() }() //nolint:errcheck // the process ends
	seq, err := pipeline.Edit(ctx, t.def, a.environment(t.loaded, telemetry.New(version()), t.def, nil), pipeline.Change{
		Author: h.author, Reason: h.reason,
		Apply: func(at checkpoint.Seq, man checkpoint.Manifest) (checkpoint.Manifest, error) {
			if at != t.head.Seq {
				return man, errors.New("a newer checkpoint was published in the meantime: look again")
			}
			return h.apply(man)
		},
	})
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	_, err = fmt.Fprintf(out, "published as log number %d\n", seq)
	return err
}

// whoever is the user's name, for changes by hand.
func whoever() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
