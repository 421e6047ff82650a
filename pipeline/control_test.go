package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
)

// A pipeline that is paused reads nothing, whatever restarts, takes checkpoints still, stalls nowhere, and reads on when it is told.
func TestSupervisor_pauseAndResume(t *testing.T) {
	in(t, func(w *world) {
		w.def.Restart.Max = time.Second
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		p.Pause()
		time.Sleep(2 * time.Second) // a Poll may be under way
		w.source.add("a", "2", "3")
		time.Sleep(2 * time.Minute)
		wantTexts(w.t, w.rows, "1")
		if st := p.Status(); st.State != Paused || st.Ready() || st.Stalled {
			w.t.Errorf("the status is %+v, want paused and nothing stalled", st)
		}
		w.source.set(func() { w.source.poll = func(string) error { return errors.New("once") } })
		w.source.set(func() { w.source.poll = nil })
		time.Sleep(10 * time.Second)
		wantTexts(w.t, w.rows, "1")
		p.Resume()
		time.Sleep(5 * time.Second)
		wantTexts(w.t, w.rows, "1", "2", "3")
		if st := p.Status(); st.State != Running || !st.Ready() {
			w.t.Errorf("the status is %+v, want running", st)
		}
		p.Pause()
		p.Pause()
		wantEnd(w.t, p.finish(), machine.Done, "")
	}, "a")
}

// A checkpoint that is asked for is there when the answer comes, long before its time; without news it is the one that was there.
func TestSupervisor_takeCheckpoint(t *testing.T) {
	in(t, func(w *world) {
		w.def.Checkpoint.Interval = time.Hour
		p := w.boot()
		w.source.add("a", "1", "2")
		time.Sleep(5 * time.Second)
		got, err := p.TakeCheckpoint(w.t.Context())
		if m := w.newest(); err != nil || !got.Fresh || got.Checkpoint != m.Checkpoint || m.Shards[0].Splits[0].Offset != 2 {
			w.t.Errorf("got %+v, %v; the newest is %+v", got, err, m)
		}
		time.Sleep(5 * time.Second)
		if got, err = p.TakeCheckpoint(w.t.Context()); err != nil || !got.Fresh { // it tells that all is committed
			w.t.Errorf("got %+v, %v, want the closing one", got, err)
		}
		time.Sleep(5 * time.Second)
		again, err := p.TakeCheckpoint(w.t.Context())
		if err != nil || again.Fresh || again.Checkpoint != got.Checkpoint || again.Seq != got.Seq {
			w.t.Errorf("got %+v, %v, want that of before, %+v", again, err, got)
		}
		wantEnd(w.t, p.finish(), machine.Done, "")
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if _, err := p.TakeCheckpoint(ctx); fault.KindOf(err) != fault.Transient {
			w.t.Errorf("got %v after the end, want transient", err)
		}
	}, "a")
}
