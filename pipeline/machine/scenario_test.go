package machine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// The scenario files tell the protocol step by step. Each command gives one run's machine an event and prints the effects that it
// asks for; `do` answers the oldest open effects as a perfect store and perfect sinks would. Rewrite the expected output with
// -rewrite, and commit it only if every changed line is understood.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		s := &scenario{t: t, runs: map[int]*player{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			s.t, s.d = t, d
			command, ok := s.commands()[d.Cmd]
			if !ok {
				d.Fatalf(t, "no command %q", d.Cmd)
			}
			return cmp.Or(command(), "ok")
		})
	})
}

// scenario is a store, sinks, and runs that know nothing of each other.
type scenario struct {
	t    *testing.T
	d    *datadriven.TestData
	runs map[int]*player
	// newest began last.
	newest *player
}

// player is one run: a flow whose effects wait until somebody answers them.
type player struct {
	*flow
	open    []Effect
	unheard Create
}

func (s *scenario) commands() map[string]func() string {
	return map[string]func() string{
		"start": s.start, "do": s.do, "listed": s.listed, "got": s.got, "created": s.created, "fenced": s.fenced, "committed": s.committed,
		"replaced": s.replaced, "discovered": s.discovered, "part": s.part, "ended": s.ended, "timer": s.timer, "requested": s.requested,
		"failed": s.failed, "edited": s.edited, "late": s.late, "open": s.opened, "log": s.printLog, "targets": s.targets, "phase": s.phase,
	}
}

// start [run=N] [at-least-once] [no-dead-letters] [lease-min=N] [offline] [max-pending=N] [keep=N] [ratio=(max,window)] [stages=(…)]
//
// Begins a run on the store and the sinks of those before.
func (s *scenario) start() string {
	cfg := flowConfig()
	n := s.number("run", 1)
	cfg.Nonce = fmt.Sprint("n", n)
	cfg.AtLeastOnce, cfg.Offline = s.d.HasArg("at-least-once"), s.d.HasArg("offline")
	if s.d.HasArg("no-dead-letters") {
		cfg.DeadLetter = -1
	}
	cfg.LeaseMin = record.Lease(s.number("lease-min", 0))
	cfg.MaxPending, cfg.Keep = s.number("max-pending", 2), s.number("keep", 2)
	s.d.MaybeScanArgs(s.t, "ratio", &cfg.MaxRatio, &cfg.RatioWindow)
	if arg, ok := s.d.Arg("stages"); ok {
		cfg.Stages = arg.Vals
	}
	f := newFlow(s.t, cfg)
	f.records = 12
	if before := s.newest; before != nil {
		f.log, f.targets, f.done, f.pos = before.log, before.targets, before.done, before.pos
		f.segment = before.segment + 10
	}
	s.newest = &player{flow: f}
	s.runs[n] = s.newest
	return s.step(Started{})
}

// do [run=N] [first=EFFECT] [n=N] [until=EFFECT] [refuse=RECORD] [every=N]
//
// Answers the oldest open effect (of the named kind), or n of them, or all up to the first of a kind, which stays open. Refuse makes the
// first sink refuse a record; every is how many records a task gives to a checkpoint. What is answered is printed with its
// effects below it.
func (s *scenario) do() string {
	p := s.player()
	s.d.MaybeScanArgs(s.t, "refuse", &p.refuse)
	p.every = s.number("every", p.every)
	var out strings.Builder
	for n := s.number("n", 1); (n > 0 || s.d.HasArg("until")) && len(p.open) > 0; n-- {
		e := p.open[0]
		name := effectName(e)
		if arg, ok := s.d.Arg("until"); ok && arg.Vals[0] == name {
			break
		}
		if arg, ok := s.d.Arg("first"); ok {
			e = s.answer(func(e Effect) bool { return effectName(e) == arg.Vals[0] })
		} else {
			p.open = p.open[1:]
		}
		if !s.d.HasArg("until") {
			fmt.Fprintf(&out, "%s\n", printEffect(e))
		}
		for _, ev := range p.do(e) {
			text := s.step(ev)
			if !s.d.HasArg("until") {
				out.WriteString(indent(text))
			}
		}
	}
	if s.d.HasArg("until") {
		return s.opened()
	}
	return out.String()
}

// listed [run=N] failed|last=N: the store does not answer a List, or answers that N is the highest number.
func (s *scenario) listed() string {
	e := s.answer(func(e Effect) bool { _, ok := e.(List); return ok }).(List)
	return s.step(Listed{For: e.For, Last: checkpoint.Seq(s.number("last", 0)), Failed: s.d.HasArg("failed")})
}

// got [run=N] none|failed|claim=LEASE|manifest=LEASE [store=ID]
//
// Answers a Get with nothing, with a failure, or with an entry of another run.
func (s *scenario) got() string {
	e := s.answer(func(e Effect) bool { _, ok := e.(Get); return ok }).(Get)
	ev := Got{For: e.For, Seq: e.Seq, Failed: s.d.HasArg("failed")}
	if lease := s.number("claim", 0); lease > 0 {
		ev.Found, ev.Entry.Claim = true, &checkpoint.Claim{Lease: record.Lease(lease), Nonce: "another"}
	}
	if lease := s.number("manifest", 0); lease > 0 {
		ev.Found, ev.Entry.Manifest = true, &checkpoint.Manifest{Lease: record.Lease(lease), StoreID: s.text("store", "store"), Pipeline: "p"}
	}
	return s.step(ev)
}

// created [run=N] unknown [effect]: a Create whose answer stays away, without or with effect. created exists: its number is taken.
func (s *scenario) created() string {
	e := s.answer(func(e Effect) bool { _, ok := e.(Create); return ok }).(Create)
	ev := Created{For: e.For, Seq: e.Seq}
	s.player().unheard = e
	if s.d.HasArg("effect") {
		s.player().create(e)
	}
	if s.d.HasArg("exists") {
		ev.Result = CreateExists
	}
	return s.step(ev)
}

// late [run=N]: the last Create whose answer stayed away takes effect now, unheard.
func (s *scenario) late() string {
	p := s.player()
	return printCreated(p.create(p.unheard))
}

// fenced [run=N] sink=NAME kind=KIND: the sink does not raise its fence.
func (s *scenario) fenced() string {
	n := s.sink()
	s.answer(func(e Effect) bool { f, ok := e.(FenceSink); return ok && f.Sink == n })
	return s.step(SinkFenced{Sink: n, Kind: s.kind(), Text: "the sink says why"})
}

// committed [run=N] sink=NAME outcome=OUTCOME [effect]: the answer to a commit, which had its effect or not.
func (s *scenario) committed() string {
	n := s.sink()
	e := s.answer(func(e Effect) bool { c, ok := e.(Commit); return ok && c.Sink == n }).(Commit)
	if s.d.HasArg("effect") {
		s.player().commit(e)
	}
	want := s.text("outcome", "")
	for o := sink.Unknown; o <= sink.Fenced; o++ {
		if o.String() == want {
			return s.step(CommitDone{Sink: n, Outcome: o, Text: "the sink says why"})
		}
	}
	s.d.Fatalf(s.t, "no outcome %q", want)
	return ""
}

// replaced [run=N] sink=NAME kind=KIND: the sink can't make the replacement.
func (s *scenario) replaced() string {
	n := s.sink()
	s.answer(func(e Effect) bool { r, ok := e.(Replace); return ok && r.Sink == n })
	return s.step(ReplaceDone{Sink: n, Kind: s.kind(), Text: "the sink says why"})
}

// discovered [run=N] failed | splits=(…): the answer to a look for splits.
func (s *scenario) discovered() string {
	s.answer(func(e Effect) bool { _, ok := e.(Discover); return ok })
	ev := Discovered{OK: !s.d.HasArg("failed")}
	if arg, ok := s.d.Arg("splits"); ok {
		for _, name := range arg.Vals {
			ev.Splits = append(ev.Splits, s.player().split(name, 0))
		}
	}
	return s.step(ev)
}

// part [run=N] task=N [refused=N] [idle]
//
// One task's answer to the oldest barrier, with as many records as it gives to a checkpoint. Refused ones are dead letters.
func (s *scenario) part() string {
	p, task := s.player(), s.number("task", 0)
	i := slices.IndexFunc(p.open, func(e Effect) bool { _, ok := e.(Barrier); return ok })
	if i < 0 {
		s.d.Fatalf(s.t, "no barrier is open")
	}
	cut := p.open[i].(Barrier).Cut
	if task == 0 { // the last one to answer
		p.open = slices.Delete(p.open, i, i+1)
	}
	every := p.every
	if s.d.HasArg("idle") {
		p.every = 0
	}
	ev := p.part(cut, task).(PartDone)
	p.every = every
	if n := int64(s.number("refused", 0)); n > 0 {
		st := ev.Part.Stages
		st[0].Passed, st[0].Refused = st[0].Passed-n, n
		st[1].In, st[1].Passed = st[1].In-n, st[1].Passed-n
		rows := strings.Fields(string(ev.Part.Sinks[0].Data))
		ev.Part.Sinks = []sink.Part{p.prepared(rows[n:]), p.prepared(rows[:n])}
	}
	return s.step(ev)
}

// ended [run=N]: every record was read.
func (s *scenario) ended() string { return s.step(InputEnded{}) }

// timer [run=N] interval|discovery: the time is over.
func (s *scenario) timer() string {
	if s.d.HasArg("discovery") {
		return s.step(TimerFired{Timer{Kind: TimerDiscovery}})
	}
	return s.step(TimerFired{Timer{Kind: TimerInterval}})
}

// requested [run=N] checkpoint|roll|stop|stop-waiting: a wish from outside.
func (s *scenario) requested() string {
	switch {
	case s.d.HasArg("checkpoint"):
		return s.step(Requested{CheckpointNow})
	case s.d.HasArg("roll"):
		return s.step(Requested{RollNow})
	case s.d.HasArg("stop"):
		return s.step(Requested{StopGracefully})
	}
	return s.step(Requested{StopWaiting})
}

// failed [run=N] kind=KIND: something outside the protocol fails.
func (s *scenario) failed() string {
	return s.step(Failed{Kind: s.kind(), Text: "task 0: something broke"})
}

// edited [run=N] refused: the offline change is given up.
func (s *scenario) edited() string {
	s.answer(func(e Effect) bool { _, ok := e.(Edit); return ok })
	return s.step(Edited{})
}

// open [run=N]: what is asked for and not answered.
func (s *scenario) opened() string {
	var out strings.Builder
	for _, e := range s.player().open {
		fmt.Fprintf(&out, "%s\n", printEffect(e))
	}
	return out.String()
}

// log: what stands in the log.
func (s *scenario) printLog() string {
	var out strings.Builder
	for _, seq := range slices.Sorted(maps.Keys(s.newest.log)) {
		e, err := checkpoint.Decode(s.newest.log[seq])
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&out, "%d: %s\n", seq, printEntry(e))
	}
	return out.String()
}

// targets: what the sinks hold, in order of effect.
func (s *scenario) targets() string {
	p := s.player()
	return fmt.Sprintf("main: %s\ndead_letter: %s\n", strings.Join(p.targets[0], " "), strings.Join(p.targets[1], " "))
}

// phase [run=N]: where the run is.
func (s *scenario) phase() string {
	m := s.player().m
	name := [...]string{
		"idle", "claiming", "reading", "fencing", "recovering", "discovering", "opening", "running", "finishing", "editing", "leaving", "stopped",
	}[m.phase]
	return fmt.Sprintf("%s: lease %d, checkpoint %d, next log number %d\n", name, m.lease, m.last, m.next)
}

// step gives the run's machine an event and prints its effects.
func (s *scenario) step(ev Event) string {
	p := s.player()
	var out strings.Builder
	for _, e := range p.m.Step(1000, ev) {
		fmt.Fprintf(&out, "%s\n", printEffect(e))
		switch e := e.(type) {
		case Run:
			p.do(e)
		case SetTimer:
			if e.Timer.Kind != TimerInterval && e.Timer.Kind != TimerDiscovery {
				p.open = append(p.open, e)
			}
		case Published, Settled, AddSplits, Stop:
		case Assemble, Barrier, Collect, Commit, Create, Discover, Edit, FenceSink, Get, Letters, List, Replace, Sweep:
			p.open = append(p.open, e)
		}
	}
	return out.String()
}

// answer takes the oldest open effect that matches.
func (s *scenario) answer(match func(Effect) bool) Effect {
	s.t.Helper()
	p := s.player()
	i := slices.IndexFunc(p.open, match)
	if i < 0 {
		s.d.Fatalf(s.t, "no such effect is open, only:\n%s", s.opened())
	}
	e := p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	return e
}

func (s *scenario) player() *player {
	p, ok := s.runs[s.number("run", 1)]
	if !ok {
		s.d.Fatalf(s.t, "no such run")
	}
	return p
}

func (s *scenario) number(name string, otherwise int) int {
	s.d.MaybeScanArgs(s.t, name, &otherwise)
	return otherwise
}

func (s *scenario) text(name, otherwise string) string {
	s.d.MaybeScanArgs(s.t, name, &otherwise)
	return otherwise
}

func (s *scenario) sink() int { return slices.Index(flowConfig().Sinks, s.text("sink", "main")) }

func (s *scenario) kind() fault.Kind {
	name := s.text("kind", "unknown")
	for k := fault.Unknown; k <= fault.Misconfigured; k++ {
		if k.String() == name {
			return k
		}
	}
	s.d.Fatalf(s.t, "no kind %q", name)
	return 0
}

func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString("  " + line)
	}
	return out.String()
}
