package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
)

func (a *app) runCommand() *cobra.Command {
	var from restoring
	cmd := &cobra.Command{
		Use: "run", Short: "Run the pipelines of a config", Args: cobra.NoArgs,
		Long: `Runs every pipeline of the config until it is stopped or its input ends.

SIGTERM or SIGINT stops fetching, takes a final checkpoint, commits it and exits with 0; what is still to be committed after
shutdown_timeout is named and finished by the next start. A second signal exits at once with 1, which is as safe as a crash.
Exit codes: docs/exit-codes.md.

With --from a pipeline goes on from a savepoint, and then runs as always: say it once, not in a unit file. docs/savepoints.md.`,
		Example: "  ingestd run -c /etc/ingestd/ingestd.toml\n  ingestd run --from before-upgrade --accept-repeats -c my.toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.run(cmd.Context(), &from, cmd.ErrOrStderr())
		},
	}
	from.flags(cmd)
	cmd.Flags().StringArrayVar(&a.discard, "discard-state", nil,
		"give up the stored state of the keyed step with this id (or PIPELINE/ID) with this start; use it once")
	return cmd
}

func (a *app) run(ctx context.Context, from *restoring, logTo io.Writer) error {
	if err := from.check(); err != nil {
		return err
	}
	l, err := a.load(logTo)
	if err != nil {
		return err
	}
	if err := discardState(l, a.discard); err != nil {
		return err
	}
	lock, err := a.plugins.Lock(l.daemon.DataDir)
	if err != nil {
		return exitWith(exitConfig, errors.New(describe(err)))
	}
	defer func() {
		if err := lock.Close(); err != nil {
			l.log.Warn("unlock the data directory", slog.String("error", err.Error()))
		}
	}()
	defer l.close()
	if err := l.open(l.defs...); err != nil {
		return err
	}
	if err := a.restore(ctx, l, from); err != nil {
		return err
	}
	limitRuntime(int64(l.daemon.MemoryLimit))
	d, err := a.newDaemon(l)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	return d.run(ctx)
}

// daemon is the process: its pipelines, its metrics and its listener.
type daemon struct {
	loaded      *loaded
	config      string // the file, for the commands that lead on
	metrics     *telemetry.Metrics
	budget      *pipeline.Budget
	supervisors []*pipeline.Supervisor
}

func (a *app) newDaemon(l *loaded) (*daemon, error) {
	budget, shares, err := divideMemory(l)
	if err != nil {
		return nil, err
	}
	d := &daemon{loaded: l, config: a.config, metrics: telemetry.New(version()), budget: budget}
	for _, def := range l.defs {
		d.supervisors = append(d.supervisors, pipeline.NewSupervisor(def, a.environment(l, d.metrics, def, shares[def.Name])))
	}
	return d, nil
}

func divideMemory(l *loaded) (*pipeline.Budget, map[string]*pipeline.Share, error) {
	budget, shares, err := pipeline.DivideMemory(memoryLimit(int64(l.daemon.MemoryLimit)), l.defs)
	if err != nil {
		err = fmt.Errorf("%w\n  next: raise daemon.memory_limit, or lower tasks", err)
	}
	return budget, shares, err
}

func (a *app) environment(l *loaded, m *telemetry.Metrics, def *pipeline.Definition, memory *pipeline.Share) pipeline.Env {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return pipeline.Env{
		Log: l.log.With(slog.String("pipeline", def.Name)), Metrics: m.Pipeline(def.Name), Memory: memory,
		State:  a.plugins.State(l.daemon.DataDir),
		Random: func(b []byte) { _, _ = rand.Read(b) },
		Who:    fmt.Sprintf("%s, process %d, ingestd %s", host, os.Getpid(), version()),
	}
}

// errAtOnce says that the daemon was told to end at once.
var errAtOnce = errors.New("ended at once by a second signal; the next start goes on by recovery")

// run runs every pipeline and returns when nothing runs any more, or when it is told to end at once.
func (d *daemon) run(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listener, err := d.listen(ctx)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel(nil)
	if listener != nil {
		beside.Go(func() { d.serve(ctx, listener) })
	}
	beside.Go(func() { d.obey(ctx, signals, cancel) })
	beside.Go(func() { d.report(ctx) })
	results := make([]pipeline.Result, len(d.supervisors))
	ended := make(chan struct{})
	d.start(ctx, results, ended)
	notify("READY=1\nSTATUS=running")
	d.loaded.log.Info("ingestd runs", slog.String("version", version()), slog.Int("pipelines", len(d.supervisors)))
	select {
	case <-ended:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errAtOnce) { // even if something does not answer
			return exitWith(exitFailed, errAtOnce)
		}
		<-ended
	}
	notify("STOPPING=1")
	for _, def := range d.loaded.defs {
		if err := def.CloseSources(); err != nil {
			d.loaded.log.Warn("close source", slog.String("pipeline", def.Name), slog.String("error", err.Error()))
		}
	}
	return d.exit(results)
}

// start runs the pipelines beside each other. It closes ended when none runs any more; the results may be read then.
func (d *daemon) start(ctx context.Context, results []pipeline.Result, ended chan<- struct{}) {
	var wg sync.WaitGroup
	for i, s := range d.supervisors {
		wg.Go(func() {
			results[i] = s.Run(ctx)
			d.ended(results[i])
		})
	}
	go func() {
		wg.Wait()
		close(ended)
	}()
}

// obey asks for a graceful stop at the first signal and gives up at the second.
func (d *daemon) obey(ctx context.Context, signals <-chan os.Signal, cancel context.CancelCauseFunc) {
	select {
	case s := <-signals:
		d.loaded.log.Info("stopping: final checkpoint and commit", slog.String("signal", s.String()))
		notify("STOPPING=1\nSTATUS=final checkpoint")
	case <-ctx.Done():
		return
	}
	for _, s := range d.supervisors {
		s.Stop()
	}
	select {
	case <-signals:
		d.loaded.log.Warn("second signal: exits at once; the next start finishes what is decided")
		cancel(errAtOnce)
	case <-ctx.Done():
	}
}

// ended logs how a pipeline ended, with what leads on.
func (d *daemon) ended(r pipeline.Result) {
	log := d.loaded.log.With(slog.String("pipeline", r.Name))
	for _, p := range r.Pending {
		if len(p.Committables) == 0 {
			continue
		}
		first := p.Committables[0]
		log.Warn("left to commit by the next start", slog.String("sink", p.Name), slog.Int("committables", len(p.Committables)),
			slog.Uint64("from_checkpoint", uint64(first.Checkpoint)))
	}
	if r.Reason == machine.Done {
		log.Info("pipeline ends", slog.String("why", r.Text))
		return
	}
	log.Error("pipeline is stopped", slog.String("reason", r.Reason.String()), slog.String("why", r.Text),
		slog.String("next", leadOn(r, d.config)))
}

// exit is the worst of all results: a process that ends has nothing left that runs.
func (d *daemon) exit(results []pipeline.Result) error {
	code := exitDone
	var errs []error
	for _, r := range results {
		c := exitForReason(r.Reason)
		if errors.Is(r.Err, pipeline.ErrGuarantee) {
			c = exitGuarantee
		}
		if c != exitDone {
			errs = append(errs, fmt.Errorf("pipeline %q: %s: %s\n  next: %s", r.Name, r.Reason, r.Text, leadOn(r, d.config)))
		}
		code = max(code, c)
	}
	if code == exitDone {
		return nil
	}
	return exitWith(code, errors.Join(errs...))
}

// report keeps the metrics of memory current.
func (d *daemon) report(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		used, _ := d.budget.Used()
		d.metrics.Memory(d.budget.Total(), used)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
