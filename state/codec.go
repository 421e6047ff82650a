package state

import (
	"encoding/binary"
	"errors"
	"math"
)

// Codec writes values of a type as bytes and reads them back. Implementations are values without state that changes.
type Codec[T any] interface {
	// Type names the type in a [Descriptor]. Equal text and version mean that values are written in the same way.
	Type() string
	// Version counts the encodings of the type.
	Version() int
	// Append appends the value's bytes.
	Append(dst []byte, v T) []byte
	// Decode reads all of b, which is valid during the call only unless the codec says otherwise. It must take any bytes.
	Decode(b []byte) (T, error)
}

// KeyCodec is a [Codec] for the keys of a map: the bytes sort as the keys do.
type KeyCodec[K any] interface {
	Codec[K]
	// AppendKey appends the key's bytes.
	AppendKey(dst []byte, k K) []byte
	// DecodeKey is the inverse of AppendKey, as Decode is of Append.
	DecodeKey(b []byte) (K, error)
}

var errValue = errors.New("the stored bytes are not a value of this type")

// Int64 is the codec of int64: a zigzag varint, as a key 8 bytes.
type Int64 struct{}

// Type returns "int64".
func (Int64) Type() string { return "int64" }

// Version is 1.
func (Int64) Version() int { return 1 }

// Append appends v.
func (Int64) Append(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

// Decode reads a value.
func (Int64) Decode(b []byte) (int64, error) {
	v, n := binary.Varint(b)
	if n <= 0 || n != len(b) {
		return 0, errValue
	}
	return v, nil
}

// AppendKey appends k.
func (Int64) AppendKey(dst []byte, k int64) []byte { return appendSpace(dst, k) }

// DecodeKey reads a key.
func (Int64) DecodeKey(b []byte) (int64, error) {
	if len(b) != spaceBytes {
		return 0, errValue
	}
	return spaceOf(b), nil
}

// Float64 is the codec of float64: 8 bytes. As a key -0 comes before 0, and NaN at either end by its sign.
type Float64 struct{}

// Type returns "float64".
func (Float64) Type() string { return "float64" }

// Version is 1.
func (Float64) Version() int { return 1 }

// Append appends v.
func (Float64) Append(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
}

// Decode reads a value.
func (Float64) Decode(b []byte) (float64, error) {
	if len(b) != 8 {
		return 0, errValue
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

const signBit = 1 << 63

// AppendKey appends k: a negative number with all bits flipped, another with the sign bit.
func (Float64) AppendKey(dst []byte, k float64) []byte {
	bits := math.Float64bits(k)
	if bits&signBit != 0 {
		bits = ^bits
	} else {
		bits ^= signBit
	}
	return binary.BigEndian.AppendUint64(dst, bits)
}

// DecodeKey reads a key.
func (Float64) DecodeKey(b []byte) (float64, error) {
	if len(b) != 8 {
		return 0, errValue
	}
	bits := binary.BigEndian.Uint64(b)
	if bits&signBit != 0 {
		bits ^= signBit
	} else {
		bits = ^bits
	}
	return math.Float64frombits(bits), nil
}

// String is the codec of string: its bytes.
type String struct{}

// Type returns "string".
func (String) Type() string { return "string" }

// Version is 1.
func (String) Version() int { return 1 }

// Append appends v.
func (String) Append(dst []byte, v string) []byte { return append(dst, v...) }

// Decode reads a value.
func (String) Decode(b []byte) (string, error) { return string(b), nil }

// AppendKey appends k.
func (String) AppendKey(dst []byte, k string) []byte { return append(dst, k...) }

// DecodeKey reads a key.
func (String) DecodeKey(b []byte) (string, error) { return string(b), nil }

// Bytes is the codec of []byte: the bytes. What it decodes is not a copy: it is valid until state is next read or changed.
type Bytes struct{}

// Type returns "bytes".
func (Bytes) Type() string { return "bytes" }

// Version is 1.
func (Bytes) Version() int { return 1 }

// Append appends v.
func (Bytes) Append(dst, v []byte) []byte { return append(dst, v...) }

// Decode returns b.
func (Bytes) Decode(b []byte) ([]byte, error) { return b, nil }

// AppendKey appends k.
func (Bytes) AppendKey(dst, k []byte) []byte { return append(dst, k...) }

// DecodeKey returns b.
func (Bytes) DecodeKey(b []byte) ([]byte, error) { return b, nil }

// Bool is the codec of bool: one byte.
type Bool struct{}

// Type returns "bool".
func (Bool) Type() string { return "bool" }

// Version is 1.
func (Bool) Version() int { return 1 }

// Append appends v.
func (Bool) Append(dst []byte, v bool) []byte { //nolint:revive // the flag is the value
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// Decode reads a value.
func (Bool) Decode(b []byte) (bool, error) {
	if len(b) != 1 || b[0] > 1 {
		return false, errValue
	}
	return b[0] == 1, nil
}

// AppendKey appends k.
func (c Bool) AppendKey(dst []byte, k bool) []byte { return c.Append(dst, k) }

// DecodeKey reads a key.
func (c Bool) DecodeKey(b []byte) (bool, error) { return c.Decode(b) }

// Versioned is a [Codec] of another's values under a name and version of the user's own, for types of a step that are written with
// functions.
type Versioned[T any] struct {
	Name string
	V    int
	Put  func(dst []byte, v T) []byte
	Read func(b []byte) (T, error)
}

// Type returns the name.
func (c Versioned[T]) Type() string { return c.Name }

// Version returns V.
func (c Versioned[T]) Version() int { return c.V }

// Append calls Put.
func (c Versioned[T]) Append(dst []byte, v T) []byte { return c.Put(dst, v) }

// Decode calls Read.
func (c Versioned[T]) Decode(b []byte) (T, error) { return c.Read(b) }

// mapType names the type of a map in a descriptor.
func mapType(key, value string) string { return "map(" + key + ", " + value + ")" }

// mapVersion joins two versions in one number.
func mapVersion(key, value int) int { return key*1000 + value }
