package pipeline

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// topic is a source in memory: splits with records, which a test adds to.
type topic struct {
	mu      sync.Mutex
	splits  map[string][]string
	changed chan struct{} // closed when records are added
	bounded bool
	fetch   int // records of one fetch at most

	// What a test changes, each nil or zero for nothing unusual. They are read with mu held.
	discover func() error
	refuse   func(value string) bool   // the source itself can't hand it on
	poll     func(split string) error  // before a fetch of it
	waiting  string                    // why the reader can't go on
	lag      map[string]int64          // instead of what is true
	opens    int                       // readers
	lost     int64                     // offsets passed over
	fetched  func(f *source.Fetch)     // changes a fetch
	settled  func(p []source.Position) // positions shown to lag tools
}

func newTopic(splits ...string) *topic {
	s := &topic{splits: map[string][]string{}, changed: make(chan struct{}), fetch: 3}
	for _, name := range splits {
		s.splits[name] = nil
	}
	return s
}

// add appends records to a split, which is made if need be.
func (s *topic) add(split string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splits[split] = append(s.splits[split], values...)
	close(s.changed)
	s.changed = make(chan struct{})
}

// set changes what is unusual.
func (s *topic) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *topic) Discover(_ context.Context, known []source.Split) ([]source.Split, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discover != nil {
		if err := s.discover(); err != nil {
			return nil, err
		}
	}
	var out []source.Split
	for name, records := range s.splits {
		if slices.ContainsFunc(known, func(k source.Split) bool { return k.Split == name }) {
			continue
		}
		sp := source.Split{Position: source.Position{Split: name, Identity: "id", LeaderEpoch: record.NoLeaderEpoch}, Until: source.Unbounded}
		if s.bounded {
			sp.Until = record.Offset(len(records))
			sp.Finished = sp.Until == 0
		}
		out = append(out, sp)
	}
	slices.SortFunc(out, func(a, b source.Split) int { return strings.Compare(a.Split, b.Split) })
	return out, nil
}

func (s *topic) Open(_ context.Context, splits []source.Split, _ source.Budget) (source.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	return &topicReader{topic: s, splits: slices.Clone(splits)}, nil
}

func (s *topic) Bounded() bool { return s.bounded }

func (s *topic) Committed(_ context.Context, p []source.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled != nil {
		s.settled(p)
	}
	return nil
}

func (s *topic) Close() error { return nil }

type topicReader struct {
	topic  *topic
	splits []source.Split
	turn   int
}

func (r *topicReader) Poll(ctx context.Context) (source.Fetch, error) {
	for {
		f, changed, err := r.next()
		if err != nil || f.Next.Split != "" {
			return f, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return source.Fetch{}, nil
		}
	}
}

func (r *topicReader) next() (source.Fetch, <-chan struct{}, error) {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	for range r.splits {
		r.turn = (r.turn + 1) % len(r.splits)
		sp := &r.splits[r.turn]
		all := t.splits[sp.Split]
		if sp.Finished || int(sp.Offset) >= len(all) {
			continue
		}
		if t.poll != nil {
			if err := t.poll(sp.Split); err != nil {
				return source.Fetch{}, nil, err
			}
		}
		f := source.Fetch{Topic: "topic", Next: sp.Position}
		for f.Next.Offset < record.Offset(len(all)) && len(f.Rows)+len(f.Refused) < t.fetch && (sp.Until == source.Unbounded || f.Next.Offset < sp.Until) {
			value := all[f.Next.Offset]
			if t.refuse != nil && t.refuse(value) {
				f.Refused = append(f.Refused, record.DeadLetter{Split: sp.Split, Offset: f.Next.Offset, Value: []byte(value), Timestamp: -1, Byte: -1, Stage: "source", Reason: "too long"})
			} else {
				f.Rows = append(f.Rows, source.Row{Offset: f.Next.Offset, Timestamp: -1, Value: []byte(value)})
			}
			f.Next.Offset++
		}
		f.Finished = sp.Until != source.Unbounded && f.Next.Offset >= sp.Until
		sp.Position, sp.Finished = f.Next, f.Finished
		if t.fetched != nil {
			t.fetched(&f)
		}
		return f, nil, nil
	}
	return source.Fetch{}, t.changed, nil
}

func (r *topicReader) Add(_ context.Context, splits []source.Split) error {
	r.splits = append(r.splits, splits...)
	return nil
}

func (r *topicReader) Lag() []source.Lag {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []source.Lag
	for _, sp := range r.splits {
		n := int64(len(t.splits[sp.Split])) - int64(sp.Offset)
		if fixed, ok := t.lag[sp.Split]; ok {
			n = fixed
		}
		out = append(out, source.Lag{Split: sp.Split, Records: n, Seconds: float64(n)})
	}
	return out
}

func (r *topicReader) Waiting() string {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	return r.topic.waiting
}

func (r *topicReader) Lost() int64 {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	return r.topic.lost
}

func (r *topicReader) Close() error { return nil }
