package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
)

// batches is a store in memory that deletes by batches, and notes what it was asked for.
type batches struct {
	*storetest.Memory
	asked [][]string
	err   error
}

func (b *batches) DeleteAll(ctx context.Context, names []string) error {
	b.asked = append(b.asked, slices.Clone(names))
	if b.err != nil {
		return b.err
	}
	for _, name := range names {
		if err := b.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Goal: a store with batches is asked once in sixteen checkpoints, for manifests before all that they name, and nothing that was
// named once is forgotten.
func TestGarbage_comesInBatches(t *testing.T) {
	b := &batches{Memory: storetest.NewMemory(nil)}
	for n := range 40 {
		for _, name := range []string{checkpoint.EntryName("p", 0, checkpoint.Seq(n+1)), fmt.Sprintf("p/staging/0/1/%d", n)} {
			if err := b.Create(t.Context(), name, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	g := checkpoint.NewGarbage(b, "p")
	var free []checkpoint.Seq
	for n := range 32 {
		free = append(free, checkpoint.Seq(n+1)) // a manifest may go until it is told that it went
		gone, err := g.Collect(t.Context(), free, []string{fmt.Sprintf("staging/0/1/%d", n)})
		if err != nil {
			t.Fatal(err)
		}
		if want := (n+1)%16 == 0; want != (len(gone) > 0) {
			t.Fatalf("round %d: got %d manifests gone", n, len(gone))
		}
		free = slices.DeleteFunc(free, func(s checkpoint.Seq) bool { return slices.Contains(gone, s) })
	}
	if len(b.asked) != 4 {
		t.Fatalf("got %d requests for 32 checkpoints, want 4", len(b.asked))
	}
	for i, names := range b.asked {
		folder := []string{"p/log/", "p/staging/"}[i%2]
		if len(names) != 16 || slices.ContainsFunc(names, func(n string) bool { return !strings.HasPrefix(n, folder) }) {
			t.Errorf("request %d: got %q, want 16 of %s", i, names, folder)
		}
	}
	if left := len(b.Objects()); left != 16 {
		t.Errorf("got %d objects left, want 16", left)
	}
}

// Goal: what a manifest names stays while the manifest stays (I9), and goes later.
func TestGarbage_keepsWhatAManifestNames(t *testing.T) {
	b := &batches{Memory: storetest.NewMemory(nil), err: errors.New("not now")}
	if err := b.Create(t.Context(), "p/staging/0/1/1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	g := checkpoint.NewGarbage(b, "p")
	for n := range 20 {
		gone, err := g.Collect(t.Context(), []checkpoint.Seq{1, 2}, []string{"staging/0/1/1", "staging/0/1/2"}[:1+n%2])
		if len(gone) > 0 || (err != nil) != (n >= 15) {
			t.Fatalf("round %d: got %v gone, %v", n, gone, err)
		}
	}
	if _, err := b.Get(t.Context(), "p/staging/0/1/1"); err != nil {
		t.Errorf("a segment went before its manifest: %v", err)
	}
	b.err = nil
	gone, err := g.Collect(t.Context(), []checkpoint.Seq{1, 2}, nil)
	if err != nil || len(gone) != 2 || len(b.Objects()) != 0 {
		t.Errorf("got %v gone, %v, %d objects left, want both and none", gone, err, len(b.Objects()))
	}
}

// Goal: a store without batches is asked at once, and a failure leaves the rest for the next round.
func TestGarbage_goesAtOnceWithoutBatches(t *testing.T) {
	fail := true
	m := storetest.NewMemory(func(c storetest.Call) storetest.Fault {
		if fail && c.Method == storetest.Delete && strings.HasSuffix(c.Name, "2") {
			return storetest.Refused
		}
		return storetest.None
	})
	for _, name := range []string{checkpoint.EntryName("p", 0, 1), checkpoint.EntryName("p", 0, 2), "p/staging/0/1/9"} {
		if err := m.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	g := checkpoint.NewGarbage(m, "p")
	gone, err := g.Collect(t.Context(), []checkpoint.Seq{1, 2}, []string{"staging/0/1/9"})
	if diff := cmp.Diff([]checkpoint.Seq{1}, gone); diff != "" || err == nil {
		t.Errorf("got %v, %v, want the first and an error", gone, err)
	}
	fail = false
	gone, err = g.Collect(t.Context(), []checkpoint.Seq{2}, nil)
	if diff := cmp.Diff([]checkpoint.Seq{2}, gone); diff != "" || err != nil || len(m.Objects()) != 0 {
		t.Errorf("got %v, %v, %d objects left, want the second and none", gone, err, len(m.Objects()))
	}
}

// Goal: the commit of what was just stored needs no request, as long as it is small, and what is read is what was stored.
func TestSegments_smallOnesAreStillInMemory(t *testing.T) {
	reads := 0
	m := storetest.NewMemory(func(c storetest.Call) storetest.Fault {
		if c.Method == storetest.Get {
			reads++
		}
		return storetest.None
	})
	s := checkpoint.NewSegments(m, "p", 0, 1)
	small := []byte("rows")
	first, err := s.Put(t.Context(), small, 1)
	if err != nil {
		t.Fatal(err)
	}
	copy(small, "XXXX") // the caller's own
	got, err := s.Get(t.Context(), first)
	if err != nil || string(got) != "rows" || reads != 0 {
		t.Errorf("got %q, %v after %d reads, want the rows and none", got, err, reads)
	}
	copy(got, "YYYY") // the caller's own, too
	if got, err := s.Get(t.Context(), first); err != nil || string(got) != "rows" {
		t.Errorf("got %q, %v the second time", got, err)
	}
	large, err := s.Put(t.Context(), make([]byte, 300<<10), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), large); err != nil || len(got) != 300<<10 || reads != 1 {
		t.Errorf("got %d bytes, %v after %d reads, want a large segment from the store", len(got), err, reads)
	}
	for range 5 << 20 / (100 << 10) { // more than is kept
		if _, err := s.Put(t.Context(), make([]byte, 100<<10), 1); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Get(t.Context(), first); err != nil || string(got) != "rows" || reads != 2 {
		t.Errorf("got %q, %v after %d reads, want the oldest from the store", got, err, reads)
	}
	first.Checksum++
	if _, err := s.Get(t.Context(), first); err == nil {
		t.Error("got nil for a wrong checksum")
	}
}
