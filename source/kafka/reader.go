package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// Bounds of what is published and not polled yet, beside the budget: so much is fetched ahead and no more, whatever the
// budget would allow.
const (
	splitQueueBytes  = pieceBytes
	readerQueueBytes = 8 * pieceBytes
)

// Reader reads the splits of one task. One goroutine, the steward, decides what is asked of which broker and starts a
// goroutine for each request; they publish pieces, and Poll hands them out.
type Reader struct {
	plan   *plan
	log    *slog.Logger
	pool   *pool
	client *kgo.Client
	budget source.Budget

	cancel context.CancelFunc
	work   sync.WaitGroup // the steward and its requests
	wake   chan struct{}  // the steward should look again; holds one
	ready  chan struct{}  // Poll should look again; holds one
	lost   atomic.Int64

	mu struct {
		sync.Mutex
		splits  []*split
		byName  map[string]*split
		brokers map[int32]*broker
		queue   []*piece
		queued  int64
		meta    metaState
		blocked int // requests that wait for the budget
		notes   []note
		err     error
		closed  bool
	}
}

// broker is what the steward knows about one broker.
type broker struct {
	busy   bool      // a fetch is under way
	idleAt time.Time // no fetch before
	turn   int       // rotates the order of splits
}

// note is a line for the log. Lines are written when the lock is free.
type note struct {
	level slog.Level
	msg   string
	attrs []slog.Attr
}

// metaState is the steward's state of asking for metadata.
type metaState struct {
	busy     bool
	wanted   bool
	at       time.Time // not before
	last     time.Time // of the last answer
	attempts int
}

var (
	_ source.Reader      = (*Reader)(nil)
	_ source.LossCounter = (*Reader)(nil)
)

func newReader(s *Source, client *kgo.Client, budget source.Budget) *Reader {
	r := &Reader{
		plan: s.plan, log: s.log, pool: s.pool, client: client, budget: budget,
		wake: make(chan struct{}, 1), ready: make(chan struct{}, 1),
	}
	r.mu.byName = map[string]*split{}
	r.mu.brokers = map[int32]*broker{}
	r.mu.meta.wanted = true
	return r
}

// start starts the steward, which Close ends.
func (r *Reader) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.work.Go(func() { r.steward(ctx) })
}

// Poll implements [source.Reader].
func (r *Reader) Poll(ctx context.Context) (source.Fetch, error) {
	for {
		fetch, ok, err := r.pop()
		if ok || err != nil {
			return fetch, err
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
			return source.Fetch{}, nil
		}
	}
}

// pop hands out the oldest piece. What was published before a failure is handed out before the failure.
func (r *Reader) pop() (source.Fetch, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return source.Fetch{}, false, fault.E("source/kafka.Poll", fault.Misconfigured, errors.New("the reader is closed"))
	}
	if len(r.mu.queue) == 0 {
		return source.Fetch{}, false, r.mu.err
	}
	p := r.mu.queue[0]
	r.mu.queue[0] = nil
	r.mu.queue = r.mu.queue[1:]
	s := p.split
	full := s.queued >= splitQueueBytes || r.mu.queued >= readerQueueBytes
	s.queued -= p.charge
	r.mu.queued -= p.charge
	if full && s.queued < splitQueueBytes {
		notify(r.wake)
	}
	s.polled = p.next
	fetch := source.Fetch{
		Next: s.position(p.next, p.epoch), Rows: p.rows, Finished: p.finished, Topic: s.key.topic, Partition: s.key.partition, Refused: p.refused,
	}
	if !p.empty() {
		fetch.Release = func() { r.release(p) }
	}
	return fetch, true, nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// release gives a piece's memory back. It must come once: a second time the memory may be somebody else's.
func (r *Reader) release(p *piece) {
	n := p.charge
	p.charge = 0
	p.free(r.pool)
	r.budget.Release(n)
}

// publish takes a piece's memory from the budget, waiting for it, and queues the piece. It fails only when ctx ends.
func (r *Reader) publish(ctx context.Context, p *piece) error {
	if !p.empty() {
		charge := p.size()
		if err := r.acquire(ctx, charge); err != nil {
			p.free(r.pool)
			return err
		}
		p.charge = charge
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := p.split
	s.next, s.epoch, s.done = p.next, p.epoch, p.finished
	s.queued += p.charge
	r.mu.queued += p.charge
	r.mu.queue = append(r.mu.queue, p)
	notify(r.ready)
	return nil
}

func (r *Reader) acquire(ctx context.Context, n int64) error {
	if r.budget.TryAcquire(n) {
		return nil
	}
	r.block(1)
	defer r.block(-1)
	return r.budget.Acquire(ctx, n)
}

func (r *Reader) block(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.blocked += n
}

// fail ends the reader with an error.
func (r *Reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err == nil {
		r.mu.err = classified("source/kafka.Poll", err)
	}
	notify(r.ready)
}

// Add implements [source.Reader].
func (r *Reader) Add(_ context.Context, splits []source.Split) error {
	return r.add(splits)
}

func (r *Reader) add(splits []source.Split) error {
	const op fault.Op = "source/kafka.Open"
	fresh := make([]*split, 0, len(splits))
	for _, one := range splits {
		s, err := newSplit(one)
		if err != nil {
			return fault.E(op, fault.Misconfigured, err)
		}
		fresh = append(fresh, s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range fresh {
		if r.mu.byName[s.Split.Split] != nil {
			return fault.E(op, fault.Misconfigured, fmt.Errorf("split %s is read already", s.Split.Split))
		}
		r.mu.byName[s.Split.Split] = s
		r.mu.splits = append(r.mu.splits, s)
		switch {
		case s.Finished:
			s.done = true
		case s.bounded() && s.next >= int64(s.Until):
			// It has nothing to read, which must be said once.
			s.done = true
			r.mu.queue = append(r.mu.queue, &piece{split: s, next: s.next, epoch: s.epoch, finished: true})
		}
	}
	r.mu.meta.wanted = true
	notify(r.ready)
	notify(r.wake)
	return nil
}

// Lag implements [source.Reader]. With read_committed the records behind an open transaction count: they are there, and they
// are not read.
func (r *Reader) Lag() []source.Lag {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	first := make(map[*split]int64, len(r.mu.splits)) // the timestamp of the first record that is queued
	for _, p := range r.mu.queue {
		if _, ok := first[p.split]; !ok && len(p.rows) > 0 {
			first[p.split] = p.rows[0].Timestamp
		}
	}
	lags := make([]source.Lag, 0, len(r.mu.splits))
	for _, s := range r.mu.splits {
		lag := source.Lag{Split: s.Split.Split, Records: -1, Seconds: -1}
		end := s.high
		if s.bounded() {
			end = int64(s.Until)
		}
		if end >= 0 {
			lag.Records = max(0, end-s.polled)
		}
		ts, queued := first[s]
		switch {
		case lag.Records == 0:
			lag.Seconds = 0
		case queued && ts >= 0:
			lag.Seconds = max(0, now.Sub(time.UnixMilli(ts)).Seconds())
		}
		lags = append(lags, lag)
	}
	return lags
}

// Waiting implements [source.Reader]. Of several reasons it gives the oldest.
func (r *Reader) Waiting() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var oldest *split
	for _, s := range r.mu.splits {
		if s.problem != "" && !s.done && (oldest == nil || s.problemAt.Before(oldest.problemAt)) {
			oldest = s
		}
	}
	switch {
	case oldest != nil:
		return fmt.Sprintf("split %s: %s", oldest.Split.Split, oldest.problem)
	case r.mu.blocked > 0 && len(r.mu.queue) == 0:
		return "the memory budget is used up"
	}
	return ""
}

// Lost implements [source.LossCounter].
func (r *Reader) Lost() int64 { return r.lost.Load() }

// Close implements [source.Reader]. It waits for the requests under way to end.
func (r *Reader) Close() error {
	r.cancel()
	r.work.Wait()
	r.client.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.mu.queue {
		if !p.empty() {
			r.release(p)
		}
	}
	r.mu.queue, r.mu.queued, r.mu.closed = nil, 0, true
	return nil
}
