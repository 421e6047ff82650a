package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/savepoint"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// ask asks a running pipeline for a savepoint, which may take so long.
func (p *process) ask(name string, timeout time.Duration) (savepoint.Index, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return p.Savepoint(ctx, SavepointRequest{Name: name, By: "test"})
}

func (w *world) open(name string) *savepoint.Savepoint {
	w.t.Helper()
	s, err := savepoint.Open(context.Background(), savepoint.Place{Store: w.store, Pipeline: w.def.ID, Name: name})
	if err == nil {
		err = s.Verify(context.Background())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// elsewhere is another pipeline of the same source, with a store, a disk and targets of its own.
func (w *world) elsewhere(id string, steps ...step.Step) *world {
	other := newWorld(w.t)
	other.source, other.def.Source, other.def.ID = w.source, w.source, id
	other.withState(steps...)
	return other
}

// wantRefused checks kind and text of an error.
func wantRefused(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	if fault.KindOf(err) != kind || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v of kind %v, want kind %v with %q", err, fault.KindOf(err), kind, text)
	}
}

// A savepoint of a running pipeline waits until all of its checkpoint is committed. Nothing that it needs is deleted meanwhile, however
// many checkpoints come after it, and what waited for it is deleted then (I9).
func TestSavepoint_keepsWhatItCopies(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		w.def.Checkpoint.MaxPending = 100
		var stuck atomic.Bool
		var deletes atomic.Int64
		w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			if stuck.Load() {
				return sink.Retry, nil, errors.New("it is away")
			}
			return sink.Committed, nil, nil
		}
		w.faults = func(c storetest.Call) storetest.Fault {
			if c.Method == storetest.Delete {
				deletes.Add(1)
			}
			return storetest.None
		}
		p := w.boot()
		n := 0
		more := func(seconds int) {
			for range seconds {
				w.source.add("a", fmt.Sprint("k", n))
				n++
				time.Sleep(time.Second)
			}
		}
		more(10)
		stuck.Store(true)
		more(2)
		var index savepoint.Index
		var err error
		done := make(chan struct{})
		go func() {
			index, err = p.ask("one", time.Hour)
			close(done)
		}()
		more(2)
		before := deletes.Load()
		more(20)
		if now := deletes.Load(); now != before {
			t.Errorf("%d objects were deleted while a savepoint was being made", now-before)
		}
		select {
		case <-done:
			t.Fatalf("a savepoint is made of what is not committed: %+v, %v", index, err)
		default:
		}
		stuck.Store(false)
		<-done
		if err != nil {
			t.Fatal(err)
		}
		s := w.open("one")
		if got := s.Manifest.Sinks[0]; got.Checkpoint < 12 || got.Checkpoint > s.Checkpoint || len(got.Pending) > 0 {
			t.Errorf("the savepoint of checkpoint %d says of the sink %+v", s.Checkpoint, got)
		}
		if pos := s.Manifest.Positions(); pos[0].Offset < 12 || pos[0].Offset > 15 {
			t.Errorf("the savepoint stands at %d, want where it was asked for", pos[0].Offset)
		}
		more(5)
		if deletes.Load() == before {
			t.Error("nothing is collected after the savepoint")
		}
		wantEnd(t, p.finish(), machine.Done, "")
		if len(w.rows.texts()) != n {
			t.Errorf("%d rows, want %d", len(w.rows.texts()), n)
		}
	})
}

// holdingBack is a sink that says that it holds rows back.
type holdingBack struct {
	*table
	held func() (int64, error)
}

func (h holdingBack) Held([]byte) (int64, error) { return h.held() }

// When a sink still holds rows back at the savepoint's checkpoint, another is cut.
func TestSavepoint_waitsForRowsThatAreHeld(t *testing.T) {
	in(t, func(w *world) {
		asked := 0
		w.def.Sink = holdingBack{w.rows, func() (int64, error) {
			asked++
			return int64(max(0, 3-asked)), nil
		}}
		p := w.boot()
		time.Sleep(3 * time.Second)
		first, err := p.ask("one", time.Minute)
		if err != nil || asked != 3 {
			t.Fatalf("asked %d times: %+v, %v", asked, first, err)
		}
		second, err := p.ask("two", time.Minute)
		if err != nil || second.Checkpoint != first.Checkpoint+1 {
			t.Errorf("got %+v, %v, want the checkpoint after %d", second, err, first.Checkpoint)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		third, err := p.ask("three", time.Minute) // of what ended
		if err != nil || third.Checkpoint != w.newest().Checkpoint {
			t.Errorf("got %+v, %v, want the newest checkpoint, %d", third, err, w.newest().Checkpoint)
		}
	})
}

// A sink that can't tell what it holds is an answer, too, and the pipeline goes on.
func TestSavepoint_sinkCantTell(t *testing.T) {
	in(t, func(w *world) {
		w.def.Sink = holdingBack{w.rows, func() (int64, error) { return 0, fault.E("test", fault.Corrupt, errors.New("unreadable")) }}
		p := w.boot()
		time.Sleep(3 * time.Second)
		_, err := p.ask("one", time.Minute)
		wantRefused(t, err, fault.Corrupt, "unreadable")
		w.source.add("a", "x")
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.rows, "x")
	})
}

// Whatever ends first, who asked gets an answer: another savepoint is under way, the time is over, the run ends, the pipeline has ended.
func TestSavepoint_everyoneIsAnswered(t *testing.T) {
	in(t, func(w *world) {
		w.def.ShutdownTimeout = time.Second
		w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			return sink.Retry, nil, errors.New("it is away")
		}
		p := w.boot()
		w.source.add("a", "x")
		time.Sleep(3 * time.Second)
		errs := make([]error, 3)
		var wg sync.WaitGroup
		wg.Go(func() { _, errs[0] = p.ask("one", 10*time.Second) })
		time.Sleep(time.Second)
		_, errs[1] = p.ask("two", 10*time.Second)
		wg.Wait()
		wg.Go(func() { _, errs[2] = p.ask("three", time.Hour) })
		time.Sleep(5 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "stopped before every commit was done")
		wg.Wait()
		wantRefused(t, errs[0], fault.Transient, " is not committed by every sink: context deadline exceeded")
		wantRefused(t, errs[1], fault.Transient, "another savepoint of the pipeline is being made")
		wantRefused(t, errs[2], fault.Transient, "the run ended before the savepoint was made")
		_, err := p.ask("four", time.Hour) // the newest checkpoint is looked at
		wantRefused(t, err, fault.Misconfigured, "are not known committed")
		_, err = p.ask("../five", time.Hour)
		wantRefused(t, err, fault.Misconfigured, "can't be a savepoint's name")
		list, err := savepoint.List(t.Context(), w.store, "p")
		if err != nil || len(list) > 0 {
			t.Errorf("got %+v, %v, want none", list, err)
		}
	})
}

// State of many checkpoints, a base among its objects, goes on in another store, under another id, by another number of tasks.
func TestRestore_stateWithABaseInAnotherPlace(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		w.def.KeyGroups, w.def.StateLimits = 16, local.Limits{Deltas: 20}
		p := w.boot()
		const keys = 70
		for i := range keys {
			w.source.add([]string{"a", "b"}[i%2], fmt.Sprint("k", i))
			time.Sleep(time.Second)
		}
		if _, err := p.ask("one", time.Minute); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		s := w.open("one")
		kept, err := readKept(s.Manifest.State())
		if err != nil || len(kept.State.Bases) == 0 || len(kept.State.Deltas) == 0 {
			t.Fatalf("the savepoint has %d bases and %d deltas, %v: it is to have both", len(kept.State.Bases), len(kept.State.Deltas), err)
		}
		other := w.elsewhere("q", once())
		other.def.Tasks = 3
		q := RestoreRequest{From: s, Name: "one", Author: "test", FreshSinks: true, NewID: "q"}
		if _, err := Restore(t.Context(), other.def, other.env(), q); err != nil {
			t.Fatal(err)
		}
		if m := other.newest(); m.State().Groups != 16 || m.Author != "test" || !strings.Contains(m.Reason, "savepoint one, checkpoint") {
			t.Errorf("the manifest is of %q: %q, with %d key groups", m.Author, m.Reason, m.State().Groups)
		}
		for i := range keys + 5 {
			w.source.add("b", fmt.Sprint("k", i))
		}
		o := other.boot()
		time.Sleep(5 * time.Second)
		wantEnd(t, o.finish(), machine.Done, "")
		wantTexts(t, other.rows, "k70", "k71", "k72", "k73", "k74")
		_, err = Restore(t.Context(), other.def, other.env(), q)
		wantRefused(t, err, fault.Misconfigured, "has checkpoints already")
	})
}

// What a restore needs of a person, or of the config, it says before anything is claimed.
func TestRestore_refusesBeforeItClaims(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		p := w.boot()
		w.source.add("a", "x", "y")
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		if _, err := CreateSavepoint(t.Context(), w.def, w.env(), SavepointRequest{Name: "one"}); err != nil {
			t.Fatal(err)
		}
		s := w.open("one")
		p = w.boot()
		w.source.add("a", "z")
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		before := len(w.store.Objects())
		steps, groups := w.def.Steps, w.def.KeyGroups
		for what, change := range map[string]func(q *RestoreRequest){
			"are read again, and what was written":        func(*RestoreRequest) {},
			"a from 2 to 3: up to 1 records":              func(*RestoreRequest) {},
			"key groups, the config asks for 7":           func(*RestoreRequest) { w.def.KeyGroups = 7 },
			"fresh sinks need a pipeline ID of their own": func(q *RestoreRequest) { q.FreshSinks, q.NewID = true, "p" },
			`the pipeline is to have the ID "q"`:          func(q *RestoreRequest) { q.FreshSinks, q.NewID = true, "q" },
			`no split of topic "none"`:                    func(q *RestoreRequest) { q.Maps = []SplitMap{{MapTopic, "none", "a"}} },
		} {
			q := RestoreRequest{From: s, Name: "one"}
			w.def.Steps, w.def.KeyGroups = steps, groups
			change(&q)
			_, err := Restore(t.Context(), w.def, w.env(), q)
			wantRefused(t, err, fault.Misconfigured, what)
		}
		if now := len(w.store.Objects()); now != before {
			t.Errorf("%d objects, had %d: something was claimed", now, before)
		}
	})
}

// A savepoint without keyed state makes a pipeline that has some begin with none.
func TestRestore_withoutState(t *testing.T) {
	in(t, func(w *world) {
		p := w.boot()
		time.Sleep(3 * time.Second)
		if _, err := p.ask("one", time.Minute); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		s := w.open("one")
		w.withState(once())
		p = w.boot()
		w.source.add("a", "x", "x", "y")
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		done, err := Restore(t.Context(), w.def, w.env(), RestoreRequest{From: s, Name: "one", AcceptRepeats: true})
		if err != nil || len(done.Repeats) != 1 || done.Repeats[0] != (Repeat{Split: "a", From: 0, To: 3}) {
			t.Fatalf("got %+v, %v", done, err)
		}
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.rows, "x", "x", "y", "y")
	})
}

// Rows that were decided after the savepoint stay decided: what is pending is committed by the takeover, once.
func TestRestore_pendingCommitsStay(t *testing.T) {
	in(t, func(w *world) {
		w.def.ShutdownTimeout = time.Second
		p := w.boot()
		w.source.add("a", "x")
		time.Sleep(3 * time.Second)
		if _, err := p.ask("one", time.Minute); err != nil {
			t.Fatal(err)
		}
		w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			return sink.Retry, nil, errors.New("it is away")
		}
		w.source.add("a", "y")
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "stopped before every commit was done")
		_, err := CreateSavepoint(t.Context(), w.def, w.env(), SavepointRequest{Name: "two"})
		wantRefused(t, err, fault.Misconfigured, `1 committables of sink "sink" are not known committed`)
		if _, err := Restore(t.Context(), w.def, w.env(), RestoreRequest{From: w.open("one"), Name: "one", AcceptRepeats: true}); err != nil {
			t.Fatal(err)
		}
		w.rows.commit = nil
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.rows, "x", "y", "y")
	})
}

// Names of splits change by the first map that fits, with the shard's name and the event time that is kept of them.
func TestRestore_renamesSplits(t *testing.T) {
	shard := func(split string) checkpoint.Shard {
		return checkpoint.Shard{ID: split, Splits: []source.Split{{Position: source.Position{Split: split, Identity: "i", LeaderEpoch: 4}}}}
	}
	r := restore{
		def:  &Definition{Source: newTopic("z/0", "z/1"), Tables: []Table{{Step: "u", Source: newTopic("z/0")}}},
		q:    RestoreRequest{Maps: []SplitMap{{MapTopic, "b", "z"}, {MapPath, "/in", "/new/in/"}, {MapPath, "/x.txt", "/y.txt"}}},
		from: &checkpoint.Manifest{Shards: []checkpoint.Shard{shard("/in/1"), shard("/inn/1"), shard("/x.txt"), shard("a/0"), shard("b/0"), shard("b/1"), shard("bb/0"), shard("table:gone/b/0"), shard("table:u/b/0"), shard("table:v//in/2")}},
		kept: keptState{Times: []step.SplitTime{{Split: "a/0", Newest: 1}, {Split: "b/0", Newest: 2}}},
	}
	if err := r.renameSplits(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, sh := range r.shards {
		got = append(got, fmt.Sprint(sh.ID, " ", sh.Splits[0].Split, " ", sh.Splits[0].Identity, " ", sh.Splits[0].LeaderEpoch))
	}
	want := []string{
		"/inn/1 /inn/1 i 4", "/new/in/1 /new/in/1 i 4", "/y.txt /y.txt i 4", "a/0 a/0 i 4", "bb/0 bb/0 i 4", "table:gone/z/0 table:gone/z/0 i 4", "table:u/z/0 table:u/z/0 id -1",
		"table:v//new/in/2 table:v//new/in/2 i 4", "z/0 z/0 id -1", "z/1 z/1 id -1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if r.kept.Times[1].Split != "z/0" || r.from.Shards[4].Splits[0].Split != "b/0" {
		t.Errorf("the times are %+v, the savepoint's own splits %+v", r.kept.Times, r.from.Shards[4])
	}
}

// A checkpoint can be a savepoint's once later ones say that all of it is committed.
func TestSettled_byLaterManifests(t *testing.T) {
	entry := func(seq checkpoint.Seq, known record.Checkpoint, pending ...record.Checkpoint) Logged {
		m := checkpoint.Manifest{Checkpoint: record.Checkpoint(seq), Lease: 1, Sinks: []checkpoint.SinkState{{Name: "sink", Lease: 1, Checkpoint: known}}}
		for _, c := range pending {
			m.Sinks[0].Pending = append(m.Sinks[0].Pending, sink.Committable{Lease: 1, Checkpoint: c})
		}
		return Logged{Seq: seq, Entry: checkpoint.Entry{Manifest: &m}}
	}
	claim := Logged{Seq: 9, Entry: checkpoint.Entry{Claim: &checkpoint.Claim{}}}
	unreadable := Logged{Seq: 5, Err: fault.E("test", fault.Corrupt, errors.New("unreadable"))}
	def := &Definition{Sink: newTable()}
	for _, c := range []struct {
		what    string
		entries []Logged
		want    checkpoint.Seq
		seq     checkpoint.Seq
		known   record.Checkpoint
		refused string
	}{
		{"nothing pending", []Logged{entry(2, 2), claim}, 0, 2, 2, ""},
		{"the newest is not known", []Logged{entry(2, 1, 2)}, 0, 0, 0, "are not known committed"},
		{"known by a later one", []Logged{entry(2, 1, 2), entry(3, 2, 3)}, 2, 2, 2, ""},
		{"two pending, one known", []Logged{entry(3, 1, 2, 3), entry(4, 2, 3, 4)}, 3, 0, 0, "2 committables"},
		{"there is none", []Logged{claim}, 0, 0, 0, "no such checkpoint"},
		{"another number", []Logged{entry(2, 2)}, 3, 0, 0, "no such checkpoint"},
		{"an unreadable one above", []Logged{entry(2, 2), unreadable}, 0, 0, 0, "unreadable"},
		{"an unreadable one below", []Logged{unreadable, entry(6, 6)}, 6, 6, 6, ""},
	} {
		of, err := settled(def, c.entries, c.want)
		switch {
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: got %+v, %v, want %q", c.what, of, err, c.refused)
		case c.refused == "" && (err != nil || of.seq != c.seq || of.man.Sinks[0].Checkpoint != c.known || len(of.man.Sinks[0].Pending) > 0):
			t.Errorf("%s: got %+v, %v", c.what, of, err)
		}
	}
}

// Counts of a bounded input: a copy that goes on from a savepoint, taken anywhere on the way, by another number of tasks and through
// crashes of its own, ends with the counts of the undisturbed original.
func TestRestore_countsGoOnFromAnywhere(t *testing.T) {
	for round := range 6 {
		in(t, func(w *world) {
			random := rand.New(rand.NewPCG(uint64(round), 7))
			w.withState(slow{}, counts())
			w.source.bounded = true
			w.def.Tasks = 1 + round%3
			w.def.Checkpoint.Interval = 300 * time.Millisecond
			n := map[string]int{}
			for range 500 {
				text := fmt.Sprint("k", random.IntN(30))
				n[text]++
				w.source.add([]string{"a", "b"}[random.IntN(2)], text)
			}
			var want []string
			for text, count := range n {
				want = append(want, fmt.Sprint(text, " ", count))
			}
			p := w.boot()
			time.Sleep(time.Duration(200+random.IntN(2000)) * time.Millisecond)
			if _, err := p.ask("one", time.Minute); err != nil {
				t.Fatal(err)
			}
			wantEnd(t, p.end(), machine.Done, "")
			wantTexts(t, w.rows, want...)
			s := w.open("one")
			other := w.elsewhere("q", slow{}, counts())
			other.def.Tasks = 1 + random.IntN(4)
			if _, err := Restore(t.Context(), other.def, other.env(), RestoreRequest{From: s, Name: "one", FreshSinks: true, NewID: "q"}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				o := other.boot()
				time.Sleep(time.Duration(100+random.IntN(900)) * time.Millisecond)
				o.crash()
			}
			wantEnd(t, other.boot().end(), machine.Done, "")
			wantTexts(t, other.rows, want...)
			if read := other.newest().Counters.Stages[0].In; read != 500 {
				t.Errorf("the copy counts %d records, want those of the savepoint and its own, 500", read)
			}
			t.Logf("round %d: the savepoint counts %d of 500 records", round, s.Manifest.Counters.Stages[0].In)
		})
	}
}
