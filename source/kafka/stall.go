package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/kafkatxn"
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
	offset := s.stable
	r.mu.Unlock()
	who := openTransaction(ctx, r.client, s.key, offset)
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
func openTransaction(ctx context.Context, client *kgo.Client, key splitKey, offset int64) string {
	const unknown = "an open transaction"
	open, err := kafkatxn.Open(ctx, client, []string{key.topic})
	if err != nil {
		return unknown
	}
	for i := range open {
		t := &open[i]
		if !slices.ContainsFunc(t.Places, func(p kafkatxn.Place) bool { return p.Partition == key.partition && p.From == offset }) {
			continue
		}
		if t.ID == "" {
			return fmt.Sprintf("the open transaction of producer %d", t.ProducerID)
		}
		return fmt.Sprintf("the open transaction %q (producer %d, state %s)", t.ID, t.ProducerID, t.State)
	}
	return unknown
}
