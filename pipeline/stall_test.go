package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/sink"
)

// While a pipeline starts, its status says what it is at and why that does not go on, and so does the log.
func TestSupervisor_statusNamesWhatTheStartWaitsFor(t *testing.T) {
	for _, c := range []struct {
		name        string
		spoil       func(w *world)
		status, log string
	}{
		{"the look at a target", func(w *world) { w.def.Sink = hangingSink{w.rows} }, "sink sink since 5s: look at the target", ""},
		{"the store", func(w *world) {
			w.faults = func(c storetest.Call) storetest.Fault {
				if c.Method == storetest.List && c.Name == checkpoint.LogPrefix("p", 0) {
					return storetest.Refused
				}
				return storetest.None
			}
		}, "checkpoint store since 5s: claim of the next lease: storetest.List: injected fault", "checkpoint store: read"},
		{"a fence", func(w *world) {
			w.rows.fence = func() error { return fault.E("table.Fence", fault.Transient, errors.New("connection refused")) }
		}, `sink sink since 5s: fence: sink "sink": table.Fence: connection refused`, "fence is not done"},
		{"a pending commit", func(w *world) {
			w.rows.commit = never
			w.source.add("a", "1")
			w.crashOnce()
		}, "sink sink since 5s: commit of checkpoint 2, unit 0", ""},
		{"the source", func(w *world) {
			w.source.discover = func() error { return fault.E("source.Discover", fault.Transient, errors.New("no broker")) }
		}, "source since 5s: look for splits: source.Discover: no broker", "source: look for splits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(w *world) {
				t := w.t
				c.spoil(w)
				p := w.boot()
				time.Sleep(5 * time.Second)
				if st := p.Status(); st.State != Starting || st.Ready() || st.Text != c.status {
					t.Errorf("got %s: %q, want starting: %q", st.State, st.Text, c.status)
				}
				if c.log != "" && len(w.log.lines(c.log, "level=WARN")) == 0 {
					t.Errorf("the log says nothing of %q:\n%s", c.log, strings.Join(w.log.lines(""), "\n"))
				}
				time.Sleep(30 * time.Second)
				if st := p.Status(); !st.Stalled || st.Text != strings.Replace(c.status, "5s", "35s", 1) {
					t.Errorf("after stall_after: got %+v", st)
				}
				p.crash()
			}, "a")
		})
	}
}

// A stall is named in log, metric and status: who, what and for how long. It goes away when something moves, and with the run.
func TestSupervisor_stallIsNamedAndGoesAway(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var stuck atomic.Bool
		free := make(chan struct{})
		w.rows.commit = func(ctx context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			if !stuck.Load() {
				return sink.Committed, nil, nil
			}
			select {
			case <-free:
				return sink.Committed, nil, nil
			case <-ctx.Done():
				return never(ctx, c)
			}
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		w.wantMetric("ingestd_stalled{", `ingestd_stalled{pipeline="p"} 0`)
		stuck.Store(true)
		w.source.add("a", "2")
		time.Sleep(29 * time.Second)
		if st := p.Status(); !st.Ready() {
			t.Errorf("before stall_after: %+v", st)
		}
		time.Sleep(5 * time.Second)
		st := p.Status()
		if st.State != Running || st.Ready() || !st.Stalled || !strings.HasPrefix(st.Text, "sink sink since 3") || !strings.Contains(st.Text, "commit of checkpoint") {
			t.Errorf("after stall_after: %+v", st)
		}
		w.wantMetric("ingestd_stalled{", `ingestd_stalled{pipeline="p"} 1`)
		by := w.metric("ingestd_stalled_seconds{")
		if len(by) != 1 || !strings.HasPrefix(by[0], `ingestd_stalled_seconds{by="sink sink",pipeline="p"} 3`) {
			t.Errorf("metric: got %q, want the sink and about 33 seconds", by)
		}
		time.Sleep(time.Minute)
		if got := w.log.lines("stalled", "sink sink", "commit of checkpoint"); len(got) != 1 {
			t.Errorf("the log has %d lines of the stall, want one: %q", len(got), got)
		}
		close(free)
		time.Sleep(2 * time.Second)
		if st := p.Status(); !st.Ready() || st.Text != "" {
			t.Errorf("after the sink answered: %+v", st)
		}
		w.wantMetric("ingestd_stalled{", `ingestd_stalled{pipeline="p"} 0`)
		w.wantMetric("ingestd_stalled_seconds{")
		if got := w.log.lines("moves again"); len(got) != 1 {
			t.Errorf("the log has %q, want one line", got)
		}
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}

// A split with records that nobody reads is named with its task, even if others move.
func TestSupervisor_stalledSplitIsNamed(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		p := w.boot()
		w.source.set(func() { w.source.lag = map[string]int64{"b": 12} })
		for n := range 60 {
			w.source.add("a", fmt.Sprint(n))
			time.Sleep(time.Second)
		}
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "split b since") || !strings.Contains(st.Text, "12 records behind, task 1 takes none") {
			t.Errorf("got %+v, want the split", st)
		}
		w.source.set(func() { w.source.lag = nil })
		time.Sleep(3 * time.Second)
		if st := p.Status(); !st.Ready() {
			t.Errorf("got %+v, want ready", st)
		}
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

// A source that can't go on is named with its reason, and a task whose writer hangs.
func TestSupervisor_stalledTaskIsNamed(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		p := w.boot()
		w.source.set(func() { w.source.waiting = "split a: no leader" })
		time.Sleep(40 * time.Second)
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "task 0 since") || !strings.HasSuffix(st.Text, "waits for the source: split a: no leader") {
			t.Errorf("got %+v, want the task and the reason", st)
		}
		w.source.set(func() { w.source.waiting = "" })
		time.Sleep(3 * time.Second)
		w.rows.write = func(ctx context.Context, _ []row) error { return hang(ctx) }
		w.source.add("a", "1")
		time.Sleep(40 * time.Second)
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "task ") || !strings.Contains(st.Text, "hands rows to the sinks") {
			t.Errorf("got %+v, want the task that writes", st)
		}
		p.crash()
	}, "a")
}

// A stall ends with its run: what the next one shows is its own.
func TestSupervisor_stallEndsWithTheRun(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Checkpoint.Timeout = 45 * time.Second
		var free atomic.Bool
		w.rows.prepare = func(ctx context.Context, _ int) error {
			if free.Load() {
				return nil
			}
			return hang(ctx)
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(40 * time.Second)
		if st := p.Status(); !st.Stalled {
			t.Fatalf("got %+v, want a stall", st)
		}
		free.Store(true)
		time.Sleep(20 * time.Second)
		if st := p.Status(); !st.Ready() {
			t.Errorf("got %+v, want ready", st)
		}
		w.wantMetric("ingestd_stalled{", `ingestd_stalled{pipeline="p"} 0`)
		w.wantMetric("ingestd_stalled_seconds{")
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}

// The store may fail for long: the pipeline goes on when it is back, and names it until then.
func TestSupervisor_storeThatIsDownIsNamed(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var down atomic.Bool
		w.faults = func(storetest.Call) storetest.Fault {
			if down.Load() {
				return storetest.Refused
			}
			return storetest.None
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		down.Store(true)
		w.source.add("a", "2")
		time.Sleep(40 * time.Second)
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "checkpoint store since") || !strings.Contains(st.Text, "publish of log entry") ||
			!strings.Contains(st.Text, "injected fault") {
			t.Errorf("got %+v, want the store, what and why", st)
		}
		if len(w.log.lines("checkpoint store: create")) == 0 {
			t.Error("the log says nothing of the attempts")
		}
		down.Store(false)
		time.Sleep(20 * time.Second)
		if st := p.Status(); !st.Ready() {
			t.Errorf("got %+v, want ready", st)
		}
		wantTexts(t, w.rows, "1", "2")
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}
