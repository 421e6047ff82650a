package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// KeyTypes returns for each value of a key, as [AppendKey] wrote it, a type into which [ReadKey] reads it, for tools that don't know
// the types of the key's columns: the widest of the value's class, nullable. An enum's names are not known. Errors are
// [fault.Corrupt].
func KeyTypes(key []byte) ([]record.Type, error) {
	var out []record.Type
	for len(key) > 0 {
		t, rest, err := keyType(key, 0)
		if err != nil {
			return nil, fault.E("state.KeyTypes", fault.Corrupt, fmt.Errorf("value %d of a key: %w", len(out), err))
		}
		out, key = append(out, t), rest
	}
	return out, nil
}

var errKeyMixed = errors.New("an array holds values of several types")

// keyType returns a type for the value that key begins with, and what follows it.
func keyType(key []byte, depth int) (t record.Type, rest []byte, err error) {
	tag := key[0]
	t, key = record.Type{Nullable: true}, key[1:]
	skip := 0
	switch tag {
	case tagNull:
		t.Kind = record.String
	case tagBool:
		t.Kind, skip = record.Bool, 1
	case tagFloat:
		t.Kind, skip = record.Float64, 8
	case tagUUID:
		t.Kind, skip = record.UUID, 16
	case tagIPv4:
		t.Kind, skip = record.IPv4, 4
	case tagIPv6:
		t.Kind, skip = record.IPv6, 16
	case tagString, tagFixed:
		return keyText(key, tag)
	case tagArray:
		return keyArray(key, depth)
	case tagInteger, tagDate, tagEnum, tagDecimal, tagTimestamp:
		return keyNumber(key, tag)
	default:
		return t, nil, fmt.Errorf("tag %#x", tag)
	}
	if len(key) < skip {
		return t, nil, errKeyShort
	}
	return t, key[skip:], nil
}

func keyText(key []byte, tag byte) (t record.Type, rest []byte, err error) {
	t = record.Type{Kind: record.String, Nullable: true}
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) {
		return t, nil, errKeyShort
	}
	if tag == tagFixed {
		t.Kind, t.Size = record.FixedString, int(length)
	}
	return t, key[n+int(length):], t.Check()
}

// keyNumber is for what is stored as an integer, with a parameter in front of it or not.
func keyNumber(key []byte, tag byte) (t record.Type, rest []byte, err error) {
	t.Nullable = true
	if tag == tagDecimal || tag == tagTimestamp {
		if len(key) == 0 {
			return t, nil, errKeyShort
		}
		t.Kind, t.Precision, t.Scale = record.Decimal, record.PrecisionMax, int(key[0])
		if tag == tagTimestamp {
			t.Kind, t.Precision, t.Scale = record.Timestamp, int(key[0]), 0
		}
		key = key[1:]
	}
	if len(key) == 0 || int(key[0]) > min(len(key)-1, integerBytesMax) {
		return t, nil, errKeyShort
	}
	switch tag {
	case tagInteger:
		t.Kind = record.Int256
		if key[0] == integerBytesMax {
			t.Kind = record.Uint256
		}
	case tagDate:
		t.Kind = record.Date
	case tagEnum:
		t.Kind = record.Enum // without names, which no check lets pass
		return t, key[1+int(key[0]):], nil
	}
	return t, key[1+int(key[0]):], t.Check()
}

// keyArray finds a type that all elements have.
func keyArray(key []byte, depth int) (t record.Type, rest []byte, err error) {
	elem := record.Type{Kind: record.String, Nullable: true}
	t = record.Type{Kind: record.Array, Elem: &elem, Nullable: true}
	length, n := binary.Uvarint(key)
	if n <= 0 || length > uint64(len(key)-n) || depth > record.DepthMax {
		return t, nil, errKeyShort
	}
	rest = key[n:]
	known := false
	for range length {
		if len(rest) == 0 {
			return t, nil, errKeyShort
		}
		null := rest[0] == tagNull
		var found record.Type
		if found, rest, err = keyType(rest, depth+1); err != nil {
			return t, nil, err
		}
		switch {
		case null:
		case !known:
			elem, known = found, true
		case !elem.Equal(&found):
			return t, nil, errKeyMixed
		}
	}
	return t, rest, nil
}
