// Package storetest holds the rules of [checkpoint.Store] as cases that every store must pass, and a store in memory whose
// faults can be chosen.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// rule is one sentence of the contract and the test that holds a store to it.
type rule struct {
	name string
	// why tells what breaks in the commit log when a store does not keep the rule.
	why  string
	test func(t *testing.T, s checkpoint.Store)
}

// Run holds stores to the contract of [checkpoint.Store]. Open returns a new, empty store; it closes what it opened by
// t.Cleanup. A failure prints the rule and what it is for.
func Run(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	t.Helper()
	for _, r := range slices.Concat(createRules(), readRules(), listRules(), deleteRules(), nameRules()) {
		t.Run(r.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", r.why)
				}
			})
			r.test(t, open(t))
		})
	}
}

func createRules() []rule {
	return []rule{
		{
			"create_storesTheBytes", "what was published is what is read back, to the byte",
			func(t *testing.T, s checkpoint.Store) {
				for _, data := range [][]byte{{}, {0}, []byte("a\n"), bytes.Repeat([]byte{0xff, 0, '\r', '\n'}, 1<<14)} {
					name := fmt.Sprintf("p/log/0/%d", len(data))
					create(t, s, name, data)
					wantObject(t, s, name, data)
				}
			},
		},
		{
			"create_refusesATakenName", "an entry of the log never changes: whoever comes second learns it by ErrExists, also with the same bytes",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("first"))
				for _, data := range []string{"second", "first", ""} {
					wantIs(t, s.Create(t.Context(), "p/a", []byte(data)), checkpoint.ErrExists, "Create of a taken name")
				}
				wantObject(t, s, "p/a", []byte("first"))
			},
		},
		{
			"create_keepsNoReference", "a caller reuses its buffers",
			func(t *testing.T, s checkpoint.Store) {
				data := []byte("before")
				create(t, s, "p/a", data)
				copy(data, "AFTER!")
				wantObject(t, s, "p/a", []byte("before"))
			},
		},
		{
			"create_hasOneWinner", "two runs that claim the same number must not both win, and a reader must never see a part of an object",
			testOneWinner,
		},
		{
			"create_keepsNeighboursApart", "names that begin alike are different objects",
			func(t *testing.T, s checkpoint.Store) {
				names := []string{"p/a", "p/a-b", "p/a.b", "p/a0", "p/aa", "p/A2", "q/a"}
				for _, name := range names {
					create(t, s, name, []byte(name))
				}
				for _, name := range names {
					wantObject(t, s, name, []byte(name))
				}
			},
		},
		{
			"create_takesLargeObjects", "a segment is as large as a block of the target",
			func(t *testing.T, s checkpoint.Store) {
				data := pattern(32 << 20)
				create(t, s, "p/staging/0/1/1", data)
				wantObject(t, s, "p/staging/0/1/1", data)
			},
		},
		{
			"create_doesNothingUnderAnEndedContext", "an answer of fault.Transient promises that nothing was and will be created",
			func(t *testing.T, s checkpoint.Store) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				err := s.Create(ctx, "p/a", []byte("x"))
				if err == nil {
					t.Fatal("got nil from Create under an ended context, want an error")
				}
				if fault.KindOf(err) == fault.Transient {
					wantAbsent(t, s, "p/a")
				}
			},
		},
	}
}

// testOneWinner lets writers race for one name after the other, while a reader looks at each.
func testOneWinner(t *testing.T, s checkpoint.Store) {
	const rounds, writers = 50, 8
	for round := range rounds {
		name := fmt.Sprintf("p/log/0/%016d", round)
		content := func(w int) []byte { return bytes.Repeat([]byte{byte('a' + w)}, 20_000+w) }
		whole := func(data []byte) bool {
			return len(data) > 0 && bytes.Equal(data, content(int(data[0]-'a')))
		}
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() { errs[w] = s.Create(t.Context(), name, content(w)) })
		}
		wg.Go(func() {
			for range 20 {
				data, err := s.Get(t.Context(), name)
				if err == nil && !whole(data) {
					t.Errorf("round %d: a reader saw %d bytes of an object that is not whole", round, len(data))
				}
			}
		})
		wg.Wait()
		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("round %d: writers %d and %d both created %s", round, winner, w, name)
			case err == nil:
				winner = w
			default:
				wantIs(t, err, checkpoint.ErrExists, "Create of a writer that lost")
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody created %s, want one winner", round, name)
		}
		wantObject(t, s, name, content(winner))
	}
}

func readRules() []rule {
	return []rule{
		{
			"get_tellsWhatIsNotThere", "an absent entry of the log is not an error of the store",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("x"))
				create(t, s, "p/f/b", []byte("x"))
				for _, name := range []string{"p/b", "q", "p/a.b", "p/f/c", "p"} {
					wantAbsent(t, s, name)
				}
			},
		},
		{
			"get_givesTheBytesAway", "a caller may change what it got",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("before"))
				data, err := s.Get(t.Context(), "p/a")
				if err != nil {
					t.Fatal(err)
				}
				copy(data, "AFTER!")
				part, err := s.GetRange(t.Context(), "p/a", 0, 6)
				if err != nil {
					t.Fatal(err)
				}
				copy(part, "AFTER!")
				wantObject(t, s, "p/a", []byte("before"))
			},
		},
		{
			"getRange_returnsTheRange", "a large object is read by parts: fewer bytes come only at its end",
			func(t *testing.T, s checkpoint.Store) {
				data := pattern(1000)
				create(t, s, "p/a", data)
				for _, r := range [][2]int64{
					{0, 1000}, {0, 0}, {0, 1}, {1, 998}, {999, 1}, {999, 2}, {500, 10_000}, {1000, 0}, {1000, 1}, {1001, 1},
					{1 << 40, 1}, {0, 1<<63 - 1}, {500, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1},
				} {
					from := min(r[0], 1000)
					want := data[from : from+min(r[1], 1000-from)]
					got, err := s.GetRange(t.Context(), "p/a", r[0], r[1])
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("got %d bytes, %v from GetRange(%d, %d), want bytes %d to %d", len(got), err, r[0], r[1], from, from+int64(len(want)))
					}
				}
			},
		},
		{
			"getRange_refusesWhatIsNoRange", "a mistake of the caller must not look like the end of an object",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("abc"))
				for _, r := range [][2]int64{{-1, 1}, {0, -1}} {
					if got, err := s.GetRange(t.Context(), "p/a", r[0], r[1]); err == nil {
						t.Errorf("got %q from GetRange(%d, %d), want an error", got, r[0], r[1])
					}
				}
			},
		},
		{
			"getRange_tellsWhatIsNotThere", "as Get",
			func(t *testing.T, s checkpoint.Store) {
				_, err := s.GetRange(t.Context(), "p/a", 0, 1)
				wantIs(t, err, checkpoint.ErrNotExist, "GetRange of nothing")
			},
		},
		{
			"read_showsEveryCreate", "List and Get show every Create that returned before: a run that lists after its claim must see it, whoever created it",
			func(t *testing.T, s checkpoint.Store) {
				var wg sync.WaitGroup
				for w := range 4 {
					wg.Go(func() {
						for i := range 50 {
							name := fmt.Sprintf("p/log/%d/%d", w, i)
							if err := s.Create(t.Context(), name, []byte(name)); err != nil {
								t.Errorf("Create(%q): %v", name, err)
								return
							}
							got, err := s.Get(t.Context(), name)
							if err != nil || string(got) != name {
								t.Errorf("got %q, %v from Get(%q) after its Create, want its bytes", got, err, name)
							}
							names, err := s.List(t.Context(), "p/log/", "")
							if err != nil || !slices.Contains(names, name) {
								t.Errorf("got %d names, %v from List after Create(%q), want it among them", len(names), err, name)
							}
						}
					})
				}
				wg.Wait()
			},
		},
	}
}

func listRules() []rule {
	names := []string{"p/a", "p/a-b", "p/a.b/c", "p/a0", "p/b/c/d", "p/b/c/e", "p/b/c0", "q/a", "store"}
	fill := func(t *testing.T, s checkpoint.Store) {
		t.Helper()
		for _, i := range []int{4, 0, 8, 2, 6, 1, 3, 7, 5} {
			create(t, s, names[i], []byte(names[i]))
		}
	}
	return []rule{
		{
			"list_isSortedByByte", "the highest number of a log is the last name of its list",
			func(t *testing.T, s checkpoint.Store) {
				wantList(t, s, "", "")
				fill(t, s)
				// "-" and "." are below "/" and "0" is above: a folder's place among names is not the place of its own name.
				wantList(t, s, "", "", names...)
			},
		},
		{
			"list_beginsWithPrefix", "a prefix is a string, not a folder",
			func(t *testing.T, s checkpoint.Store) {
				fill(t, s)
				for _, prefix := range []string{"", "p", "p/", "p/a", "p/a.", "p/b", "p/b/", "p/b/c", "p/b/c/", "p/b/c/d", "q", "r", "p/a/", "p/b/c/d/", "store", "store/", "none/such/"} {
					var want []string
					for _, name := range names {
						if strings.HasPrefix(name, prefix) {
							want = append(want, name)
						}
					}
					wantList(t, s, prefix, "", want...)
				}
			},
		},
		{
			"list_beginsAfter", "a long log is read from where one stands; after itself is left out, and need not be there",
			func(t *testing.T, s checkpoint.Store) {
				fill(t, s)
				for _, after := range []string{"p", "p/a", "p/a!", "p/b/c/d", "p/b/c/dd", "p/b/c0", "store", "zzz"} {
					var want []string
					for _, name := range names {
						if strings.HasPrefix(name, "p/") && name > after {
							want = append(want, name)
						}
					}
					wantList(t, s, "p/", after, want...)
				}
			},
		},
		{
			"list_isComplete", "a store that lists by pages must read them all",
			func(t *testing.T, s checkpoint.Store) {
				var want []string
				for i := range 2100 { // above the 1,000 names of a page of S3
					want = append(want, fmt.Sprintf("p/log/0/%016d", i))
					create(t, s, want[i], nil)
				}
				wantList(t, s, "p/log/0/", "", want...)
				wantList(t, s, "p/log/0/", want[2050], want[2051:]...)
			},
		},
		{
			"list_showsNothingHalfDone", "what is not created yet has no name, and what a writer leaves behind has none either",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("x"))
				wantIs(t, s.Create(t.Context(), "p/a", []byte("y")), checkpoint.ErrExists, "Create of a taken name")
				wantList(t, s, "", "", "p/a")
			},
		},
	}
}

func deleteRules() []rule {
	return []rule{
		{
			"delete_removes", "collection frees space, and what was deleted is neither read nor listed",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/a", []byte("x"))
				create(t, s, "p/b", []byte("y"))
				remove(t, s, "p/a")
				wantAbsent(t, s, "p/a")
				wantList(t, s, "", "", "p/b")
				wantObject(t, s, "p/b", []byte("y"))
			},
		},
		{
			"delete_mayBeRepeated", "after a lost answer it is sent again",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/f/a", []byte("x"))
				for range 3 {
					remove(t, s, "p/f/a")
				}
				remove(t, s, "never/was/there")
				remove(t, s, "p/f/a/b")
			},
		},
		{
			"delete_leavesWhatLiesBelow", "deleting a name that is no object deletes nothing",
			func(t *testing.T, s checkpoint.Store) {
				create(t, s, "p/f/a", []byte("x"))
				if err := s.Delete(t.Context(), "p/f"); err != nil {
					t.Logf("Delete of what is no object: %v", err)
				}
				wantObject(t, s, "p/f/a", []byte("x"))
			},
		},
		{
			"delete_freesTheName", "a collected number may be written again, by a late request",
			func(t *testing.T, s checkpoint.Store) {
				for _, data := range []string{"first", "second", "third"} {
					create(t, s, "p/a", []byte(data))
					wantObject(t, s, "p/a", []byte(data))
					remove(t, s, "p/a")
				}
			},
		},
		{
			"delete_racesWithReaders", "a reader gets the whole object or ErrNotExist",
			func(t *testing.T, s checkpoint.Store) {
				data := pattern(100_000)
				for i := range 20 {
					name := fmt.Sprintf("p/%d", i)
					create(t, s, name, data)
					var wg sync.WaitGroup
					wg.Go(func() { remove(t, s, name) })
					for range 3 {
						wg.Go(func() {
							got, err := s.Get(t.Context(), name)
							if !errors.Is(err, checkpoint.ErrNotExist) && (err != nil || !bytes.Equal(got, data)) {
								t.Errorf("got %d bytes, %v from Get beside Delete, want all or ErrNotExist", len(got), err)
							}
						})
					}
					wg.Wait()
					wantAbsent(t, s, name)
				}
			},
		},
	}
}

func nameRules() []rule {
	return []rule{
		{
			"names_areRefused", "no name leads out of the store or means something else in another store",
			func(t *testing.T, s checkpoint.Store) {
				for _, name := range []string{
					"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "./a", "a/.", "a b", "a\x00b", "a\\b", "a~", "ä", "a:b", "a*",
					"a\n", strings.Repeat("a", 201), strings.Repeat("a/", 384) + "a",
				} {
					err := s.Create(t.Context(), name, []byte("x"))
					if err == nil || errors.Is(err, checkpoint.ErrExists) || fault.KindOf(err) != fault.Misconfigured {
						t.Errorf("got %v from Create(%q), want fault.Misconfigured", err, name)
					}
					if _, err := s.Get(t.Context(), name); err == nil {
						t.Errorf("got nil from Get(%q), want an error", name)
					}
					if _, err := s.GetRange(t.Context(), name, 0, 1); err == nil {
						t.Errorf("got nil from GetRange(%q), want an error", name)
					}
					if err := s.Delete(t.Context(), name); err == nil {
						t.Errorf("got nil from Delete(%q), want an error", name)
					}
				}
				wantList(t, s, "", "")
				for _, prefix := range []string{"/", "../", "a/../", "a//", "./"} {
					if names, err := s.List(t.Context(), prefix, ""); err == nil && len(names) > 0 {
						t.Errorf("got %q from List(%q), want nothing", names, prefix)
					}
				}
			},
		},
		{
			"names_areAccepted", "every name that the contract allows is one",
			func(t *testing.T, s checkpoint.Store) {
				for _, name := range []string{"a", "A.b_c-9", "-", "_", "...", "..a", ".hidden", "b/-/_", strings.Repeat("z", 200), strings.Repeat("y/", 383) + "y"} {
					create(t, s, name, []byte(name))
					wantObject(t, s, name, []byte(name))
				}
			},
		},
	}
}

func pattern(n int) []byte {
	data := make([]byte, n)
	x := uint32(1)
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return data
}

func create(t *testing.T, s checkpoint.Store, name string, data []byte) {
	t.Helper()
	if err := s.Create(t.Context(), name, data); err != nil {
		t.Fatalf("Create(%q) of %d bytes: %v", name, len(data), err)
	}
}

// remove may be called by any goroutine of a test.
func remove(t *testing.T, s checkpoint.Store, name string) {
	t.Helper()
	if err := s.Delete(t.Context(), name); err != nil {
		t.Errorf("Delete(%q): %v", name, err)
	}
}

func wantIs(t *testing.T, err, target error, what string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v from %s, want %v", err, what, target)
	}
}

func wantObject(t *testing.T, s checkpoint.Store, name string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, %v from Get(%q), want the %d that were created", len(got), err, name, len(want))
	}
}

func wantAbsent(t *testing.T, s checkpoint.Store, name string) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if !errors.Is(err, checkpoint.ErrNotExist) {
		t.Fatalf("got %d bytes, %v from Get(%q), want %v", len(got), err, name, checkpoint.ErrNotExist)
	}
}

func wantList(t *testing.T, s checkpoint.Store, prefix, after string, want ...string) {
	t.Helper()
	got, err := s.List(t.Context(), prefix, after)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %q, %v from List(%q, %q), want %q", got, err, prefix, after, want)
	}
}
