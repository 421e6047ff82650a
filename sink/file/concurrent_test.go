package file

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Tasks write and prepare, each at its own pace, while the coordinator assembles and the committer commits: every row is there
// once, and the race detector finds nothing.
func TestFile_tasksAndCommitsRunTogether(t *testing.T) {
	const tasks, cuts, perCut = 4, 40, 7
	d := newMemDisk()
	s := newSink(plugin(t, d, Settings{Roll: Roll{Size: 150, Age: 3 * time.Second}}), sink.Env{Identity: identityOf("store"), Lease: 1, Tasks: tasks}, "NONCE")
	if err := s.Restore(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	cutOf := func(n int) sink.Cut {
		return sink.Cut{Lease: 1, Checkpoint: record.Checkpoint(n + 1), Time: 1_700_000_000_000 + int64(n)*1000, Final: n == cuts-1}
	}
	var parts [tasks]chan sink.Part
	var running sync.WaitGroup
	for task := range tasks {
		parts[task] = make(chan sink.Part, 2) // a task is at most two checkpoints ahead
		running.Go(func() {
			defer close(parts[task])
			w, err := s.Writer(t.Context(), task, rows(0, 0).Schema)
			if err != nil {
				t.Error(err)
				return
			}
			for n := range cuts {
				if n%(task+2) != 0 { // idle now and then
					if _, err := w.Write(t.Context(), rows(int64(task*1_000_000+n*perCut), perCut)); err != nil {
						t.Error(err)
						return
					}
				}
				part, err := w.Prepare(t.Context(), cutOf(n))
				if err != nil {
					t.Error(err)
					return
				}
				parts[task] <- part
			}
		})
	}
	decided := make(chan sink.Committable, cuts*tasks)
	running.Go(func() {
		c := s.Committer()
		if err := c.Fence(t.Context()); err != nil {
			t.Error(err)
		}
		for u := range decided {
			if outcome, _, err := c.Commit(t.Context(), u); outcome != sink.Committed {
				t.Errorf("got %s, %v", outcome, err)
			}
		}
	})
	for n := range cuts {
		var all []sink.Part
		for task := range tasks {
			if part, ok := <-parts[task]; ok {
				all = append(all, part)
			}
		}
		a, err := s.Assemble(cutOf(n), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range a.Committables {
			decided <- c
		}
	}
	close(decided)
	running.Wait()
	want, got := map[int64]int{}, map[int64]int{}
	for task := range tasks {
		for i := range cuts * perCut {
			if i/perCut%(task+2) != 0 {
				want[int64(task*1_000_000+i)] = 1
			}
		}
	}
	for _, name := range list(t, d, ".") {
		found, err := readNumbers(d, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range found {
			got[n]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}
