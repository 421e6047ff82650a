package codec

import (
	"bytes"
	"unsafe"

	"github.com/ingestd/ingestd/record"
)

// Keys looks for keys that are in a map twice. It may be used by one goroutine at a time.
type Keys struct {
	seen map[string]struct{} // of the map that is being checked; they refer to its column
}

// Twice returns a row of a map's key column, from first on, whose key is there before, or -1.
func (k *Keys) Twice(c *record.Column, first int) int {
	const few = 8 // for which comparing all pairs is cheaper
	n := c.Len()
	if n-first <= few {
		for i := first; i < n; i++ {
			if keyBefore(c, first, i) {
				return i
			}
		}
		return -1
	}
	if k.seen == nil {
		k.seen = make(map[string]struct{})
	}
	defer clear(k.seen)
	for i := first; i < n; i++ {
		key := keyBytes(c, i)
		name := unsafe.String(unsafe.SliceData(key), len(key)) // the column does not change before the map is cleared
		if _, twice := k.seen[name]; twice {
			return i
		}
		k.seen[name] = struct{}{}
	}
	return -1
}

// keyBefore reports whether a row from first on and before row i has its key.
func keyBefore(c *record.Column, first, i int) bool {
	for j := first; j < i; j++ {
		if bytes.Equal(keyBytes(c, i), keyBytes(c, j)) {
			return true
		}
	}
	return false
}

func keyBytes(c *record.Column, i int) []byte {
	if c.Type.Kind == record.String {
		return c.BytesAt(i)
	}
	return c.FixedAt(i)
}
