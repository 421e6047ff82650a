package sink

import (
	"context"
	"sync"
)

// uploadsMax is how many segments of one writer are compressed and stored at a time. One is written while the next is filled.
const uploadsMax = 2

// Uploads stores a writer's segments beside the task, in order of their beginning. All methods are called by the task.
type Uploads struct {
	// Pack makes a segment's stored bytes of its content; it is called on other goroutines, several at the same time.
	Pack func(content []byte, rows int64) ([]byte, error)

	group   sync.WaitGroup
	slots   chan struct{}
	results []*upload
	cancel  context.CancelFunc
	ctx     context.Context //nolint:containedctx // of the goroutines that this value starts, stops and waits for
}

type upload struct {
	segment Segment
	err     error
}

// Add stores a segment's content, which it takes over. It waits while uploadsMax others are under way.
func (u *Uploads) Add(ctx context.Context, store SegmentStore, content []byte, rows int64) {
	if u.slots == nil {
		u.slots = make(chan struct{}, uploadsMax)
	}
	if u.ctx == nil {
		u.ctx, u.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	result := new(upload)
	u.results = append(u.results, result)
	select {
	case u.slots <- struct{}{}:
	case <-ctx.Done():
		result.err = context.Cause(ctx)
		return
	}
	background := u.ctx
	u.group.Go(func() {
		defer func() { <-u.slots }()
		var data []byte
		if data, result.err = u.Pack(content, rows); result.err == nil {
			result.segment, result.err = store.Put(background, data, rows)
		}
	})
}

// Wait returns the segments in order when all are durable, and begins anew.
func (u *Uploads) Wait(ctx context.Context) ([]Segment, error) {
	done := make(chan struct{})
	go func() {
		u.group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		u.Stop()
		<-done
		return nil, context.Cause(ctx)
	}
	segments := make([]Segment, len(u.results))
	for i, r := range u.results {
		if r.err != nil {
			return nil, r.err
		}
		segments[i] = r.segment
	}
	u.results = u.results[:0]
	return segments, nil
}

// Stop ends uploads under way and waits for them.
func (u *Uploads) Stop() {
	if u.cancel != nil {
		u.cancel()
	}
	u.group.Wait()
	u.ctx, u.cancel, u.results = nil, nil, nil
}
