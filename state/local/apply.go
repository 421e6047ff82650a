package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/state"
)

// Step says which delta is applied: its number and chain hash, and the chain hash of the number before.
type Step struct {
	Seq   uint64
	Chain Hash
	Prev  Hash
}

// Apply makes one delta a part of the database, at once and whole, after its manifest is published (I8). It is called for each
// delta in order, by one goroutine at a time; the one that was applied last may come again and changes nothing. The delta is not
// kept. What was applied may be gone after a crash of the process: the database then stands at an earlier delta, and says so.
//
// While the disk has no room, or writes don't come through, Apply waits, and the log says so. Errors are fault.Transient: the
// context's end, after which the delta may be applied again, or [ErrPoisoned]. A delta that does not fit where the database stands
// is fault.Corrupt.
func (db *DB) Apply(ctx context.Context, step Step, delta state.Delta) error {
	const op = "state/local.Apply"
	if err := db.guard.err(op); err != nil {
		return err
	}
	db.mu.Lock()
	at, horizon, ready := db.mu.meta.at, db.mu.meta.horizon, db.mu.ready
	db.mu.Unlock()
	if ready && at == (Position{Seq: step.Seq, Chain: step.Chain}) {
		return nil
	}
	if !ready || step.Seq != at.Seq+1 || step.Prev != at.Chain {
		return fault.E(op, fault.Corrupt, fmt.Errorf("apply delta %d after %x…: the database stands at %d, %x…",
			step.Seq, step.Prev[:4], at.Seq, at.Chain[:4]))
	}
	if err := checkDelta(&delta); err != nil {
		return fault.E(op, fault.Corrupt, fmt.Errorf("apply delta %d: %w", step.Seq, err))
	}
	if err := db.room(ctx, op); err != nil {
		return err
	}
	m := meta{at: Position{Seq: step.Seq, Chain: step.Chain}, horizon: horizon}
	if horizon.Seq <= step.Seq {
		if horizon.Seq == step.Seq && horizon.Chain != step.Chain {
			return fault.E(op, fault.Corrupt, fmt.Errorf("apply delta %d: the base shows another delta of that number", step.Seq))
		}
		m.horizon = Position{}
	}
	m.base, m.dirty = db.tracker.dirtyWith(&delta)
	if err := db.write(op, &m, &delta); err != nil {
		return err
	}
	db.tracker.note(step.Seq, &delta)
	db.mu.Lock()
	invariant.Check("I8", db.mu.meta.at == at, "at", db.mu.meta.at.Seq, "applying", step.Seq)
	db.mu.meta = m
	db.mu.applied += int64(len(delta.Ops) + len(delta.Drops))
	db.mu.Unlock()
	return db.flushNowAndThen(ctx, op)
}

// write commits the batch on a goroutine of its own, because what hangs in Pebble can't be called back.
func (db *DB) write(op fault.Op, m *meta, delta *state.Delta) error {
	batch, err := db.batch(m, delta)
	if err != nil {
		db.guard.poison(err)
		return db.guard.err(op)
	}
	done := db.act(func() error { return errors.Join(db.db.Apply(batch, pebble.NoSync), batch.Close()) })
	limit := time.NewTimer(db.options.Patience)
	defer limit.Stop()
	select {
	case err = <-done:
	case <-limit.C:
		err = fmt.Errorf("a write did not come back within %s", db.options.Patience)
	}
	if err != nil {
		db.guard.poison(err)
		return db.guard.err(op)
	}
	return nil
}

// batch holds the delta in its order: what follows a drop in the batch is not dropped.
func (db *DB) batch(m *meta, delta *state.Delta) (*pebble.Batch, error) {
	value := m.encode()
	size := 64 + len(value)
	for i := range delta.Ops {
		size += len(delta.Ops[i].Key) + len(delta.Ops[i].Value) + 12
	}
	for i := range delta.Drops {
		size += len(delta.Drops[i].From) + len(delta.Drops[i].To) + 12
	}
	b := db.db.NewBatchWithSize(size)
	for i := range delta.Drops {
		if err := b.DeleteRange(delta.Drops[i].From, delta.Drops[i].To, nil); err != nil {
			return nil, err
		}
	}
	if err := b.Set(keyMeta(), value, nil); err != nil {
		return nil, err
	}
	for i := range delta.Ops {
		o := &delta.Ops[i]
		var err error
		if o.Delete {
			err = b.Delete(o.Key, nil)
		} else {
			err = b.Set(o.Key, o.Value, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// flushNowAndThen bounds what a restart has to replay. The delta is applied whatever comes of it.
func (db *DB) flushNowAndThen(ctx context.Context, op fault.Op) error {
	if time.Since(db.flushed) < db.options.FlushEvery {
		return nil
	}
	db.flushed = time.Now()
	return db.call(ctx, op, func() error {
		_, err := db.db.AsyncFlush()
		return err
	})
}

// room waits until Pebble and the disk can take one more delta. All waiting is done here and not in Pebble, whose waiting nobody
// can end: not the context, not a closing database, not the knowledge that a corrupt file makes it eternal.
func (db *DB) room(ctx context.Context, op fault.Op) error {
	var began, said time.Time
	var errorsBefore int64
	for {
		if err := db.guard.err(op); err != nil {
			return err
		}
		why, disk, err := db.crowded(ctx, op)
		if err != nil {
			return err
		}
		if why == "" {
			db.setPaused("", began)
			return nil
		}
		now := time.Now()
		if began.IsZero() || disk {
			// Waiting for room on the disk is no sign of a database that is stuck.
			began, errorsBefore = now, db.guard.errors.Load()
		}
		if now.Sub(said) >= loudEvery {
			said = now
			db.options.Log.Error("local state can't take the next delta, the pipeline waits", slog.String("reason", why))
		}
		db.setPaused(why, began)
		if now.Sub(began) > db.options.Patience && db.guard.errors.Load() > errorsBefore {
			db.guard.poison(fmt.Errorf("%s for %s, and the last error was: %w", why, db.options.Patience, db.guard.lastError()))
			continue
		}
		if err := db.await(ctx, op); err != nil {
			return err
		}
	}
}

// await returns when something has changed in Pebble, or after a while.
func (db *DB) await(ctx context.Context, op fault.Op) error {
	t := time.NewTimer(fullBackoff)
	defer t.Stop()
	select {
	case <-t.C:
	case <-db.guard.changed:
	case <-db.guard.bad:
	case <-ctx.Done():
		return fault.E(op, fault.Transient, context.Cause(ctx))
	}
	return nil
}

// crowded returns why a delta must wait, "" if it need not; disk is true when it waits for room on the disk.
func (db *DB) crowded(ctx context.Context, op fault.Op) (why string, disk bool, err error) {
	if db.disk.full() {
		return "the disk is full", true, nil
	}
	if db.options.DiskReserve > 0 {
		usage, err := db.options.FS.GetDiskUsage(db.path)
		if err == nil && usage.AvailBytes < uint64(db.options.DiskReserve) {
			return fmt.Sprintf("the disk has %d bytes left, below the reserve of %d", usage.AvailBytes, db.options.DiskReserve), true, nil
		}
	}
	var m *pebble.Metrics
	err = db.call(ctx, op, func() error {
		m = db.db.Metrics()
		return nil
	})
	switch {
	case err != nil:
		return "", false, err
	case m.MemTable.Size >= uint64(memTablesMax*db.options.MemTable):
		return fmt.Sprintf("%d bytes wait to be written", m.MemTable.Size), false, nil
	case m.Levels[0].Sublevels >= sublevelsMax:
		return fmt.Sprintf("%d layers of files wait to be merged", m.Levels[0].Sublevels), false, nil
	}
	return "", false, nil
}

func (db *DB) setPaused(why string, began time.Time) {
	db.mu.Lock()
	was := db.mu.paused
	db.mu.paused = why
	db.mu.Unlock()
	if was != "" && why == "" {
		db.options.Log.Info("local state takes deltas again", slog.Duration("after", time.Since(began)))
	}
}
