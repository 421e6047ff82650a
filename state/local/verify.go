package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/fault"
)

// Verify reads every block of every file of the database and checks its checksum, at a part of one processor (0: a tenth; from 1
// on nothing is held back). Opening a database reads none of them, so after an unclean stop this finds what else a read or a merge
// would stumble over later. It may run while everything else goes on. A file that fails poisons the database and is named in the
// error.
func (db *DB) Verify(ctx context.Context, budget float64) error {
	const op = "state/local.Verify"
	if budget == 0 {
		budget = 0.1
	}
	if err := db.guard.err(op); err != nil {
		return err
	}
	var levels [][]pebble.SSTableInfo
	err := db.call(ctx, op, func() (err error) {
		levels, err = db.db.SSTables()
		return err
	})
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, level := range levels {
		for i := range level {
			name := level[i].BackingSSTNum.String() + ".sst"
			if seen[name] {
				continue
			}
			seen[name] = true
			began := time.Now()
			if err := db.verifyFile(ctx, db.disk.PathJoin(db.path, name)); err != nil {
				db.guard.poison(err)
				return db.guard.err(op)
			}
			if !db.rest(ctx, time.Since(began), budget) {
				return fault.E(op, fault.Transient, context.Cause(ctx))
			}
		}
	}
	return nil
}

// rest waits so long that the work before it was the given part of a processor; false if the context ends.
func (db *DB) rest(ctx context.Context, worked time.Duration, budget float64) bool {
	if budget >= 1 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(time.Duration(float64(worked) * (1/budget - 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// verifyFile returns nil also for a file that is gone: it was merged into another one.
func (db *DB) verifyFile(ctx context.Context, path string) error {
	f, err := db.disk.Open(path, vfs.SequentialReadsOption)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", path, err)
	}
	readable, err := objstorageprovider.NewFileReadable(f, db.disk, objstorageprovider.NewReadaheadConfig(), path)
	if err != nil {
		return errors.Join(fmt.Errorf("file %s: %w", path, err), f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, db.pebble.MakeReaderOptions())
	if err != nil {
		return errors.Join(fmt.Errorf("file %s: %w", path, err), readable.Close())
	}
	if err = errors.Join(r.ValidateBlockChecksums(), r.Close()); err != nil {
		return fmt.Errorf("file %s: %w", path, err)
	}
	return nil
}

// Metrics is what the database tells of itself.
type Metrics struct {
	Seq     uint64 // of the newest delta in it
	Applied int64  // operations since it was opened
	Paused  string // why Apply waits; "" if it does not

	MemTableBytes   int64 // in memory, not on disk yet
	CacheBytes      int64 // of the whole cache, which databases share
	CacheHits       int64
	CacheMisses     int64
	DiskBytes       int64
	FlushedBytes    int64 // written by flushes since it was opened
	CompactedBytes  int64 // written by merges since it was opened
	ReadAmp         int   // files that a read may have to look into
	Sublevels       int   // layers of files that are not merged yet
	CompactionDebt  int64 // bytes that will have to be merged
	Flushes         int64
	BackgroundError int64 // failed flushes and merges since it was opened
	WriteStalls     int64
}

// Metrics may be called at any time before Close. Of a poisoned database it tells what this package counts itself.
func (db *DB) Metrics() Metrics {
	db.mu.Lock()
	m := Metrics{Seq: db.mu.meta.at.Seq, Applied: db.mu.applied, Paused: db.mu.paused}
	db.mu.Unlock()
	m.BackgroundError, m.WriteStalls = db.guard.errors.Load(), db.guard.stalls.Load()
	var p *pebble.Metrics
	err := db.call(context.Background(), "state/local.Metrics", func() error {
		p = db.db.Metrics()
		return nil
	})
	if err != nil {
		return m
	}
	total := p.Total()
	m.MemTableBytes = int64(p.MemTable.Size)
	m.CacheBytes, m.CacheHits, m.CacheMisses = p.BlockCache.Size, p.BlockCache.Hits, p.BlockCache.Misses
	m.DiskBytes = int64(p.DiskSpaceUsage())
	m.FlushedBytes, m.CompactedBytes = int64(total.TableBytesFlushed), int64(total.TableBytesCompacted)
	m.ReadAmp, m.Sublevels = p.ReadAmp(), int(p.Levels[0].Sublevels)
	m.CompactionDebt, m.Flushes = int64(p.Compact.EstimatedDebt), p.Flush.Count
	return m
}

var _ pebble.Logger = (*guard)(nil)
