package pipeline

import (
	"testing"

	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/internal/telemetry"
)

// cachingCodec is a decoder that keeps something.
type cachingCodec struct {
	codec.Factory
	cache codec.Cache
}

func (c *cachingCodec) UseCache(cache codec.Cache) { c.cache = cache }

// Decoders that keep something get the pipeline's folder of the store, those of tables too, before anything runs.
func TestSupervisor_sharesTheCache(t *testing.T) {
	store := storetest.NewMemory(nil)
	var stream, table, key cachingCodec
	def := &Definition{Name: "p", ID: "p", Codec: &stream, Tables: []Table{{Codec: &table, KeyCodec: &key}}, Store: store}
	NewSupervisor(def, Env{Metrics: telemetry.New("test").Pipeline("p")})
	if err := stream.cache.Put(t.Context(), "x", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []codec.Cache{table.cache, key.cache} {
		if got, err := c.Get(t.Context(), "x"); err != nil || string(got) != "kept" {
			t.Errorf("got %q, %v, want what the other decoder has kept", got, err)
		}
	}
	if _, err := store.Get(t.Context(), "p/cache/x"); err != nil {
		t.Error(err)
	}
}
