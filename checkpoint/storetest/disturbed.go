package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// Disturbance is what goes wrong on the way between a store and what keeps its objects.
type Disturbance uint8

// The disturbances. The first four are of requests that change something.
const (
	// Calm ends every disturbance.
	Calm Disturbance = iota
	// LostReply lets a request have its effect, and its answer get lost.
	LostReply
	// LostRequest lets a request get lost.
	LostRequest
	// Delayed lets a request arrive when the test says so, long after its sender has given up.
	Delayed
	// Mixed is one of the three above, or Busy, or none, by chance for each request.
	Mixed
	// Busy lets requests of every kind be refused for now: slow down, no space, service unavailable.
	Busy
	// StaleList lets lists leave out what was created last.
	StaleList
	// StaleRead lets reads not find what was created last.
	StaleRead
	// Skewed lets the clocks of store and server differ by more than the server takes.
	Skewed
)

// Always is the number of requests of a disturbance that does not end by itself.
const Always = -1

// Disturbed is a store whose requests a test can disturb.
type Disturbed struct {
	// Store is what is tested.
	Store checkpoint.Store
	// Other has the same objects and is never disturbed.
	Other checkpoint.Store
	// Disturb lets the next requests of Store suffer, those alone that the disturbance is of; Always is all of them until the next
	// Disturb. What the store repeats by itself counts as a request of its own.
	Disturb func(d Disturbance, requests int)
	// Land lets everything arrive that is delayed, in the order in which it was sent.
	Land func()
	// Suffers lists what can be done to the store. What is not in it can't happen to it.
	Suffers []Disturbance
}

// trial is one case at one disturbed store.
type trial struct {
	*check
	Disturbed
}

// disturbedRule is one sentence of the contract about disturbances.
type disturbedRule struct {
	name    string
	suffers Disturbance
	why     string
	test    func(c *trial)
}

// RunDisturbed holds stores to what [checkpoint.Store] promises when things go wrong. Open returns a new, empty store; it closes
// what it opened by t.Cleanup. Rules of disturbances that the store does not suffer are left out.
func RunDisturbed(t *testing.T, open func(t *testing.T) *Disturbed) {
	t.Helper()
	for _, r := range slices.Concat(unknownRules(), delayRules(), busyRules(), staleRules()) {
		t.Run(r.name, func(t *testing.T) {
			d := open(t)
			if !slices.Contains(d.Suffers, r.suffers) {
				t.Skip("this store does not suffer it")
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", r.why)
				}
			})
			r.test(&trial{check: &check{T: t, store: d.Other}, Disturbed: *d})
		})
	}
}

const lateName = "p/log/0/1"

func unknownRules() []disturbedRule {
	return []disturbedRule{
		{
			"reply_lostOnceIsNoFailure", LostReply, "a create whose answer was lost has happened: nobody may be told that nothing was done",
			func(c *trial) {
				c.Disturb(LostReply, 1)
				c.wantDoneOrOpen(c.Store.Create(c.Context(), lateName, []byte("mine")))
				c.Disturb(Calm, 0)
				c.wantObject(lateName, []byte("mine"))
				c.wantIs(c.Store.Create(c.Context(), lateName, []byte("mine")), checkpoint.ErrExists, "the same Create again")
			},
		},
		{
			"reply_lostForEverIsOpen", LostReply, "a store that never hears an answer does not know what it did",
			func(c *trial) {
				c.Disturb(LostReply, Always)
				c.wantDoneOrOpen(c.Store.Create(c.Context(), lateName, []byte("mine")))
				c.Disturb(Calm, 0)
				c.wantObject(lateName, []byte("mine"))
			},
		},
		{
			"reply_lostOfADelete", LostReply, "a delete whose answer was lost may be sent again",
			func(c *trial) {
				c.create(lateName, []byte("mine"))
				c.Disturb(LostReply, Always)
				if err := c.Store.Delete(c.Context(), lateName); err != nil && fault.KindOf(err) == fault.Transient {
					c.Errorf("got %v from a Delete that removed the object, want nil or fault.Unknown", err)
				}
				c.Disturb(Calm, 0)
				if err := c.Store.Delete(c.Context(), lateName); err != nil {
					c.Errorf("Delete again: %v", err)
				}
				c.wantAbsent(lateName)
			},
		},
		{
			"request_lostForEver", LostRequest, "what never arrived is neither created nor there already",
			func(c *trial) {
				c.Disturb(LostRequest, Always)
				err := c.Store.Create(c.Context(), lateName, []byte("mine"))
				if err == nil || errors.Is(err, checkpoint.ErrExists) {
					c.Errorf("got %v from a Create that never arrived, want an error of its own", err)
				}
				c.Disturb(Calm, 0)
				c.wantAbsent(lateName)
				if err := c.Store.Create(c.Context(), lateName, []byte("mine")); err != nil {
					c.Errorf("Create after the disturbance: %v", err)
				}
				c.wantObject(lateName, []byte("mine"))
			},
		},
		{
			"request_lostOnce", LostRequest, "what got lost once may be sent again, and is created once",
			func(c *trial) {
				c.Disturb(LostRequest, 1)
				err := c.Store.Create(c.Context(), lateName, []byte("mine"))
				if errors.Is(err, checkpoint.ErrExists) {
					c.Errorf("got %v, and nothing was there", err)
				}
				c.Disturb(Calm, 0)
				if err != nil {
					c.wantAbsent(lateName)
					return
				}
				c.wantObject(lateName, []byte("mine"))
			},
		},
	}
}

func delayRules() []disturbedRule {
	return []disturbedRule{
		{
			"delayed_losesToWhoCameFirst", Delayed, "a publish of a run that was replaced, which lands late, must not change what the successor published",
			func(c *trial) {
				c.delay([]byte("late"))
				c.create(lateName, []byte("successor"))
				c.Land()
				c.wantObject(lateName, []byte("successor"))
			},
		},
		{
			"delayed_mayBeTheFirst", Delayed, "an absent object is no proof that it will not come",
			func(c *trial) {
				c.delay([]byte("late"))
				c.wantAbsent(lateName)
				c.Land()
				c.wantObject(lateName, []byte("late"))
				c.Disturb(Calm, 0)
				c.wantIs(c.Store.Create(c.Context(), lateName, []byte("late")), checkpoint.ErrExists, "the same Create again")
			},
		},
		{
			"delayed_onceLandsOnItsOwnRepeat", Delayed, "a request and its repetition are one create",
			func(c *trial) {
				c.Disturb(Delayed, 1)
				c.wantDoneOrOpen(c.Store.Create(c.Context(), lateName, []byte("mine")))
				c.Disturb(Calm, 0)
				c.Land()
				c.wantObject(lateName, []byte("mine"))
			},
		},
		{
			"delayed_largeObjectIsWhole", Delayed, "what is made by several requests is there as a whole or not at all",
			func(c *trial) {
				data := pattern(12 << 20)
				c.delay(data)
				c.wantAbsent(lateName)
				c.Land()
				if got, err := c.Other.Get(c.Context(), lateName); !errors.Is(err, checkpoint.ErrNotExist) && (err != nil || !bytes.Equal(got, data)) {
					c.Errorf("got %d bytes, %v, want all %d or nothing", len(got), err, len(data))
				}
			},
		},
		{
			"writers_raceUnderDisturbances", Mixed, "of eight writers whose requests get lost, hang or are refused, at most one hears that it won, and its object stays",
			testDisturbedRace,
		},
	}
}

// delay lets a create hang. Its outcome is open.
func (c *trial) delay(data []byte) {
	c.Helper()
	c.Disturb(Delayed, Always)
	err := c.Store.Create(c.Context(), lateName, data)
	c.Disturb(Calm, 0)
	if err == nil || errors.Is(err, checkpoint.ErrExists) || len(data) < 1<<20 && fault.KindOf(err) != fault.Unknown {
		c.Fatalf("got %v from a Create that may still land, want fault.Unknown", err)
	}
}

// wantDoneOrOpen refuses the answers that say that nothing was done.
func (c *trial) wantDoneOrOpen(err error) {
	c.Helper()
	if err != nil && !errors.Is(err, checkpoint.ErrExists) && fault.KindOf(err) != fault.Unknown {
		c.Fatalf("got %v (%s) from a Create that was done, want nil, ErrExists or fault.Unknown", err, fault.KindOf(err))
	}
}

// testDisturbedRace lets writers race and looks at each name before and after everything has landed.
func testDisturbedRace(c *trial) {
	const rounds, writers = 25, 8
	var won, open, refused int
	for round := range rounds {
		name := fmt.Sprintf("p/log/0/%016d", round)
		content := func(w int) []byte { return bytes.Repeat([]byte{byte('a' + w)}, 2_000+w) }
		errs := make([]error, writers)
		var wg sync.WaitGroup
		c.Disturb(Mixed, Always)
		for w := range writers {
			wg.Go(func() { errs[w] = c.Store.Create(c.Context(), name, content(w)) })
		}
		wg.Wait()
		c.Disturb(Calm, 0)
		before := c.whole(name, writers, content)
		c.Land()
		after := c.whole(name, writers, content)
		if before >= 0 && after != before {
			c.Fatalf("round %d: the object was writer %d's and is %d's after late requests landed", round, before, after)
		}
		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				c.Fatalf("round %d: writers %d and %d both created %s", round, winner, w, name)
			case err == nil && before != w:
				c.Fatalf("round %d: writer %d created %s, and the object is writer %d's", round, w, name, before)
			case err == nil:
				winner = w
				won++
			case errors.Is(err, checkpoint.ErrExists):
			case fault.KindOf(err) == fault.Transient && after == w:
				c.Fatalf("round %d: writer %d heard that nothing was done, and the object is its: %v", round, w, err)
			case fault.KindOf(err) == fault.Transient:
				refused++
			case fault.KindOf(err) == fault.Unknown:
				open++
			default:
				c.Fatalf("round %d: writer %d: got %s, want ErrExists, Transient or Unknown: %v", round, w, fault.KindOf(err), err)
			}
		}
	}
	c.Logf("%d rounds: %d winners, %d open answers, %d refused", rounds, won, open, refused)
	if won == 0 || won == rounds && open == 0 && refused == 0 {
		c.Errorf("got %d winners in %d rounds without anything open: nothing was disturbed", won, rounds)
	}
}

// whole returns whose object is there, -1 for none. It is whole, or the test fails.
func (c *trial) whole(name string, writers int, content func(w int) []byte) int {
	c.Helper()
	data, err := c.Other.Get(c.Context(), name)
	if errors.Is(err, checkpoint.ErrNotExist) {
		return -1
	}
	for w := range writers {
		if err == nil && bytes.Equal(data, content(w)) {
			return w
		}
	}
	c.Fatalf("got %d bytes, %v from Get(%q), want the object of one writer", len(data), err, name)
	return -1
}

func busyRules() []disturbedRule {
	return []disturbedRule{
		{
			"busy_isTold", Busy, "a store that refuses for now has said nothing about what it holds",
			func(c *trial) {
				c.create("p/a", []byte("there"))
				c.Disturb(Busy, Always)
				ctx := c.Context()
				c.wantPassing(c.Store.Create(ctx, lateName, []byte("mine")), checkpoint.ErrExists, "Create")
				_, err := c.Store.Get(ctx, "p/a")
				c.wantPassing(err, checkpoint.ErrNotExist, "Get")
				_, err = c.Store.GetRange(ctx, "p/a", 0, 1)
				c.wantPassing(err, checkpoint.ErrNotExist, "GetRange")
				_, err = c.Store.List(ctx, "p/", "")
				c.wantPassing(err, checkpoint.ErrNotExist, "List")
				c.wantPassing(c.Store.Delete(ctx, "p/a"), checkpoint.ErrNotExist, "Delete")
				c.Disturb(Calm, 0)
				c.wantAbsent(lateName)
				c.wantObject("p/a", []byte("there"))
			},
		},
		{
			"busy_onceChangesNothing", Busy, "what was refused once is sent again, or told",
			func(c *trial) {
				c.Disturb(Busy, 1)
				err := c.Store.Create(c.Context(), lateName, []byte("mine"))
				c.Disturb(Calm, 0)
				if err != nil {
					c.wantPassing(err, checkpoint.ErrExists, "Create")
					c.wantAbsent(lateName)
					return
				}
				c.wantObject(lateName, []byte("mine"))
			},
		},
		{
			"skew_isCorrectedOrTold", Skewed, "a wrong clock stops nothing that can be put right, and is named where it can't",
			func(c *trial) {
				c.Disturb(Skewed, Always)
				err := c.Store.Create(c.Context(), lateName, []byte("mine"))
				c.Disturb(Calm, 0)
				if err == nil {
					c.wantObject(lateName, []byte("mine"))
					return
				}
				if errors.Is(err, checkpoint.ErrExists) || fault.KindOf(err) == fault.Unknown || fault.RemedyOf(err) == "" {
					c.Errorf("got %v (%s), want Transient or Misconfigured with what to do", err, fault.KindOf(err))
				}
				c.wantAbsent(lateName)
			},
		},
	}
}

// wantPassing wants an error that may pass, and none that says what is there.
func (c *trial) wantPassing(err, not error, what string) {
	c.Helper()
	if err == nil || errors.Is(err, not) {
		c.Errorf("got %v from %s at a store that refuses, want an error of its own", err, what)
		return
	}
	if kind := fault.KindOf(err); kind != fault.Transient && kind != fault.Unknown {
		c.Errorf("got %s from %s, want Transient or Unknown: %v", kind, what, err)
	}
}

func staleRules() []disturbedRule {
	create := func(c *trial) {
		c.Helper()
		for i := range 3 {
			if err := c.Store.Create(c.Context(), fmt.Sprintf("p/log/0/%d", i), []byte("entry")); err != nil {
				c.Fatal(err)
			}
		}
	}
	refuse := func(c *trial, err error, what string) {
		c.Helper()
		if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" {
			c.Errorf("got %v from a stale %s, want fault.Misconfigured with what to do", err, what)
		}
	}
	list := func(c *trial) error {
		_, err := c.Store.List(c.Context(), "p/log/0/", "")
		return err
	}
	return []disturbedRule{
		{
			"stale_listIsRefused", StaleList, "a run that does not see its own claim takes its lease for the newest",
			func(c *trial) {
				create(c)
				c.Disturb(StaleList, Always)
				refuse(c, list(c), "List")
			},
		},
		{
			"stale_readIsRefused", StaleRead, "an entry that can't be read is taken for one that was not published",
			func(c *trial) {
				create(c)
				c.Disturb(StaleRead, Always)
				_, err := c.Store.Get(c.Context(), "p/log/0/2")
				refuse(c, err, "Get")
			},
		},
		{
			"stale_isNotWhatAnotherDeleted", StaleList, "what a successor collected is gone, and no fault of the store",
			func(c *trial) {
				create(c)
				if err := c.Other.Delete(context.WithoutCancel(c.Context()), "p/log/0/2"); err != nil {
					c.Fatal(err)
				}
				if _, err := c.Store.Get(c.Context(), "p/log/0/2"); !errors.Is(err, checkpoint.ErrNotExist) {
					c.Errorf("got %v from Get of what another deleted, want ErrNotExist", err)
				}
				c.wantList("p/log/0/", "", "p/log/0/0", "p/log/0/1")
				if err := list(c); err != nil {
					c.Errorf("List: %v", err)
				}
			},
		},
	}
}
