package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
)

// adopt makes targets that another checkpoint store wrote to this store's, by hand.
type adopt struct {
	out, log         io.Writer
	pipeline, reason string
	yes              bool
}

func (a *app) adoptCommand() *cobra.Command {
	var d adopt
	cmd := &cobra.Command{
		Use: "adopt PIPELINE", Short: "Take over targets that another checkpoint store wrote to, offline", Args: cobra.ExactArgs(1),
		Long: `When the checkpoint store is lost for good, a pipeline with a new store is refused by targets that it wrote to before: nobody
knows any more what was decided. This takes a lease above that of the old store and makes the targets this store's. Whatever still
runs on the old store is fenced. Positions are not touched: the next start begins where source.start says, so set it to where the old
store had come, or rows come twice or not at all. Without --yes it only shows what would be taken over.`,
		Example: `  ingestd checkpoint adopt orders --reason "the disk of the store is lost" --yes -c my.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d.out, d.log, d.pipeline = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0]
			return d.run(cmd.Context(), a)
		},
	}
	cmd.Flags().StringVar(&d.reason, "reason", "", "why; it is kept in the commit log")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do it; without, only what would be taken over is shown")
	return cmd
}

func (d *adopt) run(ctx context.Context, a *app) error {
	l, def, err := a.definition(d.pipeline, d.log)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return err
	}
	targets, err := pipeline.Foreign(ctx, def)
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	if len(targets) == 0 {
		return exitWith(exitUsage, errors.New("nothing to adopt: no target was written from another checkpoint store"))
	}
	for _, t := range targets {
		if _, err := fmt.Fprintf(d.out, "- %s: of store %s, lease %d\n+ %s: of the store in this config, a lease from %d on\n", t.Sink, t.StoreID, t.Lease, t.Sink, t.Lease+1); err != nil {
			return err
		}
	}
	if !d.yes {
		_, err := fmt.Fprintln(d.out, "nothing was changed; the same command with --reason and --yes does it")
		return err
	}
	if strings.TrimSpace(d.reason) == "" {
		return exitWith(exitUsage, errors.New("nothing was changed: it needs a --reason"))
	}
	lock, err := a.plugins.Lock(l.daemon.DataDir)
	if err != nil {
		return exitWith(exitConfig, errors.New(describe(err)))
	}
	defer func() { _ = lock.Close() }() //nolint:errcheck // the process ends
	if err := pipeline.Adopt(ctx, def, a.environment(l, telemetry.New(version()), def, nil), whoever(), d.reason); err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	_, err = fmt.Fprintln(d.out, "taken over; the next start reads from source.start, unless this store has a checkpoint")
	return err
}
