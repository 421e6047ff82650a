package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

func TestSegments_giveBackWhatWasPut(t *testing.T) {
	s := checkpoint.NewSegments(storetest.NewMemory(nil), "p", 0, 7)
	for i, data := range [][]byte{{}, []byte("rows"), bytes.Repeat([]byte("x"), 1<<20)} {
		seg, err := s.Put(t.Context(), data, int64(i))
		if err != nil {
			t.Fatal(err)
		}
		if want := checkpoint.SegmentName(0, 7, uint64(i+1)); seg.Name != want || seg.Bytes != int64(len(data)) || seg.Rows != int64(i) {
			t.Errorf("got %+v, want name %s, %d bytes, %d rows", seg, want, len(data), i)
		}
		got, err := s.Get(t.Context(), seg)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v, want the %d that were put", len(got), err, len(data))
		}
	}
}

// Goal: a segment's checksum is XXH64 with seed 0, of which others can make sure by their own tools.
func TestSegments_checksumIsXXH64(t *testing.T) {
	s := checkpoint.NewSegments(storetest.NewMemory(nil), "p", 0, 1)
	for data, want := range map[string]uint64{"": 0xef46db3751d8e999, "abc": 0x44bc2cf5ad770999} {
		seg, err := s.Put(t.Context(), []byte(data), 0)
		if err != nil || seg.Checksum != want {
			t.Errorf("got %016x, %v for %q, want %016x", seg.Checksum, err, data, want)
		}
	}
}

func TestSegments_namesAreNeverGivenOutTwice(t *testing.T) {
	store := storetest.NewMemory(nil)
	s := checkpoint.NewSegments(store, "p", 0, 1)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := s.Put(t.Context(), fmt.Appendf(nil, "%d %d", w, i), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(store.Objects()); got != 400 {
		t.Errorf("got %d segments, want 400", got)
	}
}

// faultsAt makes the numbered calls fail.
func faultsAt(at map[int]storetest.Fault) func(storetest.Call) storetest.Fault {
	return func(c storetest.Call) storetest.Fault { return at[c.Number] }
}

// Goal: an answer that stays away neither loses nor doubles a segment, and Put never reports as stored what may not be. Method:
// each sequence of faults at the calls of one Put; late requests land at the end.
func TestSegments_putUnderFaults(t *testing.T) {
	const none, refused, reply, request, late = storetest.None, storetest.Refused, storetest.ReplyLost, storetest.RequestLost, storetest.Late
	for _, c := range []struct {
		name   string
		faults []storetest.Fault
		ok     bool
		kind   fault.Kind
	}{
		{"refused at once", []storetest.Fault{refused}, false, fault.Transient},
		{"the reply is lost, the name is taken by our bytes", []storetest.Fault{reply}, true, 0},
		{"the reply is lost, and reading back fails", []storetest.Fault{reply, none, refused}, false, fault.Unknown},
		{"the request is lost, the second arrives", []storetest.Fault{request}, true, 0},
		{"the request is late, the second arrives", []storetest.Fault{late}, true, 0},
		{"all are late", []storetest.Fault{late, late, late}, false, fault.Unknown},
		{"all are lost", []storetest.Fault{request, request, request}, false, fault.Unknown},
		{"late, then refused: the first may still land", []storetest.Fault{late, refused}, false, fault.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := map[int]storetest.Fault{}
			for i, f := range c.faults {
				at[i+1] = f
			}
			store := storetest.NewMemory(faultsAt(at))
			s := checkpoint.NewSegments(store, "p", 0, 1)
			seg, err := s.Put(t.Context(), []byte("first"), 3)
			if (err == nil) != c.ok || err != nil && fault.KindOf(err) != c.kind {
				t.Fatalf("got %v, want success %v, kind %v", err, c.ok, c.kind)
			}
			store.Land()
			second, err := s.Put(t.Context(), []byte("second"), 4)
			if err != nil {
				t.Fatalf("the next Put: %v", err)
			}
			if second.Name == checkpoint.SegmentName(0, 1, 1) {
				t.Errorf("got the name %s again for other bytes", second.Name)
			}
			for want, g := range map[string]sink.Segment{"first": seg, "second": second} {
				if g.Name == "" {
					continue // Put gave no segment
				}
				if got, err := s.Get(t.Context(), g); err != nil || string(got) != want {
					t.Errorf("got %q, %v from %s, want %q", got, err, g.Name, want)
				}
			}
		})
	}
}

// Goal: two writers under one lease are a bug that must not end in one reading the other's rows.
func TestSegments_putRefusesAnothersBytes(t *testing.T) {
	store := storetest.NewMemory(nil)
	if _, err := checkpoint.NewSegments(store, "p", 0, 1).Put(t.Context(), []byte("one"), 1); err != nil {
		t.Fatal(err)
	}
	_, err := checkpoint.NewSegments(store, "p", 0, 1).Put(t.Context(), []byte("two"), 1)
	if err == nil || fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "p/staging/0/1/") {
		t.Errorf("got %v, want fault.Corrupt with the name", err)
	}
}

func TestSegments_putStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	store := storetest.NewMemory(func(storetest.Call) storetest.Fault {
		calls++
		cancel()
		return storetest.RequestLost
	})
	_, err := checkpoint.NewSegments(store, "p", 0, 1).Put(ctx, []byte("x"), 1)
	if err == nil || fault.KindOf(err) != fault.Unknown || calls != 1 {
		t.Errorf("got %v after %d calls, want fault.Unknown after 1", err, calls)
	}
}

// raw is a store whose object was changed behind the segments' back.
type raw struct {
	checkpoint.Store
	data []byte
	err  error
}

func (r raw) Get(context.Context, string) ([]byte, error) { return r.data, r.err }

func TestSegments_getChecksWhatItReads(t *testing.T) {
	s := checkpoint.NewSegments(storetest.NewMemory(nil), "p", 0, 1)
	seg, err := s.Put(t.Context(), []byte("rows"), 5)
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) sink.Segment {
		g := seg
		g.Name = name
		return g
	}
	for _, c := range []struct {
		name string
		seg  sink.Segment
		raw  raw
		kind fault.Kind
		want string
	}{
		{"is gone", seg, raw{err: checkpoint.ErrNotExist}, fault.Lost, "5 rows"},
		{"is cut", seg, raw{data: []byte("row")}, fault.Corrupt, "byte 3"},
		{"has grown", seg, raw{data: []byte("rows!")}, fault.Corrupt, "byte 4"},
		{"is changed", seg, raw{data: []byte("rowz")}, fault.Corrupt, "checksum"},
		{"can't be read", seg, raw{err: fault.E("x", fault.Transient, errors.New("away"))}, fault.Transient, "away"},
		{"leads out", named("staging/../../../etc/passwd"), raw{data: []byte("rows")}, fault.Corrupt, "no segment"},
		{"is no segment", named("log/0/1/1"), raw{data: []byte("rows")}, fault.Corrupt, "no segment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := checkpoint.NewSegments(c.raw, "p", 0, 1).Get(t.Context(), c.seg)
			if got != nil || err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v, want an error of kind %v with %q", got, err, c.kind, c.want)
			}
			if !strings.Contains(err.Error(), c.seg.Name) {
				t.Errorf("got %q, want it to name the segment", err)
			}
		})
	}
}

// Goal (I9): a sweep takes the segments of older leases that are not kept, and nothing else: not a newer lease's, not another
// lane's, not what has another kind of name.
func TestSweep_takesOnlyWhatNobodyCanName(t *testing.T) {
	store := storetest.NewMemory(nil)
	kept, other := checkpoint.SegmentName(0, 1, 2), "staging/0/1/x~"
	all := []string{
		"p/staging/0/1/0000000000000001", "p/" + kept, "p/staging/0/2/0000000000000001", "p/staging/0/3/0000000000000001",
		"p/staging/0/10/0000000000000001", "p/staging/1/1/0000000000000001", "p/staging/0/1/a/b", "p/staging/0/x/1", "p/log/0/0000000000000001",
		"p/state/0/1/1", "p2/staging/0/1/0000000000000001", "p/staging/00/1/1",
	}
	for _, name := range all {
		if err := store.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	run := checkpoint.NewSegments(store, "p", 0, 3)
	n, err := run.Sweep(t.Context(), 2, map[string]bool{kept: true, other: true})
	if err != nil || n != 2 {
		t.Errorf("got %d deleted, %v, want 2", n, err)
	}
	want := slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return name == "p/staging/0/1/0000000000000001" || name == "p/staging/0/2/0000000000000001"
	})))
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(store.Objects()))); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if n, err := run.Sweep(t.Context(), 2, map[string]bool{kept: true}); err != nil || n != 0 {
		t.Errorf("got %d deleted, %v the second time, want 0", n, err)
	}
	if _, err := run.Sweep(t.Context(), 4, nil); err == nil || fault.KindOf(err) != fault.Fenced {
		t.Errorf("got %v from a sweep of a newer lease, want fault.Fenced", err)
	}
}

func TestSweep_tellsHowFarItCame(t *testing.T) {
	for _, c := range []struct {
		call int // 5 is the list, 6 to 9 are the deletes
		want int
	}{{5, 0}, {6, 0}, {8, 2}} {
		store := storetest.NewMemory(faultsAt(map[int]storetest.Fault{c.call: storetest.Refused}))
		old := checkpoint.NewSegments(store, "p", 0, 1)
		for range 4 {
			if _, err := old.Put(t.Context(), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		run := checkpoint.NewSegments(store, "p", 0, 2)
		n, err := run.Sweep(t.Context(), 1, nil)
		if err == nil || fault.KindOf(err) != fault.Transient || n != c.want {
			t.Errorf("call %d refused: got %d, %v, want %d and fault.Transient", c.call, n, err, c.want)
		}
		if n, err := run.Sweep(t.Context(), 1, nil); err != nil || n != 4-c.want {
			t.Errorf("got %d, %v the second time, want %d", n, err, 4-c.want)
		}
	}
}
