package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/inspect"
	"github.com/ingestd/ingestd/pipeline"
)

// fsck checks what a pipeline has stored.
type fsck struct {
	out, log io.Writer
	pipeline string
	repair   bool
}

func (a *app) fsckCommand() *cobra.Command {
	var f fsck
	cmd := &cobra.Command{
		Use: "fsck PIPELINE", Short: "Check everything that a pipeline has in the checkpoint store", Args: cobra.ExactArgs(1),
		Long: `Reads every entry of the commit log, every object of keyed state that a kept checkpoint names (size, checksum, chain of deltas) and every
segment of what is pending, and looks for objects that nothing names. It changes nothing and may be used while the pipeline runs.
Targets, the files that sinks keep there, and savepoints are not looked at.

Exit code 0: all is whole. 6: something is corrupt or missing; the lines say what needs it.

--repair removes what no checkpoint names, offline: it takes the data directory's lock and the pipeline's lease, publishes a checkpoint
that changes nothing, and removes then only what runs before it have left. It refuses while anything is corrupt or missing.`,
		Example: "  ingestd fsck orders -c my.toml\n  ingestd fsck orders --repair -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			f.out, f.log, f.pipeline = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0]
			return f.run(cmd.Context(), a)
		},
	}
	cmd.Flags().BoolVar(&f.repair, "repair", false, "remove what nothing names")
	return cmd
}

func (f *fsck) run(ctx context.Context, a *app) error {
	l, def, err := a.definition(f.pipeline, f.log)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return err
	}
	report, err := f.check(ctx, def)
	if err != nil {
		return err
	}
	if !report.Sound() {
		return exitWith(exitLost, errors.New("something is corrupt or missing\n  next: put it back from a copy of the store, as it was"))
	}
	if !f.repair {
		if len(report.Orphans) > 0 {
			_, err = fmt.Fprintf(f.out, "%s removes what nothing names\n", commandLine("fsck "+f.pipeline+" --repair", a.config))
		}
		return err
	}
	if report.Newest == 0 {
		return exitWith(exitFailed, errors.New("no checkpoint yet: nothing is removed"))
	}
	return f.remove(ctx, a)
}

// check checks and prints what it found.
func (f *fsck) check(ctx context.Context, def *pipeline.Definition) (*inspect.Report, error) {
	report, err := inspect.Check(ctx, def.Store, def.ID)
	if err != nil {
		return nil, exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	for _, found := range report.Findings {
		if _, err := fmt.Fprintf(f.out, "%-7s  %s: %s\n", found.Level, found.Object, found.Text); err != nil {
			return nil, err
		}
	}
	for _, name := range report.Orphans {
		if _, err := fmt.Fprintf(f.out, "orphan   %s: no checkpoint names it\n", name); err != nil {
			return nil, err
		}
	}
	_, err = fmt.Fprintf(f.out, "log: %d claims, %d checkpoints, the newest with number %d; keyed state: %d deltas, %d slices of bases; pending: %d segments; %d bytes read and whole; "+
		"orphans: %d\n", report.Claims, report.Manifests, report.Newest, report.Deltas, report.Slices, report.Segments, report.Bytes, len(report.Orphans))
	return report, err
}

// remove takes the lease and removes what nothing names then.
func (f *fsck) remove(ctx context.Context, a *app) error {
	t, err := a.newestOf(ctx, f.pipeline, f.log)
	defer t.close()
	if err != nil {
		return err
	}
	err = a.publishByHand(ctx, t, f.out, handmade{
		author: whoever(), reason: "fsck --repair", apply: func(m checkpoint.Manifest) (checkpoint.Manifest, error) { return m, nil },
	})
	if err != nil {
		return err
	}
	report, err := inspect.Check(ctx, t.def.Store, t.def.ID)
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	if !report.Sound() {
		return exitWith(exitLost, errors.New("something is corrupt or missing since: nothing was removed"))
	}
	n, err := inspect.Remove(ctx, t.def.Store, report.Orphans)
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), err)
	}
	_, err = fmt.Fprintf(f.out, "removed %d objects that nothing names\n", n)
	return err
}
