package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// snapshot is every file of the checkpoint store with its content.
func (h home) snapshot() string {
	h.t.Helper()
	var b strings.Builder
	err := filepath.Walk("data/checkpoints", func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || strings.HasPrefix(info.Name(), "~") || strings.Contains(path, "~") {
			return err
		}
		fmt.Fprintf(&b, "%s %q\n", path, h.read(path))
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return b.String()
}

// ran is a home in which 100 records of a topic were written to files, and the daemon stopped.
func ran(t *testing.T) (home, *broker) {
	t.Helper()
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters))
	b.produce(100)
	h.whileRunning("100 rows", func() bool { return len(h.rows("out")) == 100 })
	return h, b
}

// whileRunning runs the daemon until something holds, and stops it.
func (h home) whileRunning(what string, holds func() bool) {
	h.t.Helper()
	d := h.start("my.toml")
	eventually(h.t, what, func() bool { return strings.Contains(d.out.String(), "ingestd runs") && holds() })
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		h.t.Fatalf("got exit code %d:\n%s", code, d.out)
	}
}

func TestCheckpoint_listAndShow(t *testing.T) {
	h, _ := ran(t)
	before := h.snapshot()
	list := h.run("checkpoint", "list", "p", "-c", "my.toml")
	list.want(t, 0)
	lines := strings.Split(strings.TrimSpace(list.out), "\n")
	if !strings.HasPrefix(lines[0], "LOG  WHAT        LEASE  CHECKPOINT  TIME") || len(lines) < 3 {
		t.Fatalf("got\n%s", list.out)
	}
	last, claim := strings.Fields(lines[1]), strings.Fields(lines[len(lines)-1])
	if last[1] != "checkpoint" || last[5] != "2" || last[6] != "0" || last[7] != "0" {
		t.Errorf("the newest line is %q, want a checkpoint of 2 splits with nothing pending and no dead letters", lines[1])
	}
	if claim[1] != "claim" || !strings.Contains(lines[len(lines)-1], "process ") {
		t.Errorf("the last line is %q, want the claim and who made it", lines[len(lines)-1])
	}
	show := h.run("checkpoint", "show", "p", "-c", "my.toml")
	show.want(t, 0)
	var m struct {
		Checkpoint int
		Shards     []struct{ Splits []struct{ Offset int } }
		Counters   struct {
			Stages []struct {
				Stage string
				In    int
			}
		}
	}
	if err := json.Unmarshal([]byte(show.out), &m); err != nil {
		t.Fatal(err)
	}
	if strconv.Itoa(m.Checkpoint) != last[3] || len(m.Shards) != 2 || m.Shards[0].Splits[0].Offset+m.Shards[1].Splits[0].Offset != 100 ||
		m.Counters.Stages[0].In != 100 {
		t.Errorf("the newest checkpoint, %s of the list, is shown as\n%s", last[3], show.out)
	}
	h.run("checkpoint", "show", "p", last[0], "-c", "my.toml").want(t, 0, show.out)
	h.run("checkpoint", "show", "p", claim[0], "-c", "my.toml").want(t, 0, `"nonce"`, `"lease": 1`)
	h.run("checkpoint", "show", "p", "4711", "-c", "my.toml").want(t, 1, "no such entry")
	if h.snapshot() != before {
		t.Error("looking changed the store")
	}
}

func TestOffsets_show(t *testing.T) {
	h, _ := ran(t)
	r := h.run("offsets", "show", "p", "-c", "my.toml")
	r.want(t, 0, "SPLIT     NEXT OFFSET  UNTIL  FINISHED  LEADER EPOCH  IDENTITY", "events/0  50           –      false", "events/1  50           –      false")
}

// Without --yes the difference is shown and nothing is changed; what loses or doubles must be accepted by its name.
func TestOffsets_setShowsAndRefuses(t *testing.T) {
	h, _ := ran(t)
	before := h.snapshot()
	set := func(args ...string) result {
		return h.run(append([]string{"offsets", "set", "p", "-c", "my.toml"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"events/0=60", "--accept-loss"}, 0, "- events/0 50\n+ events/0 60\n    up to 10 records are never read\nnothing was changed; the same command with --reason and --yes does it"},
		{[]string{"events/0=60", "events/1=40", "--accept-loss", "--accept-duplicates", "--reason", "r"}, 0, "- events/1 50\n+ events/1 40\n    up to 10 records are read again\nnothing was changed"},
		{[]string{"events/0=60", "--reason", "r", "--yes"}, 2, "events/0: from 50 to 60 skips up to 10 records that were never read: it needs --accept-loss"},
		{[]string{"events/0=60", "--accept-duplicates", "--reason", "r", "--yes"}, 2, "it needs --accept-loss"},
		{[]string{"events/0=40", "--reason", "r", "--yes"}, 2, "events/0: from 50 to 40 reads up to 10 records again: it needs --accept-duplicates"},
		{[]string{"events/0=40", "--accept-loss", "--reason", "r", "--yes"}, 2, "it needs --accept-duplicates"},
		{[]string{"events/0=forget", "--reason", "r", "--yes"}, 2, "events/0: to forget a split's position may lose or double records: it needs --accept-loss"},
		{[]string{"events/7=1", "--accept-duplicates"}, 2, `the checkpoint has no split "events/7"; ingestd offsets show p -c my.toml lists them`},
		{[]string{"events/0=60", "--accept-loss", "--yes"}, 2, "nothing was changed: give a --reason"},
		{[]string{"events/0=60", "--accept-loss", "--yes", "--reason", " "}, 2, "nothing was changed: give a --reason"},
		{[]string{"events/0=50", "--reason", "r", "--yes"}, 2, "it stands at 50 already"},
	} {
		set(c.args...).want(t, c.code, c.text)
		if h.snapshot() != before {
			t.Fatalf("offsets set %q changed the store", c.args)
		}
	}
}

// A change is a checkpoint with author and reason, and the next run starts there.
func TestOffsets_setChangesWhereTheNextRunStarts(t *testing.T) {
	h, b := ran(t)
	h.run("offsets", "set", "p", "events/0=40", "events/1=60", "--accept-duplicates", "--accept-loss", "--reason", "as agreed", "--author", "jo",
		"--yes", "-c", "my.toml").want(t, 0, "- events/0 50\n+ events/0 40\n", "- events/1 50\n+ events/1 60\n", "published as log number ")
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "jo: as agreed")
	h.run("checkpoint", "show", "p", "-c", "my.toml").want(t, 0, `"author": "jo"`, `"reason": "as agreed"`)
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 0, "events/0  40 ", "events/1  60 ")
	b.produce(40) // 20 in each partition: offsets 50 to 69
	h.whileRunning("10 rows again, 20 and 10 new ones", func() bool { return len(h.rows("out")) == 140 })
	count := map[string]int{}
	for _, r := range h.rows("out") {
		count[r]++
	}
	for n := range 140 {
		want, offset := 1, n/2
		switch {
		case n%2 == 0 && offset >= 40 && offset < 50:
			want = 2
		case n%2 == 1 && offset >= 50 && offset < 60:
			want = 0
		}
		if got := count[fmt.Sprintf(`{"n":%d}`, n)]; got != want {
			t.Errorf("record %d, offset %d: %d rows, want %d", n, offset, got, want)
		}
	}
}

// Who did it is by default the user's name.
func TestOffsets_authorIsTheUser(t *testing.T) {
	h, _ := ran(t)
	h.run("offsets", "set", "p", "events/0=40", "--accept-duplicates", "--reason", "r", "--yes", "-c", "my.toml").want(t, 0)
	var m struct{ Author string }
	if err := json.Unmarshal([]byte(h.run("checkpoint", "show", "p", "-c", "my.toml").out), &m); err != nil || m.Author == "" {
		t.Errorf("got author %q, %v", m.Author, err)
	}
}

// A daemon that uses the same data directory must be stopped first; one elsewhere that uses the same store is fenced, and its exit
// code says so.
func TestOffsets_setAgainstARunningDaemon(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	text := strings.Replace(kafkaFlow(b.addr, letters), `interval = "100ms"`, `interval = "100ms", path = "shared"`, 1)
	h.write("my.toml", text)
	h.write("other.toml", strings.Replace(text, `data_dir = "data"`, `data_dir = "elsewhere"`, 1))
	b.produce(100)
	d := h.start("my.toml")
	eventually(t, "100 rows", func() bool { return len(h.rows("out")) == 100 })
	args := []string{"offsets", "set", "p", "events/0=0", "--accept-duplicates", "--reason", "r", "--yes", "-c"}
	h.run(append(args, "my.toml")...).want(t, 3, "data directory data is in use by process", "next: stop that daemon")
	eventually(t, "the change is published", func() bool { // a checkpoint may come between the look and the change
		r := h.run(append(args, "other.toml")...)
		if r.code != 0 && !strings.Contains(r.err, "a newer checkpoint was published in the meantime: look again") {
			t.Fatalf("got exit code %d: %s", r.code, r.err)
		}
		return r.code == 0
	})
	b.produce(2)
	if code := d.code(); code != 5 {
		t.Errorf("the daemon ended with %d, want 5:\n%s", code, d.out)
	}
	if out := d.out.String(); !strings.Contains(out, "ingestd checkpoint list p -c my.toml shows who claimed, and when") {
		t.Errorf("the daemon does not say what leads on:\n%s", out)
	}
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 0, "events/0  0 ")
}
