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
	test func(c *check)
}

// check is one case at one store.
type check struct {
	*testing.T
	store checkpoint.Store
}

// Run holds stores to the contract of [checkpoint.Store]. Open returns a new, empty store; it closes what it opened by
// t.Cleanup. A failure prints the rule and what it is for.
func Run(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	t.Helper()
	for _, r := range slices.Concat(createRules(), readRules(), rangeRules(), listRules(), deleteRules(), nameRules()) {
		t.Run(r.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", r.why)
				}
			})
			r.test(&check{T: t, store: open(t)})
		})
	}
}

func createRules() []rule {
	return []rule{
		{
			"create_storesTheBytes", "what was published is what is read back, to the byte",
			func(c *check) {
				for _, data := range [][]byte{{}, {0}, []byte("a\n"), bytes.Repeat([]byte{0xff, 0, '\r', '\n'}, 1<<14)} {
					name := fmt.Sprintf("p/log/0/%d", len(data))
					c.create(name, data)
					c.wantObject(name, data)
				}
			},
		},
		{
			"create_refusesATakenName", "an entry of the log never changes: whoever comes second learns it by ErrExists, also with the same bytes",
			func(c *check) {
				c.create("p/a", []byte("first"))
				for _, data := range []string{"second", "first", ""} {
					c.wantIs(c.store.Create(c.Context(), "p/a", []byte(data)), checkpoint.ErrExists, "Create of a taken name")
				}
				c.wantObject("p/a", []byte("first"))
			},
		},
		{
			"create_keepsNoReference", "a caller reuses its buffers",
			func(c *check) {
				data := []byte("before")
				c.create("p/a", data)
				copy(data, "AFTER!")
				c.wantObject("p/a", []byte("before"))
			},
		},
		{
			"create_hasOneWinner", "two runs that claim the same number must not both win, and a reader must never see a part of an object",
			testOneWinner,
		},
		{
			"create_keepsNeighboursApart", "names that begin alike are different objects",
			func(c *check) {
				names := []string{"p/a", "p/a-b", "p/a.b", "p/a0", "p/aa", "p/A2", "q/a"}
				for _, name := range names {
					c.create(name, []byte(name))
				}
				for _, name := range names {
					c.wantObject(name, []byte(name))
				}
			},
		},
		{
			"create_takesLargeObjects", "a segment is as large as a block of the target",
			func(c *check) {
				data := pattern(32 << 20)
				c.create("p/staging/0/1/1", data)
				c.wantObject("p/staging/0/1/1", data)
			},
		},
		{
			"create_doesNothingUnderAnEndedContext", "an answer of fault.Transient promises that nothing was and will be created",
			func(c *check) {
				ctx, cancel := context.WithCancel(c.Context())
				cancel()
				err := c.store.Create(ctx, "p/a", []byte("x"))
				if err == nil {
					c.Fatal("got nil from Create under an ended context, want an error")
				}
				if fault.KindOf(err) == fault.Transient {
					c.wantAbsent("p/a")
				}
			},
		},
	}
}

// testOneWinner lets writers race for one name after the other, while a reader looks at each.
func testOneWinner(c *check) {
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
			wg.Go(func() { errs[w] = c.store.Create(c.Context(), name, content(w)) })
		}
		wg.Go(func() {
			for range 20 {
				data, err := c.store.Get(c.Context(), name)
				if err == nil && !whole(data) {
					c.Errorf("round %d: a reader saw %d bytes of an object that is not whole", round, len(data))
				}
			}
		})
		wg.Wait()
		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				c.Fatalf("round %d: writers %d and %d both created %s", round, winner, w, name)
			case err == nil:
				winner = w
			default:
				c.wantIs(err, checkpoint.ErrExists, "Create of a writer that lost")
			}
		}
		if winner < 0 {
			c.Fatalf("round %d: nobody created %s, want one winner", round, name)
		}
		c.wantObject(name, content(winner))
	}
}

func readRules() []rule {
	return []rule{
		{
			"get_tellsWhatIsNotThere", "an absent entry of the log is not an error of the store",
			func(c *check) {
				c.create("p/a", []byte("x"))
				c.create("p/f/b", []byte("x"))
				for _, name := range []string{"p/b", "q", "p/a.b", "p/f/c", "p"} {
					c.wantAbsent(name)
				}
			},
		},
		{
			"get_givesTheBytesAway", "a caller may change what it got",
			func(c *check) {
				c.create("p/a", []byte("before"))
				data, err := c.store.Get(c.Context(), "p/a")
				if err != nil {
					c.Fatal(err)
				}
				copy(data, "AFTER!")
				part, err := c.store.GetRange(c.Context(), "p/a", 0, 6)
				if err != nil {
					c.Fatal(err)
				}
				copy(part, "AFTER!")
				c.wantObject("p/a", []byte("before"))
			},
		},
		{
			"read_showsEveryCreate", "List and Get show every Create that returned before: a run that lists after its claim must see it, whoever created it",
			testReadsShowCreates,
		},
	}
}

// testReadsShowCreates lets each of four writers look for what it created, by every way, at once.
func testReadsShowCreates(c *check) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				c.createAndLook(fmt.Sprintf("p/log/%d/%d", w, i))
			}
		})
	}
	wg.Wait()
}

func (c *check) createAndLook(name string) {
	c.Helper()
	if err := c.store.Create(c.Context(), name, []byte(name)); err != nil {
		c.Errorf("Create(%q): %v", name, err)
		return
	}
	got, err := c.store.Get(c.Context(), name)
	if err != nil || string(got) != name {
		c.Errorf("got %q, %v from Get(%q) after its Create, want its bytes", got, err, name)
	}
	names, err := c.store.List(c.Context(), "p/log/", "")
	if err != nil || !slices.Contains(names, name) {
		c.Errorf("got %d names, %v from List after Create(%q), want it among them", len(names), err, name)
	}
}

func rangeRules() []rule {
	return []rule{
		{
			"getRange_returnsTheRange", "a large object is read by parts: fewer bytes come only at its end",
			func(c *check) {
				data := pattern(1000)
				c.create("p/a", data)
				for _, r := range [][2]int64{
					{0, 1000},
					{0, 0},
					{0, 1},
					{1, 998},
					{999, 1},
					{999, 2},
					{500, 10_000},
					{1000, 0},
					{1000, 1},
					{1001, 1},
					{1 << 40, 1},
					{0, 1<<63 - 1},
					{500, 1<<63 - 1},
					{1<<63 - 1, 1<<63 - 1},
				} {
					from := min(r[0], 1000)
					want := data[from : from+min(r[1], 1000-from)]
					got, err := c.store.GetRange(c.Context(), "p/a", r[0], r[1])
					if err != nil || !bytes.Equal(got, want) {
						c.Errorf("got %d bytes, %v from GetRange(%d, %d), want bytes %d to %d", len(got), err, r[0], r[1], from, from+int64(len(want)))
					}
				}
			},
		},
		{
			"getRange_refusesWhatIsNoRange", "a mistake of the caller must not look like the end of an object",
			func(c *check) {
				c.create("p/a", []byte("abc"))
				for _, r := range [][2]int64{{-1, 1}, {0, -1}} {
					if got, err := c.store.GetRange(c.Context(), "p/a", r[0], r[1]); err == nil {
						c.Errorf("got %q from GetRange(%d, %d), want an error", got, r[0], r[1])
					}
				}
			},
		},
		{
			"getRange_tellsWhatIsNotThere", "as Get",
			func(c *check) {
				_, err := c.store.GetRange(c.Context(), "p/a", 0, 1)
				c.wantIs(err, checkpoint.ErrNotExist, "GetRange of nothing")
			},
		},
	}
}

func listRules() []rule {
	names := []string{"p/a", "p/a-b", "p/a.b/c", "p/a0", "p/b-x", "p/b/c/d", "p/b/c/e", "p/b/c0", "q/a", "store"}
	fill := func(c *check) {
		c.Helper()
		for _, i := range []int{4, 0, 8, 2, 9, 6, 1, 3, 7, 5} {
			c.create(names[i], []byte(names[i]))
		}
	}
	return []rule{
		{
			"list_isSortedByByte", "the highest number of a log is the last name of its list",
			func(c *check) {
				c.wantList("", "")
				fill(c)
				// "-" and "." are below "/" and "0" is above: a folder's place among names is not the place of its own name.
				c.wantList("", "", names...)
			},
		},
		{
			"list_beginsWithPrefix", "a prefix is a string, not a folder",
			func(c *check) {
				fill(c)
				for _, prefix := range []string{"", "p", "p/", "p/a", "p/a.", "p/b", "p/b/", "p/b/c", "p/b/c/", "p/b/c/d", "q", "r", "p/a/", "p/b/c/d/", "store", "store/", "none/such/"} {
					var want []string
					for _, name := range names {
						if strings.HasPrefix(name, prefix) {
							want = append(want, name)
						}
					}
					c.wantList(prefix, "", want...)
				}
			},
		},
		{
			"list_beginsAfter", "a long log is read from where one stands; after itself is left out, and need not be there",
			func(c *check) {
				fill(c)
				for _, after := range []string{"p", "p/a", "p/a!", "p/b/c/d", "p/b/c/dd", "p/b/c0", "store", "zzz"} {
					var want []string
					for _, name := range names {
						if strings.HasPrefix(name, "p/") && name > after {
							want = append(want, name)
						}
					}
					c.wantList("p/", after, want...)
				}
			},
		},
		{
			"list_isComplete", "a store that lists by pages must read them all",
			func(c *check) {
				var want []string
				for i := range 2100 { // above the 1,000 names of a page of S3
					want = append(want, fmt.Sprintf("p/log/0/%016d", i))
					c.create(want[i], nil)
				}
				c.wantList("p/log/0/", "", want...)
				c.wantList("p/log/0/", want[2050], want[2051:]...)
			},
		},
		{
			"list_showsNothingHalfDone", "what is not created yet has no name, and what a writer leaves behind has none either",
			func(c *check) {
				c.create("p/a", []byte("x"))
				c.wantIs(c.store.Create(c.Context(), "p/a", []byte("y")), checkpoint.ErrExists, "Create of a taken name")
				c.wantList("", "", "p/a")
			},
		},
	}
}

func deleteRules() []rule {
	return []rule{
		{
			"delete_removes", "collection frees space, and what was deleted is neither read nor listed",
			func(c *check) {
				c.create("p/a", []byte("x"))
				c.create("p/b", []byte("y"))
				c.remove("p/a")
				c.wantAbsent("p/a")
				c.wantList("", "", "p/b")
				c.wantObject("p/b", []byte("y"))
			},
		},
		{
			"delete_mayBeRepeated", "after a lost answer it is sent again",
			func(c *check) {
				c.create("p/f/a", []byte("x"))
				for range 3 {
					c.remove("p/f/a")
				}
				c.remove("never/was/there")
				c.remove("p/f/a/b")
			},
		},
		{
			"delete_leavesWhatLiesBelow", "deleting a name that is no object deletes nothing",
			func(c *check) {
				c.create("p/f/a", []byte("x"))
				if err := c.store.Delete(c.Context(), "p/f"); err != nil {
					c.Logf("Delete of what is no object: %v", err)
				}
				c.wantObject("p/f/a", []byte("x"))
			},
		},
		{
			"delete_freesTheName", "a collected number may be written again, by a late request",
			func(c *check) {
				for _, data := range []string{"first", "second", "third"} {
					c.create("p/a", []byte(data))
					c.wantObject("p/a", []byte(data))
					c.remove("p/a")
				}
			},
		},
		{
			"delete_racesWithReaders", "a reader gets the whole object or ErrNotExist",
			func(c *check) {
				data := pattern(100_000)
				for i := range 20 {
					name := fmt.Sprintf("p/%d", i)
					c.create(name, data)
					var wg sync.WaitGroup
					wg.Go(func() { c.remove(name) })
					for range 3 {
						wg.Go(func() {
							got, err := c.store.Get(c.Context(), name)
							if !errors.Is(err, checkpoint.ErrNotExist) && (err != nil || !bytes.Equal(got, data)) {
								c.Errorf("got %d bytes, %v from Get beside Delete, want all or ErrNotExist", len(got), err)
							}
						})
					}
					wg.Wait()
					c.wantAbsent(name)
				}
			},
		},
	}
}

func nameRules() []rule {
	return []rule{
		{
			"names_areRefused", "no name leads out of the store or means something else in another store",
			func(c *check) {
				for _, name := range []string{
					"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "./a", "a/.", "a b", "a\x00b", "a\\b", "a~", "ä", "a:b", "a*",
					"a\n", strings.Repeat("a", 201), strings.Repeat("a/", 384) + "a",
				} {
					err := c.store.Create(c.Context(), name, []byte("x"))
					if err == nil || errors.Is(err, checkpoint.ErrExists) || fault.KindOf(err) != fault.Misconfigured {
						c.Errorf("got %v from Create(%q), want fault.Misconfigured", err, name)
					}
					if _, err := c.store.Get(c.Context(), name); err == nil {
						c.Errorf("got nil from Get(%q), want an error", name)
					}
					if _, err := c.store.GetRange(c.Context(), name, 0, 1); err == nil {
						c.Errorf("got nil from GetRange(%q), want an error", name)
					}
					if err := c.store.Delete(c.Context(), name); err == nil {
						c.Errorf("got nil from Delete(%q), want an error", name)
					}
				}
				c.wantList("", "")
				for _, prefix := range []string{"/", "../", "a/../", "a//", "./"} {
					if names, err := c.store.List(c.Context(), prefix, ""); err == nil && len(names) > 0 {
						c.Errorf("got %q from List(%q), want nothing", names, prefix)
					}
				}
			},
		},
		{
			"names_areAccepted", "every name that the contract allows is one",
			func(c *check) {
				for _, name := range []string{"a", "A.b_c-9", "-", "_", "...", "..a", ".hidden", "b/-/_", strings.Repeat("z", 200), strings.Repeat("y/", 383) + "y"} {
					c.create(name, []byte(name))
					c.wantObject(name, []byte(name))
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

func (c *check) create(name string, data []byte) {
	c.Helper()
	if err := c.store.Create(c.Context(), name, data); err != nil {
		c.Fatalf("Create(%q) of %d bytes: %v", name, len(data), err)
	}
}

// remove may be called by any goroutine of a test.
func (c *check) remove(name string) {
	c.Helper()
	if err := c.store.Delete(c.Context(), name); err != nil {
		c.Errorf("Delete(%q): %v", name, err)
	}
}

func (c *check) wantIs(err, target error, what string) {
	c.Helper()
	if !errors.Is(err, target) {
		c.Fatalf("got %v from %s, want %v", err, what, target)
	}
}

func (c *check) wantObject(name string, want []byte) {
	c.Helper()
	got, err := c.store.Get(c.Context(), name)
	if err != nil || !bytes.Equal(got, want) {
		c.Fatalf("got %d bytes, %v from Get(%q), want the %d that were created", len(got), err, name, len(want))
	}
}

func (c *check) wantAbsent(name string) {
	c.Helper()
	got, err := c.store.Get(c.Context(), name)
	if !errors.Is(err, checkpoint.ErrNotExist) {
		c.Fatalf("got %d bytes, %v from Get(%q), want %v", len(got), err, name, checkpoint.ErrNotExist)
	}
}

func (c *check) wantList(prefix, after string, want ...string) {
	c.Helper()
	got, err := c.store.List(c.Context(), prefix, after)
	if err != nil || !slices.Equal(got, want) {
		c.Fatalf("got %q, %v from List(%q, %q), want %q", got, err, prefix, after, want)
	}
}
