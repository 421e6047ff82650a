package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/sink"
)

// A pipeline of one sink gets another: the first goes on under its name, the second begins at the cut.
func TestRoute_sinkAddedBeginsAtTheCut(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.source.add("a", "a1", "b1")
		p := w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		before := w.newest()
		first, added := w.rows, newTable()
		w.def.Sink, w.def.Sinks = nil, []Route{{Name: MainSink, Sink: first}, {Name: "added", Sink: added, When: `text startsWith "b"`}}
		w.source.add("a", "a2", "b2")
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, first, "a1", "a2", "b1", "b2")
		wantTexts(t, added, "b2")
		m := w.newest()
		if m.Sinks[0].Name != MainSink || m.Sinks[0].Lease <= before.Sinks[0].Lease || m.Sinks[1].Name != "added" {
			t.Errorf("got the sinks %+v, want the first to have gone on", m.Sinks)
		}
		w.wantStage("sink:added", 2, 1, 1, 0)
		if n := len(m.Counters.Earlier); n == 0 {
			t.Error("what was counted before the config changed is forgotten")
		}
	}, "a")
}

// A sink that is taken out of the config with rows to commit stops the start, without taking the lease; with nothing left to commit
// the pipeline goes on without it, and it may come back.
func TestRoute_sinkRemovedMustHaveCommitted(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		left, right := w.routed()
		both := w.def.Sinks
		right.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			<-ctx.Done()
			return sink.Unknown, nil, context.Cause(ctx)
		}
		w.source.add("a", "a1", "b1", "b2")
		p := w.boot()
		time.Sleep(3 * time.Second)
		p.crash()
		w.def.Sinks = both[:1]
		lease := left.lease
		res := w.boot().end()
		wantEnd(t, res, machine.StoppedMisconfigured, `sink "right" is not in the config any more, and 2 rows`)
		if !strings.Contains(res.Text, "next: put it back") || !strings.Contains(res.Text, "ingestd checkpoint drop PIPELINE right") {
			t.Errorf("the text %q does not say what leads on", res.Text)
		}
		if look := Look(t.Context(), w.def, w.env().Log); look.Err == nil || fault.KindOf(look.Err) != fault.Misconfigured {
			t.Errorf("a look finds %v, want the sink that left", look.Err)
		}
		right.commit = nil
		w.def.Sinks = both
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		if left.lease != lease+1 {
			t.Errorf("the refused start took a lease: got %d, want %d", left.lease, lease+1)
		}
		wantTexts(t, right, "b1", "b2")
		w.def.Sinks = both[:1]
		w.source.add("a", "b3")
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		w.def.Sinks = both
		w.source.add("a", "b4")
		p = w.boot()
		time.Sleep(3 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, left, "a1", "b1", "b2", "b3", "b4")
		wantTexts(t, right, "b1", "b2", "b4")
	}, "a")
}
