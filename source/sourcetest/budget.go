package sourcetest

import (
	"context"
	"sync"

	"github.com/ingestd/ingestd/source"
)

// Budget is a [source.Budget] that remembers its peak. A request above the whole capacity is granted when nothing else is
// taken: it could never be granted otherwise.
type Budget struct {
	mu struct {
		sync.Mutex
		capacity int64
		used     int64
		peak     int64
		waiters  int
		changed  chan struct{} // closed when bytes came back
	}
}

var _ source.Budget = (*Budget)(nil)

// NewBudget returns a budget of so many bytes.
func NewBudget(capacity int64) *Budget {
	b := &Budget{}
	b.mu.capacity = capacity
	b.mu.changed = make(chan struct{})
	return b
}

// Acquire implements [source.Budget].
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.takeLocked(n) {
			b.mu.Unlock()
			return nil
		}
		changed := b.mu.changed
		b.mu.waiters++
		b.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		b.mu.Lock()
		b.mu.waiters--
		b.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// TryAcquire implements [source.Budget].
func (b *Budget) TryAcquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takeLocked(n)
}

func (b *Budget) takeLocked(n int64) bool {
	if b.mu.used > 0 && b.mu.used+n > b.mu.capacity {
		return false
	}
	b.mu.used += n
	b.mu.peak = max(b.mu.peak, b.mu.used)
	return true
}

// Release implements [source.Budget]. It panics when more is given back than was taken.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n > b.mu.used {
		panic("sourcetest: more bytes are released than were acquired")
	}
	b.mu.used -= n
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
}

// Used returns what is taken now.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}

// Peak returns the most that was taken at once.
func (b *Budget) Peak() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.peak
}

// Waiters returns how many calls of Acquire wait now.
func (b *Budget) Waiters() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.waiters
}
