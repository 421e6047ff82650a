package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/state"
)

// chained applies deltas whose chain is told by their numbers alone.
type chained struct {
	t  *testing.T
	db *DB
}

func (c chained) next(ctx context.Context, d state.Delta) error {
	at, _ := c.db.At()
	return c.db.Apply(ctx, Step{Seq: at.Seq + 1, Chain: chainOf(at.Seq + 1), Prev: at.Chain}, d)
}

func chainOf(seq uint64) (h Hash) {
	if seq > 0 {
		copy(h[:], fmt.Sprint(seq))
	}
	return h
}

func filled(group byte, n, size int) state.Delta {
	d := spread(group, n)
	for i := range d.Ops {
		d.Ops[i].Value = bytes.Repeat([]byte{byte(i), byte(i * 7), group}, size/3)
	}
	return d
}

func openFresh(t *testing.T, options Options) *DB {
	t.Helper()
	db, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	if err = db.Restore(t.Context(), State{}, RestoreOptions{Objects: newStore()}); err != nil {
		t.Fatal(err)
	}
	return db
}

// waitFor returns when a condition holds, and fails after a while.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 4000 {
		if holds() {
			return
		}
		<-tick.C
	}
	t.Fatalf("waited in vain for: %s", what)
}

// lockedBuffer takes the log of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A full disk stops Apply, loudly and without a storm of attempts; reads go on. When there is room, all goes on and nothing is lost.
func TestDB_aFullDiskPausesAndGoesOn(t *testing.T) {
	var full atomic.Bool
	var refused atomic.Int64
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind != errorfs.OpFileClose && (op.Kind == errorfs.OpCreate || op.Kind.ReadOrWrite() == errorfs.OpIsWrite) {
			refused.Add(1)
			return syscall.ENOSPC
		}
		return nil
	})
	var log lockedBuffer
	db := openFresh(t, Options{
		Dir: "state", FS: errorfs.Wrap(vfs.NewCrashableMem(), inject), MemTable: 64 << 10, DiskReserve: -1, Patience: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	c := chained{t, db}
	if err := c.next(t.Context(), filled(1, 10, 300)); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	const deltas = 60
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < deltas && err == nil; i++ {
			err = c.next(t.Context(), filled(byte(2+i%5), 30, 600))
		}
		done <- err
	}()
	waitFor(t, "a pause", func() bool { return db.Metrics().Paused != "" })
	before := refused.Load()
	<-time.After(time.Second) // longer than the patience: a full disk alone is no reason to throw the database away
	if n := refused.Load() - before; n > 200 {
		t.Errorf("got %d attempts in a second, want a pause between them", n)
	}
	if _, ok, err := db.Get(nil, filled(1, 1, 3).Ops[0].Key); !ok || err != nil {
		t.Errorf("got %v, %v while the disk is full, want the value", ok, err)
	}
	select {
	case err := <-done:
		t.Fatalf("got %v, want Apply to wait", err)
	default:
	}
	full.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	n := 0
	if err := db.Scan(nil, nil, func(_, _ []byte) bool { n++; return true }); err != nil || n != 10+5*30 {
		t.Errorf("got %d keys, %v, want %d", n, err, 10+5*30)
	}
	for _, want := range []string{"no room on disk", "the pipeline waits", "takes deltas again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got a log without %q", want)
		}
	}
	if got := db.Metrics().Paused; got != "" {
		t.Errorf("got %q, want no pause", got)
	}
	mustClose(t, db)
}

// Closing does not wait for room.
func TestDB_closesOnAFullDisk(t *testing.T) {
	var full atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	db := openFresh(t, Options{Dir: "state", FS: errorfs.Wrap(vfs.NewMem(), inject), MemTable: 64 << 10, DiskReserve: -1})
	c := chained{t, db}
	full.Store(true)
	if err := c.next(t.Context(), filled(1, 100, 600)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a write without room", db.disk.full)
	began := time.Now()
	err := db.Close() // it may tell of the disk
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("got %s and %v, want no waiting", took, err)
	}
	full.Store(false)
	mustClose(t, openFresh(t, db.options))
}

// Below the reserve no delta is taken, and the context ends the waiting; the same delta is taken afterwards.
func TestDB_theReserveOfTheDiskIsKept(t *testing.T) {
	mem := vfs.NewMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 1 << 40})
	db := openFresh(t, Options{Dir: "state", FS: mem, DiskReserve: 1 << 20})
	c := chained{t, db}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1<<20 - 1, TotalBytes: 1 << 40})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.next(ctx, spread(1, 1)) }()
	waitFor(t, "a pause", func() bool { return strings.Contains(db.Metrics().Paused, "reserve") })
	cancel(errCut)
	if err := <-done; err == nil || fault.KindOf(err) != fault.Transient || !errors.Is(err, errCut) {
		t.Errorf("got %v, want fault.Transient with the context's cause", err)
	}
	go func() { done <- c.next(t.Context(), spread(1, 1)) }()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 40})
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustClose(t, db)
}

// A disk that fails under Pebble's MANIFEST would end the process. Here it ends the database, which can be wiped and made again
// beside what is left of the old one.
func TestDB_aFailingManifestPoisons(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileWrite} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			var broken atomic.Bool
			inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && strings.Contains(op.Path, "MANIFEST") && op.Kind == kind {
					return syscall.EIO
				}
				return nil
			})
			options := Options{
				Dir: "state", FS: errorfs.Wrap(vfs.NewMem(), inject), MemTable: 64 << 10, DiskReserve: -1, Patience: 300 * time.Millisecond,
			}
			db := openFresh(t, options)
			c := chained{t, db}
			broken.Store(true)
			var err error
			for i := 0; i < 1000 && err == nil; i++ {
				err = c.next(t.Context(), filled(byte(i%5), 30, 600))
			}
			if !errors.Is(err, ErrPoisoned) || fault.KindOf(err) != fault.Transient {
				t.Fatalf("got %v, want ErrPoisoned", err)
			}
			if _, _, err = db.Get(nil, []byte{0, 1, 0, 0}); !errors.Is(err, ErrPoisoned) {
				t.Errorf("got %v from Get, want ErrPoisoned", err)
			}
			if err = db.Flush(t.Context()); !errors.Is(err, ErrPoisoned) {
				t.Errorf("got %v from Flush, want ErrPoisoned", err)
			}
			if err = db.Close(); err == nil {
				t.Error("got nil from Close, want an error that says it is left open")
			}
			broken.Store(false)
			if err = Wipe(options.FS, options.Dir); err != nil {
				t.Fatal(err)
			}
			db = openFresh(t, options)
			if err = (chained{t, db}).next(t.Context(), spread(1, 1)); err != nil {
				t.Error(err)
			}
			mustClose(t, db)
		})
	}
}

// Flushes that fail for ever are not repeated in a storm, and end the database when it can't take deltas any more.
func TestDB_failingFlushesPoison(t *testing.T) {
	var broken atomic.Bool
	var refused atomic.Int64
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpFileWrite {
			refused.Add(1)
			return syscall.EIO
		}
		return nil
	})
	db := openFresh(t, Options{
		Dir: "state", FS: errorfs.Wrap(vfs.NewMem(), inject), MemTable: 64 << 10, DiskReserve: -1, Patience: 400 * time.Millisecond,
	})
	c := chained{t, db}
	broken.Store(true)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = c.next(t.Context(), filled(byte(i%5), 30, 600))
	}
	if !errors.Is(err, ErrPoisoned) || !strings.Contains(err.Error(), syscall.EIO.Error()) {
		t.Errorf("got %v, want ErrPoisoned with the disk's error", err)
	}
	if n := refused.Load(); n == 0 || n > 100 {
		t.Errorf("got %d attempts, want a few", n)
	}
	mustClose(t, db)
}

// A corrupt file under a merge makes Pebble try for ever and, with its own limits, block the writer for ever. Here Apply returns.
func TestDB_aCorruptFileUnderAMergePoisons(t *testing.T) {
	mem := vfs.NewCrashableMem()
	options := Options{Dir: "state", FS: mem, MemTable: 64 << 10, DiskReserve: -1}
	db := openFresh(t, options)
	c := chained{t, db}
	for i := range 2 {
		if err := c.next(t.Context(), filled(byte(i), 60, 300)); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, db)
	for _, name := range tables(t, mem, options.Dir) {
		flipByte(t, mem, name, func(int) int { return 40 }, 1)
	}
	db, err := Open(options)
	if err == nil {
		c.db = db
		for i := 0; i < 2000 && err == nil; i++ {
			err = c.next(t.Context(), filled(byte(i%3), 60, 300))
		}
		if e := db.Close(); e != nil {
			t.Error(e)
		}
	}
	if !errors.Is(err, ErrPoisoned) {
		t.Errorf("got %v, want ErrPoisoned", err)
	}
}

func tables(tb testing.TB, mem *vfs.MemFS, dir string) []string {
	tb.Helper()
	generations, err := listGenerations(mem, dir)
	if err != nil || len(generations) == 0 {
		tb.Fatal(generations, err)
	}
	path := generationPath(mem, dir, generations[len(generations)-1])
	names, err := mem.List(path)
	if err != nil {
		tb.Fatal(err)
	}
	var paths []string
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			paths = append(paths, mem.PathJoin(path, name))
		}
	}
	return paths
}

// Whatever byte of whatever file is changed: the database either shows the published state after a restore, or says that it can't.
func TestDB_noChangedByteShowsAWrongState(t *testing.T) {
	w := newWorld(t, 1, asDesigned)
	for g := range byte(2) {
		w.apply(w.publishThis(spread(g, 12)))
		if err := w.db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.close()
	origin := w.mem
	generations, err := listGenerations(origin, w.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := generationPath(origin, w.options.Dir, generations[0])
	names, err := origin.List(path)
	if err != nil {
		t.Fatal(err)
	}
	step := 3
	if invariant.Expensive {
		step = 17
	}
	if os.Getenv("STATE_CRASHES") != "" {
		step = 1
	}
	var opened, flips int
	for _, name := range names {
		info, err := origin.Stat(origin.PathJoin(path, name))
		if err != nil {
			t.Fatal(err)
		}
		for offset := 0; offset < int(info.Size()); offset += step {
			flips++
			w.mem = origin.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: w.rng})
			flipByte(t, w.mem, w.mem.PathJoin(path, name), func(int) int { return offset }, 1<<(offset%8))
			before := w.counts
			w.open()
			w.restore()
			d := w.difference()
			if w.db.Err() != nil {
				w.renew()
				w.restore()
				d = w.difference()
			}
			if d != "" {
				t.Fatalf("byte %d of %s: %s", offset, name, d)
			}
			if w.counts == before {
				opened++
			}
			w.close()
		}
	}
	t.Logf("%d changed bytes: %d times the database was thrown away, %d times its history was another, %d times it did not matter",
		flips, w.counts.renewed, w.counts.rebuilt, opened)
	if w.counts.renewed == 0 || opened == flips {
		t.Error("got no changed byte that was noticed")
	}
}

// Verify finds what no read has come across yet, and names the file.
func TestDB_verifyFindsAChangedBlock(t *testing.T) {
	mem := vfs.NewCrashableMem()
	options := Options{Dir: "state", FS: mem, DiskReserve: -1}
	db := openFresh(t, options)
	if err := (chained{t, db}).next(t.Context(), filled(1, 200, 300)); err != nil {
		t.Fatal(err)
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context(), 1); err != nil {
		t.Fatalf("got %v from a whole database, want nil", err)
	}
	mustClose(t, db)
	names := tables(t, mem, options.Dir)
	name := names[len(names)-1]
	flipByte(t, mem, name, func(size int) int { return size / 3 }, 1)
	db, err := Open(options)
	if err == nil {
		err = db.Verify(t.Context(), 1)
		mustClose(t, db)
	}
	if !errors.Is(err, ErrPoisoned) || !strings.Contains(err.Error(), mem.PathBase(name)) {
		t.Errorf("got %v, want ErrPoisoned with %s", err, name)
	}
}
