//go:build integration

package integration

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/registry"
	"github.com/ingestd/ingestd/internal/registry/registrytest"
)

const registryImage = "apicurio/apicurio-registry-mem:2.6.13.Final"

// registryServer starts a schema registry, which refuses schemas that are not backward compatible, and returns the address of
// its API. What it holds ends with it.
func registryServer(t *testing.T) (url string, server testcontainers.Container) {
	t.Helper()
	const port, api = "8080/tcp", "/apis/ccompat/v7"
	server, err := testcontainers.Run(context.Background(), registryImage, testcontainers.WithExposedPorts(port),
		testcontainers.WithWaitStrategyAndDeadline(3*time.Minute, wait.ForHTTP(api+"/subjects").WithPort(port)))
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupContainer(t, server)
	endpoint, err := server.PortEndpoint(t.Context(), port, "http")
	if err != nil {
		t.Fatal(err)
	}
	url = endpoint + api
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/config", strings.NewReader(`{"compatibility":"BACKWARD"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("set the compatibility: %v, %v", answer, err)
	}
	answer.Body.Close()
	return url, server
}

func registryClient(t *testing.T, url string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Settings{URLs: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A real registry answers as the one in memory that all other tests use.
func TestRegistry_realServerHasTheAPI(t *testing.T) {
	url, _ := registryServer(t)
	registrytest.Run(t, registryClient(t, url))
}

// avroTopic writes records of Avro to a topic.
type avroTopic struct {
	t      *testing.T
	client *kgo.Client
	n      int64
}

func newAvroTopic(t *testing.T, broker, topic string) *avroTopic {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(context.Background(), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	return &avroTopic{t: t, client: client}
}

// orders writes numbered records by a schema ID; more is what the schema has behind the number.
func (a *avroTopic) orders(id uint32, count int, more ...byte) {
	a.t.Helper()
	var values [][]byte
	for range count {
		value := binary.BigEndian.AppendUint32([]byte{0}, id)
		value = binary.AppendUvarint(value, uint64(a.n)<<1)
		values = append(values, append(value, more...))
		a.n++
	}
	a.raw(values...)
}

func (a *avroTopic) raw(values ...[]byte) {
	a.t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Value: v})
	}
	if err := a.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		a.t.Fatal(err)
	}
}

// linesOf returns the lines of all complete files in a folder; each file's first ones are its header, if it must have one.
func linesOf(t *testing.T, dir, ending, header string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := strings.CutPrefix(string(data), header)
		if !ok {
			t.Fatalf("the file %s begins with %.100q, want the header %q", name, data, header)
		}
		lines = append(lines, slices.Collect(strings.Lines(text))...)
	}
	return lines
}

const registryConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.orders]
source = { type = "kafka", brokers = ["%[2]s"], topics = ["registry-orders"] }
sink = { type = "file", path = "%[1]s/out", roll = { every_checkpoint = true }, encode = { type = "csv", header = true } }
dead_letter = { type = "file", path = "%[1]s/letters", roll = { every_checkpoint = true } }
checkpoint = { interval = "200ms" }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[pipeline.orders.decode]
type = "avro"
registry = { urls = ["http://127.0.0.1:1", "%[3]s"] }
registry_timeout = "1s"
columns = { n = "int64", note = "nullable(string)", price = { type = "nullable(decimal(9, 2))", path = "item.price" } }
`

// The registry stops while records come. Those of known schemas go on, also after a restart of the daemon; an unknown ID and a wrong
// first byte are dead letters, and what follows them is not held up. Every record comes out once.
func TestRegistry_stoppedInTheMidst(t *testing.T) {
	broker, _ := kafkaServer(t)
	url, server := registryServer(t)
	c := registryClient(t, url)
	register := func(fields string) uint32 {
		t.Helper()
		id, err := c.Register(t.Context(), "registry-orders-value", registry.Schema{Type: "AVRO", Text: `{"type":"record","name":"Order","fields":[{"name":"n","type":"long"}` + fields + `]}`}, c.Once)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := register("")
	second := register(`,{"name":"note","type":["null","string"],"default":null},{"name":"item","type":["null",{"type":"record","name":"Item","fields":[
		{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}]}],"default":null}`)
	unread := register(`,{"name":"later","type":"int","default":0}`)

	topic := newAvroTopic(t, broker, "registry-orders")
	dir := t.TempDir()
	file := filepath.Join(dir, "my.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, registryConfig, dir, broker, url), 0o600); err != nil {
		t.Fatal(err)
	}
	const header = "n,note,price\n"
	rows := func() []string { return linesOf(t, filepath.Join(dir, "out"), ".csv", header) }
	letters := func() []string { return linesOf(t, filepath.Join(dir, "letters"), ".ndjson", "") }
	path := daemonBinary(t, "faultpoints,invariants")
	d := startDaemon(t, path, file, "")
	topic.orders(first, 100)
	topic.orders(second, 100, 2, 4, 'h', 'i', 2, 2, 0x80)
	untilTrue(t, "rows of both schemas", func() bool { return len(rows()) == 200 })

	if err := server.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	topic.orders(first, 50)
	topic.orders(second, 50, 0, 0)
	untilTrue(t, "rows of known schemas without the registry", func() bool { return len(rows()) == 300 })

	d.kill()
	d = startDaemon(t, path, file, "")
	topic.orders(first, 50)
	topic.orders(second, 50, 0, 0)
	untilTrue(t, "rows of known schemas after a restart without the registry", func() bool { return len(rows()) == 400 })

	topic.orders(unread, 3, 0)
	topic.raw([]byte{1, 0, 0, 0, 1, 2}, []byte("{}"))
	topic.orders(second, 50, 0, 0)
	untilTrue(t, "rows behind what can't be read", func() bool { return len(rows()) == 450 })
	untilTrue(t, "dead letters", func() bool { return len(letters()) == 5 })
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.tail())
	}
	for want, n := range map[string]int{fmt.Sprintf("schema %d: ", unread): 3, "the first byte is 1": 1, "2 bytes, the header": 1} {
		if got := strings.Count(strings.Join(letters(), ""), want); got != n {
			t.Errorf("got %d dead letters with %q, want %d:\n%s", got, want, n, strings.Join(letters(), ""))
		}
	}
	judgeOrders(t, rows(), topic.n, 3)
}

// judgeOrders checks that every number came out once, but for those of the unread records, and with its schema's values.
func judgeOrders(t *testing.T, rows []string, produced int64, unread int) {
	t.Helper()
	seen := map[string]bool{}
	var full int
	for _, row := range rows {
		n, rest, _ := strings.Cut(strings.TrimSpace(row), ",")
		if seen[n] {
			t.Errorf("the number %s came out twice", n)
		}
		seen[n] = true
		switch rest {
		case "hi,-1.28":
			full++
		case ",":
		default:
			t.Errorf("got row %q", row)
		}
	}
	if int64(len(seen)) != produced-int64(unread) || full != 100 {
		t.Errorf("got %d numbers, %d of them with all values, want %d and 100", len(seen), full, produced-int64(unread))
	}
	if bytes.Contains([]byte(strings.Join(rows, "")), []byte("\r")) {
		t.Error("got carriage returns")
	}
}

// The example runs as it stands, but for its addresses, its folder and its interval.
func TestRegistry_exampleAvroToFiles(t *testing.T) {
	broker, _ := kafkaServer(t)
	url, _ := registryServer(t)
	c := registryClient(t, url)
	const topicName = "registry-example"
	schema := `{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null},
		{"name":"customer","type":{"type":"record","name":"Customer","fields":[{"name":"address","type":["null",{"type":"record","name":"Address",
		"fields":[{"name":"city","type":"string"}]}]}]}},
		{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
		{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"n","type":"int"}]}}}]}`
	id, err := c.Register(t.Context(), topicName+"-value", registry.Schema{Type: "AVRO", Text: schema}, c.Once)
	if err != nil {
		t.Fatal(err)
	}
	topic := newAvroTopic(t, broker, topicName)
	// note "x", Berlin, 0.05, 1 ms, one line "ab" 2
	topic.orders(id, 200, 2, 2, 'x', 2, 12, 'B', 'e', 'r', 'l', 'i', 'n', 2, 5, 2, 2, 4, 'a', 'b', 4, 0)
	topic.orders(id, 1, 7)

	text, err := os.ReadFile("../examples/avro-to-files/avro-to-files.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := strings.NewReplacer("/tmp/avro-to-files", dir, "localhost:9092", broker, "http://localhost:8081", url, `["orders"]`, `["`+topicName+`"]`,
		"[daemon]\n", "[daemon]\nlisten = \"\"\n", "[pipeline.orders.sink]\n", "[pipeline.orders.sink]\nroll = { every_checkpoint = true }\n").Replace(string(text)) +
		"\n[pipeline.orders.checkpoint]\ninterval = \"200ms\"\n"
	file := filepath.Join(dir, "my.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, daemonBinary(t, "faultpoints,invariants"), file, "")
	rows := func() (lines []string) {
		names, err := filepath.Glob(filepath.Join(dir, "out", "*.csv.gz"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data := gunzip(t, name)
			data, ok := strings.CutPrefix(data, "id,note,city,amount,at,lines\n")
			if !ok {
				t.Fatalf("the file %s has no header", name)
			}
			lines = append(lines, slices.Collect(strings.Lines(data))...)
		}
		return lines
	}
	untilTrue(t, "rows", func() bool { return len(rows()) == 200 })
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.tail())
	}
	want := `0,x,Berlin,0.05,1970-01-01T00:00:00.001Z,"[{""sku"":""ab"",""n"":2}]"` + "\n"
	if !slices.Contains(rows(), want) {
		t.Errorf("got no row %q in %q", want, rows()[:3])
	}
	if letters := linesOf(t, filepath.Join(dir, "refused"), ".ndjson", ""); len(letters) != 1 || !strings.Contains(letters[0], `"column":"note"`) {
		t.Errorf("got dead letters %q, want one of the column note", letters)
	}
}

func gunzip(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const registryKafkaConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.write]
source = { type = "kafka", brokers = ["%[2]s"], topics = ["registry-json"] }
decode = { type = "json", columns = { n = "int64", name = "nullable(string)", at = "timestamp(6)", tags = "array(string)" } }
checkpoint = { interval = "200ms" }

[pipeline.write.sink]
type = "kafka"
brokers = ["%[2]s"]
topic = "registry-avro"
encode = { type = "avro", name = "Row", namespace = "it", registry = { urls = ["%[3]s"] } }

[pipeline.read]
source = { type = "kafka", brokers = ["%[2]s"], topics = ["registry-avro"] }
decode = { type = "avro", registry = { urls = ["%[3]s"] }, columns = { n = "int64", name = "nullable(string)", at = "timestamp(6)", tags = "array(string)" } }
sink = { type = "file", path = "%[1]s/out", roll = { every_checkpoint = true } }
checkpoint = { interval = "200ms" }
`

// Rows go to Kafka as Avro, with a schema made of their columns that a real registry takes, and another pipeline reads them back; both
// go on after a restart while the registry is away. What would be registered is shown before.
func TestRegistry_avroThroughKafka(t *testing.T) {
	broker, _ := kafkaServer(t)
	url, server := registryServer(t)
	in := newAvroTopic(t, broker, "registry-json")
	newAvroTopic(t, broker, "registry-avro")
	const count = 500
	var values [][]byte
	for n := range count {
		name := `null`
		if n%2 == 0 {
			name = `"é"`
		}
		values = append(values, fmt.Appendf(nil, `{"n":%d,"name":%s,"at":"2026-11-03T10:11:12.%06dZ","tags":["a","b"]}`, n, name, n))
	}
	in.raw(values[:count/2]...)
	dir := t.TempDir()
	file := filepath.Join(dir, "my.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, registryKafkaConfig, dir, broker, url), 0o600); err != nil {
		t.Fatal(err)
	}
	path := daemonBinary(t, "faultpoints,invariants")
	shown, err := exec.Command(path, "validate", "--connect", "-c", file).CombinedOutput()
	if want := `registers a schema with subject "registry-avro-value"`; err != nil || !strings.Contains(string(shown), want) {
		t.Errorf("validate --connect: %v, want %s:\n%s", err, want, shown)
	}
	d := startDaemon(t, path, file, "")
	rows := func() []string { return linesOf(t, filepath.Join(dir, "out"), ".ndjson", "") }
	untilTrue(t, "rows", func() bool { return len(rows()) >= count/2 })
	c := registryClient(t, url)
	schema, err := c.ByVersion(t.Context(), "registry-avro-value", 1, c.Once)
	if err != nil || !strings.Contains(schema.Text, `"logicalType":"timestamp-micros"`) {
		t.Errorf("got schema %+v, %v", schema, err)
	}
	if err := server.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	d.kill()
	d = startDaemon(t, path, file, "")
	in.raw(values[count/2:]...)
	untilTrue(t, "rows after a restart without the registry", func() bool { return len(rows()) >= count })
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.tail())
	}
	got := rows()
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	want := make([]string, count)
	for i := range values {
		want[i] = string(values[i])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d rows, the first %q, want %d, the first %q", len(got), got[0], len(want), want[0])
	}
}
