package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// committer writes transactions. It implements sink.Committer.
type committer struct {
	sink *Sink
	// conn is kept from one commit to the next; Close of the sink, on another goroutine, closes what last holds.
	conn *conn
	last atomic.Pointer[conn]
	// known is the newest unit that the ledger is known to hold; it means something once fenced.
	known  unitName
	fenced bool
	layout madeLayout // of the unit before
}

// madeLayout is a layout with what it was made of.
type madeLayout struct {
	unit       string // what decides of the unit's data
	definition string
	schema     *record.Schema
	layout     *layout
}

var _ sink.Committer = (*committer)(nil)

// close ends the connection.
func (c *committer) close() { c.last.Load().abandon() }

// connect makes sure that there is a connection.
func (c *committer) connect(ctx context.Context) error {
	if c.conn.usable() {
		return nil
	}
	var err error
	if c.conn, err = c.sink.dialer.dial(ctx); err == nil {
		c.last.Store(c.conn)
	}
	return err
}

// ledgerWait is how long a transaction waits for the ledger's row before it ends the sessions that may hold it.
const ledgerWait = time.Second

// begin opens a transaction that has the ledger's row, and judges it. nil is no row. After an error there is no transaction.
func (c *committer) begin(ctx context.Context) (*entry, error) {
	s := c.sink
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	_, name := signature(s.env.Identity, s.env.Lease)
	err := c.conn.begin(ctx, name, s.settings, min(ledgerWait, s.settings.LockTimeout))
	var e *entry
	if err == nil {
		e, err = readEntry(ctx, c.conn, s.settings.ledger(), s.env.Identity, " FOR UPDATE")
	}
	if err == nil {
		err = s.judge(e)
	}
	if err == nil {
		return e, nil
	}
	c.conn.rollback(ctx)
	if held := serverError(err); held != nil && held.Code == codeLockNotAvailable {
		err = errors.Join(err, c.evict(ctx))
	}
	return nil, err
}

// evict ends the sessions of older runs, and of earlier attempts of this one, whose transactions may hold the ledger's row: a client
// that stands still would hold it until the server's time-outs.
func (c *committer) evict(ctx context.Context) error {
	if !c.conn.usable() {
		return nil
	}
	prefix, _ := signature(c.sink.env.Identity, 0)
	rows, err := c.conn.query(ctx, "SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "+
		"AND application_name LIKE $1 || '%'", prefix)
	if err != nil {
		return fmt.Errorf("look for the sessions that hold the ledger's row: %w", err)
	}
	var errs []error
	for _, r := range rows {
		lease, err := strconv.ParseUint(strings.TrimPrefix(r[1], prefix), 10, 64)
		if err != nil || record.Lease(lease) > c.sink.env.Lease {
			continue
		}
		if _, err := c.conn.query(ctx, "SELECT pg_terminate_backend($1::int)", r[0]); err != nil {
			errs = append(errs, fmt.Errorf("end the session %s of lease %d, which holds up this one: %w", r[0], lease, err))
		}
	}
	return errors.Join(errs...)
}

// The attempts within one call.
const (
	attemptsMax = 5
	pauseMin    = 20 * time.Millisecond
)

// again runs an attempt until it need not be repeated.
func (c *committer) again(ctx context.Context, attempt func() (repeat bool)) {
	pause := pauseMin
	for n := 1; attempt() && n < attemptsMax; n++ {
		timer := time.NewTimer(pause + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause *= 2
	}
}

// passes reports whether a transaction that ended by an error may succeed at once when it is begun anew: a deadlock, a lock that
// was waited for, a connection that broke.
func (c *committer) passes(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	if e := serverError(err); again(err) || e != nil && e.Code == codeLockNotAvailable {
		return true
	}
	return c.conn != nil && !c.conn.usable()
}

// Fence raises this run's lease in the ledger's row.
func (c *committer) Fence(ctx context.Context) error {
	var err error
	c.again(ctx, func() bool {
		err = c.fence(ctx)
		return c.passes(ctx, err)
	})
	if err != nil {
		return at("sink/postgres.Fence", fmt.Errorf("ledger %s: %w", c.sink.settings.ledger(), err))
	}
	return nil
}

func (c *committer) fence(ctx context.Context) error {
	s := c.sink
	e, err := c.begin(ctx)
	if err != nil {
		return err
	}
	next, err := c.raised(e)
	if err == nil {
		if e == nil {
			err = c.insert(ctx, next)
		} else {
			err = updateEntry(ctx, c.conn, s.settings.ledger(), s.env.Identity, next)
		}
	}
	if err != nil {
		c.conn.rollback(ctx)
		return err
	}
	if err := c.commitSession(ctx); err != nil {
		return fmt.Errorf("raise the lease: %w", err)
	}
	c.known, c.fenced = next.last, true
	return nil
}

var errRace = errors.New("another run made the ledger's row meanwhile")

func (c *committer) insert(ctx context.Context, e *entry) error {
	made, err := insertEntry(ctx, c.conn, c.sink.settings.ledger(), c.sink.env.Identity, e)
	if err == nil && !made {
		return fault.E("", fault.Transient, errRace)
	}
	return err
}

// raised is the row with this run's lease.
func (c *committer) raised(e *entry) (*entry, error) {
	if c.fenced {
		if err := c.remembers(e); err != nil {
			return nil, err
		}
		return c.entry(e.last, e.early), nil
	}
	last, err := c.sink.start(e)
	if err != nil {
		return nil, err
	}
	return c.entry(last, e != nil && e.early && e.last == last), nil
}

// remembers demands that the row holds all that it was known to hold.
func (c *committer) remembers(e *entry) error {
	switch {
	case e == nil:
		return fault.E("", fault.Corrupt, fmt.Errorf("%w: the row of this run is gone from the ledger", errBack))
	case c.known.after(e.last):
		return fault.E("", fault.Corrupt, fmt.Errorf("%w: the newest unit of the ledger is %s, and it was %s", errBack, e.last, c.known))
	}
	return nil
}

// entry is the ledger's row after this run has written.
func (c *committer) entry(last unitName, early bool) *entry {
	env := &c.sink.env
	return &entry{store: env.Identity.StoreID, writer: env.Lease, nonce: c.sink.nonce, last: last, early: early}
}

// commitSession ends the transaction. An error of kind Unknown leaves open whether it took effect; after any other it did not. The
// connection is given up when it is not known.
func (c *committer) commitSession(ctx context.Context) error {
	known, err := c.conn.commit(ctx, c.sink.settings.StatementTimeout)
	if err != nil && !known {
		c.conn.close()
		return fault.E("", fault.Unknown, fmt.Errorf("no answer to COMMIT: %w", err))
	}
	return err
}

// Commit writes a unit in one transaction, or finds that it is there.
func (c *committer) Commit(ctx context.Context, u sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	a := attempt{committer: c, unit: &u, rows: reader{store: c.sink.env.Segments, unit: &u}}
	var outcome sink.Outcome
	var err error
	c.again(ctx, func() bool {
		outcome, err = a.run(ctx)
		return outcome != sink.Rejected && c.passes(ctx, err)
	})
	if err != nil {
		err = fmt.Errorf("unit %s: %w", nameOf(&u), err)
		err = fault.WithRemedy("sink/postgres.Commit", kindFor(outcome, err), err, fault.RemedyOf(err))
	}
	return outcome, a.rejected, err
}

// kindFor is the kind of the error that explains an outcome. What is not known stays so, unless a person must act.
func kindFor(o sink.Outcome, err error) fault.Kind {
	kind := kindOf(err)
	switch o {
	case sink.Rejected:
		return fault.Rejected
	case sink.Fenced:
		return fault.Fenced
	case sink.Unknown:
		if kind == fault.Transient {
			return fault.Unknown
		}
	case sink.Committed, sink.Retry, sink.Lost:
	}
	return kind
}
