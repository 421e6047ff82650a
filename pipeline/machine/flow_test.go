package machine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// flow is a plain driver with a perfect store and perfect sinks: every effect is done at once and answered in order. Its input
// is two splits of named records, a0 a1 … and b0 b1 …, each owned by one task.
type flow struct {
	t       *testing.T
	cfg     Config
	m       *Machine
	log     map[checkpoint.Seq][]byte
	records int        // of each split
	targets [][]string // names of the rows of each sink, in order of effect
	done    []map[string]bool
	refuse  string // a record that the first sink refuses
	outcome func(i int, c sink.Committable) (sink.Outcome, bool)
	every   int // records that a task gives to one checkpoint
	pos     [2]int
	stop    *Stop
	letters []string
	segment uint64
	deleted []string
	held    []Event // answers that a test keeps back
	hold    func(Effect) bool
	keyed   func() *checkpoint.KeyedState       // after each checkpoint; nil: there is none
	before  func(Event)                         // looks at each event before it is sent
	edit    func(*checkpoint.Manifest)          // of a change by hand
	route   func(task int, rows int64, p *Part) // gives a part's rows to several sinks; nil: they go to the first one
	// collects names sinks that keep rows over checkpoints, in collected, until the last one.
	collects  map[int]bool
	collected map[int][]string
}

func newFlow(t *testing.T, cfg Config) *flow {
	t.Helper()
	f := &flow{t: t, log: map[checkpoint.Seq][]byte{}, records: 4, every: 1, targets: make([][]string, len(cfg.Sinks))}
	for range cfg.Sinks {
		f.done = append(f.done, map[string]bool{})
	}
	f.restart(cfg)
	return f
}

func flowConfig() Config {
	return Config{
		StoreID: "store", Pipeline: "p", Nonce: "n1", Stages: []string{"source", "sink:main"}, Sinks: []string{"main", "dead_letter"},
		DeadLetter: 1, Tasks: 2, MaxPending: 2, Keep: 2,
	}
}

// restart makes a new run on the same store and sinks; what the last one had under way is gone.
func (f *flow) restart(cfg Config) {
	f.cfg, f.m, f.stop, f.held, f.letters = cfg, New(cfg), nil, nil, nil
}

// send gives the machine each event and does what follows until nothing is left to do.
func (f *flow) send(events ...Event) {
	f.t.Helper()
	for _, ev := range events {
		f.settle(ev)
	}
}

func (f *flow) settle(events ...Event) {
	f.t.Helper()
	for len(events) > 0 {
		ev := events[0]
		events = events[1:]
		if f.before != nil {
			f.before(ev)
		}
		for _, e := range f.m.Step(1000, ev) {
			answers := f.do(e)
			if f.hold != nil && f.hold(e) {
				f.held = append(f.held, answers...)
				continue
			}
			events = append(events, answers...)
		}
	}
}

// run begins and checkpoints until all records are read, then ends.
func (f *flow) run() {
	f.t.Helper()
	f.send(Started{})
	for f.stop == nil && f.pos != [2]int{f.records, f.records} {
		before := f.pos
		f.send(TimerFired{Timer{Kind: TimerInterval}})
		if f.pos == before && f.stop == nil {
			f.t.Fatalf("no progress at %v in phase %d", f.pos, f.m.phase)
		}
	}
	f.send(InputEnded{})
}

func (f *flow) do(e Effect) []Event {
	f.t.Helper()
	switch e := e.(type) {
	case List:
		var last checkpoint.Seq
		for seq := range f.log {
			last = max(last, seq)
		}
		return []Event{Listed{For: e.For, Last: last}}
	case Get:
		return []Event{f.get(e)}
	case Create:
		return []Event{f.create(e)}
	case FenceSink:
		return []Event{SinkFenced{Sink: e.Sink, OK: true}}
	case Commit:
		return []Event{f.commit(e)}
	case Replace:
		rows := slices.DeleteFunc(names(e.Committable), func(s string) bool { return s == f.refuse })
		f.letters = append(f.letters, f.refuse)
		by := f.committable(e.Committable.Lease, e.Committable.Checkpoint, rows)
		by.Unit = e.Unit
		return []Event{ReplaceDone{Sink: e.Sink, OK: true, By: by}}
	case Discover:
		return []Event{f.discover(e)}
	case Barrier:
		return []Event{f.part(e.Cut, 1), f.part(e.Cut, 0)}
	case Letters:
		parts := make([]sink.Part, len(f.cfg.Sinks))
		parts[1] = f.prepared(f.letters)
		f.letters = nil
		return []Event{PartDone{Checkpoint: e.Cut.Checkpoint, Part: Part{Task: f.cfg.Tasks, Sinks: parts}}}
	case Assemble:
		return []Event{f.assemble(e)}
	case Run:
		for _, sp := range e.Splits {
			f.pos[sp.Split[0]-'a'] = int(sp.Offset)
		}
	case Collect:
		return f.collect(e)
	case SetTimer:
		if e.Timer.Kind != TimerInterval && e.Timer.Kind != TimerDiscovery {
			return []Event{TimerFired{e.Timer}}
		}
	case Edit:
		man := e.Head
		man.Author, man.Reason = "me", "test"
		if f.edit != nil {
			f.edit(&man)
		}
		return []Event{Edited{OK: true, Manifest: man}}
	case Stop:
		f.stop = &e
	case AddSplits, Published, Settled, Sweep:
	}
	return nil
}

func (f *flow) get(e Get) Event {
	data, ok := f.log[e.Seq]
	if !ok {
		return Got{For: e.For, Seq: e.Seq}
	}
	entry, err := checkpoint.Decode(data)
	if err != nil {
		f.t.Fatal(err)
	}
	return Got{For: e.For, Seq: e.Seq, Found: true, Entry: entry}
}

func (f *flow) create(e Create) Event {
	f.t.Helper()
	data, err := checkpoint.Encode(e.Entry)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, ok := f.log[e.Seq]; ok {
		return Created{For: e.For, Seq: e.Seq, Result: CreateExists}
	}
	f.log[e.Seq] = data
	return Created{For: e.For, Seq: e.Seq, Result: CreateDone}
}

func (f *flow) commit(e Commit) Event {
	c := e.Committable
	if f.outcome != nil {
		if o, ok := f.outcome(e.Sink, c); ok {
			return CommitDone{Sink: e.Sink, Outcome: o}
		}
	}
	name := fmt.Sprintf("%d/%d/%d", c.Lease, c.Checkpoint, c.Unit)
	if f.done[e.Sink][name] {
		return CommitDone{Sink: e.Sink, Outcome: sink.Committed}
	}
	if i := slices.Index(names(c), f.refuse); e.Sink == 0 && i >= 0 {
		return CommitDone{Sink: e.Sink, Outcome: sink.Rejected, Rows: []int64{int64(i)}, Text: f.refuse + " is refused"}
	}
	f.done[e.Sink][name] = true
	f.targets[e.Sink] = append(f.targets[e.Sink], names(c)...)
	return CommitDone{Sink: e.Sink, Outcome: sink.Committed}
}

func (f *flow) discover(e Discover) Event {
	ev := Discovered{OK: true}
	for _, name := range []string{"a", "b"} {
		if !slices.ContainsFunc(e.Known, func(s source.Split) bool { return s.Split == name }) {
			ev.Splits = append(ev.Splits, f.split(name, 0))
		}
	}
	return ev
}

func (f *flow) split(name string, at int) source.Split {
	return source.Split{
		Position: source.Position{Split: name, Offset: record.Offset(at), LeaderEpoch: record.NoLeaderEpoch},
		Until:    record.Offset(f.records), Finished: at == f.records,
	}
}

func (f *flow) part(cut sink.Cut, task int) Event {
	name := string(rune('a' + task))
	from := f.pos[task]
	f.pos[task] = min(f.records, from+f.every)
	var rows []string
	for i := from; i < f.pos[task]; i++ {
		rows = append(rows, fmt.Sprintf("%s%d", name, i))
	}
	n := int64(len(rows))
	var keyed *checkpoint.KeyedState
	if f.keyed != nil && task == 0 {
		keyed = f.keyed()
	}
	p := Part{
		Task: task, State: keyed, Splits: []source.Split{f.split(name, f.pos[task])},
		Stages: []checkpoint.StageCount{{Stage: "source", In: n, Passed: n}, {Stage: "sink:main", In: n, Passed: n}},
		Sinks:  []sink.Part{f.prepared(rows), {}},
	}
	if f.route != nil {
		f.route(task, n, &p)
	}
	return PartDone{Checkpoint: cut.Checkpoint, Part: p}
}

func (f *flow) prepared(rows []string) sink.Part {
	if len(rows) == 0 {
		return sink.Part{}
	}
	return sink.Part{Rows: int64(len(rows)), Data: []byte(strings.Join(rows, " ")), Segments: []sink.Segment{f.newSegment(rows)}}
}

func (f *flow) newSegment(rows []string) sink.Segment {
	f.segment++
	return sink.Segment{Name: checkpoint.SegmentName(0, max(1, f.m.Lease()), f.segment), Rows: int64(len(rows))}
}

func (f *flow) assemble(e Assemble) Event {
	done := AssembleDone{Checkpoint: e.Cut.Checkpoint}
	for n, parts := range e.Parts {
		i := e.Sinks[n]
		rows := f.collected[i]
		var a sink.Assembled
		for _, p := range parts {
			rows = append(rows, strings.Fields(string(p.Data))...)
		}
		if f.collects[i] && !e.Cut.Final {
			f.collected, rows = map[int][]string{i: rows}, nil
		} else {
			delete(f.collected, i)
		}
		if len(rows) > 0 {
			a.Committables = []sink.Committable{f.committable(e.Cut.Lease, e.Cut.Checkpoint, rows)}
		}
		done.Results = append(done.Results, a)
	}
	return done
}

func (f *flow) committable(l record.Lease, n record.Checkpoint, rows []string) sink.Committable {
	c := sink.Committable{Lease: l, Checkpoint: n, Rows: int64(len(rows)), Data: []byte(strings.Join(rows, " "))}
	if len(rows) > 0 {
		c.Segments = []sink.Segment{f.newSegment(rows)}
	}
	return c
}

func names(c sink.Committable) []string { return strings.Fields(string(c.Data)) }

func (f *flow) collect(e Collect) []Event {
	var events []Event
	for _, seq := range e.Manifests {
		delete(f.log, seq)
		events = append(events, Deleted{seq})
	}
	f.deleted = append(append(f.deleted, e.Segments...), e.State...)
	return events
}

// newest returns the newest manifest in the log.
func (f *flow) newest() *checkpoint.Manifest {
	f.t.Helper()
	for seq := checkpoint.Seq(100); seq > 0; seq-- {
		if data, ok := f.log[seq]; ok {
			e, err := checkpoint.Decode(data)
			if err != nil {
				f.t.Fatal(err)
			}
			if e.Manifest != nil {
				return e.Manifest
			}
		}
	}
	f.t.Fatal("no manifest in the log")
	return nil
}

// wantEnd checks how the run ended, what the sinks hold and that nothing is pending.
func (f *flow) wantEnd(main, letters string) {
	f.t.Helper()
	if f.stop == nil || f.stop.Reason != Done {
		f.t.Fatalf("got end %+v in phase %d, want done", f.stop, f.m.phase)
	}
	for i, want := range []string{main, letters} {
		got := slices.Sorted(slices.Values(f.targets[i]))
		if strings.Join(got, " ") != want {
			f.t.Errorf("sink %d has %q, want %q", i, strings.Join(got, " "), want)
		}
	}
	man := f.newest()
	for _, s := range man.Sinks {
		if len(s.Pending) > 0 {
			f.t.Errorf("the closing manifest lists %v of sink %s", s.Pending, s.Name)
		}
	}
	if got, want := man.Counters.Stages[0].In, int64(2*f.records); got != want {
		f.t.Errorf("the counters say %d records, want %d", got, want)
	}
	if got, want := man.Counters.DeadLetters, int64(len(f.targets[1])); got != want {
		f.t.Errorf("the counters say %d dead letters, want %d", got, want)
	}
}

const allRows = "a0 a1 a2 a3 b0 b1 b2 b3"

func TestMachine_commitsEveryRecordOnce(t *testing.T) {
	for _, alo := range []bool{false, true} {
		for _, refuse := range []string{"", "a0", "a3"} {
			t.Run(fmt.Sprintf("alo %v refuse %q", alo, refuse), func(t *testing.T) {
				cfg := flowConfig()
				cfg.AtLeastOnce = alo
				f := newFlow(t, cfg)
				f.refuse = refuse
				f.run()
				rest := strings.TrimSpace(strings.ReplaceAll(allRows+" ", refuse+" ", ""))
				if refuse == "" {
					rest = allRows
				}
				f.wantEnd(rest, refuse)
			})
		}
	}
}

// The run dies with a decided checkpoint, before or after its effect: its successor commits it from what the manifest lists,
// and nothing twice.
func TestMachine_successorCommitsWhatIsPending(t *testing.T) {
	for _, effect := range []bool{false, true} {
		t.Run(fmt.Sprintf("effect %v", effect), func(t *testing.T) {
			f := newFlow(t, flowConfig())
			f.hold = func(e Effect) bool { // the answer never comes
				_, ok := e.(Commit)
				return ok
			}
			f.outcome = func(int, sink.Committable) (sink.Outcome, bool) { return sink.Unknown, !effect }
			f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}})
			if n := len(f.newest().Sinks[0].Pending); n != 1 {
				t.Fatalf("got %d pending, want 1", n)
			}
			cfg := flowConfig()
			cfg.Nonce = "n2"
			f.hold, f.outcome = nil, nil
			f.restart(cfg)
			f.run()
			f.wantEnd(allRows, "")
			if f.m.Lease() != 2 {
				t.Errorf("got lease %d, want 2", f.m.Lease())
			}
		})
	}
}

func TestMachine_newerClaimFencesAtPublish(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}})
	old, cfg := f.m, flowConfig()
	cfg.Nonce = "n2"
	f.restart(cfg)
	f.send(Started{})
	successor := f.m
	f.m = old
	f.send(TimerFired{Timer{Kind: TimerInterval}})
	if f.stop == nil || f.stop.Reason != StoppedFenced {
		t.Fatalf("got end %+v, want fenced", f.stop)
	}
	f.m, f.stop, f.pos = successor, nil, [2]int{1, 1}
	for range 3 {
		f.send(TimerFired{Timer{Kind: TimerInterval}})
	}
	f.send(InputEnded{})
	f.wantEnd(allRows, "")
}

func TestMachine_gracefulStopClosesTheLog(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}}, Requested{StopGracefully})
	if f.stop == nil || f.stop.Reason != Done {
		t.Fatalf("got end %+v, want done", f.stop)
	}
	if p := f.newest().Sinks[0].Pending; len(p) > 0 {
		t.Errorf("the closing manifest lists %v", p)
	}
	if got := strings.Join(f.targets[0], " "); got != "a0 b0 a1 b1" {
		t.Errorf("sink has %q", got)
	}
}

func TestMachine_offlineEditPublishesUnderItsOwnLease(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}}, Requested{StopGracefully})
	before := f.newest()
	cfg := flowConfig()
	cfg.Nonce, cfg.Offline = "n2", true
	f.restart(cfg)
	f.send(Started{})
	after := f.newest()
	if f.stop == nil || f.stop.Reason != Done || after.Author != "me" || after.Lease != before.Lease+1 || after.Checkpoint != before.Checkpoint+1 {
		t.Errorf("got end %+v and manifest %+v", f.stop, after)
	}
}

// A refused row needs a manifest before anything else is sent to its sink: a full backlog must not keep that manifest back.
func TestMachine_replacementIsPublishedThoughTheBacklogIsFull(t *testing.T) {
	cfg := flowConfig()
	cfg.MaxPending = 1
	f := newFlow(t, cfg)
	f.refuse = "a0"
	f.run()
	f.wantEnd("a1 a2 a3 b0 b1 b2 b3", "a0")
}

// What exactly-once has decided and the target then refuses is published before it is committed, also when the pipeline goes
// on as at-least-once: else a crash would lose the dead letters.
func TestMachine_atLeastOnceInheritsWhatIsPending(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.hold = func(e Effect) bool {
		_, ok := e.(SetTimer)
		return ok
	}
	f.outcome = func(int, sink.Committable) (sink.Outcome, bool) { return sink.Unknown, true }
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}})
	cfg := flowConfig()
	cfg.Nonce, cfg.AtLeastOnce = "n2", true
	f.hold, f.outcome, f.refuse = nil, nil, "b0"
	f.restart(cfg)
	f.run()
	f.wantEnd("a0 a1 a2 a3 b1 b2 b3", "b0")
}

// A run that was taken over must not restart in the process: it would take the lane back.
func TestMachine_failureOfATakenOverRunIsFenced(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Unknown, fault.Transient, fault.Fenced, fault.Lost} {
		f := newFlow(t, flowConfig())
		f.send(Started{})
		old := f.m
		f.send(Failed{Kind: kind, Text: "task 0"})
		if want := reasonOfFailure(kind); f.stop == nil || f.stop.Reason != want {
			t.Errorf("%v alone: got end %+v, want %v", kind, f.stop, want)
		}
		cfg := flowConfig()
		cfg.Nonce = "n2"
		f.restart(cfg)
		f.send(Started{})
		f.m = old
		*old = *New(flowConfig())
		old.phase, old.lease = running, 1
		f.send(Failed{Kind: kind, Text: "task 0"})
		if f.stop == nil || f.stop.Reason != StoppedFenced {
			t.Errorf("%v below a newer claim: got end %+v, want fenced", kind, f.stop)
		}
	}
}

// The owner looks at its log while it publishes and collects. At the number that List gave stands, when it is read, another run's
// claim: it fell into a number that is collected meanwhile, and counts for nobody.
func TestMachine_lookIgnoresAClaimThatFell(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.hold = func(e Effect) bool {
		_, ok := e.(Commit)
		return ok
	}
	f.outcome = func(int, sink.Committable) (sink.Outcome, bool) { return sink.Fenced, true }
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}})
	seq := f.m.next
	f.m.Step(0, f.held[0])
	f.m.Step(0, Listed{For: ForProbe, Last: seq}) // its own next manifest, which lands before it is told so
	f.send(TimerFired{Timer{Kind: TimerInterval}})
	effects := f.m.Step(0, Got{For: ForProbe, Seq: seq, Found: true, Entry: checkpoint.Entry{Claim: &checkpoint.Claim{Lease: 2, Nonce: "other"}}})
	want := []Effect{SetTimer{Timer: Timer{Kind: TimerFence}}}
	if diff := cmp.Diff(want, effects); diff != "" {
		t.Errorf("the owner of the lane, number %d published (-want +got):\n%s", seq, diff)
	}
}

// Objects of keyed state are collected when no kept manifest names them any more, and not before (I9): here one object is new in
// every checkpoint, the one before is dropped, and two manifests are kept.
func TestMachine_collectsStateWithTheLastManifestThatNamesIt(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.records, f.every = 6, 1
	object := func(n int) string { return fmt.Sprintf("state/0/1/%04d", n) }
	made := 0
	f.keyed = func() *checkpoint.KeyedState {
		made++
		return &checkpoint.KeyedState{Groups: 4, Version: 1, Objects: []string{object(made)}}
	}
	f.before = func(Event) {
		for seq := range f.log {
			for _, name := range f.stateOf(seq) {
				if slices.Contains(f.deleted, name) {
					t.Fatalf("%s is collected, and the kept manifest %d names it", name, seq)
				}
			}
		}
	}
	f.run()
	if made < 6 {
		t.Fatalf("%d checkpoints", made)
	}
	for n := 1; n <= made; n++ {
		if got, want := slices.Contains(f.deleted, object(n)), n <= made-2; got != want {
			t.Errorf("%s of %d: collected %t, want %t", object(n), made, got, want)
		}
	}
}

// stateOf returns the objects of keyed state that a manifest in the log names.
func (f *flow) stateOf(seq checkpoint.Seq) []string {
	e, err := checkpoint.Decode(f.log[seq])
	if err != nil {
		f.t.Fatal(err)
	}
	if e.Manifest == nil || e.Manifest.State() == nil {
		return nil
	}
	return e.Manifest.State().Objects
}
