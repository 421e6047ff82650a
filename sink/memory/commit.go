package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Committer writes committables to the table.
type Committer struct {
	sink *Sink
}

var _ sink.Committer = (*Committer)(nil)

func (s *Sink) owner() owner {
	return owner{s.env.Identity.Pipeline, s.env.Identity.Lane, s.env.Identity.Sink}
}

// Fence raises the table's fence to the run's lease.
func (c *Committer) Fence(ctx context.Context) error {
	const op = "sink/memory.Fence"
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	var found fence
	err := c.sink.plugin.calls("fence", func() error {
		found = c.sink.raise()
		return nil
	})
	mine := c.sink.fence()
	switch {
	case err != nil:
		return fault.E(op, fault.Unknown, err)
	case found.storeID != mine.storeID && c.sink.plugin.flaw != ignoresStore:
		return fault.WithRemedy(op, fault.Lost, fmt.Errorf("the table belongs to the store %q, this is %q", found.storeID, mine.storeID), "use another sink name or table")
	case found.lease > mine.lease, found.nonce != mine.nonce && c.sink.plugin.flaw != ignoresNonce:
		return fault.E(op, fault.Fenced, fmt.Errorf("lease %d fenced the table, this run has %d", found.lease, mine.lease))
	}
	return nil
}

func (s *Sink) fence() fence { return fence{s.env.Lease, s.nonce, s.env.Identity.StoreID} }

// raise returns the fence as it stands after the attempt.
func (s *Sink) raise() fence {
	t, mine := s.plugin.table, s.fence()
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.mu.fences[s.owner()]
	adopted := s.env.Adopt && s.plugin.flaw != adoptsNothing
	switch {
	case s.plugin.flaw == fencesNothing:
		return mine
	case old.lease > mine.lease, ok && old.storeID != mine.storeID && s.plugin.flaw != ignoresStore && !adopted:
		return old
	case old.lease == mine.lease && old.nonce != mine.nonce && s.plugin.flaw != ignoresNonce:
		return old
	}
	if ok && old.storeID != mine.storeID && adopted {
		delete(t.mu.ledger, s.owner()) // of checkpoints that this store never had
	}
	t.mu.fences[s.owner()] = mine
	return mine
}

// verdict is what a transaction found.
type verdict struct {
	outcome  sink.Outcome
	rejected []int64
	why      string
}

// Commit writes the rows unless the ledger says that they were written. The ledger is asked before the segments, which may be
// collected when it was.
func (c *Committer) Commit(ctx context.Context, u sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	const op = "sink/memory.Commit"
	s := c.sink
	if err := ctx.Err(); err != nil {
		return sink.Retry, nil, fault.E(op, fault.Transient, err)
	}
	if s.plugin.flaw != loadsFirst {
		if v, err := c.ask(&u); v.outcome != sink.Retry || err != nil {
			return answer(v, err, s.plugin.flaw)
		}
	}
	batches, err := s.load(ctx, &u)
	if err != nil {
		return loadOutcome(err), nil, fault.E(op, fault.KindOf(err), err)
	}
	v, err := c.transact(&u, batches)
	if v.outcome != sink.Rejected || err != nil {
		return answer(v, err, s.plugin.flaw)
	}
	return sink.Rejected, s.letters(batches, v.rejected), fault.E(op, fault.Rejected, fmt.Errorf("%d rows are refused", len(v.rejected)))
}

func loadOutcome(err error) sink.Outcome {
	switch fault.KindOf(err) {
	case fault.Lost, fault.Corrupt, fault.Misconfigured:
		return sink.Lost
	case fault.Unknown, fault.Transient, fault.Rejected, fault.Fenced:
	}
	return sink.Retry // nothing was sent
}

func answer(v verdict, err error, f flaw) (sink.Outcome, []sink.RejectedRow, error) {
	const op = "sink/memory.Commit"
	switch {
	case err != nil && f == takesUnknownForDone:
		return sink.Committed, nil, nil
	case err != nil:
		return sink.Unknown, nil, fault.E(op, fault.Unknown, err)
	case v.outcome == sink.Committed:
		return sink.Committed, nil, nil
	}
	kind := fault.Fenced
	if v.outcome == sink.Lost {
		kind = fault.Lost
	}
	return v.outcome, nil, fault.E(op, kind, fmt.Errorf("%s", v.why))
}

// ask looks at fence and ledger: Retry means that the rows are still to be written.
func (c *Committer) ask(u *sink.Committable) (v verdict, err error) {
	err = c.sink.plugin.calls("ledger", func() error {
		t := c.sink.plugin.table
		t.mu.Lock()
		defer t.mu.Unlock()
		v = c.sink.lookLocked(u)
		return nil
	})
	return v, err
}

// lookLocked judges a committable by fence and ledger.
func (s *Sink) lookLocked(u *sink.Committable) verdict {
	fenced, entered := s.plugin.table.mu.fences[s.owner()], s.plugin.table.mu.ledger[s.owner()]
	mine := s.fence()
	done := s.plugin.flaw.done(entered.place, placeOf(u))
	switch {
	case entered.storeID != "" && entered.storeID != mine.storeID && s.plugin.flaw != ignoresStore:
		return verdict{outcome: sink.Lost, why: "the ledger belongs to the store " + entered.storeID}
	case s.plugin.flaw == answersOldLeases && done:
		return verdict{outcome: sink.Committed}
	case s.plugin.flaw != fencesNothing && (fenced.lease > mine.lease || entered.writer > mine.lease):
		return verdict{outcome: sink.Fenced, why: fmt.Sprintf("lease %d fenced the table, this run has %d", fenced.lease, mine.lease)}
	case s.plugin.flaw != fencesNothing && s.plugin.flaw != ignoresNonce && fenced.nonce != mine.nonce:
		return verdict{outcome: sink.Fenced, why: "another run of the same lease fenced the table"}
	case done:
		return verdict{outcome: sink.Committed}
	}
	return verdict{outcome: sink.Retry}
}

// transact writes rows and ledger in one act, or nothing.
func (c *Committer) transact(u *sink.Committable, batches []*record.Batch) (v verdict, err error) {
	s := c.sink
	rows := rowsOf(batches)
	if s.plugin.flaw == writesInParts {
		return s.inParts(u, rows)
	}
	err = s.plugin.calls("transaction", func() error {
		t := s.plugin.table
		t.mu.Lock()
		defer t.mu.Unlock()
		if v = s.lookLocked(u); v.outcome != sink.Retry {
			return nil
		}
		if bad := s.poisoned(rows); len(bad) > 0 {
			v = verdict{outcome: sink.Rejected, rejected: bad}
			return nil
		}
		t.mu.rows = append(t.mu.rows, rows...)
		t.mu.ledger[s.owner()] = entry{placeOf(u), s.env.Lease, s.env.Identity.StoreID}
		v = verdict{outcome: sink.Committed}
		return nil
	})
	return v, err
}

func rowsOf(batches []*record.Batch) [][]byte {
	var rows [][]byte
	for _, b := range batches {
		for row := range b.Rows {
			rows = append(rows, rowJSON(b, row))
		}
	}
	return rows
}

// poisoned returns the rows that the table does not take.
func (s *Sink) poisoned(rows [][]byte) []int64 {
	if s.plugin.settings.Poison == "" {
		return nil
	}
	var bad []int64
	for i, row := range rows {
		if bytes.Contains(row, quoted(s.plugin.settings.Poison)) {
			bad = append(bad, int64(i))
		}
	}
	return bad
}

// letters returns refused rows with their dead letters.
func (s *Sink) letters(batches []*record.Batch, rejected []int64) []sink.RejectedRow {
	out := make([]sink.RejectedRow, 0, len(rejected))
	var first int64
	for _, b := range batches {
		for row := range b.Rows {
			if n := first + int64(row); slices.Contains(rejected, n) {
				l := b.Letter(row, "sink:"+s.env.Identity.Sink, record.Refusal{Reason: "the table refuses the row", Byte: -1})
				out = append(out, sink.RejectedRow{Row: n, Letter: s.plugin.flaw.letter(l)})
			}
		}
		first += int64(b.Rows)
	}
	return out
}

// Replace stores the rows that are left as a segment of their own.
func (c *Committer) Replace(ctx context.Context, u sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	const op = "sink/memory.Replace"
	batches, err := c.sink.load(ctx, &u)
	if err != nil {
		return sink.Committable{}, fault.E(op, fault.KindOf(err), err)
	}
	by := u
	by.Unit, by.Segments, by.Rows, by.Bytes = unit, nil, 0, 0
	var first int64
	for _, b := range batches {
		rows := int64(b.Rows)
		b.Keep(remaining(first, rows, rejected, c.sink.plugin.flaw))
		first += rows
		if b.Rows == 0 {
			continue
		}
		w := &Writer{sink: c.sink, batch: b}
		if err := w.flush(ctx); err != nil {
			return sink.Committable{}, fault.E(op, fault.KindOf(err), err)
		}
		by.Segments = append(by.Segments, w.part.Segments...)
		by.Rows += w.part.Rows
		by.Bytes += w.part.Bytes
	}
	return by, nil
}

// remaining returns the rows of a batch that were not rejected.
func remaining(first, rows int64, rejected []sink.RejectedRow, f flaw) []uint32 {
	var keep []uint32
	for i := range rows {
		bad := slices.ContainsFunc(rejected, func(r sink.RejectedRow) bool { return r.Row == first+i })
		if !bad && f != dropsTheRest {
			keep = append(keep, uint32(i))
		}
	}
	return keep
}
