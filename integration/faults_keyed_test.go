//go:build integration

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/inject"
)

const keyedConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.once]
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["%[4]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "clickhouse", addr = ["%[5]s"], database = "db", table = "keyed_once", user = "%[6]s", password = "%[7]s" }
checkpoint = { interval = "200ms" }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.once.step]]
type = "dedup"
id = "first"
key = ["n"]
ttl = "1h"

[pipeline.windows]
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

const onceTable = `CREATE TABLE db.keyed_once (n Int64, k Int64, _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree PARTITION BY k % 3 ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// State, sinks and positions agree after each fault of a real daemon with real Kafka and ClickHouse: killed at each point of a checkpoint with
// state, restarted with other numbers of tasks, and with the local disk wiped between runs. Each number comes out once, and the
// windows are those of a model that reads the topic itself.
func TestFaults_keyedState(t *testing.T) {
	broker, _ := kafkaServer(t)
	ch := clickHouseServer(t)
	conn := ch.connect(t)
	defer conn.Close()
	if err := conn.Exec(context.Background(), onceTable); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const topic = "keyed-state"
	l := startKeyedLoad(t, broker, topic)
	path := daemonBinary(t, "faultpoints,invariants")
	random := rand.New(rand.NewPCG(1, 1))
	config := func() string {
		file := filepath.Join(dir, "my.toml")
		if err := os.WriteFile(file, fmt.Appendf(nil, keyedConfig, dir, 1+random.IntN(4), broker, topic, ch.addr, clickHouseUser, clickHousePassword), 0o600); err != nil {
			t.Fatal(err)
		}
		if random.IntN(3) == 0 {
			if err := os.RemoveAll(filepath.Join(dir, "data", "state")); err != nil {
				t.Fatal(err)
			}
		}
		return file
	}
	kills := 0
	for _, point := range []string{
		inject.AfterPrepare, inject.AfterStateStored, inject.BeforePublish, inject.PublishReplyLost, inject.AfterPublish, inject.BeforeApply,
		inject.AfterEffect, inject.AfterCommit, inject.AfterRestore,
	} {
		nth := 3 + random.IntN(5)
		if point == inject.AfterRestore {
			nth = 1
		}
		d := startDaemon(t, path, config(), fmt.Sprintf("%s:kill:%d", point, nth))
		d.diedAt(point, time.Minute)
		kills++
	}
	for range 6 {
		d := startDaemon(t, path, config(), "")
		<-time.After(time.Duration(200+random.IntN(1500)) * time.Millisecond)
		d.kill()
		kills++
	}
	l.end(t)
	d := startDaemon(t, path, config(), "")
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(500 * time.Millisecond) {
		numbers, windows := ch.count(t, "SELECT uniqExact(n) FROM db.keyed_once"), countLines(t, filepath.Join(dir, "windows"))
		if numbers == fmt.Sprint(len(l.times)) && windows >= len(l.windows) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s numbers and %d windows came out, want %d and %d\n%s", numbers, windows, len(l.times), len(l.windows), d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	l.judgeNumbers(t, ch)
	l.judgeWindows(t, dir)
	t.Logf("%d kills, %d records of %d numbers, %d windows", kills, l.sent, len(l.times), len(l.windows))
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
	if _, err := kadm.NewClient(client).CreateTopic(context.Background(), keyedPartitions, 1, nil, topic); err != nil {
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

// judgeNumbers wants every number that was sent in the table, each once, and no other.
func (l *keyedLoad) judgeNumbers(t *testing.T, ch *clickHouse) {
	t.Helper()
	sum := int64(0)
	for n := range l.times {
		sum += n
	}
	want := fmt.Sprintf("(%d,%d,%d)", len(l.times), len(l.times), sum)
	if got := ch.count(t, "SELECT toString((count(), uniqExact(n), sum(n))) FROM db.keyed_once"); got != want {
		t.Errorf("dedup: rows, numbers and their sum are %s, want %s", got, want)
	}
}

func (l *keyedLoad) judgeWindows(t *testing.T, dir string) {
	t.Helper()
	wrong, twice := 0, 0
	got := map[string]bool{}
	for _, r := range readRows(t, filepath.Join(dir, "windows")) {
		start, err := time.Parse("2006-01-02T15:04:05.000Z", r.Start)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(int64(r.K), " ", start.UnixMilli())
		if got[name] {
			twice++
		}
		got[name] = true
		if l.windows[name] != [2]int64{int64(r.Rows), int64(r.Total)} {
			wrong++
		}
	}
	if wrong+twice > 0 || len(got) != len(l.windows) {
		t.Errorf("windows: %d wrong, %d twice, %d came out, want %d", wrong, twice, len(got), len(l.windows))
	}
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
