package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// fence is what one run has on one server against older runs and against its own older attempts.
type fence struct {
	sink   *Sink
	server server
	// row is the last that was written; its attempt counts over all units and never goes back.
	row fenceRow
	// up is true once row is known to be written and every insert with an older one is known to be over.
	up bool
	// dirty is true while an insert with row may still take effect.
	dirty bool
	// start is when the server began that row was written on, while older inserts may still run on it.
	start int64
}

var (
	// errFenced says that another run's row is the newest.
	errFenced = errors.New("another run has taken over")
	// errStore says that the fence row is of another checkpoint store.
	errStore = errors.New("the newest fence row is of another checkpoint store")
	// errRunning says that an insert of before can't be ended.
	errRunning = errors.New("inserts of before are still running")
)

// synchronous makes an INSERT be in the table when it is answered.
func synchronous() ch.Setting { return ch.Setting{Key: "async_insert", Value: "0"} }

// newest reads the highest fence row; ok is false when there is none.
func (f *fence) newest(ctx context.Context, c *conn) (row fenceRow, ok bool, err error) {
	return newestFence(ctx, c, f.sink.settings.Database, f.sink.env.Identity)
}

func newestFence(ctx context.Context, c *conn, database string, id sink.Identity) (row fenceRow, ok bool, err error) {
	rows, err := c.query(ctx, selectFence(database, id), 4)
	if err != nil || len(rows) == 0 {
		return fenceRow{}, false, err
	}
	lease, err := parseUint(rows[0][0])
	if err != nil {
		return fenceRow{}, false, err
	}
	row = fenceRow{lease: record.Lease(lease), nonce: rows[0][2], store: rows[0][3]}
	row.attempt, err = parseUint(rows[0][1])
	return row, true, err
}

// raise puts this run's row above all others, and ends the inserts that have read an older one.
func (f *fence) raise(ctx context.Context, c *conn) error {
	database := f.sink.settings.Database
	if err := c.ensure(ctx, tableName{database, fenceTable}, createFence(database)); err != nil {
		return err
	}
	last, ok, err := f.newest(ctx, c)
	if err != nil {
		return fmt.Errorf("read %s: %w", fenceTable, err)
	}
	lease := f.sink.env.Lease
	switch {
	case !ok:
	case last.store != f.sink.env.Identity.StoreID && (!f.sink.env.Adopt || last.lease >= lease):
		return fmt.Errorf("%w: %s, not %s", errStore, last.store, f.sink.env.Identity.StoreID)
	case last.lease > lease:
		return fmt.Errorf("%w: lease %d, ours is %d", errFenced, last.lease, lease)
	case last.lease == lease && last.nonce != f.sink.nonce:
		return fmt.Errorf("%w under our lease %d: is the checkpoint store a copy?", errFenced, lease)
	}
	return f.next(ctx, c)
}

// ready makes sure that this run's row is the newest and that nothing sent before can take effect any more: only then may a
// first attempt be sent, or the table be asked.
func (f *fence) ready(ctx context.Context, c *conn) error {
	if f.up && !f.dirty {
		return nil
	}
	return f.raise(ctx, c)
}

// next writes the next row and ends the inserts of all rows before it.
func (f *fence) next(ctx context.Context, c *conn) error {
	f.up = false
	f.row = fenceRow{lease: f.sink.env.Lease, attempt: f.row.attempt + 1, nonce: f.sink.nonce, store: f.sink.env.Identity.StoreID}
	if err := c.exec(ctx, insertFence(f.sink.settings.Database, f.sink.env.Identity, f.row), synchronous()); err != nil {
		return fmt.Errorf("write to %s: %w", fenceTable, err)
	}
	last, _, err := f.newest(ctx, c)
	if err != nil {
		return fmt.Errorf("read %s: %w", fenceTable, err)
	}
	if last != f.row {
		return fmt.Errorf("%w: lease %d, attempt %d, ours is %d, %d", errFenced, last.lease, last.attempt, f.row.lease, f.row.attempt)
	}
	if f.start == 0 {
		f.start = c.start
	}
	if err := f.kill(ctx, c); err != nil {
		return err
	}
	f.up, f.dirty, f.start = true, false, 0
	return nil
}

// restartSlack is how far apart two readings of one server's start may lie, in seconds: both its time and its uptime are whole
// seconds.
const restartSlack = 2

// kill ends the inserts that may have read an older row. A server that started since the row was written has none.
func (f *fence) kill(ctx context.Context, c *conn) error {
	if c.start > f.start+restartSlack {
		return nil
	}
	database, id, lease := f.sink.settings.Database, f.sink.env.Identity, f.sink.env.Lease
	killErr := c.exec(ctx, killRunning(database, id, lease))
	if killErr != nil && c.client.IsClosed() {
		return fmt.Errorf("%w: %w", errRunning, killErr)
	}
	const every = 200 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	deadline := time.NewTimer(f.sink.settings.ReadTimeout)
	defer deadline.Stop()
	for {
		n, err := c.number(ctx, countRunning(database, id, lease))
		if err != nil {
			return fmt.Errorf("%w: %w", errRunning, errors.Join(killErr, err))
		}
		if n == 0 && killErr == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return fmt.Errorf("%w: %d", errors.Join(errRunning, killErr), n)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errRunning, context.Cause(ctx))
		}
	}
}
