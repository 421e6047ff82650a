//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/inject"
)

const enrichFaultsConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.enriched]
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["enrich-orders"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "clickhouse", addr = ["%[4]s"], database = "db", table = "enriched", user = "%[5]s", password = "%[6]s" }
checkpoint = { interval = "200ms" }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.enriched.step]]
type = "enrich"
id = "users"
key = ["k"]
columns = { v = "version" }

[pipeline.enriched.step.table]
source = { type = "kafka", brokers = ["%[3]s"], topics = ["enrich-users"] }
decode = { type = "json", columns = { id = "int64", version = "int64" } }
key = ["id"]
`

const enrichFaultsTable = `CREATE TABLE db.enriched (n Int64, k Int64, v Nullable(Int64), _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// A table of a real compacted topic is state like any other under SIGKILL: each record comes out once, with a value that its key has
// had, no older than when the record was sent to a daemon that was started after it, and for each key never an older one behind a newer
// one. In the end checkpoint and topic have the same table.
func TestFaults_enrich(t *testing.T) {
	broker, _ := kafkaServer(t)
	ch := clickHouseServer(t)
	conn := ch.connect(t)
	defer conn.Close()
	if err := conn.Exec(context.Background(), enrichFaultsTable); err != nil {
		t.Fatal(err)
	}
	dir, path := t.TempDir(), daemonBinary(t, "faultpoints,invariants")
	l := startEnrichLoad(t, broker)
	random := rand.New(rand.NewPCG(7, 7))
	config := func() string {
		file := filepath.Join(dir, "my.toml")
		text := fmt.Appendf(nil, enrichFaultsConfig, dir, 1+random.IntN(4), broker, ch.addr, clickHouseUser, clickHousePassword)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if random.IntN(3) == 0 {
			if err := os.RemoveAll(filepath.Join(dir, "data", "state")); err != nil {
				t.Fatal(err)
			}
		}
		l.booted()
		return file
	}
	kills := 0
	for _, point := range []string{
		inject.AfterStateStored, inject.BeforePublish, inject.AfterPublish, inject.BeforeApply, inject.AfterEffect, inject.AfterRestore,
	} {
		nth := 3 + random.IntN(4)
		if point == inject.AfterRestore {
			nth = 1
		}
		startDaemon(t, path, config(), fmt.Sprintf("%s:kill:%d", point, nth)).diedAt(point, time.Minute)
		kills++
	}
	for range 4 {
		d := startDaemon(t, path, config(), "")
		<-time.After(time.Duration(100+random.IntN(1200)) * time.Millisecond)
		d.kill()
		kills++
	}
	l.end(t)
	d := startDaemon(t, path, config(), "")
	for deadline := time.Now().Add(time.Minute); ch.count(t, "SELECT uniqExact(n) FROM db.enriched") != fmt.Sprint(len(l.orders)); waitABit() {
		if time.Now().After(deadline) {
			t.Fatalf("%s numbers came out, want %d\n%s", ch.count(t, "SELECT uniqExact(n) FROM db.enriched"), len(l.orders), d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	rows, err := conn.Query(context.Background(), "SELECT n, k, v FROM db.enriched")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var came []enrichedOrder
	for rows.Next() {
		var o enrichedOrder
		if err := rows.Scan(&o.n, &o.key, &o.version); err != nil {
			t.Fatal(err)
		}
		came = append(came, o)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	l.judge(t, came)
	l.judgeTable(t, path, filepath.Join(dir, "my.toml"))
	t.Logf("%d kills, %d records, %d rows of the table", kills, len(came), l.versions)
}

// enrichedOrder is a record of the stream, or a row that came of it.
type enrichedOrder struct {
	n, key    int64
	version   *int64
	partition int32
	offset    int64
	least     int // the place in the key's history that it must have reached
}

// enrichLoad writes a table and records that look things up in it, until it is ended.
type enrichLoad struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	err    error
	orders map[int64]enrichedOrder

	mu struct {
		sync.Mutex
		history map[int64][]*int64 // of each key: its versions in order, nil where it was taken out
		atBoot  map[int64]int      // how much of it was there when the newest process began
	}
	versions int64
}

const enrichKeys = 40

func startEnrichLoad(t *testing.T, broker string) *enrichLoad {
	t.Helper()
	l := &enrichLoad{stop: make(chan struct{}), orders: map[int64]enrichedOrder{}}
	l.mu.history, l.mu.atBoot = map[int64][]*int64{}, map[int64]int{}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	value := func(s string) *string { return &s }
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{
		"cleanup.policy": value("compact"), "segment.ms": value("2000"), "min.cleanable.dirty.ratio": value("0.01"),
	}, "enrich-users"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, "enrich-orders"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		defer client.Close()
		l.err = l.produce(client)
	})
	return l
}

func (l *enrichLoad) produce(client *kgo.Client) error {
	random := rand.New(rand.NewPCG(8, 8))
	ctx := context.Background()
	for n := int64(0); ; {
		if err := l.writeTable(ctx, client, random); err != nil {
			return err
		}
		var batch []*kgo.Record
		var orders []enrichedOrder
		l.mu.Lock()
		for range 60 {
			o := enrichedOrder{n: n, key: random.Int64N(enrichKeys + 5), partition: random.Int32N(3)}
			o.least = l.mu.atBoot[o.key]
			orders = append(orders, o)
			batch = append(batch, &kgo.Record{Topic: "enrich-orders", Partition: o.partition, Value: fmt.Appendf(nil, `{"n":%d,"k":%d}`, n, o.key)})
			n++
		}
		l.mu.Unlock()
		if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
			return err
		}
		for i, o := range orders {
			o.offset = batch[i].Offset
			l.orders[o.n] = o
		}
		select {
		case <-l.stop:
			return nil
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// writeTable changes some keys. What is noted is acknowledged.
func (l *enrichLoad) writeTable(ctx context.Context, client *kgo.Client, random *rand.Rand) error {
	var batch []*kgo.Record
	type change struct {
		key     int64
		version *int64
	}
	var changes []change
	for range 8 {
		c := change{key: random.Int64N(enrichKeys)}
		r := &kgo.Record{Topic: "enrich-users", Partition: int32(c.key % 2), Key: fmt.Append(nil, c.key)}
		if random.IntN(6) > 0 {
			l.versions++
			v := l.versions
			c.version, r.Value = &v, fmt.Appendf(nil, `{"id":%d,"version":%d}`, c.key, v)
		}
		batch, changes = append(batch, r), append(changes, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock() // a process that begins meanwhile need not see them
	if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		return err
	}
	for _, c := range changes {
		l.mu.history[c.key] = append(l.mu.history[c.key], c.version)
	}
	return nil
}

// booted notes what a process that begins now must see before its first record.
func (l *enrichLoad) booted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, history := range l.mu.history {
		l.mu.atBoot[key] = len(history)
	}
}

func (l *enrichLoad) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
}

// judge wants each record once, and follows each key through the records of each partition.
func (l *enrichLoad) judge(t *testing.T, came []enrichedOrder) {
	t.Helper()
	if len(came) != len(l.orders) {
		t.Errorf("%d rows came out, want %d", len(came), len(l.orders))
	}
	for i := range came {
		o := l.orders[came[i].n]
		if came[i].key != o.key {
			t.Fatalf("record %d came with key %d, want %d", o.n, came[i].key, o.key)
		}
		came[i].partition, came[i].offset, came[i].least = o.partition, o.offset, o.least
	}
	slices.SortFunc(came, func(a, b enrichedOrder) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return int(a.offset - b.offset)
	})
	wrong, null := 0, 0
	reached := map[[2]int64]int{} // by partition and key: how many changes of the key were seen at least
	for _, o := range came {
		if o.version == nil {
			null++
		}
		where := [2]int64{int64(o.partition), o.key}
		at := stand(l.mu.history[o.key], max(reached[where], o.least), o.version)
		if at < 0 {
			if wrong++; wrong < 10 {
				t.Errorf("record %d, key %d: the version is none that the key had from its change %d on", o.n, o.key, max(reached[where], o.least))
			}
			continue
		}
		reached[where] = at
	}
	if wrong > 0 || null == 0 || null == len(came) {
		t.Errorf("%d rows are wrong, %d of %d found nothing", wrong, null, len(came))
	}
}

// stand is the least number of changes of a key, at or above from, after which it has a version; -1 if there is none.
func stand(history []*int64, from int, version *int64) int {
	for at := from; at <= len(history); at++ {
		var now *int64
		if at > 0 {
			now = history[at-1]
		}
		if (now == nil) == (version == nil) && (now == nil || *now == *version) {
			return at
		}
	}
	return -1
}

// judgeTable compares the table in the newest checkpoint with the last change of each key.
func (l *enrichLoad) judgeTable(t *testing.T, path, config string) {
	t.Helper()
	out, err := exec.Command(path, "state", "scan", "enriched", "--step", "users", "--state", "table", "-c", config).Output()
	if err != nil {
		t.Fatalf("state scan: %v\n%s", err, out)
	}
	got := map[int64]int64{}
	for line := range bytes.Lines(out) {
		var e struct {
			Key   map[string]int64  `json:"key"`
			Value []json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(line, &e); err != nil || len(e.Value) != 1 {
			t.Fatalf("state scan: %s: %v", line, err)
		}
		version, err := strconv.ParseInt(string(e.Value[0]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got[e.Key["id"]] = version
	}
	for key, history := range l.mu.history {
		last := history[len(history)-1]
		version, there := got[key]
		if there != (last != nil) || there && version != *last {
			t.Errorf("the checkpoint's table: key %d has %d (there: %t), which is not its last change", key, version, there)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("the checkpoint's table has other keys: %v", got)
	}
}
