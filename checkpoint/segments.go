package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

var _ sink.SegmentStore = (*Segments)(nil)

// putAttempts bounds how often Put sends the same bytes for the same name before it gives up. It does not wait between them:
// the caller backs off.
const putAttempts = 3

// Segments is the segment folder of one run. A run has exactly one, which all its sinks share: it counts the names that were
// given out under the run's lease. It may be used by several goroutines at the same time.
type Segments struct {
	store    Store
	pipeline string
	lane     record.Lane
	lease    record.Lease
	last     atomic.Uint64 // number of the newest name
	fresh    freshSegments
}

// NewSegments returns the segment folder of the run that holds lease. The lease must be its own: the first name of a lease is
// the same for everyone.
func NewSegments(store Store, pipeline string, lane record.Lane, lease record.Lease) *Segments {
	return &Segments{store: store, pipeline: pipeline, lane: lane, lease: lease}
}

// Put stores data under the next name of the lease; see [sink.SegmentStore]. When an answer stays away it sends the same bytes
// under the same name again, and takes an object that is there for its own only if it has the same bytes.
//
// Error kinds: fault.Transient when nothing was stored, fault.Unknown when it may be there now or later, fault.Corrupt when
// another writer's bytes are under a name of this lease. A name is never used for other bytes, after an error neither.
func (s *Segments) Put(ctx context.Context, data []byte, rows int64) (sink.Segment, error) {
	const op = "checkpoint.Put"
	seg := sink.Segment{
		Name:     SegmentName(s.lane, s.lease, s.last.Add(1)),
		Bytes:    int64(len(data)),
		Rows:     rows,
		Checksum: xxhash.Sum64(data),
	}
	name := ObjectName(s.pipeline, seg.Name)
	err := s.store.Create(ctx, name, data)
	kind := fault.Transient // Unknown from the first attempt on that may have left something behind
	for range putAttempts - 1 {
		if err == nil || errors.Is(err, ErrExists) || fault.KindOf(err) != fault.Unknown || ctx.Err() != nil {
			break
		}
		kind = fault.Unknown
		err = s.store.Create(ctx, name, data)
	}
	switch {
	case err == nil:
		s.fresh.keep(seg.Name, data)
		return seg, nil
	case errors.Is(err, ErrExists):
		if err := s.isMine(ctx, name, data); err != nil {
			return sink.Segment{}, fault.E(op, fault.KindOf(err), fmt.Errorf("segment %s: %w", name, err))
		}
		return seg, nil
	}
	if kind != fault.Unknown {
		kind = fault.KindOf(err)
	}
	return sink.Segment{}, fault.E(op, kind, fmt.Errorf("segment %s: %w", name, err))
}

// isMine compares an object that is there already with what was to be stored.
func (s *Segments) isMine(ctx context.Context, name string, data []byte) error {
	got, err := s.store.Get(ctx, name)
	switch {
	case errors.Is(err, ErrNotExist):
		return fault.E("checkpoint.Put", fault.Unknown, errors.New("was there, and is gone"))
	case err != nil:
		return fault.E("checkpoint.Put", fault.Unknown, err) // whatever went wrong with reading, the object may be ours
	case !bytes.Equal(got, data):
		return fault.E("checkpoint.Put", fault.Corrupt, fmt.Errorf("another writer's %d bytes are under this name of lease %d", len(got), s.lease))
	}
	return nil
}

// Get returns the bytes of a segment, checked against its size and checksum. The result belongs to the caller.
//
// Error kinds: fault.Lost when it is not there, fault.Corrupt when its bytes differ or its name is none of a segment, else the
// store's own.
func (s *Segments) Get(ctx context.Context, seg sink.Segment) ([]byte, error) {
	const op = "checkpoint.Get"
	if _, _, err := parseSegment(seg.Name); err != nil {
		return nil, fault.E(op, fault.Corrupt, err)
	}
	name := ObjectName(s.pipeline, seg.Name)
	data, err := s.fresh.get(seg.Name), error(nil)
	if data == nil {
		data, err = s.store.Get(ctx, name)
	}
	switch {
	case errors.Is(err, ErrNotExist):
		return nil, fault.E(op, fault.Lost, fmt.Errorf("segment %s with %d rows: %w", name, seg.Rows, err))
	case err != nil:
		return nil, fault.E(op, fault.KindOf(err), fmt.Errorf("segment %s: %w", name, err))
	case int64(len(data)) != seg.Bytes:
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("segment %s: byte %d: it has %d bytes, want %d",
			name, min(int64(len(data)), seg.Bytes), len(data), seg.Bytes))
	}
	if sum := xxhash.Sum64(data); sum != seg.Checksum {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("segment %s: its checksum is %016x, want %016x", name, sum, seg.Checksum))
	}
	return data, nil
}

// Sweep deletes the lane's segments of every lease up to upTo but those in keep, which holds names as in [sink.Segment]. It
// returns how many it deleted, also with an error, and may be called again.
//
// The caller must have published a manifest under a lease above upTo (or equal to it, when keep also names what its own run has
// prepared since), and must not be fenced: only then can't anybody publish a manifest that names what is deleted (I9). What has
// no segment's name is left alone.
func (s *Segments) Sweep(ctx context.Context, upTo record.Lease, keep map[string]bool) (int, error) {
	const op = "checkpoint.Sweep"
	if upTo > s.lease {
		return 0, fault.E(op, fault.Fenced, fmt.Errorf("lease %d can't delete segments of lease %d", s.lease, upTo))
	}
	names, err := s.store.List(ctx, stagingPrefix(s.pipeline, s.lane), "")
	if err != nil {
		return 0, fault.E(op, fault.KindOf(err), err)
	}
	gone := slices.DeleteFunc(names, func(name string) bool {
		relative := name[len(s.pipeline)+1:]
		lane, lease, err := parseSegment(relative)
		return err != nil || lane != s.lane || lease > upTo || keep[relative]
	})
	deleted, err := deleteAll(ctx, s.store, gone)
	if err != nil {
		return deleted, fault.E(op, fault.KindOf(err), fmt.Errorf("segments: %w", err))
	}
	return deleted, nil
}

const (
	// freshBytesMax bounds the segments that a run still has in memory: those of a few checkpoints of a pipeline that writes little.
	// Who writes more reads them back, and does not feel the requests.
	freshBytesMax = 4 << 20
	// freshSegmentMax is the largest of them.
	freshSegmentMax = 256 << 10
)

// freshSegments are small segments that were stored lately, so that their commit needs no request. They are what the store has: a
// segment's name is used for one content only. The zero value is empty.
type freshSegments struct {
	mu struct {
		sync.Mutex
		bytes int
		names []string // the oldest first
		data  map[string][]byte
	}
}

func (f *freshSegments) keep(name string, data []byte) {
	if len(data) > freshSegmentMax {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.data == nil {
		f.mu.data = map[string][]byte{}
	}
	f.mu.names = append(f.mu.names, name)
	f.mu.data[name] = append([]byte{}, data...)
	f.mu.bytes += len(data)
	for f.mu.bytes > freshBytesMax {
		oldest := f.mu.names[0]
		f.mu.bytes -= len(f.mu.data[oldest])
		f.mu.names = f.mu.names[1:]
		delete(f.mu.data, oldest)
	}
}

// get returns a copy, or nil.
func (f *freshSegments) get(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.mu.data[name]
	if !ok {
		return nil
	}
	return append([]byte{}, data...)
}
