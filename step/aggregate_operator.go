package step

import (
	"errors"
	"fmt"
	"math"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// aggregateOperator is an Aggregate in one task. Rows of a batch with the same key and window share one entry: its accumulators are
// read from state and written back once for each batch.
type aggregateOperator struct {
	*aggregateBinding
	t    *state.Task
	acc  state.Value[[]byte]
	hide []assignment // arguments that are expressions
	r    refuser

	banks   []bank
	checks  []refusing // nil where a bank takes every row
	set     rowSet
	work    []workEntry
	one     [1]int
	targets []int
	buf     []byte

	made     *made
	cols     []*record.Column
	absorbed int
	late     int

	watermark int64
	clock     int64
	closed    closedGroups
	sessions  *sessionKeeper
	endGroup  int // where End goes on

	// workMax is the number of entries of a batch that are worked on at a time, which matters with many windows for each row.
	workMax int
	// madeMax is the number of rows in out at which Advance and End stop; the next call goes on.
	madeMax int
}

// workEntry is what an entry of the set is, beside its accumulators.
type workEntry struct {
	start, end int64
	lastRow    int
	changed    bool
	gone       bool // merged into another
	emitted    bool // at the end of a bounded input, and not changed since
}

const (
	workMaxDefault = 1 << 16
	madeMaxDefault = 4096
)

const emittedFlag = 1

func newAggregateOperator(b *aggregateBinding, in *record.Schema, t *state.Task) (Operator, error) {
	o := &aggregateOperator{
		aggregateBinding: b, t: t, r: refuser{step: b.step.ID}, set: newRowSet(), made: newMade(b.out), watermark: state.NoTime,
		clock: state.NoTime, workMax: workMaxDefault, madeMax: madeMaxDefault,
	}
	var err error
	if o.acc, err = state.NewValue(t, b.accumulators, state.Codec[[]byte](b.accCodec), b.step.TTL); err != nil {
		return nil, err
	}
	for i := range b.columns {
		c := &b.columns[i]
		bank, err := c.typ.open(t, c.own)
		if err != nil {
			return nil, err
		}
		check, _ := bank.(refusing) //nolint:errcheck // most banks take every row
		o.banks, o.checks = append(o.banks, bank), append(o.checks, check)
		if c.hasExpr {
			hidden, _, err := bindAssignment(Assignment{Column: c.value, Value: c.value}, in)
			if err != nil {
				return nil, misconfigured(b.step.ID, err)
			}
			hidden.column = b.step.Columns[i].Column
			o.hide = append(o.hide, hidden)
		}
	}
	if b.step.Window.Kind == NoWindow {
		return o, nil
	}
	if o.closed, err = newClosedGroups(t, b.closed); err != nil {
		return nil, err
	}
	if b.step.Window.Kind == Session {
		o.sessions, err = newSessionKeeper(b, t)
	}
	return o, err
}

// Process adds the rows of a batch to the accumulators of their keys, and replaces them by the rows of what changed if those are emitted.
func (o *aggregateOperator) Process(b *record.Batch, keys *state.Keys, res *KeyedResult) error {
	rows := b.Rows
	o.r.begin(b)
	for i := range o.hide {
		o.hide[i].fill(b, &o.r)
	}
	o.absorbed, o.late = 0, 0
	for row := range rows {
		if o.r.out[row] {
			continue
		}
		if len(o.work) >= o.workMax {
			if err := o.flush(b, keys); err != nil {
				return err
			}
		}
		if err := o.take(b, keys, row); err != nil {
			return err
		}
	}
	if err := o.flush(b, keys); err != nil {
		return err
	}
	for _, refusal := range o.r.reasons {
		res.Refused = append(res.Refused, b.Letter(refusal.Row, "step:"+o.r.step, refusal))
	}
	invariant.Check("I12", rows == o.absorbed+o.late+len(o.r.reasons),
		"step", o.step.ID, "in", rows, "absorbed", o.absorbed, "late", o.late, "refused", len(o.r.reasons))
	res.Absorbed += int64(o.absorbed)
	res.Late += int64(o.late)
	res.Made += int64(o.made.rows.Rows)
	o.made.replace(b, keys)
	return nil
}

// take adds one row.
func (o *aggregateOperator) take(b *record.Batch, keys *state.Keys, row int) error {
	group := keys.Group(row)
	at, past := int64(0), int64(0)
	if o.step.Window.Kind != NoWindow {
		var ok bool
		if at, ok = o.time.At(b, row); !ok {
			o.r.refuse(row, o.step.TimeColumn, "the row has no event time")
			return nil
		}
		if reason := plausible(at); reason != "" {
			o.r.refuse(row, o.step.TimeColumn, reason)
			return nil
		}
		closed, err := o.closed.at(group)
		if err != nil {
			return err
		}
		past = max(closed, o.watermark)
	}
	o.t.For(keys.Key(row), group)
	switch o.step.Window.Kind {
	case NoWindow:
		return o.takeFixed(b, keys, row, []int64{0})
	case Session:
		return o.takeSession(b, keys, row, sessionSpan{start: at, end: at + o.step.Window.Gap.Milliseconds()}, past)
	case Tumbling, Hopping:
	}
	var ends [windowsPerRowMax + 1]int64
	open := o.step.Window.ends(ends[:0], at)
	for len(open) > 0 && open[0]+o.lateness() <= past {
		open = open[1:]
	}
	if len(open) == 0 {
		o.tooLate(row, at, past)
		return nil
	}
	return o.takeFixed(b, keys, row, open)
}

func (o *aggregateOperator) lateness() int64 { return o.step.AllowedLateness.Milliseconds() }

func (o *aggregateOperator) tooLate(row int, at, past int64) {
	if o.step.Late == LateDrop {
		o.r.drop(row)
		o.late++
		return
	}
	o.r.refuse(row, o.step.TimeColumn, fmt.Sprintf("late: the window of the event time %d ms has ended, event time has come to %d ms", at, past))
}

// takeFixed adds a row to the windows with the given ends: to all of them or, if one can't take it, to none.
func (o *aggregateOperator) takeFixed(b *record.Batch, keys *state.Keys, row int, ends []int64) error {
	o.targets = o.targets[:0]
	for _, end := range ends {
		e, err := o.entry(keys, row, end)
		if err != nil {
			return err
		}
		o.work[e].start, o.work[e].end = end-o.step.Window.length(), end
		o.targets = append(o.targets, e)
		o.one[0] = e
		if refused, err := o.refused(b, row, o.one[:]); err != nil || refused {
			return err
		}
	}
	for _, e := range o.targets {
		if err := o.add(b, row, e); err != nil {
			return err
		}
	}
	o.absorbed++
	return nil
}

// entry returns the entry of a row's key in a namespace, with what state holds of it. The row's key must be the current one.
func (o *aggregateOperator) entry(keys *state.Keys, row int, space int64) (int, error) {
	e, fresh := o.set.find(keys, row, space)
	if !fresh {
		return e, nil
	}
	stored, ok, err := o.accIn(space).Get()
	if err != nil {
		return 0, err
	}
	if !ok {
		stored = nil
	}
	return e, o.load(stored, space)
}

func (o *aggregateOperator) accIn(space int64) state.Value[[]byte] {
	if o.step.Window.Kind == NoWindow {
		return o.acc
	}
	return o.acc.In(space)
}

// load adds an entry with what is stored of it, or one of no rows if stored is nil.
func (o *aggregateOperator) load(stored []byte, space int64) error {
	entry := workEntry{}
	for _, bank := range o.banks {
		bank.grow(space)
	}
	if len(stored) > 0 {
		entry.emitted = stored[0]&emittedFlag != 0
		rest := stored[1:]
		var err error
		for i, bank := range o.banks {
			if rest, err = bank.load(rest); err != nil {
				return o.corrupt(i, err)
			}
		}
		if len(rest) > 0 {
			return o.corrupt(len(o.banks)-1, errLong)
		}
	}
	o.work = append(o.work, entry)
	return nil
}

var errLong = errors.New("more bytes are stored than it has")

func (o *aggregateOperator) corrupt(column int, err error) error {
	return fault.E("step.Aggregate", fault.Corrupt,
		fmt.Errorf("step %q, accumulator of column %q: %w", o.step.ID, o.step.Columns[column].Column, err))
}

// refused refuses a row that an aggregate can't add to what the entries hold together, and tells so.
func (o *aggregateOperator) refused(b *record.Batch, row int, entries []int) (bool, error) {
	for i, check := range o.checks {
		at := argument{b: b, at: o.columns[i].place, row: row}
		if check == nil || at.null() {
			continue
		}
		reason, err := check.check(entries, at)
		if err != nil {
			return false, err
		}
		if reason != "" {
			column := o.step.Columns[i]
			o.r.refuse(row, column.Column, fmt.Sprintf("%s: %s", column.Value, reason))
			return true, nil
		}
	}
	return false, nil
}

// add adds a row to an entry.
func (o *aggregateOperator) add(b *record.Batch, row, entry int) error {
	w := &o.work[entry]
	w.lastRow, w.changed, w.emitted = row, true, false
	for i, bank := range o.banks {
		at := argument{b: b, at: o.columns[i].place, row: row}
		if at.null() {
			continue
		}
		if err := bank.add(entry, at); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the entries to state, makes the rows of those that changed if they are emitted, and forgets them.
func (o *aggregateOperator) flush(b *record.Batch, keys *state.Keys) error {
	for e := range o.work {
		w := &o.work[e]
		row, space := o.set.list[e].row, o.set.list[e].space
		if !w.changed && !w.gone {
			continue
		}
		o.t.For(keys.Key(row), keys.Group(row))
		if w.gone {
			o.accIn(space).Clear()
			continue
		}
		o.save(e, space)
		if o.step.Emit != EmitUpdate {
			continue
		}
		if err := o.emit(o.made.rows, keys.Key(row), e); err != nil {
			return err
		}
		o.made.appendMeta(b, w.lastRow)
		o.made.keys.Append(keys.Key(row), keys.Group(row))
	}
	if o.sessions != nil {
		o.sessions.flush(o.t, keys)
	}
	o.forget()
	return nil
}

func (o *aggregateOperator) save(entry int, space int64) {
	flags := byte(0)
	if o.work[entry].emitted {
		flags = emittedFlag
	}
	o.buf = append(o.buf[:0], flags)
	for _, bank := range o.banks {
		o.buf = bank.save(o.buf, entry)
	}
	o.accIn(space).Set(o.buf)
}

func (o *aggregateOperator) forget() {
	o.set.clear()
	o.work = o.work[:0]
	for _, bank := range o.banks {
		bank.clear()
	}
}

// emit appends the columns of an entry's row: key, bounds of the window, aggregates. The key must be the current one.
func (o *aggregateOperator) emit(out *record.Batch, key []byte, entry int) error {
	o.cols = o.cols[:0]
	for i := range o.keys {
		o.cols = append(o.cols, &out.Cols[i])
	}
	if err := state.ReadKey(key, o.cols...); err != nil {
		return err
	}
	next := o.keys
	for _, bound := range []struct {
		name string
		at   int64
	}{{o.step.Start, o.work[entry].start}, {o.step.End, o.work[entry].end}} {
		if bound.name != "" {
			out.Cols[next].AppendInt(bound.at)
			next++
		}
	}
	for i, bank := range o.banks {
		if err := bank.emit(&out.Cols[next+i], entry); err != nil {
			return o.corrupt(i, err)
		}
	}
	return nil
}

// emitOut makes a row of out that comes from no single record.
func (o *aggregateOperator) emitOut(out *record.Batch, key []byte, entry int, res *KeyedResult) error {
	if err := o.emit(out, key, entry); err != nil {
		return err
	}
	at := int64(-1)
	if o.step.Window.Kind != NoWindow {
		at = o.work[entry].end - 1
	}
	out.AppendMeta(record.RowMeta{Offset: -1, Timestamp: at})
	res.Made++
	return nil
}

// Advance ends windows. When out has rows afterwards more may be due: it is to be called again with an empty out.
func (o *aggregateOperator) Advance(watermark, clock int64, out *record.Batch, res *KeyedResult) error {
	o.watermark, o.clock = max(o.watermark, watermark), max(o.clock, clock)
	o.t.SetTime(o.watermark, o.clock)
	switch o.step.Window.Kind {
	case NoWindow:
		return nil
	case Session:
		return o.endSessions(o.watermark, out, res)
	case Tumbling, Hopping:
	}
	if o.watermark == state.NoTime {
		return nil
	}
	return o.endWindows(o.watermark-o.lateness(), out, res)
}

// endWindows ends the windows with an end up to upTo.
func (o *aggregateOperator) endWindows(upTo int64, out *record.Batch, res *KeyedResult) error {
	for _, group := range o.t.Own() {
		err := o.acc.Namespaces(group, upTo, func(end int64) error {
			if err := o.endWindow(group, end, out, res); err != nil {
				return err
			}
			if out.Rows >= o.madeMax {
				return state.ErrStop
			}
			return nil
		})
		if err != nil || out.Rows >= o.madeMax {
			return err
		}
	}
	return nil
}

// endWindow makes the rows of a key group's window, if they are final, and deletes it.
func (o *aggregateOperator) endWindow(group state.Group, end int64, out *record.Batch, res *KeyedResult) error {
	acc := o.acc.In(end)
	if o.step.Emit == EmitFinal {
		err := acc.Each(group, func(key, stored []byte) error {
			o.forget()
			if err := o.load(stored, end); err != nil {
				return err
			}
			o.work[0].start, o.work[0].end = end-o.step.Window.length(), end
			return o.emitOut(out, key, 0, res)
		})
		o.forget()
		if err != nil {
			return err
		}
	}
	acc.DropNamespace(group, end)
	for _, bank := range o.banks {
		if own, ok := bank.(backed); ok {
			own.dropNamespace(group, end)
		}
	}
	return o.closed.raise(group, end+o.lateness())
}

// End ends all windows, and without windows makes the rows of the keys that changed since the last end, if they are final. Like
// Advance it is to be called again while out has rows afterwards.
func (o *aggregateOperator) End(out *record.Batch, res *KeyedResult) error {
	switch o.step.Window.Kind {
	case NoWindow:
		return o.endRunning(out, res)
	case Session:
		return o.endSessions(math.MaxInt64, out, res)
	case Tumbling, Hopping:
	}
	return o.endWindows(math.MaxInt64, out, res)
}

func (o *aggregateOperator) endRunning(out *record.Batch, res *KeyedResult) error {
	if o.step.Emit != EmitFinal {
		return nil
	}
	own := o.t.Own()
	for ; o.endGroup < len(own) && out.Rows < o.madeMax; o.endGroup++ {
		err := o.acc.Each(own[o.endGroup], func(key, stored []byte) error {
			o.forget()
			if err := o.load(stored, 0); err != nil {
				return err
			}
			if o.work[0].emitted {
				return nil
			}
			o.work[0].emitted = true
			o.save(0, 0)
			return o.emitOut(out, key, 0, res)
		})
		o.forget()
		if err != nil {
			return err
		}
	}
	if out.Rows == 0 {
		o.endGroup = 0
	}
	return nil
}
