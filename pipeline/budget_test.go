package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestd/ingestd/internal/invariant"
)

// I11: whatever pipelines take and give back at the same time, what is taken stays within the budget, plus one request of each
// pipeline that is larger than its minimum. The counts are kept beside the budget.
func TestBudget_isNeverExceeded(t *testing.T) {
	const total, minimum, pipelines, tasks = 1000, 100, 4, 3
	for _, largest := range []int64{90, 400} { // within the minimum, and beyond it
		slack := int64(pipelines) * max(0, largest-minimum)
		b := NewBudget(total)
		var held holding
		var wg sync.WaitGroup
		var shares []*Share
		for range pipelines {
			shares = append(shares, b.Share(minimum))
		}
		for p, s := range shares {
			for task := range tasks {
				random := rand.New(rand.NewPCG(uint64(p), uint64(task)))
				wg.Go(func() { holdSome(t, s, func() int64 { return 1 + random.Int64N(largest) }, &held) })
			}
		}
		wg.Wait()
		if held.peak.Load() > total+slack || held.peak.Load() < total/2 {
			t.Errorf("requests up to %d: at most %d were taken, want between %d and %d", largest, held.peak.Load(), total/2, total+slack)
		}
		if used, most := b.Used(); used != 0 || most > total+slack || most < held.peak.Load() {
			t.Errorf("requests up to %d: got used %d and peak %d, want 0 and at most %d", largest, used, most, total+slack)
		}
	}
}

// holding counts beside the budget what is taken.
type holding struct{ taken, peak atomic.Int64 }

func (h *holding) take(n int64) {
	for now := h.taken.Add(n); ; {
		if was := h.peak.Load(); was >= now || h.peak.CompareAndSwap(was, now) {
			return
		}
	}
}

// holdSome takes and gives back, and keeps as much as it can get without waiting.
func holdSome(t *testing.T, s *Share, size func() int64, h *holding) {
	t.Helper()
	var held []int64
	release := func() {
		h.taken.Add(-held[0])
		s.Release(held[0])
		held = held[1:]
	}
	for range 2000 {
		n := size()
		for !s.TryAcquire(n) {
			if len(held) > 0 {
				release()
				continue
			}
			if err := s.Acquire(context.Background(), n); err != nil {
				t.Error(err)
				return
			}
			break
		}
		held = append(held, n)
		h.take(n)
	}
	for len(held) > 0 {
		release()
	}
}

// I11: a pipeline that holds all it can get leaves the others their minimum, and can't be pushed below its own.
func TestBudget_minimumIsNobodyElses(t *testing.T) {
	b := NewBudget(100)
	greedy, modest := b.Share(10), b.Share(20)
	for greedy.TryAcquire(5) {
	}
	if used, _ := b.Used(); used != 80 {
		t.Errorf("a pipeline alone gets %d, want its minimum and the rest, 80", used)
	}
	if !modest.TryAcquire(20) {
		t.Error("the minimum of the other pipeline is gone")
	}
	if modest.TryAcquire(1) {
		t.Error("more than everything is given out")
	}
	greedy.Release(5)
	if !modest.TryAcquire(5) || greedy.TryAcquire(1) {
		t.Error("what was given back to the rest is not for everyone, once")
	}
}

// A request that is larger than what can ever be had is let in when its pipeline holds nothing: it would wait for ever.
func TestBudget_oneLargeRequestIsLetIn(t *testing.T) {
	b := NewBudget(100)
	a, other := b.Share(10), b.Share(10)
	if !a.TryAcquire(500) {
		t.Fatal("a large request of a pipeline that holds nothing is refused")
	}
	if a.TryAcquire(1) || other.TryAcquire(11) && other.TryAcquire(1) {
		t.Error("more is given out beside it")
	}
	a.Release(500)
	other.Release(11)
	if used, _ := b.Used(); used != 0 {
		t.Errorf("got %d used, want 0", used)
	}
	if !a.TryAcquire(90) {
		t.Error("the rest did not come back")
	}
}

// waiting starts an Acquire and returns what tells of its end.
func waiting(ctx context.Context, s *Share, n int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Acquire(ctx, n) }()
	synctest.Wait()
	return done
}

func over(done <-chan error) bool {
	synctest.Wait()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// First come, first served: within a pipeline always, across pipelines for the shared rest; but nobody waits for another
// pipeline as long as its own minimum is enough.
func TestBudget_servesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		a, c, d := b.Share(10), b.Share(10), b.Share(10)
		ctx := t.Context()
		if !a.TryAcquire(80) || !c.TryAcquire(5) || !d.TryAcquire(10) {
			t.Fatal("could not fill the budget")
		}
		large := waiting(ctx, a, 40)
		small := waiting(ctx, a, 1)
		other := waiting(ctx, d, 10)
		if a.TryAcquire(1) || d.TryAcquire(1) {
			t.Error("one that does not wait passes those who do")
		}
		if !c.TryAcquire(5) {
			t.Error("a request within its own minimum waits for others")
		}
		a.Release(20) // enough for the small ones
		if over(large) || over(small) || over(other) {
			t.Error("somebody passed the one who came first")
		}
		a.Release(20)
		if !over(large) || over(small) || over(other) {
			t.Error("the first one is not served as soon as there is enough, or others with it")
		}
		a.Release(5)
		if !over(small) || over(other) {
			t.Error("the second one is not served next")
		}
		a.Release(60)
		if !over(other) {
			t.Error("the last one is not served")
		}
	})
}

// One who leaves the queue takes nothing, and lets those behind it go on.
func TestBudget_cancelledRequestTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		s := b.Share(0)
		if !s.TryAcquire(6) {
			t.Fatal("could not take what is there")
		}
		reason := errors.New("told to end")
		ctx, cancel := context.WithCancelCause(t.Context())
		first := waiting(ctx, s, 8)
		second := waiting(t.Context(), s, 2)
		if over(first) || over(second) {
			t.Fatal("somebody was served")
		}
		cancel(reason)
		if err := <-first; !errors.Is(err, reason) {
			t.Errorf("got %v, want the cause of the end", err)
		}
		if !over(second) {
			t.Error("the one behind still waits")
		}
		s.Release(8)
		if used, _ := b.Used(); used != 0 {
			t.Errorf("got %d used, want 0", used)
		}
	})
}

// A grant and a cancellation at the same moment: whoever wins, the bytes are either taken or not, and the caller knows.
func TestBudget_grantAndCancelAtOnce(t *testing.T) {
	b := NewBudget(10)
	s := b.Share(0)
	for range 2000 {
		if !s.TryAcquire(10) {
			t.Fatal("bytes were lost")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if s.Acquire(ctx, 10) == nil {
				s.Release(10)
			}
		})
		wg.Go(cancel)
		s.Release(10)
		wg.Wait()
	}
	if used, _ := b.Used(); used != 0 {
		t.Errorf("got %d used, want 0", used)
	}
}

// I11: a double release would let others take what is not there.
func TestBudget_doubleReleasePanics(t *testing.T) {
	defer func() {
		if v, ok := recover().(invariant.Violation); !ok || v.ID != "I11" {
			t.Errorf("got panic %v, want a violation of I11", v)
		}
	}()
	s := NewBudget(10).Share(5)
	if err := s.Acquire(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	s.Release(5)
	s.Release(1)
}

func TestBackoff_growsToItsBoundAndNeverOverflows(t *testing.T) {
	zero, ones := func(b []byte) { clear(b) }, func(b []byte) {
		for i := range b {
			b[i] = 255
		}
	}
	for _, random := range []func([]byte){zero, ones} {
		last := time.Duration(0)
		for attempt := range 200 {
			d := backoff(time.Hour, 24*time.Hour, attempt, random)
			if most := min(24*time.Hour, time.Hour<<min(attempt, 6)); d < most/2 || d > most {
				t.Fatalf("attempt %d: got %s, want between %s and %s", attempt, d, most/2, most)
			}
			if d < last {
				t.Fatalf("attempt %d: got %s after %s", attempt, d, last)
			}
			last = d
		}
	}
	if d := backoff(time.Minute, time.Second, 0, zero); d > time.Second {
		t.Errorf("got %s, want at most the bound", d)
	}
}
