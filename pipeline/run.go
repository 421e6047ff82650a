package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state/local"
)

// Env is what the daemon gives every run of a pipeline.
type Env struct {
	Log     *slog.Logger
	Metrics *telemetry.Pipeline
	Memory  *Share
	// Random fills b with random bytes: store IDs and nonces come from it.
	Random func(b []byte)
	// State is where the local databases of pipelines with keyed steps are; nil is enough for others.
	State StateDisk
	// Who names the process, for people: host, process ID, version.
	Who string
}

// run is the driver of one machine: it does what the machine decides and reports what came of it. Its loop is one goroutine,
// which owns everything here but the queues; requests to stores, sources and sinks go on beside it.
type run struct {
	def     *Definition
	env     Env
	meter   *meter
	plan    plan // how records become rows
	storeID string
	groups  int // key groups of the pipeline
	machine *machine.Machine

	ctx    context.Context //nolint:containedctx // the run's life time, ended by cancel
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	inbox  chan func() // what the loop does next

	segments  *checkpoint.Segments // made when the lease is known
	sinks     []*sinkActor
	letters   actor // the coordinator's own dead-letter writer
	collector actor
	garbage   *checkpoint.Garbage // of the collector alone
	own       sink.Writer         // of letters, opened when it is needed first
	tasks     []*task
	keyed     []*keyedTask
	tables    []*task // one for each table
	loaded    int     // tables that are read up to where they ended
	keeper    *keeper // nil without keyed steps
	exchange  *exchange
	kept      actor // the keeper's goroutine
	discards  *discards
	poisoned  atomic.Bool
	crowded   atomic.Int32 // keyed tasks whose changes have reached their bound
	gathered  map[record.Checkpoint][]part
	given     []int    // splits of each task
	held      []func() // for tasks that don't run yet
	drained   map[int]bool
	owed      []owed
	opened    bool // the tasks are to run
	queue     []machine.Event
	stepping  bool
	bytes     atomic.Int64
	full      atomic.Bool // the input waits for commits
	phases    phases
	frozen    map[checkpoint.Seq][]byte
	saves     <-chan *saving // asked for from outside
	takes     <-chan *asking // likewise
	asks      []*asking      // that wait
	pauses    <-chan struct{}
	paused    *atomic.Bool // wanted from outside; nil: never
	pausing   bool
	saving    *saving // under way
	stopped   *machine.Stop
	panicked  bool
	advanced  bool   // a checkpoint of the tasks was published
	onRunning func() // called when the tasks run
}

// newRun prepares a run without claiming anything: whatever is misconfigured shows before a healthy run is fenced.
func newRun(ctx context.Context, def *Definition, env Env, m *meter) (*run, error) {
	r := &run{def: def, env: env, meter: m, drained: map[int]bool{}, frozen: map[checkpoint.Seq][]byte{}, inbox: make(chan func()), gathered: map[record.Checkpoint][]part{}}
	m.begin(storeName, "open")
	var err error
	if r.storeID, r.groups, err = openStore(ctx, def, env); err != nil {
		return nil, fmt.Errorf("checkpoint store: %w", err)
	}
	m.end(storeName)
	if r.plan, err = newPlan(ctx, def, r.storeID, m); err != nil {
		return nil, err
	}
	if err := refuseForeign(def, r.plan.targets, r.storeID); err != nil {
		return r, err
	}
	return r, r.compareSinks(ctx)
}

// openStore returns the store's ID and the pipeline's number of key groups.
func openStore(ctx context.Context, def *Definition, env Env) (id string, groups int, err error) {
	random := make([]byte, 16)
	env.Random(random)
	if id, err = checkpoint.OpenStore(ctx, def.Store, random); err != nil {
		return "", 0, err
	}
	groups, err = checkpoint.OpenPipeline(ctx, def.Store, id, def.ID, def.KeyGroups)
	return id, groups, err
}

func (r *run) config() machine.Config {
	nonce := make([]byte, 16)
	r.env.Random(nonce)
	_, names := r.def.sinks()
	cfg := machine.Config{
		StoreID: r.storeID, Pipeline: r.def.ID, Nonce: fmt.Sprintf("%x", nonce), Who: r.env.Who, Digest: r.def.Digest,
		Stages: r.def.stages(), Sinks: names, DeadLetter: len(names) - 1, Tasks: r.def.parts(),
		AtLeastOnce: r.def.Delivery == config.AtLeastOnce, MaxPending: r.def.Checkpoint.MaxPending, Keep: r.def.Checkpoint.Keep,
		MaxRatio: r.def.MaxRatio, RatioWindow: r.def.RatioWindow,
	}
	if r.def.DeadLetter == nil {
		cfg.DeadLetter = -1
	}
	return cfg
}

// drive runs the machine to its end. Requests come from outside; the result is the machine's last effect. The caller closes the
// run.
func (r *run) drive(ctx context.Context, requests <-chan machine.Request) machine.Stop {
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.machine = machine.New(r.config())
	r.keeper = r.newKeeper()
	plugins, names := r.def.sinks()
	for i := range plugins {
		a := &sinkActor{owner: r, index: i, name: names[i], plugin: plugins[i], actor: make(actor, actorQueue)}
		r.sinks = append(r.sinks, a)
		r.wg.Go(func() { a.run(r.ctx) })
	}
	r.garbage = checkpoint.NewGarbage(r.def.Store, r.def.ID)
	r.letters, r.collector, r.kept = make(actor, actorQueue), make(actor, actorQueue), make(actor, actorQueue)
	r.wg.Go(func() { r.letters.run(r.ctx) })
	r.wg.Go(func() { r.kept.run(r.ctx) })
	r.wg.Go(func() { r.collector.run(r.ctx) })
	defer r.noteLeft()
	defer r.leaveSaving()
	defer r.leaveAsking()
	r.obeyPause()
	r.step(machine.Started{})
	late := time.NewTicker(max(time.Millisecond, r.def.Checkpoint.Timeout/lateLooks))
	defer late.Stop()
	for r.stopped == nil {
		select {
		case f := <-r.inbox:
			f()
		case now := <-late.C:
			r.lookForLate(now)
		case q := <-requests:
			r.step(machine.Requested{Request: q})
		case w := <-r.saves:
			r.save(w)
		case w := <-r.takes:
			r.ask(w)
		case <-r.pauses:
			r.obeyPause()
		case <-ctx.Done():
			r.stopped = &machine.Stop{Reason: machine.Restart, Text: context.Cause(ctx).Error()}
		}
	}
	return *r.stopped
}

// lateLooks is how often within the time for a checkpoint's parts it is looked whether that is over.
const lateLooks = 8

// owed is a part of a checkpoint that was asked for and not given. The task behind the last one is the coordinator's own writer.
type owed struct {
	checkpoint record.Checkpoint
	task       int
	since      time.Time
}

// owe notes that a part is asked for.
func (r *run) owe(c record.Checkpoint, task int) { r.owed = append(r.owed, owed{c, task, time.Now()}) }

// paid notes that a task gave its part.
func (r *run) paid(p machine.PartDone) {
	r.owed = slices.DeleteFunc(r.owed, func(o owed) bool { return o.checkpoint == p.Checkpoint && o.task == p.Part.Task })
}

// lookForLate gives a checkpoint up whose parts take too long.
func (r *run) lookForLate(now time.Time) {
	if len(r.owed) == 0 {
		return
	}
	o := r.owed[0] // the oldest
	took := now.Sub(o.since)
	if took <= r.def.Checkpoint.Timeout {
		return
	}
	who := taskName(o.task)
	if o.task == r.def.parts() {
		who = "the writer of refused rows"
	}
	r.step(machine.Failed{Kind: fault.Unknown, Text: fmt.Sprintf("checkpoint %d: %s gave no part in %s", o.checkpoint, who, took.Round(time.Millisecond))})
}

// step gives the machine an event and does what it decides. An event that comes of an effect at once waits for its turn.
func (r *run) step(ev machine.Event) {
	r.queue = append(r.queue, ev)
	if r.stepping {
		return
	}
	r.stepping = true
	defer func() { r.stepping = false }()
	for len(r.queue) > 0 {
		ev := r.queue[0]
		r.queue = r.queue[1:]
		r.take(ev)
	}
}

func (r *run) take(ev machine.Event) {
	r.noteEvent(ev)
	effects := r.machine.Step(time.Now().UnixMilli(), ev)
	if a, ok := ev.(machine.AssembleDone); ok {
		r.noteAssembled(a, effects)
	}
	for _, e := range effects {
		r.noteEffect(e)
		r.noteSaving(e)
		r.noteAsking(e)
		r.do(e)
	}
	r.saveIfCommitted()
	if full := r.machine.Full(); r.full.Swap(full) && !full {
		r.goOn()
	}
}

// goOn wakes tasks whose input waited.
func (r *run) goOn() {
	for _, t := range slices.Concat(r.tasks, r.tables) {
		t.goOn()
	}
}

// post lets the loop do something, from any goroutine of the run. It answers false when the run is over.
func (r *run) post(f func()) bool {
	select {
	case r.inbox <- f:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// send hands an event to the loop, from any goroutine of the run.
func (r *run) send(ev machine.Event) { r.post(func() { r.step(ev) }) }

// fail reports an error outside the protocol. An error that only says that the run ends is none.
func (r *run) fail(err error) {
	if errors.Is(err, local.ErrPoisoned) {
		r.poisoned.Store(true)
	}
	if r.ctx.Err() != nil && errors.Is(err, context.Cause(r.ctx)) {
		return
	}
	r.send(machine.Failed{Kind: fault.KindOf(err), Text: describe(err)})
}

// describe is an error's text with the remedy, when there is one.
func describe(err error) string {
	if remedy := fault.RemedyOf(err); remedy != "" {
		return err.Error() + "\n  next: " + remedy
	}
	return err.Error()
}

// errRunOver is the cause by which everything of a run ends.
var errRunOver = errors.New("the run is over")

// close ends everything of the run and waits for it. Nothing of it acts afterwards in this process; what is on the wire is
// fenced by the next lease.
func (r *run) close() {
	r.cancel(errRunOver)
	r.wg.Wait()
	for _, t := range slices.Concat(r.tasks, r.tables) {
		t.close(r.env.Log)
	}
	for _, t := range r.keyed {
		t.close(r.env.Log)
	}
	r.closeState()
	if r.own != nil {
		logClose(r.env.Log, "dead-letter writer", r.own.Close())
	}
	for _, s := range r.sinks {
		if s.sink != nil {
			logClose(r.env.Log, "sink "+s.name, s.sink.Close())
		}
	}
}

// logClose tells of an error of a Close: nothing depends on it, as everything that counts was durable before.
func logClose(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("close", slog.String("what", what), slog.String("error", err.Error()))
	}
}

// identity is who the run's sinks write as.
func (r *run) identity(name string) sink.Identity {
	return sink.Identity{StoreID: r.storeID, Pipeline: r.def.ID, Lane: record.Lane(0), Sink: name}
}
