package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// attempt is one unit's transaction, perhaps begun several times.
type attempt struct {
	*committer
	unit     *sink.Committable
	data     *unitData
	rows     reader
	plan     *layout
	rejected []sink.RejectedRow
}

// run begins a transaction and ends it.
//
// Who holds the ledger's row and does not find the unit there has the proof that nothing of it took effect: an attempt of before has
// ended, or it will find what this one leaves in the row.
func (a *attempt) run(ctx context.Context) (sink.Outcome, error) {
	var err error
	if a.data, err = readUnitData(a.unit); err != nil {
		return sink.Unknown, err
	}
	e, err := a.begin(ctx)
	if err != nil {
		return unsure(err)
	}
	if err := a.remembers(e); err != nil {
		a.conn.rollback(ctx)
		return sink.Unknown, err
	}
	if !nameOf(a.unit).after(e.last) {
		return a.found(ctx, e)
	}
	if err := a.write(ctx); err != nil {
		a.conn.rollback(ctx)
		return a.nothing(err)
	}
	inject.Point(inject.BeforeEndTxn)
	if err := a.commitSession(ctx); err != nil {
		if fault.KindOf(err) == fault.Unknown {
			return sink.Unknown, err
		}
		return sink.Retry, err
	}
	a.known = nameOf(a.unit)
	return sink.Committed, nil
}

// unsure is the outcome of an attempt that did not get to the ledger. Only the ledger says Fenced.
func unsure(err error) (sink.Outcome, error) {
	if errors.Is(err, errFenced) || errors.Is(err, errStore) {
		return sink.Fenced, fault.E("", fault.Fenced, err)
	}
	return sink.Unknown, err
}

// nothing is the outcome of an attempt that had the ledger's row and was rolled back.
func (a *attempt) nothing(err error) (sink.Outcome, error) {
	switch {
	case errors.Is(err, errRefused):
		return sink.Rejected, err
	case fault.KindOf(err) == fault.Lost: // a segment is gone
		return sink.Lost, err
	}
	return sink.Retry, err
}

// found answers for a unit that the ledger has. The row is written once more: the server may not have told the one who committed
// the unit because it was not durable yet, and it is when a later transaction is.
func (a *attempt) found(ctx context.Context, e *entry) (sink.Outcome, error) {
	if err := updateEntry(ctx, a.conn, a.sink.settings.ledger(), a.sink.env.Identity, a.entry(e.last, e.early)); err != nil {
		a.conn.rollback(ctx)
		return sink.Unknown, err
	}
	if err := a.commitSession(ctx); err != nil {
		return sink.Unknown, err
	}
	a.known = e.last
	return sink.Committed, nil
}

// before is the savepoint that a search for refused rows goes back to.
const before = "ingestd_before"

// write writes rows and ledger.
func (a *attempt) write(ctx context.Context) error {
	e := a.entry(nameOf(a.unit), a.data.Early)
	if a.unit.Rows > 0 { // all rows of the unit that this one replaces may be refused
		e.target = a.data.target().String()
		if err := a.writeRows(ctx); err != nil {
			return err
		}
	}
	return updateEntry(ctx, a.conn, a.sink.settings.ledger(), a.sink.env.Identity, e)
}

// writeRows locks the table against changes of its definition, which is looked at first, and writes the rows.
func (a *attempt) writeRows(ctx context.Context) error {
	s := a.sink.settings
	name := a.data.target()
	prepare := "SET LOCAL lock_timeout = " + milliseconds(s.LockTimeout) + "; LOCK TABLE ONLY " + name.String() + " IN ROW EXCLUSIVE MODE"
	if err := a.conn.long(ctx, prepare, s.LockTimeout+s.ReadTimeout); err != nil {
		return a.missing(err)
	}
	if err := a.layOut(ctx); err != nil {
		return err
	}
	prepare = "SAVEPOINT " + before
	if !a.plan.direct {
		prepare = a.plan.createTemp() + "; " + prepare
	}
	if err := a.conn.exec(ctx, prepare); err != nil {
		return err
	}
	err := a.all(ctx)
	if e := serverError(err); e != nil && answered(err) && mayRefuseRow(e.Code) {
		return a.search(ctx, err)
	}
	return err
}

// missing names a table that is not there.
func (a *attempt) missing(err error) error {
	if e := serverError(err); e != nil && (e.Code == codeUndefinedTable || e.Code == codeUndefinedSchema) {
		return fmt.Errorf("table %s: %w: %w", a.data.target(), errNoTable, err)
	}
	return err
}

// layOut finds how the unit's rows go into the table as it is now. Rows that were checked against another table are checked again.
func (a *attempt) layOut(ctx context.Context) error {
	definition, err := readDefinition(ctx, a.conn, a.data.target())
	if err != nil {
		return fmt.Errorf("read pg_attribute: %w", err)
	}
	schema, err := a.rows.schema(ctx)
	if err != nil {
		return err
	}
	k := &a.layout
	if k.layout == nil || k.unit != a.data.layoutKey() || k.definition != definition || !sameSchema(k.schema, schema) {
		t, err := readTable(ctx, a.conn, a.data.target())
		if err != nil {
			return err
		}
		l, err := newLayout(t, schema, a.data)
		if err != nil {
			return fault.E("", fault.Misconfigured, fmt.Errorf("rows that were prepared don't fit the table any more: %w", err))
		}
		*k = madeLayout{unit: a.data.layoutKey(), definition: t.definition, schema: schema, layout: l}
	}
	a.plan = k.layout
	if a.data.Checked == k.definition {
		return nil
	}
	return a.check(ctx)
}

// check refuses the rows that the table can't hold since it was changed.
func (a *attempt) check(ctx context.Context) error {
	w := writer{layout: a.plan}
	var bad []badRow
	err := a.rows.each(ctx, span{0, a.unit.Rows}, func(b *record.Batch, first int64, _, _ int) error {
		for _, r := range w.check(b) {
			bad = append(bad, badRow{first + int64(r.Row), r})
		}
		return nil
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	return a.reject(ctx, bad, errColumns)
}

// all writes all rows of the unit.
func (a *attempt) all(ctx context.Context) error {
	whole := span{0, a.unit.Rows}
	if err := a.copySpan(ctx, whole); err != nil {
		return err
	}
	if a.plan.direct {
		return nil
	}
	return a.mergeSpan(ctx, whole)
}

// immediate makes deferred constraints speak before COMMIT, where no row can be told apart any more.
const immediate = "SET CONSTRAINTS ALL IMMEDIATE"

// copySpan sends rows.
func (a *attempt) copySpan(ctx context.Context, s span) error {
	rows := a.plan.open(ctx, &a.rows, s)
	_, err := a.conn.copyRows(ctx, a.plan.copyStatement(), rows.pipe, a.sink.settings.StatementTimeout)
	if own := rows.close(); own != nil {
		return own
	}
	if err != nil || !a.plan.direct {
		return err
	}
	return a.conn.long(ctx, immediate, a.sink.settings.StatementTimeout)
}

// mergeSpan brings rows from the temporary table into the target.
func (a *attempt) mergeSpan(ctx context.Context, s span) error {
	for _, q := range slices.Concat(a.plan.merge(s), []string{immediate}) {
		if err := a.conn.long(ctx, q, a.sink.settings.StatementTimeout); err != nil {
			return err
		}
	}
	return nil
}
