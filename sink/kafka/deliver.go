package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// piece is a sealed batch on its way to a partition.
type piece struct {
	partition int32
	batch     []byte
}

// delivery sends a transaction's batches to their leaders, each partition's in order.
type delivery struct {
	session *session
	topic   *topicMeta
	next    map[int32]int32 // sequences by partition
}

const (
	// requestBytes is what a produce request holds at most, unless one batch is larger.
	requestBytes = 8 << 20
	// produceTimeout is how long a leader waits for its followers.
	produceTimeout = 20 * time.Second
	// refusedMax is how long a refusal without effect is met by the same batches: at the begin of a transaction the one before
	// may still be on its way into the log.
	refusedMax = 3 * time.Second
)

func newDelivery(n *session, topic *topicMeta) *delivery {
	return &delivery{session: n, topic: topic, next: map[int32]int32{}}
}

// send sends batches, of each partition in order. What comes first to a partition makes its leader ask the coordinator, and several
// leaders at once would make it refuse; so those go one leader after the other, and only then all leaders side by side.
func (d *delivery) send(ctx context.Context, pieces []piece) error {
	firsts, rest := map[int32][]piece{}, map[int32][]piece{}
	for _, p := range pieces {
		leader, err := d.topic.leader(p.partition)
		if err != nil {
			return err
		}
		sequence, begun := d.next[p.partition]
		patch(p.batch, d.session.producer, sequence)
		const wrap = 0x7fffffff // sequences begin anew after the highest int32
		d.next[p.partition] = int32((int64(sequence) + int64(count(p.batch))) & wrap)
		if begun {
			rest[leader] = append(rest[leader], p)
		} else {
			firsts[leader] = append(firsts[leader], p)
		}
	}
	for _, leader := range sortedKeys(firsts) {
		if err := d.toLeader(ctx, leader, firsts[leader]); err != nil {
			return err
		}
	}
	return d.allLeaders(ctx, rest)
}

func sortedKeys[T any](m map[int32]T) []int32 {
	keys := make([]int32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// allLeaders sends to each leader in order, to all of them at the same time.
func (d *delivery) allLeaders(ctx context.Context, rest map[int32][]piece) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	errs := make([]error, len(rest))
	for i, leader := range sortedKeys(rest) {
		work.Go(func() {
			if errs[i] = d.toLeader(ctx, leader, rest[leader]); errs[i] != nil {
				cancel()
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// toLeader sends batches to one leader, one request after the other. A request has at most one batch of a partition.
func (d *delivery) toLeader(ctx context.Context, leader int32, pieces []piece) error {
	for len(pieces) > 0 {
		var now, later []piece
		taken, bytes := map[int32]bool{}, 0
		for _, p := range pieces {
			if taken[p.partition] || len(now) > 0 && bytes+len(p.batch) > requestBytes {
				later = append(later, p)
				taken[p.partition] = true // its later batches must not overtake it
				continue
			}
			now, bytes = append(now, p), bytes+len(p.batch)
			taken[p.partition] = true
		}
		if err := d.round(ctx, leader, now); err != nil {
			return err
		}
		pieces = later
	}
	return nil
}

// round sends one request, and again what a leader refused without effect. The same sequence makes a repetition harmless.
func (d *delivery) round(ctx context.Context, leader int32, pieces []piece) error {
	const most = 100 * time.Millisecond
	begin := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, most) {
		refused, err := d.produce(ctx, leader, pieces)
		if len(refused) == 0 || time.Since(begin) > refusedMax {
			return err
		}
		pieces = refused
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// produce sends one request. refused are batches that had no effect and may be sent again.
func (d *delivery) produce(ctx context.Context, leader int32, pieces []piece) (refused []piece, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = &d.session.id, -1, int32(produceTimeout.Milliseconds())
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = d.topic.name, d.topic.id
	byNumber := map[int32]piece{}
	for _, p := range pieces {
		byNumber[p.partition] = p
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p.partition, p.batch
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	resp, err := send[*kmsg.ProduceResponse](ctx, d.session.client, leader, req)
	if err != nil {
		return nil, fmt.Errorf("produce to %s at broker %d: %w", d.topic.name, leader, err)
	}
	var errs []error
	answered := 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			answered++
			err := kerr.ErrorForCode(p.ErrorCode)
			if err == nil {
				continue
			}
			if p.ErrorMessage != nil {
				err = fmt.Errorf("%w (%s)", err, *p.ErrorMessage)
			}
			errs = append(errs, fmt.Errorf("produce to %s/%d: %w", d.topic.name, p.Partition, err))
			if errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, kerr.NotEnoughReplicas) {
				refused = append(refused, byNumber[p.Partition])
			}
		}
	}
	switch {
	case answered != len(pieces):
		return nil, fmt.Errorf("produce to %s at broker %d: %d answers for %d partitions", d.topic.name, leader, answered, len(pieces))
	case len(refused) < len(errs):
		return nil, errors.Join(errs...)
	}
	return refused, errors.Join(errs...)
}
