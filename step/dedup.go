package step

import (
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// Dedup keeps the first row of each key and drops those that follow within the TTL, exactly: by whole key, in state that is part of
// each checkpoint.
type Dedup struct {
	ID  string
	Key []string
	// TTL is how long a key is remembered after the row that was kept, and by which clock; up to half of it longer (see [state.Seen]).
	// 0: for ever.
	TTL state.TTL
	// TimeColumn is the column of the event time; "": the records' timestamps.
	TimeColumn string
}

var (
	_ KeyedStep  = (*Dedup)(nil)
	_ EventTimed = (*Dedup)(nil)
)

// Name returns the id.
func (d *Dedup) Name() string { return d.ID }

// KeyColumns returns the key.
func (d *Dedup) KeyColumns() []string { return d.Key }

// EventTimeColumn returns the column of the event time.
func (d *Dedup) EventTimeColumn() (column string, needed bool) {
	return d.TimeColumn, d.TTL.For > 0 && d.TTL.By == state.EventTime
}

// BindKeyed checks the key and the event time.
func (d *Dedup) BindKeyed(in *record.Schema) (KeyedBinding, error) {
	fields, err := keyFields(d.Key, in)
	errs := []error{err}
	at, err := NewEventTime(in, d.TimeColumn)
	if err != nil {
		errs = append(errs, fmt.Errorf("time_column: %w", err))
	}
	if d.TTL.For < 0 {
		errs = append(errs, fmt.Errorf("ttl: %s is negative", d.TTL.For))
	}
	if err := errors.Join(errs...); err != nil {
		return KeyedBinding{}, misconfigured(d.ID, err)
	}
	described := state.DescribeSeen(d.ID, "keys")
	return KeyedBinding{
		Out: in, States: []state.Descriptor{describeKey(d.ID, fields), described},
		Open: func(t *state.Task) (Operator, error) {
			seen, err := state.NewSeen(t, described, d.TTL)
			if err != nil {
				return nil, err
			}
			_, byEvent := d.EventTimeColumn()
			return &dedupOperator{step: *d, t: t, seen: seen, time: at, byEvent: byEvent, r: refuser{step: d.ID}, watermark: state.NoTime, clock: state.NoTime}, nil
		},
	}, nil
}

type dedupOperator struct {
	step    Dedup
	t       *state.Task
	seen    *state.Seen
	time    EventTime
	byEvent bool
	r       refuser
	kept    []uint32

	watermark, clock int64
}

var errNoClock = errors.New("a row came before the step was told the time")

// Process takes the rows out whose key was seen.
func (o *dedupOperator) Process(b *record.Batch, keys *state.Keys, res *KeyedResult) error {
	rows := b.Rows
	o.r.begin(b)
	o.kept = o.kept[:0]
	if o.clock == state.NoTime && !o.byEvent && o.step.TTL.For > 0 {
		return fault.E("step.Dedup", fault.Unknown, errNoClock)
	}
	for row := range rows {
		at, reason := o.at(b, row)
		if reason != "" {
			o.r.refuse(row, o.step.TimeColumn, reason)
			continue
		}
		o.t.For(keys.Key(row), keys.Group(row))
		seen, err := o.seen.Seen(at)
		if err != nil {
			return err
		}
		if !seen {
			o.kept = append(o.kept, uint32(row))
		}
	}
	for _, refusal := range o.r.reasons {
		res.Refused = append(res.Refused, b.Letter(refusal.Row, "step:"+o.r.step, refusal))
	}
	b.Keep(o.kept)
	keys.Keep(o.kept)
	duplicates := rows - len(o.kept) - len(o.r.reasons)
	res.Deduplicated += int64(duplicates)
	invariant.Check("I12", b.Rows == keys.Len() && rows == b.Rows+duplicates+len(o.r.reasons),
		"step", o.step.ID, "in", rows, "passed", b.Rows, "keys", keys.Len())
	return nil
}

// at returns the time of a row by the step's clock.
func (o *dedupOperator) at(b *record.Batch, row int) (at int64, reason string) {
	if !o.byEvent {
		return o.clock, ""
	}
	at, ok := o.time.At(b, row)
	if !ok {
		return 0, "the row has no event time"
	}
	return at, plausible(at)
}

// Advance forgets keys.
func (o *dedupOperator) Advance(watermark, clock int64, _ *record.Batch, _ *KeyedResult) error {
	o.watermark, o.clock = max(o.watermark, watermark), max(o.clock, clock)
	o.t.SetTime(o.watermark, o.clock)
	return o.seen.Expire()
}

// End has nothing to do: no row waits.
func (*dedupOperator) End(*record.Batch, *KeyedResult) error { return nil }
