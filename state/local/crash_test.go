package local

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/internal/invariant"
)

var errCut = errors.New("the store does not answer any more")

// crash loses the process and a part of what was not synced.
func (w *world) crash() {
	w.t.Helper()
	w.counts.crashes++
	var after *vfs.MemFS
	w.image.Lock()
	if w.image.mem != nil {
		// The crash was at some write of Pebble's: what was published later did not happen.
		after = w.image.mem
		w.published = w.image.state
		for i := range slices.Backward(w.history) {
			if w.history[i].Chain == w.published.Chain && w.history[i].Seq == w.published.Seq {
				w.history = w.history[:i+1]
				break
			}
		}
	} else {
		after = w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[w.rng.IntN(4)], RNG: w.rng})
	}
	w.image.mem, w.image.after = nil, 0
	w.image.Unlock()
	w.pending = nil
	w.close()
	what := w.rng.IntN(12)
	if w.control == horizonIgnored {
		what = 2 // the rule matters only when a base is loaded
	}
	if w.control == chainIgnored || w.control == effectsEarly {
		what = 11 // and these only when the disk stays
	}
	switch what {
	case 0: // another machine, whose disk is old
		if w.stale != nil {
			after = w.stale
		}
		w.stale = nil
	case 1:
		w.stale = after.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: w.rng})
	case 2:
		after = vfs.NewCrashableMem()
	case 3, 4:
		w.flip(after)
	}
	w.mem = after
	w.open()
	if w.rng.IntN(4) == 0 || w.control == horizonIgnored {
		w.crashInRestore()
	}
	w.restore()
}

// flip changes one byte of a file of Pebble's.
func (w *world) flip(mem *vfs.MemFS) {
	if generations, err := listGenerations(mem, w.options.Dir); err != nil || len(generations) == 0 {
		return
	}
	paths := tables(w.t, mem, w.options.Dir)
	if len(paths) == 0 {
		return
	}
	name := paths[w.rng.IntN(len(paths))]
	if info, err := mem.Stat(name); err != nil || info.Size() == 0 {
		return // made when the crash came
	}
	flipByte(w.t, mem, name, w.rng.IntN, byte(1<<w.rng.IntN(8)))
	w.counts.flips++
}

func flipByte(tb testing.TB, mem *vfs.MemFS, name string, at func(int) int, mask byte) {
	tb.Helper()
	f, err := mem.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		tb.Fatal(name, info, err)
	}
	offset := int64(at(int(info.Size())))
	one := make([]byte, 1)
	if _, err = f.ReadAt(one, offset); err == nil {
		one[0] ^= mask
		_, err = f.WriteAt(one, offset)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		tb.Fatal(err)
	}
}

// crashInRestore loses the process while a base is loaded or deltas are replayed.
func (w *world) crashInRestore() {
	left := w.rng.IntN(12)
	if w.control == horizonIgnored && len(w.published.Bases) > 0 {
		left = w.rng.IntN(5) // deltas behind the base
		for i := range w.published.Bases[0].Slices {
			if w.published.Bases[0].Slices[i].Object != "" {
				left++
			}
		}
	}
	w.image.Lock()
	w.image.after = 1 + w.rng.IntN(60)
	w.image.Unlock()
	w.store.onGet = func() error {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		if left--; left < 0 {
			return errCut
		}
		return nil
	}
	if w.control != chainIgnored {
		// Its outcome does not matter, but that it can be cut off anywhere.
		_ = w.db.Restore(w.t.Context(), w.published, RestoreOptions{Objects: w.store.limitedTo(w.published), Parallel: 2})
	}
	w.store.onGet = nil
	w.image.Lock()
	after := w.image.mem
	w.image.mem, w.image.after = nil, 0
	w.image.Unlock()
	if after == nil {
		after = w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: w.rng})
	}
	w.close()
	if w.rng.IntN(3) == 0 || w.control == horizonIgnored {
		w.rewind()
	}
	w.mem = after
	w.open()
}

// life runs a pipeline through one process's life, up to a crash or another end, and returns what is wrong after it.
func (w *world) life() string {
	if w.rng.IntN(3) == 0 {
		w.image.Lock()
		w.image.after = 1 + w.rng.IntN(200)
		w.image.Unlock()
	}
	for range w.rng.IntN(10) {
		w.checkpoint()
		if w.rng.IntN(8) == 0 {
			w.export()
		}
		if w.rng.IntN(20) == 0 {
			if err := w.db.Flush(w.t.Context()); err != nil && !errors.Is(err, ErrPoisoned) {
				return err.Error()
			}
		}
	}
	how := w.rng.IntN(8)
	if w.control == horizonIgnored {
		w.export()
		w.checkpoint()
		how = 7
	}
	if w.control == effectsEarly {
		how = 1
	}
	if w.control == chainIgnored {
		how = 2
	}
	switch how {
	case 0: // published, and the answer got lost
		w.publish()
	case 1: // not published
		before, history := w.published, len(w.history)
		w.publish()
		w.published, w.history, w.pending = before, w.history[:history], nil
	case 2: // and another machine goes on from there
		w.rewind()
		for range w.rng.IntN(12) {
			w.publish()
		}
	}
	w.crash()
	if w.db.Err() != nil {
		w.renew()
		w.restore()
	}
	if d := w.difference(); d != "" {
		if w.db.Err() == nil {
			return d
		}
		// A byte was flipped in what only the scan has read.
		w.renew()
		w.restore()
		return w.difference()
	}
	return ""
}

func lives(t *testing.T, fallback int) int {
	t.Helper()
	text := os.Getenv("STATE_CRASHES")
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("STATE_CRASHES: %v", err)
	}
	return n
}

// Whatever is lost in a crash, and wherever it happens, the database shows the published state afterwards, key by key (I8). The
// environment variable STATE_CRASHES sets the number of crashes.
func TestDB_everyCrashLeadsToThePublishedState(t *testing.T) {
	const seeds = 8
	n := 800
	if invariant.Expensive {
		n = 240 // Pebble checks its own invariants then
	}
	n = lives(t, n) / seeds
	var sum counts
	t.Run("seeds", func(t *testing.T) {
		var mu sync.Mutex
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, seed, asDesigned)
				for i := range n {
					if d := w.life(); d != "" {
						t.Fatalf("life %d of seed %d: %s", i, seed, d)
					}
				}
				w.close()
				mu.Lock()
				defer mu.Unlock()
				sum.add(w.counts)
			})
		}
	})
	t.Logf("%+v", sum)
	if sum.rebuilt == 0 || sum.exports == 0 || sum.reused == 0 || sum.rewinds == 0 || sum.flips == 0 || sum.written == 0 {
		t.Errorf("got %+v, want some of each", sum)
	}
}

// The same harness finds each broken rule by wrong keys, else it would prove nothing.
func TestDB_aBrokenRuleIsFound(t *testing.T) {
	for c := asDesigned + 1; c < controlsEnd; c++ {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				if found := brokenWithin(t, seed, c); found != "" {
					t.Logf("seed %d: %s", seed, found)
					return
				}
			}
			t.Error("got no wrong key in 60 seeds, want one")
		})
	}
}

// brokenWithin runs a world until a key is wrong. A world that is stopped loudly has shown nothing wrong.
func brokenWithin(t *testing.T, seed uint64, c control) (found string) {
	t.Helper()
	w := newWorld(fatalAsPanic{t}, seed, c)
	defer func() {
		if r := recover(); r != nil {
			text, ok := r.(loud)
			if !ok {
				panic(r)
			}
			t.Logf("seed %d: stopped: %s", seed, text)
		}
	}()
	for range 40 {
		if found = w.life(); strings.HasPrefix(found, "at ") {
			return found
		}
	}
	w.close()
	return ""
}

type loud string

// fatalAsPanic lets a world end without the test.
type fatalAsPanic struct{ *testing.T }

func (f fatalAsPanic) Fatalf(format string, args ...any) { panic(loud(fmt.Sprintf(format, args...))) }
func (f fatalAsPanic) Fatal(args ...any)                 { panic(loud(fmt.Sprint(args...))) }
