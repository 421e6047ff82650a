//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/kafkacalls"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	kafkasink "github.com/ingestd/ingestd/sink/kafka"
)

// traps is a sink on a topic of its own whose requests a test can hold back.
type traps struct {
	t        *testing.T
	cluster  *sinkCluster
	settings kafkasink.Settings
	segments segmentsInMemory
	mu       sync.Mutex
	on       func(name string, send func() error) error // nil lets everything pass
}

func newTraps(t *testing.T, c *sinkCluster) *traps {
	t.Helper()
	s := &traps{t: t, cluster: c, settings: c.settings(t, 3)}
	s.settings.Dial = kafkacalls.Dial(func(name string, send func() error) error {
		s.mu.Lock()
		on := s.on
		s.mu.Unlock()
		if on == nil {
			return send()
		}
		return on(name, send)
	})
	return s
}

// hold sets what happens to requests.
func (s *traps) hold(on func(name string, send func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

// atOnce does something at the first request of a name.
func (s *traps) atOnce(name string, do func(send func() error) error) {
	var once sync.Once
	s.hold(func(called string, send func() error) error {
		err := error(nil)
		done := false
		if called == name {
			once.Do(func() { err, done = do(send), true })
		}
		if done {
			return err
		}
		return send()
	})
}

// rows demands exactly the rows below an ID, once each, for a reader of committed records, and returns them.
func (s *traps) rows(below int64) []*kgo.Record {
	s.t.Helper()
	s.cluster.wait(s.t, transactionalIDOf(s.settings), decided)
	records, err := s.cluster.committed(context.Background(), s.settings.Topic)
	if err != nil {
		s.t.Fatal(err)
	}
	seen := map[int64]int{}
	for _, r := range records {
		var v struct {
			ID   int64  `json:"id"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(r.Value, &v); err != nil || v.Text != fmt.Sprintf("row %d", v.ID) {
			s.t.Errorf("a foreign or altered record: %s", r.Value)
		}
		seen[v.ID]++
	}
	for id := range below {
		if seen[id] != 1 {
			s.t.Errorf("row %d is there %d times", id, seen[id])
		}
		delete(seen, id)
	}
	if len(seen) > 0 {
		s.t.Errorf("rows that nobody committed: %v", seen)
	}
	return records
}

// versions runs a test at transaction versions 2, 1 and 0.
func versions(t *testing.T, run func(t *testing.T, c *sinkCluster)) {
	t.Helper()
	for _, v := range []int16{2, 1, 0} {
		t.Run(fmt.Sprintf("transaction.version=%d", v), func(t *testing.T) {
			c := startSinkKafka(t, map[string]string{"KAFKA_NUM_NETWORK_THREADS": "2"})
			c.setTransactionVersion(t, v)
			t.Cleanup(func() { c.setTransactionVersion(t, 2) })
			run(t, c)
		})
	}
}

// The EndTxn of checkpoint 1 is held back, an attempt without it commits 1, and it comes in the midst of checkpoint 2, when half of
// that is written. Without the protocol's guard it would show that half below transaction version 2.
func TestKafkaSink_lateEndTxnDoesNotEndTheNextTransaction(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		s := newTraps(t, c)
		r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
		first, second := r.unit(0, 300), r.unit(300, 600)
		var late func() error
		s.atOnce("EndTxn", func(send func() error) error {
			late = send
			return errors.New("the test holds it back")
		})
		if outcome, err := r.commit(first); outcome != sink.Unknown {
			t.Fatalf("without an answer to EndTxn the commit says %s: %v", outcome, err)
		}
		s.rows(0)
		s.hold(nil)
		r.commitAll(first)
		s.rows(300)
		// The last request before EndTxn writes the ledger's record; the first writes rows.
		s.atOnce("Produce", func(send func() error) error {
			if err := send(); err != nil {
				return err
			}
			if err := late(); err != nil {
				t.Error(err)
			}
			s.rows(300)
			return nil
		})
		r.commitAll(second)
		s.rows(600)
	})
}

// The EndTxn of checkpoint 1 comes a second time, in the midst of checkpoint 2: a network or a library that repeats it may do that.
func TestKafkaSink_doubledEndTxnDoesNotEndTheNextTransaction(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		s := newTraps(t, c)
		r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
		first, second := r.unit(0, 300), r.unit(300, 600)
		var again func() error
		s.atOnce("EndTxn", func(send func() error) error {
			again = send
			return send()
		})
		if outcome, err := r.commit(first); outcome != sink.Committed {
			t.Fatalf("got %s, %v", outcome, err)
		}
		s.rows(300)
		passed := 0
		s.hold(func(name string, send func() error) error {
			err := send()
			if name != "Produce" || err != nil {
				return err
			}
			if passed++; passed == 1 {
				if err := again(); err != nil {
					t.Error(err)
				}
				s.rows(300)
			}
			return nil
		})
		r.commitAll(second)
		s.rows(600)
	})
}

// The EndTxn of an attempt takes effect only when the next attempt is about to take the producer over. Until then a reader of the
// ledger is told that nothing was committed; after it, that all is.
func TestKafkaSink_ledgerBeforeTheTakeOverProvesNothing(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		s := newTraps(t, c)
		r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
		u := r.unit(0, 100)
		last := func() string {
			records, err := c.committed(context.Background(), s.settings.Ledger.Topic)
			if err != nil || len(records) == 0 {
				t.Fatalf("%d records in the ledger, %v", len(records), err)
			}
			return string(records[len(records)-1].Value)
		}
		var late func() error
		s.atOnce("EndTxn", func(send func() error) error {
			late = send
			return errors.New("the test holds it back")
		})
		if outcome, err := r.commit(u); outcome != sink.Unknown {
			t.Fatalf("got %s, %v", outcome, err)
		}
		s.atOnce("InitProducerID", func(send func() error) error {
			if got := last(); !strings.Contains(got, `"checkpoint":0`) {
				t.Errorf("before the take-over the ledger says %s, want no checkpoint: the test proves nothing", got)
			}
			if err := late(); err != nil {
				t.Error(err)
			}
			return send()
		})
		r.commitAll(u)
		if got := last(); !strings.Contains(got, `"checkpoint":1`) {
			t.Errorf("the ledger says %s", got)
		}
		s.rows(100)
	})
}

// A transaction that runs into its timeout before its end is aborted by the coordinator; the next attempt writes it again.
func TestKafkaSink_expiredTransactionIsWrittenAgain(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		for _, at := range []string{"EndTxn", "Produce"} {
			s := newTraps(t, c)
			s.settings.TransactionTimeout = time.Second
			r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
			u := r.unit(0, 100)
			// At the second Produce, which is the ledger's, rows are in an open transaction.
			passed := 0
			expire := func(send func() error) error {
				id := transactionalIDOf(s.settings)
				c.wait(t, id, func(state string) bool { return state != "Ongoing" && decided(state) })
				return send()
			}
			s.hold(func(name string, send func() error) error {
				if name == at {
					if passed++; at == "EndTxn" && passed == 1 || at == "Produce" && passed == 2 {
						return expire(send)
					}
				}
				return send()
			})
			if outcome, err := r.commit(u); outcome != sink.Unknown {
				t.Fatalf("%s after the timeout: the commit says %s: %v", at, outcome, err)
			}
			s.rows(0)
			s.hold(nil)
			r.commitAll(u)
			s.rows(100)
		}
	})
}

// A transactional id that nobody used for long is forgotten by the cluster. The ledger is not.
func TestKafkaSink_expiredTransactionalIDIsTakenAnew(t *testing.T) {
	c := startSinkKafka(t, map[string]string{
		"KAFKA_TRANSACTIONAL_ID_EXPIRATION_MS":                              "3000",
		"KAFKA_TRANSACTION_REMOVE_EXPIRED_TRANSACTION_CLEANUP_INTERVAL_MS":  "500",
		"KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "200",
		"KAFKA_PRODUCER_ID_EXPIRATION_MS":                                   "3000",
		"KAFKA_PRODUCER_ID_EXPIRATION_CHECK_INTERVAL_MS":                    "500",
	})
	s := newTraps(t, c)
	s.settings.TransactionTimeout = 2 * time.Second
	r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
	first := r.unit(0, 100)
	r.commitAll(first)
	c.wait(t, transactionalIDOf(s.settings), func(state string) bool { return state == "" || state == "Dead" })
	second := r.unit(100, 200)
	if outcome, err := r.commit(second); outcome == sink.Committed {
		t.Logf("the first attempt after the expiry goes well: %v", err)
	}
	r.commitAll(second, first, second)
	s.rows(200)
	// A successor finds the ledger as it was.
	again := startSinkRun(t, runOf{s.settings, 2, &s.segments}, r.state, second)
	again.commitAll(second)
	s.rows(200)
}

// Rows that were prepared for a topic are not written to another of the same name, unless a person says so.
func TestKafkaSink_recreatedTopicStopsLoudly(t *testing.T) {
	c := startSinkKafka(t, nil)
	s := newTraps(t, c)
	r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
	u := r.unit(0, 100)
	c.remove(t, s.settings.Topic)
	c.create(t, s.settings.Topic, 3, "delete")
	outcome, err := startSinkRun(t, runOf{s.settings, 2, &s.segments}, r.state, u).commit(u)
	if outcome != sink.Unknown || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "accept_topic_id") {
		t.Fatalf("a recreated topic: %s, %v (remedy %q)", outcome, err, fault.RemedyOf(err))
	}
	s.rows(0)
	s.settings.AcceptTopicID = c.topicID(t, s.settings.Topic)
	startSinkRun(t, runOf{s.settings, 3, &s.segments}, r.state, u).commitAll(u)
	s.rows(100)
}

// A topic that is deleted and created again while a session is open is found by its ID at the leader.
func TestKafkaSink_recreatedTopicIsFoundByTheLeader(t *testing.T) {
	c := startSinkKafka(t, nil)
	s := newTraps(t, c)
	r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
	r.commitAll(r.unit(0, 100))
	u := r.unit(100, 200)
	c.remove(t, s.settings.Topic)
	c.create(t, s.settings.Topic, 3, "delete")
	for range 5 {
		if outcome, err := r.commit(u); outcome != sink.Unknown {
			t.Fatalf("got %s, %v", outcome, err)
		} else if fault.KindOf(err) == fault.Misconfigured {
			s.rows(0)
			return
		}
	}
	t.Error("a recreated topic is never found")
}

// A ledger that is gone is not taken for one in which nothing was committed.
func TestKafkaSink_recreatedLedgerStopsLoudly(t *testing.T) {
	c := startSinkKafka(t, nil)
	s := newTraps(t, c)
	r := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
	first := r.unit(0, 100)
	r.commitAll(first)
	second := r.unit(100, 200)
	c.remove(t, s.settings.Ledger.Topic)
	c.create(t, s.settings.Ledger.Topic, 1, "compact")
	stopped := false
	for range 5 {
		outcome, err := r.commit(second)
		if outcome != sink.Unknown {
			t.Fatalf("got %s, %v", outcome, err)
		}
		if stopped = fault.KindOf(err) == fault.Corrupt; stopped {
			break
		}
	}
	if !stopped {
		t.Error("the run goes on asking a ledger that was deleted")
	}
	_, err := openSinkRun(t, runOf{s.settings, 2, &s.segments}, r.state, second)
	if fault.KindOf(err) != fault.Lost || !strings.Contains(fault.RemedyOf(err), "accept_id") {
		t.Fatalf("a successor: %v (remedy %q)", err, fault.RemedyOf(err))
	}
	s.rows(100)
	s.settings.Ledger.AcceptID = c.topicID(t, s.settings.Ledger.Topic)
	startSinkRun(t, runOf{s.settings, 3, &s.segments}, r.state, second).commitAll(second)
	s.rows(200)
}

// The ledger must be compacted and nothing else.
func TestKafkaSink_ledgerThatForgetsIsRefused(t *testing.T) {
	c := startSinkKafka(t, nil)
	for _, policy := range []string{"delete", "compact,delete"} {
		s := c.settings(t, 1)
		s.Ledger.Topic += "-" + policy[:2] + fmt.Sprint(len(policy))
		c.create(t, s.Ledger.Topic, 1, policy)
		_, err := openSinkRun(t, runOf{s, 1, &segmentsInMemory{}}, nil)
		if fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "cleanup.policy=compact") {
			t.Errorf("%s: %v (remedy %q)", policy, err, fault.RemedyOf(err))
		}
	}
}

// Runs under three leases commit the same checkpoints at the same time, each as a process that knows of no other. The newest wins in
// the end, and every row is there once.
func TestKafkaSink_racingZombies(t *testing.T) {
	versions(t, func(t *testing.T, c *sinkCluster) {
		t.Helper()
		const racers, rounds = 3, 6
		random := rand.New(rand.NewPCG(1, 2))
		for round := range rounds {
			s := newTraps(t, c)
			first := startSinkRun(t, runOf{s.settings, 1, &s.segments}, nil)
			units := []sink.Committable{first.unit(0, 50), first.unit(50, 100)}
			var work sync.WaitGroup
			answers := make([][]sink.Outcome, racers)
			for i := range racers {
				lease := record.Lease(i + 2)
				wait := time.Duration(random.IntN(60)) * time.Millisecond
				work.Go(func() {
					<-time.After(wait)
					r, err := openSinkRun(t, runOf{s.settings, lease, &s.segments}, first.state, units...)
					if err != nil {
						t.Error(err)
						return
					}
					answers[i] = race(r, units)
				})
			}
			work.Wait()
			if got := answers[racers-1]; len(got) != len(units) || got[0] != sink.Committed || got[1] != sink.Committed {
				t.Errorf("round %d: the newest lease is answered %v", round, got)
			}
			s.rows(100)
		}
	})
}

// race fences and commits until everything is answered.
func race(r *sinkRun, units []sink.Committable) []sink.Outcome {
	ctx := context.Background()
	for try := 0; ; try++ {
		err := r.commits.Fence(ctx)
		if err == nil {
			break
		}
		if fault.KindOf(err) == fault.Fenced || try > 100 {
			return []sink.Outcome{sink.Fenced}
		}
		waitABit()
	}
	var got []sink.Outcome
	for _, u := range units {
		outcome := sink.Unknown
		for try := 0; outcome == sink.Unknown && try < 100; try++ {
			if outcome, _, _ = r.commits.Commit(ctx, u); outcome == sink.Unknown {
				waitABit()
			}
		}
		if got = append(got, outcome); outcome != sink.Committed {
			break
		}
	}
	return got
}
