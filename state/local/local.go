// Package local keeps a pipeline's keyed state on the local disk, in Pebble. It is a cache: what it holds can always be made
// again from the bases and deltas that a published manifest names (I8), and it is trusted only as far as it proves that it stands
// at a state which that manifest went through.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

// Options are the settings of a database. A zero field means its default.
type Options struct {
	Dir   string       // of this database alone; required
	FS    vfs.FS       // the machine's
	Cache *Cache       // shared with other databases; 64 MiB of its own
	Log   *slog.Logger // nothing is logged

	MemTable    int64         // bytes written to disk at once; 64 MiB, at most a fourth of the cache
	DiskReserve int64         // bytes: with fewer free ones Apply waits; 256 MiB, below 0 for none
	Patience    time.Duration // how long a write may stand still, after an error, before the database is given up; 10 s
	FlushEvery  time.Duration // what was applied is on disk after about this time, if deltas go on coming; a minute
}

// DB is one pipeline's applied state. As a [state.Reader] it may be used by several goroutines while one of them calls Apply and
// another Export; Restore comes before all that and Close after it.
type DB struct {
	options Options
	path    string // of the generation in use
	db      *pebble.DB
	pebble  *pebble.Options
	cache   *pebble.Cache
	guard   *guard
	disk    *disk
	tracker tracker
	acts    sync.WaitGroup // calls into Pebble that are on goroutines of their own
	flushed time.Time      // when the newest flush was asked for; Apply's goroutine alone

	mu struct {
		sync.Mutex
		meta    meta
		ready   bool   // there is a meta
		paused  string // why Apply waits, "" if it does not
		applied int64  // operations
	}
}

var _ state.Reader = (*DB)(nil)

// A wiped database leaves its folder to the next one in a new generation, because something may still write to the old.
const generation = "db-"

// Open opens the database in a folder, or makes an empty one. The caller keeps other processes out of the folder.
//
// Errors are fault.Transient with [ErrPoisoned] in their chain if what the folder holds can't be opened: [Wipe] it and open it
// again. What the database shows before [DB.Restore] has returned nil means nothing.
func Open(options Options) (*DB, error) {
	const op = "state/local.Open"
	options.setDefaults()
	guard := newGuard(options.Log)
	db := &DB{options: options, guard: guard, disk: newDisk(options.FS, options.Log), flushed: time.Now()}
	path, err := db.openGeneration()
	if err != nil {
		return nil, fault.E(op, fault.Transient, fmt.Errorf("open %s: %w", options.Dir, err))
	}
	db.path = path
	if options.Cache != nil {
		db.cache = options.Cache.blocks
		db.cache.Ref()
	} else {
		db.cache = pebble.NewCache(defaultCache)
	}
	db.pebble = db.pebbleOptions()
	db.db, err = pebble.Open(path, db.pebble)
	if err != nil {
		db.cache.Unref()
		return nil, fault.E(op, fault.Transient, fmt.Errorf("%w: open %s: %w", ErrPoisoned, path, err))
	}
	if err = db.readMeta(); err != nil {
		return nil, errors.Join(fault.E(op, fault.Transient, fmt.Errorf("%w: open %s: %w", ErrPoisoned, path, err)), db.close())
	}
	return db, nil
}

const defaultCache = 64 << 20

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MemTable == 0 {
		size := int64(defaultCache)
		if o.Cache != nil {
			size = o.Cache.blocks.MaxSize()
		}
		o.MemTable = min(64<<20, size/4)
	}
	if o.DiskReserve == 0 {
		o.DiskReserve = 256 << 20
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = time.Minute
	}
}

// Limits of what Apply lets wait in Pebble. Pebble's own are put out of reach: its writers, once they wait, can't be called back.
const (
	memTablesMax = 4
	sublevelsMax = 20
	outOfReach   = 1000
)

// pebbleOptions returns what was measured to be good, or, where measurement showed no difference, what is usual.
func (db *DB) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS: db.disk, Cache: db.cache, Logger: db.guard, EventListener: db.guard.listener(),
		// Fixed, so that another version of the library writes what this one can read, and slices stay readable.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		DisableWAL:         true,
		MemTableSize:       uint64(db.options.MemTable), MemTableStopWritesThreshold: outOfReach,
		L0CompactionThreshold: 4, L0StopWritesThreshold: outOfReach,
		MaxOpenFiles: 1000,
		CompactionConcurrencyRange: func() (lower, upper int) {
			return 1, max(1, min(2, runtime.GOMAXPROCS(0)/2))
		},
	}
	o.TargetFileSizes[0] = 4 << 20
	o.Experimental.FileCacheShards = 1
	// An ingested file must not wait in memory for a log that there is not.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.FastestCompression }
	}
	o.EnsureDefaults()
	return o
}

// openGeneration makes the folder, picks the newest generation and removes the others.
func (db *DB) openGeneration() (string, error) {
	fsys := db.options.FS
	generations, err := listGenerations(fsys, db.options.Dir)
	if err != nil {
		return "", err
	}
	newest := uint64(1)
	if n := len(generations); n > 0 {
		newest = generations[n-1]
		for _, old := range generations[:n-1] {
			if err = fsys.RemoveAll(generationPath(fsys, db.options.Dir, old)); err != nil {
				return "", err
			}
		}
	}
	path := generationPath(fsys, db.options.Dir, newest)
	if err = db.disk.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	// What a restore that was cut off has left behind.
	return path, fsys.RemoveAll(fsys.PathJoin(path, incomingName))
}

// Wipe empties a database's folder. The database must be closed; one that could not be closed does no harm any more.
func Wipe(fsys vfs.FS, dir string) error {
	if fsys == nil {
		fsys = vfs.Default
	}
	const op = "state/local.Wipe"
	generations, err := listGenerations(fsys, dir)
	if err != nil {
		return fault.E(op, fault.Transient, err)
	}
	next := uint64(1)
	if n := len(generations); n > 0 {
		next = generations[n-1] + 1
	}
	if err = fsys.MkdirAll(generationPath(fsys, dir, next), 0o700); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	for _, old := range generations {
		if err = fsys.RemoveAll(generationPath(fsys, dir, old)); err != nil {
			return fault.E(op, fault.Transient, err)
		}
	}
	return nil
}

func generationPath(fsys vfs.FS, dir string, number uint64) string {
	return fsys.PathJoin(dir, fmt.Sprintf("%s%06d", generation, number))
}

// listGenerations returns the generations in a folder in order.
func listGenerations(fsys vfs.FS, dir string) ([]uint64, error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, generation)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// readMeta reads the database's own entry.
func (db *DB) readMeta() error {
	value, closer, err := db.db.Get(keyMeta())
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := decodeMeta(value)
	if err = errors.Join(err, closer.Close()); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.mu.meta, db.mu.ready = m, true
	return nil
}

// At returns where the database stands; false for one that was never restored.
func (db *DB) At() (Position, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mu.meta.at, db.mu.ready
}

// Err returns nil, or why the database must be thrown away, with [ErrPoisoned] in its chain.
func (db *DB) Err() error { return db.guard.err("state/local.Err") }

// Get implements [state.Reader]. An error poisons the database.
func (db *DB) Get(dst, key []byte) (value []byte, ok bool, err error) {
	const op = "state/local.Get"
	if err = db.guard.err(op); err != nil {
		return dst, false, err
	}
	stored, closer, err := db.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		db.guard.poison(err)
		return dst, false, db.guard.err(op)
	}
	dst = append(dst, stored...)
	if err = closer.Close(); err != nil {
		db.guard.poison(err)
		return dst, false, db.guard.err(op)
	}
	return dst, true, nil
}

// Scan implements [state.Reader]. An error poisons the database; f may have seen a part of the keys then.
func (db *DB) Scan(from, to []byte, f func(key, value []byte) bool) error {
	const op = "state/local.Scan"
	if err := db.guard.err(op); err != nil {
		return err
	}
	if bytes.Compare(from, keyFirst()) < 0 {
		from = keyFirst()
	}
	if err := db.scan(from, to, f); err != nil {
		db.guard.poison(err)
		return db.guard.err(op)
	}
	return nil
}

func (db *DB) scan(from, to []byte, f func(key, value []byte) bool) error {
	iter, err := db.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for valid := iter.First(); valid; valid = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return errors.Join(err, iter.Close())
		}
		if !f(iter.Key(), value) {
			break
		}
	}
	return errors.Join(iter.Error(), iter.Close())
}

// Flush writes what was applied to disk, so that a crash from here on costs no replay. Call it before Close of a daemon that
// stops as it should.
func (db *DB) Flush(ctx context.Context) error {
	const op = "state/local.Flush"
	if err := db.guard.err(op); err != nil {
		return err
	}
	var flushed <-chan struct{}
	err := db.call(ctx, op, func() (err error) {
		flushed, err = db.db.AsyncFlush()
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-db.guard.bad:
		return db.guard.err(op)
	case <-ctx.Done():
		return fault.E(op, fault.Transient, context.Cause(ctx))
	}
}

// act calls f, which calls Pebble, on a goroutine of its own: what hangs in there can't be called back, only left behind.
func (db *DB) act(f func() error) <-chan error {
	done := make(chan error, 1)
	db.acts.Go(func() { done <- f() })
	return done
}

// call waits for f, which calls Pebble, as long as the database is good and the context has not ended. An error of f's poisons.
// What f writes is the caller's only if call returns nil.
func (db *DB) call(ctx context.Context, op fault.Op, f func() error) error {
	select {
	case err := <-db.act(f):
		if err != nil {
			db.guard.poison(err)
		}
	case <-db.guard.bad:
	case <-ctx.Done():
		return fault.E(op, fault.Transient, context.Cause(ctx))
	}
	return db.guard.err(op)
}

// Close closes the database without a flush. Nothing else may use it any more. A database that Pebble can't close is left behind;
// Close then returns an error, and the folder can be wiped and opened again all the same.
func (db *DB) Close() error {
	if err := db.close(); err != nil {
		return fault.E("state/local.Close", fault.Transient, fmt.Errorf("close %s: %w", db.path, err))
	}
	return nil
}

func (db *DB) close() error {
	db.disk.stop()
	if db.guard.parked.Load() {
		return errors.New("left open, because Pebble gave up with its locks held")
	}
	done := make(chan error, 1)
	go func() {
		db.acts.Wait()
		err := db.db.Close()
		db.cache.Unref()
		done <- err
	}()
	limit := time.NewTimer(db.options.Patience)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		return errors.New("left open, because Pebble does not come to an end")
	}
}
