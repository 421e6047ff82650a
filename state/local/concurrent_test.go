package local

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/state"
)

func newMem() *vfs.MemFS { return vfs.NewMem() }

// uniform writes the same value to all keys, so that whoever sees a part of a delta sees two values.
func uniform(n int) state.Delta {
	d := state.Delta{Drops: []state.Range{{From: []byte{0, 0}, To: []byte{0, 9}}}}
	for g := range byte(9) {
		for i := range byte(20) {
			d.Ops = append(d.Ops, state.Op{Key: []byte{0, g, i}, Value: fmt.Append(nil, "value ", n)})
		}
	}
	return d
}

// While deltas are applied, scans show one moment, and each base that is exported leads to the same state. Run with -race.
func TestDB_readersSeeWholeDeltasAndBasesAreExact(t *testing.T) {
	w := newWorld(t, 1, asDesigned)
	var group sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				first, n := "", 0
				err := w.db.Scan([]byte{0, 0}, []byte{0, 9}, func(_, value []byte) bool {
					if n++; n == 1 {
						first = string(value)
					}
					return string(value) == first
				})
				if err != nil || n != 0 && n != 180 {
					t.Errorf("got %d keys of one value, %v, want 180", n, err)
					return
				}
			}
		})
	}
	var published sync.Mutex
	var bases []Base
	const basesMax = 8
	group.Go(func() {
		for range basesMax {
			published.Lock()
			s := w.published
			published.Unlock()
			out, err := w.db.Export(t.Context(), ExportOptions{
				Objects: w.store, Prefix: fmt.Sprint("base-", len(bases), "/"), State: s, SliceBytes: 700, Budget: 1, Now: time.Unix(1e9, 0),
			})
			if err != nil {
				t.Error(err)
				return
			}
			published.Lock()
			bases = append(bases, out.Base)
			published.Unlock()
		}
	})
	enough := func(n int) bool {
		published.Lock()
		defer published.Unlock()
		return n >= 100 && len(bases) == basesMax || n >= 1000 || t.Failed()
	}
	for n := 0; !enough(n); n++ {
		published.Lock()
		step, d := w.publishThis(uniform(n))
		published.Unlock()
		w.apply(step, d)
	}
	close(done)
	group.Wait()
	w.checkpoint()
	fuzzy := 0
	for i := range bases {
		s := w.published
		s.Bases = []Base{bases[i]}
		db := openEmpty(t)
		if err := db.Restore(t.Context(), s, RestoreOptions{Objects: w.store}); err != nil {
			t.Fatalf("base %d: %v", i, err)
		}
		if bases[i].Horizon > bases[i].Seq {
			fuzzy++
		}
		live := w.db
		w.db = db
		if d := w.difference(); d != "" {
			t.Errorf("base %d, %d to %d: %s", i, bases[i].Seq, bases[i].Horizon, d)
		}
		w.db = live
		mustClose(t, db)
	}
	t.Logf("%d bases, %d of several moments, %d deltas", len(bases), fuzzy, w.published.Seq)
	w.close()
}

func openEmpty(t *testing.T) *DB {
	t.Helper()
	db, err := Open(Options{Dir: "empty", FS: newMem(), DiskReserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	return db
}
