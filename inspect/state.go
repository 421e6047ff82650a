// Package inspect looks into a checkpoint store beside whatever runs: at what the keyed state of a checkpoint holds, as a person can
// read it, and at whether everything that is stored is whole.
package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

// Options say from where keyed state is restored, and into what.
type Options struct {
	Objects local.Objects // required
	// Dir is a folder in which a folder of its own is made, and removed by [State.Close]; "": that of the system for temporary files.
	Dir string
	Log *slog.Logger // nil: nothing is logged
}

// State is the keyed state of one checkpoint, restored into a folder of its own. One goroutine uses it. Close it.
type State struct {
	db    *local.DB
	dir   string
	slots []*slot
	// groups is how many key groups the pipeline has.
	groups int
}

// OpenState restores the keyed state that a manifest names. The pipeline's own local database is not touched. Error kinds:
// fault.Misconfigured when the manifest has no keyed state or a later version's, fault.Lost and fault.Corrupt with the object's name,
// fault.Transient for the local disk.
func OpenState(ctx context.Context, kept *checkpoint.KeyedState, o Options) (*State, error) {
	const op = "inspect.OpenState"
	if kept == nil {
		return nil, fault.E(op, fault.Misconfigured, errors.New("the checkpoint has no keyed state"))
	}
	stored, err := pipeline.ReadState(kept)
	if err != nil {
		return nil, err
	}
	s := &State{slots: newSlots(stored.Slots), groups: kept.Groups}
	if s.dir, err = os.MkdirTemp(o.Dir, "ingestd-state-"); err != nil {
		return nil, fault.E(op, fault.Transient, err)
	}
	s.db, err = local.Open(local.Options{Dir: filepath.Join(s.dir, "db"), Log: o.Log})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.db.Restore(ctx, stored.State, local.RestoreOptions{Objects: o.Objects}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close removes what was restored.
func (s *State) Close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Filter says which entries are wanted. Its zero value wants all.
type Filter struct {
	Step  string
	State string
	// Key is a key as it is shown; a string also without its quotes, and of several columns also an array of their values.
	Key   string
	Group *state.Group // nil: all

	key wantedKey // of Key
}

// Entries calls f with each entry that the filter wants, in the order of key groups, states and keys, until it returns an error.
// What it gets is valid during the call. What has expired and is not removed yet is there, too.
func (s *State) Entries(filter Filter, f func(e *Entry) error) error {
	return s.Stored(filter, func(e *Entry, _, _ []byte) error { return f(e) })
}

// Stored is [State.Entries] with key and value as they are stored.
func (s *State) Stored(filter Filter, f func(e *Entry, key, value []byte) error) error {
	if filter.Key == "" || filter.Group != nil {
		return s.storedIn(filter.Group, &filter, f)
	}
	groups := s.places(filter.Key)
	if groups == nil {
		return s.storedIn(nil, &filter, f)
	}
	for i := range groups {
		if err := s.storedIn(&groups[i], &filter, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) storedIn(group *state.Group, filter *Filter, f func(e *Entry, key, value []byte) error) error {
	for key, value := range s.all(group) {
		if value.err != nil {
			return value.err
		}
		e := s.decode(key, value.bytes)
		if !filter.wants(e) {
			continue
		}
		if err := f(e, key, value.bytes); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) wants(e *Entry) bool {
	if f.Key != "" && f.key.object == "" {
		f.key = newWantedKey(f.Key)
	}
	return (f.Step == "" || f.Step == e.Step) && (f.State == "" || f.State == e.State) && (f.Key == "" || f.key.is(e.Key, e.array))
}

// stored is the value of a key, or why there is none.
type stored struct {
	bytes []byte
	err   error
}

// all goes through the keys of a key group, or all. Key and value are the receiver's.
func (s *State) all(group *state.Group) iter.Seq2[[]byte, stored] {
	const last = 1<<16 - 1
	r := state.GroupRange(0, last)
	if group != nil {
		r = state.GroupRange(*group, *group)
	}
	return func(yield func([]byte, stored) bool) {
		more := true
		err := s.db.Scan(r.From, r.To, func(key, value []byte) bool {
			more = yield(bytes.Clone(key), stored{bytes: bytes.Clone(value)})
			return more
		})
		if err != nil && more {
			yield(nil, stored{err: err})
		}
	}
}

// Change is one entry that differs between two states.
type Change struct {
	What   string `json:"change"` // added, removed, changed
	Before *Entry `json:"before,omitempty"`
	After  *Entry `json:"after,omitempty"`
}

// Diff calls f with each entry that two states of one pipeline differ in, in order, until it returns an error.
func Diff(before, after *State, filter Filter, f func(Change) error) error {
	nextOld, stopOld := iter.Pull2(before.all(filter.Group))
	defer stopOld()
	nextNew, stopNew := iter.Pull2(after.all(filter.Group))
	defer stopNew()
	oldKey, oldValue, oldOK := nextOld()
	newKey, newValue, newOK := nextNew()
	for oldOK || newOK {
		if err := errors.Join(oldValue.err, newValue.err); err != nil {
			return err
		}
		order := bytes.Compare(oldKey, newKey)
		switch {
		case !oldOK:
			order = 1
		case !newOK:
			order = -1
		}
		var c Change
		if order <= 0 {
			c.Before = before.decode(oldKey, oldValue.bytes)
		}
		if order >= 0 {
			c.After = after.decode(newKey, newValue.bytes)
		}
		if same := order == 0 && bytes.Equal(oldValue.bytes, newValue.bytes); !same && c.wanted(&filter) {
			if err := f(c); err != nil {
				return err
			}
		}
		if order <= 0 {
			oldKey, oldValue, oldOK = nextOld()
		}
		if order >= 0 {
			newKey, newValue, newOK = nextNew()
		}
	}
	return nil
}

// wanted names the change and asks the filter.
func (c *Change) wanted(filter *Filter) bool {
	switch {
	case c.Before == nil:
		c.What = "added"
		return filter.wants(c.After)
	case c.After == nil:
		c.What = "removed"
		return filter.wants(c.Before)
	}
	c.What = "changed"
	return filter.wants(c.Before) || filter.wants(c.After)
}

// Count is what one state of a step takes.
type Count struct {
	Slot    uint16 `json:"slot"`
	Step    string `json:"step,omitempty"`
	State   string `json:"state,omitempty"`
	Kind    string `json:"kind"`
	Entries int64  `json:"entries"`
	// Keys are user keys, in each namespace that they are in.
	Keys       int64  `json:"keys"`
	Groups     int    `json:"groups"` // that have any
	KeyBytes   int64  `json:"key_bytes"`
	ValueBytes int64  `json:"value_bytes"`
	Largest    int64  `json:"largest_value_bytes"`
	LargestKey *Entry `json:"largest,omitempty"` // the entry with the largest value, without that
}

// Stats counts what each state holds, those with anything in them, in order of their slots.
func (s *State) Stats() ([]Count, error) {
	counts := map[uint16]*Count{}
	group := map[uint16]state.Group{}
	var before []byte
	for key, value := range s.all(nil) {
		if value.err != nil {
			return nil, value.err
		}
		p, err := state.SplitKey(key)
		if err != nil {
			return nil, fault.E("inspect.Stats", fault.Corrupt, fmt.Errorf("key %x: %w", key, err))
		}
		c, ok := counts[p.Slot]
		if !ok {
			c = &Count{Slot: p.Slot, Kind: p.Kind}
			if slot := s.slot(p.Slot); slot != nil {
				c.Step, c.State = slot.Step, slot.Name
			}
			counts[p.Slot] = c
		}
		if g, seen := group[p.Slot]; !seen || g != p.Group {
			c.Groups++
			group[p.Slot] = p.Group
		}
		user := key[:len(key)-len(p.Sub)]
		if !bytes.Equal(before, user) {
			c.Keys++
			before = user
		}
		c.take(s, key, value.bytes)
	}
	return sorted(counts), nil
}

func (c *Count) take(s *State, key, value []byte) {
	c.Entries++
	c.KeyBytes += int64(len(key))
	c.ValueBytes += int64(len(value))
	if n := int64(len(value)); n > c.Largest {
		c.Largest, c.LargestKey = n, s.decode(key, value)
		c.LargestKey.Value, c.LargestKey.RawValue = nil, nil
	}
}
