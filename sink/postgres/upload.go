package postgres

import (
	"context"
	"sync"

	"github.com/ingestd/ingestd/sink"
)

// uploadsMax is how many segments of one writer are compressed and stored at a time. One is written while the next is filled.
const uploadsMax = 2

// uploads stores segments beside the task, in order of their beginning. All methods are called by the task.
type uploads struct {
	group   sync.WaitGroup
	slots   chan struct{}
	results []*upload
	cancel  context.CancelFunc
	ctx     context.Context //nolint:containedctx // of the goroutines that this value starts, stops and waits for
}

type upload struct {
	segment sink.Segment
	err     error
}

// add stores a segment's content, which it takes over. It waits while uploadsMax others are under way.
func (u *uploads) add(ctx context.Context, store sink.SegmentStore, content []byte, rows int64) {
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
		if data, result.err = pack(content, rows); result.err == nil {
			result.segment, result.err = store.Put(background, data, rows)
		}
	})
}

// wait returns the segments in order when all are durable, and begins anew.
func (u *uploads) wait(ctx context.Context) ([]sink.Segment, error) {
	done := make(chan struct{})
	go func() {
		u.group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		u.stop()
		<-done
		return nil, context.Cause(ctx)
	}
	segments := make([]sink.Segment, len(u.results))
	for i, r := range u.results {
		if r.err != nil {
			return nil, r.err
		}
		segments[i] = r.segment
	}
	u.results = u.results[:0]
	return segments, nil
}

// stop ends uploads under way and waits for them.
func (u *uploads) stop() {
	if u.cancel != nil {
		u.cancel()
	}
	u.group.Wait()
	u.ctx, u.cancel, u.results = nil, nil, nil
}
