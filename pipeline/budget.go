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
//
// Who comes first is served first: within a pipeline always, and across pipelines for the shared rest. Otherwise a large request
// would wait for ever behind small ones that come later.
type Budget struct {
	total int64
	mu    struct {
		sync.Mutex
		shares  []*Share
		shared  int64     // free bytes of the shared rest; below 0 only by a request that is larger than everything
		waiters []*waiter // first come first
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
	s := &Share{budget: b, min: minimum}
	b.mu.shares = append(b.mu.shares, s)
	return s
}

// Acquire takes n bytes and waits while they can't be had. A request of a pipeline that holds nothing is let in, whatever its
// size: what it takes beyond minimum and rest is the slack that I11 allows, one fetch for each pipeline.
func (s *Share) Acquire(ctx context.Context, n int64) error {
	b := s.budget
	b.mu.Lock()
	if b.takeLocked(s, n, b.mu.waiters) {
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
	i := slices.Index(b.mu.waiters, w)
	if i < 0 {
		return nil // it was granted in the meantime
	}
	b.mu.waiters = slices.Delete(b.mu.waiters, i, i+1)
	b.grantLocked() // it may have kept others waiting
	return context.Cause(ctx)
}

// TryAcquire takes n bytes or answers false at once.
func (s *Share) TryAcquire(n int64) bool {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.takeLocked(s, n, s.budget.mu.waiters)
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
	b.grantLocked()
}

// grantLocked serves those who wait, first come first.
func (b *Budget) grantLocked() {
	var left []*waiter
	for _, w := range b.mu.waiters {
		if b.takeLocked(w.share, w.n, left) {
			close(w.done)
			continue
		}
		left = append(left, w)
	}
	b.mu.waiters = left
}

// extra is what a pipeline that uses n bytes takes from the shared rest.
func (s *Share) extra(n int64) int64 { return max(0, n-s.min) }

// takeLocked takes n bytes for a pipeline unless they can't be had, or would be taken from those who were there first. Nobody
// has to wait for another pipeline as long as its own minimum is enough.
func (b *Budget) takeLocked(s *Share, n int64, first []*waiter) bool {
	need := s.extra(s.used+n) - s.extra(s.used)
	if s.used > 0 {
		behind := func(w *waiter) bool { return need > 0 || w.share == s }
		if need > max(0, b.mu.shared) || slices.ContainsFunc(first, behind) {
			return false
		}
	}
	b.mu.shared -= need
	s.used += n
	b.mu.used += n
	b.mu.peak = max(b.mu.peak, b.mu.used)
	b.checkLocked()
	return true
}

// checkLocked asserts that every byte is where it belongs: taken, in a minimum, or in the rest.
func (b *Budget) checkLocked() {
	if !invariant.Expensive {
		return
	}
	var used, reserved int64
	for _, s := range b.mu.shares {
		used, reserved = used+s.used, reserved+max(s.used, s.min)
	}
	invariant.Check("I11", used == b.mu.used, "what the pipelines use is not what is used:", used, b.mu.used)
	invariant.Check("I11", reserved+b.mu.shared == b.total, "bytes are unaccounted for:", reserved, b.mu.shared, b.total)
}
