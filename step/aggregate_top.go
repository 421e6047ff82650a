package step

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// topMax bounds k of top_k.
const topMax = 100

// topHeld is how many values top_k counts for each value of its result. As long as there are no more different ones the result is
// exact.
const topHeld = 10

type topItem struct {
	value string // as [state.AppendKey] writes it
	count int64  // how often it came, at most
	over  int64  // by how much count may be too high
}

// top is a Space-Saving summary (Metwally and others, 2005): a new value takes the place and the count of the rarest one.
type top struct {
	items []topItem
	place map[string]int // of a value; nil: not made yet
}

// topBank is top_k(x, k).
type topBank struct {
	entries[top]
	k       int
	scratch []byte
}

func (k *topBank) grow(int64) {
	t := k.entries.add()
	t.items, t.place = t.items[:0], nil
}

func (k *topBank) add(entry int, at argument) error {
	k.scratch = at.key(k.scratch[:0])
	k.count(&k.list[entry], k.scratch, 1)
	return nil
}

func (k *topBank) count(t *top, value []byte, n int64) {
	if t.place == nil {
		t.place = make(map[string]int, len(t.items)+1)
		for i := range t.items {
			t.place[t.items[i].value] = i
		}
	}
	if i, ok := t.place[string(value)]; ok {
		t.items[i].count += n
		return
	}
	item := topItem{value: string(value), count: n}
	if len(t.items) < topHeld*k.k {
		t.place[item.value] = len(t.items)
		t.items = append(t.items, item)
		return
	}
	rarest := 0
	for i := range t.items {
		if t.items[i].count < t.items[rarest].count {
			rarest = i
		}
	}
	delete(t.place, t.items[rarest].value)
	item.over = t.items[rarest].count
	item.count += item.over
	t.place[item.value], t.items[rarest] = rarest, item
}

// merge adds the counts of both; what is missing in a full summary may have come as often as its rarest value.
func (k *topBank) merge(into, from int) error {
	a, b := &k.list[into], &k.list[from]
	missingA, missingB := k.rarest(a), k.rarest(b)
	other := make(map[string]topItem, len(b.items))
	for _, item := range b.items {
		other[item.value] = item
	}
	for i := range a.items {
		item := &a.items[i]
		if more, ok := other[item.value]; ok {
			item.count, item.over = item.count+more.count, item.over+more.over
			delete(other, item.value)
			continue
		}
		item.count, item.over = item.count+missingB, item.over+missingB
	}
	for _, item := range b.items {
		if _, ok := other[item.value]; ok {
			item.count, item.over = item.count+missingA, item.over+missingA
			a.items = append(a.items, item)
		}
	}
	slices.SortFunc(a.items, compareItems)
	a.items, a.place = a.items[:min(len(a.items), topHeld*k.k)], nil
	return nil
}

func (k *topBank) rarest(t *top) int64 {
	if len(t.items) < topHeld*k.k {
		return 0
	}
	return slices.MinFunc(t.items, func(a, b topItem) int { return cmp.Compare(a.count, b.count) }).count
}

// compareItems puts the most frequent value first, and of equally frequent ones the one whose count is surer.
func compareItems(a, b topItem) int {
	return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.over, b.over), cmp.Compare(a.value, b.value))
}

func (k *topBank) emit(dst *record.Column, entry int) error {
	items := slices.Clone(k.list[entry].items)
	slices.SortFunc(items, compareItems)
	for _, item := range items[:min(len(items), k.k)] {
		if err := state.ReadKey([]byte(item.value), dst.Elem); err != nil {
			return err
		}
	}
	dst.CloseList()
	return nil
}

func (k *topBank) save(dst []byte, entry int) []byte {
	t := &k.list[entry]
	dst = binary.AppendUvarint(dst, uint64(len(t.items)))
	for i := range t.items {
		item := &t.items[i]
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(item.count)), uint64(item.over))
		dst = binary.AppendUvarint(dst, uint64(len(item.value)))
		dst = append(dst, item.value...)
	}
	return dst
}

func (k *topBank) load(b []byte) ([]byte, error) {
	t := k.last()
	n, rest, err := readCount(b)
	for range n {
		var item topItem
		var value []byte
		if item.count, rest, err = readCount(rest); err != nil {
			return nil, err
		}
		if item.over, rest, err = readCount(rest); err != nil {
			return nil, err
		}
		if value, rest, err = readBytes(rest); err != nil {
			return nil, err
		}
		item.value = string(value)
		t.items = append(t.items, item)
	}
	return rest, err
}
