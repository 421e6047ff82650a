package state

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// Timers holds, for each key, times at which something is to be done. Within a key group they are stored in order of time.
type Timers struct {
	cell   cell
	by     Clock
	firing *firing // nil outside of Fire
}

// firing is a page of a key group's due timers, which are no longer stored. While it is fired it stands for all timers of the
// group up to its last one: Set and Delete change the page.
type firing struct {
	group Group
	last  timer
	list  []timer // in order; the first is next
}

type timer struct {
	at   int64
	user []byte // the key with its length
}

// compareTimers is the order in which timers are stored.
func compareTimers(a, b timer) int {
	return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.user, b.user))
}

// DescribeTimers returns the descriptor of [Timers].
func DescribeTimers(step, name string, by Clock) Descriptor {
	return Descriptor{Step: step, Name: name, Kind: KindTimer, Type: by.String(), Version: 1}
}

// NewTimers opens the timers that d declares, which is of [KindTimer].
func NewTimers(t *Task, d Descriptor, by Clock) (*Timers, error) {
	if err := checkType(&d, by.String(), 1); err != nil {
		return nil, err
	}
	cell, err := newCell(t, &d, KindTimer, TTL{})
	if err != nil {
		return nil, err
	}
	cell.kind |= scoped
	return &Timers{cell: cell, by: by}, nil
}

// Set sets a timer of the current key, in milliseconds since 1970. A key has any number of timers, but one for each time.
func (t *Timers) Set(at int64) {
	if list, i, ok := t.place(at); list != nil {
		if !ok {
			list.list = slices.Insert(list.list, i, timer{at, bytes.Clone(t.cell.t.user)})
		}
		return
	}
	c := t.cell
	c.space = at
	c.t.set(c.key(), nil)
	c.wrote()
}

// Delete deletes the current key's timer of a time, if there is one. It does not read.
func (t *Timers) Delete(at int64) {
	if list, i, ok := t.place(at); list != nil {
		if ok {
			list.list = slices.Delete(list.list, i, i+1)
		}
		return
	}
	c := t.cell
	c.space = at
	c.t.remove(c.key())
}

// place returns the page in hand if it stands for the current key's timer of a time, and where in it that one is or belongs.
func (t *Timers) place(at int64) (list *firing, i int, ok bool) {
	if t.firing == nil || t.firing.group != t.cell.t.group {
		return nil, 0, false
	}
	asked := timer{at, t.cell.t.user}
	if compareTimers(asked, t.firing.last) > 0 {
		return nil, 0, false
	}
	i, ok = slices.BinarySearchFunc(t.firing.list, asked, compareTimers)
	return t.firing, i, ok
}

// Due is Fire with what the timers' clock shows.
func (t *Timers) Due(f func(key []byte, group Group, at int64) error) error {
	now := t.cell.t.now(t.by)
	if now == NoTime {
		return nil
	}
	return t.Fire(now, f)
}

// Fire deletes each timer of a time up to and including upTo and calls f for it, key group by key group, in order of time within
// one, so in order for each key. The key is the current one during the call. f may set and delete timers: one that is set for a time up
// to upTo fires too, one that is deleted does not. When f returns an error, timers for which it was not called stay; [ErrStop]
// ends early without an error. It costs next to nothing while nothing is due. Fire must not be called by f.
func (t *Timers) Fire(upTo int64, f func(key []byte, group Group, at int64) error) error {
	for _, group := range t.cell.t.o.Own {
		for t.cell.own.least[group] <= upTo {
			more, err := t.firePage(group, upTo, f)
			if err != nil {
				return visited(err)
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// firePage fires a page of timers; more is false when nothing that is due is left in the group.
func (t *Timers) firePage(group Group, upTo int64, f func(key []byte, group Group, at int64) error) (more bool, err error) {
	c := t.cell
	p := c.t.borrow()
	defer c.t.giveBack(p)
	page, err := t.take(p, group, upTo)
	if err != nil || page == nil {
		return false, err
	}
	t.firing = page
	defer t.putBack()
	for len(page.list) > 0 {
		next := page.list[0]
		page.list = page.list[1:]
		key := userOf(next.user)
		c.t.For(key, group)
		if err := f(key, group, next.at); err != nil {
			return false, err
		}
	}
	return true, nil
}

// putBack stores the timers of the page in hand again that were not fired.
func (t *Timers) putBack() {
	page := t.firing
	t.firing = nil
	for _, left := range page.list {
		key := userOf(left.user)
		t.cell.t.For(key, page.group)
		t.Set(left.at)
	}
}

// take takes a page of due timers out of the state; it is nil when none is due. p holds its keys.
func (t *Timers) take(p *page, group Group, upTo int64) (*firing, error) {
	const timersMax = 1024
	c := t.cell
	least := &c.own.least[group]
	from := appendSpace(appendPrefix(nil, group, c.own.slot, c.kind), *least)
	if err := c.t.fill(p, Range{From: from, To: after(from[:prefixBytes])}, timersMax); err != nil {
		return nil, err
	}
	page := &firing{group: group}
	*least = math.MaxInt64
	for i := range p.len() {
		parts, err := SplitKey(p.key(i))
		if err != nil {
			return nil, c.corrupt(err)
		}
		*least = parts.Space
		if parts.Space > upTo {
			break
		}
		page.list = append(page.list, timer{parts.Space, p.key(i)[parts.userFrom:]})
	}
	if len(page.list) == 0 {
		return nil, nil //nolint:nilnil // nothing is due
	}
	page.last = page.list[len(page.list)-1]
	c.t.drop(from, append(bytes.Clone(p.key(len(page.list)-1)), 0))
	return page, nil
}
