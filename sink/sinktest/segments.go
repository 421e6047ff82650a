package sinktest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// segments is the staging folder of one pipeline in a checkpoint store.
type segments struct {
	mu      sync.Mutex
	objects map[string][]byte
	count   int
}

// view is what a run's sink sees of it. Its calls go through the run's faults, as those to the target do.
type view struct {
	all    *segments
	lease  record.Lease
	faults *Faults
}

var _ sink.SegmentStore = (*view)(nil)

// Put stores a segment under a new name.
func (v *view) Put(ctx context.Context, data []byte, rows int64) (sink.Segment, error) {
	if err := ctx.Err(); err != nil {
		return sink.Segment{}, fault.E("sinktest.Put", fault.Unknown, err)
	}
	var s sink.Segment
	err := v.faults.Do("segment put", func() error {
		s = v.all.put(v.lease, data, rows)
		return nil
	})
	if err != nil {
		return sink.Segment{}, fault.E("sinktest.Put", fault.Unknown, err)
	}
	return s, nil
}

// Get returns a copy of a segment's bytes.
func (v *view) Get(_ context.Context, s sink.Segment) ([]byte, error) {
	var data []byte
	err := v.faults.Do("segment get", func() error {
		var ok bool
		if data, ok = v.all.get(s.Name); !ok {
			return fault.E("sinktest.Get", fault.Lost, fmt.Errorf("segment %s is not there", s.Name))
		}
		return nil
	})
	switch {
	case err == nil && xxhash.Sum64(data) != s.Checksum:
		return nil, fault.E("sinktest.Get", fault.Corrupt, fmt.Errorf("segment %s has another checksum", s.Name))
	case err != nil && fault.KindOf(err) != fault.Lost:
		return nil, fault.E("sinktest.Get", fault.Transient, err)
	}
	return data, err
}

func (s *segments) put(lease record.Lease, data []byte, rows int64) sink.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	name := fmt.Sprintf("staging/0/%d/%d", lease, s.count)
	if s.objects == nil {
		s.objects = map[string][]byte{}
	}
	s.objects[name] = bytes.Clone(data)
	return sink.Segment{Name: name, Bytes: int64(len(data)), Rows: rows, Checksum: xxhash.Sum64(data)}
}

func (s *segments) get(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[name]
	return bytes.Clone(data), ok
}

func (s *segments) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
}
