package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// unlimited is the capacity of a budget that bounds nothing.
const unlimited = 1 << 40

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// client returns a client of the cluster for writing. Records go to the partition that they name.
func client(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
	}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// produce writes values to a partition, as one batch, and returns their offsets' first.
func produce(t *testing.T, cl *kgo.Client, topic string, partition int32, values ...string) int64 {
	t.Helper()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}
	}
	return send(t, cl, records...)
}

func send(t *testing.T, cl *kgo.Client, records ...*kgo.Record) int64 {
	t.Helper()
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
	return records[0].Offset
}

// transaction writes values to partition 0 in a transaction and ends it.
func transaction(t *testing.T, cl *kgo.Client, end kgo.TransactionEndTry, topic string, values ...string) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, cl, topic, 0, values...)
	if err := cl.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

func numbered(prefix string, from, to int) []string {
	values := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf("%s-%d", prefix, i))
	}
	return values
}

func settings(c *kfake.Cluster, topics ...string) Settings {
	return Settings{Brokers: c.ListenAddrs(), Topics: topics, GoneAfter: 500 * time.Millisecond}
}

func newSource(t *testing.T, s Settings) *Source {
	t.Helper()
	return loggingSource(t, s, quietLog())
}

func loggingSource(t *testing.T, s Settings, log *slog.Logger) *Source {
	t.Helper()
	src, err := New(s, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
}

func discover(t *testing.T, src *Source, known ...source.Split) []source.Split {
	t.Helper()
	splits, err := src.Discover(t.Context(), known)
	if err != nil {
		t.Fatalf("discover: %v", err)
	}
	return splits
}

func openReader(t *testing.T, src *Source, splits []source.Split, budget source.Budget) *Reader {
	t.Helper()
	if budget == nil {
		budget = sourcetest.NewBudget(unlimited)
	}
	got, err := src.Open(t.Context(), splits, budget)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	r, ok := got.(*Reader)
	if !ok {
		t.Fatalf("got a reader of type %T", got)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func allFinished(splits []source.Split) func(l *sourcetest.Log) bool {
	return func(l *sourcetest.Log) bool { return len(l.Finished) == len(splits) }
}

// readAll reads all of bounded splits.
func readAll(t *testing.T, r *Reader, splits []source.Split) *sourcetest.Log {
	t.Helper()
	l, err := sourcetest.Collect(t, r, splits, allFinished(splits))
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return l
}

// readCount reads until a number of records has come.
func readCount(t *testing.T, r *Reader, splits []source.Split, n int) *sourcetest.Log {
	t.Helper()
	l, err := sourcetest.Collect(t, r, splits, func(l *sourcetest.Log) bool { return count(l) >= n })
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	return l
}

func count(l *sourcetest.Log) int {
	n := 0
	for _, records := range l.Records {
		n += len(records)
	}
	return n
}

// pollError polls until the reader fails and returns the error.
func pollError(t *testing.T, r *Reader, splits []source.Split) error {
	t.Helper()
	_, err := sourcetest.Collect(t, r, splits, func(*sourcetest.Log) bool { return false })
	return err
}

// wantFault checks an error's kind and that its text names what it must.
func wantFault(t *testing.T, err error, kind fault.Kind, names ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one of the kind %s", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Errorf("got the kind %s of %q, want %s", got, err, kind)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("got %q, want it to name %q", err, name)
		}
	}
}

// eventually waits for a condition that nothing reports.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !condition() {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			t.Fatalf("%s: it did not happen within %s", what, patience)
		}
	}
}

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements [io.Writer].
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all lines.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
