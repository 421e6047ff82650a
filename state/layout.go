package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

// A stored key is
//
//	group u16 BE | slot u16 BE | kind u8 | namespace, 0 or 8 bytes | length of the user key, uvarint | user key | sub key
//
// so that what is scanned or dropped together (a key group, a state in it, a window, one key's list or map) is one range.
// docs/formats/state.md describes it byte for byte. Slot 0 belongs to whoever stores the keys, for what it notes about them.
const (
	kindValue       = 0x01
	kindList        = 0x02
	kindMap         = 0x03
	kindReducing    = 0x04
	kindAggregating = 0x05
	kindTimer       = 0x06
	kindSeen        = 0x07

	// scoped is added to a kind whose keys have a namespace.
	scoped = 0x10

	kindAt      = 4 // where the kind stands in a key
	prefixBytes = 5 // group, slot and kind
	spaceBytes  = 8 // a namespace
)

// The kinds as they stand in a [Descriptor].
const (
	KindValue       = "value"
	KindList        = "list"
	KindMap         = "map"
	KindReducing    = "reducing"
	KindAggregating = "aggregating"
	KindTimer       = "timer"
	KindSeen        = "seen"
)

// kindByte returns the kind's byte in keys without a namespace, 0 for an unknown kind.
func kindByte(kind string) byte {
	switch kind {
	case KindValue:
		return kindValue
	case KindList:
		return kindList
	case KindMap:
		return kindMap
	case KindReducing:
		return kindReducing
	case KindAggregating:
		return kindAggregating
	case KindTimer:
		return kindTimer
	case KindSeen:
		return kindSeen
	}
	return 0
}

// kindName is the inverse of the kind's byte in a key, with and without a namespace; "" for an unknown byte.
func kindName(kind byte) string {
	names := [...]string{
		kindValue: KindValue, kindList: KindList, kindMap: KindMap, kindReducing: KindReducing,
		kindAggregating: KindAggregating, kindTimer: KindTimer, kindSeen: KindSeen,
	}
	if k := int(kind &^ scoped); k < len(names) {
		return names[k]
	}
	return ""
}

// inOrder tells whether dirty keys of a kind are kept in order, because steps scan them.
func inOrder(kind byte) bool {
	return kind == kindList || kind == kindMap || kind&scoped != 0 && kind != kindSeen|scoped
}

// appendPrefix appends what all keys of a state's kind in a key group begin with.
func appendPrefix(dst []byte, group Group, slot uint16, kind byte) []byte {
	return append(dst, byte(group>>8), byte(group), byte(slot>>8), byte(slot), kind)
}

// appendSpace appends a namespace: a big-endian integer with its sign bit flipped, which sorts as the number does.
func appendSpace(dst []byte, space int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(space)^1<<63)
}

func spaceOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

// appendUser appends a user key with its length, so that no key's encoding is the beginning of another's.
func appendUser(dst, key []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	return append(dst, key...)
}

// userOf returns the key that appendUser wrote.
func userOf(b []byte) []byte {
	_, n := binary.Uvarint(b)
	return b[n:]
}

// after returns the least key that is above all keys that begin with prefix, which must hold a byte below 0xff.
func after(prefix []byte) []byte {
	key := bytes.Clone(prefix)
	for i, b := range slices.Backward(key) {
		if b < math.MaxUint8 {
			key[i]++
			return key[:i+1]
		}
	}
	panic("state: no key is above this prefix")
}

// Parts are the parts of a stored key.
type Parts struct {
	Group    Group
	Slot     uint16
	Kind     string // as in a [Descriptor]
	Spaced   bool   // the key has a namespace
	Space    int64
	User     []byte // part of the key that was split
	Sub      []byte // likewise; list: 8 bytes, the element's place, or nothing for the head; map: the map's key
	userFrom int    // where the length of the user key stands
}

var errKey = errors.New("not a key of keyed state")

// SplitKey takes a stored key apart, for tools that show state.
func SplitKey(key []byte) (Parts, error) {
	if len(key) < prefixBytes {
		return Parts{}, errKey
	}
	p := Parts{
		Group: Group(binary.BigEndian.Uint16(key)), Slot: binary.BigEndian.Uint16(key[2:]), Kind: kindName(key[kindAt]),
		Spaced: key[kindAt]&scoped != 0, userFrom: prefixBytes,
	}
	if p.Kind == "" || p.Slot == 0 {
		return Parts{}, errKey
	}
	if p.Spaced {
		if len(key) < prefixBytes+spaceBytes {
			return Parts{}, errKey
		}
		p.Space = spaceOf(key[prefixBytes:])
		p.userFrom += spaceBytes
	}
	rest := key[p.userFrom:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) || n > 1 && rest[n-1] == 0 {
		return Parts{}, errKey
	}
	end := n + int(length)
	p.User, p.Sub = rest[n:end:end], rest[end:]
	return p, nil
}

// SlotRange holds all keys of a slot in a key group.
func SlotRange(group Group, slot uint16) Range {
	key := appendPrefix(nil, group, slot, math.MaxUint8) // above every kind
	return Range{From: key[:kindAt:kindAt], To: key}
}

// GroupRange holds all keys of the key groups from `from` to `to`, both included.
func GroupRange(from, to Group) Range {
	r := Range{From: []byte{byte(from >> 8), byte(from)}}
	if to == math.MaxUint16 {
		r.To = appendPrefix(nil, math.MaxUint16, math.MaxUint16, math.MaxUint8) // above every kind
		return r
	}
	r.To = []byte{byte((to + 1) >> 8), byte(to + 1)}
	return r
}
