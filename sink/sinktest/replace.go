package sinktest

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

func describeUnit(c *sink.Committable) string {
	return fmt.Sprintf("checkpoint %d of lease %d, unit %d, %d rows", c.Checkpoint, c.Lease, c.Unit, c.Rows)
}

// replace puts a committable without the rejected rows in the place of c, in a manifest of its own, and commits that.
func (r *run) replace(c *sink.Committable, rejected []sink.RejectedRow) error {
	w := r.w
	for _, row := range rejected {
		r.checkLetter(c, row)
	}
	delete(w.tried, idOf(c)) // proven: nothing of it took or will take effect
	w.check()
	by, err := r.replacement(c, rejected)
	if err != nil {
		return err
	}
	if by.Lease != c.Lease || by.Checkpoint != c.Checkpoint || by.Unit != c.Unit+1 || by.Rows != c.Rows-int64(len(rejected)) {
		w.fatalf("%s less %d rows is replaced by %s", describeUnit(c), len(rejected), describeUnit(&by))
	}
	for _, row := range rejected {
		w.refused[int64(row.Letter.Offset)] = true
		if w.onRejected != nil {
			w.onRejected(row)
		}
	}
	m := w.copyOf(r.last)
	r.number++
	m.Lease, m.Checkpoint = r.lease, r.number
	m.Pending = append([]sink.Committable{by}, r.pending[1:]...)
	return r.publish(m)
}

func (r *run) replacement(c *sink.Committable, rejected []sink.RejectedRow) (sink.Committable, error) {
	w := r.w
	for range attemptsMax {
		by, err := r.commits.Replace(w.s.ctx, *c, slices.Clone(rejected), c.Unit+1)
		if err == nil {
			w.logf("lease %d: %s is replaced, %d rows rejected", r.lease, describeUnit(c), len(rejected))
			return by, nil
		}
		w.logf("lease %d: replace %s: %v", r.lease, describeUnit(c), err)
		if r.faults.Dead() {
			return sink.Committable{}, errDead
		}
		if k := fault.KindOf(err); k != fault.Unknown && k != fault.Transient {
			w.fatalf("replace answers %s: %v", k, err)
		}
	}
	w.fatalf("%s can't be replaced", describeUnit(c))
	return sink.Committable{}, errOver
}

// checkLetter demands that a rejected row is a poisoned one and comes with everything that a person needs.
func (r *run) checkLetter(c *sink.Committable, row sink.RejectedRow) {
	w, l := r.w, row.Letter
	id := int64(l.Offset)
	switch {
	case row.Row < 0 || row.Row >= c.Rows:
		w.fatalf("row %d of %d is rejected", row.Row, c.Rows)
	case w.s.h.Poison == "" || w.textOf(id) != w.s.h.Poison:
		w.fatalf("row %d is rejected, and nothing is wrong with it: %s", id, l.Reason)
	case l.Split != split || string(l.Value) != string(raw(Row{ID: id})) || l.Timestamp != 1_700_000_000_000+id:
		w.fatalf("the letter of row %d lost its provenance: %+v", id, l)
	case l.Reason == "" || l.Stage != "sink:"+w.identity().Sink:
		w.fatalf("the letter of row %d has stage %q and reason %q", id, l.Stage, l.Reason)
	}
}
