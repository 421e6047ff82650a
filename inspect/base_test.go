package inspect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/state/local"
)

// base makes a base of what the world's state is, as a run does.
func (w *world) base() {
	w.t.Helper()
	db, err := local.Open(local.Options{Dir: w.t.TempDir(), DiskReserve: -1})
	w.must(err)
	objects := checkpoint.NewStateObjects(w.store, "p")
	w.must(db.Restore(w.t.Context(), w.kept, local.RestoreOptions{Objects: objects}))
	done, err := db.Export(w.t.Context(), local.ExportOptions{
		Objects: objects, Prefix: checkpoint.StatePrefix(0, w.lease) + fmt.Sprintf("b%06d-", w.kept.Seq), State: w.kept, Now: time.UnixMilli(0),
	})
	w.must(err)
	w.must(db.Close())
	w.kept, err = w.kept.WithBase(done.Base)
	w.must(err)
}

// Slices of bases are read as deltas are, by the check and by a look, and damage of one is named. The older base and the deltas since
// it serve a look when the newest base is damaged.
func TestCheck_basesAreRead(t *testing.T) {
	w := newWorld(t)
	w.claim()
	w.set("tea", 1)
	w.set("milk", 2)
	w.base()
	w.publish()
	w.set("tea", 3)
	w.base()
	w.set("milk", 4)
	w.publish()
	r := w.check()
	if !r.Sound() || r.Slices < 2 || r.Deltas < 2 || len(r.Orphans) != 0 {
		t.Errorf("got %+v, want slices and deltas", r)
	}
	want := []string{`{"word":"milk","day":"1970-01-02"}4`, `{"word":"tea","day":"1970-01-02"}3`}
	look := func(when string) {
		t.Helper()
		found := map[string]bool{}
		w.must(w.open().Entries(Filter{}, func(e *Entry) error {
			found[string(e.Key)+string(e.Value)] = true
			return nil
		}))
		if len(found) != len(want) || !found[want[0]] || !found[want[1]] {
			t.Errorf("%s: got %v, want %q", when, found, want)
		}
	}
	look("all is well")
	var slice string
	for _, s := range w.kept.Bases[0].Slices {
		if s.Object != "" {
			slice = checkpoint.ObjectName("p", s.Object)
		}
	}
	if !strings.Contains(slice, "/b000003-") {
		t.Fatalf("the slice of the newest base is %q", slice)
	}
	w.flip(slice, 10)
	w.check("corrupt|" + slice + "|checksum")
	look("the newest base is corrupt")
	w.remove(slice)
	w.check("missing|" + slice + "|log numbers [3] need it")
	look("the newest base is missing")
}
