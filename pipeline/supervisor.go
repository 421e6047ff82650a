package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	Paused     State = "paused" // by a person: it does not read on
	Restarting State = "restarting"
	Finished   State = "done"
	Down       State = "stopped"
)

func states() []string {
	return []string{string(Starting), string(Running), string(Paused), string(Restarting), string(Finished), string(Down)}
}

// Status is what is known of a pipeline at one moment.
type Status struct {
	Name      string
	State     State
	Text      string // what it does while it starts, why it restarts, what stalls, why it is stopped
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
	// saves are savepoints that are asked for; the run that is under way takes them.
	saves chan *saving
	asks  chan *asking
	// paused is looked at by the run that is under way when pauses says so.
	paused atomic.Bool
	pauses chan struct{}
	// discards is used by one run at a time.
	discards discards
	mu       struct {
		sync.Mutex
		state     State
		why       string // of the state
		guarantee string
		stalls    []stall // who makes no progress
		meter     *meter  // of the run under way
	}
}

// NewSupervisor returns the supervisor of a pipeline.
func NewSupervisor(def *Definition, env Env) *Supervisor {
	s := &Supervisor{def: def, env: env, stop: make(chan struct{}), saves: make(chan *saving), asks: make(chan *asking), pauses: make(chan struct{}, 1), discards: discards{steps: def.DiscardState}}
	s.set(Starting, "")
	def.shareCache()
	return s
}

// Stop asks for a graceful end: a final checkpoint, its commit and a closing manifest. It may be called more than once.
func (s *Supervisor) Stop() { s.once.Do(func() { close(s.stop) }) }

// Status returns what is known now.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st := Status{Name: s.def.Name, State: s.mu.state, Text: s.mu.why, Stalled: len(s.mu.stalls) > 0, Guarantee: s.mu.guarantee}
	switch {
	case st.Stalled:
		st.Text = s.stallsLocked(now)
	case st.State == Starting:
		st.Text = s.mu.meter.current(now)
	case st.State == Paused:
		st.Text = "does not read on; ingestd resume " + s.def.Name + " lets it"
	}
	return st
}

// stallsLocked names who makes no progress, the most telling first.
func (s *Supervisor) stallsLocked(now time.Time) string {
	const most = 5
	var texts []string
	for _, st := range s.mu.stalls[:min(most, len(s.mu.stalls))] {
		texts = append(texts, st.text(now))
	}
	if n := len(s.mu.stalls) - most; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(texts, "; ")
}

func (s *Supervisor) set(state State, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.state, s.mu.why = state, why
	s.env.Metrics.State(string(state), states())
}

// Run runs the pipeline until it is done, stopped or beyond help. When ctx ends it gives up at once, which is as safe as a crash.
func (s *Supervisor) Run(ctx context.Context) Result {
	attempt := 0
	var panics []time.Time
	for {
		out := s.attempt(ctx)
		if ctx.Err() != nil && out.Reason == machine.Restart {
			out.Text = "ended at once"
		}
		if out.Reason != machine.Restart || ctx.Err() != nil || s.asked() {
			return s.ended(out)
		}
		reason := "failure"
		if out.panicked {
			reason, panics = "panic", append(panics, time.Now())
		}
		if out.advanced {
			attempt = 0
		}
		if n := len(panics); out.panicked && n >= panicsMax && time.Since(panics[n-panicsMax]) < panicsWithin {
			out.Reason, out.Text = machine.StoppedByRule, fmt.Sprintf("panic number %d in %s: %s", panicsMax, panicsWithin, out.Text)
			return s.ended(out)
		}
		if limit := s.def.Restart.Limit; limit > 0 && attempt >= limit {
			out.Reason, out.Text = machine.StoppedByRule, fmt.Sprintf("restart.limit of %d is reached: %s", limit, out.Text)
			return s.ended(out)
		}
		s.env.Metrics.Restarted(reason)
		if !s.wait(ctx, attempt, out.Text) {
			return s.ended(out)
		}
		attempt++
	}
}

// A task that panics again and again will not stop to do so.
const (
	panicsMax    = 3
	panicsWithin = 10 * time.Minute
)

// outcome is how one run ended.
type outcome struct {
	Result
	panicked bool
	advanced bool // a checkpoint was published
}

// attempt makes one run and drives it to its end.
func (s *Supervisor) attempt(ctx context.Context) outcome {
	out := outcome{Result: Result{Name: s.def.Name}}
	runCtx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	_, names := s.def.sinks()
	m := newMeter(s.env.Metrics, names)
	s.attend(m)
	defer s.attend(nil)
	wg.Go(func() { s.watch(runCtx, m) })
	r, err := s.open(runCtx, m)
	if err != nil {
		out.Err, out.Stop = err, machine.Stop{Reason: machine.ReasonFor(fault.KindOf(err)), Text: describe(err)}
		if errors.Is(err, errStoppedEarly) {
			out.Err, out.Stop = nil, machine.Stop{Reason: machine.Done, Text: errStoppedEarly.Error()}
		}
		return out
	}
	requests := make(chan machine.Request)
	wg.Go(func() { s.askToStop(runCtx, requests) })
	out.Stop = r.drive(runCtx, requests)
	s.close(r)
	out.panicked, out.advanced = r.panicked, r.advanced
	return out
}

// closeTimeout bounds the wait, at the end of the process, for what obeys no cancellation.
const closeTimeout = 5 * time.Second

// close ends everything of a run. Whatever does not end is waited for, so that two runs never hold the same things, unless the
// pipeline is to stop for good: what acts later than that is fenced as after a crash.
func (s *Supervisor) close(r *run) {
	done := make(chan struct{})
	go func() {
		r.close()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-s.stop:
	}
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-done:
	case now := <-t.C:
		s.env.Log.Warn("does not end, and is left behind", slog.String("what", r.meter.current(now)))
	}
}

// attend makes m the meter that the status speaks of.
func (s *Supervisor) attend(m *meter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.meter, s.mu.stalls = m, nil
	s.env.Metrics.Stalled(nil)
}

var errStoppedEarly = errors.New("stopped before it ran")

// open prepares a run. A graceful stop ends it early.
func (s *Supervisor) open(ctx context.Context, m *meter) (*run, error) {
	openCtx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		select {
		case <-s.stop:
			cancel(errStoppedEarly)
		case <-openCtx.Done():
		}
	})
	r, err := newRun(openCtx, s.def, s.env, m)
	if cause := context.Cause(openCtx); err != nil && errors.Is(cause, errStoppedEarly) {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	text := r.plan.guarantee.Summary
	s.mu.Lock()
	s.mu.guarantee = text
	s.mu.Unlock()
	s.env.Metrics.Guarantee(text)
	s.env.Log.Info("pipeline starts", slog.String("guarantee", text))
	r.onRunning, r.discards, r.saves = s.runs, &s.discards, s.saves
	r.takes, r.paused, r.pauses = s.asks, &s.paused, s.pauses
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

// watch looks for stalls as long as the run goes on.
func (s *Supervisor) watch(ctx context.Context, m *meter) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if s.paused.Load() { // nothing is expected to move
				s.stalled(now, nil)
				continue
			}
			s.stalled(now, m.stalls(now, s.def.StallAfter))
		case <-ctx.Done():
			return
		}
	}
}

// stalled names stalls in metric and status, and in the log when one begins and when all is well again.
func (s *Supervisor) stalled(now time.Time, stalls []stall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.mu.stalls
	s.mu.stalls = stalls
	by := map[string]time.Duration{}
	for _, st := range stalls {
		by[st.who] = max(by[st.who], now.Sub(st.since))
		if !slices.ContainsFunc(was, func(old stall) bool { return old.who == st.who && old.since.Equal(st.since) }) {
			s.env.Log.Warn("stalled", slog.String("who", st.who), slog.String("what", st.what),
				slog.String("since", now.Sub(st.since).Round(time.Second).String()))
		}
	}
	if len(by) > 0 || len(was) > 0 {
		s.env.Metrics.Stalled(by)
	}
	if len(stalls) == 0 && len(was) > 0 {
		s.env.Log.Info("moves again")
	}
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
	d := backoff(s.def.Restart.Initial, s.def.Restart.Max, attempt, s.env.Random)
	s.set(Restarting, why)
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
	if out.Reason == machine.Restart {
		out.Text += "; it was told to end, so what was read since the newest checkpoint is read again by the next start"
	}
	state := Down
	if out.Reason == machine.Done {
		state = Finished
	}
	s.set(state, out.Text)
	return out.Result
}

func stack() string { return string(debug.Stack()) }
