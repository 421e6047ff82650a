package state

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

func (w *world) stamp(by Clock) int64 {
	if by == EventTime {
		return w.wm
	}
	return w.wall
}

func stamp[T any](w *world, v T, by Clock) written[T] {
	now := w.stamp(by)
	return written[T]{v, now, now != NoTime}
}

func alive[T any](w *world, e written[T], ok bool, ttl TTL) bool { //nolint:revive // as maps say it
	if !ok || !e.stamped || ttl.For == 0 {
		return ok
	}
	return e.at+ttl.For.Milliseconds() > w.stamp(ttl.By)
}

func differs[T comparable](what string, got T, ok bool, want T, wantOK bool) error { //nolint:revive // as states say it
	if ok != wantOK || ok && got != want {
		return fmt.Errorf("%s: got %v %v, want %v %v", what, got, ok, want, wantOK)
	}
	return nil
}

func (w *world) onValue(a at) error {
	v := w.value
	if a.scoped {
		v = v.In(a.space)
	}
	switch w.IntN(4) {
	case 0, 1:
		n := int64(w.Uint64() >> w.IntN(64))
		v.Set(n)
		w.now.values[a] = stamp(w, n, ProcessingTime)
	case 2:
		v.Clear()
		delete(w.now.values, a)
	}
	got, ok, err := v.Get()
	e, has := w.now.values[a]
	return cmp.Or(err, differs(fmt.Sprint("value of ", a), got, ok, e.v, alive(w, e, has, w.value.cell.own.ttl)))
}

func (w *world) onList(a at) error {
	l := w.list
	if a.scoped {
		l = l.In(a.space)
	}
	e, has := w.now.lists[a]
	if !alive(w, e, has, l.cell.own.ttl) {
		e = written[[]int64]{}
	}
	switch w.IntN(5) {
	case 0, 1, 2:
		for range 1 + w.IntN(30) {
			n := w.Int64N(1000)
			if err := l.Append(n); err != nil {
				return err
			}
			e = stamp(w, append(slices.Clip(e.v), n), EventTime)
		}
		w.now.lists[a] = e
	case 3:
		if err := l.Clear(); err != nil {
			return err
		}
		delete(w.now.lists, a)
		e = written[[]int64]{}
	}
	var got []int64
	err := l.Each(func(v int64) error { got = append(got, v); return nil })
	n, err2 := l.Len()
	if !slices.Equal(got, e.v) || n != uint64(len(e.v)) {
		return cmp.Or(err, err2, fmt.Errorf("list of %v: got %v (length %d), want %v", a, got, n, e.v))
	}
	return cmp.Or(err, err2)
}

func (w *world) onMap(a at) error {
	m := w.dict
	if a.scoped {
		m = m.In(a.space)
	}
	if w.now.maps[a] == nil {
		w.now.maps[a] = map[int64]written[string]{}
	}
	model := w.now.maps[a]
	switch w.IntN(6) {
	case 0, 1, 2:
		for range 1 + w.IntN(25) {
			k, v := w.Int64N(120)-60, fmt.Sprint(w.IntN(1000))
			m.Put(k, v)
			model[k] = stamp(w, v, ProcessingTime)
		}
	case 3:
		k := w.Int64N(120) - 60
		m.Delete(k)
		delete(model, k)
	case 4:
		if err := m.Clear(); err != nil {
			return err
		}
		clear(model)
	}
	k := w.Int64N(120) - 60
	got, ok, err := m.Get(k)
	e, has := model[k]
	if err := cmp.Or(err, differs(fmt.Sprint("entry ", k, " of ", a), got, ok, e.v, alive(w, e, has, m.cell.own.ttl))); err != nil {
		return err
	}
	return w.compareMap(m, a)
}

func (w *world) compareMap(m Map[int64, string], a at) error {
	var want, got []string
	for _, k := range slices.Sorted(maps.Keys(w.now.maps[a])) {
		if e := w.now.maps[a][k]; alive(w, e, true, m.cell.own.ttl) {
			want = append(want, fmt.Sprint(k, "=", e.v))
		}
	}
	err := m.Each(func(k int64, v string) error { got = append(got, fmt.Sprint(k, "=", v)); return nil })
	if !slices.Equal(got, want) {
		return cmp.Or(err, fmt.Errorf("map of %v: got %v, want %v", a, got, want))
	}
	return err
}

func (w *world) onSum(a at) error {
	s := w.sum
	if a.scoped {
		s = s.In(a.space)
	}
	e, has := w.now.sums[a]
	switch w.IntN(3) {
	case 0:
		n := w.Int64N(100)
		if err := s.Add(n); err != nil {
			return err
		}
		if has {
			n += 3 * e.v
		}
		e, has = written[int64]{v: n}, true
		w.now.sums[a] = e
	case 1:
		if w.IntN(4) == 0 {
			s.Clear()
			delete(w.now.sums, a)
			has = false
		}
	}
	got, ok, err := s.Get()
	return cmp.Or(err, differs(fmt.Sprint("sum of ", a), got, ok, e.v, has))
}

func (w *world) onAggregate(a at) error {
	s := w.agg
	if a.scoped {
		s = s.In(a.space)
	}
	e, has := w.now.aggregates[a]
	switch w.IntN(4) {
	case 0:
		if err := s.Add("abc"); err != nil {
			return err
		}
		if !has {
			e.v = 1000
		}
		e.v, has = e.v+3, true
		w.now.aggregates[a] = e
	case 1:
		if err := s.Add("refuse"); !errors.Is(err, errRefused) {
			return fmt.Errorf("got %w, want a refusal", err)
		}
	case 2:
		if err := s.MergeFrom(0, 1); err != nil {
			return err
		}
		for space := range int64(2) {
			other := at{a.group, space, true, a.key}
			if o, ok := w.now.aggregates[other]; ok && other != a {
				if has {
					o.v += e.v - 1000
				}
				e, has = o, true
				delete(w.now.aggregates, other)
			}
		}
		if has {
			w.now.aggregates[a] = e
		}
	}
	got, ok, err := s.Get()
	return cmp.Or(err, differs(fmt.Sprint("aggregate of ", a), got, ok, fmt.Sprint("n", e.v), has))
}

func (w *world) onTimer(a at) error {
	when := max(w.wm, 0) + w.Int64N(timerHorizon)
	d := due{at{group: a.group, key: a.key}, when}
	if w.IntN(4) > 0 {
		w.timers.Set(when)
		w.now.timers[d] = true
		return nil
	}
	w.timers.Delete(when)
	delete(w.now.timers, d)
	return nil
}

// onFire fires what is due and now and then sets and deletes timers meanwhile; the model says which must fire: each due one once, in
// order of time for each group.
func (w *world) onFire(at) error {
	upTo := max(w.wm, 0) + w.Int64N(40)
	stop := w.IntN(50)
	last := map[Group]int64{}
	err := w.timers.Fire(upTo, func(key []byte, group Group, when int64) error {
		d := due{at{group: group, key: string(key)}, when}
		if !w.now.timers[d] || when > upTo {
			return fmt.Errorf("timer %v fired, which is not set or not due", d)
		}
		if when < last[group] {
			return fmt.Errorf("timer %v fired behind one of %d", d, last[group])
		}
		last[group] = when
		delete(w.now.timers, d)
		switch w.IntN(4) {
		case 0: // one of the same key, soon or late
			d.when += 1 + w.Int64N(20)
			w.timers.Set(d.when)
			w.now.timers[d] = true
		case 1: // a timer of another key goes
			for other := range w.now.timers {
				w.task.For([]byte(other.key), other.group)
				w.timers.Delete(other.when)
				delete(w.now.timers, other)
				break
			}
		}
		if stop--; stop == 0 {
			return ErrStop
		}
		return nil
	})
	if err != nil || stop <= 0 {
		return err
	}
	for d := range w.now.timers {
		if d.when <= upTo {
			return fmt.Errorf("timer %v did not fire up to %d", d, upTo)
		}
	}
	return nil
}

func (w *world) onSeen(a at) error {
	when := max(w.wm, 0) + w.Int64N(300) - 150
	got, err := w.seen.Seen(when)
	a = at{group: a.group, key: a.key}
	ttl, want := seenTTL.Milliseconds(), false
	for end := range w.now.seen[a] {
		want = want || end+ttl > when && (w.wm == NoTime || end+ttl > w.wm)
	}
	if !want && (w.wm == NoTime || when+ttl > w.wm) {
		if w.now.seen[a] == nil {
			w.now.seen[a] = map[int64]bool{}
		}
		const width = 50
		w.now.seen[a][(when+100*width)/width*width+width-100*width] = true
	}
	if got != want {
		return cmp.Or(err, fmt.Errorf("seen %v at %d: got %v, want %v", a, when, got, want))
	}
	return err
}

// onVisit compares all that a group has in one namespace, or without.
func (w *world) onVisit(a at) error {
	v, s, l, m := w.value, w.sum, w.list, w.dict
	if a.scoped {
		v, s, l, m = v.In(a.space), s.In(a.space), l.In(a.space), m.In(a.space)
	}
	same := func(k at) bool { return k.group == a.group && k.scoped == a.scoped && k.space == a.space }
	got, want := map[string]string{}, map[string]string{}
	add := func(what string, key []byte, value any) error {
		id := what + string(key)
		if _, twice := got[id]; twice {
			return fmt.Errorf("%s is visited twice", id)
		}
		got[id] = fmt.Sprint(value)
		current := userOf(w.task.user)
		if string(current) != string(key) || w.task.group != a.group {
			return fmt.Errorf("the current key is %q while %q is visited", current, key)
		}
		return nil
	}
	err := cmp.Or(
		v.Each(a.group, func(key []byte, n int64) error { return add("v", key, n) }),
		s.Each(a.group, func(key []byte, n int64) error { return add("s", key, n) }),
		l.EachKey(a.group, func(key []byte) error { return add("l", key, "") }),
		m.EachKey(a.group, func(key []byte) error { return add("m", key, "") }),
	)
	for k, e := range w.now.values {
		if same(k) && alive(w, e, true, v.cell.own.ttl) {
			want["v"+k.key] = fmt.Sprint(e.v)
		}
	}
	for k, e := range w.now.sums {
		if same(k) {
			want["s"+k.key] = fmt.Sprint(e.v)
		}
	}
	for id := range got { // expired ones may be visited by EachKey: what is there says Len and Each
		if id[0] == 'l' || id[0] == 'm' {
			delete(got, id)
			want[id] = ""
		}
	}
	for k, e := range w.now.lists {
		if same(k) && alive(w, e, true, l.cell.own.ttl) && want["l"+k.key] == "" {
			if _, ok := want["l"+k.key]; !ok {
				return fmt.Errorf("list of %v is not visited", k)
			}
		}
	}
	maps.DeleteFunc(want, func(id, _ string) bool { return id[0] == 'l' || id[0] == 'm' })
	if !maps.Equal(got, want) {
		return cmp.Or(err, fmt.Errorf("visit of %v: got %v, want %v", a, got, want))
	}
	return err
}

// onSpace compares the namespaces of a group that have something, and drops some of them.
func (w *world) onSpace(a at) error {
	upTo := int64(w.IntN(worldSpaces)) - 3
	if w.IntN(10) == 0 {
		upTo = math.MaxInt64
	}
	drop := w.IntN(2) == 0
	last := int64(math.MinInt64)
	found := map[int64]bool{}
	err := w.sum.Namespaces(a.group, upTo, func(space int64) error {
		if space > upTo || space <= last {
			return fmt.Errorf("namespace %d behind %d, up to %d", space, last, upTo)
		}
		last, found[space] = space, true
		if drop {
			w.sum.DropNamespace(a.group, space)
			w.list.DropNamespace(a.group, space)
			w.dict.DropNamespace(a.group, space)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k := range w.now.sums {
		if k.group == a.group && k.scoped && k.space <= upTo && !found[k.space] {
			return fmt.Errorf("namespace of %v is not found up to %d", k, upTo)
		}
	}
	for space := range found {
		if drop {
			dropSpace(w.now.sums, a.group, space)
			dropSpace(w.now.lists, a.group, space)
			dropSpace(w.now.maps, a.group, space)
		}
	}
	return nil
}

func dropSpace[T any](m map[at]T, group Group, space int64) {
	maps.DeleteFunc(m, func(k at, _ T) bool { return k.group == group && k.scoped && k.space == space })
}

func (w *world) onTime(at) error {
	w.wall += w.Int64N(20)
	if w.IntN(2) == 0 {
		w.wm = max(w.wm, 0) + w.Int64N(20)
	}
	w.task.SetTime(w.wm, w.wall)
	return nil
}

func (w *world) onFreeze() error {
	if len(w.frozen) < pendingMax {
		w.frozen = append(w.frozen, w.task.Freeze())
		w.snaps = append(w.snaps, w.now.clone())
	}
	return nil
}

func (w *world) onApply() error {
	if len(w.frozen) == 0 {
		return nil
	}
	f := w.frozen[0]
	if err := w.persist(f); err != nil {
		return err
	}
	w.task.Applied(f)
	w.applied = w.snaps[0]
	w.frozen, w.snaps = w.frozen[1:], w.snaps[1:]
	return nil
}

// persist encodes and applies a delta, with the flaw that a control asks for.
func (w *world) persist(f *Frozen) error {
	encoded, err := EncodeDelta(nil, f.Delta())
	if err != nil {
		return err
	}
	d, err := DecodeDelta(encoded)
	if err != nil {
		return err
	}
	switch w.flaw {
	case "ranges are not dropped":
		d.Drops = nil
	case "ranges are dropped last":
		w.disk.apply(Delta{Ops: d.Ops})
		d.Ops = nil
	case "deletions are lost":
		d.Ops = slices.DeleteFunc(slices.Clone(d.Ops), func(op Op) bool { return op.Delete })
	case "a delta is not applied":
		if w.IntN(20) == 0 {
			return nil
		}
	}
	w.disk.apply(d)
	return nil
}

// onAbort gives up all that is not applied, or some of what is frozen is applied by the recovery, and goes on with a new task.
func (w *world) onAbort() error {
	for range w.IntN(len(w.frozen) + 1) {
		if err := w.persist(w.frozen[0]); err != nil {
			return err
		}
		w.applied = w.snaps[0]
		w.frozen, w.snaps = w.frozen[1:], w.snaps[1:]
	}
	w.frozen, w.snaps = nil, nil
	if w.flaw == "an abort keeps changes" {
		w.disk.apply(w.task.Freeze().Delta())
	}
	w.now = w.applied.clone()
	return w.restart()
}
