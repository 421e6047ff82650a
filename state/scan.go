package state

import "bytes"

// page is a part of a range as copied out of layers and Reader, so that whoever goes through it may change state meanwhile.
type page struct {
	bytes []byte
	ends  []int // of each key and each value in turn
}

// pageFirst is small because most scans end early; each further page is four times as large.
const (
	pageFirst    = 16
	pageMax      = 4096
	pageBytesMax = 1 << 20
)

func (p *page) len() int { return len(p.ends) / 2 }

func (p *page) part(i int) []byte {
	from := 0
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.bytes[from:p.ends[i]:p.ends[i]]
}

func (p *page) key(i int) []byte   { return p.part(2 * i) }
func (p *page) value(i int) []byte { return p.part(2*i + 1) }

func (p *page) add(key, value []byte) {
	p.bytes = append(p.bytes, key...)
	p.ends = append(p.ends, len(p.bytes))
	p.bytes = append(p.bytes, value...)
	p.ends = append(p.ends, len(p.bytes))
}

func (p *page) full(limit int) bool { return p.len() >= limit || len(p.bytes) >= pageBytesMax }

// borrow returns an empty page; giveBack makes it free again.
func (t *Task) borrow() *page {
	n := len(t.pages)
	if n == 0 {
		return &page{}
	}
	p := t.pages[n-1]
	t.pages = t.pages[:n-1]
	p.bytes, p.ends = p.bytes[:0], p.ends[:0]
	return p
}

func (t *Task) giveBack(p *page) { t.pages = append(t.pages, p) }

// scan calls f with each key of a range and its value, in order. Key and value are valid during the call. f may change state:
// keys that it adds behind the one in hand may be seen or not, others are not.
func (t *Task) scan(r Range, f func(key, value []byte) error) error {
	p := t.borrow()
	defer t.giveBack(p)
	from := append([]byte(nil), r.From...)
	for limit := pageFirst; ; limit = min(4*limit, pageMax) {
		p.bytes, p.ends = p.bytes[:0], p.ends[:0]
		if err := t.fill(p, Range{From: from, To: r.To}, limit); err != nil {
			return err
		}
		for i := range p.len() {
			if err := f(p.key(i), p.value(i)); err != nil {
				return err
			}
		}
		if !p.full(limit) {
			return nil
		}
		from = append(append(from[:0], p.key(p.len()-1)...), 0) // the least key above the last one
	}
}

// first returns a copy of the first key of a range; ok is false when the range is empty.
func (t *Task) first(dst []byte, r Range) (key []byte, ok bool, err error) {
	p := t.borrow()
	defer t.giveBack(p)
	if err := t.fill(p, r, 1); err != nil || p.len() == 0 {
		return dst, false, err
	}
	return append(dst, p.key(0)...), true, nil
}

// fill takes up to limit keys of a range into a page.
func (t *Task) fill(p *page, r Range, limit int) error {
	if bytes.Compare(r.From, r.To) >= 0 {
		return nil
	}
	m := newMerge(t.layers[t.clean:], r)
	if !m.covers {
		err := t.o.Reader.Scan(r.From, r.To, func(key, value []byte) bool {
			m.until(key, func(k, v []byte) bool { p.add(k, v); return !p.full(limit) })
			if p.full(limit) {
				return false
			}
			if !m.hides(key) {
				p.add(key, value)
			}
			return !p.full(limit)
		})
		if err != nil {
			return err
		}
	}
	if !p.full(limit) {
		m.until(r.To, func(k, v []byte) bool { p.add(k, v); return !p.full(limit) })
	}
	return nil
}

// merge goes through the keys of a range, all of one kind, that layers hold.
type merge struct {
	layers []*layer // oldest first
	orders []*order
	places []place
	covers bool // a layer emptied the whole range: what lies below is not looked at
}

func newMerge(layers []*layer, r Range) *merge {
	m := &merge{}
	for i := len(layers) - 1; i >= 0 && !m.covers; i-- {
		m.layers = layers[i:]
		m.covers = layers[i].coversRange(r)
	}
	m.orders, m.places = make([]*order, len(m.layers)), make([]place, len(m.layers))
	for i, l := range m.layers {
		m.orders[i] = l.orderOf(r.From[kindAt])
		m.places[i] = m.orders[i].seek(&l.table, r.From)
	}
	return m
}

// until calls f with the keys below end that have a value, in order, until f returns false.
func (m *merge) until(end []byte, f func(key, value []byte) bool) {
	for {
		newest, key := m.least(end)
		if newest < 0 {
			return
		}
		l := m.layers[newest]
		id := m.orders[newest].at(m.places[newest])
		m.skip(key)
		if l.has(id) && !m.covered(key, newest+1) && !f(key, l.value(id)) {
			return
		}
	}
}

// least returns the least key below end that is not passed yet, and the newest layer that has it; -1 for none.
func (m *merge) least(end []byte) (newest int, key []byte) {
	newest = -1
	for i, l := range m.layers {
		id := m.orders[i].at(m.places[i])
		if id < 0 {
			continue
		}
		k := l.key(id)
		if bytes.Compare(k, end) < 0 && (newest < 0 || bytes.Compare(k, key) <= 0) {
			newest, key = i, k
		}
	}
	return newest, key
}

// skip passes a key in all layers that stand at it.
func (m *merge) skip(key []byte) {
	for i, l := range m.layers {
		if id := m.orders[i].at(m.places[i]); id >= 0 && bytes.Equal(l.key(id), key) {
			m.places[i] = m.orders[i].next(m.places[i])
		}
	}
}

// covered tells whether a layer from number `from` on emptied a range that holds the key.
func (m *merge) covered(key []byte, from int) bool {
	for _, l := range m.layers[from:] {
		if l.covers(key) {
			return true
		}
	}
	return false
}

// hides tells whether what the Reader has of a key is no longer true. All lesser keys were passed.
func (m *merge) hides(key []byte) bool {
	for i, l := range m.layers {
		if id := m.orders[i].at(m.places[i]); id >= 0 && bytes.Equal(l.key(id), key) {
			return true // it comes from the layer, or is deleted there
		}
	}
	return m.covered(key, 0)
}
