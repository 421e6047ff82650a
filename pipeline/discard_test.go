package pipeline

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/state"
)

// failOnce lets the next fetch fail, so that the pipeline goes on by recovery in the same process.
func (w *world) failOnce() {
	w.source.set(func() {
		w.source.poll = func(string) error {
			w.source.poll = nil
			return fault.E("test", fault.Transient, errors.New("out of luck"))
		}
	})
}

// What a step kept is given up by the run that is told to, whether it comes to a checkpoint or not; what is kept from then on stays
// over restarts in the process and of it.
func TestDiscardState_givesUpWhatWasThereAndNoMore(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		keys := []string{"k0", "k1", "k2", "k3", "k4"}
		var want []string
		p := w.boot()
		round := func(passes bool) {
			w.source.add("a", keys...)
			time.Sleep(10 * time.Second)
			if passes {
				want = append(want, keys...)
			}
			wantTexts(t, w.rows, slices.Clone(want)...)
		}
		round(true)
		round(false)
		wantEnd(t, p.finish(), machine.Done, "")

		w.def.DiscardState = []string{"once", "nosuch"}
		w.failOnce() // before any checkpoint says that the state is given up
		p = w.boot()
		time.Sleep(10 * time.Second)
		round(true)
		round(false)
		w.failOnce() // after it
		time.Sleep(10 * time.Second)
		round(false)
		wantEnd(t, p.finish(), machine.Done, "")
		if lines := w.log.lines("goes on by recovery"); len(lines) != 2 {
			t.Errorf("got %d restarts, want 2", len(lines))
		}
		if lines := w.log.lines("there is no state to discard", "nosuch"); len(lines) != 1 {
			t.Errorf("got %q about a step without state, want one line", lines)
		}

		w.def.DiscardState = nil
		p = w.boot()
		round(false)
		wantEnd(t, p.finish(), machine.Done, "")
		man := w.newest()
		stored, err := ReadState(man.State())
		if err != nil {
			t.Fatal(err)
		}
		discarded := map[uint16]bool{}
		for _, s := range stored.Slots {
			discarded[s.Slot] = s.Discarded
		}
		if diff := cmp.Diff(map[uint16]bool{1: true, 2: true, 3: false, 4: false}, discarded); diff != "" {
			t.Errorf("slots that are discarded (-want +got):\n%s", diff)
		}
	})
}

// An idle pipeline publishes that state is given up, too, so that the next start needs no flag.
func TestDiscardState_needsNoRecord(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		w.source.add("a", "k0")
		p := w.boot()
		time.Sleep(5 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		w.def.DiscardState = []string{"once"}
		p = w.boot()
		time.Sleep(5 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		man := w.newest()
		stored, err := ReadState(man.State())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stored.Slots, func(s state.Slot) bool { return s.Discarded }) {
			t.Errorf("got the slots %+v, want discarded ones", stored.Slots)
		}
	})
}
