package state

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Seen remembers keys for a time, by whole key, so it never takes a new key for an old one. Keys lie in buckets of time that are
// dropped as one range. A key is remembered for its TTL at least and for one bucket, half the TTL, longer at most.
type Seen struct {
	cell   cell
	groups []seenGroup
	ttl    int64
	width  int64
}

// seenGroup is what is known of a key group's buckets.
type seenGroup struct {
	known   bool
	buckets []bucket // in order
}

// bucket has the keys of a stretch of time. Its filter, if it has one, knows all of them: most new keys need no look-up.
type bucket struct {
	end    int64
	filter *filter
}

// bucketsPerTTL: more buckets forget more exactly, and each is one look-up more for a new key.
const bucketsPerTTL = 2

const seenType = "none"

// DescribeSeen returns the descriptor of a [Seen].
func DescribeSeen(step, name string) Descriptor {
	return Descriptor{Step: step, Name: name, Kind: KindSeen, Type: seenType, Version: 1}
}

// NewSeen opens the state that d declares, which is of [KindSeen]. A TTL of 0 remembers for ever.
func NewSeen(t *Task, d Descriptor, ttl TTL) (*Seen, error) {
	if err := checkType(&d, seenType, 1); err != nil {
		return nil, err
	}
	cell, err := newCell(t, &d, KindSeen, ttl)
	if err != nil {
		return nil, err
	}
	s := &Seen{cell: cell, groups: make([]seenGroup, t.o.Groups), ttl: math.MaxInt64, width: math.MaxInt64}
	s.cell.kind |= scoped
	if ttl.For > 0 {
		s.ttl = ttl.millis()
		s.width = max(1, (s.ttl+bucketsPerTTL-1)/bucketsPerTTL)
	}
	return s, nil
}

// Width is the length of a bucket: what a key may be remembered beyond its TTL.
func (s *Seen) Width() time.Duration {
	if s.cell.own.ttl.For == 0 {
		return 0
	}
	return time.Duration(s.width) * time.Millisecond
}

// Seen tells whether the current key was seen before and is remembered at the time `at`, in milliseconds since 1970, and remembers
// it from `at` on if not. A key that is seen again is not remembered longer. By processing time `at` is the clock; by event time
// it is the row's time, which need not grow: a row may be older than the one that its key was seen with. What is so old that the
// state's time has passed `at` and the TTL is looked up but not remembered: two such rows of one key are both new.
func (s *Seen) Seen(at int64) (bool, error) {
	c := s.cell
	g, err := s.group(c.t.group)
	if err != nil {
		return false, err
	}
	hash := xxhash.Sum64(c.t.user)
	for _, b := range slices.Backward(g.buckets) {
		if addTime(b.end, s.ttl) <= at {
			break
		}
		if b.filter != nil && !b.filter.has(hash) {
			continue
		}
		c.space = b.end
		_, ok, err := c.t.get(c.key())
		if err != nil || ok {
			return ok, err
		}
	}
	if now := c.t.now(c.own.ttl.By); now != NoTime && addTime(at, s.ttl) <= now {
		return false, nil
	}
	b := s.open(g, s.endOf(at))
	c.space = b.end
	c.t.set(c.key(), nil)
	s.note(b, hash)
	return false, nil
}

// open returns a group's bucket with an end, and makes it with a filter as large as the newest one needed.
func (s *Seen) open(g *seenGroup, end int64) *bucket {
	i, ok := slices.BinarySearchFunc(g.buckets, end, func(b bucket, end int64) int { return cmp.Compare(b.end, end) })
	if ok {
		return &g.buckets[i]
	}
	keys := filterFirst
	if n := len(g.buckets); n > 0 && g.buckets[n-1].filter != nil {
		keys = max(keys, g.buckets[n-1].filter.keys)
	}
	g.buckets = slices.Insert(g.buckets, i, bucket{end, s.newFilter(keys)})
	return &g.buckets[i]
}

// filterFirst is the number of keys that a bucket's filter has room for at first.
const filterFirst = 64

func (s *Seen) newFilter(keys int) *filter {
	f := &filter{}
	t := s.cell.t
	if t.filterBytes += f.grow(keys); t.filterBytes > t.o.CacheBytes/2 {
		t.filterBytes -= f.bytes()
		return nil
	}
	return f
}

// note adds a key to a bucket's filter. A filter for which there is no room is given up.
func (s *Seen) note(b *bucket, hash uint64) {
	if b.filter == nil {
		return
	}
	t := s.cell.t
	if b.filter.room == 0 {
		if t.filterBytes += b.filter.grow(growth * b.filter.keys); t.filterBytes > t.o.CacheBytes/2 {
			s.forget(b)
			return
		}
	}
	b.filter.add(hash)
}

func (s *Seen) forget(b *bucket) {
	if b.filter != nil {
		s.cell.t.filterBytes -= b.filter.bytes()
		b.filter = nil
	}
}

// endOf returns the end of the bucket of a time.
func (s *Seen) endOf(at int64) int64 {
	if s.width == math.MaxInt64 {
		return math.MaxInt64
	}
	start := at - at%s.width
	if at%s.width < 0 {
		start -= s.width
	}
	return addTime(start, s.width)
}

// group returns what is known of a group's buckets, and drops those that nobody asks for any more.
func (s *Seen) group(group Group) (*seenGroup, error) {
	g := &s.groups[group]
	if !g.known {
		if err := s.find(g, group); err != nil {
			return nil, err
		}
	}
	now := s.cell.t.now(s.cell.own.ttl.By)
	over := 0
	for over < len(g.buckets) && s.width != math.MaxInt64 && now != NoTime && addTime(g.buckets[over].end, s.ttl) <= now {
		s.forget(&g.buckets[over])
		over++
	}
	if over > 0 {
		from := appendPrefix(nil, group, s.cell.own.slot, s.cell.kind)
		s.cell.t.drop(from, after(appendSpace(slices.Clip(from), g.buckets[over-1].end)))
		g.buckets = slices.Delete(g.buckets, 0, over)
	}
	return g, nil
}

// find finds the buckets that an earlier run left, and their keys as long as there is room for a filter. The task has written nothing
// in the group yet, so the Reader has them all.
func (s *Seen) find(g *seenGroup, group Group) error {
	g.buckets = g.buckets[:0]
	err := s.cell.namespaces(group, math.MaxInt64, func(space int64) error {
		g.buckets = append(g.buckets, bucket{space, s.newFilter(filterFirst)})
		return nil
	})
	for i := range g.buckets {
		b := &g.buckets[i]
		if err != nil || b.filter == nil {
			break
		}
		prefix := s.cell.in(b.end).spacePrefix(nil, group)
		err = visited(s.cell.t.scan(below(prefix), func(key, _ []byte) error {
			if s.note(b, xxhash.Sum64(key[len(prefix):])); b.filter == nil {
				return ErrStop
			}
			return nil
		}))
	}
	g.known = err == nil
	return err
}

// Expire drops what no key asks for any more in all key groups of the task. Groups that rows still come to do so by themselves.
func (s *Seen) Expire() error {
	for _, group := range s.cell.t.o.Own {
		if _, err := s.group(group); err != nil {
			return err
		}
	}
	return nil
}
