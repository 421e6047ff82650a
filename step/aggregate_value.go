package step

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

func floatAt(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }

// appendStored appends a value that is not null: a scalar as its column stores it, so that it can be compared, a list encoded.
func appendStored(dst []byte, c *record.Column, row int) []byte {
	switch {
	case c.Type.Width() > 0:
		return append(dst, c.FixedAt(row)...)
	case c.Type.Kind == record.String:
		return append(dst, c.BytesAt(row)...)
	}
	return appendPlain(dst, c, row)
}

// appendPlain appends a value that is not null as [state.AppendValue] does for the type without null.
func appendPlain(dst []byte, c *record.Column, row int) []byte {
	if !c.Type.Nullable {
		return state.AppendValue(dst, c, row)
	}
	plain := *c
	plain.Type.Nullable, plain.Nulls = false, nil
	return state.AppendValue(dst, &plain, row)
}

// readStored is the inverse of appendStored.
func readStored(b []byte, c *record.Column) error {
	if w := c.Type.Width(); w > 0 {
		if len(b) != w {
			return errShort
		}
		c.AppendFixed(b)
		return nil
	}
	if c.Type.Kind == record.String {
		c.AppendBytes(b)
		return nil
	}
	rows := c.Len()
	if c.Type.Nullable {
		b = append([]byte{0}, b...)
	}
	rest, err := state.ReadValue(b, c)
	if err == nil && len(rest) > 0 {
		err = errShort
	}
	if err != nil {
		c.Truncate(rows)
	}
	return err
}

// valueAcc holds one value, as appendStored writes it.
type valueAcc struct {
	has   bool
	value []byte
}

// valueBank is min, max, first and last: it keeps one of the values that came.
type valueBank struct {
	entries[valueAcc]
	// replaces tells whether a value takes the place of the one that is held.
	replaces func(held, value []byte) bool
	scratch  []byte
}

func (k *valueBank) grow(int64) { k.entries.add().has = false }

func (k *valueBank) take(a *valueAcc, value []byte) {
	if !a.has || k.replaces(a.value, value) {
		a.has, a.value = true, append(a.value[:0], value...)
	}
}

func (k *valueBank) add(entry int, at argument) error {
	k.scratch = appendStored(k.scratch[:0], at.column(), at.row)
	k.take(&k.list[entry], k.scratch)
	return nil
}

func (k *valueBank) merge(into, from int) error {
	if b := &k.list[from]; b.has {
		k.take(&k.list[into], b.value)
	}
	return nil
}

func (k *valueBank) emit(dst *record.Column, entry int) error {
	if a := &k.list[entry]; a.has {
		return readStored(a.value, dst)
	}
	appendNothing(dst)
	return nil
}

func (k *valueBank) save(dst []byte, entry int) []byte {
	a := &k.list[entry]
	if !a.has {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(a.value))+1)
	return append(dst, a.value...)
}

func (k *valueBank) load(b []byte) ([]byte, error) {
	a := k.last()
	n, rest, err := readCount(b)
	if err != nil || n-1 > int64(len(rest)) {
		return nil, errShort
	}
	if n == 0 {
		return rest, nil
	}
	a.has, a.value = true, append(a.value[:0], rest[:n-1]...)
	return rest[n-1:], nil
}

// storedOrder returns how values of a type are compared as they are stored, or nil when the type has no order. NaN is above all
// other floats, an enumeration goes by its numbers.
func storedOrder(t *record.Type) func(a, b []byte) int {
	switch t.Kind {
	case record.Float32:
		return func(a, b []byte) int {
			return compareNaNLast(float64(math.Float32frombits(binary.LittleEndian.Uint32(a))), float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
		}
	case record.Float64:
		return func(a, b []byte) int {
			return compareNaNLast(math.Float64frombits(binary.LittleEndian.Uint64(a)), math.Float64frombits(binary.LittleEndian.Uint64(b)))
		}
	case record.String, record.FixedString, record.UUID, record.IPv6:
		return bytes.Compare
	case record.Array, record.Map, record.Invalid:
		return nil
	case record.Bool, record.Int8, record.Int16, record.Int32, record.Int64, record.Int128, record.Int256, record.Uint8,
		record.Uint16, record.Uint32, record.Uint64, record.Uint128, record.Uint256, record.Decimal, record.Date, record.Timestamp,
		record.IPv4, record.Enum:
	}
	if t.Signed() {
		return compareSigned
	}
	return compareUnsigned
}

func compareNaNLast(a, b float64) int {
	switch aNaN, bNaN := a != a, b != b; {
	case aNaN && bNaN:
		return 0
	case aNaN:
		return 1
	case bNaN:
		return -1
	}
	return cmp.Compare(a, b)
}

// compareUnsigned compares integers of the same width, stored with the lowest byte first.
func compareUnsigned(a, b []byte) int {
	for i, v := range slices.Backward(a) {
		if v != b[i] {
			return cmp.Compare(v, b[i])
		}
	}
	return 0
}

func compareSigned(a, b []byte) int {
	if top := len(a) - 1; a[top]>>7 != b[top]>>7 {
		return cmp.Compare(b[top]>>7, a[top]>>7)
	}
	return compareUnsigned(a, b)
}
