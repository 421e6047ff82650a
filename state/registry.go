package state

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ingestd/ingestd/fault"
)

// Slot is the number under which a state's keys are stored. It stands in every checkpoint.
type Slot struct {
	Slot uint16 `json:"slot"`
	Descriptor
	// Discarded says that a person gave the state up: its keys were dropped with the checkpoint that lists it so for the first
	// time. The number is not used again.
	Discarded bool `json:"discarded,omitempty"`
}

// Registry assigns slots to the states of a pipeline's keyed steps. It is immutable.
type Registry struct {
	slots   []Slot // sorted by Slot
	current map[string]int
	drops   []uint16
}

// Wanted is what a pipeline wants of its states now.
type Wanted struct {
	States []Descriptor
	// Discard names steps whose stored states are given up. Pass it only until a checkpoint that was made with it is published:
	// passed again it would discard what was kept since.
	Discard []string
	// Fixed names steps whose stored states can't be given up, because what made them was read already and is not read again.
	Fixed []string
}

func stateID(d *Descriptor) string { return d.Step + "\x00" + d.Name }

// NewRegistry finds for each wanted state the slot of an earlier run, which `stored` lists as [Registry.Slots] gave it, or a new
// one. A state of the same step and name keeps its slot if kind, type and version are the same; otherwise the error is
// [fault.Misconfigured] and says what was stored, what is wanted, and the two ways out. States of steps that are gone stay listed.
func NewRegistry(stored []Slot, wanted Wanted) (*Registry, error) {
	r := &Registry{slots: slices.Clone(stored), current: make(map[string]int)}
	slices.SortFunc(r.slots, func(a, b Slot) int { return cmp.Compare(a.Slot, b.Slot) })
	if err := r.checkStored(); err != nil {
		return nil, fault.E("state.NewRegistry", fault.Corrupt, err)
	}
	for i := range r.slots {
		s := &r.slots[i]
		if !s.Discarded && slices.Contains(wanted.Discard, s.Step) {
			s.Discarded = true
			r.drops = append(r.drops, s.Slot)
		}
	}
	var errs []error
	for i := range wanted.States {
		errs = append(errs, r.want(&wanted.States[i], wanted.Fixed))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Registry) checkStored() error {
	seen := make(map[string]bool)
	for i := range r.slots {
		s := &r.slots[i]
		switch {
		case s.Slot == 0 || i > 0 && r.slots[i-1].Slot == s.Slot:
			return fmt.Errorf("slot %d is listed twice or is 0", s.Slot)
		case s.Discarded:
			continue
		case seen[stateID(&s.Descriptor)]:
			return fmt.Errorf("state %q of step %q has two slots", s.Name, s.Step)
		}
		seen[stateID(&s.Descriptor)] = true
	}
	return nil
}

func (r *Registry) want(d *Descriptor, fixed []string) error {
	const op = "state.NewRegistry"
	if kindByte(d.Kind) == 0 || d.Step == "" || d.Name == "" {
		return fault.E(op, fault.Misconfigured, fmt.Errorf("state %q of step %q: no name or an unknown kind %q", d.Name, d.Step, d.Kind))
	}
	if _, twice := r.current[stateID(d)]; twice {
		return fault.E(op, fault.Misconfigured, fmt.Errorf("state %q of step %q is declared twice", d.Name, d.Step))
	}
	for i := range r.slots {
		s := &r.slots[i]
		if s.Discarded || s.Step != d.Step || s.Name != d.Name {
			continue
		}
		if s.Descriptor != *d {
			return conflict(&s.Descriptor, d, fixed)
		}
		r.current[stateID(d)] = i
		return nil
	}
	slot := 1
	if n := len(r.slots); n > 0 {
		slot = int(r.slots[n-1].Slot) + 1
	}
	if slot > math.MaxUint16 {
		return fault.E(op, fault.Misconfigured, errors.New("no slot is left for another state: 65,535 were used"))
	}
	r.current[stateID(d)] = len(r.slots)
	r.slots = append(r.slots, Slot{Slot: uint16(slot), Descriptor: *d})
	return nil
}

func conflict(stored, wanted *Descriptor, fixed []string) error {
	remedy := "give the step a new id, so that it begins with nothing beside the old state"
	if !slices.Contains(fixed, wanted.Step) {
		remedy += fmt.Sprintf(", or start once with --discard-state %s to give the old state up", wanted.Step)
	}
	return fault.WithRemedy("state.NewRegistry", fault.Misconfigured,
		fmt.Errorf("step %q, state %q: the stored state is %s, the step now needs %s", wanted.Step, wanted.Name, stored, wanted), remedy)
}

// String returns what decides whether stored state can be used: kind, type and version of the encoding.
func (d *Descriptor) String() string {
	return fmt.Sprintf("%s of %s, encoding version %d", d.Kind, d.Type, d.Version)
}

// Slots returns all states that were ever stored, sorted by slot, for the checkpoint. The caller must not change it.
func (r *Registry) Slots() []Slot { return r.slots }

// Drops returns the ranges of the discarded states in the named key groups, sorted. [NewTask] puts those of its own groups into
// the task's first delta.
func (r *Registry) Drops(groups []Group) []Range {
	var drops []Range
	for _, group := range slices.Sorted(slices.Values(groups)) {
		for _, slot := range r.drops {
			drops = append(drops, SlotRange(group, slot))
		}
	}
	return drops
}

// find returns the slot of a state that is wanted now.
func (r *Registry) find(d *Descriptor) (uint16, error) {
	i, ok := r.current[stateID(d)]
	if !ok || r.slots[i].Descriptor != *d {
		return 0, fault.E("state.Registry", fault.Misconfigured,
			fmt.Errorf("step %q opens state %q (%s), which it did not declare like this", d.Step, d.Name, d))
	}
	return r.slots[i].Slot, nil
}
