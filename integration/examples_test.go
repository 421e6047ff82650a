//go:build integration

package integration

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/registry"
)

// example is the run of one example's config on real servers: its addresses and folders are replaced, and it ends at the topic's end.
type example struct {
	t      *testing.T
	broker string
	home   string // in place of /tmp
	topic  string // in place of orders
	text   string
}

func newExample(t *testing.T, path string) *example {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "examples", path))
	if err != nil {
		t.Fatal(err)
	}
	e := &example{t: t, text: string(data), home: t.TempDir(), topic: fmt.Sprintf("orders-%d", time.Now().UnixNano())}
	e.broker, _ = kafkaServer(t)
	e.replace("/tmp/", e.home+"/")
	e.replace("localhost:9092", e.broker)
	e.replace("[daemon]", "[daemon]\nlisten = \"\"")
	end := "\nuntil = \"end\""
	if strings.Contains(e.text, `until = "end"`) {
		end = ""
	}
	e.replace(`topics = ["orders"]`, fmt.Sprintf("topics = [%q]%s", e.topic, end))
	return e
}

func (e *example) replace(old, by string) {
	e.t.Helper()
	if !strings.Contains(e.text, old) {
		e.t.Fatalf("the example has no %s", old)
	}
	e.text = strings.ReplaceAll(e.text, old, by)
}

// produce writes values to the example's topic.
func (e *example) produce(values ...[]byte) {
	e.t.Helper()
	client := kafkaWriter(e.t, e.broker)
	if _, err := kadm.NewClient(client).CreateTopic(e.t.Context(), 2, 1, nil, e.topic); err != nil {
		e.t.Fatal(err)
	}
	for i, v := range values {
		if err := client.ProduceSync(e.t.Context(), &kgo.Record{Topic: e.topic, Partition: int32(i % 2), Value: v}).FirstErr(); err != nil {
			e.t.Fatal(err)
		}
	}
}

// orders writes twenty orders, of which every fourth has no amount and every tenth a large one, and a record that is none if wanted.
func (e *example) orders(more ...string) {
	e.t.Helper()
	var values [][]byte
	for i := range 20 {
		amount := 10
		switch {
		case i%10 == 9:
			amount = 5000
		case i%4 == 0:
			amount = 0
		}
		values = append(values, fmt.Appendf(nil, `{"id":%d,"customer":"c%d","amount":%d,"at":"2026-01-02T03:04:%02d.000Z"}`, i, i%3, amount, i))
	}
	for _, m := range more {
		values = append(values, []byte(m))
	}
	e.produce(values...)
}

// run runs the daemon up to the end of the topic.
func (e *example) run() {
	e.t.Helper()
	config := filepath.Join(e.home, "example.toml")
	if err := os.WriteFile(config, []byte(e.text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	d := startDaemon(e.t, daemonBinary(e.t, "faultpoints,invariants"), config, "")
	if code := d.exit(time.Minute); code != 0 {
		e.t.Fatalf("exit code %d, want 0\n%s", code, d.tail())
	}
}

// lines counts the lines of the complete files in a folder below the example's, whatever they are compressed with.
func (e *example) lines(dir string) int {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(e.home, dir, "[^._]*"))
	if err != nil {
		e.t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			e.t.Fatal(err)
		}
		var from io.Reader = bytes.NewReader(data)
		switch filepath.Ext(f) {
		case ".gz":
			from, err = gzip.NewReader(from)
		case ".zst":
			from, err = zstd.NewReader(from)
		}
		if err != nil {
			e.t.Fatal(err)
		}
		text, err := io.ReadAll(from)
		if err != nil {
			e.t.Fatal(err)
		}
		n += bytes.Count(text, []byte("\n"))
	}
	return n
}

func (e *example) want(what string, got, want int) {
	e.t.Helper()
	if got != want {
		e.t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

// useClickHouse points the example at the shared server, and makes its table.
func (e *example) useClickHouse(table string) *clickHouse {
	e.t.Helper()
	server := clickHouseServer(e.t)
	e.t.Setenv("CLICKHOUSE_PASSWORD", clickHousePassword)
	e.replace("localhost:9000", server.addr)
	e.replace(`user = "ingestd"`, fmt.Sprintf("user = %q", clickHouseUser))
	server.exec(e.t, "CREATE DATABASE IF NOT EXISTS shop", "DROP TABLE IF EXISTS shop."+table, "CREATE TABLE shop."+table+` (id UInt64, amount Decimal(18, 2), at DateTime64(3),
		_ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
		ENGINE = MergeTree ORDER BY id SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`)
	return server
}

// Every example does on real servers what its first lines say. The word counts are run by the demo, whose test has no need of servers.
func TestExamples_doWhatTheySay(t *testing.T) {
	t.Run("dry-run", func(t *testing.T) {
		e := newExample(t, "dry-run/dry-run.toml")
		e.orders("no order")
		e.run()
	})
	t.Run("kafka-to-clickhouse", func(t *testing.T) {
		e := newExample(t, "kafka-to-clickhouse/kafka-to-clickhouse.toml")
		server := e.useClickHouse("orders")
		e.replace("max_ratio = 0.01", "max_ratio = 0.5") // of 21 records one is refused
		e.orders("no order")
		e.run()
		if got := server.count(t, "SELECT toString((count(), uniqExact(id))) FROM shop.orders"); got != "(15,15)" {
			t.Errorf("rows and different ones: got %s, want 15 of each", got)
		}
		e.want("dead letters", e.lines("kafka-to-clickhouse/dead-letters"), 1)
	})
	t.Run("kafka-to-kafka", func(t *testing.T) {
		e := newExample(t, "kafka-to-kafka/kafka-to-kafka.toml")
		e.replace("orders-clean", e.topic+"-clean")
		e.replace("orders-refused", e.topic+"-refused")
		e.orders("no order")
		e.run()
		cluster := newSinkCluster(t, 1, e.broker)
		for topic, want := range map[string]int{e.topic + "-clean": 15, e.topic + "-refused": 1} {
			var got int
			// The coordinator marks the partitions after it has answered that the transaction is committed.
			untilTrue(t, "the records of "+topic, func() bool {
				records, err := cluster.committed(context.Background(), topic)
				if err != nil {
					t.Fatal(err)
				}
				got = len(records)
				return got >= want
			})
			e.want(topic, got, want)
		}
	})
	t.Run("kafka-to-postgres", func(t *testing.T) {
		e := newExample(t, "kafka-to-postgres/kafka-to-postgres.toml")
		readme, err := os.ReadFile("../examples/README.md")
		if err != nil {
			t.Fatal(err)
		}
		server := startPostgres(t) // its table has the example's name
		defer server.terminate(t)
		server.exec(t, "CREATE ROLE ingestd LOGIN PASSWORD 'secret'", "CREATE DATABASE shop")
		shop := *server
		shop.database = "shop"
		shop.exec(t, fenced(t, string(readme), "sql"), "GRANT CREATE ON SCHEMA public TO ingestd") // for the ledger's table
		e.replace("localhost:5432", server.addr)
		t.Setenv("POSTGRES_PASSWORD", "secret")
		e.orders("no order", `{"id":3,"customer":"c0","amount":7,"at":"2026-01-02T03:05:00.000Z"}`, `{"id":20,"customer":"c0","amount":7,"at":"2026-01-02T03:05:00.000Z"}`,
			`{"id":1,"customer":"c0","amount":7,"at":"2026-01-02T03:05:00.000Z","deleted":true}`)
		e.run()
		e.want("orders", len(shop.text(t, "SELECT id FROM orders")), 20)
		e.want("dead letters", len(shop.text(t, "SELECT reason FROM order_letters")), 1)
		if got := shop.one(t, "SELECT amount::text FROM orders WHERE id = 3"); got != "7.00" {
			t.Errorf("the newest amount of order 3: got %s, want 7.00", got)
		}
	})
	t.Run("two-sinks", func(t *testing.T) {
		e := newExample(t, "two-sinks/two-sinks.toml")
		server := e.useClickHouse("large_orders")
		e.orders("no order")
		e.run()
		if got := server.count(t, "SELECT toString((count(), uniqExact(id))) FROM shop.large_orders"); got != "(2,2)" {
			t.Errorf("rows and different ones: got %s, want the 2 large ones", got)
		}
		e.want("the archive", e.lines("two-sinks/archive"), 20)
		e.want("dead letters", e.lines("two-sinks/dead-letters"), 1)
	})
	t.Run("avro-to-files", func(t *testing.T) {
		e := newExample(t, "avro-to-files/avro-to-files.toml")
		url, _ := registryServer(t)
		e.replace("http://localhost:8081", url)
		client := registryClient(t, url)
		id, err := client.Register(t.Context(), e.topic+"-value", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},
			{"name":"customer","type":["null",{"type":"record","name":"Customer","fields":[{"name":"address","type":{"type":"record","name":"Address","fields":[{"name":"city","type":"string"}]}}]}]},
			{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
			{"name":"lines","type":{"type":"array","items":"string"}}]}`}, client.Once)
		if err != nil {
			t.Fatal(err)
		}
		head := []byte{0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
		e.produce(append(bytes.Clone(head), 2, 0, 2, 5, 0, 2, 2, 'x', 0), append(bytes.Clone(head), 4, 2, 4, 'U', 'l', 2, 5, 0, 0), []byte("no order"))
		e.run()
		e.want("rows and the headers of two files", e.lines("avro-to-files/out"), 2+2)
		e.want("dead letters", e.lines("avro-to-files/refused"), 1)
	})
	t.Run("checkpoints-in-s3", func(t *testing.T) {
		e := newExample(t, "checkpoints-in-s3/checkpoints-in-s3.toml")
		server := gatewayServer(t)
		t.Setenv("AWS_ACCESS_KEY_ID", gatewayKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", gatewaySecret)
		e.replace(`region = "eu-central-1"`, fmt.Sprintf("region = \"us-east-1\"\nendpoint = %q\npath_style = true", server.url()))
		e.replace("ingestd/production", e.topic)
		e.produce([]byte(`{"id":"a","amount":1}`), []byte(`{"id":"b","amount":1}`), []byte(`{"id":"a","amount":2}`))
		e.run()
		e.want("orders without repetitions", e.lines("checkpoints-in-s3/orders"), 2)
	})
}
