package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/sink"
)

// A committable that can't be committed any more stops every start; to give it up by hand lets the pipeline go on.
func TestDrop_leadsOnAfterPreparedRowsAreGone(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	h.numbers("a.ndjson", 10)
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("checkpoint", "drop", "p", "sink", "-c", "my.toml").want(t, 2, `nothing is pending for "sink"`)
	decide(t)
	h.run("checkpoint", "drop", "p", "nosuch", "-c", "my.toml").want(t, 2, `no sink "nosuch"`)
	h.run("checkpoint", "drop", "p", "sink", "-c", "my.toml").want(t, 0, " of lease 2, unit 0: 3 rows", "nothing was changed")
	h.run("checkpoint", "drop", "p", "sink", "--yes", "--reason", "gone", "-c", "my.toml").want(t, 2, "--accept-loss")
	h.run("checkpoint", "drop", "p", "sink", "--yes", "--reason", "gone", "--accept-loss", "-c", "my.toml").want(t, 0, "published as log number")
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "gone")
	h.run("run", "-c", "my.toml").want(t, 0)
}

// decide publishes a manifest with a committable whose rows are nowhere.
func decide(t *testing.T) {
	t.Helper()
	store, err := filestore.Open("data/checkpoints")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	env := pipeline.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: telemetry.New("test").Pipeline("p"), Who: "test",
		Random: func(b []byte) { _, _ = rand.Read(b) },
	}
	_, err = pipeline.Edit(context.Background(), &pipeline.Definition{ID: "p", Store: store}, env, pipeline.Change{
		Author: "test", Reason: "test",
		Apply: func(_ checkpoint.Seq, m checkpoint.Manifest) (checkpoint.Manifest, error) {
			for i := range m.Sinks {
				if m.Sinks[i].Name == pipeline.MainSink {
					m.Sinks[i].Pending = []sink.Committable{{Lease: 2, Checkpoint: m.Checkpoint + 1, Rows: 3, Version: 1}}
				}
			}
			return m, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}
