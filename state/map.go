package state

// Map holds a map for each key, or for each key and namespace. A TTL counts for each entry from its Put. Copies are the same state.
type Map[K, V any] struct {
	cell  cell
	key   KeyCodec[K]
	value Codec[V]
}

// DescribeMap returns the descriptor of a [Map].
func DescribeMap[K, V any](step, name string, key KeyCodec[K], value Codec[V]) Descriptor {
	return Descriptor{
		Step: step, Name: name, Kind: KindMap, Type: mapType(key.Type(), value.Type()),
		Version: mapVersion(key.Version(), value.Version()),
	}
}

// MapOptions are what a [Map] is opened with.
type MapOptions[K, V any] struct {
	Key   KeyCodec[K]
	Value Codec[V]
	TTL   TTL
}

// NewMap opens the state that d declares, which is of [KindMap].
func NewMap[K, V any](t *Task, d Descriptor, o MapOptions[K, V]) (Map[K, V], error) {
	if err := checkType(&d, mapType(o.Key.Type(), o.Value.Type()), mapVersion(o.Key.Version(), o.Value.Version())); err != nil {
		return Map[K, V]{}, err
	}
	cell, err := newCell(t, &d, KindMap, o.TTL)
	if err != nil {
		return Map[K, V]{}, err
	}
	t.sweepLater(cell)
	return Map[K, V]{cell, o.Key, o.Value}, nil
}

// In returns the map in a namespace. The one without namespace is another.
func (m Map[K, V]) In(space int64) Map[K, V] {
	m.cell = m.cell.in(space)
	return m
}

// entry returns the stored key of an entry of the current key's map.
func (m Map[K, V]) entry(k K) []byte {
	m.cell.t.keyBuf = m.key.AppendKey(m.cell.key(), k)
	return m.cell.t.keyBuf
}

// Get returns the value under k in the current key's map; ok is false when there is none or it has expired.
func (m Map[K, V]) Get(k K) (value V, ok bool, err error) {
	stored, ok, err := m.cell.t.get(m.entry(k))
	if err != nil || !ok {
		return value, false, err
	}
	return m.decode(stored)
}

func (m Map[K, V]) decode(stored []byte) (value V, ok bool, err error) {
	b, ok, err := m.cell.open(stored)
	if err != nil || !ok {
		return value, false, err
	}
	value, err = m.value.Decode(b)
	if err != nil {
		return value, false, m.cell.corrupt(err)
	}
	return value, true, nil
}

// Put sets the value under k. It does not read.
func (m Map[K, V]) Put(k K, value V) {
	t := m.cell.t
	t.valueBuf = m.value.Append(m.cell.appendHead(t.valueBuf[:0]), value)
	t.set(m.entry(k), t.valueBuf)
	m.cell.wrote()
}

// Delete deletes the value under k. It does not read.
func (m Map[K, V]) Delete(k K) { m.cell.t.remove(m.entry(k)) }

// Each calls f with the entries of the current key's map in order of the keys. f may change state: entries that it puts behind
// the one in hand may be visited or not.
func (m Map[K, V]) Each(f func(k K, value V) error) error {
	prefix := append([]byte(nil), m.cell.key()...)
	return visited(m.cell.t.scan(below(prefix), func(key, stored []byte) error {
		value, ok, err := m.decode(stored)
		if err != nil || !ok {
			return err
		}
		k, err := m.key.DecodeKey(key[len(prefix):])
		if err != nil {
			return m.cell.corrupt(err)
		}
		return f(k, value)
	}))
}

// Clear deletes the current key's map.
func (m Map[K, V]) Clear() error {
	t := m.cell.t
	r := below(append([]byte(nil), m.cell.key()...))
	p := t.borrow()
	defer t.giveBack(p)
	if err := t.fill(p, r, clearedMax+1); err != nil {
		return err
	}
	if p.len() > clearedMax || len(p.bytes) >= pageBytesMax {
		t.drop(r.From, r.To)
		return nil
	}
	for i := range p.len() {
		t.remove(p.key(i))
	}
	return nil
}

// EachKey is as [List.EachKey].
func (m Map[K, V]) EachKey(group Group, f func(key []byte) error) error {
	return m.cell.eachKey(group, func(key, _ []byte) error { return f(key) })
}

// Namespaces is as [Value.Namespaces].
func (m Map[K, V]) Namespaces(group Group, upTo int64, f func(space int64) error) error {
	return m.cell.namespaces(group, upTo, f)
}

// DropNamespace is as [Value.DropNamespace].
func (m Map[K, V]) DropNamespace(group Group, space int64) { m.cell.dropNamespace(group, space) }
