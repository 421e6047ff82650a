package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/source/sourcetest"
)

// virtual runs a test in virtual time against a cluster on an in-memory network.
func virtual(t *testing.T, test func(t *testing.T, c *kfake.Cluster, s Settings, cl *kgo.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(network.Listen), kfake.Ports(9092), kfake.SeedTopics(1, "orders"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cl, err := kgo.NewClient(kgo.SeedBrokers("localhost:9092"), kgo.Dialer(network.DialContext), kgo.TransactionalID("app-7"),
			kgo.TransactionTimeout(10*time.Minute),
			kgo.DisableClientMetrics(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		test(t, c, Settings{Brokers: []string{"localhost:9092"}, Topics: []string{"orders"}, Dial: network.DialContext}, cl)
	})
}

// A transaction that nobody ends holds back every record behind it, and no broker calls that an error. The reader says so and
// names it.
func TestReader_openTransactionIsNamed(t *testing.T) {
	for _, denied := range []bool{false, true} {
		t.Run(fmt.Sprintf("denied=%t", denied), func(t *testing.T) {
			virtual(t, func(t *testing.T, c *kfake.Cluster, s Settings, cl *kgo.Client) {
				t.Helper()
				if denied {
					c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeProducers, kmsg.ListTransactions}, Err: kerr.TopicAuthorizationFailed, Count: -1})
				}
				transaction(t, cl, kgo.TryCommit, "orders", "a", "b")
				if err := cl.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				produce(t, cl, "orders", 0, "c", "d")
				var log lines
				src, err := New(s, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				splits := discover(t, src)
				r, err := src.Open(t.Context(), splits, sourcetest.NewBudget(unlimited))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				read := 0
				wait := func(d time.Duration) {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					for ctx.Err() == nil {
						f, err := r.Poll(ctx)
						if err != nil {
							t.Fatal(err)
						}
						read += len(f.Rows)
					}
				}
				wait(stuckAfter / 2)
				if why := r.Waiting(); read != 2 || why != "" {
					t.Errorf("after %s: got %d records and Waiting %q, want 2 and none", stuckAfter/2, read, why)
				}
				if lag := r.Lag()[0]; lag.Records != 2 || lag.Seconds != -1 {
					t.Errorf("got the lag %+v, want 2 records", lag)
				}
				wait(stuckAfter)
				want := `the open transaction "app-7" (producer `
				if denied {
					want = "an open transaction holds back 2 records"
				}
				why := r.Waiting()
				if !strings.Contains(why, want) || !strings.Contains(why, "holds back 2 records from offset 3 on") {
					t.Errorf("got Waiting %q, want %q in it", why, want)
				}
				wait(time.Minute)
				if why := r.Waiting(); !strings.Contains(why, "for 1m1") {
					t.Errorf("got Waiting %q, want how long", why)
				}
				if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
					t.Fatal(err)
				}
				wait(time.Second)
				if why := r.Waiting(); read != 4 || why != "" {
					t.Errorf("after the commit: got %d records and Waiting %q, want 4 and none", read, why)
				}
				text := log.String()
				if strings.Count(text, "split waits") != 1 || strings.Count(text, "split goes on") != 1 {
					t.Errorf("got the log %q, want one line for the beginning and one for the end", text)
				}
			})
		})
	}
}

// An hour without news costs one fetch each half second and metadata each minute, and ends with the next record.
func TestReader_anHourOfSilence(t *testing.T) {
	virtual(t, func(t *testing.T, c *kfake.Cluster, s Settings, cl *kgo.Client) {
		t.Helper()
		src, err := New(s, quietLog())
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		splits := discover(t, src)
		fetches, meta := observe(t, c, kmsg.Fetch), observe(t, c, kmsg.Metadata)
		r, err := src.Open(t.Context(), splits, sourcetest.NewBudget(unlimited))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if f, err := r.Poll(ctx); err != nil || f.Next.Split != "" {
			t.Errorf("got %+v, %v, want nothing", f.Next, err)
		}
		if n := fetches.Hits(); n < 7000 || n > 7300 {
			t.Errorf("got %d fetches in an hour, want 7200", n)
		}
		if n := meta.Hits(); n < 55 || n > 140 {
			t.Errorf("got %d metadata requests in an hour, want about one a minute", n)
		}
		transaction(t, cl, kgo.TryCommit, "orders", "news")
		f, err := r.Poll(t.Context())
		if err != nil || len(f.Rows) != 1 {
			t.Errorf("got %d rows, %v, want the one", len(f.Rows), err)
		}
	})
}
