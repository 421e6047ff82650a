package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// stuckAfter is how long an open transaction may hold a split back before it is named.
	stuckAfter = 10 * time.Second
	// stuckAgain is how often it is asked about again.
	stuckAgain = 30 * time.Second
)

// held notices that an open transaction holds a split back, which no broker reports as an error, and finds out which.
func (r *Reader) held(ctx context.Context, s *split) error {
	now := time.Now()
	r.mu.Lock()
	if !s.stuck(r.plan.isolation) {
		s.stuckAt, s.diagnoseAt, s.holder, s.stalled = time.Time{}, time.Time{}, "", false
		r.mu.Unlock()
		return nil
	}
	if s.stuckAt.IsZero() {
		s.stuckAt, s.diagnoseAt = now, now.Add(stuckAfter)
	}
	if now.Before(s.diagnoseAt) {
		if s.stalled {
			s.problem = r.stuckText(s, now)
		}
		r.mu.Unlock()
		return nil
	}
	s.diagnoseAt = now.Add(stuckAgain)
	leader, offset := s.leader, s.stable
	r.mu.Unlock()
	who := openTransaction(ctx, r.client, leader, s.key, offset)
	r.mu.Lock()
	defer r.mu.Unlock()
	s.holder, s.stalled = who, true
	r.problemLocked(s, s.stuckAt, r.stuckText(s, now))
	return nil
}

// stuck reports whether everything that may be read was read and there is more.
func (s *split) stuck(isolation int8) bool {
	return isolation == 1 && !s.done && s.next == s.stable && s.stable < s.high
}

func (r *Reader) stuckText(s *split, now time.Time) string {
	return fmt.Sprintf("%s holds back %d records from offset %d on, for %s", s.holder, s.high-s.stable, s.stable, now.Sub(s.stuckAt).Round(time.Second))
}

// openTransaction names the transaction that begins at an offset, as far as the brokers let us know.
func openTransaction(ctx context.Context, client *kgo.Client, leader int32, key splitKey, offset int64) string {
	const unknown = "an open transaction"
	req := kmsg.NewPtrDescribeProducersRequest()
	t := kmsg.NewDescribeProducersRequestTopic()
	t.Topic, t.Partitions = key.topic, []int32{key.partition}
	req.Topics = append(req.Topics, t)
	kresp, err := client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return unknown
	}
	resp, ok := kresp.(*kmsg.DescribeProducersResponse)
	if !ok {
		return unknown
	}
	producer := int64(-1)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			for _, p := range resp.Topics[i].Partitions[j].ActiveProducers {
				if p.CurrentTxnStartOffset == offset {
					producer = p.ProducerID
				}
			}
		}
	}
	if producer < 0 {
		return unknown
	}
	list := kmsg.NewPtrListTransactionsRequest()
	list.ProducerIDFilters = []int64{producer}
	for _, shard := range client.RequestSharded(ctx, list) {
		resp, ok := shard.Resp.(*kmsg.ListTransactionsResponse)
		if shard.Err != nil || !ok || kerr.ErrorForCode(resp.ErrorCode) != nil {
			continue
		}
		for _, state := range resp.TransactionStates {
			if state.ProducerID == producer {
				return fmt.Sprintf("the open transaction %q (producer %d, state %s)", state.TransactionalID, producer, state.TransactionState)
			}
		}
	}
	return fmt.Sprintf("the open transaction of producer %d", producer)
}
