package kafkatxn

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
)

// leftOpen returns a broker with the topic t of two partitions, and a client of it. A transaction of billing-7 is open in both.
func leftOpen(t *testing.T) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "t", "other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dead, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("billing-7"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := dead.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("a")}, &kgo.Record{Topic: "t", Partition: 1, Value: []byte("b")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dead.CloseAllowingRebalance()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return c, client
}

func mustOpen(t *testing.T, client *kgo.Client, topics ...string) []Transaction {
	t.Helper()
	open, err := Open(t.Context(), client, topics)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// What a producer left open is found with its ID and places, and is gone after the abort, which fences the producer.
func TestOpen_findsWhatIsLeftAndAbortEndsIt(t *testing.T) {
	_, client := leftOpen(t)
	if open := mustOpen(t, client, "other"); len(open) != 0 {
		t.Errorf("the other topic has %+v", open)
	}
	open := mustOpen(t, client, "t", "other")
	if len(open) != 1 || open[0].ID != "billing-7" || open[0].State != "Ongoing" || open[0].Hanging() || open[0].Timeout == 0 || len(open[0].Places) != 2 {
		t.Fatalf("got %+v, want one transaction of billing-7 in two places", open)
	}
	if p := open[0].Places[1]; p.Topic != "t" || p.Partition != 1 || p.From != 0 {
		t.Errorf("got %+v, want t/1 from 0", p)
	}
	if err := Abort(t.Context(), client, &open[0]); err != nil {
		t.Fatal(err)
	}
	if open := mustOpen(t, client, "t"); len(open) != 0 {
		t.Errorf("after the abort: %+v", open)
	}
}

// A transaction that no coordinator knows hangs, and is closed with markers.
func TestAbort_closesWhatHangs(t *testing.T) {
	c, client := leftOpen(t)
	c.ControlKey(int16(kmsg.ListTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return req.ResponseKind(), nil, true
	})
	open := mustOpen(t, client, "t")
	if len(open) != 1 || !open[0].Hanging() || open[0].ID != "" {
		t.Fatalf("got %+v, want one that hangs", open)
	}
	if err := Abort(t.Context(), client, &open[0]); err != nil {
		t.Fatal(err)
	}
	// The broker of these tests goes by its coordinator in DescribeProducers; what readers wait for is the last stable offset.
	stable, err := kadm.NewClient(client).ListCommittedOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	stable.Each(func(o kadm.ListedOffset) {
		if o.Offset != 2 {
			t.Errorf("t/%d is stable up to %d, want 2: behind the record and its marker", o.Partition, o.Offset)
		}
	})
}

// What its coordinator is ending is left to it.
func TestAbort_leavesWhatIsBeingEnded(t *testing.T) {
	_, client := leftOpen(t)
	err := Abort(t.Context(), client, &Transaction{ProducerID: 1, ID: "billing-7", State: "PrepareCommit"})
	if fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v, want transient", err)
	}
	if open := mustOpen(t, client, "t"); len(open) != 1 {
		t.Errorf("got %+v, want it open", open)
	}
}

// A topic that is not there is the asker's mistake; brokers that do not answer are not.
func TestOpen_saysWhoMustAct(t *testing.T) {
	_, client := leftOpen(t)
	if _, err := Open(t.Context(), client, []string{"nosuch"}); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got %v, want misconfigured", err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := Open(ended, client, []string{"t"}); fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v, want transient", err)
	}
}
