package machine

import (
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/record"
)

// logged is an entry at its number. Entries are interned: the same entry has the same place in [explorer.entries].
type logged struct {
	seq   checkpoint.Seq
	entry uint32
}

// logModel is the checkpoint store's log of the lane: every request is atomic; a Create whose answer stayed away may take
// effect at any later time, or never. Published and the newest of it are history that only the checks look at.
type logModel struct {
	entries   []logged // what is there, by number
	late      []logged // Creates under way whose run does not wait any more, sorted
	published []logged // every manifest that was ever created, in order of creation
}

func (l *logModel) key() key {
	var k key
	for _, list := range [][]logged{l.entries, l.late, l.published} {
		k = k.num(uint64(len(list)))
		for _, e := range list {
			k = k.num(uint64(e.seq), uint64(e.entry))
		}
	}
	return k
}

func (l *logModel) clone() *logModel {
	return &logModel{slices.Clone(l.entries), slices.Clone(l.late), slices.Clone(l.published)}
}

func (l *logModel) last() checkpoint.Seq {
	if len(l.entries) == 0 {
		return 0
	}
	return l.entries[len(l.entries)-1].seq
}

func (l *logModel) find(seq checkpoint.Seq) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(l.entries, seq, bySeq)
	if !ok {
		return 0, false
	}
	return l.entries[i].entry, true
}

func bySeq(e logged, seq checkpoint.Seq) int { return int(e.seq) - int(seq) }

// newest returns the newest manifest that was published: the highest number.
func (l *logModel) newest() logged {
	var n logged
	for _, e := range l.published {
		if e.seq > n.seq {
			n = e
		}
	}
	return n
}

// create is create-if-absent. It returns what it breaks.
func (l *logModel) create(x *explorer, e logged) (created bool, bad string) {
	i, taken := slices.BinarySearchFunc(l.entries, e.seq, bySeq)
	if taken {
		return false, ""
	}
	if e.seq > 1 && e.seq > l.last()+1 {
		return false, "I4: a hole in the log's numbers"
	}
	if man := x.entries[e.entry].Manifest; man != nil {
		bad = l.publish(x, e, man)
	}
	l.entries = slices.Insert(l.entries, i, e)
	return true, bad
}

// publish checks a manifest that is about to be there (I4, I13). One that falls into a collected number must be the one that
// was there.
func (l *logModel) publish(x *explorer, e logged, man *checkpoint.Manifest) string {
	if slices.Contains(l.published, e) {
		return ""
	}
	newest := l.newest()
	if e.seq < newest.seq {
		return "FORK (I4): a manifest falls into a collected number"
	}
	if l.owned(x, man.Lease) {
		return "FORK (I4): a manifest follows a newer claim"
	}
	if newest.seq > 0 {
		old := x.entries[newest.entry].Manifest
		if !(id{old.Lease, old.Checkpoint}).less(id{man.Lease, man.Checkpoint}) {
			return "I13: a checkpoint is not above the newest one"
		}
		now := man.Positions()
		for i, before := range old.Positions() {
			if now[i].Offset < before.Offset {
				return "FORK (I1): a position goes back"
			}
		}
	}
	l.published = append(l.published, e)
	return x.checkState(man, newest)
}

// fell reports whether an entry is a claim that fell into a collected number. It has never been the highest entry and never will
// be, so it is not effective.
func (l *logModel) fell(x *explorer, e logged) bool {
	return x.entries[e.entry].Claim != nil && slices.ContainsFunc(l.published, func(p logged) bool { return p.seq == e.seq })
}

// remove deletes a manifest. Never the newest ones, never an effective claim (I9).
func (l *logModel) remove(x *explorer, seq checkpoint.Seq) string {
	i, ok := slices.BinarySearchFunc(l.entries, seq, bySeq)
	if !ok {
		return ""
	}
	e := l.entries[i]
	l.entries = slices.Delete(l.entries, i, i+1)
	switch {
	case l.fell(x, e):
		return ""
	case x.entries[e.entry].Claim != nil:
		return "I9: a claim is deleted"
	}
	newer := 0
	for _, p := range l.published {
		if p.seq > seq {
			newer++
		}
	}
	if n := l.newest(); x.entries[n.entry].Manifest.Pin(seq) != nil {
		return "I9: a pinned manifest is deleted"
	}
	if newer < x.cfg.keep {
		return "HEAD (I9): a manifest that is to be kept is deleted"
	}
	return ""
}

// owned reports whether an entry shows that a lease above the given one has been taken.
func (l *logModel) owned(x *explorer, lease record.Lease) bool {
	return slices.ContainsFunc(l.entries, func(e logged) bool { return x.entries[e.entry].Lease() > lease && !l.fell(x, e) })
}

// overtaken reports whether another run's claim stands above a number at which a run has asked for its own.
func (l *logModel) overtaken(x *explorer, at checkpoint.Seq) bool {
	return slices.ContainsFunc(l.entries, func(e logged) bool { return e.seq > at && x.entries[e.entry].Claim != nil && !l.fell(x, e) })
}

// decided reports whether a manifest that was published lists the unit for the sink.
func (l *logModel) decided(x *explorer, n int, u unit) bool {
	for _, e := range l.published {
		for i := range x.entries[e.entry].Manifest.Sinks[n].Pending {
			if unitOf(&x.entries[e.entry].Manifest.Sinks[n].Pending[i]) == u {
				return true
			}
		}
	}
	return false
}

// segments is which prepared segments are there, by sink and unit. It is only kept where collection is explored.
type segments []segment

type segment struct {
	sink uint8
	unit unit
}

func (s segments) key() key {
	k := key(nil).num(uint64(len(s)))
	for _, g := range s {
		k = k.num(uint64(g.sink), uint64(g.unit))
	}
	return k
}

func (s segment) compare(o segment) int {
	if s.sink != o.sink {
		return int(s.sink) - int(o.sink)
	}
	return int(s.unit) - int(o.unit)
}

func (s segments) has(g segment) bool {
	_, ok := slices.BinarySearchFunc(s, g, segment.compare)
	return ok
}

func (s segments) with(g segment) segments {
	i, ok := slices.BinarySearchFunc(s, g, segment.compare)
	if ok {
		return s
	}
	return slices.Insert(slices.Clone(s), i, g)
}

func (s segments) without(g segment) segments {
	i, ok := slices.BinarySearchFunc(s, g, segment.compare)
	if !ok {
		return s
	}
	return slices.Delete(slices.Clone(s), i, i+1)
}
