package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// once keeps the first record of each n.
const once = `[[pipeline.p.step]]
id = "once"
type = "dedup"
key = ["n"]
`

// startArgs starts the daemon with more arguments.
func (h home) startArgs(args ...string) *daemon {
	h.t.Helper()
	return h.launch(nil, append([]string{"run", "-c", "my.toml"}, args...)...)
}

// until waits for something and stops the daemon.
func (d *daemon) until(what string, holds func() bool) {
	d.t.Helper()
	eventually(d.t, what, func() bool {
		select {
		case <-d.exited:
			d.t.Fatalf("the daemon ended before: %s\n%s", what, d.out)
		default:
		}
		return strings.Contains(d.out.String(), "ingestd runs") && holds()
	})
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		d.t.Fatalf("got exit code %d:\n%s", code, d.out)
	}
}

func (h home) move(from, to string) {
	h.t.Helper()
	if err := os.Rename(from, to); err != nil {
		h.t.Fatal(err)
	}
}

func (h home) remove(path string) {
	h.t.Helper()
	if err := os.RemoveAll(path); err != nil {
		h.t.Fatal(err)
	}
}

// ones are the numbers of rows, and how often each is there, as "n" or "n twice".
func (h home) ones(folder string) map[int]int {
	h.t.Helper()
	out := map[int]int{}
	for _, row := range h.rows(folder) {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(row, `{"n":`), "}"))
		if err != nil {
			h.t.Fatal(err)
		}
		out[n]++
	}
	return out
}

// wantOnes checks that the numbers below n are there once, but those from repeated on twice.
func (h home) wantOnes(folder string, n, repeated int) {
	h.t.Helper()
	got := h.ones(folder)
	for i := range n {
		want := 1
		if i >= repeated {
			want = 2
		}
		if got[i] != want {
			h.t.Errorf("%s: row %d is there %d times, want %d", folder, i, got[i], want)
		}
	}
	if len(got) != n {
		h.t.Errorf("%s: %d numbers, want %d", folder, len(got), n)
	}
}

// All verbs on one savepoint of a pipeline with keyed state, and what they refuse.
func TestSavepoint_everyVerb(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters+once))
	h.numbers("a.ndjson", 100)
	sp := func(args ...string) result { return h.run(append([]string{"savepoint", "-c", "my.toml"}, args...)...) }
	sp("create", "p", "one").want(t, 3, "none was published yet")
	sp("list", "p").want(t, 0, "no savepoint")
	h.run("run", "-c", "my.toml").want(t, 0)
	before := h.snapshot()
	sp("create", "p", "../one").want(t, 3, "can't be a savepoint's name")
	sp("create", "p", "one", "--checkpoint", "4711").want(t, 3, "there is no such checkpoint")
	if h.snapshot() != before {
		t.Error("what was refused changed the store")
	}
	sp("create", "p", "one", "--reason", "to see").want(t, 0, "savepoint one is made: checkpoint ")
	sp("create", "p", "one").want(t, 3, "there is a savepoint of this name")
	sp("list", "p").want(t, 0, "NAME  MADE", "one   2", ": to see")
	sp("show", "p", "one").want(t, 0, "a.ndjson next offset", "count       step:once: in 100, out 100", "state       256 key groups, 1 objects", "sink: committed up to checkpoint ",
		`type = "dedup"`)
	sp("verify", "p", "one").want(t, 0, "savepoint one is whole: 3 objects")
	sp("show", "p", "two").want(t, 3, "savepoint two: ", "there is no savepoint")
	sp("export", "p", "one", "one.tar").want(t, 0, "is written to one.tar")
	sp("export", "p", "one", "one.tar").want(t, 1, "file already exists")
	sp("verify", "./one.tar").want(t, 0, "savepoint one is whole")
	sp("show", "data/checkpoints/p/savepoints/one").want(t, 0, "savepoint   one, 3 objects")
	sp("show", "one").want(t, 2, "is no path")
	sp("import", "p", "one.tar").want(t, 3, "there is a savepoint of this name")
	sp("import", "p", "one.tar", "--name", "two").want(t, 0, "savepoint two is there")
	sp("delete", "p", "one").want(t, 0, "would be deleted")
	sp("delete", "p", "one", "--yes").want(t, 0, "savepoint one is deleted")
	sp("delete", "p", "one", "--yes").want(t, 2, `there is no savepoint "one"`)
	sp("verify", "p", "two").want(t, 0, "savepoint two is whole")
	if left, err := filepath.Glob("data/checkpoints/p/savepoints/one/*/*"); err != nil || len(left) > 0 {
		t.Errorf("left of the deleted savepoint: %q, %v", left, err)
	}
	h.run("run", "-c", "my.toml", "--id", "x").want(t, 2, "go with --from")
	h.run("run", "-c", "my.toml", "--from", "two", "--map", "events:other").want(t, 2, "want topic=OLD:NEW")
	h.run("run", "-c", "my.toml", "--from", "three").want(t, 3, "savepoint three: ")
	h.run("run", "-c", "my.toml", "--from", "two").want(t, 0, "goes on from a savepoint") // nothing was read since
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "restored from savepoint two, checkpoint ")
	h.wantOnes("out", 100, 100)
}

// The config of a savepoint has no secret: what only its owner may know stays in the file.
func TestSavepoint_configWithoutSecrets(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	text := strings.Replace(kafkaFlow(b.addr, letters), `topics = ["events"]`, `topics = ["events"], sasl = { mechanism = "PLAIN", username = "me", password = "hunter2" }`, 1)
	h.write("my.toml", kafkaFlow(b.addr, letters))
	b.produce(1)
	h.whileRunning("a row", func() bool { return len(h.rows("out")) == 1 })
	h.write("my.toml", text)
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	show := h.run("savepoint", "show", "p", "one", "-c", "my.toml")
	show.want(t, 0, `username = "me"`, `password = "(hidden)"`)
	err := filepath.Walk("data/checkpoints/p/savepoints", func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.Contains(h.read(path), "hunter2") {
			t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A damaged or missing object of a savepoint is named, and nothing is restored from it.
func TestSavepoint_damageIsNamed(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters+once))
	h.numbers("a.ndjson", 10)
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	objects, err := filepath.Glob("data/checkpoints/p/savepoints/one/*/state/0/*/*")
	if err != nil || len(objects) != 1 {
		t.Fatalf("objects of state: %q, %v", objects, err)
	}
	whole, before := h.read(objects[0]), h.run("checkpoint", "list", "p", "-c", "my.toml").out
	damage := func(text string) {
		t.Helper()
		h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 6, text)
		h.run("savepoint", "export", "p", "one", "one.tar", "-c", "my.toml").want(t, 6, text)
		h.run("run", "--from", "one", "-c", "my.toml").want(t, 6, text)
		if left, err := filepath.Glob("*one.tar*"); err != nil || len(left) > 0 {
			t.Errorf("the export left %q, %v", left, err)
		}
		if h.run("checkpoint", "list", "p", "-c", "my.toml").out != before {
			t.Error("the log changed")
		}
	}
	h.remove(objects[0])
	damage("is missing")
	if err := os.MkdirAll(filepath.Dir(objects[0]), 0o750); err != nil { // a store removes empty folders
		t.Fatal(err)
	}
	h.write(objects[0], whole[:len(whole)-1]+"?")
	damage("has the checksum")
	h.write(objects[0], whole[:len(whole)-1])
	damage("bytes, want ")
	h.write(objects[0], whole)
	h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 0)
	index := "data/checkpoints/p/savepoints/one/index"
	h.write(index, strings.Replace(h.read(index), "lease", "least", 1))
	h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 6, "index: ")
	h.run("savepoint", "list", "p", "-c", "my.toml").want(t, 6, "savepoint one: ")
}

// What the making of a savepoint leaves that is killed is no savepoint, is not in the way of the next, and can be deleted.
func TestSavepoint_makingThatDied(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters+once))
	h.numbers("a.ndjson", 10)
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.remove("data/checkpoints/p/savepoints/one/index") // it is written last
	h.run("savepoint", "list", "p", "-c", "my.toml").want(t, 0, "one   incomplete")
	h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 3, "there is no savepoint")
	h.run("run", "--from", "one", "-c", "my.toml").want(t, 3, "there is no savepoint")
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 0, "is whole")
	h.run("savepoint", "delete", "p", "one", "--yes", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "list", "p", "-c", "my.toml").want(t, 0, "no savepoint")
}

// Back to a savepoint in the same store: positions and state are those of then. What was written since stays and is written again, which
// must be accepted, and is counted by split.
func TestRunFrom_repeatsMustBeAccepted(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters+once))
	b.produce(100)
	h.startArgs().until("100 rows", func() bool { return len(h.rows("out")) == 100 })
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	b.produce(50)
	h.startArgs().until("150 rows", func() bool { return len(h.rows("out")) == 150 })
	before := h.snapshot()
	h.run("run", "--from", "one", "-c", "my.toml").want(t, 3, "events/0 from 50 to 75: up to 25 records", "events/1 from 50 to 75: up to 25 records",
		"counted since then: source 50, sink 50", "--accept-repeats")
	if h.snapshot() != before {
		t.Error("what was refused changed the store")
	}
	h.write("my.toml", strings.Replace(h.read("my.toml"), "tasks = 1", "tasks = 3", 1))
	d := h.startArgs("--from", "one", "--accept-repeats")
	eventually(t, "200 rows", func() bool { return len(h.rows("out")) == 200 })
	b.n = 0
	b.produce(160) // 150 of them are in the state now
	d.until("10 rows more", func() bool { return len(h.rows("out")) == 210 })
	if out := d.out.String(); !strings.Contains(out, "read again") || !strings.Contains(out, "events/0 from 50 to 75") {
		t.Errorf("the log does not tell what is read again:\n%s", out)
	}
	h.startArgs().until("it goes on without --from", func() bool { return true })
	got := h.ones("out")
	for i := range 160 {
		want := 1
		if i >= 100 && i < 150 {
			want = 2
		}
		if got[i] != want {
			t.Errorf("row %d is there %d times, want %d", i, got[i], want)
		}
	}
}

// A copy beside a living original needs an id and targets of its own. It has the original's positions and state; both go on.
func TestRunFrom_copyBesideTheOriginal(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	original := kafkaFlow(b.addr, letters+once)
	h.write("my.toml", original)
	b.produce(100)
	h.startArgs().until("100 rows", func() bool { return len(h.rows("out")) == 100 })
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "export", "p", "one", "one.tar", "-c", "my.toml").want(t, 0)
	elsewhere := strings.Replace(strings.Replace(original, `data_dir = "data"`, `data_dir = "data2"`, 1), "tasks = 1", "tasks = 2", 1)
	from := func(text string, args ...string) result {
		h.write("my.toml", text)
		return h.run(append([]string{"run", "-c", "my.toml", "--from", "./one.tar"}, args...)...)
	}
	from(elsewhere, "--accept-repeats").want(t, 6, "was written from another checkpoint store")
	withID := strings.Replace(elsewhere, "[pipeline.p]\n", "[pipeline.p]\nid = \"q\"\n", 1)
	from(withID).want(t, 3, "a copy beside the original", "--fresh-sinks --id q")
	from(withID, "--fresh-sinks", "--id", "x").want(t, 3, `set id = "x" in the config`)
	from(elsewhere, "--fresh-sinks", "--id", "p").want(t, 3, "fresh sinks need a pipeline ID of their own")
	from(withID, "--fresh-sinks", "--id", "q").want(t, 3, `sink "sink" is not fresh: pipeline "p" has written to its target`)
	fresh := strings.Replace(strings.Replace(withID, `"out"`, `"out2"`, 1), `"letters"`, `"letters2"`, 1)
	h.write("my.toml", fresh)
	b.n = 90
	b.produce(30) // 20 are new
	h.startArgs("--from", "./one.tar", "--fresh-sinks", "--id", "q").until("20 rows", func() bool { return len(h.rows("out2")) == 20 })
	from(fresh, "--fresh-sinks", "--id", "q").want(t, 3, "is not fresh")
	h.write("my.toml", original)
	h.startArgs().until("120 rows", func() bool { return len(h.rows("out")) == 120 })
	h.wantOnes("out", 120, 120)
	for i, n := range h.ones("out2") {
		if i < 100 || i >= 120 || n != 1 {
			t.Errorf("the copy wrote row %d %d times", i, n)
		}
	}
}

// A pipeline that moves for good takes its targets along: they are adopted first.
func TestRunFrom_moveToAnotherStore(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters+once))
	b.produce(100)
	h.startArgs().until("100 rows", func() bool { return len(h.rows("out")) == 100 })
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.move("data/checkpoints/p/savepoints/one", "moved")
	h.remove("data")
	h.run("run", "--from", "./moved", "-c", "my.toml").want(t, 6, "was written from another checkpoint store", "adopt")
	h.run("checkpoint", "adopt", "p", "--reason", "moved", "--yes", "-c", "my.toml").want(t, 0)
	h.run("run", "--from", "./moved", "-c", "my.toml").want(t, 3, "what the original wrote since is in its own store", "--accept-repeats")
	b.n = 0
	b.produce(110)
	h.startArgs("--from", "./moved", "--accept-repeats").until("10 rows more", func() bool { return len(h.rows("out")) == 110 })
	h.wantOnes("out", 110, 110)
}

// Topics that are called otherwise now, or were made again, are named by --map.
func TestRunFrom_mapsTopics(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters+once))
	b.produce(100)
	h.startArgs().until("100 rows", func() bool { return len(h.rows("out")) == 100 })
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "other", 2, 1
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(t.Context(), b.client); err != nil {
		t.Fatal(err)
	}
	h.write("my.toml", strings.Replace(h.read("my.toml"), `topics = ["events"]`, `topics = ["other"]`, 1))
	h.run("run", "--from", "one", "--map", "topic=nosuch:other", "-c", "my.toml").want(t, 3, `no split of topic "nosuch"`)
	h.run("run", "--from", "one", "--map", "topic=events:third", "-c", "my.toml").want(t, 3, "split third/0 was events/0 in the savepoint, and the source has no such split")
	b.produceTo("other", 120)
	h.write("other.toml", h.read("my.toml"))
	h.write("my.toml", kafkaFlow(b.addr, letters+once))
	b.n = 0
	b.produce(10) // under the old name; nothing of it passes
	h.startArgs().until("10 records more", func() bool {
		return strings.Contains(h.run("offsets", "show", "p", "-c", "my.toml").out, "events/0  55")
	})
	h.write("my.toml", h.read("other.toml"))
	h.run("run", "--from", "one", "--map", "topic=events:other", "-c", "my.toml").want(t, 3, "other/0 from 50 to 55: up to 5 records", "--accept-repeats")
	h.startArgs("--from", "one", "--map", "topic=events:other", "--accept-repeats").until("20 rows more", func() bool { return len(h.rows("out")) == 120 })
	h.wantOnes("out", 120, 120)
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 0, "other/0  60", "other/1  60")
}

// A savepoint of a pipeline that runs: the daemon cuts a checkpoint for it, at which files are ended that are open, and goes on.
func TestSavepoint_whileRunning(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", strings.Replace(listening(kafkaFlow(b.addr, letters+once), addr), ", roll = { every_checkpoint = true }", "", 1))
	b.produce(100)
	d := h.startArgs()
	eventually(t, "100 rows are held", func() bool {
		_, body := get(t, addr, "/metrics")
		return strings.Contains(body, `ingestd_sink_prepared_rows_total{pipeline="p",sink="sink"} 100`)
	})
	if n := len(h.rows("out")); n != 0 {
		t.Fatalf("%d rows are visible, want none: their file is open", n)
	}
	h.run("savepoint", "create", "p", "one", "--reason", "live", "-c", "my.toml").want(t, 0, "savepoint one is made: checkpoint ")
	if n := len(h.rows("out")); n != 100 {
		t.Errorf("%d rows are visible, want the 100 of the savepoint", n)
	}
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 3, "there is a savepoint of this name")
	h.run("savepoint", "create", "p", "two", "-c", "my.toml").want(t, 0) // nothing new to say
	h.run("savepoint", "verify", "p", "two", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "show", "p", "one", "-c", "my.toml").want(t, 0, "events/0 next offset 50", "count       step:once: in 100, out 100", ": live")
	b.produce(50)
	read := func() bool {
		out := h.run("offsets", "show", "p", "-c", "my.toml").out
		return strings.Contains(out, "events/0  75") && strings.Contains(out, "events/1  75")
	}
	eventually(t, "a checkpoint with 50 rows that are held", read)
	d.signal(syscall.SIGKILL)
	d.code()
	h.run("savepoint", "create", "p", "three", "-c", "my.toml").want(t, 3, `sink "sink": 50 rows are held back`, "stop it by SIGTERM")
	d = h.startArgs("--from", "one", "--accept-repeats")
	d.until("all is read again", func() bool { return strings.Contains(d.out.String(), "goes on from a savepoint") && read() })
	h.wantOnes("out", 150, 100)
}

// A sink that does not commit keeps a savepoint of a running pipeline from being made, in the time that it may take; nothing is left of
// it, and the pipeline goes on.
func TestSavepoint_timeout(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", listening(kafkaFlow(b.addr, letters), addr))
	d := h.startArgs()
	undo := h.spoil()
	b.produce(10)
	eventually(t, "rows wait for their commit", func() bool {
		_, body := get(t, addr, "/metrics")
		return strings.Contains(body, `ingestd_sink_prepared_rows_total{pipeline="p",sink="sink"} 10`)
	})
	h.run("savepoint", "create", "p", "one", "--timeout", "1s", "-c", "my.toml").want(t, 1, "given up: ", "no savepoint in 1s")
	h.run("savepoint", "create", "nosuch", "one", "-c", "my.toml").want(t, 2, `no pipeline "nosuch"`)
	undo()
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	d.until("10 rows", func() bool { return len(h.rows("out")) == 10 })
	h.run("savepoint", "list", "p", "-c", "my.toml").want(t, 0, "one ")
}

// Only a command on this machine may ask a daemon for a savepoint: not a page in a browser, and nobody from outside.
func TestSavepoint_onlyThisMachineMayAsk(t *testing.T) {
	h, b, addr := newHome(t), newBroker(t), freePort(t)
	h.write("my.toml", listening(kafkaFlow(b.addr, letters), addr))
	h.startArgs()
	eventually(t, "the daemon runs", func() bool { code, _ := get(t, addr, "/readyz"); return code == 200 })
	ask := func(host, header, body string) int { return post(t, addr, asking{host, header, body}) }
	whole := `{"pipeline":"p","name":"one","timeout":5000000000}`
	for what, c := range map[string]struct {
		host, header, body string
		want               int
	}{
		"no header":      {addr, "", whole, 403},
		"another name":   {"evil.example:80", "x", whole, 403},
		"no JSON":        {addr, "x", "name=one", 400},
		"no timeout":     {addr, "x", `{"pipeline":"p","name":"one"}`, 400},
		"as it is meant": {addr, "x", whole, 200},
	} {
		if got := ask(c.host, c.header, c.body); got != c.want {
			t.Errorf("%s: got %d, want %d", what, got, c.want)
		}
	}
	if code, _ := get(t, addr, "/savepoints"); code != 405 {
		t.Errorf("GET: got %d, want 405", code)
	}
}

// A kept checkpoint can be copied beside a daemon that runs, without asking it.
func TestSavepoint_ofAKeptCheckpointBesideADaemon(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters+once))
	b.produce(10)
	d := h.startArgs()
	eventually(t, "10 rows", func() bool { return len(h.rows("out")) == 10 })
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 3, "is in use by process", "--checkpoint")
	eventually(t, "the newest checkpoint is known committed", func() bool {
		newest := strings.Fields(strings.Split(h.run("checkpoint", "list", "p", "-c", "my.toml").out, "\n")[1])[0]
		return h.run("savepoint", "create", "p", "one", "--checkpoint", newest, "-c", "my.toml").code == 0
	})
	d.until("it runs on", func() bool { return true })
	h.run("savepoint", "verify", "p", "one", "-c", "my.toml").want(t, 0)
}

// asking is a request to a daemon's listener.
type asking struct{ host, header, body string }

// post returns the status of a request for a savepoint.
func post(t *testing.T, addr string, q asking) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/savepoints", strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = q.host
	if q.header != "" {
		req.Header.Set("Ingestd-Request", q.header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// produceTo appends records {"n":0} and on to a topic, in turn to both partitions.
func (b *broker) produceTo(topic string, n int) {
	b.t.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// With several pipelines one is named, and the others start as always. Files that were moved are named by --map.
func TestRunFrom_oneOfSeveralWithMovedFiles(t *testing.T) {
	h := newHome(t)
	two := strings.ReplaceAll(flow(letters), "pipeline.p", "pipeline.other")
	two = strings.NewReplacer(`"out"`, `"out2"`, `"letters"`, `"letters2"`).Replace(two[strings.Index(two, "[pipeline"):])
	h.write("my.toml", flow(letters+once)+two)
	h.numbers("a.ndjson", 20)
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.run("run", "--from", "one", "-c", "my.toml").want(t, 2, `say by --pipeline which one goes on from the savepoint: ["p" "other"]`)
	h.run("run", "--from", "one", "--pipeline", "p", "-c", "my.toml").want(t, 0, "goes on from a savepoint")
	h.move("in", "moved")
	h.write("my.toml", strings.ReplaceAll(h.read("my.toml"), `"in/*.ndjson"`, `"moved/*.ndjson"`))
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	paths := "path=" + dir + "/in:" + dir + "/moved"
	h.run("run", "--from", "one", "--pipeline", "p", "--map", paths, "-c", "my.toml").want(t, 0, "goes on from a savepoint")
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 0, dir+"/moved/a.ndjson")
	if h.wantOnes("out", 20, 20); len(h.rows("out2")) != 20 {
		t.Errorf("the other pipeline wrote %d rows, want 20", len(h.rows("out2")))
	}
}
