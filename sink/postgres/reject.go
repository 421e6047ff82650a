package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// errRefused says that the server refuses named rows.
var errRefused = errors.New("the server refuses rows")

// The limits of a search. A unit with more refused rows than that has a cause that a person should see.
const (
	refusedMax = 1000
	triesMax   = 5000
)

// badRow is a refused row of a unit and why.
type badRow struct {
	row int64
	why record.Refusal
}

// finder finds the rows of a unit that the server refuses, within the unit's transaction: what is taken stays written, so that each
// row meets the ones before it, and only what is refused is undone.
type finder struct {
	*attempt
	tries int
	bad   []badRow
}

// search writes the unit once more, in pieces, and leaves out what the server refuses. nil means that nothing was refused this time,
// so that all is written. Otherwise the error is errRefused, or why no row could be blamed.
func (a *attempt) search(ctx context.Context, cause error) error {
	if err := a.conn.exec(ctx, "ROLLBACK TO SAVEPOINT "+before); err != nil {
		return err
	}
	f := finder{attempt: a}
	whole := span{0, a.unit.Rows}
	err := f.split(ctx, whole, f.copySpan)
	if err == nil && !a.plan.direct {
		err = f.split(ctx, whole, f.mergeSpan)
	}
	if err != nil || len(f.bad) == 0 {
		return err
	}
	return a.reject(ctx, f.bad, cause)
}

// atLine finds the row in the context of a refused COPY; it counts from 1.
var atLine = regexp.MustCompile(`^COPY [^\n]*, line (\d+)`)

// split tries rows, and parts of them when they are refused, in order, until each refused row stands alone. Those are tried once more
// at the end, as long as that helps: a row may refer to a later one.
func (f *finder) split(ctx context.Context, all span, try func(context.Context, span) error) error {
	bad, err := f.pass(ctx, []span{all}, try)
	for err == nil && len(bad) > 0 {
		left := len(bad)
		alone := make([]span, left)
		for i, b := range bad {
			alone[left-1-i] = span{b.row, b.row + 1}
		}
		if bad, err = f.pass(ctx, alone, try); len(bad) == left {
			break
		}
	}
	f.bad = append(f.bad, bad...)
	return err
}

// pass tries spans, the last one first.
func (f *finder) pass(ctx context.Context, work []span, try func(context.Context, span) error) ([]badRow, error) {
	var bad []badRow
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		refusal, err := f.try(ctx, s, try)
		if err != nil {
			return nil, err
		}
		if refusal == nil {
			continue
		}
		if s.to-s.from == 1 {
			bad = append(bad, badRow{s.from, record.Refusal{Reason: refusal.Message, Column: refusal.ColumnName, Byte: -1}})
		} else {
			work = append(work, parts(s, hint(refusal.Where, s))...)
		}
		if len(bad) > refusedMax || f.tries > triesMax {
			return nil, fault.WithRemedy("", fault.Rejected, fmt.Errorf("the server refuses more than %d rows, or they were not found in %d tries: %w",
				refusedMax, triesMax, refusal), "mend the table, or what is sent to it")
		}
	}
	return bad, nil
}

// hint is the row that a message blames, if it lies in the span, else -1. It is only where to look first.
func hint(where string, s span) int64 {
	m := atLine.FindStringSubmatch(where)
	if m == nil {
		return -1
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n < 1 || n > s.to-s.from {
		return -1
	}
	return s.from + n - 1
}

// parts splits a span in two, or around a row; the last part is the first to be tried.
func parts(s span, row int64) []span {
	middle := s.from + (s.to-s.from)/2
	if row < 0 {
		return []span{{middle, s.to}, {s.from, middle}}
	}
	list := []span{{row + 1, s.to}, {row, row + 1}, {s.from, row}}
	return slices.DeleteFunc(list, func(p span) bool { return p.from == p.to })
}

// try writes a span in a savepoint. A refusal undoes it.
func (f *finder) try(ctx context.Context, s span, write func(context.Context, span) error) (*pgconn.PgError, error) {
	const one = "ingestd_try"
	f.tries++
	if err := f.conn.exec(ctx, "SAVEPOINT "+one); err != nil {
		return nil, err
	}
	err := write(ctx, s)
	if err == nil {
		return nil, f.conn.exec(ctx, "RELEASE SAVEPOINT "+one)
	}
	e := serverError(err)
	if e == nil || !answered(err) || !mayRefuseRow(e.Code) {
		return nil, err
	}
	return e, f.conn.exec(ctx, "ROLLBACK TO SAVEPOINT "+one+"; RELEASE SAVEPOINT "+one)
}

// reject makes dead letters of refused rows.
func (a *attempt) reject(ctx context.Context, bad []badRow, cause error) error {
	slices.SortFunc(bad, func(a, b badRow) int { return cmp.Compare(a.row, b.row) })
	stage := "sink:" + a.sink.env.Identity.Sink
	var rows []sink.RejectedRow
	for _, x := range bad {
		err := a.rows.each(ctx, span{x.row, x.row + 1}, func(b *record.Batch, _ int64, from, _ int) error {
			rows = append(rows, sink.RejectedRow{Row: x.row, Letter: b.Letter(from, stage, x.why)})
			return nil
		})
		if err != nil {
			return err
		}
	}
	l := &rows[0].Letter
	if a.sink.settings.OnReject == rejectStop {
		return fault.WithRemedy("", fault.Rejected, fmt.Errorf("the server refuses %d rows, the first is %s offset %d: %s", len(rows), l.Split, l.Offset, l.Reason),
			`mend the table, or set on_reject = "dead_letter"`)
	}
	a.rejected = rows
	return fmt.Errorf("%w: %d, the first is %s offset %d: %s: %w", errRefused, len(rows), l.Split, l.Offset, l.Reason, cause)
}

// Replace stages the unit again without the rejected rows.
func (c *committer) Replace(ctx context.Context, u sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	out, err := c.replace(ctx, &u, rejected, unit)
	if err != nil {
		return sink.Committable{}, at("sink/postgres.Replace", fmt.Errorf("unit %s: %w", nameOf(&u), err))
	}
	return out, nil
}

func (c *committer) replace(ctx context.Context, u *sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	if _, err := readUnitData(u); err != nil {
		return sink.Committable{}, err
	}
	w := newWriter(0, c.sink.env.Segments, c.sink.settings)
	defer w.uploads.Stop()
	rows := reader{store: c.sink.env.Segments, unit: u}
	err := rows.each(ctx, span{0, u.Rows}, func(b *record.Batch, first int64, _, _ int) error {
		w.raw.Raw = hasRaw(b)
		if kept := without(b, refusalsOf(rejected, first, b.Rows)); kept.Rows > 0 {
			w.stage(ctx, kept)
		}
		return nil
	})
	if err != nil {
		return sink.Committable{}, err
	}
	part, err := w.Prepare(ctx, sink.Cut{Lease: u.Lease, Checkpoint: u.Checkpoint})
	if err != nil {
		return sink.Committable{}, err
	}
	if part.Rows != u.Rows-int64(len(rejected)) {
		return sink.Committable{}, fault.E("", fault.Corrupt, fmt.Errorf("%d rows less %d rejected ones are not %d", u.Rows, len(rejected), part.Rows))
	}
	return sink.Committable{
		Lease: u.Lease, Checkpoint: u.Checkpoint, Unit: unit, Rows: part.Rows, Bytes: part.Bytes, Segments: part.Segments,
		Version: u.Version, Data: u.Data,
	}, nil
}

// refusalsOf are the rejected rows of one batch, which begins at row first of the unit.
func refusalsOf(rejected []sink.RejectedRow, first int64, rows int) []record.Refusal {
	var list []record.Refusal
	for i := range rejected {
		if row := rejected[i].Row - first; row >= 0 && row < int64(rows) {
			list = append(list, record.Refusal{Row: int(row)})
		}
	}
	slices.SortFunc(list, func(a, b record.Refusal) int { return cmp.Compare(a.Row, b.Row) })
	return slices.CompactFunc(list, func(a, b record.Refusal) bool { return a.Row == b.Row })
}

// hasRaw reports whether a batch was stored with its raw records.
func hasRaw(b *record.Batch) bool {
	there := func(v []byte) bool { return v != nil }
	return slices.ContainsFunc(b.Meta.Values, there) || slices.ContainsFunc(b.Meta.Keys, there)
}
