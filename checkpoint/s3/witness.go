package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ingestd/ingestd/fault"
)

// witnessedMax is how many of the newest names a store remembers: those of several checkpoints.
const witnessedMax = 256

// witness remembers what this store created and did not delete, so that an answer which does not show it is noticed. The zero value
// remembers nothing yet.
type witness struct {
	mu struct {
		sync.Mutex
		last  uint64
		names []witnessed // the newest last
	}
}

// witnessed is one creation of a name. Its number tells it from another of the same name.
type witnessed struct {
	name   string
	number uint64
}

func (w *witness) created(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.names) == witnessedMax {
		w.mu.names = slices.Delete(w.mu.names, 0, 1)
	}
	w.mu.last++
	w.mu.names = append(w.mu.names, witnessed{name, w.mu.last})
}

func (w *witness) forget(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.names = slices.DeleteFunc(w.mu.names, func(n witnessed) bool { return n.name == name })
}

// holds reports that a creation was neither deleted here nor forgotten.
func (w *witness) holds(n witnessed) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.mu.names, n)
}

// find returns the creation of a name.
func (w *witness) find(name string) (witnessed, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.mu.names, func(n witnessed) bool { return n.name == name })
	if i < 0 {
		return witnessed{}, false
	}
	return w.mu.names[i], true
}

// matching returns the creations that a list must show if nobody deletes them.
func (w *witness) matching(prefix, after string) []witnessed {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []witnessed
	for _, n := range w.mu.names {
		if strings.HasPrefix(n.name, prefix) && n.name > after {
			out = append(out, n)
		}
	}
	return out
}

// errStale says that a server's answers are not those of one place.
var errStale = errors.New("the store's answers are stale: an object that this daemon created is there for one request and not for another")

const staleRemedy = "use a store whose reads and lists show every write at once, and put no cache in front of it"

// staleList looks for each object that a list should have shown: known was created before the list was asked for. Another daemon
// may have deleted it; one that can be read is proof that the list was stale. A log that is read by such lists forks.
func (s *Store) staleList(ctx context.Context, op fault.Op, names []string, known []witnessed) error {
	for _, k := range known {
		if _, listed := slices.BinarySearch(names, k.name); listed || !s.seen.holds(k) {
			continue
		}
		there, err := s.there(ctx, k.name)
		switch {
		case err != nil:
			return s.readError(op, k.name, err)
		case !there:
			s.seen.forget(k.name)
		case s.seen.holds(k):
			return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("list without %s: %w", k.name, errStale), staleRemedy)
		}
	}
	return nil
}

// staleGet looks again for an object that was created before a read did not find it.
func (s *Store) staleGet(ctx context.Context, op fault.Op, k witnessed) error {
	if !s.seen.holds(k) {
		return nil
	}
	names, err := s.list(ctx, k.name, "")
	if err != nil {
		return s.readError(op, k.name, err)
	}
	if slices.Contains(names, k.name) && s.seen.holds(k) {
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("read of %s: %w", k.name, errStale), staleRemedy)
	}
	s.seen.forget(k.name)
	return nil
}

// there asks whether an object is there.
func (s *Store) there(ctx context.Context, name string) (bool, error) {
	_, _, err := s.read(ctx, name, rangeOf(0, 1))
	switch {
	case err == nil, outOfRange(err):
		return true, nil
	case absent(err):
		return false, nil
	}
	return false, err
}
