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
	shown          checkpoint.Seq // the log number of the checkpoint that the difference was shown for
	apply          func(checkpoint.Manifest) (checkpoint.Manifest, error)
}

// publishByHand makes a change under the data directory's lock and the lease.
func (a *app) publishByHand(ctx context.Context, l *loaded, def *pipeline.Definition, out io.Writer, h handmade) error {
	lock, err := a.plugins.Lock(l.daemon.DataDir)
	if err != nil {
		return exitWith(exitConfig, errors.New(describe(err)))
	}
	defer func() { _ = lock.Close() }() //nolint:errcheck // the process ends
	seq, err := pipeline.Edit(ctx, def, environment(l, telemetry.New(version()), def, nil), pipeline.Change{
		Author: h.author, Reason: h.reason,
		Apply: func(at checkpoint.Seq, man checkpoint.Manifest) (checkpoint.Manifest, error) {
			if at != h.shown {
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
