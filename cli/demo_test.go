package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

// rowFile writes events as a file of rows.
func rowFile(t *testing.T, path string, events ...event) {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The count is independent of the daemon: each number, its text and its checksum; only what a reader of the folder sees.
func TestTally_countsWhatAReaderSees(t *testing.T) {
	dir := t.TempDir()
	broken := eventOf(3)
	broken.Text += "x"
	rowFile(t, filepath.Join(dir, "a.ndjson"), eventOf(0), eventOf(1), eventOf(1), broken)
	rowFile(t, filepath.Join(dir, "b.ndjson"), eventOf(1), eventOf(4), eventOf(7)) // 7 was never produced
	rowFile(t, filepath.Join(dir, ".ingestd", "x", "c.ndjson"), eventOf(2))
	rowFile(t, filepath.Join(dir, "_committed", "d.ndjson"), eventOf(2))
	if err := os.WriteFile(filepath.Join(dir, "e.ndjson"), []byte("{\"number\":2,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := tally{produced: 5}
	for range 2 { // it may be asked again
		if err := got.count(dir); err != nil {
			t.Fatal(err)
		}
	}
	if want := (tally{produced: 5, found: 8, lost: 2, doubled: 2, altered: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.count(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there counts as an empty one")
	}
}

// The demo fails when a promise is broken, and when the control shows that the kills proved nothing.
func TestVerdict_failsUnlessBothArmsAreRight(t *testing.T) {
	least, once := tally{delivery: config.AtLeastOnce, doubled: 3}, tally{delivery: config.ExactlyOnce}
	if err := verdict([]tally{least, once}); err != nil {
		t.Errorf("got %v, want success", err)
	}
	for name, spoil := range map[string]func(least, once *tally){
		"at-least-once: 1 lost":           func(least, _ *tally) { least.lost = 1 },
		"at-least-once: 0 lost, 1 alter":  func(least, _ *tally) { least.altered = 1 },
		"at-least-once showed no duplica": func(least, _ *tally) { least.doubled = 0 },
		"exactly-once: 2 lost":            func(_, once *tally) { once.lost = 2 },
		"exactly-once: 1 doubled":         func(_, once *tally) { once.doubled = 1 },
		"exactly-once: 0 lost, 4 altered": func(_, once *tally) { once.altered = 4 },
	} {
		a, b := least, once
		spoil(&a, &b)
		if err := verdict([]tally{a, b}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}
