package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
)

// keyedFlow is a flow from a topic with a step that counts the numbers by their key; columns say how.
func keyedFlow(b *broker, columns string) string {
	text := strings.Replace(kafkaFlow(b.addr, letters), `columns = { n = "int64" }`, `columns = { n = "int64", digit = "string" }`, 1)
	return strings.Replace(text, `interval = "100ms"`, `interval = "100ms", keep = 50`, 1) + fmt.Sprintf(`
[[pipeline.p.step]]
id = "counts"
type = "aggregate"
key = ["digit"]
columns = { %s }
emit = "update"
`, columns)
}

// digits produces the numbers from a first one on, with their last digit.
func (b *broker) digits(from, n int) {
	b.t.Helper()
	var records []*kgo.Record
	for i := from; i < from+n; i++ {
		records = append(records, &kgo.Record{Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"n":%d,"digit":"d%d"}`, i, i%10)})
	}
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// until runs the daemon until so many records were read since the pipeline began, and stops it.
func (h home) until(records int, args ...string) {
	h.t.Helper()
	d := h.launch(nil, append([]string{"run", "-c", "my.toml"}, args...)...)
	eventually(h.t, fmt.Sprint(records, " records are read"), func() bool {
		var m checkpoint.Manifest
		r := h.run("checkpoint", "show", "p", "-c", "my.toml")
		return r.code == 0 && json.Unmarshal([]byte(r.out), &m) == nil && m.Counters.Stages[0].In == int64(records)
	})
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		h.t.Errorf("got exit code %d, want 0:\n%s", code, d.out)
	}
}

// objects reads lines of JSON.
func (r result) objects(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(r.out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, v)
	}
	return out
}

// newestLog returns the number of the newest checkpoint.
func (h home) newestLog() string {
	h.t.Helper()
	stats := h.run("state", "stats", "p", "-c", "my.toml").objects(h.t)
	return fmt.Sprint(stats[0]["log"])
}

func TestState_verbsShowWhatIsKept(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", keyedFlow(b, `many = "count()", total = "sum(n)"`))
	h.run("state", "ls", "p", "-c", "my.toml").want(t, 1, "no such checkpoint")
	b.digits(0, 100)
	h.until(100)
	first := h.newestLog()
	b.digits(103, 1)
	h.until(101)

	ls := h.run("state", "ls", "p", "-c", "my.toml")
	ls.want(t, 0, `"state":"key","kind":"value","type":"key of digit string"`, `"type":"no window: count(), sum(int64)"`)
	scan := h.run("state", "scan", "p", "-c", "my.toml")
	scan.want(t, 0)
	got := map[string]string{}
	for _, e := range scan.objects(t) {
		got[e["key"].(map[string]any)["digit"].(string)] = fmt.Sprint(e["value"])
	}
	want := map[string]string{}
	for d := range 10 {
		want[fmt.Sprint("d", d)] = fmt.Sprintf("[10 %d]", 450+10*d)
	}
	want["d3"] = "[11 583]"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	h.run("state", "get", "p", "d3", "-c", "my.toml").want(t, 0, `"key":{"digit":"d3"},"value":[11,583]}`)
	h.run("state", "get", "p", `{"digit": "d3"}`, "-c", "my.toml").want(t, 0, `"value":[11,583]`)
	h.run("state", "get", "p", "d3", first, "-c", "my.toml").want(t, 0, `"value":[10,480]`)
	h.run("state", "get", "p", "nosuch", "-c", "my.toml").want(t, 1, "nothing is kept of the key nosuch")
	h.run("state", "diff", "p", first, "-c", "my.toml").want(t, 0, `{"change":"changed","before":{`, `"value":[10,480]}`, `"value":[11,583]}`)
	if r := h.run("state", "diff", "p", first, first, "-c", "my.toml"); r.code != 0 || r.out != "" {
		t.Errorf("a checkpoint differs from itself: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	stats := h.run("state", "stats", "p", "-c", "my.toml").objects(t)
	if len(stats) != 2 || stats[1]["entries"] != 10.0 || stats[1]["keys"] != 10.0 {
		t.Errorf("got the stats %v, want 10 entries", stats)
	}
	if lines := h.run("state", "scan", "p", "--limit", "3", "-c", "my.toml").objects(t); len(lines) != 3 {
		t.Errorf("got %d lines, want 3", len(lines))
	}
	if lines := h.run("state", "scan", "p", "--step", "other", "-c", "my.toml").objects(t); len(lines) != 0 {
		t.Errorf("got %d lines of another step, want none", len(lines))
	}
	h.run("state", "export", "p", "--out", "state.ndjson", "-c", "my.toml").want(t, 0)
	if n := strings.Count(h.read("state.ndjson"), `"stored_key":"`); n != 10 {
		t.Errorf("the export has %d entries, want 10", n)
	}
	h.run("state", "export", "p", "--out", "state.ndjson", "-c", "my.toml").want(t, 2, "exists")
	h.run("checkpoint", "diff", "p", first, "-c", "my.toml").want(t, 0, " of lease 2, log number ", "stage         source in: 100 → 101  +1\n",
		"stage         step:counts made: ", "split         events/1: 50 → 51  +1\n", "sink          sink: committed up to checkpoint", "state         newest delta: ")
	h.run("checkpoint", "diff", "p", "1", "-c", "my.toml").want(t, 1, "no such checkpoint")

	h.run("savepoint", "create", "p", "one", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "export", "p", "one", "one.tar", "-c", "my.toml").want(t, 0)
	for _, which := range []string{"one", "./one.tar"} {
		h.run("state", "get", "p", "d3", "--savepoint", which, "-c", "my.toml").want(t, 0, `"value":[11,583]`)
		h.run("state", "diff", "p", first, "--savepoint", which, "-c", "my.toml").want(t, 0, `"value":[10,480]}`, `"value":[11,583]}`)
	}
	h.run("state", "scan", "p", "4", "--savepoint", "one", "-c", "my.toml").want(t, 2, "a savepoint has no log number")
	h.run("state", "scan", "p", "--savepoint", "nosuch", "-c", "my.toml").want(t, 3, "there is no savepoint")

	h.run("state", "scan", "p", "1", "-c", "my.toml").want(t, 2, "log number 1 is a claim")
	h.run("state", "scan", "p", "999", "-c", "my.toml").want(t, 1, "no such checkpoint")
	h.run("state", "scan", "p", "x", "-c", "my.toml").want(t, 2, `"x" is no log number`)
	h.run("state", "scan", "p", "--group", "70000", "-c", "my.toml").want(t, 2, "no key group 70000")
	h.run("state", "nosuch").want(t, 2, "unknown command")
}

// A look at the newest checkpoint goes well beside a daemon that publishes and collects without pause.
func TestState_besideADaemonThatRuns(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(keyedFlow(b, `many = "count()"`), `interval = "100ms", keep = 50`, `interval = "10ms", keep = 1`, 1))
	b.digits(0, 10)
	d := h.start("my.toml")
	eventually(t, "the first counts", func() bool { return h.run("state", "get", "p", "d9", "-c", "my.toml").code == 0 })
	for i := range 20 {
		b.digits(1000*i, 100)
		h.run("state", "scan", "p", "-c", "my.toml").want(t, 0, `"digit":"d9"`)
		h.run("fsck", "p", "-c", "my.toml").want(t, 0)
	}
	d.signal(syscall.SIGTERM)
	if code := d.code(); code != 0 {
		t.Errorf("got exit code %d, want 0:\n%s", code, d.out)
	}
}

// A look touches neither the pipeline's own database nor the store, and leaves nothing in its temporary folder.
func TestState_looksChangeNothing(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", keyedFlow(b, `many = "count()"`))
	b.digits(0, 50)
	h.until(50)
	if err := os.Mkdir("temp", 0o700); err != nil {
		t.Fatal(err)
	}
	before := files(t, "data")
	for _, verb := range []string{"scan", "stats", "export"} {
		h.run("state", verb, "p", "--temp-dir", "temp", "-c", "my.toml").want(t, 0)
	}
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "orphans: 0")
	if diff := cmp.Diff(before, files(t, "data")); diff != "" {
		t.Errorf("files of the data directory (-before +after):\n%s", diff)
	}
	if left := files(t, "temp"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	h.run("state", "scan", "p", "--temp-dir", "nosuch", "-c", "my.toml").want(t, 1, "nosuch")
}

// files returns what is below a folder, with its bytes. The store's own marks of who uses it are not its content.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || strings.Contains(path, "/.") {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A changed step refuses state that it can't read; giving it up once leads on, with nothing kept of before.
func TestRun_discardStateLeadsOnAfterAStepHasChanged(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", keyedFlow(b, `many = "count()"`))
	b.digits(0, 50)
	h.until(50)
	h.write("my.toml", keyedFlow(b, `total = "sum(n)"`))
	b.digits(1000, 10)
	h.run("run", "-c", "my.toml").want(t, 3, "the stored state is value of no window: count()", "a new id", "--discard-state counts")
	h.run("run", "--discard-state", "nosuch/counts", "-c", "my.toml").want(t, 2, `there is no pipeline "nosuch"`)
	h.until(60, "--discard-state", "counts")
	if n := len(h.run("state", "scan", "p", "-c", "my.toml").objects(t)); n != 10 {
		t.Errorf("%d entries are kept, want the 10 since", n)
	}
	h.run("state", "ls", "p", "-c", "my.toml").want(t, 0, `"discarded":true`)
	b.digits(2000, 10)
	h.until(70)
	h.write("my.toml", flow(letters))
	h.run("run", "--discard-state", "counts", "-c", "my.toml").want(t, 2, `the pipeline "p" has no keyed step`)
}

// What is corrupt, missing or named by nothing is found; repair removes only the last, and the pipeline goes on.
func TestFsck_findsDamageAndRemovesOrphans(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", keyedFlow(b, `many = "count()"`))
	h.run("fsck", "p", "-c", "my.toml").want(t, 6, "missing")
	b.digits(0, 50)
	h.until(50)
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "1 claims", "orphans: 0")
	deltas, err := filepath.Glob("data/checkpoints/p/state/0/*/d*")
	if err != nil || len(deltas) == 0 {
		t.Fatalf("deltas: %v, %v", deltas, err)
	}
	whole := h.read(deltas[0])
	spoiled := []byte(whole)
	spoiled[len(spoiled)/2] ^= 1
	h.replace(deltas[0], string(spoiled))
	h.run("fsck", "p", "-c", "my.toml").want(t, 6, "corrupt  p/state/0/", "its checksum is", "put it back from a copy")
	h.run("fsck", "p", "--repair", "-c", "my.toml").want(t, 6, "corrupt  p/state/0/")
	h.run("state", "scan", "p", "-c", "my.toml").want(t, 6, filepath.Base(deltas[0]))
	if err := os.Remove(deltas[0]); err != nil {
		t.Fatal(err)
	}
	h.run("fsck", "p", "-c", "my.toml").want(t, 6, "missing  p/state/0/", "it is not there; the checkpoints with the log numbers")
	h.replace(deltas[0], whole)

	h.write("data/checkpoints/p/state/0/0000000000000001/d9999999999999999", "left")
	h.write("data/checkpoints/p/notes.txt", "mine")
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "note     p/notes.txt", "orphans: 0") // the newest checkpoint is of this lease
	if left := h.run("fsck", "p", "--repair", "-c", "my.toml"); !strings.Contains(left.out, "removed 1 objects that nothing names") {
		t.Errorf("got exit code %d\n%s%s", left.code, left.out, left.err)
	}
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "fsck --repair")
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "2 claims", "orphans: 0")
	if _, err := os.Stat("data/checkpoints/p/notes.txt"); err != nil {
		t.Errorf("what is not ingestd's is gone: %v", err)
	}
	before := h.run("state", "scan", "p", "-c", "my.toml").out
	if err := os.RemoveAll("data/state"); err != nil {
		t.Fatal(err)
	}
	b.digits(1000, 10)
	h.until(60)
	after := h.run("state", "scan", "p", "-c", "my.toml").out
	if want := strings.ReplaceAll(before, `"value":[5]`, `"value":[6]`); !slices.Equal(strings.Split(want, "\n"), strings.Split(after, "\n")) {
		t.Errorf("after the repair and a lost disk: got\n%swant\n%s", after, want)
	}
}

// A pinned checkpoint stays with its state while newer ones come and go, until it is let go.
func TestPin_keepsACheckpoint(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(keyedFlow(b, `many = "count()"`), "keep = 50", "keep = 1", 1))
	b.digits(0, 10)
	h.until(10)
	first := h.newestLog()
	h.run("checkpoint", "pin", "p", "1", "-c", "my.toml").want(t, 2, "is no checkpoint")
	h.run("checkpoint", "pin", "p", "999", "-c", "my.toml").want(t, 2, "is no checkpoint")
	h.run("checkpoint", "unpin", "p", first, "-c", "my.toml").want(t, 2, "is not pinned")
	h.run("checkpoint", "pin", "p", first, "--reason", "before the change", "-c", "my.toml").want(t, 0, "published as log number")
	h.run("checkpoint", "pin", "p", first, "-c", "my.toml").want(t, 2, "is pinned already")
	for i := range 3 {
		b.digits(1000*i, 10)
		h.until(20 + 10*i)
	}
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, first+"    pinned ")
	h.run("state", "get", "p", "d3", first, "-c", "my.toml").want(t, 0, `"value":[1]`)
	h.run("state", "diff", "p", first, "-c", "my.toml").want(t, 0, `"value":[4]`)
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "orphans: 0")
	h.run("checkpoint", "unpin", "p", first, "-c", "my.toml").want(t, 0, "published as log number")
	b.digits(5000, 10)
	h.until(50)
	h.run("state", "get", "p", "d3", first, "-c", "my.toml").want(t, 1, "no such checkpoint")
	h.run("fsck", "p", "-c", "my.toml").want(t, 0, "orphans: 0")
}

// replace writes a file that may be write-protected.
func (h home) replace(name, text string) {
	h.t.Helper()
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil { // an empty folder goes with what was in it
		h.t.Fatal(err)
	}
	h.write(name, text)
}
