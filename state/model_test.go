package state

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The model: what each kind of state is, as plain maps, by group, namespace and key.
type (
	at struct {
		group  Group
		space  int64
		scoped bool
		key    string
	}
	written[T any] struct {
		v       T
		at      int64
		stamped bool
	}
	due struct {
		at
		when int64
	}
	model struct {
		values, sums, aggregates map[at]written[int64]
		lists                    map[at]written[[]int64]
		maps                     map[at]map[int64]written[string]
		timers                   map[due]bool
		seen                     map[at]map[int64]bool // ends of buckets
	}
)

func newModel() *model {
	return &model{
		values: map[at]written[int64]{}, sums: map[at]written[int64]{}, aggregates: map[at]written[int64]{},
		lists: map[at]written[[]int64]{}, maps: map[at]map[int64]written[string]{}, timers: map[due]bool{}, seen: map[at]map[int64]bool{},
	}
}

func cloneOf[K comparable, K2 comparable, V any](m map[K]map[K2]V) map[K]map[K2]V {
	c := make(map[K]map[K2]V, len(m))
	for k, v := range m {
		c[k] = maps.Clone(v)
	}
	return c
}

func (m *model) clone() *model {
	c := &model{
		values: maps.Clone(m.values), sums: maps.Clone(m.sums), aggregates: maps.Clone(m.aggregates), lists: maps.Clone(m.lists),
		maps: cloneOf(m.maps), timers: maps.Clone(m.timers), seen: cloneOf(m.seen),
	}
	for k, l := range c.lists {
		l.v = slices.Clone(l.v)
		c.lists[k] = l
	}
	return c
}

// count is an Aggregate with a result of another type than its input and accumulator, and one input that it refuses.
type count struct{}

var errRefused = errors.New("refused")

func (count) Create() int64 { return 1000 }
func (count) Add(acc int64, in string) (int64, error) {
	if in == "refuse" {
		return 0, errRefused
	}
	return acc + int64(len(in)), nil
}
func (count) Merge(a, b int64) (int64, error)  { return a + b - 1000, nil }
func (count) Result(acc int64) (string, error) { return fmt.Sprint("n", acc), nil }

const (
	worldGroups  = 4
	valueTTL     = 70 * time.Millisecond
	listTTL      = 200 * time.Millisecond
	mapTTL       = 90 * time.Millisecond
	seenTTL      = 100 * time.Millisecond
	worldSpaces  = 6
	worldKeys    = 16
	pendingMax   = 3
	timerHorizon = 60
)

// world drives a task and the model with the same random history.
type world struct {
	*rand.Rand
	disk *memory
	reg  *Registry
	flaw string

	task     *Task
	value    Value[int64]
	list     List[int64]
	dict     Map[int64, string]
	sum      Reducing[int64]
	agg      Aggregating[string, int64, string]
	timers   *Timers
	seen     *Seen
	now      *model
	applied  *model
	frozen   []*Frozen
	snaps    []*model
	wm, wall int64
	drives   map[string]int // how often each operation ran
}

func worldStates() []Descriptor {
	return []Descriptor{
		Describe("s", "value", KindValue, Int64{}), Describe("s", "list", KindList, Int64{}), DescribeMap("s", "map", Int64{}, String{}),
		Describe("s", "sum", KindReducing, Int64{}), Describe("s", "agg", KindAggregating, Int64{}),
		DescribeTimers("s", "timers", EventTime), DescribeSeen("s", "seen"),
	}
}

func newWorld(seed uint64, flaw string) (*world, error) {
	reg, err := NewRegistry(nil, Wanted{States: worldStates()})
	if err != nil {
		return nil, err
	}
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 1)), disk: newMemory(), reg: reg, flaw: flaw, now: newModel(), applied: newModel(),
		wm: NoTime, wall: 1000, drives: map[string]int{},
	}
	return w, w.restart()
}

func (w *world) restart() (err error) {
	d := worldStates()
	cache := []int64{0, 3000, 100_000}[w.IntN(3)]
	w.task = NewTask(TaskOptions{Reader: w.disk, Registry: w.reg, Groups: worldGroups, CacheBytes: cache})
	w.task.SetTime(w.wm, w.wall)
	var errs [7]error
	w.value, errs[0] = NewValue(w.task, d[0], Int64{}, TTL{valueTTL, ProcessingTime})
	w.list, errs[1] = NewList(w.task, d[1], Int64{}, TTL{listTTL, EventTime})
	w.dict, errs[2] = NewMap(w.task, d[2], MapOptions[int64, string]{Int64{}, String{}, TTL{mapTTL, ProcessingTime}})
	w.sum, errs[3] = NewReducing(w.task, d[3], Int64{}, TTL{}, func(a, b int64) int64 { return 3*a + b })
	w.agg, errs[4] = NewAggregating(w.task, d[4], Int64{}, TTL{}, count{})
	w.timers, errs[5] = NewTimers(w.task, d[5], EventTime)
	w.seen, errs[6] = NewSeen(w.task, d[6], TTL{seenTTL, EventTime})
	return errors.Join(errs[:]...)
}

func (w *world) step() error {
	ops := []struct {
		name string
		odds int
		do   func(at) error
	}{
		{"value", 20, w.onValue},
		{"list", 20, w.onList},
		{"map", 20, w.onMap},
		{"sum", 10, w.onSum},
		{"aggregate", 10, w.onAggregate},
		{"timer", 15, w.onTimer},
		{"seen", 20, w.onSeen},
		{"visit", 4, w.onVisit},
		{"space", 3, w.onSpace},
		{"fire", 2, w.onFire},
		{"time", 5, w.onTime},
		{"sweep", 3, func(at) error { _, err := w.task.Sweep(1 + w.IntN(40)); return err }},
		{"freeze", 3, func(at) error { return w.onFreeze() }},
		{"apply", 3, func(at) error { return w.onApply() }},
		{"abort", 1, func(at) error { return w.onAbort() }},
	}
	total := 0
	for _, op := range ops {
		total += op.odds
	}
	n := w.IntN(total)
	for _, op := range ops {
		if n -= op.odds; n >= 0 {
			continue
		}
		w.drives[op.name]++
		if err := op.do(w.pick()); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
		return nil
	}
	return nil
}

// pick selects a key, of odd lengths too, and says a namespace or none.
func (w *world) pick() at {
	n := w.IntN(worldKeys)
	key := string(rune('a' + n/worldGroups)) // neighbours, whose ranges touch
	switch {
	case n >= worldKeys-2:
		key = strings.Repeat("x", 120+n*30)
	case n >= worldKeys-4:
		key = strings.Repeat("\xff", n%3)
	}
	a := at{group: Group(n % worldGroups), key: key}
	if w.IntN(2) == 0 {
		a.scoped, a.space = true, int64(w.IntN(worldSpaces))-2
		if w.IntN(20) == 0 {
			a.space = math.MaxInt64
		}
	}
	w.task.For([]byte(key), a.group)
	return a
}

func (w *world) run(steps int) error {
	for i := range steps {
		if err := w.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// All kinds of state and a plain model see the same random history of reads, writes, visits, drops, expiry, timers, checkpoints that
// are applied late, aborts and restarts, with and without a cache. After every step they must say the same.
func TestState_isWhatTheModelSays(t *testing.T) {
	seeds, steps := uint64(12), 3000
	if text := os.Getenv("STATE_SEEDS"); text != "" { // a longer run
		seeds = must[uint64](t)(strconv.ParseUint(text, 10, 64))
	}
	drives := map[string]int{}
	for seed := range seeds {
		w, err := newWorld(seed, "")
		check(t, err)
		if err := w.run(steps); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for name, n := range w.drives {
			drives[name] += n
		}
	}
	for name, n := range drives {
		if n < 100 {
			t.Errorf("%s ran %d times: the history does not say much of it", name, n)
		}
	}
}

// The controls: with each of these flaws the same test must fail.
func TestState_modelFindsFlaws(t *testing.T) {
	for _, flaw := range []string{
		"ranges are not dropped", "ranges are dropped last", "deletions are lost", "a delta is not applied", "an abort keeps changes",
	} {
		found := 0
		for seed := range uint64(4) {
			w, err := newWorld(seed, flaw)
			check(t, err)
			if err := w.run(6000); err != nil {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: not found by any seed", flaw)
		}
	}
}
