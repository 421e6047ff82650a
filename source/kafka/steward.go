package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ingestd/ingestd/fault"
)

const (
	// metadataMaxAge is how often metadata are asked for when nothing is wrong: a topic that was recreated is then found even
	// where the brokers' fetch requests don't know topic IDs.
	metadataMaxAge = time.Minute
	// stewardRest is how long the steward rests when it knows of nothing to do.
	stewardRest = time.Second
	// foreignMax is how many answers in a row must show another topic ID: one broker's metadata may be late.
	foreignMax = 3
)

// steward decides what to ask of whom until ctx ends.
func (r *Reader) steward(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(r.step(ctx))
		r.tell(ctx)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// step starts every request that can be started, and returns after what time to look again.
func (r *Reader) step(ctx context.Context) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err != nil || ctx.Err() != nil {
		return stewardRest
	}
	now := time.Now()
	rest := stewardRest
	until := func(t time.Time) {
		if d := t.Sub(now); d > 0 {
			rest = min(rest, d)
		}
	}
	r.stepMetadata(ctx, now, until)
	byBroker := map[int32][]*split{}
	for _, s := range r.mu.splits {
		if s.done || s.busy || s.leader < 0 {
			continue
		}
		if s.retryAt.After(now) {
			until(s.retryAt)
			continue
		}
		node := s.leader
		if s.replica >= 0 && s.agreed && !s.alone {
			node = s.replica
		}
		byBroker[node] = append(byBroker[node], s)
	}
	for node, splits := range byBroker {
		r.stepBroker(ctx, now, node, splits, until)
	}
	return rest
}

func (r *Reader) stepMetadata(ctx context.Context, now time.Time, until func(time.Time)) {
	m := &r.mu.meta
	if m.busy || len(r.mu.splits) == 0 {
		return
	}
	if !m.wanted && now.Sub(m.last) < metadataMaxAge {
		return
	}
	if m.at.After(now) {
		until(m.at)
		return
	}
	m.busy, m.wanted = true, false
	r.work.Go(func() { r.refresh(ctx) })
}

// stepBroker starts at most one request: to compare logs, for one split alone, or for all that have room.
func (r *Reader) stepBroker(ctx context.Context, now time.Time, node int32, splits []*split, until func(time.Time)) {
	b := r.mu.brokers[node]
	if b == nil {
		b = &broker{}
		r.mu.brokers[node] = b
	}
	if b.busy {
		return
	}
	job := &fetchJob{node: node, bytes: int32(r.plan.FetchBytesMax)}
	var fresh []*split
	held := false
	for _, s := range splits {
		switch {
		case !s.agreed:
			fresh = append(fresh, s)
		case s.queued >= splitQueueBytes || r.mu.queued >= readerQueueBytes:
			held = true
		case s.alone && !job.alone:
			job.alone, job.splits = true, []*split{s}
		case !job.alone:
			job.splits = append(job.splits, s)
		}
	}
	switch {
	case len(fresh) > 0:
		r.launch(b, fresh, func() { r.compare(ctx, node, fresh) })
	case len(job.splits) == 0:
	case b.idleAt.After(now):
		until(b.idleAt)
	default:
		// A split that is held back must not find the broker waiting for news of the others when its turn comes.
		if !held && !job.alone {
			job.wait = fetchWait
		}
		job.turn(b.turn)
		r.launch(b, job.splits, func() { r.fetch(ctx, job) })
	}
}

// launch runs one request of a broker; the splits are its own while it runs.
func (r *Reader) launch(b *broker, splits []*split, run func()) {
	b.busy = true
	for _, s := range splits {
		s.busy = true
	}
	r.work.Go(func() {
		run()
		r.mu.Lock()
		defer r.mu.Unlock()
		b.busy = false
		for _, s := range splits {
			s.busy = false
		}
		notify(r.wake)
	})
}

// refresh asks for metadata and takes in the answer.
func (r *Reader) refresh(ctx context.Context) {
	meta, err := metadata(ctx, r.client, r.topics())
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	var fatal error
	r.mu.Lock()
	m := &r.mu.meta
	m.busy = false
	if err != nil {
		for _, s := range r.mu.splits {
			if s.leader < 0 && !s.done {
				r.waitLocked(s, now, err.Error())
			}
		}
		m.wanted = true
	} else {
		m.last = now
		for _, s := range r.mu.splits {
			if s.done {
				continue
			}
			if errSplit := r.meet(s, meta[s.key.topic], now); errSplit != nil {
				fatal = cmp.Or(fatal, errSplit)
			}
			m.wanted = m.wanted || s.leader < 0
		}
	}
	if m.wanted {
		m.at = now.Add(backoff(m.attempts))
		m.attempts++
	} else {
		m.at, m.attempts = now.Add(backoffMin), 0
	}
	r.mu.Unlock()
	if err != nil && kindOf(err) == fault.Misconfigured {
		fatal = err
	}
	if fatal != nil {
		r.fail(fatal)
	}
	notify(r.wake)
}

func (r *Reader) topics() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var topics []string
	for _, s := range r.mu.splits {
		if !s.done {
			topics = append(topics, s.key.topic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// meet takes in what the brokers say about a split's topic. The lock is held. An error ends the reader.
func (r *Reader) meet(s *split, t topicMeta, now time.Time) error {
	if t.err != nil && kindOf(t.err) == fault.Misconfigured {
		return fmt.Errorf("topic %s: %w", s.key.topic, t.err)
	}
	leader, ok := t.partitions[s.key.partition]
	if !ok || t.err != nil {
		return r.missing(s, t.err, now)
	}
	if s.id != (topicID{}) && t.id != s.id {
		s.leader = -1
		if s.foreign++; s.foreign >= foreignMax {
			return recreated(s.key.topic, s.id, t.id, s.Split.Split)
		}
		r.waitLocked(s, now, fmt.Sprintf("topic %s has the ID %s, and the position's is %s", s.key.topic, t.id, s.id))
		return nil
	}
	s.missingAt, s.foreign = time.Time{}, 0
	if leader.broker < 0 {
		s.leader = -1
		r.waitLocked(s, now, fmt.Sprintf("the partition has no leader: %v", cmp.Or(leader.err, error(kerr.LeaderNotAvailable))))
		return nil
	}
	if leader.epoch >= 0 && leader.epoch < s.leaderEpoch {
		return nil // older than what we know
	}
	if s.leader != leader.broker || s.leaderEpoch != leader.epoch {
		s.leader, s.leaderEpoch, s.agreed = leader.broker, leader.epoch, s.epoch < 0
	}
	s.replica = -1 // the leader knows whether a replica that it named before is still a good one
	return nil
}

// missing notes that the brokers don't know a split.
func (r *Reader) missing(s *split, why error, now time.Time) error {
	s.leader = -1
	if s.missingAt.IsZero() {
		s.missingAt = now
	}
	if why == nil {
		why = kerr.UnknownTopicOrPartition
	}
	gone := now.Sub(s.missingAt)
	if gone >= r.plan.GoneAfter && (errors.Is(why, kerr.UnknownTopicOrPartition) || errors.Is(why, kerr.UnknownTopicID)) {
		return goneError(s.Split.Split, s.id, gone)
	}
	r.waitLocked(s, now, fmt.Sprintf("the brokers don't know the partition: %v", why))
	return nil
}

func goneError(name string, id topicID, gone time.Duration) error {
	err := fmt.Errorf("split %s: no broker knows it for %s; its topic had the ID %s", name, gone.Round(time.Millisecond), id)
	return fault.WithRemedy("source/kafka", fault.Lost, err, "recreate nothing: restore the topic, or take it out of the pipeline's source")
}

func recreated(topic string, had, has topicID, name string) error {
	err := fmt.Errorf("split %s: the topic %s was recreated: it has the ID %s, and the position is from the ID %s", name, topic, has, had)
	return fault.WithRemedy("source/kafka", fault.Lost, err,
		"records of the old topic that were not read are gone; `ingestd offsets set --accept-loss` begins with the new one")
}

// trouble notes that a request failed for some splits, and asks for metadata.
func (r *Reader) trouble(splits []*split, problem string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range splits {
		r.waitLocked(s, now, problem)
	}
	r.mu.meta.wanted = true
}
