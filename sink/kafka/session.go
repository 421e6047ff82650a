package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// session is one connection of the transactional producer. After any error it is given up and another one begins: nothing of it is
// ever mended.
type session struct {
	settings *Settings
	client   *kgo.Client
	features features
	id       string // the transactional id
	// coordinator is the broker that decides this id's transactions.
	coordinator int32
	producer    producer
	topics      map[string]*topicMeta
	// clean is true while nothing can be open or undecided: after InitProducerId, and after a transaction that ended well.
	clean bool
	used  time.Time
}

// transactionsSafe is the transaction.version from which on every EndTxn gives a new epoch, so that a late one can't hit the next
// transaction.
const transactionsSafe = 2

// idleMax is how long a session may rest: an idle transactional id expires (transactional.id.expiration.ms, 7 days by default).
const idleMax = 5 * time.Minute

// openSession connects and finds out what the cluster can do, the coordinator and the topics.
func openSession(ctx context.Context, s *Settings, log *slog.Logger, id string) (*session, error) {
	client, err := s.dial(log)
	if err != nil {
		return nil, err
	}
	n := &session{settings: s, client: client, id: id}
	if n.features, err = askFeatures(ctx, client); err != nil {
		n.close()
		return nil, err
	}
	if n.features.transactions < transactionsSafe {
		n.close()
		if n.client, err = s.dial(log, kgo.MaxVersions(pinned())); err != nil {
			return nil, err
		}
	}
	if err := n.find(ctx); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// find asks for the coordinator and the topics' leaders.
func (n *session) find(ctx context.Context) error {
	var err error
	if n.topics, err = metadata(ctx, n.client, n.settings.Topic, n.settings.Ledger.Topic); err != nil {
		return err
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = 1, n.id, []string{n.id}
	resp, err := req.RequestWith(ctx, n.client)
	if err != nil {
		return fmt.Errorf("find the coordinator of %s: %w", n.id, err)
	}
	n.coordinator, err = resp.NodeID, coded(resp.ErrorCode, "find the coordinator of %s", n.id)
	if len(resp.Coordinators) == 1 {
		c := &resp.Coordinators[0]
		n.coordinator, err = c.NodeID, coded(c.ErrorCode, "find the coordinator of %s", n.id)
	}
	return err
}

func (n *session) close() {
	if n != nil {
		n.client.Close()
	}
}

// safe tells that the epoch changes with every transaction.
func (n *session) safe() bool { return n.features.transactions >= transactionsSafe }

// begin makes sure that nothing older can take effect: it takes the producer over, which ends or decides everything that was begun
// under the transactional id. renewed is true when it did; the ledger must be read then. At transaction version 2 a transaction
// that ended well has done the same.
func (n *session) begin(ctx context.Context) (renewed bool, err error) {
	if n.clean && n.safe() && time.Since(n.used) < idleMax {
		return false, nil
	}
	n.clean = false
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = &n.id
	req.TransactionTimeoutMillis = int32(n.settings.TransactionTimeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	var resp *kmsg.InitProducerIDResponse
	err = again(ctx, func() error {
		var err error
		if resp, err = send[*kmsg.InitProducerIDResponse](ctx, n.client, n.coordinator, req); err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return false, fmt.Errorf("take over the producer of %s: %w", n.id, err)
	}
	n.producer = producer{resp.ProducerID, resp.ProducerEpoch}
	n.clean, n.used = true, time.Now()
	return true, nil
}

// againMax is how long an answer that asks for patience is met by the same request.
const againMax = 20 * time.Second

// again repeats a request while the answer says that the transaction before is being ended. Any other error is the caller's.
func again(ctx context.Context, request func() error) error {
	const most = 200 * time.Millisecond
	begin := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, most) {
		err := request()
		if !errors.Is(err, kerr.ConcurrentTransactions) || time.Since(begin) > againMax {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// partitions are some of a topic's.
type partitions struct {
	topic   *topicMeta
	numbers []int32
}

// add tells the coordinator which partitions the transaction has. From transaction version 2 on their leaders do.
func (n *session) add(ctx context.Context, all ...partitions) error {
	if n.safe() {
		return nil
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = n.id, n.producer.id, n.producer.epoch
	for _, p := range all {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = p.topic.name, p.numbers
		req.Topics = append(req.Topics, t)
	}
	err := again(ctx, func() error {
		resp, err := send[*kmsg.AddPartitionsToTxnResponse](ctx, n.client, n.coordinator, req)
		if err != nil {
			return err
		}
		for i := range resp.Topics {
			for _, p := range resp.Topics[i].Partitions {
				if err := coded(p.ErrorCode, "%s/%d", resp.Topics[i].Topic, p.Partition); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add partitions to the transaction: %w", err)
	}
	return nil
}

// end commits the transaction: one request, sent once. Only nil means that it is committed; after an error it may be, or may
// still become so.
func (n *session) end(ctx context.Context) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = n.id, n.producer.id, n.producer.epoch, true
	resp, err := send[*kmsg.EndTxnResponse](ctx, n.client, n.coordinator, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end the transaction: %w", err)
	}
	if n.safe() {
		if resp.ProducerID < 0 || resp.ProducerEpoch < 0 {
			return nil // it is committed; without a new epoch the session is not clean
		}
		n.producer = producer{resp.ProducerID, resp.ProducerEpoch}
		n.clean = true
	}
	n.used = time.Now()
	return nil
}
