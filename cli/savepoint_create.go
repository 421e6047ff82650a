package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
)

// creation is one savepoint to make.
type creation struct {
	out, log       io.Writer
	pipeline, name string
	reason         string
	number         uint64 // number in the log; 0: the newest
	timeout        time.Duration
}

// savepointTimeout is how long a savepoint of a running pipeline may take when nothing else is said.
const savepointTimeout = 5 * time.Minute

func (a *app) savepointCreateCommand() *cobra.Command {
	var c creation
	cmd := &cobra.Command{
		Use: "create PIPELINE NAME", Short: "Make a savepoint, of a pipeline that runs or that is stopped", Args: cobra.ExactArgs(2),
		Long: `While the daemon runs it is asked, at daemon.listen, for a checkpoint of its own: sinks end their open files, and when all is
committed the checkpoint is copied; the pipeline goes on meanwhile. --timeout bounds the wait.

Otherwise the newest checkpoint is copied, or, with --checkpoint, one that is kept. It must have nothing pending: one by which a run
ended has that.`,
		Example: `  ingestd savepoint create orders before-upgrade --reason "to 2.0" -c my.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.out, c.log, c.pipeline, c.name = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], args[1]
			return c.run(cmd.Context(), a)
		},
	}
	cmd.Flags().StringVar(&c.reason, "reason", "", "why; it is kept in the savepoint")
	cmd.Flags().Uint64Var(&c.number, "checkpoint", 0, "the log number of a kept checkpoint, as checkpoint list shows it; also beside a daemon that runs")
	cmd.Flags().DurationVar(&c.timeout, "timeout", savepointTimeout, "how long a pipeline that runs may take")
	return cmd
}

func (c *creation) run(ctx context.Context, a *app) error {
	if c.timeout <= 0 {
		return exitWith(exitUsage, errors.New("--timeout: want more than nothing"))
	}
	l, def, err := a.definition(c.pipeline, c.log)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return err
	}
	if c.number == 0 {
		lock, err := a.plugins.Lock(l.daemon.DataDir)
		if err != nil {
			return c.ask(ctx, l, err)
		}
		defer func() { _ = lock.Close() }() //nolint:errcheck // the process ends
	}
	env := a.environment(l, telemetry.New(version()), def, nil)
	index, err := pipeline.CreateSavepoint(ctx, def, env, c.request(l, whoever()))
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	return savepointMade(c.out, c.name, index)
}

func (c *creation) request(l *loaded, by string) pipeline.SavepointRequest {
	return pipeline.SavepointRequest{
		Name: c.name, By: by, Reason: c.reason, Version: version(), Config: l.file.PipelineText(c.pipeline), Log: checkpoint.Seq(c.number),
	}
}

// ask lets the daemon that has the data directory make it.
func (c *creation) ask(ctx context.Context, l *loaded, inUse error) error {
	addr, err := dialable(l.daemon.Listen)
	if err != nil {
		return exitWith(exitConfig, fmt.Errorf("%w, and daemon.listen says no address to ask it at: %w\n  next: stop the daemon, or give the log number of a kept checkpoint by --checkpoint", inUse, err))
	}
	index, err := askSavepoint(ctx, addr, asked{Pipeline: c.pipeline, Name: c.name, Reason: c.reason, By: whoever(), Timeout: c.timeout})
	if err != nil {
		return err
	}
	return savepointMade(c.out, c.name, index)
}
