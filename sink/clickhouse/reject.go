package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// refused is called when the server may have refused a row. It first makes sure that nothing of the unit has taken or can
// take effect, then finds the rows by trying them on a throw-away table of the same structure, never on the target.
func (c *committer) refused(ctx context.Context, a *attempt, cause error) (sink.Outcome, []sink.RejectedRow, error) {
	conn, err := c.connect(ctx, a.data.Server)
	if err != nil {
		return sink.Unknown, nil, errors.Join(cause, err)
	}
	if err := a.fence.ready(ctx, conn); err != nil {
		return sink.Unknown, nil, errors.Join(cause, err)
	}
	if a.data.Block != 0 {
		n, err := conn.number(ctx, countBlock(c.sink.tableName(), a.data.Block))
		if err != nil {
			return sink.Unknown, nil, errors.Join(cause, err)
		}
		if n > 0 {
			return sink.Unknown, nil, fmt.Errorf("%d rows are in the table already, and the rest is refused: %w", n, cause)
		}
	}
	f := finder{sink: c.sink, conn: conn, data: a.data, batches: a.batches}
	bad, err := f.find(ctx)
	if f.conn != conn {
		f.conn.close()
	}
	if err != nil {
		return sink.Retry, nil, fmt.Errorf("%w (looking for the refused rows: %w)", cause, err)
	}
	if len(bad) == 0 { // it was no row's fault: a view that fails, for instance
		return sink.Retry, nil, fault.E("", fault.Misconfigured, cause)
	}
	rows := f.letters(bad, "sink:"+c.sink.env.Identity.Sink)
	if c.sink.settings.OnReject == rejectStop {
		return sink.Retry, nil, stopOn(rows)
	}
	return sink.Rejected, rows, cause
}

// stopOn is the error that on_reject = "stop" ends with.
func stopOn(rows []sink.RejectedRow) error {
	l := &rows[0].Letter
	return fault.WithRemedy("", fault.Rejected,
		fmt.Errorf("the server refuses %d rows, the first is %s offset %d: %s", len(rows), l.Split, l.Offset, l.Reason),
		`mend the table, or set on_reject = "dead_letter"`)
}

// The limits of a search. A unit with more refused rows than that has a cause that a person should see.
const (
	refusedMax = 1000
	triesMax   = 5000
)

var (
	errManyRefused = fmt.Errorf("more than %d rows are refused", refusedMax)
	errManyTries   = fmt.Errorf("not found in %d tries", triesMax)
)

// finder finds the rows of a unit that the server refuses.
type finder struct {
	sink    *Sink
	conn    *conn
	data    *unitData
	batches []*record.Batch
	tries   int
	hints   int
}

// badRow is a refused row and the server's reason.
type badRow struct {
	row    int
	reason string
}

// span is a range of rows of the unit.
type span struct{ from, to int }

// find tries the unit on a table that stores nothing, which shows what constraints and column expressions refuse, and if that
// takes all, on a full copy, which has the partition key and the indices too.
func (f *finder) find(ctx context.Context) ([]badRow, error) {
	name := f.sink.tableName().sibling("ingestd_check_" + strconv.FormatUint(f.sink.number, 10))
	target := f.sink.tableName()
	for _, engine := range []string{" ENGINE = Null", ""} {
		f.tries, f.hints = 0, 0
		drop := "DROP TABLE IF EXISTS " + name.String() + " SYNC"
		for _, q := range []string{drop, "CREATE TABLE " + name.String() + " AS " + target.String() + engine} {
			if err := f.exec(ctx, q); err != nil {
				return nil, fmt.Errorf("make the throw-away table: %w", err)
			}
		}
		bad, err := f.search(ctx, name)
		dropErr := f.exec(ctx, drop)
		if err != nil || dropErr != nil || len(bad) > 0 {
			return bad, errors.Join(err, dropErr)
		}
	}
	return nil, nil
}

// connect makes sure that there is a connection: each refused try ends one.
func (f *finder) connect(ctx context.Context) error {
	if !f.conn.client.IsClosed() {
		return nil
	}
	c, err := f.sink.dialer.to(ctx, f.data.Server)
	if err == nil {
		f.conn = c
	}
	return err
}

// exec runs a statement about the throw-away table.
func (f *finder) exec(ctx context.Context, body string) error {
	if err := f.connect(ctx); err != nil {
		return err
	}
	return f.conn.exec(ctx, body)
}

// hintsMax is how often the row number of the server's message splits a large span. Each such split sends nearly all the rest
// again, so with many refused rows halving is cheaper; small spans always use the number.
const (
	hintsMax  = 4
	hintBelow = 1024
)

// search splits the unit until each refused row stands alone.
func (f *finder) search(ctx context.Context, name tableName) ([]badRow, error) {
	var bad []badRow
	work := []span{{0, rowsOf(f.batches)}}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		if s.from == s.to {
			continue
		}
		if f.tries++; f.tries > triesMax {
			return nil, errManyTries
		}
		reason, hint, err := f.try(ctx, name, s)
		if err != nil {
			return nil, err
		}
		if reason == "" {
			continue
		}
		middle := s.from + (s.to-s.from)/2
		switch {
		case s.to-s.from == 1:
			bad = append(bad, badRow{s.from, reason})
		case hint >= 0 && (f.hints < hintsMax || s.to-s.from < hintBelow):
			f.hints++
			bad = append(bad, badRow{hint, reason})
			work = append(work, span{s.from, hint}, span{hint + 1, s.to})
		default:
			work = append(work, span{s.from, middle}, span{middle, s.to})
		}
		if len(bad) > refusedMax {
			return nil, errManyRefused
		}
	}
	slices.SortFunc(bad, func(a, b badRow) int { return a.row - b.row })
	return bad, nil
}

// violatedAt finds the row number in the message of a violated constraint; it counts from 1 in the block.
var violatedAt = regexp.MustCompile(`is violated at row (\d+)\.`)

// try inserts rows into the throw-away table. reason is the server's refusal, "" if it takes them; hint is the row that the
// message names, or -1.
func (f *finder) try(ctx context.Context, name tableName, s span) (reason string, hint int, err error) {
	if err := f.connect(ctx); err != nil {
		return "", -1, err
	}
	data := unitData{Columns: f.data.Columns}
	block, err := newBlock(&data, part(f.batches, s))
	if err != nil {
		return "", -1, err
	}
	in := insertion{table: name, columns: f.data.Columns}
	ctx, cancel := context.WithTimeout(ctx, f.sink.settings.InsertTimeout)
	defer cancel()
	settings := append(slices.Clone(f.sink.extra), ch.Setting{Key: "max_partitions_per_insert_block", Value: "0"})
	_, err = f.conn.insert(ctx, insertQuery{body: in.plain(), settings: settings, block: block})
	if err == nil {
		return "", -1, nil
	}
	var e *ch.Exception
	if !errors.As(err, &e) || !mayRefuseRow(int(e.Code)) {
		return "", -1, err
	}
	return e.Message, hintOf(e, s), nil
}

// hintOf is the row that a message names, if it lies in the span.
func hintOf(e *ch.Exception, s span) int {
	m := violatedAt.FindStringSubmatch(e.Message)
	if int(e.Code) != codeViolatedConstraint || m == nil {
		return -1
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 || n > s.to-s.from {
		return -1
	}
	return s.from + n - 1
}

// rowsOf counts the rows of batches.
func rowsOf(batches []*record.Batch) int {
	n := 0
	for _, b := range batches {
		n += b.Rows
	}
	return n
}

// part copies a span of the rows of batches; whole batches are not copied.
func part(batches []*record.Batch, s span) []*record.Batch {
	var list []*record.Batch
	first := 0
	for _, b := range batches {
		from, to := max(s.from-first, 0), min(s.to-first, b.Rows)
		switch {
		case from >= to:
		case from == 0 && to == b.Rows:
			list = append(list, b)
		default:
			list = append(list, slice(b, from, to))
		}
		first += b.Rows
	}
	return list
}

// letters makes the dead letters of refused rows.
func (f *finder) letters(bad []badRow, stage string) []sink.RejectedRow {
	rows := make([]sink.RejectedRow, 0, len(bad))
	first := 0
	for _, b := range f.batches {
		for len(bad) > 0 && bad[0].row < first+b.Rows {
			letter := b.Letter(bad[0].row-first, stage, record.Refusal{Reason: bad[0].reason, Byte: -1})
			rows = append(rows, sink.RejectedRow{Row: int64(bad[0].row), Letter: letter})
			bad = bad[1:]
		}
		first += b.Rows
	}
	return rows
}

// Replace stages the unit again without the rejected rows. The replacement keeps the block number: the unit that it replaces
// was refused, so it is proven that no row has that number, and no insert of it can come any more, because each carries a fence
// row that is not the newest. A new number would have to be one that a published manifest has reserved for this run, and a
// takeover has none before its first manifest.
func (c *committer) Replace(ctx context.Context, u sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	const op = "sink/clickhouse.Replace"
	fail := func(err error) (sink.Committable, error) {
		return sink.Committable{}, fault.E(op, kindOf(err), fmt.Errorf("unit %d/%d/%d: %w", u.Lease, u.Checkpoint, u.Unit, err))
	}
	if _, err := readUnitData(&u); err != nil {
		return fail(err)
	}
	batches, err := loadUnit(ctx, c.sink.env.Segments, &u)
	if err != nil {
		return fail(err)
	}
	w := newWriter(0, c.sink.env.Segments, nil, nil)
	w.limits(c.sink.settings)
	w.raw.Raw = hasRaw(batches)
	first := 0
	for _, b := range batches {
		if kept := without(b, refusalsOf(rejected, first, b.Rows)); kept.Rows > 0 {
			w.stage(ctx, kept)
		}
		first += b.Rows
	}
	part, err := w.Prepare(ctx, sink.Cut{Lease: u.Lease, Checkpoint: u.Checkpoint})
	if err != nil {
		return fail(err)
	}
	out := sink.Committable{
		Lease: u.Lease, Checkpoint: u.Checkpoint, Unit: unit, Rows: part.Rows, Bytes: part.Bytes, Segments: part.Segments,
		Version: unitVersion, Data: u.Data,
	}
	if out.Rows != u.Rows-int64(len(rejected)) {
		return fail(fault.E("", fault.Corrupt, fmt.Errorf("%d rows less %d rejected ones are not %d", u.Rows, len(rejected), out.Rows)))
	}
	return out, nil
}

// refusalsOf are the rejected rows of one batch, which begins at row first of the unit.
func refusalsOf(rejected []sink.RejectedRow, first, rows int) []record.Refusal {
	var list []record.Refusal
	for i := range rejected {
		if row := int(rejected[i].Row) - first; row >= 0 && row < rows {
			list = append(list, record.Refusal{Row: row})
		}
	}
	slices.SortFunc(list, func(a, b record.Refusal) int { return a.Row - b.Row })
	return slices.CompactFunc(list, func(a, b record.Refusal) bool { return a.Row == b.Row })
}

// hasRaw reports whether batches were stored with their raw records.
func hasRaw(batches []*record.Batch) bool {
	return slices.ContainsFunc(batches, func(b *record.Batch) bool {
		return slices.ContainsFunc(b.Meta.Values, func(v []byte) bool { return v != nil }) ||
			slices.ContainsFunc(b.Meta.Keys, func(k []byte) bool { return k != nil })
	})
}
