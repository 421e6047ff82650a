// Package kafkatxn looks for the transactions that are open in Kafka topics, and ends those whose producer is gone. A reader with
// read_committed does not get past the first record of an open transaction.
//
// What a broker of a partition knows (DescribeProducers) and what the transaction coordinators know (ListTransactions,
// DescribeTransactions) are put together, as in KIP-664.
package kafkatxn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
)

// Cluster is a source or a sink that works with topics of a Kafka cluster.
type Cluster interface {
	// KafkaClient returns a client of the cluster, which the plugin or the end of the process closes.
	KafkaClient() (*kgo.Client, error)
	// KafkaTopics returns the topics that are read or written, as far as they are known now.
	KafkaTopics(ctx context.Context) ([]string, error)
}

// Transaction is one that is open in some partitions.
type Transaction struct {
	ProducerID int64
	// ID is the transactional ID; "" when no coordinator knows a transaction of this producer.
	ID string
	// State is what the coordinator says of it: Ongoing, PrepareCommit, PrepareAbort …; "" when no coordinator knows it.
	State   string
	Timeout time.Duration // after which the coordinator aborts it; 0 unknown
	Started time.Time     // zero unknown
	Places  []Place       // sorted
}

// Place is a partition in which a transaction is open.
type Place struct {
	Topic            string
	Partition        int32
	From             int64 // offset of the transaction's first record there
	ProducerEpoch    int16
	CoordinatorEpoch int32
	LastWrite        time.Time
}

// Hanging reports whether no coordinator will ever end the transaction: it is open in a partition, and nobody knows it as running.
func (t *Transaction) Hanging() bool {
	switch t.State {
	case "Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence":
		return false
	}
	return true
}

// Open returns the transactions that are open in the topics, those that hold back most first. Error kinds: fault.Transient when the
// brokers can't be asked, fault.Misconfigured for a topic that is not there or may not be described.
func Open(ctx context.Context, client *kgo.Client, topics []string) ([]Transaction, error) {
	const op = "kafkatxn.Open"
	adm := kadm.NewClient(client)
	set := kadm.TopicsSet{}
	listed, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fault.E(op, kindOf(err), fmt.Errorf("list topics: %w", err))
	}
	for _, t := range listed.Sorted() {
		if t.Err != nil {
			return nil, fault.E(op, kindOf(t.Err), fmt.Errorf("topic %q: %w", t.Topic, t.Err))
		}
		for partition := range t.Partitions {
			set.Add(t.Topic, partition)
		}
	}
	if len(set) == 0 {
		return nil, nil
	}
	described, err := adm.DescribeProducers(ctx, set)
	if err != nil {
		return nil, fault.E(op, kindOf(err), fmt.Errorf("describe producers: %w", err))
	}
	found := map[int64]*Transaction{}
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return nil, fault.E(op, kindOf(p.Err), fmt.Errorf("describe producers of %s/%d: %w", p.Topic, p.Partition, p.Err))
		}
		p.ActiveProducers.Each(func(p kadm.DescribedProducer) { take(found, &p) })
	}
	if len(found) == 0 {
		return nil, nil
	}
	if err := coordinators(ctx, adm, found); err != nil {
		return nil, err
	}
	return sorted(found), nil
}

func take(found map[int64]*Transaction, p *kadm.DescribedProducer) {
	if p.CurrentTxnStartOffset < 0 {
		return
	}
	t := found[p.ProducerID]
	if t == nil {
		t = &Transaction{ProducerID: p.ProducerID}
		found[p.ProducerID] = t
	}
	t.Places = append(t.Places, Place{
		Topic: p.Topic, Partition: p.Partition, From: p.CurrentTxnStartOffset, ProducerEpoch: p.ProducerEpoch,
		CoordinatorEpoch: p.CoordinatorEpoch, LastWrite: time.UnixMilli(p.LastTimestamp),
	})
}

// coordinators adds what the coordinators know.
func coordinators(ctx context.Context, adm *kadm.Client, found map[int64]*Transaction) error {
	const op = "kafkatxn.Open"
	var ids []int64
	for id := range found {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	listed, err := adm.ListTransactions(ctx, ids, nil)
	if err != nil {
		return fault.E(op, kindOf(err), fmt.Errorf("list transactions: %w", err))
	}
	for _, l := range listed.Sorted() {
		t := found[l.ProducerID]
		if t == nil {
			continue
		}
		t.ID, t.State = l.TxnID, l.State
		described, err := adm.DescribeTransactions(ctx, l.TxnID)
		if d := described[l.TxnID]; err == nil && d.Err == nil && d.ProducerID == l.ProducerID {
			t.State, t.Timeout = d.State, time.Duration(d.TimeoutMillis)*time.Millisecond
			if d.StartTimestamp > 0 {
				t.Started = time.UnixMilli(d.StartTimestamp)
			}
		}
	}
	return nil
}

func sorted(found map[int64]*Transaction) []Transaction {
	var out []Transaction
	for _, t := range found {
		slices.SortFunc(t.Places, func(a, b Place) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Transaction) int {
		return cmp.Or(cmp.Compare(len(b.Places), len(a.Places)), cmp.Compare(a.ProducerID, b.ProducerID))
	})
	return out
}

// again is how often an abort is repeated while the coordinator is at work, and pause the time between.
const (
	again = 50
	pause = 100 * time.Millisecond
)

// Abort ends an open transaction. One that a coordinator knows is aborted by taking its ID over, which fences its producer if that
// is alive. A hanging one is closed partition by partition with an abort marker. The call returns when the coordinator, or each
// broker, has confirmed. Error kinds: fault.Misconfigured for a right that is missing, fault.Transient otherwise, also for a transaction
// that its coordinator is ending already.
func Abort(ctx context.Context, client *kgo.Client, t *Transaction) error {
	const op = "kafkatxn.Abort"
	if !t.Hanging() {
		if t.State != "Ongoing" {
			return fault.E(op, fault.Transient, fmt.Errorf("the transaction of producer %d is being ended by its coordinator (%s)", t.ProducerID, t.State))
		}
		if err := takeOver(ctx, client, t); err != nil {
			return fault.WithRemedy(op, kindOf(err), fmt.Errorf("transactional id %q: %w", t.ID, err), "ACL: WRITE and DESCRIBE on the transactional id")
		}
		return nil
	}
	adm := kadm.NewClient(client)
	for _, p := range t.Places {
		set := kadm.TopicsSet{}
		set.Add(p.Topic, p.Partition)
		answers, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: t.ProducerID, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: set,
		})
		answers.EachPartition(func(a kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, a.Err) })
		if err != nil {
			return fault.WithRemedy(op, kindOf(err), fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, err), "ACL: CLUSTER_ACTION on the cluster")
		}
	}
	return nil
}

// takeOver aborts what is open under a transactional ID.
func takeOver(ctx context.Context, client *kgo.Client, t *Transaction) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = &t.ID, -1, -1
	req.TransactionTimeoutMillis = int32(max(t.Timeout, time.Second) / time.Millisecond)
	var last error
	for range again {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		if last = kerr.ErrorForCode(resp.ErrorCode); !errors.Is(last, kerr.ConcurrentTransactions) {
			return last
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	return last
}

// kindOf sorts errors of brokers.
func kindOf(err error) fault.Kind {
	for _, e := range []error{
		kerr.UnknownTopicOrPartition, kerr.InvalidTopicException, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.UnsupportedVersion,
	} {
		if errors.Is(err, e) {
			return fault.Misconfigured
		}
	}
	if auth, ok := errors.AsType[*kadm.AuthError](err); ok && auth != nil {
		return fault.Misconfigured
	}
	return fault.Transient
}
