package checkpoint_test

import (
	"errors"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
)

// A cache keeps what was put first, for its own pipeline, in a folder of its own that fsck knows.
func TestCache_keepsWhatWasFirst(t *testing.T) {
	store := storetest.NewMemory(nil)
	c := checkpoint.NewCache(store, "p")
	if _, err := c.Get(t.Context(), "schemas/a/1"); !errors.Is(err, codec.ErrNotCached) {
		t.Errorf("got %v, want not cached", err)
	}
	for _, data := range []string{"first", "second"} {
		if err := c.Put(t.Context(), "schemas/a/1", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := checkpoint.NewCache(store, "p").Get(t.Context(), "schemas/a/1"); err != nil || string(got) != "first" {
		t.Errorf("got %q, %v, want the first", got, err)
	}
	if _, err := checkpoint.NewCache(store, "q").Get(t.Context(), "schemas/a/1"); !errors.Is(err, codec.ErrNotCached) {
		t.Errorf("another pipeline: got %v, want not cached", err)
	}
	if at := checkpoint.Locate("p", "p/cache/schemas/a/1"); at.Part != checkpoint.PartCache {
		t.Errorf("got part %q, want the cache", at.Part)
	}
	if err := c.Put(t.Context(), "../log/0/1", nil); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("a name that leads out: got %v", err)
	}
}
