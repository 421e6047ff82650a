//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const enrichedConfig = `[daemon]
data_dir = "%[1]s/%[2]s"
listen = "127.0.0.1:%[3]s"

[pipeline.%[2]s]
tasks = 2
source = { type = "kafka", brokers = ["%[4]s"], topics = ["%[5]s"] }
decode = { type = "json", columns = { n = "int64", user = "int64" } }
sink = { type = "clickhouse", addr = ["%[6]s"], database = "db", table = "%[2]s", user = "%[7]s", password = "%[8]s" }
checkpoint = { interval = "200ms" }

[[pipeline.%[2]s.step]]
type = "enrich"
id = "names"
key = ["user"]
columns = { name = "name" }

[pipeline.%[2]s.step.table]
source = { type = "kafka", brokers = ["%[4]s"], topics = ["saved-users"] }
decode = { type = "json", columns = { id = "int64", name = "string" } }
key = ["id"]
`

const enrichedTable = `CREATE TABLE db.%s (n Int64, user Int64, name Nullable(String), _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// A savepoint of a pipeline that runs, with a table kept from a compacted topic as its state, goes on in another store, into another
// ClickHouse table, from a topic of another name: every record is in one of the two tables, once, with the name that its user had.
func TestSavepoint_goesOnElsewhereOnRealServers(t *testing.T) {
	broker, _ := kafkaServer(t)
	ch := clickHouseServer(t)
	conn := ch.connect(t)
	defer conn.Close()
	for _, table := range []string{"original", "successor"} {
		if err := conn.Exec(context.Background(), fmt.Sprintf(enrichedTable, table)); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	compact := "compact"
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": &compact}, "saved-users"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopics(t.Context(), 3, 1, nil, "saved-orders", "moved-orders"); err != nil {
		t.Fatal(err)
	}
	const users = 10
	send := func(records ...*kgo.Record) {
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	user := func(id int, name string) *kgo.Record {
		return &kgo.Record{Topic: "saved-users", Partition: int32(id % 2), Key: fmt.Append(nil, id), Value: fmt.Appendf(nil, `{"id":%d,"name":%q}`, id, name)}
	}
	order := func(topic string, n int) *kgo.Record {
		return &kgo.Record{Topic: topic, Partition: int32(n % 3), Value: fmt.Appendf(nil, `{"n":%d,"user":%d}`, n, n%users)}
	}
	for id := range users {
		send(user(id, fmt.Sprint("name ", id)))
	}
	for n := range 300 {
		send(order("saved-orders", n), order("moved-orders", n))
	}

	dir, path := t.TempDir(), daemonBinary(t, "")
	write := func(name, topic string) string {
		file := filepath.Join(dir, name+".toml")
		text := fmt.Sprintf(enrichedConfig, dir, name, freePort(t), broker, topic, ch.addr, clickHouseUser, clickHousePassword)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ingestd := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("ingestd %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	config, archive := write("original", "saved-orders"), filepath.Join(dir, "one.tar")
	d := startDaemon(t, path, config, "")
	untilTrue(t, "300 rows", func() bool { return ch.count(t, "SELECT count() FROM db.original") == "300" })
	ingestd("savepoint", "create", "original", "one", "-c", config)
	ingestd("savepoint", "export", "original", "one", archive, "-c", config)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d\n%s", code, d.tail())
	}
	ingestd("fsck", "original", "-c", config)
	ingestd("savepoint", "verify", archive)

	send(user(3, "renamed"))
	for n := 300; n < 400; n++ {
		send(order("moved-orders", n))
	}
	d = startDaemonWith(t, path, "", "run", "-c", write("successor", "moved-orders"), "--from", archive, "--fresh-sinks", "--id", "successor", "--map", "topic=saved-orders:moved-orders")
	for deadline := time.Now().Add(sourcePatience); ch.count(t, "SELECT count() FROM db.successor") != "100"; waitABit() {
		if time.Now().After(deadline) {
			d.kill()
			t.Fatalf("%s rows of 100 in %s\n%s", ch.count(t, "SELECT count() FROM db.successor"), sourcePatience, d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d\n%s", code, d.tail())
	}
	for q, want := range map[string]string{
		"SELECT toString((count(), uniqExact(n), min(n), max(n))) FROM db.original":                         "(300,300,0,299)",
		"SELECT toString((count(), uniqExact(n), min(n), max(n))) FROM db.successor":                        "(100,100,300,399)",
		"SELECT countIf(name = concat('name ', toString(user))) FROM db.original":                           "300",
		"SELECT countIf(name = if(user = 3, 'renamed', concat('name ', toString(user)))) FROM db.successor": "100",
	} {
		if got := ch.count(t, q); got != want {
			t.Errorf("%s: got %s, want %s", q, got, want)
		}
	}
}
