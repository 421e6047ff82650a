package cli

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/record"
)

// A run that was alive may remove a checkpoint while it is being pinned: the verb then says so, whatever of it is gone.
func TestPinning_noticesWhatWentAway(t *testing.T) {
	const manifest, object = "p/log/0/0000000000000002", "p/state/0/1/d1"
	for _, gone := range []string{"", manifest, object} {
		store := storetest.NewMemory(nil)
		entry, err := checkpoint.Encode(checkpoint.Entry{Manifest: &checkpoint.Manifest{
			StoreID: "0123456789abcdef", Pipeline: "p", Lease: 1, Checkpoint: 1, ConfigDigest: "sha256:1", Time: 1,
			Shards: []checkpoint.Shard{{ID: checkpoint.StateShard, Epoch: 1, Status: checkpoint.ShardOwned, State: &checkpoint.KeyedState{
				Groups: 1, Version: 1, Data: []byte(`{}`), Objects: []string{"state/0/1/d1"},
			}}},
			Sinks: []checkpoint.SinkState{{Name: "sink"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{manifest: entry, object: []byte("x")} {
			if name == gone {
				continue
			}
			if err := store.Create(t.Context(), name, data); err != nil {
				t.Fatal(err)
			}
		}
		p := pinning{pipeline: "p", seq: 2}
		err = p.stays(t.Context(), &pipeline.Definition{ID: "p", Store: store})
		switch {
		case gone == "" && err != nil:
			t.Errorf("all is there: got %v", err)
		case gone != "" && (err == nil || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), "checkpoint unpin p 2")):
			t.Errorf("%s is gone: got %v", gone, err)
		}
	}
	if checkpoint.EntryName("p", record.Lane(0), 2) != manifest {
		t.Error("the test's name of the entry is wrong")
	}
}
