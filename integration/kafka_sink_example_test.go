//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The example runs as it stands, but for its folder and broker: keys decide the partition as the library's hasher of the Java client's
// kind does, timestamps and headers are kept, and what can't be decoded is in the dead letters, byte for byte.
func TestKafkaSink_exampleRuns(t *testing.T) {
	c := startSinkKafka(t, nil)
	text, err := os.ReadFile("../examples/kafka-to-kafka/kafka-to-kafka.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "example.toml")
	changed := strings.NewReplacer("localhost:9092", c.addr, "/tmp/kafka-to-kafka", dir, "[daemon]", "[daemon]\nlisten = \"\"").Replace(string(text))
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	c.create(t, "orders", 3, "delete")
	const n = 500
	refused := "\xff not JSON"
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{
			Topic: "orders", Value: fmt.Appendf(nil, `{"id":%d,"customer":"c%d","amount":%d.5,"at":"2026-01-01T00:00:%02dZ"}`, i, i%17, i-100, i%60),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "%d", i)}},
		})
	}
	records = append(records, &kgo.Record{Topic: "orders", Key: []byte("bad"), Value: []byte(refused)})
	producer, err := kgo.NewClient(kgo.SeedBrokers(c.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, daemonBinary(t, ""), config, "")
	wanted := map[string]int{"orders-clean": n - 100, "orders-refused": 1}
	got := map[string][]*kgo.Record{}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && (len(got["orders-clean"]) < n-100 || len(got["orders-refused"]) < 1); waitABit() {
		for topic := range wanted {
			if all, err := c.committed(context.Background(), topic); err == nil {
				got[topic] = all
			}
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d\n%s", code, d.tail())
	}
	for topic, want := range wanted {
		if len(got[topic]) != want {
			t.Fatalf("%s has %d records, want %d\n%s", topic, len(got[topic]), want, d.tail())
		}
	}
	byKey := kgo.StickyKeyPartitioner(nil).ForTopic("orders-clean")
	for _, r := range got["orders-clean"] {
		var id int
		if _, err := fmt.Sscanf(string(r.Value), `{"id":%d,`, &id); err != nil || id < 100 {
			t.Fatalf("a record of another form: %s", r.Value)
		}
		at := time.Date(2026, 1, 1, 0, 0, id%60, 0, time.UTC)
		if string(r.Key) != fmt.Sprintf("c%d", id%17) || !r.Timestamp.Equal(at) || len(r.Headers) != 1 || string(r.Headers[0].Value) != fmt.Sprint(id) {
			t.Errorf("record %s: key %s, timestamp %s, headers %v", r.Value, r.Key, r.Timestamp, r.Headers)
		}
		if want := byKey.Partition(&kgo.Record{Key: r.Key}, 12); int(r.Partition) != want {
			t.Errorf("key %s is in partition %d, want %d", r.Key, r.Partition, want)
		}
	}
	if r := got["orders-refused"][0]; string(r.Value) != refused || string(r.Key) != "bad" || len(r.Headers) != 2 || string(r.Headers[1].Value) != "decode" {
		t.Errorf("dead letter: key %q, value %q, headers %v", r.Key, r.Value, r.Headers)
	}
}
