package memory

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// flaw is one way to do it wrong. Only tests set it: for each there must be a case of the suite that fails.
type flaw uint8

const (
	faultless           flaw = iota
	ignoresLedger            // a retry writes again
	fencesNothing            // an older lease still writes
	forgetsLease             // the ledger compares checkpoints without the lease that cut them
	forgetsUnit              // the ledger compares checkpoints without the unit
	answersOldLeases         // an older lease is told Committed by what a newer one wrote
	ignoresStore             // another checkpoint store may go on
	adoptsNothing            // another checkpoint store may not even go on when a person asks for it
	ignoresNonce             // a copied store may go on
	showsPrepared            // rows are visible before they are committed
	takesUnknownForDone      // a failed call is taken for a success
	writesInParts            // rows and ledger are written by several calls
	keepsSegments            // what is prepared lies in the memory of the process
	keepsBatch               // the writer refers to the batch
	loadsFirst               // segments are needed to find out that a commit was done
	dropsTheRest             // a replacement has none of the rows
	dropsValues              // letters have no raw record
	emptyCommittables        // a checkpoint without rows has a committable
	dropsTasks               // parts of further tasks are forgotten
	assemblesAtRandom        // the same parts make different committables
	flawsEnd
)

// done judges by the ledger whether a committable took effect.
func (f flaw) done(entered, u place) bool {
	switch f { //nolint:exhaustive // the others judge rightly
	case ignoresLedger:
		return false
	case forgetsLease:
		entered.lease, u.lease = 0, 0
	case forgetsUnit:
		entered.unit, u.unit = 0, 0
	}
	return !u.above(entered)
}

func (f flaw) unitSegments(n int) int {
	if f == assemblesAtRandom {
		return 1 + rand.IntN(n)
	}
	return n
}

func (f flaw) letter(l record.DeadLetter) record.DeadLetter {
	if f == dropsValues {
		l.Value = nil
	}
	return l
}

// shallow refers to the columns of a batch without a copy.
func shallow(b *record.Batch) *record.Batch {
	c := *b
	c.Cols = append([]record.Column(nil), b.Cols...)
	return &c
}

// show writes prepared rows at once.
func (s *Sink) show(ctx context.Context, cut sink.Cut, part sink.Part) error {
	c := sink.Committable{Lease: cut.Lease, Checkpoint: cut.Checkpoint, Rows: part.Rows, Segments: part.Segments}
	batches, err := s.load(ctx, &c)
	if err != nil {
		return err
	}
	t := s.plugin.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.rows = append(t.mu.rows, rowsOf(batches)...)
	return nil
}

// inParts writes each row by a call of its own, and the ledger by another.
func (s *Sink) inParts(u *sink.Committable, rows [][]byte) (v verdict, err error) {
	t := s.plugin.table
	for _, row := range rows {
		err := s.plugin.calls("row", func() error {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.mu.rows = append(t.mu.rows, row)
			return nil
		})
		if err != nil {
			return v, err
		}
	}
	err = s.plugin.calls("entry", func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.mu.ledger[s.owner()] = entry{placeOf(u), s.env.Lease, s.env.Identity.StoreID}
		return nil
	})
	return verdict{outcome: sink.Committed}, err
}

// keep holds a segment in memory, where the next process does not find it.
func (t *Table) keep(data []byte, rows int64) sink.Segment {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := sink.Segment{Name: fmt.Sprintf("memory/%d", len(t.mu.segment)), Bytes: int64(len(data)), Rows: rows, Checksum: xxhash.Sum64(data)}
	t.mu.segment[s.Name] = data
	return s
}

func (t *Table) kept(s sink.Segment) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, ok := t.mu.segment[s.Name]
	return data, ok
}

// forget is the end of the process that kept segments.
func (t *Table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.mu.segment)
}
