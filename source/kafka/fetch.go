package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
)

const (
	// fetchWait is how long a broker may wait for news before it answers.
	fetchWait = 500 * time.Millisecond
	// heldRest is the pause after a fetch that found nothing and was answered at once: while some split of the broker is held
	// back, or of a broker that does not wait when it should.
	heldRest = 50 * time.Millisecond
	// partitionBytes is how much one partition gets of an answer.
	partitionBytes = 1 << 20
	// idleMax is after how many answers without records a split that should have some is asked for alone.
	idleMax = 2
	// corruptMax is how many times in a row bytes must fail their check to count as corrupt where they are stored.
	corruptMax = 3
)

// fetchJob is one fetch request.
type fetchJob struct {
	node   int32
	splits []*split
	bytes  int32
	wait   time.Duration
	alone  bool // for one split, of its leader
	full   bool // the answer was so full that it may lack records that are there, of all splits but the first
}

// turn rotates the splits: a broker fills its answer in the order of the request.
func (j *fetchJob) turn(n int) {
	n %= len(j.splits)
	j.splits = append(append([]*split{}, j.splits[n:]...), j.splits[:n]...)
}

// fetch sends the request and takes in the answer.
func (r *Reader) fetch(ctx context.Context, job *fetchJob) {
	begin := time.Now()
	resp, err := r.ask(ctx, job)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		if kindOf(err) == fault.Misconfigured {
			r.fail(fmt.Errorf("broker %d: %w", job.node, err))
			return
		}
		r.loseReplica(job.node, job.splits...)
		r.trouble(job.splits, fmt.Sprintf("broker %d does not answer: %v", job.node, err))
		return
	}
	find := job.index(resp)
	news := 0
	for _, s := range job.splits {
		rp := find(s)
		if rp == nil {
			continue // there was no room in the answer, or the broker throttles us
		}
		moved, err := r.answer(ctx, job, s, rp)
		if err != nil {
			if ctx.Err() == nil {
				r.fail(err)
			}
			return
		}
		if moved {
			news++
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.mu.brokers[job.node]
	b.turn += max(1, news)
	if now := time.Now(); news == 0 && now.Sub(begin) < heldRest {
		b.idleAt = now.Add(heldRest)
	}
}

// index returns how to find a split's part of an answer, and notes whether others can have taken its room.
func (j *fetchJob) index(resp *kmsg.FetchResponse) func(s *split) *kmsg.FetchResponseTopicPartition {
	byID, byName := map[topicID]*kmsg.FetchResponseTopic{}, map[string]*kmsg.FetchResponseTopic{}
	size := int64(0)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		byID[t.TopicID], byName[t.Topic] = t, t
		for k := range t.Partitions {
			size += int64(len(t.Partitions[k].RecordBatches))
		}
	}
	j.full = size+int64(min(partitionBytes, j.bytes)) > int64(j.bytes)
	return func(s *split) *kmsg.FetchResponseTopicPartition {
		if resp.Version >= 13 {
			return partition(byID[s.id], s.key.partition)
		}
		return partition(byName[s.key.topic], s.key.partition)
	}
}

func partition(t *kmsg.FetchResponseTopic, n int32) *kmsg.FetchResponseTopicPartition {
	if t == nil {
		return nil
	}
	for i := range t.Partitions {
		if t.Partitions[i].Partition == n {
			return &t.Partitions[i]
		}
	}
	return nil
}

// ask sends the request: one attempt, without a session, so that an answer depends on nothing but the request.
func (r *Reader) ask(ctx context.Context, job *fetchJob) (*kmsg.FetchResponse, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(job.wait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = job.bytes
	req.IsolationLevel = r.plan.isolation
	req.SessionID, req.SessionEpoch = 0, -1
	req.Rack = r.plan.Rack
	r.mu.Lock()
	topics := map[string]int{}
	for _, s := range job.splits {
		i, ok := topics[s.key.topic]
		if !ok {
			i = len(req.Topics)
			topics[s.key.topic] = i
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = s.key.topic, s.id
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.CurrentLeaderEpoch = s.key.partition, s.next, s.leaderEpoch
		p.PartitionMaxBytes = min(partitionBytes, req.MaxBytes)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	r.mu.Unlock()
	kresp, err := r.client.Broker(int(job.node)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok {
		return nil, fmt.Errorf("an answer of the type %T", kresp)
	}
	return resp, nil
}

// loseReplica goes back to the leaders after a follower failed, and reports whether it was one.
func (r *Reader) loseReplica(node int32, splits ...*split) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := false
	for _, s := range splits {
		if s.replica == node {
			s.replica, lost = -1, true
		}
	}
	return lost
}

// answer takes in one partition's part of an answer. An error ends the reader.
func (r *Reader) answer(ctx context.Context, job *fetchJob, s *split, rp *kmsg.FetchResponseTopicPartition) (moved bool, err error) {
	if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
		return false, r.refusal(ctx, job, s, err)
	}
	if rp.PreferredReadReplica >= 0 && rp.PreferredReadReplica != job.node {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.replica = rp.PreferredReadReplica
		return true, nil
	}
	r.mu.Lock()
	s.high, s.stable = rp.HighWatermark, rp.LastStableOffset
	b := &builder{r: r, s: s, next: s.next, epoch: s.epoch, said: s.next, until: int64(s.Until)}
	r.mu.Unlock()
	moved, err = b.take(ctx, rp)
	if err != nil {
		return moved, r.unreadable(s, err)
	}
	r.mu.Lock()
	if !s.stalled || !s.stuck(r.plan.isolation) {
		r.okLocked(s)
	}
	s.corrupt = 0
	empty := !moved && !s.done && s.next < s.end(r.plan.isolation)
	room := !job.full || s == job.splits[0]
	switch {
	case !empty:
		s.idle, s.alone = 0, false
	case !job.alone && room:
		s.idle++
		s.alone = s.idle >= idleMax
	}
	r.mu.Unlock()
	if empty && job.alone {
		return r.gap(ctx, s)
	}
	return moved, r.held(ctx, s)
}

// gap moves a split over the end of a log in which nothing is left: the records there were compacted away, and the broker has
// nothing to answer for ever. That the answer was for this split alone, from the leader, and empty although the end (as the
// leader saw it before it read) is ahead, proves it, unless the records are in tiered storage: brokers answer those empty too.
func (r *Reader) gap(ctx context.Context, s *split) (moved bool, err error) {
	r.mu.Lock()
	next, epoch, end := s.next, s.epoch, s.end(r.plan.isolation)
	s.idle, s.alone = 0, false
	r.mu.Unlock()
	found, err := listOffsets(ctx, r.client, []splitKey{s.key}, atLocalStart, r.plan.isolation)
	switch {
	case ctx.Err() != nil:
		return false, err
	case errors.Is(err, kerr.UnsupportedVersion):
		// A broker without tiered storage.
	case err != nil:
		r.trouble([]*split{s}, err.Error())
		return false, nil
	case found[s.key].offset < 0 || found[s.key].offset > next:
		return false, nil
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "no records left", slog.String("split", s.Split.Split),
		slog.Int64("from", next), slog.Int64("to", end))
	b := &builder{r: r, s: s, next: next, epoch: epoch, said: next, until: int64(s.Until)}
	b.move(end)
	return true, b.publish(ctx)
}

// unreadable decides about an answer whose bytes can't be used.
func (r *Reader) unreadable(s *split, err error) error {
	var corrupt *corruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	r.mu.Lock()
	s.corrupt++
	n := s.corrupt
	r.mu.Unlock()
	if n >= corruptMax {
		return fault.E("source/kafka.Poll", fault.Corrupt, corrupt.error)
	}
	r.trouble([]*split{s}, corrupt.Error())
	return nil
}

// refusal decides about a partition's error code. The lock is not held.
func (r *Reader) refusal(ctx context.Context, job *fetchJob, s *split, err error) error {
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		if r.loseReplica(job.node, s) {
			return nil // a follower may be behind: its leader knows
		}
		return r.outOfRange(ctx, s)
	case errors.Is(err, kerr.CorruptMessage):
		return r.unreadable(s, &corruptError{fmt.Errorf("split %s offset %d: the broker says %w", s.Split.Split, s.next, err)})
	case kindOf(err) == fault.Misconfigured:
		return fmt.Errorf("split %s: %w", s.Split.Split, err)
	}
	r.loseReplica(job.node, s)
	r.trouble([]*split{s}, fmt.Sprintf("broker %d answers %v", job.node, err))
	return nil
}
