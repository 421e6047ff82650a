//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/ingestd/ingestd/internal/inject"
)

// rig is one pipeline under load: Kafka to ClickHouse with dead letters in files.
type rig struct {
	t        *testing.T
	path     string // of the daemon
	config   string
	letters  string // folder of the dead letters
	table    string
	delivery string
	ch       *clickHouse
	conn     driver.Conn
	load     *load
	kills    int
}

const rigConfig = `[daemon]
data_dir = %q
listen = ""
memory_limit = "1GiB"
log = { level = "debug" }

[pipeline.load]
delivery = %q
tasks = 2

[pipeline.load.source]
type = "kafka"
brokers = [%q]
topics = [%q]

[pipeline.load.decode]
type = "json"

[pipeline.load.sink]
type = "clickhouse"
addr = [%q]
database = "db"
table = %q
user = %q
password = %q

[pipeline.load.dead_letter]
type = "file"
path = %q

[pipeline.load.checkpoint]
interval = "250ms"
path = %q

[pipeline.load.restart]
backoff_min = "50ms"
backoff_max = "500ms"
`

// newRig starts the load of one delivery. The servers are shared.
func newRig(t *testing.T, delivery, tags string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, path: daemonBinary(t, tags), delivery: delivery, ch: startClickHouse(t), letters: filepath.Join(dir, "letters")}
	name := strings.NewReplacer("/", "_", "-", "_").Replace(strings.ToLower(t.Name()))
	r.table = name
	r.conn = r.ch.connect(t)
	t.Cleanup(func() { r.conn.Close() })
	if err := r.conn.Exec(context.Background(), fmt.Sprintf(loadTable, r.table)); err != nil {
		t.Fatal(err)
	}
	broker, _ := kafkaServer(t)
	r.load = startLoad(t, broker, name)
	r.config = r.writeConfig(dir, "data", broker)
	return r
}

// writeConfig makes a config with a data directory of its own and the common store of checkpoints.
func (r *rig) writeConfig(dir, data, broker string) string {
	r.t.Helper()
	text := fmt.Sprintf(rigConfig, filepath.Join(dir, data), r.delivery, broker, r.load.topic, r.ch.addr, r.table, clickHouseUser, clickHousePassword,
		r.letters, filepath.Join(dir, "checkpoints"))
	path := filepath.Join(dir, data+".toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// rows counts what is in the table, and how many of it are doubled.
func (r *rig) rows() (rows uint64, doubled int64) {
	r.t.Helper()
	q := fmt.Sprintf("SELECT count(), count() - uniqExact(_partition, _offset) FROM db.%s", r.table)
	if err := r.conn.QueryRow(context.Background(), q).Scan(&rows, &doubled); err != nil {
		r.t.Fatal(err)
	}
	return rows, doubled
}

// moves waits until new rows are in the table, so that what was recovered runs.
func (r *rig) moves(d *daemon) {
	r.t.Helper()
	before, _ := r.rows()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); waitABit() {
		if now, _ := r.rows(); now > before {
			return
		}
		select {
		case <-d.done:
			r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
		default:
		}
	}
	d.kill()
	r.t.Fatalf("no new rows in 30 s:\n%s", d.tail())
}

// killAt lets the daemon die at a point and go on after it, and returns how many rows that doubled.
func (r *rig) killAt(point string, nth int) int64 {
	r.t.Helper()
	_, before := r.rows()
	if point == inject.DuringRecovery { // there must be something to recover
		d := startDaemon(r.t, r.path, r.config, inject.AfterPublish+":kill:5")
		d.diedAt(inject.AfterPublish, time.Minute)
	}
	d := startDaemon(r.t, r.path, r.config, fmt.Sprintf("%s:kill:%d", point, nth))
	d.diedAt(point, time.Minute)
	r.kills++
	d = startDaemon(r.t, r.path, r.config, "")
	r.moves(d)
	d.kill() // one more, at no point
	_, after := r.rows()
	r.t.Logf("%s: %s: %d rows doubled", r.delivery, point, after-before)
	return after - before
}

// finish ends the load, lets the daemon take everything and stops it as systemd would, then judges table, dead letters and
// counters.
func (r *rig) finish() verdict {
	r.t.Helper()
	total := r.load.end(r.t)
	d := startDaemon(r.t, r.path, r.config, "")
	r.drained(d, total)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM, want 0:\n%s", code, d.tail())
	}
	v := r.load.judge(r.t, r.conn, r.table)
	r.t.Logf("%s: %d kills: %s", r.delivery, r.kills, v)
	r.judgeLetters()
	r.judgeCounters(total)
	return v
}

// drained waits until the newest checkpoint has every record.
func (r *rig) drained(d *daemon, total int64) {
	r.t.Helper()
	var at int64
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-time.After(300 * time.Millisecond) {
		at = 0
		m := newestManifest(r.t, r.path, r.config, "load")
		for _, p := range m.Positions() {
			at += int64(p.Offset)
		}
		if at >= total {
			return
		}
		select {
		case <-d.done:
			r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
		default:
		}
	}
	d.kill()
	r.t.Fatalf("the daemon read %d of %d records in 2 minutes:\n%s", at, total, d.tail())
}

// judgeLetters compares the dead letters with the records that can't be decoded.
func (r *rig) judgeLetters() {
	r.t.Helper()
	seen := map[string]int{}
	files, err := filepath.Glob(filepath.Join(r.letters, "*.ndjson"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var l struct {
				Partition int32  `json:"partition"`
				Offset    int64  `json:"offset"`
				Stage     string `json:"stage"`
				Value     string `json:"value"`
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				r.t.Fatalf("dead letter %q: %v", line, err)
			}
			if want := rowOf(l.Partition, l.Offset).json(); !malformed(l.Offset) || l.Stage != "decode" || l.Value != string(want[:len(want)/2]) {
				r.t.Errorf("a dead letter that is none: %s", line)
			}
			seen[fmt.Sprint(l.Partition, "/", l.Offset)]++
		}
	}
	doubled := 0
	for _, n := range seen {
		doubled += n - 1
	}
	missing := r.load.letters() - int64(len(seen))
	r.t.Logf("%s: %d dead letters, %d missing, %d doubled", r.delivery, len(seen), missing, doubled)
	if missing != 0 || doubled > 0 && r.delivery == "exactly-once" {
		r.t.Errorf("%d dead letters missing, %d doubled", missing, doubled)
	}
}

// judgeCounters compares the counters in the newest manifest with what was produced.
func (r *rig) judgeCounters(total int64) {
	r.t.Helper()
	m := newestManifest(r.t, r.path, r.config, "load")
	for _, s := range m.Sinks {
		if len(s.Pending) > 0 {
			r.t.Errorf("the closing manifest lists %d committables of %s", len(s.Pending), s.Name)
		}
	}
	stages := map[string][2]int64{}
	for _, s := range m.Counters.Stages {
		stages[s.Stage] = [2]int64{s.In, s.Passed}
	}
	letters := r.load.letters()
	want := map[string][2]int64{"source": {total, total}, "decode": {total, total - letters}, "sink:sink": {total - letters, total - letters}}
	for stage, w := range want {
		if stages[stage] != w {
			r.t.Errorf("counters of %s: in %d, passed %d, want %d, %d", stage, stages[stage][0], stages[stage][1], w[0], w[1])
		}
	}
	if m.Counters.DeadLetters != letters {
		r.t.Errorf("counters: %d dead letters, want %d", m.Counters.DeadLetters, letters)
	}
}

// randomKills kills the daemon at moments that have nothing to do with the protocol.
func (r *rig) randomKills(n int, random *rand.Rand) {
	for range n {
		d := startDaemon(r.t, r.path, r.config, "")
		r.moves(d)
		<-time.After(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		d.kill()
		r.kills++
	}
}

// killDuringInsert kills the server while it works on an insert into the table, and starts it again.
func (s *clickHouse) killDuringInsert(t *testing.T, table string) {
	t.Helper()
	ctx := context.Background()
	conn := s.connect(t)
	defer conn.Close()
	q := "SELECT count() FROM system.processes WHERE query_id LIKE 'ingestd/%' AND query LIKE '%" + table + "%'"
	for deadline := time.Now().Add(30 * time.Second); ; {
		var n uint64
		if err := conn.QueryRow(ctx, q).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no insert was seen in 30 s")
		}
	}
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	if _, err := docker.ContainerKill(ctx, s.container.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	if err := s.container.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
}

// killServer kills ClickHouse while it works on an insert; the daemon goes on by itself.
func (r *rig) killServer() {
	r.t.Helper()
	d := startDaemon(r.t, r.path, r.config, "")
	r.moves(d)
	r.ch.killDuringInsert(r.t, r.table)
	r.moves(d)
	d.kill()
	r.kills++
}

// points are the protocol's points at which a kill is aimed, and whether an effect precedes the publish there when commits go
// first.
func points() []struct {
	name    string
	nth     int
	doubles bool
} {
	return []struct {
		name    string
		nth     int
		doubles bool
	}{
		{inject.AfterPrepare, 6, false},
		{inject.BeforePublish, 4, true},
		{inject.PublishReplyLost, 4, false},
		{inject.AfterPublish, 4, false},
		{inject.BetweenSinks, 1, true},
		{inject.AfterEffect, 3, true},
		{inject.AfterCommit, 3, true},
		{inject.DuringRecovery, 1, false},
	}
}

func TestFaults_killsLoseAndDoubleNothingExactlyOnce(t *testing.T) {
	r := newRig(t, "exactly-once", "faultpoints")
	for _, p := range points() {
		if n := r.killAt(p.name, p.nth); n != 0 {
			t.Errorf("a kill at %s doubled %d rows", p.name, n)
		}
	}
	r.randomKills(10, rand.New(rand.NewPCG(1, 2)))
	r.killServer()
	if v := r.finish(); v.missing+v.doubled+v.foreign+v.altered != 0 {
		t.Errorf("exactly-once: %s", v)
	}
}

// The control arm: where an effect precedes the publish, at-least-once must show duplicates. If it does not, the kills missed
// and the zeros of the other arm prove nothing.
func TestFaults_killsDoubleButLoseNothingAtLeastOnce(t *testing.T) {
	r := newRig(t, "at-least-once", "faultpoints")
	for _, p := range points() {
		if p.name == inject.DuringRecovery { // nothing is pending with at-least-once
			continue
		}
		if n := r.killAt(p.name, p.nth); p.doubles && n == 0 {
			t.Errorf("a kill at %s doubled nothing, though the effect precedes the publish there", p.name)
		}
	}
	r.randomKills(10, rand.New(rand.NewPCG(3, 4)))
	r.killServer()
	v := r.finish()
	if v.missing+v.foreign+v.altered != 0 || v.doubled == 0 {
		t.Errorf("at-least-once: %s", v)
	}
}

// zombie stops a daemon right before an insert, with everything loaded, lets a successor take over and do it, and wakes the first one up.
func (r *rig) zombie() (zombieExit int) {
	r.t.Helper()
	first := startDaemon(r.t, r.path, r.config, inject.BeforeInsert+":stop:4")
	first.stopped(time.Minute)
	dir := filepath.Dir(r.config)
	broker, _ := kafkaServer(r.t)
	second := startDaemon(r.t, r.path, r.writeConfig(dir, "second", broker), "")
	r.moves(second)
	first.signal(syscall.SIGCONT)
	code := first.exit(time.Minute)
	r.moves(second)
	second.kill()
	r.kills++
	return code
}

func TestFaults_zombieTakesNoEffect(t *testing.T) {
	r := newRig(t, "exactly-once", "faultpoints")
	if code := r.zombie(); code != 5 {
		t.Errorf("the zombie ended with exit code %d, want 5 (fenced)", code)
	}
	if v := r.finish(); v.missing+v.doubled+v.foreign+v.altered != 0 {
		t.Errorf("after a zombie: %s", v)
	}
}

// A build without the fence must fail the same test: else the test proves nothing about the fence.
func TestFaults_withoutFenceTheZombieIsSeen(t *testing.T) {
	r := newRig(t, "exactly-once", "faultpoints,nofence")
	for range 8 { // the zombie's insert races with its own discovery that it was taken over
		r.zombie()
		if _, doubled := r.rows(); doubled > 0 {
			break
		}
	}
	if v := r.finish(); v.doubled == 0 {
		t.Errorf("a zombie without a fence doubled nothing: %s", v)
	}
}
