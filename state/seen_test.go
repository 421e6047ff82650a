package state

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type dedup struct {
	*Task
	*Seen
}

func newDedup(tb testing.TB, disk Reader, ttl TTL) dedup {
	tb.Helper()
	d := DescribeSeen("s", "seen")
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(tb, nil, d), Groups: 4})
	return dedup{t, must[*Seen](tb)(NewSeen(t, d, ttl))}
}

func (d dedup) expect(tb testing.TB, key string, at int64, want bool) { //nolint:revive // what is expected
	tb.Helper()
	d.For([]byte(key), Group(len(key)%4))
	if got := must[bool](tb)(d.Seen.Seen(at)); got != want {
		tb.Errorf("key %q at %d: got seen %v, want %v", key, at, got, want)
	}
}

// A key is remembered for its TTL at least, for the TTL and a bucket at most, from its first row on, across restarts.
func TestSeen_remembersForTTLAndABucketAtMost(t *testing.T) {
	ttl := TTL{10 * time.Second, EventTime}
	for at := int64(-30_000); at < 30_000; at += 1777 {
		disk := newMemory()
		d := newDedup(t, disk, ttl)
		d.expect(t, "k", at, false)
		d.expect(t, "k", at+3000, true) // not remembered longer for it
		round(t, d.Task, disk)
		newDedup(t, disk, ttl).expect(t, "k", at+9999, true)
		newDedup(t, disk, ttl).expect(t, "k", at+10_000+d.Width().Milliseconds(), false)
		newDedup(t, disk, ttl).expect(t, "k", at-100_000, true) // an older row of a key that is remembered
		newDedup(t, disk, ttl).expect(t, "kk", at, false)
	}
}

// What is too old for the state's time is new each time, and is not kept.
func TestSeen_doesNotKeepWhatIsTooOld(t *testing.T) {
	disk := newMemory()
	d := newDedup(t, disk, TTL{10 * time.Second, EventTime})
	d.SetTime(100_000, 0)
	d.expect(t, "old", 90_000, false)
	d.expect(t, "old", 90_000, false)
	d.expect(t, "young", 90_001, false)
	d.expect(t, "young", 90_001, true)
	round(t, d.Task, disk)
	if len(disk.keys) != 1 {
		t.Errorf("got %d keys, want that of the row that is not too old", len(disk.keys))
	}
}

// Buckets go when their time is over, those that a restart finds too, and a bucket under another TTL's width is still understood.
func TestSeen_dropsBuckets(t *testing.T) {
	disk := newMemory()
	for i := range int64(20) {
		d := newDedup(t, disk, TTL{time.Duration(5+i%3) * time.Second, EventTime})
		d.SetTime(i*1000, 0)
		for k := range 10 {
			d.expect(t, fmt.Sprint("key ", i, " ", k), i*1000, false)
			if i > 3 {
				d.expect(t, fmt.Sprint("key ", i-4, " ", k), i*1000, true)
			}
		}
		check(t, d.Expire())
		round(t, d.Task, disk)
	}
	if n := len(disk.keys); n < 50 || n > 100 {
		t.Errorf("got %d keys of 20 times 10, want those of the last 5 to 10 times", n)
	}
	d := newDedup(t, disk, TTL{5 * time.Second, EventTime})
	d.SetTime(1_000_000, 0)
	check(t, d.Expire())
	round(t, d.Task, disk)
	if len(disk.keys) != 0 {
		t.Errorf("got %d keys after all time is over, want none", len(disk.keys))
	}
}

// A TTL of moments, where buckets end within one checkpoint, and rows that come in no order.
func TestSeen_dropsWhatIsNotAppliedYet(t *testing.T) {
	d := newDedup(t, newMemory(), TTL{2 * time.Millisecond, ProcessingTime})
	for now := range int64(200) {
		d.SetTime(NoTime, now)
		d.expect(t, "k", now, now%3 != 0) // a bucket is 1 ms: known up to and including 2 ms later
		d.expect(t, fmt.Sprint("other", now), now, false)
	}
	check(t, d.Expire())
	if ops := len(d.Freeze().Delta().Ops); ops > 10 {
		t.Errorf("got %d operations of keys that are over, want those of the last moments", ops)
	}
}

func TestSeen_forEver(t *testing.T) {
	disk := newMemory()
	d := newDedup(t, disk, TTL{})
	d.expect(t, "k", 0, false)
	round(t, d.Task, disk)
	d = newDedup(t, disk, TTL{})
	d.SetTime(math.MaxInt64, math.MaxInt64)
	d.expect(t, "k", math.MaxInt64-1, true)
	d.expect(t, "k", math.MinInt64, true)
}

type alarm struct {
	key string
	at  int64
}

func newAlarms(tb testing.TB, disk Reader) (*Task, *Timers) {
	tb.Helper()
	d := DescribeTimers("s", "t", ProcessingTime)
	t := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(tb, nil, d), Groups: 4})
	return t, must[*Timers](tb)(NewTimers(t, d, ProcessingTime))
}

// What f sets up to the time in hand fires in its turn, what it deletes does not, and when it stops the rest stays.
func TestTimers_changeWhileFiring(t *testing.T) {
	disk := newMemory()
	task, timers := newAlarms(t, disk)
	for _, a := range []alarm{{"a", 10}, {"b", 10}, {"a", 20}, {"c", 30}, {"a", 40}} {
		task.For([]byte(a.key), 1)
		timers.Set(a.at)
	}
	round(t, task, disk)
	task.SetTime(NoTime, 39)
	var fired []alarm
	check(t, timers.Due(func(key []byte, group Group, at int64) error {
		fired = append(fired, alarm{string(key), at})
		switch {
		case at == 10 && string(key) == "a":
			timers.Set(15) // in between
			timers.Set(5)  // the past: next
			timers.Set(35) // behind the page
			timers.Set(41) // not due
			timers.Delete(20)
			task.For([]byte("c"), group)
			timers.Delete(30)
			timers.Set(10) // of another key, at the same time
		case at == 35:
			return ErrStop
		}
		return nil
	}))
	want := []alarm{{"a", 10}, {"a", 5}, {"b", 10}, {"c", 10}, {"a", 15}, {"a", 35}}
	if diff := cmp.Diff(want, fired, cmp.AllowUnexported(alarm{})); diff != "" {
		t.Errorf("fired (-want +got):\n%s", diff)
	}
	round(t, task, disk)
	task, timers = newAlarms(t, disk)
	fired = nil
	check(t, timers.Fire(math.MaxInt64, func(key []byte, _ Group, at int64) error {
		fired = append(fired, alarm{string(key), at})
		return nil
	}))
	if diff := cmp.Diff([]alarm{{"a", 40}, {"a", 41}}, fired, cmp.AllowUnexported(alarm{})); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	round(t, task, disk)
	if len(disk.keys) != 0 {
		t.Errorf("got %d timers after all have fired", len(disk.keys))
	}
}

// More timers than a page holds, some of them at one time, keys of lengths whose order is not that of their bytes; f fails in the middle:
// each fires once.
func TestTimers_fireOnceOverManyPages(t *testing.T) {
	disk := newMemory()
	task, timers := newAlarms(t, disk)
	want := map[alarm]int{}
	for i := range 5000 {
		key := fmt.Sprint(string(make([]byte, i%300)), i)
		task.For([]byte(key), 2)
		at := int64(i / 3000 * 7)
		timers.Set(at)
		want[alarm{key, at}] = 1
		if i%1500 == 0 {
			round(t, task, disk)
		}
	}
	got := map[alarm]int{}
	left := 1777
	fire := func(key []byte, _ Group, at int64) error {
		if left--; left == 0 {
			return errBroken
		}
		got[alarm{string(key), at}]++
		return nil
	}
	if err := timers.Fire(100, fire); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the error of f", err)
	}
	for k := range want {
		if got[k] == 0 {
			continue
		}
		if got[k] != 1 {
			t.Errorf("timer %.8q fired %d times", k.key, got[k])
		}
	}
	check(t, timers.Fire(100, fire))
	if len(got) != len(want)-1 { // the one at which f failed counts as fired
		t.Errorf("got %d timers fired, want %d", len(got), len(want)-1)
	}
	for k, n := range got {
		if n != 1 {
			t.Errorf("timer %.8q at %d fired %d times", k.key, k.at, n)
		}
	}
}
