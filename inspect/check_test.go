package inspect

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
)

// check checks the world and compares what is found: level, object and what the text holds, parted by "|".
func (w *world) check(want ...string) *Report {
	w.t.Helper()
	r, err := Check(w.t.Context(), w.store, "p")
	w.must(err)
	for i, f := range r.Findings {
		if i >= len(want) {
			w.t.Errorf("found too much: %s %s: %s", f.Level, f.Object, f.Text)
			continue
		}
		if parts := strings.Split(want[i], "|"); f.Level != parts[0] || f.Object != parts[1] || !strings.Contains(f.Text, parts[2]) {
			w.t.Errorf("finding %d: got %s %s: %s, want %s", i, f.Level, f.Object, f.Text, want[i])
		}
	}
	for _, text := range want[min(len(r.Findings), len(want)):] {
		w.t.Errorf("not found: %s", text)
	}
	return r
}

// sound is a world with three checkpoints of two leases, in which all is well.
func sound(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.claim()
	w.publish()
	w.set("tea", 1)
	w.publish()
	w.claim()
	w.set("tea", 2)
	w.decide("rows")
	w.publish()
	return w
}

func TestCheck_findsNothingWhereAllIsWell(t *testing.T) {
	w := sound(t)
	r := w.check()
	if !r.Sound() || r.Claims != 2 || r.Manifests != 3 || r.Newest != 5 || r.Deltas != 2 || r.Segments != 1 || len(r.Orphans) != 0 {
		t.Errorf("got %+v", r)
	}
	if r, err := Check(t.Context(), w.store, "none"); err != nil || r.Sound() {
		t.Errorf("no such pipeline: got %+v, %v, want a finding", r, err)
	}
}

// Each kind of damage is found and named, one at a time.
func TestCheck_findsDamage(t *testing.T) {
	entry := func(seq checkpoint.Seq) string { return checkpoint.EntryName("p", 0, seq) }
	const delta = "p/state/0/0000000000000001/d0000000000000001"
	for name, c := range map[string]struct {
		damage func(w *world)
		want   []string
	}{
		"store ID missing":        {func(w *world) { w.remove(checkpoint.StoreName) }, []string{"missing|store|not there"}},
		"store ID corrupt":        {func(w *world) { w.put(checkpoint.StoreName, []byte("x")) }, []string{"corrupt|store|"}},
		"folder says nothing":     {func(w *world) { w.remove("p/pipeline") }, []string{"missing|p/pipeline|not there"}},
		"entry corrupt":           {func(w *world) { w.flip(entry(3), 100) }, []string{"corrupt|" + entry(3) + "|"}},
		"newest manifest corrupt": {func(w *world) { w.flip(entry(5), 100) }, []string{"corrupt|" + entry(5) + "|"}},
		"name in the log":         {func(w *world) { w.put("p/log/0/17", nil) }, []string{"corrupt|p/log/0/17|no place"}},
		"claim missing": {func(w *world) { w.remove(entry(4)) }, []string{
			"missing|" + entry(5) + "|no claim of its lease 2",
		}},
		"two claims missing": {func(w *world) { w.remove(entry(4)); w.seq, w.lease = 6, 2; w.seq++; w.claim() }, []string{
			"missing|" + entry(5) + "|no claim of its lease 2", "missing|" + entry(8) + "|no claim of lease 2",
		}},
		"delta missing":           {func(w *world) { w.remove(delta) }, []string{"missing|" + delta + "|log numbers [3 5] need it"}},
		"delta corrupt":           {func(w *world) { w.flip(delta, 20) }, []string{"corrupt|" + delta + "|checksum"}},
		"delta cut off":           {func(w *world) { w.put(delta, []byte("idlt")) }, []string{"corrupt|" + delta + "|4 bytes"}},
		"segment missing":         {func(w *world) { w.remove("p/staging/0/2/0000000000000001") }, []string{`missing|p/staging/0/2/0000000000000001|3 rows of checkpoint 3 of lease 2 for the sink "sink"`}},
		"segment corrupt":         {func(w *world) { w.flip("p/staging/0/2/0000000000000001", 0) }, []string{"corrupt|p/staging/0/2/0000000000000001|checksum"}},
		"kept manifest missing":   {func(w *world) { w.remove(entry(3)) }, []string{"note|" + entry(3) + "|not there"}},
		"unlisted manifest":       {func(w *world) { w.listed = nil; w.publish() }, []string{"note|" + entry(2) + "|", "note|" + entry(3) + "|", "note|" + entry(5) + "|"}},
		"pinned manifest missing": {func(w *world) { w.pinned = []checkpoint.Pin{{Seq: 3}}; w.publish(); w.remove(entry(3)) }, []string{"missing|" + entry(3) + "|is pinned"}},
		"foreign object":          {func(w *world) { w.put("p/notes.txt", nil) }, []string{"note|p/notes.txt|left alone"}},
		"lease below":             {func(w *world) { w.lease = 1; w.pending = nil; w.publish() }, []string{"corrupt|" + entry(6) + "|lease 1 is below 2", "corrupt|" + entry(6) + "|stands behind"}},
		"checkpoint number again": {func(w *world) { w.cut = 1; w.pending = nil; w.publish() }, []string{"corrupt|" + entry(6) + "|checkpoint 2 of lease 2 stands behind checkpoint 3"}},
		"another chain":           {func(w *world) { w.kept.Deltas[1].Chain[0]++; w.kept.Chain[0]++; w.publish() }, []string{"corrupt|p/state/0/0000000000000002/d0000000000000002|chain hash"}},
		"deltas with a gap":       {func(w *world) { w.kept.Deltas = w.kept.Deltas[1:]; w.publish() }, []string{"corrupt|" + entry(6) + "|no base"}},
		"another checksum of one": {func(w *world) { w.kept.Deltas[0].Checksum[0]++; w.publish() }, []string{"corrupt|" + entry(6) + "|another checkpoint with"}},
		"of another store":        {func(w *world) { w.storeID = strings.Repeat("ab", 16); w.publish() }, []string{"corrupt|" + entry(6) + "|written in the store abab"}},
		"objects that it needs not": {func(w *world) {
			w.kept.Deltas, w.kept.Seq, w.kept.Chain = w.kept.Deltas[:1], 1, w.kept.Deltas[0].Chain
			w.extra = []string{"state/0/0000000000000002/d0000000000000002"}
			w.publish()
		}, []string{"corrupt|" + entry(6) + "|lists 2 objects"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := sound(t)
			c.damage(w)
			r := w.check(c.want...)
			all := strings.Join(c.want, " ")
			if bad := strings.Contains(all, "missing|") || strings.Contains(all, "corrupt|"); r.Sound() == bad {
				t.Errorf("the report says sound: %t", r.Sound())
			}
		})
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	w.must(w.store.Delete(w.t.Context(), name))
}

// flip changes a byte of an object.
func (w *world) flip(name string, at int) {
	w.t.Helper()
	data, err := w.store.Get(w.t.Context(), name)
	w.must(err)
	data = bytes.Clone(data)
	data[at%len(data)] ^= 0x20
	w.put(name, data)
}

// What no manifest names is an orphan only when its run is over; savepoints and what others put there are none. Removing takes nothing
// else.
func TestCheck_orphansAreWhatRunsThatAreOverLeft(t *testing.T) {
	w := sound(t)
	w.put("p/state/0/0000000000000001/d0000000000000009", []byte("old"))
	w.put("p/state/0/0000000000000002/b000001-000001", []byte("may be on its way"))
	w.put("p/staging/0/1/0000000000000007", []byte("old"))
	w.put("p/staging/0/2/0000000000000008", []byte("may be on its way"))
	w.put("p/staging/0/3/0000000000000001", []byte("of a run that has claimed since"))
	w.put("p/savepoints/one/index", []byte("x"))
	w.put("p/notes.txt", []byte("x"))
	r := w.check("note|p/notes.txt|left alone")
	want := []string{"p/staging/0/1/0000000000000007", "p/state/0/0000000000000001/d0000000000000009"}
	if diff := cmp.Diff(want, r.Orphans); diff != "" || r.Savepoints != 1 {
		t.Errorf("orphans (-want +got):\n%s%d objects in savepoints, want 1", diff, r.Savepoints)
	}
	before := w.store.Objects()
	n, err := Remove(t.Context(), w.store, r.Orphans)
	if err != nil || n != 2 {
		t.Errorf("removed %d, %v, want 2", n, err)
	}
	for _, name := range want {
		delete(before, name)
	}
	if diff := cmp.Diff(before, w.store.Objects()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	// With an entry that can't be read nobody knows what it names.
	w = sound(t)
	w.put("p/staging/0/1/0000000000000007", []byte("old"))
	w.flip(checkpoint.EntryName("p", 0, 3), 100)
	if r := w.check("corrupt|" + checkpoint.EntryName("p", 0, 3) + "|"); len(r.Orphans) != 0 {
		t.Errorf("got orphans %q beside an entry that can't be read", r.Orphans)
	}
}

// A run that goes on beside the check removes what it no longer needs; that is no damage.
func TestCheck_besideARunThatCollects(t *testing.T) {
	w := sound(t)
	const delta = "p/state/0/0000000000000001/d0000000000000001"
	busy := false
	w.faults = func(c storetest.Call) storetest.Fault {
		if busy || c.Method != storetest.Get || c.Name != delta {
			return storetest.None
		}
		busy = true // the check begins to read state: the run has another base meanwhile, commits, and collects
		w.kept.Deltas, w.kept.Seq, w.kept.Chain = nil, 0, [32]byte{}
		w.slots = nil
		w.pending, w.listed = nil, nil
		w.publish()
		for _, name := range []string{checkpoint.EntryName("p", 0, 2), checkpoint.EntryName("p", 0, 3), checkpoint.EntryName("p", 0, 5), delta, "p/staging/0/2/0000000000000001"} {
			w.remove(name)
		}
		return storetest.None
	}
	if r := w.check(); !r.Sound() || !busy {
		t.Errorf("got %+v, the run was busy: %t", r, busy)
	}
}

// When the newest manifest that is listed is collected before it is read, a newer one is there, and is what counts.
func TestCheck_newestIsCollectedWhileTheLogIsRead(t *testing.T) {
	w := sound(t)
	rounds := 0
	w.faults = func(c storetest.Call) storetest.Fault {
		if rounds == 3 || c.Method != storetest.Get || c.Name != checkpoint.EntryName("p", 0, w.seq) {
			return storetest.None
		}
		rounds++
		old := w.seq
		if rounds == 2 {
			w.claim()
		}
		w.listed, w.pending = nil, nil
		w.publish()
		for seq := checkpoint.Seq(2); seq <= old; seq++ {
			if seq != 4 && seq != 7 { // claims
				w.remove(checkpoint.EntryName("p", 0, seq))
			}
		}
		return storetest.None
	}
	if r := w.check(); r.Newest != w.seq || r.Deltas != 2 || rounds != 3 {
		t.Errorf("after %d rounds: got %+v, want the newest %d", rounds, r, w.seq)
	}
}

// An answer that the store does not give is no finding.
func TestCheck_storeDoesNotAnswer(t *testing.T) {
	for n := 1; ; n++ {
		w := sound(t)
		calls := 0
		w.faults = func(storetest.Call) storetest.Fault {
			if calls++; calls == n {
				return storetest.Refused
			}
			return storetest.None
		}
		r, err := Check(t.Context(), w.store, "p")
		if calls < n {
			if n < 10 {
				t.Errorf("a check has only %d calls", calls)
			}
			return
		}
		if err == nil {
			t.Errorf("call %d fails: got %+v, want an error", n, r)
		}
	}
}
