//go:build integration

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/inject"
)

const keyedConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.once]
id = "%[9]s"
delivery = "%[8]s"
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["%[4]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "clickhouse", addr = ["%[5]s"], database = "db", table = "%[9]s", user = "%[6]s", password = "%[7]s" }
checkpoint = { interval = "200ms" }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.once.step]]
type = "dedup"
id = "first"
key = ["n"]
ttl = "1h"

[pipeline.windows]
delivery = "%[8]s"
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["%[4]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "file", path = "%[1]s/windows", roll = { every_checkpoint = true } }
checkpoint = { interval = "200ms" }
restart = { backoff_min = "50ms", backoff_max = "500ms" }
event_time = { idle_after = "0s" }

[[pipeline.windows.step]]
type = "aggregate"
id = "per-key"
key = ["k"]
columns = { rows = "count()", total = "sum(n)" }
window = { type = "tumbling", size = "2s" }
late = "drop"
`

const onceTable = `CREATE TABLE db.%s (n Int64, k Int64, _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree PARTITION BY k %% 3 ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// State, sinks and positions agree after each fault of a real daemon with real Kafka and ClickHouse: killed at each point of a checkpoint with
// state, restarted with other numbers of tasks, and with the local disk wiped between runs. Each number comes out once, and the
// windows are those of a model that reads the topic itself.
func TestFaults_keyedState(t *testing.T) {
	r := newKeyedRig(t, "exactly-once", "keyed_once")
	for _, point := range []string{
		inject.AfterPrepare, inject.AfterStateStored, inject.BeforePublish, inject.PublishReplyLost, inject.AfterPublish, inject.BeforeApply,
		inject.AfterEffect, inject.AfterCommit, inject.AfterRestore,
	} {
		r.killAt(point)
	}
	r.finish(6)
	if numbers, windows := r.judge(); numbers+windows > 0 {
		t.Errorf("exactly-once: %d numbers and %d windows are doubled", numbers, windows)
	}
}

// With at-least-once the same loses nothing. What comes again is a row, not an effect on state: a window that comes twice has the same
// count both times, and the counters of the step say that each number passed it once.
func TestFaults_keyedStateAtLeastOnce(t *testing.T) {
	r := newKeyedRig(t, "at-least-once", "keyed_again")
	for _, point := range []string{inject.AfterStateStored, inject.BeforePublish, inject.AfterEffect, inject.AfterCommit, inject.BeforeApply} {
		r.killAt(point)
	}
	r.finish(2)
	if numbers, _ := r.judge(); numbers == 0 {
		t.Error("at-least-once: no number came twice, so the kills prove nothing")
	}
}

// keyedRig is two pipelines with keyed state under load, one into ClickHouse and one into files.
type keyedRig struct {
	t                               *testing.T
	dir, path, broker, topic, table string
	delivery                        string
	ch                              *clickHouse
	load                            *keyedLoad
	random                          *rand.Rand
	kills                           int
}

func newKeyedRig(t *testing.T, delivery, table string) *keyedRig {
	t.Helper()
	r := &keyedRig{
		t: t, delivery: delivery, table: table, topic: strings.ReplaceAll(table, "_", "-"), dir: t.TempDir(), ch: clickHouseServer(t),
		path: daemonBinary(t, "faultpoints,invariants"), random: rand.New(rand.NewPCG(1, 1)),
	}
	r.broker, _ = kafkaServer(t)
	conn := r.ch.connect(t)
	defer conn.Close()
	if err := conn.Exec(context.Background(), fmt.Sprintf(onceTable, table)); err != nil {
		t.Fatal(err)
	}
	r.load = startKeyedLoad(t, r.broker, r.topic)
	return r
}

// config writes the config for one start, with another number of tasks, and loses the local disk at times.
func (r *keyedRig) config() string {
	r.t.Helper()
	file := filepath.Join(r.dir, "my.toml")
	text := fmt.Appendf(nil, keyedConfig, r.dir, 1+r.random.IntN(4), r.broker, r.topic, r.ch.addr, clickHouseUser, clickHousePassword, r.delivery, r.table)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if r.random.IntN(3) == 0 {
		if err := os.RemoveAll(filepath.Join(r.dir, "data", "state")); err != nil {
			r.t.Fatal(err)
		}
	}
	return file
}

func (r *keyedRig) killAt(point string) {
	r.t.Helper()
	nth := 3 + r.random.IntN(5)
	if point == inject.AfterRestore {
		nth = 1
	}
	startDaemon(r.t, r.path, r.config(), fmt.Sprintf("%s:kill:%d", point, nth)).diedAt(point, time.Minute)
	r.kills++
}

// finish kills at some moments more, ends the load, and lets the daemon take everything.
func (r *keyedRig) finish(moments int) {
	r.t.Helper()
	for range moments {
		d := startDaemon(r.t, r.path, r.config(), "")
		<-time.After(time.Duration(200+r.random.IntN(1500)) * time.Millisecond)
		d.kill()
		r.kills++
	}
	r.load.end(r.t)
	config := r.config()
	d := startDaemon(r.t, r.path, config, "")
	for deadline := time.Now().Add(2 * time.Minute); r.read(config, "once")+r.read(config, "windows") < 2*int64(r.load.sent+keyedPartitions); <-time.After(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the pipelines read %d and %d of %d records\n%s", r.read(config, "once"), r.read(config, "windows"), r.load.sent, d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	r.t.Logf("%s: %d kills, %d records of %d numbers, %d windows", r.delivery, r.kills, r.load.sent, len(r.load.times), len(r.load.windows))
}

// read is how many records the newest checkpoint of a pipeline has.
func (r *keyedRig) read(config, pipeline string) (n int64) {
	r.t.Helper()
	out, err := exec.Command(r.path, "checkpoint", "show", pipeline, "-c", config).CombinedOutput()
	if err != nil { // collected while it was looked at, or there is none yet
		r.t.Logf("checkpoint show: %v\n%s", err, out)
		return 0
	}
	var m checkpoint.Manifest
	if err := json.Unmarshal(out, &m); err != nil {
		r.t.Fatal(err)
	}
	for _, p := range m.Positions() {
		n += int64(p.Offset)
	}
	return n
}

// judge wants everything at least once, and returns what came again.
func (r *keyedRig) judge() (numbers, windows int) {
	r.t.Helper()
	config := filepath.Join(r.dir, "my.toml")
	for _, s := range newestManifest(r.t, r.path, config, "once").Counters.Stages {
		if s.Stage == "step:first" && (s.Passed != int64(len(r.load.times)) || s.In != int64(r.load.sent+keyedPartitions)) {
			r.t.Errorf("counters: the step took %d records and passed %d, want %d and %d", s.In, s.Passed, r.load.sent+keyedPartitions, len(r.load.times))
		}
	}
	return r.load.judgeNumbers(r.t, r.ch, r.table), r.load.judgeWindows(r.t, r.dir)
}

// keyedLoad writes numbers, some of them again, in order of event time, until it is ended.
type keyedLoad struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	err     error
	sent    int
	times   map[int64]int
	windows map[string][2]int64 // "key start": rows and total
}

const keyedPartitions = 3

func startKeyedLoad(t *testing.T, broker, topic string) *keyedLoad {
	t.Helper()
	l := &keyedLoad{stop: make(chan struct{}), times: map[int64]int{}, windows: map[string][2]int64{}}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	keep := "-1" // the records' times are old
	if _, err := kadm.NewClient(client).CreateTopic(context.Background(), keyedPartitions, 1, map[string]*string{"retention.ms": &keep}, topic); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		defer client.Close()
		l.err = l.produce(client)
	})
	return l
}

func (l *keyedLoad) produce(client *kgo.Client) error {
	random := rand.New(rand.NewPCG(2, 2))
	begin := time.UnixMilli(1_780_000_000_000)
	const keys, each = 50, 200
	for n := int64(0); ; n += each {
		var batch []*kgo.Record
		for i := n; i < n+each; i++ {
			at := begin.Add(time.Duration(i) * time.Millisecond)
			key := random.IntN(keys)
			start := fmt.Sprint(key, " ", at.Truncate(2*time.Second).UnixMilli())
			for range 1 + random.IntN(2) {
				batch = append(batch, &kgo.Record{Partition: int32(random.IntN(keyedPartitions)), Timestamp: at, Value: fmt.Appendf(nil, `{"n":%d,"k":%d}`, i, key)})
				w := l.windows[start]
				l.windows[start] = [2]int64{w[0] + 1, w[1] + i}
				l.times[i]++
				l.sent++
			}
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		select {
		case <-l.stop: // the last records end all windows
			var last []*kgo.Record
			for p := range int32(keyedPartitions) {
				last = append(last, &kgo.Record{Partition: p, Timestamp: begin.Add(time.Hour), Value: fmt.Appendf(nil, `{"n":%d,"k":-1}`, -1-p)})
				l.times[int64(-1-p)]++
			}
			return client.ProduceSync(context.Background(), last...).FirstErr()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *keyedLoad) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
}

// judgeNumbers wants every number that was sent in the table, and no other, and returns how many rows came again.
func (l *keyedLoad) judgeNumbers(t *testing.T, ch *clickHouse, table string) (doubled int) {
	t.Helper()
	sum := int64(0)
	for n := range l.times {
		sum += n
	}
	want := fmt.Sprintf("(%d,%d)", len(l.times), sum)
	if got := ch.count(t, "SELECT toString((count(), sum(n))) FROM (SELECT DISTINCT n FROM db."+table+")"); got != want {
		t.Errorf("dedup: numbers and their sum are %s, want %s", got, want)
	}
	doubled, err := strconv.Atoi(ch.count(t, "SELECT count() - uniqExact(n) FROM db."+table))
	if err != nil {
		t.Fatal(err)
	}
	return doubled
}

// judgeWindows wants every window, and no other, right each time that it came, and returns how many came again.
func (l *keyedLoad) judgeWindows(t *testing.T, dir string) (doubled int) {
	t.Helper()
	wrong := 0
	got := map[string]bool{}
	for _, r := range readRows(t, filepath.Join(dir, "windows")) {
		start, err := time.Parse("2006-01-02T15:04:05.000Z", r.Start)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(int64(r.K), " ", start.UnixMilli())
		if got[name] {
			doubled++
		}
		got[name] = true
		if l.windows[name] != [2]int64{int64(r.Rows), int64(r.Total)} {
			wrong++
		}
	}
	if wrong > 0 || len(got) != len(l.windows) {
		t.Errorf("windows: %d wrong, %d came out, want %d", wrong, len(got), len(l.windows))
	}
	return doubled
}

// keyedRow is a window.
type keyedRow struct {
	K     int    `json:"k"`
	Rows  int    `json:"rows"`
	Total int    `json:"total"`
	Start string `json:"window_start"`
}

func readRows(t *testing.T, dir string) []keyedRow {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []keyedRow
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var r keyedRow
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatalf("%s: %s: %v", name, lines.Bytes(), err)
			}
			rows = append(rows, r)
		}
		f.Close()
	}
	return rows
}
