package state

import (
	"bytes"
	"slices"
	"sort"
)

// layer holds changes: ranges that were emptied first, then keys that were written or deleted. While it is the current layer the
// task's goroutine changes it; frozen it is read only, by whoever; applied it serves as a cache of what was read and written last.
type layer struct {
	table
	order order   // of the entries of kinds that are scanned often
	loose *order  // of the others; nil until the first scan, and only the task's goroutine looks at it
	drops []Range // sorted, neither overlapping nor touching
	// spaces are the namespaces of keys that are not in order, in no order. They save drops of old ones a look at all keys.
	spaces []int64
}

// spacesMax is far above what is written between two checkpoints, but for states that keep keys for moments only.
const spacesMax = 32

// put and remove change one key; its kind decides where it is kept in order.
func (l *layer) put(hash uint64, key, value []byte) {
	if id, fresh := l.table.put(hash, key, value); fresh {
		l.insert(id, key[kindAt])
	}
}

func (l *layer) remove(hash uint64, key []byte) {
	if id, fresh := l.table.remove(hash, key); fresh {
		l.insert(id, key[kindAt])
	}
}

func (l *layer) insert(id int, kind byte) {
	switch {
	case inOrder(kind):
		l.order.insert(&l.table, id)
		return
	case l.loose != nil:
		l.loose.insert(&l.table, id)
	}
	if kind&scoped == 0 || len(l.spaces) > spacesMax {
		return
	}
	space := spaceOf(l.key(id)[prefixBytes:])
	if !slices.Contains(l.spaces, space) {
		l.spaces = append(l.spaces, space)
	}
}

// orderOf returns the order of the entries of a kind.
func (l *layer) orderOf(kind byte) *order {
	if inOrder(kind) {
		return &l.order
	}
	if l.loose == nil {
		l.loose = &order{}
		ids := l.sorted(l.isLoose)
		for len(ids) > 0 {
			n := min(len(ids), orderBlockMax/2)
			l.loose.blocks = append(l.loose.blocks, ids[:n:n])
			l.loose.count += n
			ids = ids[n:]
		}
	}
	return l.loose
}

// isLoose tells whether an entry says something of a key that is not in order.
func (l *layer) isLoose(id int) bool {
	return l.entries[id].value != gone && !inOrder(l.key(id)[kindAt])
}

// drop empties a range. What the layer holds in it is forgotten.
func (l *layer) drop(r Range) {
	forget := func(id int) { l.entries[id].value = gone }
	l.order.cut(&l.table, r, forget)
	if !onlyInOrder(r) && len(l.entries) > 0 && l.mayHoldLoose(r) {
		l.orderOf(kindSeen|scoped).cut(&l.table, r, forget)
	}
	l.addDrop(r)
}

// mayHoldLoose tells whether the layer may have keys in a range that are not in order.
func (l *layer) mayHoldLoose(r Range) bool {
	if len(r.From) < prefixBytes || r.From[kindAt] != kindSeen|scoped || len(l.spaces) > spacesMax {
		return true
	}
	for _, space := range l.spaces {
		if within(appendSpace(slices.Clone(r.From[:prefixBytes]), space), r) {
			return true
		}
	}
	return false
}

// onlyInOrder tells whether all keys of a range are of one kind, which is kept in order.
func onlyInOrder(r Range) bool {
	return len(r.From) > kindAt && len(r.To) > kindAt && bytes.Equal(r.From[:prefixBytes], r.To[:prefixBytes]) &&
		inOrder(r.From[kindAt])
}

func within(key []byte, r Range) bool {
	return bytes.Compare(key, r.From) >= 0 && bytes.Compare(key, r.To) < 0
}

// addDrop puts a range in its place and joins it with those that it overlaps or touches.
func (l *layer) addDrop(r Range) {
	from := sort.Search(len(l.drops), func(i int) bool { return bytes.Compare(l.drops[i].To, r.From) >= 0 })
	to := from
	for to < len(l.drops) && bytes.Compare(l.drops[to].From, r.To) <= 0 {
		if bytes.Compare(l.drops[to].From, r.From) < 0 {
			r.From = l.drops[to].From
		}
		if bytes.Compare(l.drops[to].To, r.To) > 0 {
			r.To = l.drops[to].To
		}
		to++
	}
	l.drops = slices.Replace(l.drops, from, to, r)
}

// covers tells whether a range that the layer emptied holds the key.
func (l *layer) covers(key []byte) bool {
	if len(l.drops) == 0 {
		return false
	}
	i := sort.Search(len(l.drops), func(i int) bool { return bytes.Compare(l.drops[i].To, key) > 0 })
	return i < len(l.drops) && bytes.Compare(l.drops[i].From, key) <= 0
}

// coversRange tells whether the layer emptied all of a range.
func (l *layer) coversRange(r Range) bool {
	i := sort.Search(len(l.drops), func(i int) bool { return bytes.Compare(l.drops[i].To, r.From) > 0 })
	return i < len(l.drops) && bytes.Compare(l.drops[i].From, r.From) <= 0 && bytes.Compare(l.drops[i].To, r.To) >= 0
}

func (l *layer) empty() bool { return len(l.entries) == 0 && len(l.drops) == 0 }

func (l *layer) bytes() int64 {
	const idBytes, rangeBytes = 4, 96
	return l.table.bytes() + int64(l.ordered())*idBytes + int64(len(l.drops))*rangeBytes
}

func (l *layer) ordered() int {
	if l.loose == nil {
		return l.order.count
	}
	return l.order.count + l.loose.count
}

// delta returns what the layer says. It refers to the layer's memory.
func (l *layer) delta() Delta {
	loose := l.sorted(l.isLoose)
	ordered := l.order.all()
	d := Delta{Drops: l.drops, Ops: make([]Op, 0, len(loose)+len(ordered))}
	for len(loose) > 0 || len(ordered) > 0 {
		from := &loose
		if len(loose) == 0 || len(ordered) > 0 && bytes.Compare(l.key(int(ordered[0])), l.key(int(loose[0]))) < 0 {
			from = &ordered
		}
		id := int((*from)[0])
		*from = (*from)[1:]
		op := Op{Key: l.key(id), Delete: !l.has(id)}
		if !op.Delete {
			op.Value = l.value(id)
		}
		d.Ops = append(d.Ops, op)
	}
	return d
}
