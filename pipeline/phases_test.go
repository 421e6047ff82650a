package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// As many checkpoints as may wait for their commit do; then the input waits, and goes on when a commit is done.
func TestRun_inputWaitsForCommits(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		stuck := make(chan struct{})
		w.rows.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			select {
			case <-stuck:
				return sink.Committed, nil, nil
			case <-ctx.Done():
				return sink.Unknown, nil, context.Cause(ctx)
			}
		}
		var mu sync.Mutex
		written := 0
		w.rows.write = func(_ context.Context, rows []row) error {
			mu.Lock()
			defer mu.Unlock()
			written += len(rows)
			return nil
		}
		p := w.boot()
		produced := 0
		produce := func(n int) {
			for range n {
				w.source.add("a", fmt.Sprint(produced))
				produced++
				time.Sleep(100 * time.Millisecond)
			}
		}
		produce(600) // for a minute
		mu.Lock()
		most := written
		mu.Unlock()
		if most > 50 { // two checkpoints wait; what came before the third was due is with the writer
			t.Errorf("%d of %d records were taken while %d checkpoints of a second may wait", most, produced, w.def.Checkpoint.MaxPending)
		}
		if m := w.newest(); len(m.Sinks[0].Pending) > w.def.Checkpoint.MaxPending {
			t.Errorf("%d committables wait, want at most %d", len(m.Sinks[0].Pending), w.def.Checkpoint.MaxPending)
		}
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "sink sink since") {
			t.Errorf("the sink is not named: %+v", st)
		}
		if got := w.metric(`ingestd_source_lag_records{pipeline="p",split="a"}`); len(got) != 1 || strings.HasSuffix(got[0], " 0") {
			t.Errorf("the lag is not told while the input waits: %q", got)
		}
		close(stuck)
		time.Sleep(10 * time.Second)
		if st := p.Status(); !st.Ready() || len(w.rows.texts()) != produced {
			t.Errorf("%d of %d records after the commit went on, %+v", len(w.rows.texts()), produced, st)
		}
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

// A checkpoint whose parts take too long is given up, and the run goes on by recovery. The log names who gave none.
func TestRun_checkpointThatTakesTooLongIsGivenUp(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var free atomic.Bool
		w.rows.prepare = func(ctx context.Context, task int) error {
			if task != 1 || free.Load() {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		p := w.boot()
		w.source.add("a", "1")
		w.source.add("b", "2")
		time.Sleep(50 * time.Second)
		if st := p.Status(); !st.Stalled || !strings.HasPrefix(st.Text, "task 1 since") || !strings.Contains(st.Text, "prepare of checkpoint") {
			t.Errorf("the task is not named: %+v", st)
		}
		free.Store(true)
		time.Sleep(30 * time.Second)
		if got := w.log.lines("goes on by recovery", "task 1 gave no part in 1m"); len(got) != 1 {
			t.Errorf("got %q, want one line that names the task and the time", got)
		}
		wantTexts(t, w.rows, "1", "2")
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

// The coordinator's own part, dead letters of rows refused at commit, counts for itself: it is late on its own, and stands for
// no task's.
func TestRun_lateLettersAreGivenUp(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.rows.commit = rejecting("poison")
		var free atomic.Bool
		w.letters.prepare = func(ctx context.Context, task int) error {
			if task != w.def.Tasks || free.Swap(true) {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		p := w.boot()
		w.source.add("a", "1", "poison")
		time.Sleep(2 * time.Minute)
		if got := w.log.lines("goes on by recovery", "the writer of refused rows gave no part"); len(got) != 1 {
			t.Errorf("got %q, want one line that names the writer", got)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.rows, "1")
		wantTexts(t, w.letters, "the target refuses it")
	})
}

// The metrics of checkpoints tell each one's end, and the age of the newest committed one grows only while something waits.
func TestRun_checkpointsAreCounted(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Tasks = 1
		var full, lost atomic.Bool
		w.rows.prepare = func(context.Context, int) error {
			if full.Swap(false) {
				return fault.E("table.Prepare", fault.Transient, errors.New("disk full"))
			}
			return nil
		}
		w.faults = func(c storetest.Call) storetest.Fault {
			if lost.Load() && c.Method == storetest.Create {
				return storetest.RequestLost
			}
			return storetest.None
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(1500 * time.Millisecond)
		at := time.Now()
		time.Sleep(time.Hour)
		committed := w.metric("ingestd_checkpoint_last_committed_timestamp_seconds")
		var stamp float64
		if len(committed) != 1 {
			t.Fatalf("got %q", committed)
		}
		if _, err := fmt.Sscanf(committed[0][strings.IndexByte(committed[0], '}')+1:], "%g", &stamp); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(time.UnixMilli(int64(stamp * 1000))); age > 5*time.Second {
			t.Errorf("the newest committed checkpoint of an idle pipeline is %s old, the one with rows %s", age, time.Since(at))
		}
		count := func(result string) (n float64) {
			for _, line := range w.metric(fmt.Sprintf(`ingestd_checkpoints_total{pipeline="p",result=%q}`, result)) {
				if _, err := fmt.Sscanf(line[strings.IndexByte(line, '}')+1:], "%g", &n); err != nil {
					t.Fatal(err)
				}
			}
			return n
		}
		if n := count("empty"); n < 3500 || count("published") > 10 {
			t.Errorf("%v empty and %v published checkpoints in an idle hour", n, count("published"))
		}
		for _, phase := range []string{"prepare", "publish", "commit", "total"} {
			if got := w.metric(fmt.Sprintf(`ingestd_checkpoint_duration_seconds_count{phase=%q,pipeline="p"}`, phase)); len(got) != 1 || strings.HasSuffix(got[0], " 0") {
				t.Errorf("phase %s: got %q, want a count", phase, got)
			}
		}
		full.Store(true)
		w.source.add("a", "2")
		time.Sleep(time.Minute)
		if n := count("aborted"); n != 1 {
			t.Errorf("got %v aborted checkpoints, want 1", n)
		}
		lost.Store(true)
		w.source.add("a", "3")
		time.Sleep(10 * time.Second)
		p.crash()
		if n := count("unknown"); n != 1 || count("aborted") > 2 {
			t.Errorf("got %v checkpoints whose publishing is unknown and %v aborted, want 1 and at most 2", n, count("aborted"))
		}
	}, "a")
}

// How long a checkpoint took counts from its own barrier, not from that of the next one.
func TestRun_phasesAreThoseOfTheirCheckpoint(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Checkpoint.MaxPending = 5
		w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			time.Sleep(2500 * time.Millisecond)
			return sink.Committed, nil, nil
		}
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(1500 * time.Millisecond)
		w.source.add("a", "2") // its barrier comes while the first commits
		time.Sleep(20 * time.Second)
		for _, phase := range []string{"commit", "total"} {
			sum := w.metric(fmt.Sprintf(`ingestd_checkpoint_duration_seconds_sum{phase=%q,pipeline="p"}`, phase))
			var seconds float64
			if _, err := fmt.Sscanf(sum[0][strings.IndexByte(sum[0], '}')+1:], "%g", &seconds); err != nil {
				t.Fatal(err)
			}
			if least := 2 * 2.5; seconds < least {
				t.Errorf("phase %s: %g s in sum, want at least %g", phase, seconds, least)
			}
		}
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}

func TestRun_skippedOffsetsAreCounted(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Tasks = 1
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(3 * time.Second)
		w.source.set(func() { w.source.lost = 41 })
		time.Sleep(3 * time.Second)
		w.wantMetric("ingestd_source_skipped_offsets_total", `ingestd_source_skipped_offsets_total{pipeline="p"} 41`)
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

// Positions are shown to lag tools only when every sink has committed their checkpoint.
func TestRun_positionsAreMirroredWhenCommitted(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var mirrored atomic.Int64
		w.source.settled = func(p []source.Position) { mirrored.Store(int64(p[0].Offset)) }
		stuck := make(chan struct{})
		w.letters.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			<-stuck
			return sink.Committed, nil, nil
		}
		p := w.boot()
		w.source.add("a", "1", "malformed")
		time.Sleep(5 * time.Second)
		if wantTexts(t, w.rows, "1"); mirrored.Load() != 0 {
			t.Errorf("mirrored %d while a sink has not committed", mirrored.Load())
		}
		close(stuck)
		time.Sleep(5 * time.Second)
		if mirrored.Load() != 2 {
			t.Errorf("mirrored %d, want 2", mirrored.Load())
		}
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}
