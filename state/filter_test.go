package state

import (
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// A filter has all that was added, as it grows, and takes few others for it.
func TestFilter_hasAllAndFewOthers(t *testing.T) {
	for _, first := range []int{1, 64, 20_000} {
		f := &filter{}
		held := f.grow(first)
		const keys = 20_000
		for i := range keys {
			if f.room == 0 {
				held += f.grow(growth * f.keys)
			}
			f.add(xxhash.Sum64String(fmt.Sprint(i)))
		}
		wrong := 0
		for i := range keys {
			if !f.has(xxhash.Sum64String(fmt.Sprint(i))) {
				t.Fatalf("first %d: key %d was added and is not there", first, i)
			}
			if f.has(xxhash.Sum64String(fmt.Sprint(-1 - i))) {
				wrong++
			}
		}
		if wrong > keys/40 {
			t.Errorf("first %d: %d of %d others are taken for keys", first, wrong, keys)
		}
		if held != f.bytes() || held > keys*12/8*growth {
			t.Errorf("first %d: %d bytes counted, %d held", first, held, f.bytes())
		}
	}
}

// With filters a new key costs no look-up in the Reader, after a restart neither, and none is wrong; memory is counted and given back.
func TestSeen_filtersSaveLookups(t *testing.T) {
	disk := newMemory()
	const keys = 5000
	for run := range 2 {
		d := DescribeSeen("s", "seen")
		task := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, nil, d), Groups: 4, CacheBytes: 1 << 20})
		s := dedup{task, must[*Seen](t)(NewSeen(task, d, TTL{seenTTL, EventTime}))}
		disk.gets = 0
		for i := range keys {
			s.expect(t, fmt.Sprint(run, " ", i), int64(i%40), false)
		}
		if disk.gets > keys/20 {
			t.Errorf("run %d: %d look-ups for %d new keys", run, disk.gets, keys)
		}
		round(t, task, disk)
		for i := range keys {
			s.expect(t, fmt.Sprint(run, " ", i), int64(i%40), true)
		}
		if task.filterBytes == 0 || task.CachedBytes() > 1<<20 {
			t.Errorf("run %d: %d bytes in filters of %d", run, task.filterBytes, task.CachedBytes())
		}
		s.SetTime(100_000*int64(run), 0)
		check(t, s.Expire())
		if run == 1 && task.filterBytes != 0 {
			t.Errorf("%d bytes in filters of no bucket", task.filterBytes)
		}
	}
}
