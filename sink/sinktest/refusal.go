package sinktest

import (
	"slices"

	"github.com/ingestd/ingestd/sink"
)

// spoil makes some records bad.
func (w *world) spoil(bad string, ids ...int64) {
	w.textOf = func(id int64) string {
		if slices.Contains(ids, id) {
			return bad
		}
		return text(id)
	}
}

func writeRefuses(s *suite) {
	w := s.world("invalid rows")
	w.spoil(s.h.Invalid, 1, 4, 5, 6)
	r := w.mustStart(2)
	w.must(r.write(0, 3))
	w.must(r.write(1, 4)) // the last three can't be stored
	w.must(r.cut(false))
	w.must(r.write(0, 2))
	w.finish(r, nil)
	if len(w.refused) != 4 {
		w.fatalf("%d rows were refused, want 4", len(w.refused))
	}
}

func rejectedReplaced(s *suite) {
	for _, bad := range [][]int64{{0}, {2, 3}, {1, 6}, {0, 1, 2, 3, 4, 5, 6, 7}} {
		w := s.world("poisoned rows")
		w.spoil(s.h.Poison, bad...)
		var letters []int64
		w.onRejected = func(row sink.RejectedRow) { letters = append(letters, int64(row.Letter.Offset)) }
		r := w.mustStart(2)
		w.must(r.write(0, 3))
		w.must(r.write(1, 2))
		w.must(r.cut(false))
		w.must(r.write(1, 3))
		w.must(r.cut(false))
		w.must(r.commitAll())
		w.check()
		r.end()
		r = w.mustStart(1) // asks again for nothing, and finds nothing
		w.finish(r, nil)
		slices.Sort(letters)
		if !slices.Equal(letters, bad) {
			w.fatalf("letters came for the rows %v, want %v", letters, bad)
		}
	}
}

// replacementOrder has the poisoned row in the first of several committables, and a crash before the replacement is committed.
func replacementOrder(s *suite) {
	w := s.world("a poisoned row in the first unit")
	w.spoil(s.h.Poison, 1)
	r := w.mustStart(3)
	for task := range 3 {
		w.must(r.write(task, 40))
	}
	w.must(r.cut(false))
	w.must(r.write(0, 4))
	w.must(r.cut(true))
	outcome, rejected, err := r.commit(&r.pending[0])
	if outcome != sink.Rejected {
		w.fatalf("the commit of a poisoned row answers %s: %v", outcome, err)
	}
	w.must(r.replace(&r.pending[0], rejected))
	w.crash(r)
	r = w.mustStart(2)
	w.check()
	w.finish(r, nil)
	if len(w.refused) != 1 {
		w.fatalf("%d rows are refused, want 1", len(w.refused))
	}
}
