package local

import (
	"bytes"
	"sort"
	"sync"

	"github.com/ingestd/ingestd/state"
)

// tracker knows which slices of the newest base no delta has touched since: the next base names their objects again instead of
// writing them. When it does not know, it says that one did.
type tracker struct {
	mu struct {
		sync.Mutex
		base    Hash // the base's identity
		slices  []Slice
		touched []uint64 // per slice the newest delta that changed a key of it
		export  *tracker // follows the base that is being made
		open    *openSlice
	}
}

// openSlice is the slice that is being written: where it ends is known only afterwards.
type openSlice struct {
	from  []byte
	bytes int // of the keys held
	calls []touch
	all   uint64 // the newest delta whose keys were not held, because there are too many
}

// touch holds the keys and ranges of one delta from openSlice.from on.
type touch struct {
	seq   uint64
	keys  [][]byte
	drops []state.Range
}

// openKeysMax bounds the memory of the keys that are held while a slice is written.
const openKeysMax = 32 << 20

// install begins with a base. dirty has a bit for each slice that changed after what it shows, up to the delta at.
func (t *tracker) install(base *Base, dirty []byte, at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.base, t.mu.slices = base.id(), base.Slices
	t.mu.touched = make([]uint64, len(base.Slices))
	for i := range t.mu.touched {
		if dirty[i/8]&(1<<(i%8)) != 0 {
			t.mu.touched[i] = at
		}
	}
}

// note takes in a delta that the database has by now: what begins to read before note may or may not see it, and is told of it.
func (t *tracker) note(seq uint64, d *state.Delta) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noteLocked(seq, d)
	if t.mu.export != nil {
		t.mu.export.note(seq, d)
	}
}

func (t *tracker) noteLocked(seq uint64, d *state.Delta) {
	for i := range t.mu.slices {
		if touches(d, t.mu.slices[i].From, t.mu.slices[i].To) {
			t.mu.touched[i] = seq
		}
	}
	open := t.mu.open
	if open == nil {
		return
	}
	call := touch{seq: seq}
	ops := d.Ops[search(d.Ops, open.from):]
	if open.bytes > openKeysMax {
		open.all = seq
		return
	}
	for i := range ops {
		call.keys = append(call.keys, bytes.Clone(ops[i].Key))
		open.bytes += len(ops[i].Key) + 24
	}
	for i := range d.Drops {
		if bytes.Compare(d.Drops[i].To, open.from) > 0 {
			call.drops = append(call.drops, state.Range{From: bytes.Clone(d.Drops[i].From), To: bytes.Clone(d.Drops[i].To)})
		}
	}
	open.calls = append(open.calls, call)
}

func search(ops []state.Op, from []byte) int {
	return sort.Search(len(ops), func(i int) bool { return bytes.Compare(ops[i].Key, from) >= 0 })
}

func touches(d *state.Delta, from, to []byte) bool {
	i := search(d.Ops, from)
	if i < len(d.Ops) && bytes.Compare(d.Ops[i].Key, to) < 0 {
		return true
	}
	return dropTouches(d.Drops, from, to)
}

func dropTouches(drops []state.Range, from, to []byte) bool {
	for i := range drops {
		if bytes.Compare(drops[i].From, to) < 0 && bytes.Compare(drops[i].To, from) > 0 {
			return true
		}
	}
	return false
}

// dirtyWith returns a bit for each slice of the base that a delta changed after what the slice shows, or that d changes.
func (t *tracker) dirtyWith(d *state.Delta) (base Hash, bits []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bits = make([]byte, (len(t.mu.slices)+7)/8)
	for i := range t.mu.slices {
		s := &t.mu.slices[i]
		if t.mu.touched[i] > s.Seq || touches(d, s.From, s.To) {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return t.mu.base, bits
}

// clean returns the slices of the base, and for each whether no delta has changed a key of it after what it shows.
func (t *tracker) clean() (slices []Slice, clean []bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices = t.mu.slices
	clean = make([]bool, len(slices))
	for i := range slices {
		clean[i] = t.mu.touched[i] <= slices[i].Seq
	}
	return slices, clean
}

// beginExport follows the slices of a base that is being made.
func (t *tracker) beginExport() *tracker {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.export = &tracker{}
	return t.mu.export
}

// endExport replaces the slices that are followed by those of the base that was made, or, with nil, forgets that one.
func (t *tracker) endExport(base *Base) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if base != nil {
		t.mu.export.mu.Lock()
		t.mu.touched = t.mu.export.mu.touched
		t.mu.export.mu.Unlock()
		t.mu.base, t.mu.slices = base.id(), base.Slices
	}
	t.mu.export = nil
}

// reuse takes a slice of the base over into the base that is being made, with what is known of it at this moment.
func (t *tracker) reuse(i int, s Slice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.mu.export
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.slices = append(e.mu.slices, s)
	e.mu.touched = append(e.mu.touched, t.mu.touched[i])
}

// open says that a slice is about to be read from a key on.
func (t *tracker) open(from []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.open = &openSlice{from: bytes.Clone(from)}
}

// add says where the slice ends, and follows it from now on. Deltas since open count.
func (t *tracker) add(s Slice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var touched uint64
	if open := t.mu.open; open != nil {
		touched = open.within(&s)
		t.mu.open = nil
	}
	t.mu.slices = append(t.mu.slices, s)
	t.mu.touched = append(t.mu.touched, touched)
}

// within returns the newest delta that changed a key of the slice.
func (o *openSlice) within(s *Slice) uint64 {
	for i := len(o.calls) - 1; i >= 0; i-- {
		c := &o.calls[i]
		k := sort.Search(len(c.keys), func(i int) bool { return bytes.Compare(c.keys[i], s.From) >= 0 })
		if k < len(c.keys) && bytes.Compare(c.keys[k], s.To) < 0 || dropTouches(c.drops, s.From, s.To) {
			return max(o.all, c.seq)
		}
	}
	return o.all
}
