package kafka

import (
	"context"
	"sync"

	"github.com/ingestd/ingestd/sink"
)

// uploadsMax is how many segments of one writer are compressed and stored at a time. One is written while the next is filled.
const uploadsMax = 2

// uploads compresses and stores segments beside the task, in order of their beginning. All methods are called by the task.
type uploads struct {
	compression string
	group       sync.WaitGroup
	slots       chan *compressor // one for each upload that may run
	bodies      chan []byte      // of batches that are sealed, to be filled again
	results     []*upload
	cancel      context.CancelFunc
	ctx         context.Context //nolint:containedctx // of the goroutines that this value starts, stops and waits for
}

type upload struct {
	segment sink.Segment
	bytes   int64
	err     error
}

// bodiesMax bounds the memory that is kept for new batches.
const bodiesMax = 16

// body returns memory for a new batch's records.
func (u *uploads) body() []byte {
	select {
	case b := <-u.bodies:
		return b[:0]
	default:
		return nil
	}
}

// spent takes a sealed batch's memory.
func (u *uploads) spent(b []byte) {
	select {
	case u.bodies <- b:
	default:
	}
}

// add stores a segment of batches, which it takes over. It waits while uploadsMax others are under way.
func (u *uploads) add(ctx context.Context, store sink.SegmentStore, batches []*open, rows int64) {
	if u.slots == nil {
		u.slots, u.bodies = make(chan *compressor, uploadsMax), make(chan []byte, bodiesMax)
		for range uploadsMax {
			u.slots <- newCompressor(u.compression)
		}
	}
	if u.ctx == nil {
		u.ctx, u.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	result := new(upload)
	u.results = append(u.results, result)
	var c *compressor
	select {
	case c = <-u.slots:
	case <-ctx.Done():
		result.err = context.Cause(ctx)
		return
	}
	background := u.ctx
	u.group.Go(func() {
		defer func() { u.slots <- c }()
		var content []byte
		for _, b := range batches {
			content = appendPiece(content, b, c)
			u.spent(b.body)
		}
		var data []byte
		if data, result.err = pack(content, rows); result.err == nil {
			result.bytes = int64(len(content))
			result.segment, result.err = store.Put(background, data, rows)
		}
	})
}

// wait returns the uploads in order when all are durable, and begins anew.
func (u *uploads) wait(ctx context.Context) ([]*upload, error) {
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
	results := u.results
	u.results = nil
	for _, r := range results {
		if r.err != nil {
			return nil, r.err
		}
	}
	return results, nil
}

// stop ends uploads under way and waits for them.
func (u *uploads) stop() {
	if u.cancel != nil {
		u.cancel()
	}
	u.group.Wait()
	u.ctx, u.cancel, u.results = nil, nil, nil
}
