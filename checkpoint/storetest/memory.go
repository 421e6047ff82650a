package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

var _ checkpoint.Store = (*Memory)(nil)

// Method is what was called at a [Memory].
type Method uint8

// The methods of a store.
const (
	Create Method = iota + 1
	Get
	GetRange
	List
	Delete
)

// Call is one call at a [Memory].
type Call struct {
	Number int // counts all calls from 1
	Method Method
	Name   string // List: the prefix
}

// Fault is what goes wrong with a call.
type Fault uint8

const (
	// None lets the call do its work.
	None Fault = iota
	// Refused answers fault.Transient and does nothing.
	Refused
	// ReplyLost does the work and answers fault.Unknown. For reads it is the same as Refused.
	ReplyLost
	// RequestLost does nothing, ever, and answers fault.Unknown. For reads it is the same as Refused.
	RequestLost
	// Late answers fault.Unknown and does the work when the test calls [Memory.Land]: a Create then creates if nothing is there
	// at that moment. For reads it is the same as Refused.
	Late
)

// Memory is a store in memory. Reads are never stale: a store that has stale reads must not be used at all. It may be used by
// several goroutines at the same time.
type Memory struct {
	faults func(Call) Fault

	mu struct {
		sync.Mutex
		calls   int
		objects map[string][]byte
		late    []func() // hold the lock
	}
}

// NewMemory returns an empty store. Faults chooses what goes wrong with each call; nil is never. It is called by the caller's
// goroutine, one call after the other, without any lock held that a test could need.
func NewMemory(faults func(Call) Fault) *Memory {
	m := &Memory{faults: faults}
	m.mu.objects = map[string][]byte{}
	return m
}

// Land lets every request take effect that is late, in the order in which they were sent, and returns how many there were.
func (m *Memory) Land() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.mu.late)
	for _, effect := range m.mu.late {
		effect()
	}
	m.mu.late = nil
	return n
}

// Objects returns a copy of what is stored, by name.
func (m *Memory) Objects() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.mu.objects) // stored bytes never change
}

// Create implements [checkpoint.Store].
func (m *Memory) Create(ctx context.Context, name string, data []byte) error {
	data = append([]byte{}, data...)
	return m.change(ctx, Create, name, func() error {
		if _, taken := m.mu.objects[name]; taken {
			return fault.E("storetest.Create", fault.Unknown, fmt.Errorf("%s: %w", name, checkpoint.ErrExists))
		}
		m.mu.objects[name] = data
		return nil
	})
}

// Delete implements [checkpoint.Store].
func (m *Memory) Delete(ctx context.Context, name string) error {
	return m.change(ctx, Delete, name, func() error {
		delete(m.mu.objects, name)
		return nil
	})
}

// Get implements [checkpoint.Store].
func (m *Memory) Get(ctx context.Context, name string) ([]byte, error) {
	return m.read(ctx, Get, name, func(data []byte) []byte { return data })
}

// GetRange implements [checkpoint.Store].
func (m *Memory) GetRange(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 {
		return nil, fault.E("storetest.GetRange", fault.Misconfigured, fmt.Errorf("%s: %d bytes from %d", name, length, offset))
	}
	return m.read(ctx, GetRange, name, func(data []byte) []byte {
		data = data[min(offset, int64(len(data))):]
		return data[:min(length, int64(len(data)))]
	})
}

// List implements [checkpoint.Store].
func (m *Memory) List(ctx context.Context, prefix, after string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.E("storetest.List", fault.Transient, err)
	}
	if m.next(List, prefix) != None {
		return nil, fault.E("storetest.List", fault.Transient, errInjected())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.mu.objects {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *Memory) read(ctx context.Context, method Method, name string, part func([]byte) []byte) ([]byte, error) {
	const op = "storetest.Get"
	if err := checkpoint.CheckName(name); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.E(op, fault.Transient, err)
	}
	if m.next(method, name) != None {
		return nil, fault.E(op, fault.Transient, errInjected())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.mu.objects[name]
	if !ok {
		return nil, fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, checkpoint.ErrNotExist))
	}
	return append([]byte{}, part(data)...), nil
}

// change does the work of Create and Delete as the call's fault wants it. The effect is called with the lock held.
func (m *Memory) change(ctx context.Context, method Method, name string, effect func() error) error {
	const op = "storetest.Change"
	if err := checkpoint.CheckName(name); err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	f := m.next(method, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch f {
	case None:
		return effect()
	case Refused:
		return fault.E(op, fault.Transient, errInjected())
	case ReplyLost:
		effect() //nolint:errcheck // the answer is what is lost
	case Late:
		m.mu.late = append(m.mu.late, func() {
			effect() //nolint:errcheck // the answer was given long ago
		})
	case RequestLost:
	}
	return fault.E(op, fault.Unknown, errInjected())
}

// next counts a call and chooses its fault.
func (m *Memory) next(method Method, name string) Fault {
	m.mu.Lock()
	m.mu.calls++
	call := Call{Number: m.mu.calls, Method: method, Name: name}
	m.mu.Unlock()
	if m.faults == nil {
		return None
	}
	return m.faults(call)
}

func errInjected() error { return errors.New("injected fault") }
