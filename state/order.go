package state

import (
	"bytes"
	"slices"
	"sort"
)

// order keeps the numbers of a table's entries in order of their keys, in blocks of bounded size: an insertion moves at most one
// block, and a range is cut out block by block.
type order struct {
	blocks [][]uint32 // none is empty
	count  int
}

const orderBlockMax = 256

// place is a position in an order. The zero value is the first.
type place struct{ block, at int }

// seek returns the place of the first entry whose key is at or above key.
func (o *order) seek(t *table, key []byte) place {
	block := sort.Search(len(o.blocks), func(i int) bool {
		b := o.blocks[i]
		return bytes.Compare(t.key(int(b[len(b)-1])), key) >= 0
	})
	if block == len(o.blocks) {
		return place{block: block}
	}
	b := o.blocks[block]
	at := sort.Search(len(b), func(i int) bool { return bytes.Compare(t.key(int(b[i])), key) >= 0 })
	return place{block, at}
}

// at returns the number of the entry at a place, or -1 at the end.
func (o *order) at(p place) int {
	if p.block >= len(o.blocks) {
		return -1
	}
	return int(o.blocks[p.block][p.at])
}

func (o *order) next(p place) place {
	if p.at++; p.at >= len(o.blocks[p.block]) {
		return place{block: p.block + 1}
	}
	return p
}

// insert adds an entry that is not in the order yet.
func (o *order) insert(t *table, id int) {
	o.count++
	if len(o.blocks) == 0 {
		o.blocks = append(o.blocks, append(make([]uint32, 0, orderBlockMax), uint32(id)))
		return
	}
	p := o.seek(t, t.key(id))
	if p.block == len(o.blocks) {
		p.block--
		p.at = len(o.blocks[p.block])
	}
	b := slices.Insert(o.blocks[p.block], p.at, uint32(id))
	o.blocks[p.block] = b
	if len(b) < orderBlockMax {
		return
	}
	half := len(b) / 2
	if p.at == len(b)-1 { // keys that come in order fill their blocks
		half = len(b) - 1
	}
	upper := append(make([]uint32, 0, orderBlockMax), b[half:]...)
	o.blocks[p.block] = b[:half]
	o.blocks = slices.Insert(o.blocks, p.block+1, upper)
}

// cut takes out all entries whose keys lie in a range, and calls f with each.
func (o *order) cut(t *table, r Range, f func(id int)) {
	p := o.seek(t, r.From)
	end := o.seek(t, r.To)
	for block := p.block; block < len(o.blocks) && block <= end.block; block++ {
		b := o.blocks[block]
		from, to := 0, len(b)
		if block == p.block {
			from = p.at
		}
		if block == end.block {
			to = end.at
		}
		if from >= to {
			continue
		}
		for _, id := range b[from:to] {
			f(int(id))
		}
		o.count -= to - from
		o.blocks[block] = slices.Delete(b, from, to)
	}
	from, to := p.block, min(end.block+1, len(o.blocks))
	kept := from
	for block := from; block < to; block++ {
		if len(o.blocks[block]) > 0 {
			o.blocks[kept] = o.blocks[block]
			kept++
		}
	}
	if kept < to {
		o.blocks = slices.Delete(o.blocks, kept, to)
	}
}

// all returns the numbers of all entries in order.
func (o *order) all() []uint32 {
	ids := make([]uint32, 0, o.count)
	for _, b := range o.blocks {
		ids = append(ids, b...)
	}
	return ids
}
