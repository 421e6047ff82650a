package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	return &cobra.Command{
		Use: "run", Short: "Run the pipelines of a config", Args: cobra.NoArgs,
		Long: `Runs every pipeline of the config until it is stopped or its input ends.

SIGTERM or SIGINT stops fetching, takes a final checkpoint, commits it and exits with 0; what is still to be committed after
shutdown_timeout is named and finished by the next start. A second signal exits at once, which is as safe as a crash.
Exit codes: docs/exit-codes.md.`,
		Example: "  ingestd run -c /etc/ingestd/ingestd.toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.run(cmd.Context())
		},
	}
}

func (a *app) run(ctx context.Context) error {
	l, err := a.load(os.Stderr)
	if err != nil {
		return err
	}
	lock, err := a.plugins.Lock(l.daemon.DataDir)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	defer func() {
		if err := lock.Close(); err != nil {
			l.log.Warn("unlock the data directory", slog.String("error", err.Error()))
		}
	}()
	if err := l.open(l.defs...); err != nil {
		return err
	}
	d, err := newDaemon(l)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	return d.run(ctx)
}

// daemon is the process: its pipelines, its metrics and its listener.
type daemon struct {
	loaded      *loaded
	metrics     *telemetry.Metrics
	budget      *pipeline.Budget
	supervisors []*pipeline.Supervisor
}

func newDaemon(l *loaded) (*daemon, error) {
	budget, shares, err := pipeline.DivideMemory(memoryLimit(int64(l.daemon.MemoryLimit)), l.defs)
	if err != nil {
		return nil, fmt.Errorf("%w\n  next: raise daemon.memory_limit, or lower tasks", err)
	}
	d := &daemon{loaded: l, metrics: telemetry.New(version()), budget: budget}
	for _, def := range l.defs {
		d.supervisors = append(d.supervisors, pipeline.NewSupervisor(def, environment(l, d.metrics, def, shares[def.Name])))
	}
	return d, nil
}

func environment(l *loaded, m *telemetry.Metrics, def *pipeline.Definition, memory *pipeline.Share) pipeline.Env {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return pipeline.Env{
		Log: l.log.With(slog.String("pipeline", def.Name)), Metrics: m.Pipeline(def.Name), Memory: memory,
		Random: func(b []byte) { _, _ = rand.Read(b) },
		Who:    fmt.Sprintf("%s, process %d, ingestd %s", host, os.Getpid(), version()),
	}
}

// run runs every pipeline and returns when nothing runs any more.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := d.loaded.log
	listener, err := d.listen(ctx)
	if err != nil {
		return exitWith(exitConfig, err)
	}
	if listener != nil {
		defer func() { _ = listener.Close() }() //nolint:errcheck // the process ends
		go d.serve(ctx, listener)
	}
	go d.obeySignals(ctx, cancel)
	go d.report(ctx)
	notify("READY=1\nSTATUS=running")
	log.Info("ingestd runs", slog.String("version", version()), slog.Int("pipelines", len(d.supervisors)))
	results := make([]pipeline.Result, len(d.supervisors))
	var wg sync.WaitGroup
	for i, s := range d.supervisors {
		wg.Go(func() {
			results[i] = s.Run(ctx)
			d.ended(results[i])
		})
	}
	wg.Wait()
	notify("STOPPING=1")
	for _, def := range d.loaded.defs {
		if err := def.Source.Close(); err != nil {
			log.Warn("close source", slog.String("pipeline", def.Name), slog.String("error", err.Error()))
		}
	}
	return exitOf(results)
}

// obeySignals asks for a graceful stop at the first signal and gives up at the second.
func (d *daemon) obeySignals(ctx context.Context, cancel context.CancelFunc) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
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
		cancel()
	case <-ctx.Done():
	}
}

// ended logs how a pipeline ended, with what leads on.
func (d *daemon) ended(r pipeline.Result) {
	log := d.loaded.log.With(slog.String("pipeline", r.Name))
	for _, p := range r.Pending {
		first := p.Committables[0]
		log.Warn("left to commit by the next start", slog.String("sink", p.Name), slog.Int("committables", len(p.Committables)),
			slog.Uint64("from_checkpoint", uint64(first.Checkpoint)))
	}
	if r.Reason == machine.Done {
		log.Info("pipeline ends", slog.String("why", r.Text))
		return
	}
	log.Error("pipeline is stopped", slog.String("reason", r.Reason.String()), slog.String("why", r.Text),
		slog.String("next", leadOn(r.Reason, r.Name)))
}

// leadOn is the command by which a person goes on after a loud stop.
func leadOn(r machine.Reason, name string) string {
	switch r {
	case machine.StoppedFenced:
		return "nothing, if the newer run is meant; else stop it: ingestd checkpoint list " + name + " shows who claimed"
	case machine.StoppedLost:
		return "ingestd offsets show " + name + ", then ingestd offsets set " + name + " --accept-loss --reason … SPLIT=OFFSET"
	case machine.StoppedCorrupt:
		return "keep the files as they are; ingestd checkpoint list " + name + " shows what can be read"
	case machine.StoppedMisconfigured:
		return "mend what is named, then ingestd validate --connect"
	case machine.StoppedByRule:
		return "look at the dead letters, mend the records or the rule, then start again"
	case machine.Done, machine.Restart:
	}
	return "start again: it goes on by recovery"
}

// exitOf is the worst of all results: a process that ends has nothing left that runs.
func exitOf(results []pipeline.Result) error {
	code := exitDone
	var errs []error
	for _, r := range results {
		c := exitForReason(r.Reason)
		if errors.Is(r.Err, pipeline.ErrGuarantee) {
			c = exitGuarantee
		}
		if c != exitDone {
			errs = append(errs, fmt.Errorf("pipeline %q: %s: %s\n  next: %s", r.Name, r.Reason, r.Text, leadOn(r.Reason, r.Name)))
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
		select {
		case <-tick.C:
			used, _ := d.budget.Used()
			d.metrics.Memory(d.budget.Total(), used)
		case <-ctx.Done():
			return
		}
	}
}

// notify tells systemd, when it started us with Type=notify. It needs no library: one datagram.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() //nolint:errcheck // nothing depends on it
	_, _ = conn.Write([]byte(state))    //nolint:errcheck // systemd's own timeout tells of it
}
