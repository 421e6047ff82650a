//go:build integration

package integration

import (
	"context"
	"fmt"
	"net/http"
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

// What the README says of a topic and a table of one's own works as it stands there, with nothing changed but addresses, paths
// and the user's name.
func TestReadme_ownTopicAndTable(t *testing.T) {
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(data), "## Your own topic and table")
	if !found {
		t.Fatal("the README has no such section")
	}
	home := t.TempDir()
	port := freePort(t)
	broker, _ := kafkaServer(t)
	server := clickHouseServer(t)
	conn := server.connect(t)
	defer conn.Close()
	ctx := context.Background()
	for _, q := range []string{"DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop", fenced(t, section, "sql")} {
		if err := conn.Exec(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	config := filepath.Join(home, "my.toml")
	text := fenced(t, section, "toml")
	for old, by := range map[string]string{
		"/var/lib/ingestd": home, "localhost:9092": broker, "localhost:9000": server.addr, `user = "ingestd"`: fmt.Sprintf("user = %q", clickHouseUser),
		"[daemon]": fmt.Sprintf("[daemon]\nlisten = \"127.0.0.1:%s\"", port),
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the README's config has no %s", old)
		}
		text = strings.ReplaceAll(text, old, by)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	produceOrders(t, broker)
	t.Setenv("CLICKHOUSE_PASSWORD", clickHousePassword)
	path := daemonBinary(t, "")
	for _, args := range [][]string{{"validate", "-c", config}, {"validate", "-c", config, "--connect"}} {
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "exactly-once") {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	d := startDaemon(t, path, config, "")
	const want = 900 // a tenth is filtered
	for deadline := time.Now().Add(time.Minute); server.count(t, "SELECT count() FROM shop.orders") != fmt.Sprint(want); waitABit() {
		if time.Now().After(deadline) {
			t.Fatalf("got %s rows, want %d\n%s", server.count(t, "SELECT count() FROM shop.orders"), want, d.tail())
		}
	}
	for _, page := range []string{"livez", "readyz", "metrics"} {
		res, err := http.Get("http://127.0.0.1:" + port + "/" + page)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("/%s answers %s", page, res.Status)
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(30 * time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, d.tail())
	}
	if got := server.count(t, "SELECT toString((uniqExact(id), count(), toInt64(sum(amount)))) FROM shop.orders"); got != "(900,900,450000)" {
		t.Errorf("got %s distinct orders, rows and amount", got)
	}
	if n := countLines(t, filepath.Join(home, "dead-letters")); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// fenced returns the first block of a language in Markdown text.
func fenced(t *testing.T, text, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "```"+language+"\n")
	block, _, ended := strings.Cut(rest, "\n```")
	if !found || !ended {
		t.Fatalf("the README has no block of %s", language)
	}
	return block
}

// produceOrders writes 1000 orders, of which a tenth has no amount, and a record that is none.
func produceOrders(t *testing.T, broker string) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, err := kadm.NewClient(producer).CreateTopic(context.Background(), 2, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	records := []*kgo.Record{{Value: []byte("no order")}}
	for i := range 1000 {
		amount := 500
		if i%10 == 0 {
			amount = 0
		}
		records = append(records, &kgo.Record{Value: fmt.Appendf(nil, `{"id":%d,"amount":%d,"at":"2026-01-31T12:00:00.%03dZ"}`, i, amount, i)})
	}
	if err := producer.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
