package blackhole

import (
	"testing"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Rows of several tasks and checkpoints are counted, in the parts and in sum, and nothing is left to commit.
func TestBlackhole_countsAndShowsNothing(t *testing.T) {
	p, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Open(t.Context(), sink.Env{Lease: 1, Tasks: 2})
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(record.DeadLetterSchema())
	for i := range 5 {
		record.AppendDeadLetter(b, record.DeadLetter{Offset: record.Offset(i), Value: []byte("value")})
	}
	var sum int64
	for task := range 2 {
		w, err := s.Writer(t.Context(), task, b.Schema)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			for range n {
				if refused, err := w.Write(t.Context(), b); err != nil || len(refused) > 0 {
					t.Fatalf("%v, %v", refused, err)
				}
			}
			part, err := w.Prepare(t.Context(), sink.Cut{Lease: 1, Checkpoint: record.Checkpoint(n + 1)})
			if err != nil || part.Rows != int64(5*n) || part.Bytes != int64(n)*b.Bytes() || part.Task != task {
				t.Fatalf("got %+v, %v, want %d rows", part, err, 5*n)
			}
			a, err := s.Assemble(sink.Cut{Lease: 1, Checkpoint: record.Checkpoint(n + 1)}, []sink.Part{part})
			if err != nil || len(a.Committables) > 0 || len(a.State) > 0 {
				t.Fatalf("got %+v, %v, want nothing", a, err)
			}
			sum += part.Rows
		}
	}
	if rows, bytes := p.Counts(); rows != sum || rows != 30 || bytes != 6*b.Bytes() {
		t.Fatalf("got %d rows and %d bytes, want %d", rows, bytes, sum)
	}
	outcome, _, err := s.Committer().Commit(t.Context(), sink.Committable{Lease: 1, Checkpoint: 1})
	if outcome != sink.Committed || err != nil {
		t.Fatalf("got %s, %v", outcome, err)
	}
}
