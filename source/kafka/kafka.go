// Package kafka reads Kafka topics by direct assignment: every partition is a split, and its position is the topic's ID, the
// next offset and the leader epoch. No consumer group takes part in what is read.
//
// A [Source] finds partitions and resolves the start policy and the end bound to numbers. A [Reader] fetches with requests of
// its own instead of the client library's consumer, so that every answer of a broker is seen as it is: errors are classified
// here and never cause a silent jump, positions move past control records, aborted transactions and compacted gaps, and
// memory is counted before records are handed out.
package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// Source reads topics. It is safe for use by several goroutines.
type Source struct {
	plan *plan
	log  *slog.Logger
	pool *pool
	mu   struct {
		sync.Mutex
		client *kgo.Client // nil until it is first needed
		closed bool
		mirror bool // the mirror group was found to be free
	}
}

var (
	_ source.Source       = (*Source)(nil)
	_ source.Checker      = (*Source)(nil)
	_ source.Rediscoverer = (*Source)(nil)
	_ source.Sizer        = (*Source)(nil)
)

// New checks the settings and returns a source. It does no I/O. An error is fault.Misconfigured and starts with the key.
func New(settings Settings, log *slog.Logger) (*Source, error) {
	p, err := settings.check()
	if err != nil {
		return nil, fault.E("source/kafka.New", fault.Misconfigured, err)
	}
	return &Source{plan: p, log: log, pool: newPool()}, nil
}

// DiscoveryInterval returns the key discovery_interval, or 0 when the source is bounded.
func (s *Source) DiscoveryInterval() time.Duration {
	if s.plan.Until != "" {
		return 0
	}
	return s.plan.DiscoveryInterval
}

// AcquireMax implements [source.Sizer]: one piece, or one record of the largest size, with its headers as long as they are not
// more than the record.
func (s *Source) AcquireMax() int64 {
	return pieceBytes + pieceRows*rowSize + int64(s.plan.RecordBytesMax)
}

// Open returns a reader of the given splits. It starts its goroutines, which end with Close; connections are made by them.
// Before anything is fetched the topics' IDs are compared with the positions', and the log's end with each position's epoch.
func (s *Source) Open(_ context.Context, splits []source.Split, budget source.Budget) (source.Reader, error) {
	client, err := s.plan.dial(s.log)
	if err != nil {
		return nil, fault.E("source/kafka.Open", fault.Misconfigured, err)
	}
	r := newReader(s, client, budget)
	if err := r.add(splits); err != nil {
		client.Close()
		return nil, err
	}
	r.start()
	return r, nil
}

// Close ends the source's connections.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	if s.mu.client != nil {
		s.mu.client.Close()
		s.mu.client = nil
	}
	return nil
}
