package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// committer inserts units. It implements sink.Committer.
type committer struct {
	sink *Sink
	// conn is kept from one commit to the next; Close of the sink, on another goroutine, closes what last holds.
	conn *conn
	last atomic.Pointer[conn]
	// fences has what this run did on each server: nearly always one.
	fences []*fence
	// sent is the highest unit of this run that was sent. Units are committed in order, so one above it was never sent.
	sent unitName
	// wide is the unit that touches more partitions than the server takes in one insert by its setting.
	wide unitName
}

// unitName is a unit's name within the sink.
type unitName struct {
	lease      record.Lease
	checkpoint record.Checkpoint
	unit       record.Unit
}

// after reports whether u comes after v in the order of commits.
func (u unitName) after(v unitName) bool {
	return cmp.Or(cmp.Compare(u.lease, v.lease), cmp.Compare(u.checkpoint, v.checkpoint), cmp.Compare(u.unit, v.unit)) > 0
}

func nameOf(c *sink.Committable) unitName { return unitName{c.Lease, c.Checkpoint, c.Unit} }

var _ sink.Committer = (*committer)(nil)

func newCommitter(s *Sink) *committer {
	return &committer{sink: s}
}

// connect returns the connection to a server, a new one if the last does not answer.
func (c *committer) connect(ctx context.Context, want server) (*conn, error) {
	if c.conn != nil && c.conn.server.same(want) && c.conn.usable(ctx) {
		return c.conn, nil
	}
	c.conn.close()
	var err error
	if c.conn, err = c.sink.dialer.to(ctx, want); err == nil {
		c.last.Store(c.conn)
	}
	return c.conn, err
}

// close ends the connection. A commit under way fails by it.
func (c *committer) close() { c.last.Load().close() }

// Fence writes this run's first fence row on the server of new units and ends the inserts of older runs.
func (c *committer) Fence(ctx context.Context) error {
	const op = "sink/clickhouse.Fence"
	conn, err := c.connect(ctx, c.sink.server)
	if err != nil {
		return fault.E(op, kindOf(err), err)
	}
	f := c.fenceOf(c.sink.server)
	if err := f.raise(ctx, conn); err != nil {
		return fault.E(op, kindOf(err), err)
	}
	return nil
}

// fenceOf is what this run did on a server.
func (c *committer) fenceOf(s server) *fence {
	for _, f := range c.fences {
		if f.server.same(s) {
			return f
		}
	}
	f := &fence{sink: c.sink, server: s}
	c.fences = append(c.fences, f)
	return f
}

// Commit inserts a unit, or what is missing of it.
func (c *committer) Commit(ctx context.Context, u sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	outcome, rejected, err := c.commit(ctx, &u)
	if err != nil {
		err = fmt.Errorf("unit %d/%d/%d of %s: %w", u.Lease, u.Checkpoint, u.Unit, c.sink.tableName(), err)
		err = fault.WithRemedy("sink/clickhouse.Commit", kindFor(outcome, err), err, fault.RemedyOf(err))
	}
	return outcome, rejected, err
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

func (c *committer) commit(ctx context.Context, u *sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	if u.Rows == 0 {
		return sink.Committed, nil, nil
	}
	a := attempt{unit: u, first: u.Lease == c.sink.env.Lease && nameOf(u).after(c.sent)}
	var err error
	if a.data, err = readUnitData(u); err != nil {
		return a.nothing(), nil, err
	}
	if a.conn, err = c.connect(ctx, a.data.Server); err != nil {
		return a.nothing(), nil, err
	}
	a.fence = c.fenceOf(a.data.Server)
	err = a.fence.ready(ctx, a.conn)
	there := false
	if err == nil && !a.first && a.data.Block != 0 {
		there, err = a.there(ctx)
	}
	switch {
	case errors.Is(err, errFenced):
		return sink.Fenced, nil, err
	case err != nil:
		return a.nothing(), nil, err
	case there:
		return sink.Committed, nil, nil
	}
	if a.batches, err = loadUnit(ctx, c.sink.env.Segments, u); err != nil {
		if fault.KindOf(err) == fault.Lost {
			return sink.Lost, nil, err
		}
		return a.nothing(), nil, err
	}
	return c.attempt(ctx, &a)
}

// attempt is one insert of a unit.
type attempt struct {
	unit    *sink.Committable
	data    *unitData
	batches []*record.Batch
	conn    *conn
	fence   *fence
	// first is true for the first attempt of the run that cut the unit: nothing of it can be in the table.
	first bool
}

// nothing is the outcome of an attempt that had no effect: an earlier one may have had.
func (a *attempt) nothing() sink.Outcome {
	if a.first {
		return sink.Retry
	}
	return sink.Unknown
}

// there asks the table for the whole unit, after everything that was sent before is over. The fence is read first: a run that
// was taken over learns that, not what the other did.
func (a *attempt) there(ctx context.Context) (bool, error) {
	last, _, err := a.fence.newest(ctx, a.conn)
	if err != nil {
		return false, err
	}
	if last != a.fence.row {
		return false, fmt.Errorf("%w: lease %d, attempt %d", errFenced, last.lease, last.attempt)
	}
	n, err := a.conn.number(ctx, countBlock(a.fence.sink.tableName(), a.data.Block))
	if err != nil {
		return false, err
	}
	if n > a.unit.Rows {
		return false, fault.E("", fault.Corrupt, fmt.Errorf("the table has %d rows of block %d, the unit has %d", n, a.data.Block, a.unit.Rows))
	}
	return n == a.unit.Rows, nil
}

// attempt sends the insert and finds out what became of it.
func (c *committer) attempt(ctx context.Context, a *attempt) (sink.Outcome, []sink.RejectedRow, error) {
	in := insertion{
		table: c.sink.tableName(), columns: a.data.Columns, block: a.data.Block, fence: a.fence.row, id: c.sink.env.Identity,
		partitionKey: c.sink.table().partitionKey, missingOnly: !a.first && a.data.Block != 0,
	}
	block, err := newBlock(a.data, a.batches)
	if err != nil {
		return a.nothing(), nil, fault.E("", fault.Misconfigured, err)
	}
	name, before := nameOf(a.unit), c.sent
	if a.first {
		c.sent = name
	}
	a.fence.dirty = true
	inject.Point(inject.BeforeInsert)
	insertCtx, cancel := context.WithTimeout(ctx, c.sink.settings.InsertTimeout)
	defer cancel()
	at, err := a.conn.insert(insertCtx, insertQuery{
		body: in.statement(), id: queryID(in.table.Database, in.id, in.fence.lease, a.unit, in.fence.attempt), settings: c.settingsFor(name), block: block,
	})
	if err == nil {
		a.fence.dirty = false
		return sink.Committed, nil, nil
	}
	is := classify(err, at)
	if is == classNothing || is == classSchema {
		c.sent = before
	}
	return c.failed(ctx, a, is, err)
}

// failed decides what an insert's error leaves known.
func (c *committer) failed(ctx context.Context, a *attempt, is class, err error) (sink.Outcome, []sink.RejectedRow, error) {
	switch is {
	case classFenced:
		a.fence.up, a.fence.dirty = false, false
		return sink.Fenced, nil, fmt.Errorf("%w: %w", errFenced, err)
	case classNothing, classSchema:
		a.fence.dirty = false
		if is == classSchema {
			a.fence.up = false // the fence's own table may be the one that is gone
			err = c.schemaChanged(ctx, a, err)
		}
		return a.nothing(), nil, err
	case classRefused:
		return c.refused(ctx, a, err)
	case classWide:
		c.wide = nameOf(a.unit)
	case classUnknown:
	}
	return sink.Unknown, nil, err
}

// settingsFor are the settings of a unit's insert. The server's limit of partitions holds for the first attempt; a unit is
// decided when it turns out to be above, and can't be made smaller.
func (c *committer) settingsFor(name unitName) []ch.Setting {
	if c.wide != name {
		return c.sink.extra
	}
	return append(slices.Clone(c.sink.extra), ch.Setting{Key: "max_partitions_per_insert_block", Value: "0"})
}

// schemaChanged reads the table again and says what the unit lacks in it, if that is the cause.
func (c *committer) schemaChanged(ctx context.Context, a *attempt, cause error) error {
	conn, err := c.connect(ctx, a.data.Server)
	if err != nil {
		return errors.Join(cause, err)
	}
	t, err := readTable(ctx, conn, c.sink.tableName())
	if err != nil {
		return errors.Join(err, cause)
	}
	c.sink.mu.Lock()
	c.sink.mu.table = t
	c.sink.mu.Unlock()
	wanted := a.data.Columns
	if a.data.Block != 0 {
		wanted = append(slices.Clone(wanted), wireColumn{provenanceColumn, "UInt64"})
	}
	for _, w := range wanted {
		if col := t.column(w.Name); col == nil || !col.insertable() {
			return fault.WithRemedy("", fault.Misconfigured,
				fmt.Errorf("rows that were prepared have the column %s, which the table can't take any more: %w", identifier(w.Name), cause),
				"ALTER TABLE "+t.name.String()+" ADD COLUMN "+identifier(w.Name)+" "+w.Type)
		}
	}
	if e, ok := errors.AsType[*ch.Exception](cause); ok && (int(e.Code) == codeUnknownTable || int(e.Code) == codeUnknownDatabase) {
		return fault.E("", fault.Transient, cause) // it was the fence's table, which the next attempt makes again
	}
	return cause
}
