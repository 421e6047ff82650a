package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 4
	user       = "bench"
	password   = "bench"
)

// servers are the real servers of a bench.
type servers struct {
	kafka, clickhouse, postgres *testcontainers.DockerContainer
	broker, addr, postgresAddr  string
	conn                        driver.Conn
	postgresTable               string           // of the newest run
	bytes                       map[string]int64 // of all values of a topic
	counts                      map[string]int
}

func startServers(ctx context.Context) (*servers, error) {
	s := &servers{bytes: map[string]int64{}, counts: map[string]int{}}
	kafkaPort, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s.broker = "127.0.0.1:" + kafkaPort
	s.kafka, err = testcontainers.Run(ctx, "apache/kafka:4.3.1", testcontainers.WithExposedPorts(kafkaPort+"/tcp"), bind(kafkaPort+"/tcp", kafkaPort),
		testcontainers.WithEnv(map[string]string{
			"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", "KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller",
			"KAFKA_LISTENERS":                                "HOST://:" + kafkaPort + ",CONTROLLER://:9093", // the same port inside: a broker talks to itself for transactions
			"KAFKA_ADVERTISED_LISTENERS":                     "HOST://" + s.broker,
			"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
			"KAFKA_INTER_BROKER_LISTENER_NAME":               "HOST",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
			"KAFKA_LOG_DIRS":                                 "/var/lib/kafka/data",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		}),
		testcontainers.WithWaitStrategyAndDeadline(2*time.Minute, wait.ForLog("Kafka Server started").WithPollInterval(50*time.Millisecond)))
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s.addr = "127.0.0.1:" + port
	s.clickhouse, err = testcontainers.Run(ctx, "clickhouse/clickhouse-server:26.7", testcontainers.WithExposedPorts("9000/tcp"), bind("9000/tcp", port),
		testcontainers.WithEnv(map[string]string{"CLICKHOUSE_USER": user, "CLICKHOUSE_PASSWORD": password, "CLICKHOUSE_DB": "db"}),
		testcontainers.WithWaitStrategyAndDeadline(time.Minute, wait.ForListeningPort("9000/tcp").WithPollInterval(50*time.Millisecond)))
	if err != nil {
		return nil, err
	}
	s.conn, err = clickhouse.Open(&clickhouse.Options{Addr: []string{s.addr}, Auth: clickhouse.Auth{Database: "db", Username: user, Password: password}})
	if err != nil {
		return s, err
	}
	return s, s.startPostgres(ctx)
}

func (s *servers) startPostgres(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	s.postgresAddr = "127.0.0.1:" + port
	s.postgres, err = testcontainers.Run(ctx, "postgres:15", testcontainers.WithExposedPorts("5432/tcp"), bind("5432/tcp", port),
		testcontainers.WithEnv(map[string]string{"POSTGRES_USER": user, "POSTGRES_PASSWORD": password, "POSTGRES_DB": "db"}),
		testcontainers.WithWaitStrategyAndDeadline(time.Minute, wait.ForListeningPort("5432/tcp").WithPollInterval(50*time.Millisecond)))
	return err
}

// psql runs statements on the PostgreSQL server and returns what it prints.
func (s *servers) psql(ctx context.Context, statements string) (string, error) {
	code, out, err := s.postgres.Exec(ctx, []string{"psql", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", "db", "-c", statements}, exec.Multiplexed())
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(out)
	if err == nil && code != 0 {
		err = fmt.Errorf("psql: exit code %d: %s", code, text)
	}
	return strings.TrimSpace(string(text)), err
}

func (s *servers) stop() {
	ctx := context.Background()
	for _, c := range []*testcontainers.DockerContainer{s.kafka, s.clickhouse, s.postgres} {
		if c != nil {
			if err := c.Terminate(ctx, testcontainers.StopTimeout(0)); err != nil {
				progress(err.Error())
			}
		}
	}
}

func bind(inside, port string) testcontainers.CustomizeRequestOption {
	return testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
		h.PortBindings = network.PortMap{network.MustParsePort(inside): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
	})
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "", err
	}
	return port, l.Close()
}

// fill produces n records to a topic.
func (s *servers) fill(ctx context.Context, topic string, n int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return err
	}
	record := smallRecord
	if topic == "large" {
		record = largeRecord
	}
	failed := error(nil)
	for i := range n {
		value := record(i)
		s.bytes[topic] += int64(len(value))
		client.Produce(ctx, &kgo.Record{Partition: int32(i % partitions), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	s.counts[topic] = n
	return failed
}

// smallRecord is a flat event of about 300 bytes with 8 columns.
func smallRecord(i int) []byte {
	h := uint64(i) * 0x9e3779b97f4a7c15
	return fmt.Appendf(nil, `{"id":%d,"at":"2026-11-%02dT%02d:%02d:%02d.%03dZ","event":"%s","user":"user-%d","amount":%d.%02d,"count":%d,"active":%t,"tags":{"a":"%x"},"agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/%d.%d (KHTML, like Gecko)","path":"/shop/category-%d/item-%d"}`,
		i, 1+i%28, h%24, h%60, i%60, i%1000, [...]string{"click", "view", "buy", "leave"}[h%4], h%100_000, h%5000, h%100, h%17, h%3 == 0, h, 500+h%60, h%40, h%97, h%10_007)
}

const smallTable = `CREATE TABLE db.%s (id UInt64, at DateTime64(3, 'UTC'), event LowCardinality(String), user String, amount Decimal(18, 2), count UInt32,
	active Bool, agent String, _ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX ingestd_block _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree ORDER BY (event, at) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

const smallPostgresTable = `CREATE TABLE %s (id bigint, at timestamptz(3), event text, "user" text, amount numeric(18, 2), count bigint, active boolean, agent text)`

const largePostgresTable = `CREATE TABLE %s (id bigint, customer text, status text, total numeric(18, 2), items text[], city text, zip text, comment text, op text, ts bigint)`

const smallColumns = `id = { type = "uint64" }
at = { type = "timestamp(3, \"UTC\")" }
event = { type = "string" }
user = { type = "string" }
amount = { type = "decimal(18, 2)" }
count = { type = "uint32" }
active = { type = "bool" }
agent = { type = "string" }
`

// largeRecord is a change of a row in an envelope, about 1.4 kB, of which ten columns are taken.
func largeRecord(i int) []byte {
	h := uint64(i) * 0x9e3779b97f4a7c15
	image := fmt.Sprintf(`{"id":%d,"customer":"customer-%d","status":"%s","total":"%d.%02d","currency":"EUR","items":["sku-%d","sku-%d","sku-%d"],"address":{"street":"Long Street Name %d","city":"City %d","zip":"%05d","country":"DE"},"comment":"%s"}`,
		i, h%100_000, [...]string{"new", "paid", "sent", "done"}[h%4], h%9000, h%100, h%977, h%877, h%777, h%300, h%40, h%99_999, strings.Repeat("lorem ipsum ", 25))
	return fmt.Appendf(nil, `{"before":%s,"after":%s,"source":{"version":"2.7.0","connector":"postgresql","name":"shop","ts_ms":%d,"snapshot":"false","db":"shop","sequence":"[\"%d\",\"%d\"]","schema":"public","table":"orders","txId":%d,"lsn":%d},"op":"u","ts_ms":%d,"transaction":null}`,
		image, image, 1_760_000_000_000+i, h, h+1, i, h, 1_760_000_000_100+i)
}

const largeTable = `CREATE TABLE db.%s (id UInt64, customer String, status LowCardinality(String), total Decimal(18, 2), items Array(String), city LowCardinality(String),
	zip String, comment String, op LowCardinality(String), ts Int64, _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX ingestd_block _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree ORDER BY id SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

const largeColumns = `id = { type = "uint64", path = "after.id" }
customer = { type = "string", path = "after.customer" }
status = { type = "string", path = "after.status" }
total = { type = "decimal(18, 2)", path = "after.total" }
items = { type = "array(string)", path = "after.items" }
city = { type = "string", path = "after.address.city" }
zip = { type = "string", path = "after.address.zip" }
comment = { type = "string", path = "after.comment" }
op = { type = "string" }
ts = { type = "int64", path = "ts_ms" }
`
