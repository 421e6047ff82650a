package machine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
)

// byHand makes a change by hand, as the next run.
func (f *flow) byHand(nonce string, edit func(*checkpoint.Manifest)) {
	f.t.Helper()
	cfg := flowConfig()
	cfg.Nonce, cfg.Offline = nonce, true
	f.edit = edit
	f.restart(cfg)
	f.send(Started{})
	if f.stop == nil || f.stop.Reason != Done {
		f.t.Fatalf("the change by hand ended as %+v", f.stop)
	}
}

// A pinned manifest and the objects that it names stay until they are let go (I9), over runs, while all around it is collected: each
// checkpoint has an object of its own, and one that it shares with the checkpoint before.
func TestMachine_keepsWhatIsPinned(t *testing.T) {
	f := newFlow(t, flowConfig())
	f.records, f.every = 4, 1
	made := 0
	objects := func(n int) []string { return []string{fmt.Sprintf("own/%04d", n), fmt.Sprintf("shared/%04d", n/2)} }
	f.keyed = func() *checkpoint.KeyedState {
		made++
		return &checkpoint.KeyedState{Groups: 4, Version: 1, Objects: objects(made)}
	}
	f.before = func(Event) {
		for seq := range f.log {
			for _, name := range f.stateOf(seq) {
				if slices.Contains(f.deleted, name) {
					t.Fatalf("%s is collected, and the manifest %d names it", name, seq)
				}
			}
		}
	}
	f.run()
	var pin checkpoint.Pin
	f.byHand("n2", func(m *checkpoint.Manifest) {
		pin = checkpoint.Pin{Seq: m.Kept[len(m.Kept)-1], Objects: f.stateOf(m.Kept[len(m.Kept)-1])}
		m.Pinned = []checkpoint.Pin{pin, {Seq: 90}} // what is not there is not pinned
	})
	if diff := cmp.Diff([]checkpoint.Pin{pin}, f.newest().Pinned); diff != "" {
		t.Errorf("pins of the change (-want +got):\n%s", diff)
	}
	more := func(nonce string) {
		cfg := flowConfig()
		cfg.Nonce = nonce
		f.edit = nil
		f.records += 4
		f.restart(cfg)
		f.run()
	}
	more("n3")
	more("n4")
	var there []checkpoint.Seq
	for seq := range f.log {
		if e, err := checkpoint.Decode(f.log[seq]); err == nil && e.Manifest != nil {
			there = append(there, seq)
		}
	}
	if slices.Sort(there); len(there) != 3 || there[0] != pin.Seq {
		t.Errorf("the manifests %d are there, want the pinned %d and the two newest", there, pin.Seq)
	}
	if !slices.Contains(f.deleted, fmt.Sprintf("own/%04d", made-4)) || slices.ContainsFunc(pin.Objects, func(name string) bool { return slices.Contains(f.deleted, name) }) {
		t.Errorf("collected are %q, pinned %q", f.deleted, pin.Objects)
	}
	f.byHand("n5", func(m *checkpoint.Manifest) { m.Pinned = nil })
	more("n6")
	if f.log[pin.Seq] != nil || len(f.newest().Pinned) != 0 {
		t.Errorf("the manifest %d that was let go is still there", pin.Seq)
	}
}
