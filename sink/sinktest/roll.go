package sinktest

import "github.com/ingestd/ingestd/sink"

func rollCases() []Case {
	return []Case{{
		Name: "roll_holdsNothingBack", Level: must, run: rollHoldsNothing,
		Rule: "At a cut with Roll a sink makes committables of every row that it holds, and one that collects rows over several checkpoints says by Held that none is left: a savepoint holds no rows, so all of its checkpoint's must be in the target.",
	}}
}

func rollHoldsNothing(s *suite) {
	w := s.world("roll")
	r := w.mustStart(3)
	w.must(r.write(0, 2))
	w.must(r.write(1, 3))
	w.must(r.cut(false))
	w.must(r.write(0, 1)) // task 1 goes on with nothing, task 2 has never written
	r.roll = true
	w.must(r.cut(false))
	var rows int64
	for i := range r.pending {
		rows += r.pending[i].Rows
	}
	if want := r.next; rows != want {
		w.fatalf("%d rows are in committables after a cut with Roll, want all %d", rows, want)
	}
	p, err := w.target.Plugin(&Faults{})
	if err != nil {
		w.fatalf("the plugin can't be made: %v", err)
	}
	if h, ok := p.(sink.Holder); ok {
		if held, err := h.Held(r.last.State); err != nil || held != 0 {
			w.fatalf("%d rows are held after a cut with Roll, %v", held, err)
		}
	}
	r.roll = false
	w.must(r.write(1, 2))
	w.must(r.write(2, 1))
	w.must(r.cut(false))
	w.finish(r, nil)
}
