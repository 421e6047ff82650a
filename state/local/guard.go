package local

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/fault"
)

// ErrPoisoned says that the database can't be trusted or used any more: a block of it fails its checksum, the disk refuses, or a
// write never came back. Nothing is lost by that. Close it, [Wipe] the folder, open it again and restore.
var ErrPoisoned = errors.New("local state is unusable")

// guard collects what Pebble tells on its own goroutines. Pebble's own answers to trouble are to end the process, to try again
// without an end, or to block a writer for ever.
type guard struct {
	log     *slog.Logger
	bad     chan struct{} // closed when the database is poisoned
	changed chan struct{} // has one element when a flush or compaction has ended
	errors  atomic.Int64  // background errors so far
	stalls  atomic.Int64  // write stalls so far
	parked  atomic.Bool   // a goroutine of Pebble's was stopped with its locks: Close would hang

	mu struct {
		sync.Mutex
		cause error // why it is poisoned
		last  error // the newest background error
		said  time.Time
	}
}

func newGuard(log *slog.Logger) *guard {
	return &guard{log: log, bad: make(chan struct{}), changed: make(chan struct{}, 1)}
}

// poison makes every later call of the database fail with cause; the first cause stays.
func (g *guard) poison(cause error) {
	g.mu.Lock()
	first := g.mu.cause == nil
	if first {
		g.mu.cause = cause
		close(g.bad)
	}
	g.mu.Unlock()
	if first {
		g.log.Error("local state is unusable and must be made again from the checkpoint store", slog.Any("error", cause))
	}
}

// err returns nil, or why the database is poisoned.
func (g *guard) err(op fault.Op) error {
	select {
	case <-g.bad:
	default:
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return fault.E(op, fault.Transient, fmt.Errorf("%w: %w", ErrPoisoned, g.mu.cause))
}

func (g *guard) lastError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.last
}

func (g *guard) backgroundError(err error) {
	g.errors.Add(1)
	g.mu.Lock()
	g.mu.last = err
	due := time.Since(g.mu.said) >= loudEvery
	if due {
		g.mu.said = time.Now()
	}
	g.mu.Unlock()
	if due {
		g.log.Warn("local state: a flush or compaction failed", slog.Any("error", err))
	}
	if pebble.IsCorruptionError(err) {
		g.poison(err)
	}
}

func (g *guard) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *guard) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: g.backgroundError,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			g.poison(fmt.Errorf("file %s fails a check: %w", info.Path, info.Details))
		},
		CompactionEnd: func(pebble.CompactionInfo) { g.wake() },
		FlushEnd:      func(pebble.FlushInfo) { g.wake() },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			g.stalls.Add(1)
			g.log.Warn("local state: a write waits", slog.String("reason", info.Reason))
		},
		WriteStallEnd: func() { g.log.Info("local state: the write goes on") },
		DiskSlow: func(info vfs.DiskSlowInfo) {
			g.log.Warn("local state: the disk is slow", slog.String("file", info.Path), slog.Duration("for", info.Duration))
		},
	}
}

// Infof implements pebble.Logger.
func (g *guard) Infof(format string, args ...any) {
	g.log.Debug("pebble", slog.String("text", fmt.Sprintf(format, args...)))
}

// Errorf implements pebble.Logger.
func (g *guard) Errorf(format string, args ...any) {
	g.log.Warn("pebble", slog.String("text", fmt.Sprintf(format, args...)))
}

// Fatalf implements pebble.Logger. Pebble counts on its not returning, and it calls it with locks held. Ending the process for
// the sake of a cache is too much; so the goroutine stays here for ever, the database is poisoned, and whoever closes it leaves
// it behind.
func (g *guard) Fatalf(format string, args ...any) {
	g.parked.Store(true)
	g.poison(fmt.Errorf(format, args...))
	select {}
}
