package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/ingestd/ingestd/fault"
)

// Sink stores objects. Put may be called again with the same name and bytes, also when the first call's outcome is unknown, and
// returns nil when they are there.
type Sink interface {
	Put(ctx context.Context, name string, data []byte) error
}

// ExportOptions are the settings of an export. A zero field means its default.
type ExportOptions struct {
	Objects Sink   // required
	Prefix  string // of the objects' names, such as "state/0/17/"
	State   State  // of the newest published manifest: its objects are there, so slices of it that did not change are named again

	SliceBytes int64     // of keys and values in one slice; 16 MiB. This much memory is used twice
	Budget     float64   // of one processor; 0.1. From 1 on nothing is held back
	Now        time.Time // when the base is made; required

	// Expired tells which entries need not be copied: those that reads treat as absent already, at every state from the one at
	// which the export begins. nil: none.
	Expired func(key, value []byte) bool
}

// Exported tells what an export did.
type Exported struct {
	Base         Base
	Written      int   // slices
	WrittenBytes int64 // of objects
	Reused       int   // slices
	ReusedBytes  int64 // of objects
	Keys         int64 // in written slices
}

// Export copies the state into objects, slice by slice, while deltas go on being applied. The base that it returns may be named by
// a manifest at its horizon or above; with [State.WithBase]. One export runs at a time. On an error, of the store's kind or
// fault.Transient, some objects may be stored which nothing names.
func (db *DB) Export(ctx context.Context, options ExportOptions) (Exported, error) {
	const op = "state/local.Export"
	if options.SliceBytes == 0 {
		options.SliceBytes = 16 << 20
	}
	if options.Budget == 0 {
		options.Budget = 0.1
	}
	if err := db.guard.err(op); err != nil {
		return Exported{}, err
	}
	e := &export{db: db, op: op, options: options, follow: db.tracker.beginExport()}
	if err := e.run(ctx); err != nil {
		db.tracker.endExport(nil)
		return Exported{}, err
	}
	db.tracker.endExport(&e.done.Base)
	return e.done, nil
}

// export is one call of Export.
type export struct {
	db      *DB
	op      fault.Op
	options ExportOptions
	follow  *tracker
	done    Exported
}

func (e *export) run(ctx context.Context) error {
	// Where the database stands is asked before what is clean: all deltas up to there have been noted then, and a slice that is
	// clean shows its keys as of there.
	at, err := e.position()
	if err != nil {
		return err
	}
	plan := e.plan(at.Seq)
	base := &e.done.Base
	base.Seq, base.Chain, base.Horizon, base.HorizonChain, base.Made = at.Seq, at.Chain, at.Seq, at.Chain, e.options.Now
	for i := range plan {
		if plan[i].reuse {
			e.db.tracker.reuse(plan[i].index, plan[i].Slice)
			base.Slices = append(base.Slices, plan[i].Slice)
			e.done.Reused++
			e.done.ReusedBytes += plan[i].Bytes
			continue
		}
		if err := e.copyRange(ctx, plan[i].From, plan[i].To); err != nil {
			return err
		}
	}
	return nil
}

// planned is a slice that is named again, or a range that is copied.
type planned struct {
	Slice
	index int // of the slice in the base before
	reuse bool
}

// position reads where the database stands from itself.
func (e *export) position() (Position, error) {
	at, ready := e.db.At()
	if !ready {
		return at, fault.E(e.op, fault.Transient, errors.New("the database was not restored"))
	}
	return at, nil
}

// plan says what to copy: all ranges but those whose slice is known not to have changed. A small slice beside a changed one is
// copied with it, so that slices don't get ever smaller.
func (e *export) plan(seq uint64) []planned {
	slices, clean := e.db.tracker.clean()
	stored := map[string]bool{"": true}
	e.options.State.Objects(func(name string) { stored[name] = true })
	reuse := make([]bool, len(slices))
	for i := range slices {
		reuse[i] = clean[i] && stored[slices[i].Object]
	}
	copied := func(i int) bool { return i >= 0 && i < len(slices) && !reuse[i] }
	var plan []planned
	for i := range slices {
		small := slices[i].Bytes < e.options.SliceBytes/8
		if reuse[i] && small && (copied(i-1) || copied(i+1)) {
			reuse[i] = false
		}
		if last := len(plan) - 1; !reuse[i] && last >= 0 && !plan[last].reuse {
			plan[last].To = slices[i].To
			continue
		}
		plan = append(plan, planned{Slice: slices[i], index: i, reuse: reuse[i]})
		if reuse[i] {
			plan[len(plan)-1].Seq = seq
		}
	}
	if len(plan) == 0 {
		plan = []planned{{Slice: Slice{From: keyFirst(), To: keyEnd()}}}
	}
	return plan
}

// copyRange writes the keys of a range in as many slices as it takes.
func (e *export) copyRange(ctx context.Context, from, to []byte) error {
	for bytes.Compare(from, to) < 0 {
		e.follow.open(from)
		table, slice, err := e.cut(ctx, from, to)
		if err != nil {
			return err
		}
		if table != nil {
			slice.Bytes, slice.Checksum = int64(len(table)), sha256.Sum256(table)
			slice.Object = fmt.Sprintf("%sbase-%020d-%06d-%s.sst", e.options.Prefix, e.done.Base.Seq, len(e.done.Base.Slices),
				hex.EncodeToString(slice.Checksum[:8]))
			if err = e.options.Objects.Put(ctx, slice.Object, table); err != nil {
				return fault.E(e.op, fault.KindOf(err), fmt.Errorf("store %s: %w", slice.Object, err))
			}
			e.done.Written++
			e.done.WrittenBytes += slice.Bytes
		}
		e.follow.add(slice)
		e.done.Base.Slices = append(e.done.Base.Slices, slice)
		from = slice.To
	}
	return nil
}

// cut makes one slice of what the database shows at this moment. The table is nil if there is no key.
func (e *export) cut(ctx context.Context, from, to []byte) ([]byte, Slice, error) {
	slice := Slice{From: from, To: to}
	// The iterator begins with the database's own entry, so that it itself tells what it shows.
	iter, err := e.db.db.NewIter(&pebble.IterOptions{UpperBound: to})
	if err != nil {
		return nil, slice, e.broken(err)
	}
	table := &memoryTable{}
	w := sstable.NewWriter(table, e.db.tableOptions())
	empty, err := e.fill(ctx, iter, w, &slice)
	err = errors.Join(err, iter.Close())
	err = errors.Join(err, w.Close())
	switch {
	case ctx.Err() != nil:
		return nil, slice, fault.E(e.op, fault.Transient, context.Cause(ctx))
	case err != nil:
		return nil, slice, e.broken(err)
	case empty:
		return nil, slice, nil
	}
	return table.buf.Bytes(), slice, nil
}

func (e *export) broken(err error) error {
	e.db.guard.poison(err)
	return e.db.guard.err(e.op)
}

// fill writes keys until the slice is full, and says in it where it ended and what it shows.
func (e *export) fill(ctx context.Context, iter *pebble.Iterator, w *sstable.Writer, slice *Slice) (empty bool, err error) {
	if !iter.First() || !bytes.Equal(iter.Key(), keyMeta()) {
		return true, errors.Join(iter.Error(), errors.New("the database's own entry is missing"))
	}
	value, err := iter.ValueAndErr()
	if err != nil {
		return true, err
	}
	m, err := decodeMeta(value)
	if err != nil {
		return true, err
	}
	slice.Seq = m.at.Seq
	e.done.Base.Horizon, e.done.Base.HorizonChain = m.at.Seq, m.at.Chain
	empty = true
	var size int64
	pace := pace{budget: e.options.Budget, began: time.Now()}
	for valid := iter.SeekGE(slice.From); valid; valid = iter.Next() {
		if value, err = iter.ValueAndErr(); err != nil {
			return empty, err
		}
		if e.options.Expired != nil && e.options.Expired(iter.Key(), value) {
			continue
		}
		if size >= e.options.SliceBytes {
			slice.To = bytes.Clone(iter.Key())
			break
		}
		if err = w.Set(iter.Key(), value); err != nil {
			return empty, err
		}
		empty = false
		e.done.Keys++
		size += int64(len(iter.Key()) + len(value))
		if err = pace.keep(ctx); err != nil {
			return empty, err
		}
	}
	return empty, iter.Error()
}

// pace holds work back to a part of one processor.
type pace struct {
	budget float64
	began  time.Time
	calls  int
}

const paceCalls = 2048

// keep is called after each small piece of work.
func (p *pace) keep(ctx context.Context) error {
	if p.calls++; p.calls%paceCalls != 0 {
		return nil
	}
	if p.budget >= 1 {
		runtime.Gosched()
		return ctx.Err()
	}
	t := time.NewTimer(time.Duration(float64(time.Since(p.began)) * (1/p.budget - 1)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.began = time.Now()
	return nil
}

// memoryTable is a file in memory that Pebble writes a table to.
type memoryTable struct{ buf bytes.Buffer }

// Write implements objstorage.Writable.
func (t *memoryTable) Write(p []byte) error {
	_, err := t.buf.Write(p)
	return err
}

// Finish implements objstorage.Writable.
func (t *memoryTable) Finish() error { return nil }

// Abort implements objstorage.Writable.
func (t *memoryTable) Abort() {}
