//go:build integration

package integration

import (
	"context"
	"errors"
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

	"github.com/ingestd/ingestd/internal/kafkatxn"
)

// beginTransaction leaves a transaction open with one record in each of two partitions of a topic.
func beginTransaction(t *testing.T, addr, topic, id string) {
	t.Helper()
	dead, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(10*time.Minute), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer dead.CloseAllowingRebalance() // which ends no transaction
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	never := []*kgo.Record{{Topic: topic, Value: []byte(`{"n":"never"}`)}, {Topic: topic, Partition: 1, Value: []byte(`{"n":"never"}`)}}
	if err := dead.ProduceSync(t.Context(), never...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// A source that stands still behind a dead producer's transaction is explained and freed: list and show name the transaction, abort
// ends it, and the pipeline reads on without its records.
func TestTxn_openTransactionIsNamedAndAborted(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 2, "txn", nil)
	id := "billing-" + topic
	beginTransaction(t, k.addr, topic, id)
	k.send(t, &kgo.Record{Topic: topic, Value: []byte(`{"n":"behind"}`)}, &kgo.Record{Topic: topic, Partition: 1, Value: []byte(`{"n":"behind"}`)})
	dir := t.TempDir()
	config := filepath.Join(dir, "txn.toml")
	text := fmt.Sprintf(`
[daemon]
data_dir = %q
listen = ""
[pipeline.p.source]
type = "kafka"
brokers = [%q]
topics = [%q]
[pipeline.p.decode]
type = "json"
columns = { n = "string" }
[pipeline.p.sink]
type = "file"
path = %q
roll = { every_checkpoint = true }
`, filepath.Join(dir, "data"), k.addr, topic, filepath.Join(dir, "out"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path := daemonBinary(t, "faultpoints,invariants")
	txn := func(wantCode int, want string, args ...string) {
		t.Helper()
		out, err := exec.Command(path, append(append([]string{"txn"}, args...), "-c", config)...).CombinedOutput()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		if code != wantCode || !strings.Contains(string(out), want) {
			t.Errorf("txn %v: exit code %d, want %d, and %q in\n%s", args, code, wantCode, want, out)
		}
	}
	txn(0, id, "list", "p")
	txn(0, topic+"/1", "show", "p", id)
	txn(1, "no open transaction", "show", "p", "nosuch")
	txn(0, "nothing was done", "abort", "p", id)
	txn(0, id, "list", "p", "--topic", topic)
	d := startDaemon(t, path, config, "")
	defer d.kill()
	txn(0, "aborted", "abort", "p", id, "--yes")
	txn(0, "no transaction is open", "list", "p")
	untilTrue(t, "both records behind the transaction", func() bool {
		var rows []string
		files, err := filepath.Glob(filepath.Join(dir, "out", "*.ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, strings.Fields(string(data))...)
		}
		if strings.Contains(strings.Join(rows, " "), "never") {
			t.Fatalf("a record of the aborted transaction was read: %q", rows)
		}
		return len(rows) == 2
	})
	d.signal(syscall.SIGTERM)
	if code := d.exit(20 * time.Second); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A transaction that no coordinator would end is closed partition by partition with markers, as a real broker takes them.
func TestTxn_hangingTransactionIsClosedWithMarkers(t *testing.T) {
	k := newTopics(t)
	topic := k.create(t, 2, "txn-hangs", nil)
	beginTransaction(t, k.addr, topic, "hangs-"+topic)
	open, err := kafkatxn.Open(t.Context(), k.cl, []string{topic})
	if err != nil || len(open) != 1 || open[0].Hanging() || len(open[0].Places) != 2 || open[0].Timeout != 10*time.Minute {
		t.Fatalf("got %+v, %v, want one that is running", open, err)
	}
	open[0].ID, open[0].State = "", "" // as if its coordinator had forgotten it
	if err := kafkatxn.Abort(t.Context(), k.cl, &open[0]); err != nil {
		t.Fatal(err)
	}
	if open, err = kafkatxn.Open(t.Context(), k.cl, []string{topic}); err != nil || len(open) != 0 {
		t.Errorf("got %+v, %v, want nothing open", open, err)
	}
	stable := func(ctx context.Context) int64 {
		offsets, err := k.adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		offsets.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum
	}
	if got := stable(t.Context()); got != 4 {
		t.Errorf("the partitions are stable up to %d together, want 4: two records and their markers", got)
	}
}
