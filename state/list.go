package state

import (
	"encoding/binary"
	"errors"
)

var errLost = errors.New("an element of a list is missing")

// clearedMax is the number of entries up to which a list or map of one key is cleared entry by entry: ranges cost the store more
// than a few deletions.
const clearedMax = 64

// List holds a list of values for each key, or for each key and namespace. The stored parts are a head with the length, and each
// element under its place, so that Append writes without reading elements. A TTL counts from the newest Append and ends the
// whole list. Copies are the same state.
type List[T any] struct {
	cell  cell
	codec Codec[T]
}

// NewList opens the state that d declares, which is of [KindList].
func NewList[T any](t *Task, d Descriptor, c Codec[T], ttl TTL) (List[T], error) {
	if err := checkType(&d, c.Type(), c.Version()); err != nil {
		return List[T]{}, err
	}
	cell, err := newCell(t, &d, KindList, ttl)
	if err != nil {
		return List[T]{}, err
	}
	t.sweepLater(cell)
	return List[T]{cell, c}, nil
}

// In returns the list in a namespace. The one without namespace is another.
func (l List[T]) In(space int64) List[T] {
	l.cell = l.cell.in(space)
	return l
}

// Len returns the number of elements of the current key's list, 0 when it has expired.
func (l List[T]) Len() (uint64, error) {
	n, _, err := l.cell.length()
	return n, err
}

// length returns the length that counts, and the number of elements that are stored: more than none when the list has expired.
func (c cell) length() (n, stored uint64, err error) {
	raw, ok, err := c.t.get(c.key())
	if err != nil || !ok {
		return 0, 0, err
	}
	b, ok, err := c.open(raw)
	if err != nil {
		return 0, 0, err
	}
	stored, size := binary.Uvarint(b)
	if size <= 0 || size != len(b) {
		return 0, 0, c.corrupt(errValue)
	}
	if !ok {
		return 0, stored, nil
	}
	return stored, stored, nil
}

// Append adds an element at the end of the current key's list.
func (l List[T]) Append(value T) error {
	n, stored, err := l.cell.length()
	if err != nil {
		return err
	}
	if n < stored {
		l.cell.clearList(stored)
	}
	t := l.cell.t
	t.valueBuf = l.codec.Append(t.valueBuf[:0], value)
	t.set(l.cell.element(n), t.valueBuf)
	t.valueBuf = binary.AppendUvarint(l.cell.appendHead(t.valueBuf[:0]), n+1)
	t.set(l.cell.key(), t.valueBuf)
	l.cell.wrote()
	return nil
}

// element returns the stored key of an element.
func (c cell) element(at uint64) []byte {
	c.t.keyBuf = binary.BigEndian.AppendUint64(c.key(), at)
	return c.t.keyBuf
}

// Each calls f with the elements of the current key's list in order. f may change state; what it appends is not visited.
func (l List[T]) Each(f func(value T) error) error {
	n, _, err := l.cell.length()
	if err != nil || n == 0 {
		return err
	}
	at := uint64(0)
	from := append([]byte(nil), l.cell.element(0)...)
	to := append([]byte(nil), l.cell.element(n)...)
	err = l.cell.t.scan(Range{From: from, To: to}, func(key, stored []byte) error {
		if len(key) != len(from) || binary.BigEndian.Uint64(key[len(key)-8:]) != at {
			return l.cell.corrupt(errLost)
		}
		value, err := l.codec.Decode(stored)
		if err != nil {
			return l.cell.corrupt(err)
		}
		at++
		return f(value)
	})
	if err == nil && at < n {
		return l.cell.corrupt(errLost)
	}
	return visited(err)
}

// Clear deletes the current key's list.
func (l List[T]) Clear() error {
	_, stored, err := l.cell.length()
	if err != nil {
		return err
	}
	l.cell.clearList(stored)
	return nil
}

func (c cell) clearList(stored uint64) {
	if stored > clearedMax {
		r := below(append([]byte(nil), c.key()...))
		c.t.drop(r.From, r.To)
		return
	}
	for at := range stored {
		c.t.remove(c.element(at))
	}
	if stored > 0 {
		c.t.remove(c.key())
	}
}

// EachKey calls f with each key of a group that has a list in l's namespace, or without one. During the call the key is the
// current one. f may change state.
func (l List[T]) EachKey(group Group, f func(key []byte) error) error {
	return l.cell.eachKey(group, func(key, _ []byte) error { return f(key) })
}

// Namespaces is as [Value.Namespaces].
func (l List[T]) Namespaces(group Group, upTo int64, f func(space int64) error) error {
	return l.cell.namespaces(group, upTo, f)
}

// DropNamespace is as [Value.DropNamespace].
func (l List[T]) DropNamespace(group Group, space int64) { l.cell.dropNamespace(group, space) }
