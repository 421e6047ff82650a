package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
)

// rewind is a change that puts the first split back to its first record.
func rewind(_ checkpoint.Seq, m checkpoint.Manifest) (checkpoint.Manifest, error) {
	m.Shards = slices.Clone(m.Shards)
	m.Shards[0].Splits = slices.Clone(m.Shards[0].Splits)
	m.Shards[0].Splits[0].Offset = 0
	return m, nil
}

// A change by hand is a manifest of the next lease with author and reason; the next run starts there.
func TestEdit_nextRunStartsAtTheChange(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		p := w.boot()
		w.source.add("a", "1", "2")
		time.Sleep(5 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		before := w.newest()
		var shown checkpoint.Seq
		seq, err := Edit(t.Context(), w.def, w.env(), Change{Author: "jo", Reason: "once more", Apply: func(seq checkpoint.Seq, m checkpoint.Manifest) (checkpoint.Manifest, error) {
			shown = seq
			return rewind(seq, m)
		}})
		if err != nil || seq <= shown {
			t.Fatalf("got %d, %v", seq, err)
		}
		m := w.newest()
		if m.Author != "jo" || m.Reason != "once more" || m.Lease != before.Lease+1 || m.Checkpoint <= before.Checkpoint || m.Counters.DeadLetters != before.Counters.DeadLetters {
			t.Errorf("got %+v after %+v", m, before)
		}
		q := w.boot()
		time.Sleep(5 * time.Second)
		wantEnd(t, q.finish(), machine.Done, "")
		wantTexts(t, w.rows, "1", "1", "2", "2")
	}, "a")
}

// A run that is alive is fenced by a change, and does nothing more.
func TestEdit_fencesTheRunThatIsAlive(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		p := w.boot()
		w.source.add("a", "1")
		time.Sleep(5 * time.Second)
		if _, err := Edit(t.Context(), w.def, w.env(), Change{Author: "jo", Reason: "r", Apply: rewind}); err != nil {
			t.Fatal(err)
		}
		w.source.add("a", "2")
		wantEnd(t, p.end(), machine.StoppedFenced, "newer run")
		if m := w.newest(); m.Author != "jo" || m.Shards[0].Splits[0].Offset != 0 {
			t.Errorf("the newest manifest is %+v, want the change", m)
		}
	}, "a")
}

// A change that its author gives up publishes nothing.
func TestEdit_givenUpChangesNothing(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.source.add("a", "1")
		w.crashOnce()
		before := w.newest()
		refused := errors.New("not like this")
		_, err := Edit(t.Context(), w.def, w.env(), Change{Apply: func(_ checkpoint.Seq, m checkpoint.Manifest) (checkpoint.Manifest, error) { return m, refused }})
		if !errors.Is(err, refused) {
			t.Errorf("got %v, want the reason", err)
		}
		if after := w.newest(); after.Checkpoint != before.Checkpoint {
			t.Errorf("checkpoint %d was published after %d", after.Checkpoint, before.Checkpoint)
		}
	}, "a")
}

// What the store does to requests changes nothing: the change is published once, or its outcome is said to be unknown.
func TestEdit_survivesABadStore(t *testing.T) {
	for _, bad := range []storetest.Fault{storetest.Refused, storetest.ReplyLost, storetest.RequestLost, storetest.Late} {
		in(t, func(w *world) {
			t := w.t
			w.source.add("a", "1")
			w.crashOnce()
			random := rand.New(rand.NewPCG(uint64(bad), 0))
			w.faults = func(c storetest.Call) storetest.Fault {
				if !strings.Contains(c.Name, "/log/") {
					return storetest.None
				}
				if random.IntN(3) == 0 {
					return bad
				}
				return storetest.None
			}
			seq, err := Edit(t.Context(), w.def, w.env(), Change{Author: "jo", Reason: "r", Apply: rewind})
			if err != nil {
				t.Fatal(err)
			}
			w.store.Land()
			w.faults = nil
			entries, err := History(t.Context(), w.def)
			if err != nil {
				t.Fatal(err)
			}
			var changes []checkpoint.Seq
			for _, e := range entries {
				if e.Entry.Manifest != nil && e.Entry.Manifest.Author == "jo" {
					changes = append(changes, e.Seq)
				}
			}
			if !slices.Equal(changes, []checkpoint.Seq{seq}) {
				t.Errorf("changes at %v, want one at %d", changes, seq)
			}
		}, "a")
	}
}

func TestEdit_endsWithItsContext(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.source.add("a", "1")
		w.crashOnce()
		w.faults = func(c storetest.Call) storetest.Fault {
			if c.Method == storetest.Create {
				return storetest.RequestLost
			}
			return storetest.None
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := Edit(ctx, w.def, w.env(), Change{Apply: rewind}); err == nil || fault.KindOf(err) != fault.Unknown {
			t.Errorf("got %v, want an error that leaves the outcome open", err)
		}
	}, "a")
}

// History shows claims and kept manifests in order, and a broken entry by its name.
func TestHistory_readsTheLog(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		if entries, err := History(t.Context(), w.def); err != nil || len(entries) != 0 {
			t.Errorf("an empty log: got %v, %v", entries, err)
		}
		for range 3 {
			w.source.add("a", "1")
			w.crashOnce()
		}
		entries, err := History(t.Context(), w.def)
		if err != nil {
			t.Fatal(err)
		}
		var leases []record.Lease
		for i, e := range entries {
			if i > 0 && e.Seq <= entries[i-1].Seq {
				t.Errorf("entry %d follows %d", e.Seq, entries[i-1].Seq)
			}
			if e.Entry.Claim != nil {
				leases = append(leases, e.Entry.Claim.Lease)
			}
		}
		if !slices.Equal(leases, []record.Lease{1, 2, 3}) {
			t.Errorf("claims of leases %v, want 1 to 3", leases)
		}
		name := checkpoint.EntryName("p", 0, entries[0].Seq)
		w.store.Objects()[name][3] ^= 1
		broken, err := History(t.Context(), w.def)
		if err != nil || len(broken) != len(entries) || fault.KindOf(broken[0].Err) != fault.Corrupt || broken[1].Err != nil {
			t.Errorf("got %+v, %v, want the first entry corrupt and the others as they were", broken, err)
		}
	}, "a")
}
