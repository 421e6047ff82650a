// Package sourcetest is the conformance suite of sources: each rule of [source.Source] and [source.Reader] that a test can see
// is a case of it. A source joins with a [Harness].
package sourcetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// Harness is a source over data that does not change while the suite runs.
type Harness struct {
	// New returns a new bounded source over the data, to be closed by the suite.
	New func(t *testing.T) source.Source
	// Want is what each split holds, in order.
	Want map[string][]Record
	// Capacity is the smallest budget that the source promises to work with.
	Capacity int64
}

// Record is one record that a split must give. A refused one comes as a dead letter.
type Record struct {
	Offset  record.Offset
	Key     string
	Value   string
	Null    bool // the value is nil
	Refused bool
}

// patience is how long the suite waits for a poll that must say something.
const patience = 40 * time.Second

// unlimited is the capacity of a budget that bounds nothing.
const unlimited = 1 << 40

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	cases := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		// The start policy and the end bound are numbers before anything is read, and a bounded source finds nothing new.
		{"discoverResolves", discoverResolves},
		// Every record once, in order, and the position moves past everything.
		{"readsAllInOrder", readsAllInOrder},
		// What was handed out stays as it is until Release, whatever is polled in between.
		{"rowsLastUntilRelease", rowsLastUntilRelease},
		// From any position the rest comes, without gaps and repeats.
		{"reopensAnywhere", reopensAnywhere},
		// Finished is said once, also of a split with nothing to read, and never of a split that was finished before.
		{"finishesOnce", finishesOnce},
		// Splits that are added while running are read like the others.
		{"addsSplits", addsSplits},
		// The budget is a bound, and a slow receiver loses nothing.
		{"keepsBudget", keepsBudget},
		// Whatever was acquired comes back, by Release and by Close, in any order.
		{"givesBudgetBack", givesBudgetBack},
		// A poll ends with its context, without an error and without losing anything.
		{"pollEndsWithContext", pollEndsWithContext},
		// Lag is 0 at the end, and never below.
		{"lagEndsAtZero", lagEndsAtZero},
		// Several readers of different splits don't disturb each other.
		{"readersAreIndependent", readersAreIndependent},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
}

// open returns a source and all its splits.
func open(t *testing.T, h Harness) (source.Source, []source.Split) {
	t.Helper()
	src := h.New(t)
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Errorf("close the source: %v", err)
		}
	})
	splits, err := src.Discover(t.Context(), nil)
	if err != nil {
		t.Fatalf("discover: %v", err)
	}
	return src, splits
}

func reader(t *testing.T, src source.Source, splits []source.Split, budget source.Budget) source.Reader {
	t.Helper()
	r, err := src.Open(t.Context(), splits, budget)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return r
}

func closeReader(t *testing.T, r source.Reader) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Errorf("close the reader: %v", err)
	}
}

// poll returns the next fetch that says something.
func poll(t *testing.T, r source.Reader) source.Fetch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fetch, err := r.Poll(ctx)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	if fetch.Next.Split == "" {
		t.Fatalf("poll said nothing for %s; the reader waits for %q", patience, r.Waiting())
	}
	return fetch
}

// Log is what was read of each split. It checks every fetch against the contract.
type Log struct {
	Records  map[string][]Record
	At       map[string]source.Position
	Finished map[string]int
}

// NewLog returns the log of a reader that was opened with these splits.
func NewLog(splits []source.Split) *Log {
	l := &Log{Records: map[string][]Record{}, At: map[string]source.Position{}, Finished: map[string]int{}}
	for _, s := range splits {
		l.At[s.Split] = s.Position
	}
	return l
}

// Take notes one fetch. It does not release it.
func (l *Log) Take(t *testing.T, f source.Fetch) {
	t.Helper()
	name := f.Next.Split
	at, ok := l.At[name]
	if !ok {
		t.Fatalf("a fetch of the split %q, which was not opened", name)
	}
	if l.Finished[name] > 0 {
		t.Fatalf("a fetch of the split %s after it was finished: %+v", name, f.Next)
	}
	if f.Next.Identity != at.Identity {
		t.Errorf("split %s: got the identity %q, want %q", name, f.Next.Identity, at.Identity)
	}
	if f.Next.Offset < at.Offset || f.Next.Offset == at.Offset && !f.Finished {
		t.Errorf("split %s: the position went from %d to %d", name, at.Offset, f.Next.Offset)
	}
	if (len(f.Rows) > 0 || len(f.Refused) > 0) && f.Release == nil {
		t.Errorf("split %s: records without a Release", name)
	}
	got := Records(f)
	for i, r := range got {
		if r.Offset < at.Offset || r.Offset >= f.Next.Offset || i > 0 && r.Offset <= got[i-1].Offset {
			t.Errorf("split %s: the offset %d is out of order: the fetch goes from %d to %d", name, r.Offset, at.Offset, f.Next.Offset)
		}
	}
	if len(got) > 0 {
		l.Records[name] = append(l.Records[name], got...)
	}
	l.At[name] = f.Next
	if f.Finished {
		l.Finished[name]++
	}
}

// Records returns the records of a fetch in order, refused ones among them.
func Records(f source.Fetch) []Record {
	var all []Record
	for _, row := range f.Rows {
		all = append(all, Record{Offset: row.Offset, Key: string(row.Key), Value: string(row.Value), Null: row.Value == nil})
	}
	for _, d := range f.Refused {
		all = append(all, Record{Offset: d.Offset, Key: string(d.Key), Value: string(d.Value), Refused: true})
	}
	slices.SortFunc(all, func(a, b Record) int { return int(a.Offset - b.Offset) })
	return all
}

// Values returns the values of a split's records, in order.
func (l *Log) Values(split string) []string {
	var all []string
	for _, r := range l.Records[split] {
		all = append(all, r.Value)
	}
	return all
}

// Collect polls until done says so, or the reader fails, and releases as it goes. The test fails when nothing comes for a while.
func Collect(t *testing.T, r source.Reader, splits []source.Split, done func(l *Log) bool) (*Log, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l := NewLog(splits)
	for !done(l) {
		f, err := r.Poll(ctx)
		if err != nil {
			return l, err
		}
		if f.Next.Split == "" {
			t.Fatalf("nothing came for %s; at %v; the reader waits for %q", patience, l.At, r.Waiting())
		}
		l.Take(t, f)
		release(f)
	}
	return l, nil
}

// readAll polls until all splits are finished, releasing as it goes.
func readAll(t *testing.T, r source.Reader, splits []source.Split) *Log {
	t.Helper()
	l := NewLog(splits)
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		release(f)
	}
	return l
}

func release(f source.Fetch) {
	if f.Release != nil {
		f.Release()
	}
}

// want returns what must come of the given splits.
func want(h Harness, splits []source.Split) map[string][]Record {
	all := map[string][]Record{}
	for _, s := range splits {
		for _, r := range h.Want[s.Split] {
			if r.Offset >= s.Offset {
				all[s.Split] = append(all[s.Split], r)
			}
		}
	}
	return all
}

func compare(t *testing.T, what string, got, want map[string][]Record) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: records differ (-want +got):\n%s", what, diff)
	}
}

func discoverResolves(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	if !src.Bounded() {
		t.Error("got Bounded false, want true")
	}
	names := make([]string, len(splits))
	for i, s := range splits {
		names[i] = s.Split
		if s.Offset < 0 || s.Until < s.Offset || s.Finished {
			t.Errorf("split %s: got offset %d, until %d, finished %t; want numbers in order and not finished", s.Split, s.Offset, s.Until, s.Finished)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("got the splits %q, want them sorted", names)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(h.Want)), names); diff != "" {
		t.Errorf("splits differ (-want +got):\n%s", diff)
	}
	again, err := src.Discover(t.Context(), splits)
	if err != nil || len(again) > 0 {
		t.Errorf("discover with all splits known: got %v, %v, want none", again, err)
	}
	one, err := src.Discover(t.Context(), splits[:1])
	if err != nil || len(one) > 0 {
		t.Errorf("discover with one split known: got %v, %v, want none", one, err)
	}
}

func readsAllInOrder(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	r := reader(t, src, splits, NewBudget(unlimited))
	defer closeReader(t, r)
	l := readAll(t, r, splits)
	compare(t, "all", l.Records, want(h, splits))
	var at []source.Position
	for _, s := range splits {
		if got := l.At[s.Split]; got.Offset < s.Until {
			t.Errorf("split %s: got the position %d at the end, want at least the bound %d", s.Split, got.Offset, s.Until)
		}
		at = append(at, l.At[s.Split])
	}
	if err := src.Committed(t.Context(), at); err != nil {
		t.Errorf("committed: %v", err)
	}
}

func rowsLastUntilRelease(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	budget := NewBudget(unlimited)
	r := reader(t, src, splits, budget)
	l := NewLog(splits)
	type kept struct {
		fetch source.Fetch
		then  []Record
	}
	var all []kept
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		all = append(all, kept{f, Records(f)})
	}
	closeReader(t, r)
	for _, k := range all {
		if diff := cmp.Diff(k.then, Records(k.fetch)); diff != "" {
			t.Errorf("split %s: records changed before Release (-then +now):\n%s", k.fetch.Next.Split, diff)
		}
		release(k.fetch)
	}
	if used := budget.Used(); used != 0 {
		t.Errorf("got %d bytes in use after every Release, want 0", used)
	}
}

// reopensMax bounds from how many positions a split is read again.
const reopensMax = 25

func reopensAnywhere(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	for _, s := range splits {
		places := places(h.Want[s.Split], s)
		step := max(1, len(places)/reopensMax)
		for i := 0; i < len(places); i += step {
			from := s
			from.Offset, from.LeaderEpoch = places[i], record.NoLeaderEpoch
			reopen(t, h, src, from)
		}
	}
	// The positions that the reader itself gave, with their leader epochs.
	r := reader(t, src, splits, NewBudget(unlimited))
	l := NewLog(splits)
	var seen []source.Split
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		release(f)
		for _, s := range splits {
			if s.Split == f.Next.Split {
				s.Position = f.Next
				seen = append(seen, s)
			}
		}
	}
	closeReader(t, r)
	step := max(1, len(seen)/reopensMax)
	for i := 0; i < len(seen); i += step {
		reopen(t, h, src, seen[i])
	}
}

// places returns every position that a record begins or ends at.
func places(records []Record, s source.Split) []record.Offset {
	at := []record.Offset{s.Offset, s.Until}
	for _, r := range records {
		at = append(at, r.Offset)
	}
	slices.Sort(at)
	return slices.Compact(at)
}

func reopen(t *testing.T, h Harness, src source.Source, from source.Split) {
	t.Helper()
	splits := []source.Split{from}
	budget := NewBudget(unlimited)
	r := reader(t, src, splits, budget)
	l := readAll(t, r, splits)
	closeReader(t, r)
	compare(t, fmt.Sprintf("%s from %d", from.Split, from.Offset), l.Records, want(h, splits))
	if used := budget.Used(); used != 0 {
		t.Errorf("split %s from %d: got %d bytes in use after Close, want 0", from.Split, from.Offset, used)
	}
}

func finishesOnce(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	done := slices.Clone(splits)
	for i := range done {
		done[i].Offset = done[i].Until
	}
	// At the bound, and nobody said so yet.
	r := reader(t, src, done, NewBudget(unlimited))
	l := readAll(t, r, done)
	if len(l.Records) > 0 {
		t.Errorf("got %d splits with records at their bound, want none", len(l.Records))
	}
	quiet(t, r)
	closeReader(t, r)
	// Finished before.
	for i := range done {
		done[i].Finished = true
	}
	r = reader(t, src, done, NewBudget(unlimited))
	quiet(t, r)
	closeReader(t, r)
}

// quiet checks that the reader has nothing to tell.
func quiet(t *testing.T, r source.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	f, err := r.Poll(ctx)
	if err != nil || f.Next.Split != "" {
		t.Errorf("poll at the end: got %+v, %v, want nothing", f.Next, err)
	}
}

func addsSplits(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	r := reader(t, src, nil, NewBudget(unlimited))
	defer closeReader(t, r)
	quiet(t, r)
	l := NewLog(splits)
	for i := range splits {
		if err := r.Add(t.Context(), splits[i:i+1]); err != nil {
			t.Fatalf("add: %v", err)
		}
		f := poll(t, r)
		l.Take(t, f)
		release(f)
	}
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		release(f)
	}
	compare(t, "added", l.Records, want(h, splits))
}

func keepsBudget(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	budget := NewBudget(h.Capacity)
	r := reader(t, src, splits, budget)
	l := NewLog(splits)
	var held []source.Fetch
	for len(l.Finished) < len(splits) {
		// Hold what there is until the reader can't go on, as a sink does that collects rows.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		f, err := r.Poll(ctx)
		cancel()
		if err != nil {
			t.Fatalf("poll: %v", err)
		}
		if f.Next.Split == "" {
			for _, h := range held {
				release(h)
			}
			if len(held) == 0 && budget.Used() == 0 {
				f = poll(t, r)
			}
			held = nil
		}
		if f.Next.Split != "" {
			l.Take(t, f)
			held = append(held, f)
		}
	}
	for _, h := range held {
		release(h)
	}
	closeReader(t, r)
	compare(t, "small budget", l.Records, want(h, splits))
	if peak := budget.Peak(); peak > h.Capacity {
		t.Errorf("got a peak of %d bytes, want at most %d", peak, h.Capacity)
	}
	if used := budget.Used(); used != 0 {
		t.Errorf("got %d bytes in use at the end, want 0", used)
	}
}

func givesBudgetBack(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	budget := NewBudget(unlimited)
	r := reader(t, src, splits, budget)
	f := poll(t, r)
	before := Records(f)
	closeReader(t, r)
	if diff := cmp.Diff(before, Records(f)); diff != "" {
		t.Errorf("records changed by Close (-before +after):\n%s", diff)
	}
	release(f)
	if used := budget.Used(); used != 0 {
		t.Errorf("got %d bytes in use after Close and Release, want 0", used)
	}
}

func pollEndsWithContext(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	r := reader(t, src, splits, NewBudget(unlimited))
	defer closeReader(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := NewLog(splits)
	for range 3 { // it may have something to tell at once
		f, err := r.Poll(ctx)
		if err != nil {
			t.Fatalf("poll with an ended context: got %v, want no error", err)
		}
		if f.Next.Split != "" {
			l.Take(t, f)
			release(f)
		}
	}
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		release(f)
	}
	compare(t, "after an ended poll", l.Records, want(h, splits))
}

func lagEndsAtZero(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	r := reader(t, src, splits, NewBudget(unlimited))
	defer closeReader(t, r)
	l := NewLog(splits)
	for len(l.Finished) < len(splits) {
		f := poll(t, r)
		l.Take(t, f)
		release(f)
		for _, lag := range r.Lag() {
			if lag.Records < -1 || lag.Seconds < -1 {
				t.Errorf("got the lag %+v, want -1 or more", lag)
			}
		}
	}
	lags := r.Lag()
	if len(lags) != len(splits) {
		t.Errorf("got the lag of %d splits, want of %d", len(lags), len(splits))
	}
	for _, lag := range lags {
		if lag.Records != 0 || lag.Seconds != 0 {
			t.Errorf("got the lag %+v at the end, want 0", lag)
		}
	}
	if why := r.Waiting(); why != "" {
		t.Errorf("got Waiting %q at the end, want none", why)
	}
}

func readersAreIndependent(t *testing.T, h Harness) {
	t.Helper()
	src, splits := open(t, h)
	first := reader(t, src, splits[:1], NewBudget(unlimited))
	rest := reader(t, src, splits[1:], NewBudget(unlimited))
	l := readAll(t, first, splits[:1])
	closeReader(t, first)
	compare(t, "the first split", l.Records, want(h, splits[:1]))
	l = readAll(t, rest, splits[1:])
	closeReader(t, rest)
	compare(t, "the other splits", l.Records, want(h, splits[1:]))
}
