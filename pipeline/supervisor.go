package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
)

// State is what a pipeline is doing, as readyz and metrics tell it.
type State string

// The states of a pipeline.
const (
	Starting   State = "starting"
	Running    State = "running"
	Restarting State = "restarting"
	Finished   State = "done"
	Down       State = "stopped"
)

func states() []string {
	return []string{string(Starting), string(Running), string(Restarting), string(Finished), string(Down)}
}

// Status is what is known of a pipeline at one moment.
type Status struct {
	Name      string
	State     State
	Text      string // why it restarts, stalls or is stopped
	Stalled   bool
	Guarantee string
}

// Ready reports whether the pipeline does its work.
func (s Status) Ready() bool { return (s.State == Running || s.State == Finished) && !s.Stalled }

// Result is how a pipeline ended.
type Result struct {
	Name string
	machine.Stop
	Err error // set when it ended before a run was made
}

// Supervisor keeps one pipeline running: after a failure it goes on by the recovery path, with exponential backoff; what only
// a person can mend stops it.
type Supervisor struct {
	def  *Definition
	env  Env
	stop chan struct{} // closed to ask for a graceful stop
	once sync.Once
	mu   struct {
		sync.Mutex
		status Status
	}
}

// NewSupervisor returns the supervisor of a pipeline.
func NewSupervisor(def *Definition, env Env) *Supervisor {
	s := &Supervisor{def: def, env: env, stop: make(chan struct{})}
	s.mu.status = Status{Name: def.Name, State: Starting}
	return s
}

// Stop asks for a graceful end: a final checkpoint, its commit and a closing manifest. It may be called more than once.
func (s *Supervisor) Stop() { s.once.Do(func() { close(s.stop) }) }

// Status returns what is known now.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.status
}

func (s *Supervisor) set(state State, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.status.State, s.mu.status.Text, s.mu.status.Stalled = state, text, false
	s.env.Metrics.State(string(state), states())
}

// Run runs the pipeline until it is done, stopped or beyond help. When ctx ends it gives up at once, which is as safe as a crash.
func (s *Supervisor) Run(ctx context.Context) Result {
	attempt := 0
	var panics []time.Time
	for {
		began := time.Now()
		res := s.once1(ctx)
		if res.Reason != machine.Restart || ctx.Err() != nil || s.asked() {
			return s.ended(res)
		}
		if time.Since(began) > s.def.Restart.Max {
			attempt = 0
		}
		if res.panicked {
			panics = append(panics, began)
		}
		if n := len(panics); n >= panicsMax && time.Since(panics[n-panicsMax]) < panicsWithin {
			res.Reason = machine.StoppedByRule
			return s.ended(res)
		}
		if limit := s.def.Restart.Limit; limit > 0 && attempt >= limit {
			res.Reason, res.Text = machine.StoppedByRule, fmt.Sprintf("restart_limit of %d is reached: %s", limit, res.Text)
			return s.ended(res)
		}
		if !s.wait(ctx, attempt, res.Text) {
			return s.ended(res)
		}
		attempt++
	}
}

// A task that panics again and again will not stop to do so.
const (
	panicsMax    = 3
	panicsWithin = 10 * time.Minute
)

type outcome struct {
	Result
	panicked bool
}

// once1 makes one run and drives it to its end.
func (s *Supervisor) once1(ctx context.Context) outcome {
	out := outcome{Result: Result{Name: s.def.Name}}
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan machine.Request)
	r, err := s.open(runCtx)
	if err != nil {
		out.Err = err
		out.Stop = machine.Stop{Reason: machine.ReasonFor(fault.KindOf(err)), Text: describe(err)}
		if errors.Is(err, ErrGuarantee) {
			out.Reason = machine.StoppedMisconfigured
		}
		return out
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.askToStop(runCtx, requests) })
	wg.Go(func() { s.watch(runCtx, r) })
	out.Stop = r.drive(runCtx, requests)
	out.panicked = r.panicked
	cancel()
	wg.Wait()
	return out
}

// open prepares a run. A graceful stop ends it early.
func (s *Supervisor) open(ctx context.Context) (*run, error) {
	openCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := context.AfterFunc(openCtx, func() {})
	defer stopped()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.stop:
			cancel(errors.New("asked to stop before it ran"))
		case <-done:
		}
	}()
	r, err := newRun(openCtx, s.def, s.env)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.mu.status.Guarantee = r.plan.guarantee.Summary
	s.mu.Unlock()
	s.env.Metrics.Guarantee(r.plan.guarantee.Summary)
	r.onRunning = func() { s.set(Running, "") }
	return r, nil
}

// askToStop turns a graceful stop into requests to the machine.
func (s *Supervisor) askToStop(ctx context.Context, requests chan<- machine.Request) {
	select {
	case <-s.stop:
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(s.def.ShutdownTimeout)
	defer timer.Stop()
	select {
	case requests <- machine.StopGracefully:
	case <-ctx.Done():
		return
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	select {
	case requests <- machine.StopWaiting:
	case <-ctx.Done():
	}
}

// watch names a stall in log, metric and status, once when it begins and once when it is over.
func (s *Supervisor) watch(ctx context.Context, r *run) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.stalled(r.meter.stall(now, s.def.StallAfter))
		case <-ctx.Done():
			return
		}
	}
}

func (s *Supervisor) stalled(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.mu.status
	if st.State != Running && st.State != Starting {
		return
	}
	was := st.Stalled
	st.Stalled = what != ""
	switch {
	case st.Stalled && !was:
		s.env.Metrics.Stalled(1)
		s.env.Log.Warn("stalled", slog.String("what", what))
	case was && !st.Stalled:
		s.env.Metrics.Stalled(0)
		s.env.Log.Info("moves again")
	}
	st.Text = what
}

func (s *Supervisor) asked() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// wait backs off before the next run. It answers false when the pipeline is to stop.
func (s *Supervisor) wait(ctx context.Context, attempt int, why string) bool {
	d := jittered(s.def.Restart.Initial<<min(attempt, 20), s.def.Restart.Max, s.env.Random)
	s.set(Restarting, why)
	s.env.Metrics.Restarted("failure")
	s.env.Log.Warn("goes on by recovery", slog.String("after", d.Round(time.Millisecond).String()), slog.Int("attempt", attempt+1), slog.String("because", why))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.stop:
	}
	return false
}

// ended tells how the pipeline ended.
func (s *Supervisor) ended(out outcome) Result {
	if out.Reason == machine.Restart { // it was asked to stop while it was down
		out.Text = "stopped while it was to be restarted: " + out.Text
		out.Reason = machine.Done
	}
	state := Down
	if out.Reason == machine.Done {
		state = Finished
	}
	s.set(state, out.Text)
	return out.Result
}

func stack() string { return string(debug.Stack()) }
