package step

import (
	"encoding/binary"
	"fmt"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// counted is the part of an accumulator whose elements lie in a state of their own.
type counted struct {
	n     int64
	space int64
}

// listBank is collect(x, limit): the first values in order of arrival. They are appended to a list without reading it.
type listBank struct {
	entries[counted]
	limit   int64
	codec   state.Tuple
	values  state.List[[]byte]
	scratch []byte
}

func (k *listBank) grow(space int64) { *k.entries.add() = counted{space: space} }

func (k *listBank) add(entry int, at argument) error {
	a := &k.list[entry]
	if a.n >= k.limit {
		return nil
	}
	a.n++
	k.scratch = appendPlain(k.scratch[:0], at.column(), at.row)
	return k.values.In(a.space).Append(k.scratch)
}

func (k *listBank) merge(into, from int) error {
	a, b := &k.list[into], &k.list[from]
	held := k.values.In(b.space)
	err := held.Each(func(value []byte) error {
		if a.n >= k.limit {
			return state.ErrStop
		}
		a.n++
		return k.values.In(a.space).Append(value)
	})
	if err != nil {
		return err
	}
	return held.Clear()
}

func (k *listBank) emit(dst *record.Column, entry int) error {
	err := k.values.In(k.list[entry].space).Each(func(value []byte) error { return k.codec.ReadRow(value, dst.Elem) })
	if err != nil {
		return err
	}
	dst.CloseList()
	return nil
}

func (k *listBank) save(dst []byte, entry int) []byte {
	return binary.AppendUvarint(dst, uint64(k.list[entry].n))
}

func (k *listBank) load(b []byte) (rest []byte, err error) {
	k.last().n, rest, err = readCount(b)
	return rest, err
}

func (k *listBank) dropNamespace(group state.Group, space int64) {
	k.values.DropNamespace(group, space)
}

func (k *listBank) drop(space int64) error { return k.values.In(space).Clear() }

// nothing is the codec of the values of a map that is a set.
func nothing() state.Versioned[struct{}] {
	return state.Versioned[struct{}]{
		Name: "nothing", V: 1,
		Put:  func(dst []byte, _ struct{}) []byte { return dst },
		Read: func([]byte) (struct{}, error) { return struct{}{}, nil },
	}
}

// setKeys is the codec of the values that are counted: [state.AppendKey]'s form of them, under the name of their type.
type setKeys struct {
	state.Versioned[[]byte]
}

func setKeysOf(t *record.Type) setKeys {
	plain := elements(t)
	return setKeys{state.Versioned[[]byte]{
		Name: "key of " + plain.Elem.String(), V: 1,
		Put:  func(dst, v []byte) []byte { return append(dst, v...) },
		Read: func(b []byte) ([]byte, error) { return b, nil },
	}}
}

// AppendKey appends the key.
func (setKeys) AppendKey(dst, k []byte) []byte { return append(dst, k...) }

// DecodeKey returns b.
func (setKeys) DecodeKey(b []byte) ([]byte, error) { return b, nil }

// setBank is count_distinct(x, limit).
type setBank struct {
	entries[counted]
	limit   int64
	values  state.Map[[]byte, struct{}]
	scratch []byte
}

func (k *setBank) grow(space int64) { *k.entries.add() = counted{space: space} }

// check lets one more value in if the limit allows it. Entries that are joined may go beyond the limit together.
func (k *setBank) check(entries []int, at argument) (string, error) {
	n := int64(0)
	for _, e := range entries {
		n = max(n, k.list[e].n)
	}
	if n < k.limit {
		return "", nil
	}
	k.scratch = at.key(k.scratch[:0])
	for _, e := range entries {
		if _, ok, err := k.values.In(k.list[e].space).Get(k.scratch); err != nil || ok {
			return "", err
		}
	}
	return fmt.Sprintf("this would be more than the limit of %d different values: raise it, or use approx_count_distinct", k.limit), nil
}

func (k *setBank) add(entry int, at argument) error {
	k.scratch = at.key(k.scratch[:0])
	return k.insert(&k.list[entry], k.scratch)
}

func (k *setBank) insert(a *counted, value []byte) error {
	set := k.values.In(a.space)
	_, ok, err := set.Get(value)
	if err != nil || ok {
		return err
	}
	a.n++
	set.Put(value, struct{}{})
	return nil
}

func (k *setBank) merge(into, from int) error {
	held := k.values.In(k.list[from].space)
	err := held.Each(func(value []byte, _ struct{}) error { return k.insert(&k.list[into], value) })
	if err != nil {
		return err
	}
	return held.Clear()
}

func (k *setBank) emit(dst *record.Column, entry int) error {
	dst.AppendInt(k.list[entry].n)
	return nil
}

func (k *setBank) save(dst []byte, entry int) []byte {
	return binary.AppendUvarint(dst, uint64(k.list[entry].n))
}

func (k *setBank) load(b []byte) (rest []byte, err error) {
	k.last().n, rest, err = readCount(b)
	return rest, err
}

func (k *setBank) dropNamespace(group state.Group, space int64) { k.values.DropNamespace(group, space) }

func (k *setBank) drop(space int64) error { return k.values.In(space).Clear() }
