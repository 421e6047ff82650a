//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/savepoint"
)

const savedConfig = `[daemon]
data_dir = "%[1]s/%[2]s"
listen = "127.0.0.1:%[3]s"

[pipeline.%[2]s]
tasks = %[4]d
source = { type = "kafka", brokers = ["%[5]s"], topics = ["saved-numbers"] }
decode = { type = "json", columns = { n = "int64" } }
sink = { type = "file", path = "%[1]s/%[2]s-rows", roll = { size = "1GiB", age = "1h" } }
checkpoint = { interval = "100ms", path = "%[1]s/%[2]s-checkpoints", keep = %[6]d }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.%[2]s.step]]
type = "dedup"
id = "once"
key = ["n"]
`

// A savepoint is whole or it is not there, whenever what makes it is killed: the daemon in the midst of copying, the command beside a
// stopped pipeline, an export, an import, a start from it. The pipeline goes on exactly once, and what goes on from a good savepoint
// has its state and its positions: it gives each number that the pipeline had not given then, and no other.
func TestFaults_savepoints(t *testing.T) {
	r := newSavedRig(t)
	r.killWhileCreating()
	r.killOffline()
	archive := r.killWhileExporting()
	r.killWhileImporting(archive)
	r.killWhileRestoring(archive)
	r.finish()
	r.judge(archive)
	t.Logf("%d kills: %v", r.kills, r.left)
}

// savedRig is a pipeline that savepoints are made of, and a copy of it that begins with one.
type savedRig struct {
	t         *testing.T
	dir, path string
	broker    string
	random    *rand.Rand
	load      *numberLoad
	kills     int
	left      map[string]int // what was found after the kills
}

func newSavedRig(t *testing.T) *savedRig {
	t.Helper()
	broker, _ := kafkaServer(t)
	return &savedRig{
		t: t, dir: t.TempDir(), path: daemonBinary(t, "faultpoints,invariants"), broker: broker, random: rand.New(rand.NewPCG(5, 5)),
		load: startNumberLoad(t, broker), left: map[string]int{},
	}
}

// config writes the config of one of the two pipelines for one start.
func (r *savedRig) config(pipeline string) string {
	r.t.Helper()
	file := filepath.Join(r.dir, pipeline+".toml")
	keep := 3
	if pipeline == "copy" { // its log shows how it began
		keep = 1000
	}
	text := fmt.Appendf(nil, savedConfig, r.dir, pipeline, freePort(r.t), 1+r.random.IntN(3), r.broker, keep)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

func (r *savedRig) file(pipeline string) string { return filepath.Join(r.dir, pipeline+".toml") }

func (r *savedRig) command(args ...string) *exec.Cmd { return exec.Command(r.path, args...) }

// ingestd runs a command that must succeed.
func (r *savedRig) ingestd(args ...string) string {
	r.t.Helper()
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("ingestd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// objects counts the files below a folder, but those that are being written.
func objects(folder string) (n int) {
	_ = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error { // what is gone meanwhile does not count
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			n++
		}
		return nil
	})
	return n
}

// moment waits until something is so, looking as often as it can, or until what it waits beside has ended.
func (r *savedRig) moment(what string, ended <-chan struct{}, condition func() bool) {
	r.t.Helper()
	tick := time.NewTicker(300 * time.Microsecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !condition(); <-tick.C {
		select {
		case <-ended:
			return
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: it did not come in 30 s", what)
		}
	}
}

// killed is a moment at which something is killed: at a fault point, when it has made so many objects, or after a time.
type killed struct {
	point   string
	objects int
	after   time.Duration
}

func (r *savedRig) moments(objects ...int) []killed {
	var out []killed
	for _, n := range objects {
		out = append(out, killed{objects: n})
	}
	return append(out, killed{after: time.Duration(r.random.IntN(80)) * time.Millisecond})
}

func (r *savedRig) await(k killed, folder string, ended <-chan struct{}) {
	r.t.Helper()
	if k.objects == 0 {
		<-time.After(k.after)
		return
	}
	r.moment(fmt.Sprintf("object %d in %s", k.objects, folder), ended, func() bool { return objects(folder) >= k.objects })
}

// look says how a savepoint was left, and wants list and verify to agree. What is incomplete is removed.
func (r *savedRig) look(pipeline, name string) (whole bool) {
	r.t.Helper()
	config := r.file(pipeline)
	list := r.ingestd("savepoint", "list", pipeline, "-c", config)
	state := "absent"
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			state = "whole"
			if strings.Contains(line, "incomplete") {
				state = "incomplete"
			}
		}
	}
	out, err := r.command("savepoint", "verify", pipeline, name, "-c", config).CombinedOutput()
	if (err == nil) != (state == "whole") {
		r.t.Errorf("the savepoint is listed as %s, and verify says %v: %s\n%s", state, err, out, list)
	}
	r.left[state]++
	if state == "incomplete" {
		r.ingestd("savepoint", "delete", pipeline, name, "--yes", "-c", config)
	}
	return state == "whole"
}

// run starts the pipeline and waits until it has so much state that a copy of it takes its time.
func (r *savedRig) run(deltas int) *daemon {
	r.t.Helper()
	d := startDaemon(r.t, r.path, r.config("saved"), "")
	before := len(r.deltas())
	r.moment("checkpoints with state", d.done, func() bool { return len(r.deltas()) >= max(before+5, deltas) })
	select {
	case <-d.done:
		r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
	default:
	}
	return d
}

// deltas are the objects of the pipeline's keyed state.
func (r *savedRig) deltas() []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "saved-checkpoints", "saved", "state", "*", "*", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return files
}

// killWhileCreating kills the daemon that makes a savepoint of a pipeline that runs, or lets the command be killed in its place.
func (r *savedRig) killWhileCreating() {
	r.t.Helper()
	for i, k := range append(r.moments(1, 5, 20), killed{after: 5 * time.Millisecond}) {
		d := r.run(30)
		name := fmt.Sprint("running-", i)
		create := r.command("savepoint", "create", "saved", name, "-c", r.file("saved"))
		ended := r.start(create)
		r.await(k, r.folder("saved", name), ended)
		d.kill()
		r.kills++
		<-ended
		if whole := r.look("saved", name); !whole && create.ProcessState.Success() {
			r.t.Errorf("%s: the command said that it is made", name)
		}
	}
}

// start starts a command and tells when it has ended.
func (r *savedRig) start(cmd *exec.Cmd) <-chan struct{} {
	r.t.Helper()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ProcessState says it
		close(ended)
	}()
	return ended
}

func (r *savedRig) folder(pipeline, name string) string {
	return filepath.Join(r.dir, pipeline+"-checkpoints", pipeline, "savepoints", name)
}

// killOffline kills the command that makes a savepoint of a stopped pipeline, and makes one that is good while it runs.
func (r *savedRig) killOffline() {
	r.t.Helper()
	d := r.run(0)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Fatalf("exit code %d\n%s", code, d.tail())
	}
	for i, k := range r.moments(3, 12) {
		name := fmt.Sprint("stopped-", i)
		r.killCommand(k, r.folder("saved", name), "savepoint", "create", "saved", name, "-c", r.file("saved"))
		r.look("saved", name)
	}
	d = r.run(0)
	r.ingestd("savepoint", "create", "saved", "good", "-c", r.file("saved"))
	if !r.look("saved", "good") {
		r.t.Error("the good savepoint is not whole")
	}
	d.kill()
}

// killCommand kills a command at a moment.
func (r *savedRig) killCommand(k killed, folder string, args ...string) {
	r.t.Helper()
	cmd := r.command(args...)
	ended := r.start(cmd)
	r.await(k, folder, ended)
	_ = cmd.Process.Kill() // it may have ended
	r.kills++
	<-ended
}

// killWhileExporting kills exports, of which nothing may be there under the name then, and returns a whole archive.
func (r *savedRig) killWhileExporting() string {
	r.t.Helper()
	folder := filepath.Join(r.dir, "export")
	if err := os.Mkdir(folder, 0o700); err != nil {
		r.t.Fatal(err)
	}
	archive := filepath.Join(folder, "good.tar")
	export := []string{"savepoint", "export", "saved", "good", archive, "-c", r.file("saved")}
	for range 3 {
		cmd := r.command(export...)
		ended := r.start(cmd)
		r.moment("the export begins", ended, func() bool {
			files, err := os.ReadDir(folder)
			return err == nil && len(files) > 0
		})
		<-time.After(time.Duration(r.random.IntN(3)) * time.Millisecond)
		_ = cmd.Process.Kill() // it may have ended
		r.kills++
		<-ended
		if _, err := os.Stat(archive); err == nil {
			r.left["exported"]++
			r.ingestd("savepoint", "verify", archive)
			if err := os.Remove(archive); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.ingestd(export...)
	r.ingestd("savepoint", "verify", archive)
	return archive
}

// killWhileImporting kills imports into the copy's store, and imports it at last.
func (r *savedRig) killWhileImporting(archive string) {
	r.t.Helper()
	config := r.config("copy")
	whole := false
	for _, k := range r.moments(2, 15) {
		if whole {
			r.ingestd("savepoint", "delete", "copy", "imported", "--yes", "-c", config)
		}
		r.killCommand(k, r.folder("copy", "imported"), "savepoint", "import", "copy", archive, "--name", "imported", "-c", config)
		whole = r.look("copy", "imported")
	}
	if !whole {
		r.ingestd("savepoint", "import", "copy", archive, "--name", "imported", "-c", config)
	}
	if !r.look("copy", "imported") {
		r.t.Error("the import is not whole")
	}
}

// killWhileRestoring kills starts from the savepoint until one is done: then the log says so, and starts go on without it.
func (r *savedRig) killWhileRestoring(archive string) {
	r.t.Helper()
	state := filepath.Join(r.dir, "copy-checkpoints", "copy", "state")
	from := "imported"
	for _, k := range append(r.moments(1, 10), killed{after: 40 * time.Millisecond}, killed{after: 150 * time.Millisecond},
		killed{point: inject.AfterRestore}, killed{point: inject.BeforePublish}) {
		config := r.config("copy")
		args := []string{"run", "-c", config}
		if !r.restored() {
			args = append(args, "--from", from, "--fresh-sinks", "--id", "copy")
			r.left["from again"]++
		}
		if k.point != "" {
			startDaemonWith(r.t, r.path, k.point+":kill", args...).diedAt(k.point, time.Minute)
			r.kills++
			continue
		}
		d := startDaemonWith(r.t, r.path, "", args...)
		before := objects(state)
		if k.objects > 0 {
			k.objects += before
		}
		r.await(k, state, d.done)
		select {
		case <-d.done:
			r.t.Fatalf("the start from the savepoint ended: %v\n%s", d.err, d.tail())
		default:
		}
		d.kill()
		r.kills++
		from = archive // either will do
	}
}

// restored tells whether the copy's log says that it goes on from the savepoint.
func (r *savedRig) restored() bool {
	out, err := r.command("checkpoint", "list", "copy", "-c", r.file("copy")).CombinedOutput()
	if err != nil {
		r.t.Fatalf("checkpoint list: %v\n%s", err, out)
	}
	return strings.Contains(string(out), "restored from savepoint")
}

// finish ends the load and lets both pipelines take everything.
func (r *savedRig) finish() {
	r.t.Helper()
	r.load.end(r.t)
	for _, pipeline := range []string{"saved", "copy"} {
		config := r.config(pipeline)
		args := []string{"run", "-c", config}
		if pipeline == "copy" && !r.restored() {
			args = append(args, "--from", "imported", "--fresh-sinks", "--id", "copy")
		}
		d := startDaemonWith(r.t, r.path, "", args...)
		for deadline := time.Now().Add(time.Minute); r.read(pipeline) < r.load.sent; <-time.After(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				r.t.Fatalf("%s read %d of %d records\n%s", pipeline, r.read(pipeline), r.load.sent, d.tail())
			}
		}
		d.signal(syscall.SIGTERM)
		if code := d.exit(time.Minute); code != 0 {
			r.t.Errorf("exit code %d, want 0\n%s", code, d.tail())
		}
		r.ingestd("fsck", pipeline, "-c", config)
	}
}

// read is how many records the newest checkpoint of a pipeline has.
func (r *savedRig) read(pipeline string) (n int64) {
	out, err := r.command("checkpoint", "show", pipeline, "-c", r.file(pipeline)).Output()
	if err != nil { // collected while it was looked at, or there is none yet
		return 0
	}
	var m struct {
		Shards []struct {
			Splits []struct {
				Offset int64 `json:"offset"`
			} `json:"splits"`
		} `json:"shards"`
	}
	if err := json.Unmarshal(out, &m); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range m.Shards {
		for _, p := range s.Splits {
			n += p.Offset
		}
	}
	return n
}

// judge wants each number once from the pipeline, and from the copy each that is in none of the records before the savepoint's
// positions.
func (r *savedRig) judge(archive string) {
	r.t.Helper()
	outside, err := savepoint.OpenPath(archive)
	if err != nil {
		r.t.Fatal(err)
	}
	defer outside.Close()
	s, err := savepoint.Open(context.Background(), outside)
	if err != nil {
		r.t.Fatal(err)
	}
	at := map[string]int64{}
	for _, p := range s.Manifest.Positions() {
		at[p.Split] = int64(p.Offset)
	}
	all, later := map[int64]bool{}, map[int64]bool{}
	for n, places := range r.load.places {
		all[n], later[n] = true, true
		for _, p := range places {
			if p.offset < at[fmt.Sprint("saved-numbers/", p.partition)] {
				delete(later, n)
			}
		}
	}
	if len(later) == 0 || len(later) == len(all) {
		r.t.Errorf("the savepoint has %d of %d numbers: it shows nothing", len(all)-len(later), len(all))
	}
	r.compare("saved", all)
	r.compare("copy", later)
}

func (r *savedRig) compare(pipeline string, want map[int64]bool) {
	r.t.Helper()
	got := map[int64]int{}
	for _, row := range readNumbers(r.t, filepath.Join(r.dir, pipeline+"-rows")) {
		got[row]++
	}
	missing, doubled, foreign := 0, 0, 0
	for n := range want {
		if got[n] == 0 {
			missing++
		}
	}
	for n, times := range got {
		doubled += times - 1
		if !want[n] {
			foreign++
		}
	}
	r.t.Logf("%s: %d numbers, want %d", pipeline, len(got), len(want))
	if missing+doubled+foreign > 0 {
		r.t.Errorf("%s: %d numbers are missing, %d doubled, %d are none of its own", pipeline, missing, doubled, foreign)
	}
}

func readNumbers(t *testing.T, dir string) (out []int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var row struct {
				N int64 `json:"n"`
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatalf("%s: %q: %v", f, line, err)
			}
			out = append(out, row.N)
		}
	}
	return out
}

// numberLoad writes numbers, half of them twice, until it is ended.
type numberLoad struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	err    error
	sent   int64
	places map[int64][]numberPlace
}

type numberPlace struct {
	partition int32
	offset    int64
}

func startNumberLoad(t *testing.T, broker string) *numberLoad {
	t.Helper()
	l := &numberLoad{stop: make(chan struct{}), places: map[int64][]numberPlace{}}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("saved-numbers"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 3, 1, nil, "saved-numbers"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		defer client.Close()
		l.err = l.produce(client)
	})
	return l
}

func (l *numberLoad) produce(client *kgo.Client) error {
	random := rand.New(rand.NewPCG(6, 6))
	for n := int64(0); ; {
		var batch []*kgo.Record
		var numbers []int64
		for range 100 {
			again := n
			if n > 0 && random.IntN(3) == 0 { // one of before, near or far
				again = n - 1 - random.Int64N(min(n, 1+random.Int64N(n)))
			} else {
				n++
			}
			numbers = append(numbers, again)
			batch = append(batch, &kgo.Record{Partition: random.Int32N(3), Value: fmt.Appendf(nil, `{"n":%d}`, again)})
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		for i, r := range batch {
			l.places[numbers[i]] = append(l.places[numbers[i]], numberPlace{r.Partition, r.Offset})
			l.sent++
		}
		select {
		case <-l.stop:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *numberLoad) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
}
