package step

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// closedGroups remembers, for each key group, the watermark at which the last of its windows that ended did so. What a window needs to
// begin again is therefore known even when the watermark was lost in a restart.
type closedGroups struct {
	t     *state.Task
	value state.Value[int64]
	known []bool
	ended []int64
}

func newClosedGroups(t *state.Task, d state.Descriptor) (closedGroups, error) {
	value, err := state.NewValue(t, d, state.Codec[int64](state.Int64{}), state.TTL{})
	return closedGroups{t: t, value: value, known: make([]bool, t.Groups()), ended: make([]int64, t.Groups())}, err
}

// at returns the watermark of a group. It selects another key than the current one.
func (c *closedGroups) at(group state.Group) (int64, error) {
	if c.known[group] {
		return c.ended[group], nil
	}
	c.t.For(nil, group)
	v, ok, err := c.value.Get()
	if err != nil {
		return 0, err
	}
	if !ok {
		v = state.NoTime
	}
	c.known[group], c.ended[group] = true, v
	return v, nil
}

// raise notes that a window of a group ended. It selects another key than the current one.
func (c *closedGroups) raise(group state.Group, watermark int64) error {
	held, err := c.at(group)
	if err != nil || watermark <= held {
		return err
	}
	c.ended[group] = watermark
	c.t.For(nil, group)
	c.value.Set(watermark)
	return nil
}

// sessionSpan is a session of a key: from its first row until the gap after its last one.
type sessionSpan struct {
	start, end int64
	id         int64 // the namespace of its accumulators, which stays while the session grows
	armed      int64 // when its timer fires; it is set anew only then
}

// sessions are the sessions of a key that have not ended, in order.
type sessions struct {
	next  int64 // id
	spans []sessionSpan
}

func sessionsCodec() state.Versioned[sessions] {
	return state.Versioned[sessions]{
		Name: "sessions", V: 1,
		Put: func(dst []byte, s sessions) []byte {
			dst = binary.AppendVarint(dst, s.next)
			for _, span := range s.spans {
				for _, v := range []int64{span.start, span.end - span.start, span.id, span.armed - span.end} {
					dst = binary.AppendVarint(dst, v)
				}
			}
			return dst
		},
		Read: readSessions,
	}
}

func readSessions(b []byte) (sessions, error) {
	var s sessions
	var err error
	next := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			err = errShort
			return 0
		}
		b = b[n:]
		return v
	}
	s.next = next()
	for len(b) > 0 && err == nil {
		span := sessionSpan{start: next()}
		span.end = span.start + next()
		span.id = next()
		span.armed = span.end + next()
		s.spans = append(s.spans, span)
	}
	return s, err
}

// sessionKeeper knows the sessions of the keys of a batch.
type sessionKeeper struct {
	value  state.Value[sessions]
	timers *state.Timers
	set    rowSet
	list   []sessions
	dirty  []bool
}

func newSessionKeeper(b *aggregateBinding, t *state.Task) (*sessionKeeper, error) {
	value, err := state.NewValue(t, b.sessions, state.Codec[sessions](sessionsCodec()), state.TTL{})
	if err != nil {
		return nil, err
	}
	timers, err := state.NewTimers(t, b.ends, state.EventTime)
	return &sessionKeeper{value: value, timers: timers, set: newRowSet()}, err
}

// of returns the number of the current key, which is that of a row.
func (k *sessionKeeper) of(keys *state.Keys, row int) (int, error) {
	n, fresh := k.set.find(keys, row, 0)
	if !fresh {
		return n, nil
	}
	held, _, err := k.value.Get()
	k.list, k.dirty = append(k.list, held), append(k.dirty, false)
	return n, err
}

// flush writes what changed to state and forgets it.
func (k *sessionKeeper) flush(t *state.Task, keys *state.Keys) {
	for n, dirty := range k.dirty {
		if dirty {
			row := k.set.list[n].row
			t.For(keys.Key(row), keys.Group(row))
			k.value.Set(k.list[n])
		}
	}
	k.set.clear()
	k.list, k.dirty = k.list[:0], k.dirty[:0]
}

// takeSession adds a row to the session that it makes, together with those that it touches.
func (o *aggregateOperator) takeSession(b *record.Batch, keys *state.Keys, row int, span sessionSpan, past int64) error {
	n, err := o.sessions.of(keys, row)
	if err != nil {
		return err
	}
	held := &o.sessions.list[n]
	from := 0
	for from < len(held.spans) && held.spans[from].end <= span.start {
		from++
	}
	to := from
	grown := span
	for ; to < len(held.spans) && held.spans[to].start < span.end; to++ {
		grown.start, grown.end = min(grown.start, held.spans[to].start), max(grown.end, held.spans[to].end)
	}
	if grown.end+o.lateness() <= past {
		o.tooLate(row, span.start, past)
		return nil
	}
	grown.id, grown.armed = held.next, grown.end+o.lateness()
	o.targets = o.targets[:0]
	for _, s := range held.spans[from:to] {
		e, err := o.entry(keys, row, s.id)
		if err != nil {
			return err
		}
		o.targets = append(o.targets, e)
	}
	if to > from {
		grown.id, grown.armed = held.spans[from].id, held.spans[from].armed
	} else {
		e, err := o.entry(keys, row, grown.id)
		if err != nil {
			return err
		}
		o.targets = append(o.targets, e)
	}
	if refused, err := o.refused(b, row, o.targets); err != nil || refused {
		return err
	}
	if to == from {
		held.next++
		o.sessions.timers.Set(grown.armed)
	}
	if err := o.join(o.targets); err != nil {
		return err
	}
	w := &o.work[o.targets[0]]
	w.start, w.end = grown.start, grown.end
	held.spans = slices.Replace(held.spans, from, to, grown)
	o.sessions.dirty[n] = true
	o.absorbed++
	return o.add(b, row, o.targets[0])
}

// join merges the accumulators of sessions into those of the first one.
func (o *aggregateOperator) join(entries []int) error {
	for _, from := range entries[1:] {
		for _, bank := range o.banks {
			if err := bank.merge(entries[0], from); err != nil {
				return err
			}
		}
		o.work[from].gone, o.work[from].changed = true, false
	}
	return nil
}

// endSessions ends the sessions whose end plus the allowed lateness the watermark has reached.
func (o *aggregateOperator) endSessions(watermark int64, out *record.Batch, res *KeyedResult) error {
	if watermark == state.NoTime {
		return nil
	}
	return o.sessions.timers.Fire(watermark, func(key []byte, group state.Group, _ int64) error {
		if err := o.endSessionsOf(key, group, watermark, out, res); err != nil {
			return err
		}
		if out.Rows >= o.madeMax {
			return state.ErrStop
		}
		return nil
	})
}

func (o *aggregateOperator) endSessionsOf(key []byte, group state.Group, watermark int64, out *record.Batch, res *KeyedResult) error {
	held, ok, err := o.sessions.value.Get()
	if err != nil || !ok {
		return err // they were joined to others, which have ended
	}
	kept, ended := held.spans[:0], int64(math.MinInt64)
	for _, span := range held.spans {
		if span.end+o.lateness() <= watermark {
			if err := o.endSession(key, span, out, res); err != nil {
				return err
			}
			ended = max(ended, span.end+o.lateness())
			continue
		}
		if span.armed <= watermark {
			span.armed = span.end + o.lateness()
			o.sessions.timers.Set(span.armed)
		}
		kept = append(kept, span)
	}
	held.spans = kept
	if len(kept) == 0 {
		o.sessions.value.Clear()
	} else {
		o.sessions.value.Set(held)
	}
	return o.closed.raise(group, ended)
}

// endSession makes the row of a session of the current key and deletes it.
func (o *aggregateOperator) endSession(key []byte, span sessionSpan, out *record.Batch, res *KeyedResult) error {
	acc := o.acc.In(span.id)
	stored, _, err := acc.Get()
	if err != nil {
		return err
	}
	o.forget()
	if err := o.load(stored, span.id); err != nil {
		return err
	}
	o.work[0].start, o.work[0].end = span.start, span.end
	if err := o.emitOut(out, key, 0, res); err != nil {
		return err
	}
	o.forget()
	acc.Clear()
	for _, bank := range o.banks {
		if own, ok := bank.(backed); ok {
			if err := own.drop(span.id); err != nil {
				return err
			}
		}
	}
	return nil
}
