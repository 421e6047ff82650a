package pipeline

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// hang waits for the end of ctx, as a call to something that never answers.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return fault.E("test", fault.Unknown, context.Cause(ctx))
}

func never(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	return sink.Unknown, nil, hang(ctx)
}

// A failure that may pass is gone past by recovery, with pauses that grow up to their bound, and without end. What was read is
// in the table once.
func TestSupervisor_goesOnAfterFailures(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var mu sync.Mutex
		var times []time.Time
		failures := 12
		w.source.poll = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if times = append(times, time.Now()); len(times) <= failures {
				return fault.E("source.Poll", fault.Transient, errors.New("broker gone"))
			}
			return nil
		}
		p := w.boot()
		w.source.add("a", "1", "2")
		time.Sleep(20 * time.Second)
		if st := p.Status(); st.State != Restarting || st.Ready() || !strings.Contains(st.Text, "broker gone") {
			t.Errorf("while it is down: %+v", st)
		}
		time.Sleep(3 * time.Minute)
		if st := p.Status(); !st.Ready() {
			t.Errorf("after it came back: %+v", st)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.rows, "1", "2")
		most := w.def.Restart.Initial
		for i := 1; i <= failures; i++ {
			if pause := times[i].Sub(times[i-1]); pause < most/2 || pause > most+time.Second {
				t.Errorf("pause %d: %s, want between %s and %s", i, pause, most/2, most)
			}
			most = min(2*most, w.def.Restart.Max)
		}
		w.wantMetric("ingestd_pipeline_restarts_total", `ingestd_pipeline_restarts_total{pipeline="p",reason="failure"} 12`)
	}, "a")
}

// One pipeline that is down takes nothing from the others.
func TestSupervisor_otherPipelinesRunOn(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		other := newWorld(t, "a")
		w.source.poll = func(string) error { return fault.E("source.Poll", fault.Transient, errors.New("broker gone")) }
		w.source.add("a", "1")
		p, q := w.boot(), other.boot()
		for n := range 60 {
			other.source.add("a", fmt.Sprint(n))
			time.Sleep(time.Second)
			if st := q.Status(); n > 1 && !st.Ready() {
				t.Fatalf("second %d: the other pipeline is %+v", n, st)
			}
		}
		wantEnd(t, q.finish(), machine.Done, "")
		if n := len(other.rows.texts()); n != 60 {
			t.Errorf("the other pipeline wrote %d of 60 records", n)
		}
		wantEnd(t, p.finish(), machine.Restart, "broker gone")
	}, "a")
}

// restart.limit counts failures without a checkpoint between them.
func TestSupervisor_restartLimit(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Restart.Limit = 3
		var down atomic.Bool
		w.source.poll = func(string) error {
			if down.Load() {
				return fault.E("source.Poll", fault.Transient, errors.New("broker gone"))
			}
			return nil
		}
		p := w.boot()
		for n := range 10 { // each failure is followed by a checkpoint
			down.Store(true)
			w.source.add("a", fmt.Sprint(n))
			time.Sleep(500 * time.Millisecond)
			down.Store(false)
			time.Sleep(10 * time.Second)
		}
		if st := p.Status(); !st.Ready() {
			t.Fatalf("got %+v, want running", st)
		}
		down.Store(true)
		w.source.add("a", "last")
		wantEnd(t, p.end(), machine.StoppedByRule, "restart.limit of 3 is reached: task")
		if st := p.Status(); st.State != Down || st.Ready() {
			t.Errorf("got %+v, want stopped", st)
		}
	}, "a")
}

// A run that takes long to fail has made no progress by that: the limit counts it, and the pause grows.
func TestSupervisor_slowFailuresCount(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Restart.Limit = 3
		w.rows.inspect = func() (sink.Inspection, error) {
			time.Sleep(time.Minute)
			return sink.Inspection{}, fault.E("table.Inspect", fault.Transient, errors.New("i/o timeout"))
		}
		wantEnd(t, w.boot().end(), machine.StoppedByRule, "restart.limit of 3 is reached")
	})
}

// A panic in a task ends the run, not the process; the third within ten minutes ends the pipeline.
func TestSupervisor_panicInATaskGoesThroughRecovery(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var boom atomic.Bool
		w.rows.write = func(context.Context, []row) error {
			if boom.Swap(false) {
				panic("out of luck")
			}
			return nil
		}
		p := w.boot()
		fail := func() {
			boom.Store(true)
			w.source.add("a", "x")
			time.Sleep(20 * time.Second)
		}
		time.Sleep(time.Hour) // the time of a panic counts, not that of the run's start
		fail()
		fail()
		if st := p.Status(); !st.Ready() || len(w.log.lines("task panics", "out of luck", "supervisor_test.go")) != 2 {
			t.Fatalf("after two panics: %+v, want running, and two lines with the stack:\n%s", st, w.log.lines("panic"))
		}
		time.Sleep(10 * time.Minute)
		fail()
		fail()
		if st := p.Status(); !st.Ready() {
			t.Fatalf("after two more panics, ten minutes later: %+v", st)
		}
		boom.Store(true)
		w.source.add("a", "x")
		wantEnd(t, p.end(), machine.StoppedByRule, "panic number 3 in 10m0s: task")
		wantTexts(t, w.rows, "x", "x", "x", "x")
		w.wantMetric("ingestd_pipeline_restarts_total", `ingestd_pipeline_restarts_total{pipeline="p",reason="panic"} 4`)
	}, "a")
}

// What only a person can mend stops at once; the result has the reason, and the error when there was no run.
func TestSupervisor_stopsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(w *world)
		reason machine.Reason
		text   string
	}{
		{"input is lost", func(w *world) {
			w.source.poll = func(string) error {
				return fault.WithRemedy("source.Poll", fault.Lost, errors.New("offset 7 is gone"), "offsets set")
			}
		}, machine.StoppedLost, "offset 7 is gone\n  next: offsets set"},
		{"a stored entry is broken", func(w *world) {
			w.crashOnce()
			for name, data := range w.store.Objects() {
				if strings.Contains(name, "/log/") {
					data[len(data)/2] ^= 1
				}
			}
		}, machine.StoppedCorrupt, "log entry p/log/0/"},
		{"a sink is misconfigured", func(w *world) {
			w.rows.inspect = func() (sink.Inspection, error) {
				return sink.Inspection{}, fault.E("table.Inspect", fault.Misconfigured, errors.New("no such table"))
			}
		}, machine.StoppedMisconfigured, "no such table"},
		{"a fence is misconfigured", func(w *world) {
			w.rows.fence = func() error { return fault.E("table.Fence", fault.Misconfigured, errors.New("no grant")) }
		}, machine.StoppedMisconfigured, "no grant"},
		{"the guarantee can't hold", func(w *world) { w.rows.caps.ExactlyOnce = false }, machine.StoppedMisconfigured, "exactly-once can't hold"},
		{"a committable is lost", func(w *world) {
			w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
				return sink.Lost, nil, fault.E("table.Commit", fault.Lost, errors.New("the file is gone"))
			}
		}, machine.StoppedLost, "checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(w *world) {
				t := w.t
				w.source.add("a", "1")
				c.spoil(w)
				p := w.boot()
				res := p.end()
				wantEnd(t, res, c.reason, c.text)
				if st := p.Status(); st.State != Down || st.Ready() || st.Text != res.Text {
					t.Errorf("got status %+v, want stopped for %q", st, res.Text)
				}
				if guarantee := strings.Contains(c.name, "guarantee"); guarantee != errors.Is(res.Err, ErrGuarantee) {
					t.Errorf("got error %v", res.Err)
				}
				if n := len(w.log.lines("goes on by recovery")); n > 0 {
					t.Errorf("it was restarted %d times", n)
				}
				if w.source.opens > 0 && c.text == "exactly-once can't hold" {
					t.Error("a pipeline whose guarantee can't hold was started")
				}
			})
		})
	}
}

// crashOnce runs the pipeline for a while and ends it at once.
func (w *world) crashOnce() {
	p := w.boot()
	<-time.After(5 * time.Second)
	p.crash()
}

// A run that finds a newer claim stops and is not restarted: two that restart would fence each other for ever.
func TestSupervisor_fencedRunStaysDown(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		old := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		young := w.boot()
		for n := range 5 {
			w.source.add("a", fmt.Sprint("more", n))
			time.Sleep(time.Second)
		}
		wantEnd(t, old.end(), machine.StoppedFenced, "newer run")
		if st := young.Status(); !st.Ready() {
			t.Errorf("the newer run is %+v", st)
		}
		wantEnd(t, young.finish(), machine.Done, "")
		wantTexts(t, w.rows, "1", "more0", "more1", "more2", "more3", "more4")
	}, "a")
}

// A graceful stop waits for commits as long as shutdown_timeout says, names what is left, and the next start finishes it.
func TestSupervisor_gracefulStopNamesWhatIsLeft(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.rows.commit = never
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		w.source.add("a", "2")
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		res := p.finish()
		wantEnd(t, res, machine.Done, "stopped before every commit was done")
		if took := time.Since(began); took != w.def.ShutdownTimeout {
			t.Errorf("it took %s, want shutdown_timeout, %s", took, w.def.ShutdownTimeout)
		}
		if len(res.Pending) != 1 || res.Pending[0].Name != MainSink || len(res.Pending[0].Committables) != 2 {
			t.Errorf("left to commit: %+v, want both committables of the sink", res.Pending)
		}
		wantTexts(t, w.rows)
		w.rows.commit = nil
		q := w.boot()
		time.Sleep(2 * time.Second)
		wantEnd(t, q.finish(), machine.Done, "every record is committed")
		wantTexts(t, w.rows, "1", "2")
	}, "a")
}

// A graceful stop takes a final checkpoint of what was read, however short before.
func TestSupervisor_gracefulStopTakesAFinalCheckpoint(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Checkpoint.Interval = time.Hour
		p := w.boot()
		time.Sleep(time.Second)
		w.source.add("a", "1", "malformed")
		time.Sleep(time.Millisecond)
		wantEnd(t, p.finish(), machine.Done, "every record is committed")
		wantTexts(t, w.rows, "1")
		wantTexts(t, w.letters, "it is malformed")
		if p.Stop(); !p.Status().Ready() || p.Status().State != Finished {
			t.Errorf("got %+v, want done", p.Status())
		}
	}, "a")
}

// Whatever a pipeline does when it is told to stop, it ends, and says nothing that is not so.
func TestSupervisor_stopsWhereverItIs(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(w *world)
		reason machine.Reason
		text   string
	}{
		{"a look at the target hangs", func(w *world) {
			w.def.Sink = hangingSink{w.rows}
		}, machine.Done, "stopped before it ran"},
		{"the store does not answer", func(w *world) {
			w.faults = func(storetest.Call) storetest.Fault { return storetest.Refused }
		}, machine.Restart, "checkpoint store"},
		{"the log does not answer", func(w *world) {
			w.faults = func(c storetest.Call) storetest.Fault {
				if c.Method == storetest.List && c.Name == checkpoint.LogPrefix("p", 0) {
					return storetest.Refused
				}
				return storetest.None
			}
		}, machine.Done, "stopped before it ran"},
		{"a fence is not done", func(w *world) {
			w.rows.fence = func() error { return fault.E("table.Fence", fault.Transient, errors.New("connection refused")) }
		}, machine.Done, "stopped before it ran"},
		{"it waits to be restarted", func(w *world) {
			w.source.poll = func(string) error { return fault.E("source.Poll", fault.Transient, errors.New("broker gone")) }
		}, machine.Restart, "broker gone; it was told to end"},
		{"the final checkpoint fails", func(w *world) {
			w.def.Checkpoint.Interval = time.Hour
			w.rows.prepare = func(context.Context, int) error {
				return fault.E("table.Prepare", fault.Transient, errors.New("disk full"))
			}
		}, machine.Restart, "disk full; it was told to end"},
		{"a writer hangs", func(w *world) {
			w.rows.write = func(ctx context.Context, _ []row) error { return hang(ctx) }
		}, machine.Done, "stopped before every commit was done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(w *world) {
				t := w.t
				c.spoil(w)
				w.source.add("a", "1")
				p := w.boot()
				time.Sleep(3 * time.Second)
				began := time.Now()
				wantEnd(t, p.finish(), c.reason, c.text)
				if took := time.Since(began); took > w.def.ShutdownTimeout {
					t.Errorf("it took %s, more than shutdown_timeout", took)
				}
			})
		})
	}
}

// hangingSink never answers a look.
type hangingSink struct{ *table }

func (hangingSink) Inspect(ctx context.Context, _ sink.Identity) (sink.Inspection, error) {
	return sink.Inspection{}, hang(ctx)
}

// A sink that obeys no cancellation does not keep a stopped pipeline from ending; it is named.
func TestSupervisor_stopDoesNotWaitForTheDeaf(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		answer := make(chan struct{})
		defer close(answer)
		w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			<-answer
			return sink.Unknown, nil, nil
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		began := time.Now()
		wantEnd(t, p.finish(), machine.Done, "stopped before every commit was done")
		if took := time.Since(began); took > w.def.ShutdownTimeout+closeTimeout {
			t.Errorf("it took %s", took)
		}
		if got := w.log.lines("is left behind", "sink sink since", "commit of checkpoint 2"); len(got) != 1 {
			t.Errorf("got %q, want one line that names the sink", got)
		}
	}, "a")
}

// The end of the context is as a crash: at once, and no success.
func TestSupervisor_endAtOnceIsNoSuccess(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.rows.commit = never
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		p.Stop()
		time.Sleep(time.Second)
		began := time.Now()
		p.cancel()
		wantEnd(t, p.end(), machine.Restart, "ended at once")
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
	}, "a")
}

// The states are in the metrics, one of them 1, and the guarantee.
func TestSupervisor_stateIsAMetric(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		state := func() string {
			for _, line := range w.metric("ingestd_pipeline_state{") {
				if strings.HasSuffix(line, " 1") {
					return line
				}
			}
			return "none"
		}
		NewSupervisor(w.def, w.env())
		if got := state(); !strings.Contains(got, `state="starting"`) {
			t.Errorf("got %s, want starting", got)
		}
		p := w.boot()
		time.Sleep(5 * time.Second)
		if got := state(); !strings.Contains(got, `state="running"`) {
			t.Errorf("got %s, want running", got)
		}
		if got := w.metric("ingestd_guarantee_info{"); len(got) != 1 || !strings.Contains(got[0], "exactly-once: each record") {
			t.Errorf("got %q, want the guarantee", got)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		if got := state(); !strings.Contains(got, `state="done"`) {
			t.Errorf("got %s, want done", got)
		}
	})
}

// Splits that appear while the pipeline runs are read from their first record.
func TestSupervisor_newSplitsAreFound(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		p := w.boot()
		time.Sleep(time.Second)
		w.source.add("new", "1", "2")
		time.Sleep(w.def.DiscoveryInterval + 2*time.Second)
		wantTexts(t, w.rows, "1", "2")
		wantEnd(t, p.finish(), machine.Done, "")
		m := w.newest()
		if i := slices.IndexFunc(m.Positions(), func(p source.Position) bool { return p.Split == "new" }); i < 0 || m.Positions()[i].Offset != record.Offset(2) {
			t.Errorf("the positions are %+v", m.Positions())
		}
	})
}
