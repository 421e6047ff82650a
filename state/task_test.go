package state

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
)

// counters is a task with one value and what it lies on.
type counters struct {
	*Task
	disk  *memory
	d     Descriptor
	value Value[int64]
}

func newCounters(tb testing.TB, disk *memory, ttl TTL, cache int64) *counters {
	tb.Helper()
	d := Describe("s", "n", KindValue, Int64{})
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(tb, nil, d), Groups: 4, CacheBytes: cache})
	return &counters{t, disk, d, must[Value[int64]](tb)(NewValue(t, d, Int64{}, ttl))}
}

func (c *counters) key(i int) {
	c.For(fmt.Appendf(nil, "%06d", i), Group(i%4))
}

func (c *counters) expect(tb testing.TB, i int, want any) {
	tb.Helper()
	c.key(i)
	v, ok, err := c.value.Get()
	check(tb, err)
	got := any(v)
	if !ok {
		got = nil
	}
	if got != want {
		tb.Errorf("key %d: got %v, want %v", i, got, want)
	}
}

// The Reader sees nothing of what is not applied, and dropping the task drops all of it (I8).
func TestTask_abortLosesNothingElse(t *testing.T) {
	disk := newMemory()
	c := newCounters(t, disk, TTL{}, 0)
	c.key(1)
	c.value.Set(10)
	round(t, c.Task, disk)
	c.value.Set(20)
	frozen := c.Freeze()
	c.value.Set(30)
	c.expect(t, 1, int64(30))
	if len(disk.keys) != 1 || disk.values[disk.keys[0]] != string([]byte{headPlain, 20}) { // zigzag: 10 is 20
		t.Errorf("got %q on disk before anything of it was applied", disk.values)
	}
	again := newCounters(t, disk, TTL{}, 0)
	again.expect(t, 1, int64(10))
	commit(t, c.Task, disk, frozen)
	c.expect(t, 1, int64(30))
	newCounters(t, disk, TTL{}, 0).expect(t, 1, int64(20))
}

// Applied must be told in order, for what was frozen (I8): otherwise the Reader would be believed to show what it does not.
func TestTask_appliedOutOfOrderPanics(t *testing.T) {
	for name, f := range map[string]func(c *counters){
		"the second first": func(c *counters) { c.Freeze(); c.Applied(c.Freeze()) },
		"twice":            func(c *counters) { f := c.Freeze(); c.Applied(f); c.Applied(f) },
		"of another task":  func(c *counters) { c.Freeze(); c.Applied(newCounters(t, newMemory(), TTL{}, 0).Freeze()) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if v, ok := recover().(invariant.Violation); !ok || v.ID != "I8" {
					t.Errorf("got panic %v, want I8", v)
				}
			}()
			f(newCounters(t, newMemory(), TTL{}, 0))
		})
	}
}

// A delta is made on another goroutine while the task goes on with the same keys; the race detector looks on.
func TestFrozen_deltaIsMadeBesideTheTask(t *testing.T) {
	disk := newMemory()
	c := newCounters(t, disk, TTL{}, 1<<20)
	var want []string
	for n := range 30 {
		for i := range 300 {
			c.key(i)
			c.value.Set(int64(n))
			c.value.In(int64(i % 3)).Set(int64(n))
		}
		frozen := c.Freeze()
		var d Delta
		var g sync.WaitGroup
		g.Go(func() { d = frozen.Delta() })
		for i := range 300 {
			c.key(i)
			c.value.Set(-1)
			if v, ok, err := c.value.In(int64(i % 3)).Get(); err != nil || !ok || v != int64(n) {
				t.Fatalf("got %v %v %v while the delta is made, want %d", v, ok, err, n)
			}
			if i%50 == 0 {
				check(t, c.value.Each(Group(i%4), func(_ []byte, v int64) error { c.value.Set(v - 1); return nil }))
			}
		}
		g.Wait()
		lines := plain(d)
		if n > 0 && len(lines) != len(want) {
			t.Fatalf("got %d operations, want %d", len(lines), len(want))
		}
		want = lines
		commit(t, c.Task, disk, frozen)
	}
}

// A Freeze of many changed keys takes no longer than one of few: it allocates a layer and nothing else.
func TestTask_freezeDoesNotDependOnTheChanges(t *testing.T) {
	c := newCounters(t, newMemory(), TTL{}, 0)
	for i := range 50_000 {
		c.key(i)
		c.value.Set(1)
	}
	if n := testing.AllocsPerRun(1, func() { c.Freeze() }); n > 4 {
		t.Errorf("got %v allocations in a Freeze, want a few", n)
	}
}

func TestTask_getAndSetTakeNoMemoryInSteadyState(t *testing.T) {
	c := newCounters(t, newMemory(), TTL{time.Hour, ProcessingTime}, 1<<20)
	c.SetTime(NoTime, 1000)
	key := []byte("key")
	for _, v := range []Value[int64]{c.value, c.value.In(7)} {
		if n := testing.AllocsPerRun(100, func() {
			c.For(key, 1)
			n, _, err := v.Get()
			check(t, err)
			v.Set(n + 1)
		}); n != 0 {
			t.Errorf("got %v allocations for a read and a write, want 0", n)
		}
	}
}

// What was read or written last is not read again, within the budget; without one everything is.
func TestTask_cacheSavesReadsWithinItsBudget(t *testing.T) {
	for _, budget := range []int64{0, 200 << 10, 64 << 20} {
		disk := newMemory()
		c := newCounters(t, disk, TTL{}, budget)
		const keys = 20_000
		for i := range keys {
			c.key(i)
			c.value.Set(int64(i))
		}
		round(t, c.Task, disk)
		disk.gets = 0
		for range 2 {
			for i := range keys {
				c.expect(t, i, int64(i))
			}
		}
		switch {
		case budget == 0 && disk.gets != 2*keys:
			t.Errorf("without a cache: %d reads, want %d", disk.gets, 2*keys)
		case budget == 64<<20 && disk.gets != 0:
			t.Errorf("with room for all: %d reads, want 0", disk.gets)
		case c.CachedBytes() > budget+budget/4:
			t.Errorf("budget %d: the cache holds %d bytes", budget, c.CachedBytes())
		}
		if c.DirtyBytes() > 100 {
			t.Errorf("got %d dirty bytes with nothing changed", c.DirtyBytes())
		}
	}
}

func TestTask_fullAsksForACheckpoint(t *testing.T) {
	disk := newMemory()
	d := Describe("s", "n", KindValue, Int64{})
	task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, d), Groups: 4, DirtyMax: 100_000})
	v := must[Value[int64]](t)(NewValue(task, d, Int64{}, TTL{}))
	n := 0
	for ; !task.Full() && n < 100_000; n++ {
		task.For(fmt.Append(nil, n), 0)
		v.Set(int64(n))
	}
	if n < 500 || n > 5000 {
		t.Errorf("full with %d keys in 100,000 bytes", n)
	}
	f := task.Freeze()
	if !task.Full() {
		t.Error("not full though nothing is applied: frozen changes take memory too")
	}
	commit(t, task, disk, f)
	if task.Full() {
		t.Error("full after all was applied")
	}
}

// An error of the Reader comes out of every call that reads, with its kind, and nothing that does not read fails.
func TestTask_readerErrorsComeOut(t *testing.T) {
	disk := newMemory()
	w := opened(t, disk)
	disk.fail = fault.E("disk", fault.Corrupt, errBroken)
	w.task.For([]byte("k"), 1)
	_, _, getErr := w.value.Get()
	_, lenErr := w.list.Len()
	_, _, mapErr := w.dict.Get(1)
	_, seenErr := w.seen.Seen(1)
	_, _, aggErr := w.agg.Get()
	none := func(int64) error { return nil }
	for name, err := range map[string]error{
		"value": getErr, "list length": lenErr, "map": mapErr, "seen": seenErr, "aggregate": aggErr,
		"append": w.list.Append(1), "list": w.list.Each(none), "clear list": w.list.Clear(), "clear map": w.dict.Clear(),
		"each entry": w.dict.Each(func(int64, string) error { return nil }), "reduce": w.sum.Add(1), "add": w.agg.Add(""),
		"merge": w.agg.MergeFrom(1), "fire": w.timers.Fire(1, func([]byte, Group, int64) error { return nil }),
		"namespaces": w.value.Namespaces(1, 1, none), "visit": w.value.Each(1, func([]byte, int64) error { return nil }),
		"keys": w.dict.EachKey(1, func([]byte) error { return nil }), "expire": w.seen.Expire(),
	} {
		if !errors.Is(err, errBroken) || fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s: got %v, want the reader's error", name, err)
		}
	}
	w.value.Set(1)
	w.value.Clear()
	w.dict.Put(1, "")
	w.dict.Delete(1)
	w.timers.Set(1)
	w.timers.Delete(1)
	if w.task.Freeze().Empty() {
		t.Error("the changes are gone")
	}
}

// Bytes that no codec wrote are Corrupt and name the state.
func TestValue_corruptBytesAreNamed(t *testing.T) {
	disk := newMemory()
	w := opened(t, disk)
	fillAll(t, w)
	round(t, w.task, disk)
	for _, bad := range []string{"", "\x02", "\x01\x00", "\x00\xff\xff"} {
		for k := range disk.values {
			disk.values[k] = bad
		}
		w.task.For([]byte("key"), 2)
		_, _, getErr := w.value.Get()
		_, lenErr := w.list.Len()
		for name, err := range map[string]error{"value": getErr, "list": lenErr} {
			if err == nil || fault.KindOf(err) != fault.Corrupt || !errors.Is(err, errValue) && bad == "\x00\xff\xff" {
				t.Errorf("%s of %q: got %v, want corrupt", name, bad, err)
			}
		}
	}
}

// An element of a list that is missing is found, whichever it is: a list is never silently shorter.
func TestList_missingElementIsFound(t *testing.T) {
	for lost := range 3 {
		disk := newMemory()
		w := opened(t, disk)
		w.task.For([]byte("key"), 2)
		for i := range 3 {
			check(t, w.list.Append(int64(i)))
		}
		round(t, w.task, disk)
		delete(disk.values, disk.keys[1+lost])
		disk.keys = slices.Delete(disk.keys, 1+lost, 2+lost)
		err := w.list.Each(func(int64) error { return nil })
		if err == nil || fault.KindOf(err) != fault.Corrupt || !errors.Is(err, errLost) {
			t.Errorf("element %d is missing: got %v, want corrupt", lost, err)
		}
	}
}

// The time of writing is stored: what has expired is gone after a restart too, and a shorter or longer TTL holds for what was written
// before.
func TestTTL_isExactAfterARestart(t *testing.T) {
	const second = 1000
	for _, by := range []Clock{EventTime, ProcessingTime} {
		disk := newMemory()
		c := newCounters(t, disk, TTL{10 * time.Second, by}, 1<<20)
		set := func(c *counters, now int64) {
			if by == EventTime {
				c.SetTime(now, NoTime)
			} else {
				c.SetTime(NoTime, now)
			}
		}
		set(c, 100*second)
		c.key(1)
		c.value.Set(7)
		set(c, 110*second-1)
		c.expect(t, 1, int64(7))
		round(t, c.Task, disk)
		for _, step := range []struct {
			ttl  time.Duration
			now  int64
			want any
		}{
			{10 * time.Second, 110*second - 1, int64(7)},
			{10 * time.Second, 110 * second, nil},
			{20 * time.Second, 120*second - 1, int64(7)},
			{5 * time.Second, 105*second - 1, int64(7)},
			{5 * time.Second, 105 * second, nil},
			{0, 1000 * second, int64(7)},
			{1500 * time.Microsecond, 100*second + 1, int64(7)},
			{1500 * time.Microsecond, 100*second + 2, nil},
		} {
			again := newCounters(t, disk, TTL{step.ttl, by}, 0)
			set(again, step.now)
			again.expect(t, 1, step.want)
		}
		unknown := newCounters(t, disk, TTL{time.Second, by}, 0)
		unknown.expect(t, 1, int64(7)) // the time is not known yet
	}
}

// Sweep deletes what has expired, all of it after enough calls, and nothing else.
func TestSweep_deletesWhatHasExpired(t *testing.T) {
	disk := newMemory()
	dv, dl, dm := Describe("s", "v", KindValue, Int64{}), Describe("s", "l", KindList, Int64{}), DescribeMap("s", "m", Int64{}, Int64{})
	task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, dv, dl, dm), Groups: 4})
	ttl := TTL{time.Second, ProcessingTime}
	v := must[Value[int64]](t)(NewValue(task, dv, Int64{}, ttl))
	l := must[List[int64]](t)(NewList(task, dl, Int64{}, ttl))
	m := must[Map[int64, int64]](t)(NewMap(task, dm, MapOptions[int64, int64]{Int64{}, Int64{}, ttl}))
	write := func(from, to int) {
		for i := from; i < to; i++ {
			task.For(fmt.Append(nil, i), Group(i%4))
			v.Set(1)
			v.In(int64(i)).Set(1)
			m.Put(5, 5)
			for range i % 100 {
				check(t, l.Append(1))
				check(t, l.In(3).Append(1))
			}
		}
	}
	task.SetTime(NoTime, 1000)
	write(0, 300)
	round(t, task, disk)
	task.SetTime(NoTime, 1900)
	write(300, 400)
	task.SetTime(NoTime, 2100)
	over, named := task.Expired(), 0
	for k, stored := range disk.values {
		if over([]byte(k), []byte(stored)) {
			named++
		}
	}
	if named != 300*3 {
		t.Errorf("Expired names %d entries, want all but those of lists", named)
	}
	for range 3000 {
		must[int](t)(task.Sweep(50))
	}
	round(t, task, disk)
	want := 100*3 + 2*99*100/2 + 2*99
	if len(disk.keys) != want {
		t.Errorf("got %d entries, want the %d that have not expired", len(disk.keys), want)
	}
	task.SetTime(NoTime, 3000)
	for range 3000 {
		must[int](t)(task.Sweep(50))
	}
	round(t, task, disk)
	if len(disk.keys) != 0 {
		t.Errorf("got %d entries, want none", len(disk.keys))
	}
}

// A task visits and fires only in its own key groups, whatever the Reader has of others.
func TestTask_keepsToItsGroups(t *testing.T) {
	disk := newMemory()
	d := DescribeTimers("s", "t", EventTime)
	reg := mustRegistry(t, nil, d)
	all := NewTask(TaskOptions{Reader: disk, Registry: reg, Groups: 8})
	timers := must[*Timers](t)(NewTimers(all, d, EventTime))
	for g := range 8 {
		all.For([]byte("k"), Group(g))
		timers.Set(int64(g))
	}
	round(t, all, disk)
	var fired []Group
	for _, own := range [][]Group{{6, 1}, {0, 2, 3, 4, 5, 7}, {}} {
		task := NewTask(TaskOptions{Reader: disk, Registry: reg, Groups: 8, Own: own})
		mine := must[*Timers](t)(NewTimers(task, d, EventTime))
		task.SetTime(100, 0)
		check(t, mine.Due(func(_ []byte, g Group, _ int64) error { fired = append(fired, g); return nil }))
		round(t, task, disk)
	}
	if diff := cmp.Diff([]Group{1, 6, 0, 2, 3, 4, 5, 7}, fired); diff != "" || len(disk.keys) != 0 {
		t.Errorf("fired (-want +got):\n%s\nand %d keys are left", diff, len(disk.keys))
	}
}

// A visit may change what it visits: the keys in hand, others, and all of them.
func TestEach_mayChangeState(t *testing.T) {
	disk := newMemory()
	c := newCounters(t, disk, TTL{}, 1<<20)
	const keys = 1000
	for i := range keys {
		c.key(4 * i)
		c.value.Set(0)
		if i == keys/2 {
			round(t, c.Task, disk)
		}
	}
	visits := 0
	check(t, c.value.Each(0, func(key []byte, v int64) error {
		if v != 0 {
			return fmt.Errorf("key %q is visited again", key)
		}
		visits++
		c.value.Set(v + 1)
		if visits%10 == 0 {
			c.value.Clear()
		}
		return nil
	}))
	if visits != keys {
		t.Errorf("got %d visits, want %d", visits, keys)
	}
	left := 0
	check(t, c.value.Each(0, func(_ []byte, v int64) error { left += int(v); return nil }))
	if left != keys-keys/10 {
		t.Errorf("got %d left, want %d", left, keys-keys/10)
	}
	visits = 0
	check(t, c.value.Each(0, func([]byte, int64) error { visits++; return ErrStop }))
	if visits != 1 {
		t.Errorf("got %d visits with ErrStop at the first, want 1", visits)
	}
}

// While nothing is due, asking costs the Reader nothing.
func TestNamespaces_askTheReaderOnlyWhenSomethingIsDue(t *testing.T) {
	disk := newMemory()
	c := newCounters(t, disk, TTL{}, 0)
	d := DescribeTimers("s", "t", EventTime)
	task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, c.d, d), Groups: 4})
	v := must[Value[int64]](t)(NewValue(task, c.d, Int64{}, TTL{}))
	timers := must[*Timers](t)(NewTimers(task, d, EventTime))
	ask := func(now int64) (spaces, fired int) {
		for g := range 4 {
			check(t, v.Namespaces(Group(g), now, func(space int64) error {
				spaces++
				v.DropNamespace(Group(g), space)
				return nil
			}))
		}
		check(t, timers.Fire(now, func([]byte, Group, int64) error { fired++; return nil }))
		return spaces, fired
	}
	ask(1)
	task.For([]byte("k"), 2)
	v.In(100).Set(1)
	timers.Set(100)
	disk.scans = 0
	for now := range int64(100) {
		ask(now)
	}
	if disk.scans != 0 {
		t.Errorf("got %d scans while nothing is due, want 0", disk.scans)
	}
	if spaces, fired := ask(100); spaces != 1 || fired != 1 {
		t.Errorf("got %d namespaces and %d timers when due, want 1 and 1", spaces, fired)
	}
	if spaces, fired := ask(1000); spaces != 0 || fired != 0 {
		t.Errorf("got %d namespaces and %d timers afterwards, want none", spaces, fired)
	}
}

// A list that has expired leaves nothing behind, neither when it is begun anew nor when it is cleared.
func TestList_expiredLeavesNothingBehind(t *testing.T) {
	for _, length := range []int{3, clearedMax + 10} {
		disk := newMemory()
		d := Describe("s", "l", KindList, Int64{})
		task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, d), Groups: 4})
		l := must[List[int64]](t)(NewList(task, d, Int64{}, TTL{time.Second, ProcessingTime}))
		for _, begin := range []bool{true, false} {
			task.SetTime(NoTime, max(task.clock, 0)+10_000)
			task.For([]byte("k"), 1)
			for range length {
				check(t, l.Append(1))
			}
			round(t, task, disk)
			task.SetTime(NoTime, task.clock+1000)
			want := 0
			if begin {
				check(t, l.Append(2))
				want = 2
			} else {
				check(t, l.Clear())
			}
			round(t, task, disk)
			if len(disk.keys) != want {
				t.Errorf("length %d, begun anew %v: got %d entries, want %d", length, begin, len(disk.keys), want)
			}
		}
	}
}

// Pages end by bytes as well as by number.
func TestEach_visitsLargeValues(t *testing.T) {
	disk := newMemory()
	d := Describe("s", "v", KindValue, Codec[[]byte](Bytes{}))
	task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, d), Groups: 4})
	v := must[Value[[]byte]](t)(NewValue(task, d, Codec[[]byte](Bytes{}), TTL{}))
	const values = 50
	for i := range values {
		task.For(fmt.Append(nil, i), 1)
		v.Set(make([]byte, pageBytesMax/8))
		if i == values/2 {
			round(t, task, disk)
		}
	}
	visits := 0
	check(t, v.Each(1, func([]byte, []byte) error { visits++; return nil }))
	if visits != values {
		t.Errorf("got %d visits of %d large values", visits, values)
	}
}
