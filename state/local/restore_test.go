package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

// told returns a world with a history of some deltas and two bases.
func told(t *testing.T, seed uint64) *world {
	t.Helper()
	w := newWorld(t, seed, asDesigned)
	for range 2 {
		for range 6 {
			w.checkpoint()
		}
		w.export()
		for w.pending != nil {
			w.checkpoint()
		}
	}
	for range 3 {
		w.checkpoint()
	}
	if len(w.published.Bases) != 2 {
		t.Fatalf("got %d bases, want 2", len(w.published.Bases))
	}
	return w
}

// fresh restores the published state on an empty disk.
func (w *world) fresh(options RestoreOptions) (*DB, error) {
	w.t.Helper()
	db, err := Open(Options{Dir: "fresh", FS: vfs.NewMem()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { mustClose(w.t, db) })
	if options.Objects == nil {
		options.Objects = w.store.limitedTo(w.published)
	}
	return db, db.Restore(w.t.Context(), w.published, options)
}

func mustClose(tb testing.TB, db *DB) {
	tb.Helper()
	if err := db.Close(); err != nil {
		tb.Errorf("close: %v", err)
	}
}

// lastDelta returns the name of the newest delta object above a number.
func (w *world) lastDelta(above uint64) string {
	for i := range slices.Backward(w.published.Deltas) {
		if d := &w.published.Deltas[i]; d.Object != "" && d.Seq > above {
			return d.Object
		}
	}
	w.t.Fatal("no delta has an object")
	return ""
}

func firstObject(base *Base) string {
	for i := range base.Slices {
		if base.Slices[i].Object != "" {
			return base.Slices[i].Object
		}
	}
	return ""
}

// A fresh disk, and what a manifest names, are all that it takes; the progress ends at the whole.
func TestRestore_aFreshDiskShowsThePublishedState(t *testing.T) {
	for seed := range uint64(10) {
		w := told(t, seed)
		var last Progress
		db, err := w.fresh(RestoreOptions{Progress: func(p Progress) { last = p }})
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := db.At(); !ok || at.Seq != w.published.Seq || at.Chain != w.published.Chain {
			t.Errorf("got %v, want %d", at, w.published.Seq)
		}
		if last.BaseBytes != last.BaseTotal || last.Deltas != last.DeltaTotal || last.BasesTried != 1 {
			t.Errorf("got progress %+v at the end, want all", last)
		}
		w.close()
		w.db = db
		if d := w.difference(); d != "" {
			t.Error(d)
		}
	}
}

func TestRestore_anObjectThatIsGoneIsNamed(t *testing.T) {
	w := told(t, 1)
	name := w.lastDelta(w.published.Bases[0].Seq)
	w.store.absent[name] = true
	_, err := w.fresh(RestoreOptions{})
	if err == nil || fault.KindOf(err) != fault.Lost || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want fault.Lost with %s", err, name)
	}
	w.store.absent[name] = false
	if _, err = w.fresh(RestoreOptions{}); err != nil {
		t.Errorf("got %v after the object came back, want nil", err)
	}
	w.close()
}

func TestRestore_anObjectThatIsDamagedIsNamed(t *testing.T) {
	w := told(t, 2)
	name := w.lastDelta(w.published.Bases[0].Seq)
	good := w.store.held[name]
	for what, bad := range map[string][]byte{
		"flipped":  append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"cut off":  good[:len(good)-1],
		"extended": append(slices.Clone(good), 0),
	} {
		w.store.held[name] = bad
		_, err := w.fresh(RestoreOptions{})
		if err == nil || fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want fault.Corrupt with %s", what, err, name)
		}
	}
	w.close()
}

// A delta of another history, with a right checksum, is refused by the chain.
func TestRestore_aDeltaOfAnotherHistoryIsRefused(t *testing.T) {
	w := told(t, 3)
	s := w.published
	s.Deltas = slices.Clone(s.Deltas)
	i := len(s.Deltas) - 1
	for s.Deltas[i].Object == "" || s.Deltas[i-1].Object == "" {
		i--
	}
	s.Deltas[i].Object, s.Deltas[i].Bytes, s.Deltas[i].Checksum = s.Deltas[i-1].Object, s.Deltas[i-1].Bytes, s.Deltas[i-1].Checksum
	w.published = s
	_, err := w.fresh(RestoreOptions{})
	if err == nil || fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "does not follow") {
		t.Errorf("got %v, want fault.Corrupt", err)
	}
	w.close()
}

func TestRestore_theOlderBaseServesWhenTheNewerCantBeRead(t *testing.T) {
	w := told(t, 4)
	only := ""
	older := map[string]bool{}
	for _, s := range w.published.Bases[1].Slices {
		older[s.Object] = true
	}
	for _, s := range w.published.Bases[0].Slices {
		if s.Object != "" && !older[s.Object] {
			only = s.Object
		}
	}
	if only == "" {
		t.Fatal("the newer base has no object of its own")
	}
	w.store.absent[only] = true
	var last Progress
	db, err := w.fresh(RestoreOptions{Progress: func(p Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	if last.BasesTried != 2 {
		t.Errorf("got %d bases tried, want 2", last.BasesTried)
	}
	w.close()
	w.db = db
	if d := w.difference(); d != "" {
		t.Error(d)
	}
	w.store.absent[firstObject(&w.published.Bases[1])] = true
	if _, err = w.fresh(RestoreOptions{}); err == nil || fault.KindOf(err) != fault.Lost || !strings.Contains(err.Error(), only) {
		t.Errorf("got %v with no readable base, want fault.Lost with %s", err, only)
	}
}

// A store that can't be reached says so with its own kind, and the next call goes on.
func TestRestore_aStoreOutOfReachIsTransient(t *testing.T) {
	w := told(t, 5)
	var calls atomic.Int64
	w.store.onGet = func() error {
		if calls.Add(1) > 3 {
			return fault.E("store.Get", fault.Transient, errCut)
		}
		return nil
	}
	db, err := w.fresh(RestoreOptions{Parallel: 1})
	if err == nil || fault.KindOf(err) != fault.Transient || !errors.Is(err, errCut) {
		t.Errorf("got %v, want fault.Transient of the store", err)
	}
	w.store.onGet = nil
	if err = db.Restore(t.Context(), w.published, RestoreOptions{Objects: w.store}); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.db = db
	if d := w.difference(); d != "" {
		t.Error(d)
	}
}

func TestRestore_theContextEndsIt(t *testing.T) {
	w := told(t, 6)
	ctx, cancel := context.WithCancelCause(t.Context())
	var calls atomic.Int64
	w.store.onGet = func() error {
		if calls.Add(1) == 2 {
			cancel(errCut)
		}
		return nil
	}
	db, err := Open(Options{Dir: "fresh", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Restore(ctx, w.published, RestoreOptions{Objects: w.store, Parallel: 1})
	if err == nil || fault.KindOf(err) != fault.Transient || !errors.Is(err, errCut) {
		t.Errorf("got %v, want fault.Transient with the context's cause", err)
	}
	mustClose(t, db)
	w.close()
}

// What each state of the local database is worth, against one manifest that stands at 10 with a base of 4 to 6.
func TestRestore_theLocalDatabaseIsTrustedOnlyOnTheWay(t *testing.T) {
	chain := func(n uint64) Hash { return Hash{byte(n), 1} }
	s := State{Seq: 10, Chain: chain(10), Bases: []Base{{Seq: 4, Chain: chain(4), Horizon: 6, HorizonChain: chain(6)}}}
	for n := uint64(5); n <= 10; n++ {
		s.Deltas = append(s.Deltas, Ref{Seq: n, Chain: chain(n)})
	}
	at := func(n uint64) Position { return Position{Seq: n, Chain: chain(n)} }
	for _, c := range []struct {
		name string
		meta meta
		want bool
	}{
		{"at the state", meta{at: at(10)}, true},
		{"on the way", meta{at: at(7)}, true},
		{"at the base", meta{at: at(4)}, true},
		{"before the first delta that is named", meta{at: at(3)}, false},
		{"empty", meta{}, false},
		{"ahead", meta{at: at(11)}, false},
		{"another history", meta{at: Position{Seq: 8, Chain: Hash{8, 2}}}, false},
		{"another history at the state", meta{at: Position{Seq: 10, Chain: Hash{10, 2}}}, false},
		{"below its horizon", meta{at: at(5), horizon: at(6)}, true},
		{"its horizon ahead", meta{at: at(5), horizon: at(11)}, false},
		{"its horizon of another history", meta{at: at(5), horizon: Position{Seq: 6, Chain: Hash{6, 2}}}, false},
	} {
		if got := c.meta.trusted(&s); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A restart on the same disk reads no base again, and only the deltas that the disk lacks.
func TestRestore_aRestartReadsWhatIsMissingOnly(t *testing.T) {
	w := told(t, 7)
	if err := w.db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	flushed := w.published.Seq
	for range 4 {
		w.checkpoint()
	}
	w.close()
	w.open()
	var reads atomic.Int64
	w.store.onGet = func() error { reads.Add(1); return nil }
	at, _ := w.db.At()
	if at.Seq < flushed {
		t.Errorf("got a database at %d after a flush at %d", at.Seq, flushed)
	}
	w.restore()
	if want := int64(w.published.Seq - at.Seq); reads.Load() > want {
		t.Errorf("got %d objects read, want at most %d", reads.Load(), want)
	}
	if d := w.difference(); d != "" {
		t.Error(d)
	}
	w.close()
}

// Slices that did not change are known after a restart too: the next base names them again.
func TestExport_cleanSlicesAreReusedAfterARestart(t *testing.T) {
	w := newWorld(t, 8, asDesigned)
	put := func(group byte, n int) {
		step, d := w.publishThis(spread(group, n))
		w.apply(step, d)
	}
	for g := range byte(4) {
		put(g, 300)
	}
	first := w.exportPlainly(2000)
	if first.Reused != 0 || first.Written < 4 {
		t.Fatalf("got %d written and %d reused, want at least 4 and 0", first.Written, first.Reused)
	}
	put(2, 1)
	if err := w.db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	w.restore()
	put(2, 1)
	second := w.exportPlainly(2000)
	if second.Written > 2 || second.Reused < first.Written-2 {
		t.Errorf("got %d written and %d reused, want at most 2 and the rest", second.Written, second.Reused)
	}
	w.close()
	db, err := w.fresh(RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	if d := w.difference(); d != "" {
		t.Error(d)
	}
}

func spread(group byte, n int) state.Delta {
	var d state.Delta
	for i := range n {
		d.Ops = append(d.Ops, state.Op{Key: []byte{0, group, byte(i >> 8), byte(i)}, Value: []byte(fmt.Sprint("value ", i))})
	}
	return d
}

func (w *world) exportPlainly(sliceBytes int64) Exported {
	w.t.Helper()
	out, err := w.db.Export(w.t.Context(), ExportOptions{
		Objects: w.store, Prefix: "base/", State: w.published, SliceBytes: sliceBytes, Budget: 1, Now: time.Unix(1e9, 0),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	next, err := w.published.WithBase(out.Base)
	if err == nil {
		err = next.Check()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.published = next
	return out
}

// An export that nothing names any more is no ground for leaving slices out: its objects may be gone.
func TestExport_slicesOfABaseThatWasDroppedAreWrittenAgain(t *testing.T) {
	w := newWorld(t, 9, asDesigned)
	w.apply(w.publishThis(spread(1, 500)))
	before := w.published
	first := w.exportPlainly(2000)
	w.published = before
	second := w.exportPlainly(2000)
	if second.Reused != 0 || second.Written != first.Written {
		t.Errorf("got %d written and %d reused, want %d and 0", second.Written, second.Reused, first.Written)
	}
	w.close()
}

func TestExport_expiredEntriesAreLeftOut(t *testing.T) {
	w := newWorld(t, 10, asDesigned)
	w.apply(w.publishThis(spread(1, 100)))
	out, err := w.db.Export(t.Context(), ExportOptions{
		Objects: w.store, Prefix: "base/", State: w.published, Budget: 1, Now: time.Unix(1e9, 0),
		Expired: func(key, _ []byte) bool { return key[3]%2 == 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Keys != 50 {
		t.Errorf("got %d keys, want 50", out.Keys)
	}
	w.close()
}

// The context ends an export, also while it is held back; the database stays in use, and the next export works.
func TestExport_theContextEndsIt(t *testing.T) {
	w := newWorld(t, 11, asDesigned)
	w.apply(w.publishThis(spread(1, 5000)))
	ctx, cancel := context.WithCancelCause(t.Context())
	w.store.onPut = func() { cancel(errCut) }
	_, err := w.db.Export(ctx, ExportOptions{
		Objects: w.store, Prefix: "base/", State: w.published, SliceBytes: 1000, Budget: 1e-6, Now: time.Unix(1e9, 0),
	})
	if err == nil || fault.KindOf(err) != fault.Transient || !errors.Is(err, errCut) {
		t.Errorf("got %v, want fault.Transient with the context's cause", err)
	}
	if w.db.Err() != nil {
		t.Errorf("got %v, want a database in use", w.db.Err())
	}
	w.store.onPut = nil
	w.exportPlainly(1000)
	w.close()
}
