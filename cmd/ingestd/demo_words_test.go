package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The demo of keyed state, cut short: the daemon dies in each step of a checkpoint, as a batch and as a stream, and every run counts
// the same as sort and uniq. On a slow machine kills may miss their step; then the demo must say so, and the counts are right still.
func TestDemoWordcount_countsAsOneUndisturbedRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes for some seconds")
	}
	t.Setenv(asDaemon, "1")
	t.Setenv("TMPDIR", t.TempDir())
	h := newHome(t)
	r := h.run("demo", "wordcount", "--lines", "20000")
	if r.code != 0 {
		r.want(t, 1, "no kill struck ")
		return
	}
	struck, right := map[string]bool{}, map[string]string{}
	for line := range strings.Lines(r.out) {
		f := strings.Fields(line)
		if len(f) > 4 && f[len(f)-1] == "struck" {
			struck[f[0]+" "+f[2]] = true
		}
		if n := len(f); n > 7 && strings.Join(f[n-4:], " ") == "0 0 0 0" { // lost, surplus, doubled, broken
			right[strings.Join(f[:n-7], " ")] = f[n-6]
		}
	}
	for _, flow := range []string{"batch", "stream"} {
		for _, step := range []string{"start", "trigger", "freeze", "prepare", "publish", "commit", "apply", "restore"} {
			if !struck[flow+" "+step] {
				t.Errorf("%s: no kill struck %s:\n%s", flow, step, r.out)
			}
		}
	}
	batch, stream := right["sort | uniq -c of the files"], right["sort | uniq -c of the topic"]
	if len(batch) < 6 || len(stream) < 6 {
		t.Errorf("got %q and %q words, want 200,000 and more:\n%s", batch, stream, r.out)
	}
	for run, want := range map[string]string{
		"batch, undisturbed": batch, "batch, killed, round 1": batch, "stream, undisturbed": stream, "stream, killed": stream,
	} {
		if right[run] != want {
			t.Errorf("%s: got %q words, want %q:\n%s", run, right[run], want, r.out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "ingestd-demo-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
