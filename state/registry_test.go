package state

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
)

// A state is found again by step and name, wherever it stands in the list; new ones take new slots; gone ones stay listed.
func TestRegistry_keepsSlots(t *testing.T) {
	a, b := Describe("s", "a", KindValue, Int64{}), Describe("s", "b", KindList, String{})
	c := DescribeMap("t", "a", String{}, Int64{})
	first := mustRegistry(t, nil, a, b)
	text := must[[]byte](t)(json.Marshal(first.Slots()))
	var stored []Slot
	check(t, json.Unmarshal(text, &stored))
	second := mustRegistry(t, stored, c, b)
	want := []Slot{{Slot: 1, Descriptor: a}, {Slot: 2, Descriptor: b}, {Slot: 3, Descriptor: c}}
	if diff := cmp.Diff(want, second.Slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	third := mustRegistry(t, second.Slots(), a, b, c)
	if diff := cmp.Diff(want, third.Slots()); diff != "" {
		t.Errorf("slots when the first came back (-want +got):\n%s", diff)
	}
	if slot := must[uint16](t)(third.find(&c)); slot != 3 {
		t.Errorf("got slot %d of the third state, want 3", slot)
	}
}

// A state that can't be read is refused with what was, what is wanted, and the way out.
func TestRegistry_refusesAnotherType(t *testing.T) {
	stored := mustRegistry(t, nil, Describe("per_user", "totals", KindValue, Int64{})).Slots()
	for name, d := range map[string]Descriptor{
		"type":    Describe("per_user", "totals", KindValue, String{}),
		"kind":    Describe("per_user", "totals", KindList, Int64{}),
		"version": Describe("per_user", "totals", KindValue, Codec[int64](Versioned[int64]{Name: "int64", V: 2})),
	} {
		_, err := NewRegistry(stored, Wanted{States: []Descriptor{d}})
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got %v, want misconfigured", name, err)
			continue
		}
		for _, part := range []string{`"per_user"`, `"totals"`, "value of int64, encoding version 1", d.String()} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
		if remedy := fault.RemedyOf(err); !strings.Contains(remedy, "--discard-state per_user") || !strings.Contains(remedy, "new id") {
			t.Errorf("%s: remedy %q", name, remedy)
		}
		_, err = NewRegistry(stored, Wanted{States: []Descriptor{d}, Fixed: []string{"per_user"}})
		if remedy := fault.RemedyOf(err); strings.Contains(remedy, "--discard-state") || !strings.Contains(remedy, "new id") {
			t.Errorf("%s: remedy %q for a step whose state can't be given up", name, remedy)
		}
	}
}

// Discarding gives the step new slots, drops the old ones in all groups once, and never uses them again.
func TestRegistry_discardsOnceAndForEver(t *testing.T) {
	old, other := Describe("s", "a", KindValue, Int64{}), Describe("t", "a", KindValue, Int64{})
	stored := mustRegistry(t, nil, old, other).Slots()
	now := Describe("s", "a", KindValue, String{})
	r := must[*Registry](t)(NewRegistry(stored, Wanted{States: []Descriptor{now, other}, Discard: []string{"s"}}))
	want := []Slot{{Slot: 1, Descriptor: old, Discarded: true}, {Slot: 2, Descriptor: other}, {Slot: 3, Descriptor: now}}
	if diff := cmp.Diff(want, r.Slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Range{SlotRange(0, 1), SlotRange(5, 1)}, r.Drops([]Group{5, 0})); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
	after := mustRegistry(t, r.Slots(), now, other)
	if diff := cmp.Diff(want, after.Slots()); diff != "" || after.Drops([]Group{0}) != nil {
		t.Errorf("after the next start (-want +got):\n%s\nand drops %v", diff, after.Drops([]Group{0}))
	}

	disk := newMemory()
	before := NewTask(TaskOptions{Reader: disk, Registry: mustRegistry(t, stored, old, other), Groups: 4})
	va := must[Value[int64]](t)(NewValue(before, old, Int64{}, TTL{}))
	vb := must[Value[int64]](t)(NewValue(before, other, Int64{}, TTL{}))
	before.For([]byte("k"), 3)
	va.Set(1)
	vb.Set(2)
	round(t, before, disk)
	task := NewTask(TaskOptions{Reader: disk, Registry: r, Groups: 4, Own: []Group{3, 1}})
	round(t, task, disk)
	if len(disk.keys) != 1 {
		t.Errorf("got %d keys after the discard, want only the other step's", len(disk.keys))
	}
}

func TestRegistry_refusesWhatCannotBe(t *testing.T) {
	a := Describe("s", "a", KindValue, Int64{})
	for name, c := range map[string]struct {
		stored []Slot
		wanted []Descriptor
		kind   fault.Kind
	}{
		"twice declared":  {nil, []Descriptor{a, a}, fault.Misconfigured},
		"unknown kind":    {nil, []Descriptor{{Step: "s", Name: "a", Kind: "heap"}}, fault.Misconfigured},
		"no name":         {nil, []Descriptor{{Step: "s", Kind: KindValue}}, fault.Misconfigured},
		"slot 0":          {[]Slot{{Slot: 0, Descriptor: a}}, nil, fault.Corrupt},
		"slot twice":      {[]Slot{{Slot: 1, Descriptor: a}, {Slot: 1, Descriptor: Describe("s", "b", KindValue, Int64{})}}, nil, fault.Corrupt},
		"state twice":     {[]Slot{{Slot: 1, Descriptor: a}, {Slot: 2, Descriptor: a}}, nil, fault.Corrupt},
		"no slot is left": {[]Slot{{Slot: 65535, Descriptor: Describe("s", "b", KindValue, Int64{}), Discarded: true}}, []Descriptor{a}, fault.Misconfigured},
	} {
		if _, err := NewRegistry(c.stored, Wanted{States: c.wanted}); err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
	}
}

// A step may open only what it declared, with the codec that it declared.
func TestOpen_refusesWhatWasNotDeclared(t *testing.T) {
	a := Describe("s", "a", KindValue, Int64{})
	task := NewTask(TaskOptions{Reader: newMemory(), Registry: mustRegistry(t, nil, a), Groups: 1})
	b := a
	b.Name = "b"
	_, errName := NewValue(task, b, Int64{}, TTL{})
	_, errCodec := NewValue(task, a, String{}, TTL{})
	_, errKind := NewList(task, a, Int64{}, TTL{})
	for i, err := range []error{errName, errCodec, errKind} {
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("case %d: got %v, want misconfigured", i, err)
		}
	}
}
