package main

import (
	"os"
	"testing"
)

// A fresh checkpoint store is refused by the targets of the one before, by name, until a person adopts them: sink and dead-letter
// sink in one go, under a lease above the old ones.
func TestAdopt_leadsOnAfterTheStoreIsLost(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	h.numbers("a.ndjson", 10)
	h.run("checkpoint", "adopt", "p", "-c", "my.toml").want(t, 2, "nothing to adopt")
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("run", "-c", "my.toml").want(t, 0) // raises the lease to 2
	h.run("validate", "--connect", "-c", "my.toml").want(t, 0)
	for _, path := range []string{"data/checkpoints", "in/a.ndjson"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	h.numbers("b.ndjson", 7)
	const lead = "ingestd checkpoint adopt p --reason WHY -c my.toml"
	h.run("validate", "--connect", "-c", "my.toml").want(t, 6, "was written from another checkpoint store", "under lease 2; this store is new")
	h.run("run", "-c", "my.toml").want(t, 6, "was written from another checkpoint store", lead)
	h.run("checkpoint", "adopt", "p", "-c", "my.toml").want(t, 0, "- sink: of store ", "+ dead_letter: ", "a lease from 3 on", "nothing was changed")
	h.run("checkpoint", "adopt", "p", "--yes", "-c", "my.toml").want(t, 2, "--reason")
	h.run("checkpoint", "adopt", "p", "--yes", "--reason", "disk lost", "-c", "my.toml").want(t, 0, "taken over")
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "disk lost")
	h.run("run", "-c", "my.toml").want(t, 0)
	if rows := h.rows("out"); len(rows) != 17 {
		t.Errorf("%d rows, want 10 of the first store and 7 of the second", len(rows))
	}
}
