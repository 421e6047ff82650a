package state

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// table is a hash table from keys to values or to the note that a key is deleted. It holds no pointers but those to a few chunks,
// so that the garbage collector does not walk its entries. An entry is never moved out of its place by number.
type table struct {
	index   []uint64 // open addressing: 32 bits of the hash, then the entry's number + 1; 0 is free
	entries []entry
	chunks  [][]byte
	used    int   // of the last chunk
	held    int64 // bytes of chunks
}

// entry says where a key and its value lie: behind one another, the value with room for more.
type entry struct {
	chunk uint32
	at    uint32
	key   uint32 // bytes
	value uint32 // bytes, or one of the two below
	room  uint32
}

const (
	deleted = math.MaxUint32     // the key is deleted
	gone    = math.MaxUint32 - 1 // the entry says nothing: a range that was dropped held it

	entryBytes    = 20
	chunkBytesMin = 4 << 10
	chunkBytesMax = 256 << 10
	indexMin      = 64
)

// find returns the number of the entry of a key, or -1.
func (t *table) find(hash uint64, key []byte) int {
	if len(t.index) == 0 {
		return -1
	}
	mask := uint64(len(t.index) - 1)
	tag := hash >> 32
	for i := tag & mask; ; i = (i + 1) & mask {
		slot := t.index[i]
		if slot == 0 {
			return -1
		}
		if slot>>32 != tag {
			continue
		}
		id := int(uint32(slot)) - 1
		if bytes.Equal(t.key(id), key) {
			return id
		}
	}
}

func (t *table) key(id int) []byte {
	e := &t.entries[id]
	return t.chunks[e.chunk][e.at : e.at+e.key : e.at+e.key]
}

// value returns the value of an entry that has one.
func (t *table) value(id int) []byte {
	e := &t.entries[id]
	from := e.at + e.key
	return t.chunks[e.chunk][from : from+e.value : from+e.value]
}

// has reports whether an entry has a value.
func (t *table) has(id int) bool { return t.entries[id].value < gone }

// put sets the value of a key and returns the entry's number; fresh is true when the entry is new or said nothing before.
func (t *table) put(hash uint64, key, value []byte) (id int, fresh bool) {
	if len(value) >= gone {
		panic("state: a value of 4 GiB")
	}
	id = t.find(hash, key)
	if id < 0 {
		id = t.add(hash, key, len(value))
		fresh = true
	}
	e := &t.entries[id]
	fresh = fresh || e.value == gone
	if len(value) > int(e.room) {
		t.place(e, key, len(value)+len(value)/2)
	}
	e.value = uint32(len(value))
	copy(t.chunks[e.chunk][e.at+e.key:], value)
	return id, fresh
}

// remove notes that a key is deleted.
func (t *table) remove(hash uint64, key []byte) (id int, fresh bool) {
	id = t.find(hash, key)
	if id < 0 {
		id = t.add(hash, key, 0)
		fresh = true
	}
	e := &t.entries[id]
	fresh = fresh || e.value == gone
	e.value = deleted
	return id, fresh
}

func (t *table) add(hash uint64, key []byte, room int) int {
	if (len(t.entries)+1)*4 > len(t.index)*3 {
		t.grow()
	}
	id := len(t.entries)
	t.entries = append(t.entries, entry{key: uint32(len(key))})
	t.place(&t.entries[id], key, room)
	t.link(hash>>32, id)
	return id
}

func (t *table) link(tag uint64, id int) {
	mask := uint64(len(t.index) - 1)
	i := tag & mask
	for t.index[i] != 0 {
		i = (i + 1) & mask
	}
	t.index[i] = tag<<32 | uint64(id+1)
}

func (t *table) grow() {
	old := t.index
	t.index = make([]uint64, max(2*len(old), indexMin))
	for _, slot := range old {
		if slot != 0 {
			t.link(slot>>32, int(uint32(slot))-1)
		}
	}
}

// place gives an entry a new place with a copy of the key and the given room for a value.
func (t *table) place(e *entry, key []byte, room int) {
	size := len(key) + room
	if len(t.chunks) == 0 || t.used+size > len(t.chunks[len(t.chunks)-1]) {
		last := 0
		if n := len(t.chunks); n > 0 {
			last = len(t.chunks[n-1])
		}
		chunk := make([]byte, max(size, min(max(2*last, chunkBytesMin), chunkBytesMax)))
		t.chunks, t.used = append(t.chunks, chunk), 0
		t.held += int64(len(chunk))
	}
	e.chunk, e.at, e.room = uint32(len(t.chunks)-1), uint32(t.used), uint32(room)
	copy(t.chunks[e.chunk][e.at:], key)
	t.used += size
}

// bytes returns the memory that the table holds.
func (t *table) bytes() int64 {
	const slotBytes = 8
	return t.held + int64(cap(t.entries))*entryBytes + int64(len(t.index))*slotBytes
}

// prefixed is the number of an entry with the first bytes of its key, by which most comparisons are decided without looking at
// the key: 24 bytes are what lies in front of a user key with a namespace, and 10 bytes of it.
type prefixed struct {
	head [3]uint64
	id   uint32
}

// sorted returns the numbers of the entries for which take is true, in order of their keys.
func (t *table) sorted(take func(id int) bool) []uint32 {
	list := make([]prefixed, 0, len(t.entries))
	for id := range t.entries {
		if take(id) {
			var head [24]byte
			copy(head[:], t.key(id))
			list = append(list, prefixed{[3]uint64{
				binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint64(head[16:]),
			}, uint32(id)})
		}
	}
	slices.SortFunc(list, func(a, b prefixed) int {
		for i, word := range a.head {
			if word < b.head[i] {
				return -1
			}
			if word > b.head[i] {
				return 1
			}
		}
		return bytes.Compare(t.key(int(a.id)), t.key(int(b.id)))
	})
	ids := make([]uint32, len(list))
	for i := range list {
		ids[i] = list[i].id
	}
	return ids
}
