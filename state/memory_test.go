package state

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
)

// memory is a Reader over a sorted copy of a map: what a database shows, in the simplest form.
type memory struct {
	mu     sync.RWMutex
	values map[string]string
	keys   []string // sorted
	fail   error
	gets   int
	scans  int
}

func newMemory() *memory { return &memory{values: map[string]string{}} }

func (m *memory) Get(dst, key []byte) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	if m.fail != nil {
		return dst, false, m.fail
	}
	v, ok := m.values[string(key)]
	return append(dst, v...), ok, nil
}

func (m *memory) Scan(from, to []byte, f func(key, value []byte) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scans++
	if m.fail != nil {
		return m.fail
	}
	i, _ := slices.BinarySearch(m.keys, string(from))
	for ; i < len(m.keys) && m.keys[i] < string(to); i++ {
		key, value := []byte(m.keys[i]), []byte(m.values[m.keys[i]])
		more := f(key, value)
		for j := range key { // valid during the call only
			key[j] = '#'
		}
		for j := range value {
			value[j] = '#'
		}
		if !more {
			return nil
		}
	}
	return nil
}

// apply does what the contract of Delta says.
func (m *memory) apply(d Delta) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range d.Drops {
		maps.DeleteFunc(m.values, func(k, _ string) bool { return within([]byte(k), r) })
	}
	for _, op := range d.Ops {
		if op.Delete {
			delete(m.values, string(op.Key))
		} else {
			m.values[string(op.Key)] = string(op.Value)
		}
	}
	m.keys = slices.Sorted(maps.Keys(m.values))
}

func mustRegistry(tb testing.TB, stored []Slot, states ...Descriptor) *Registry {
	tb.Helper()
	r, err := NewRegistry(stored, Wanted{States: states})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func must[T any](tb testing.TB) func(v T, err error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// round freezes, encodes, applies and forgets, as a checkpoint does.
func round(tb testing.TB, t *Task, m *memory) {
	tb.Helper()
	f := t.Freeze()
	commit(tb, t, m, f)
}

func commit(tb testing.TB, t *Task, m *memory, f *Frozen) {
	tb.Helper()
	encoded, err := EncodeDelta(nil, f.Delta())
	check(tb, err)
	d, err := DecodeDelta(encoded)
	check(tb, err)
	m.apply(d)
	t.Applied(f)
}

var errBroken = errors.New("the disk is broken")
