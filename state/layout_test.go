package state

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files that are missing; one that is there is kept for ever")

// missing writes a golden file if it is asked for and not there.
func missing(t *testing.T, path string, content []byte) {
	t.Helper()
	if _, err := os.Stat(path); *rewrite && errors.Is(err, fs.ErrNotExist) {
		check(t, os.WriteFile(path, content, 0o600))
	}
}

// golden compares text with a file that is kept for ever: what it says stands in stored checkpoints.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	missing(t, path, []byte(got))
	want, err := os.ReadFile(path)
	check(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func opened(tb testing.TB, disk Reader) *world {
	tb.Helper()
	w, err := newWorld(1, "")
	check(tb, err)
	w.task = NewTask(TaskOptions{Reader: disk, Registry: w.reg, Groups: worldGroups})
	d := worldStates()
	w.value = must[Value[int64]](tb)(NewValue(w.task, d[0], Int64{}, TTL{valueTTL, ProcessingTime}))
	w.list = must[List[int64]](tb)(NewList(w.task, d[1], Int64{}, TTL{}))
	w.dict = must[Map[int64, string]](tb)(NewMap(w.task, d[2], MapOptions[int64, string]{Int64{}, String{}, TTL{}}))
	w.sum = must[Reducing[int64]](tb)(NewReducing(w.task, d[3], Int64{}, TTL{}, func(a, b int64) int64 { return a + b }))
	w.agg = must[Aggregating[string, int64, string]](tb)(NewAggregating(w.task, d[4], Int64{}, TTL{}, count{}))
	w.timers = must[*Timers](tb)(NewTimers(w.task, d[5], EventTime))
	w.seen = must[*Seen](tb)(NewSeen(w.task, d[6], TTL{seenTTL, EventTime}))
	w.task.SetTime(NoTime, 1_700_000_000_000)
	return w
}

// fillAll writes something of every kind.
func fillAll(tb testing.TB, w *world) {
	tb.Helper()
	w.task.For([]byte("key"), 2)
	w.value.Set(-3)
	w.value.In(-1).Set(300)
	check(tb, w.list.Append(1))
	check(tb, w.list.In(1000).Append(2))
	w.dict.Put(-1, "one")
	w.dict.In(1000).Put(2, "")
	check(tb, w.sum.Add(5))
	check(tb, w.sum.In(0).Add(6))
	check(tb, w.agg.Add("abc"))
	check(tb, w.agg.In(math.MaxInt64).Add("abc"))
	w.timers.Set(1234)
	_, err := w.seen.Seen(1234)
	check(tb, err)
	w.task.For(bytes.Repeat([]byte("long"), 50), 3)
	w.value.Clear()
	w.sum.DropNamespace(1, 7)
}

// The layout of keys and values of every kind, and the encoded delta of all of them.
func TestLayout_isTheOneOfStoredState(t *testing.T) {
	w := opened(t, newMemory())
	fillAll(t, w)
	d := w.task.Freeze().Delta()
	var b strings.Builder
	for _, r := range d.Drops {
		fmt.Fprintf(&b, "drop %x to %x\n", r.From, r.To)
	}
	for _, op := range d.Ops {
		p, err := SplitKey(op.Key)
		check(t, err)
		fmt.Fprintf(&b, "%x = %x delete=%v: group %d slot %d %s spaced=%v %d user %.8q sub %x\n",
			op.Key, op.Value, op.Delete, p.Group, p.Slot, p.Kind, p.Spaced, p.Space, p.User, p.Sub)
	}
	golden(t, "layout-1.txt", b.String())
	encoded, err := EncodeDelta(nil, Delta{Drops: d.Drops, Ops: d.Ops[:4]}) // small enough to stay plain: zstd's bytes may change
	check(t, err)
	golden(t, "delta-1.txt", hex.Dump(encoded))
}

// A delta as an earlier version wrote it, compressed, is still read.
func TestDecodeDelta_readsWhatWasStored(t *testing.T) {
	const path = "testdata/delta-1.zst.bin"
	w := opened(t, newMemory())
	fillAll(t, w)
	want := w.task.Freeze().Delta()
	encoded, err := EncodeDelta(nil, want)
	check(t, err)
	missing(t, path, encoded)
	stored, err := os.ReadFile(path)
	check(t, err)
	got, err := DecodeDelta(stored)
	check(t, err)
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("delta (-want +got):\n%s", diff)
	}
}

// plain makes deltas comparable: nil and empty are the same.
func plain(d Delta) []string {
	var lines []string
	for _, r := range d.Drops {
		lines = append(lines, fmt.Sprintf("drop %x %x", r.From, r.To))
	}
	for _, op := range d.Ops {
		lines = append(lines, fmt.Sprintf("%x %v %x", op.Key, op.Delete, op.Value))
	}
	return lines
}

// Namespaces and map keys of integers sort as numbers do, and no user key's range holds another's keys.
func TestLayout_sortsAndSeparates(t *testing.T) {
	spaces := []int64{math.MinInt64, -1000, -1, 0, 1, 255, 256, math.MaxInt64}
	for i, space := range spaces {
		b := appendSpace(nil, space)
		if spaceOf(b) != space {
			t.Errorf("namespace %d comes back as %d", space, spaceOf(b))
		}
		if i > 0 && bytes.Compare(appendSpace(nil, spaces[i-1]), b) >= 0 {
			t.Errorf("namespace %d does not sort below %d", spaces[i-1], space)
		}
	}
	users := []string{"", "\x00", "a", "ab", "a\xff", "\xff", "\xff\xff", strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("a", 300)}
	for _, a := range users {
		prefix := appendUser(appendPrefix(nil, math.MaxUint16, math.MaxUint16, kindMap), []byte(a))
		r := below(prefix)
		for _, b := range users {
			key := append(appendUser(appendPrefix(nil, math.MaxUint16, math.MaxUint16, kindMap), []byte(b)), "\xff\xff\xff"...)
			if within(key, r) != (a == b) {
				t.Errorf("range of key %.8q holds key %.8q: %v", a, b, a != b)
			}
		}
	}
}

func TestRanges_holdGroupsAndSlots(t *testing.T) {
	for _, group := range []Group{0, 1, 255, 256, math.MaxUint16} {
		key := appendUser(appendPrefix(nil, group, 7, kindValue), []byte("\xff\xff\xff\xff"))
		if !within(key, SlotRange(group, 7)) || within(key, SlotRange(group, 6)) || within(key, SlotRange(group, 8)) {
			t.Errorf("slot range of group %d is wrong", group)
		}
		if !within(key, GroupRange(group, group)) || !within(key, GroupRange(0, math.MaxUint16)) {
			t.Errorf("group range of group %d does not hold its key", group)
		}
		if group > 0 && within(key, GroupRange(0, group-1)) || group < math.MaxUint16 && within(key, GroupRange(group+1, math.MaxUint16)) {
			t.Errorf("group range of another group holds a key of group %d", group)
		}
	}
	last := appendUser(appendSpace(appendPrefix(nil, math.MaxUint16, math.MaxUint16, kindSeen|scoped), math.MaxInt64), []byte("\xff"))
	if !within(last, SlotRange(math.MaxUint16, math.MaxUint16)) || !within(last, GroupRange(math.MaxUint16, math.MaxUint16)) {
		t.Error("the last slot's range does not hold its last key")
	}
}

func FuzzSplitKey(f *testing.F) {
	f.Add(appendUser(appendSpace(appendPrefix(nil, 1, 2, kindTimer|scoped), 5), []byte("k")))
	f.Add([]byte{0, 1, 0, 1, 1, 0x80, 0x00})
	f.Fuzz(func(t *testing.T, key []byte) {
		p, err := SplitKey(key)
		if err != nil {
			return
		}
		kind := kindByte(p.Kind)
		if p.Spaced {
			kind |= scoped
		}
		again := appendPrefix(nil, p.Group, p.Slot, kind)
		if p.Spaced {
			again = appendSpace(again, p.Space)
		}
		again = append(appendUser(again, p.User), p.Sub...)
		if !bytes.Equal(again, key) {
			t.Errorf("key %x is put together as %x", key, again)
		}
	})
}

func TestOrder_isSortedWhateverComesAndGoes(t *testing.T) {
	w, err := newWorld(5, "")
	check(t, err)
	var tab table
	var o order
	want := map[string]bool{}
	for range 300 {
		for range 40 {
			key := []byte(fmt.Sprint(w.IntN(5000)))
			if id, fresh := tab.put(uint64(key[0])*77+uint64(len(key)), key, nil); fresh {
				o.insert(&tab, id)
			}
			want[string(key)] = true
		}
		from, to := fmt.Sprint(w.IntN(5000)), fmt.Sprint(w.IntN(5000))
		if w.IntN(4) == 0 && from < to {
			o.cut(&tab, Range{[]byte(from), []byte(to)}, func(id int) { tab.entries[id].value = gone })
			for key := range want {
				if key >= from && key < to {
					delete(want, key)
				}
			}
		}
		var got []string
		for _, id := range o.all() {
			got = append(got, string(tab.key(int(id))))
		}
		if len(got) != len(want) || o.count != len(want) || !slices.IsSorted(got) {
			t.Fatalf("got %d keys (count %d), sorted %v, want %d", len(got), o.count, slices.IsSorted(got), len(want))
		}
		for _, key := range got {
			if !want[key] {
				t.Fatalf("key %q should be gone", key)
			}
		}
		for _, b := range o.blocks {
			if len(b) == 0 || len(b) > orderBlockMax {
				t.Fatalf("a block of %d", len(b))
			}
		}
	}
}
