package pipeline

import (
	"context"
	"slices"
	"sync"

	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/source"
)

// Budget bounds the bytes of records in flight in the whole daemon (I11): each pipeline has a minimum of its own, and what is
// left is shared. A pipeline whose sink stands still keeps what it holds and can't take another's minimum.
type Budget struct {
	total int64
	mu    struct {
		sync.Mutex
		shared  int64 // free bytes of the shared rest
		waiters []*waiter
		used    int64
		peak    int64
	}
}

type waiter struct {
	share *Share
	n     int64
	done  chan struct{}
}

// Share is one pipeline's view of the budget. It implements [source.Budget].
type Share struct {
	budget *Budget
	min    int64
	used   int64 // guarded by budget.mu
}

var _ source.Budget = (*Share)(nil)

// NewBudget returns a budget of total bytes.
func NewBudget(total int64) *Budget {
	b := &Budget{total: total}
	b.mu.shared = total
	return b
}

// Total returns the budget in bytes.
func (b *Budget) Total() int64 { return b.total }

// Used returns the bytes that are taken now, and the most that ever were.
func (b *Budget) Used() (now, peak int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used, b.mu.peak
}

// Share takes minimum bytes out of the shared rest for one pipeline. It is called before anything runs.
func (b *Budget) Share(minimum int64) *Share {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.shared -= minimum
	return &Share{budget: b, min: minimum}
}

// Acquire takes n bytes and waits while they can't be had. A request that is larger than everything is let in when the
// pipeline holds nothing else: one fetch response is the slack that I11 allows.
func (s *Share) Acquire(ctx context.Context, n int64) error {
	b := s.budget
	b.mu.Lock()
	if b.takeLocked(s, n) {
		b.mu.Unlock()
		return nil
	}
	w := &waiter{share: s, n: n, done: make(chan struct{})}
	b.mu.waiters = append(b.mu.waiters, w)
	b.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.mu.waiters, w); i >= 0 {
		b.mu.waiters = slices.Delete(b.mu.waiters, i, i+1)
		return context.Cause(ctx)
	}
	return nil // it was granted in the meantime
}

// TryAcquire takes n bytes or answers false at once.
func (s *Share) TryAcquire(n int64) bool {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.takeLocked(s, n)
}

// Release gives n bytes back.
func (s *Share) Release(n int64) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	before := s.extra(s.used)
	s.used -= n
	invariant.Check("I11", s.used >= 0, "released more than was taken:", s.used)
	b.mu.used -= n
	b.mu.shared += before - s.extra(s.used)
	b.mu.waiters = slices.DeleteFunc(b.mu.waiters, func(w *waiter) bool {
		if !b.takeLocked(w.share, w.n) {
			return false
		}
		close(w.done)
		return true
	})
}

// extra is what a pipeline that uses n bytes takes from the shared rest.
func (s *Share) extra(n int64) int64 { return max(0, n-s.min) }

func (b *Budget) takeLocked(s *Share, n int64) bool {
	need := s.extra(s.used+n) - s.extra(s.used)
	if need > max(0, b.mu.shared) && s.used > 0 {
		return false
	}
	b.mu.shared -= need
	s.used += n
	b.mu.used += n
	b.mu.peak = max(b.mu.peak, b.mu.used)
	return true
}
