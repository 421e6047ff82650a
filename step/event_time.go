package step

import (
	"fmt"
	"math"

	"github.com/ingestd/ingestd/record"
)

// EventTime reads the event time of rows: from a column, or from the records' own timestamps.
type EventTime struct {
	column int // -1: the records' timestamps
	// per is the ticks of the column in a millisecond; if it is 0, a tick is `ticks` milliseconds.
	per, ticks int64
}

// NewEventTime finds the event time of batches of a schema. column is one of its timestamps or dates; "" and "_timestamp" are the
// records' own timestamps.
func NewEventTime(in *record.Schema, column string) (EventTime, error) {
	e := EventTime{column: in.Index(column)}
	if e.column < 0 {
		if column == "" || column == Timestamp {
			return e, nil
		}
		return e, unknownColumn(column, in)
	}
	const msPerSecond, msDigits = 1000, 3
	switch t := &in.Fields[e.column].Type; {
	case t.Kind == record.Date:
		e.ticks = secondsPerDay * msPerSecond
	case t.Kind == record.Timestamp && t.Precision > msDigits:
		e.per = ticksPerSecond(t.Precision - msDigits)
	case t.Kind == record.Timestamp:
		e.ticks = ticksPerSecond(msDigits - t.Precision)
	default:
		return e, fmt.Errorf("column %q can't be the event time: a timestamp or a date is expected, it is %s", column, t)
	}
	return e, nil
}

// At returns a row's event time in milliseconds since 1970, rounded down; ok is false when it has none.
func (e *EventTime) At(b *record.Batch, row int) (ms int64, ok bool) {
	if e.column < 0 {
		ms = b.Meta.Timestamps[row]
		return ms, ms != -1
	}
	c := &b.Cols[e.column]
	if c.IsNull(row) {
		return 0, false
	}
	v := c.Int(row)
	if e.per > 0 {
		ms = v / e.per
		if v%e.per < 0 {
			ms--
		}
		return ms, true
	}
	if v > math.MaxInt64/e.ticks || v < math.MinInt64/e.ticks {
		return 0, false
	}
	return v * e.ticks, true
}

// eventTimeMax bounds event times so that what is computed from one can't overflow: the year 36,812 and its counterpart.
const eventTimeMax = 1 << 50

// plausible returns why an event time can't be used, or "".
func plausible(ms int64) string {
	if ms > eventTimeMax || ms < -eventTimeMax {
		return fmt.Sprintf("the event time %d ms is out of range", ms)
	}
	return ""
}
