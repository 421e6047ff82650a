package step

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/ingestd/ingestd/record"
)

// sketch is a HyperLogLog: while few registers are set a sorted list of them, then all registers.
type sketch struct {
	sparse []uint32 // register<<8 | rank
	dense  []byte   // nil while sparse
}

const (
	rankBits     = 8
	sketchSparse = 0
	sketchDense  = 1

	sketchPrecision    = 12 // a standard error of 1.6 %
	sketchPrecisionMin = 4
	sketchPrecisionMax = 16
)

// sketchBank is approx_count_distinct(x).
type sketchBank struct {
	entries[sketch]
	precision int
	scratch   []byte
}

func (k *sketchBank) grow(int64) {
	s := k.entries.add()
	s.sparse, s.dense = s.sparse[:0], nil
}

// hash64 is FNV-1a with the finalizer of MurmurHash3. It never changes: sketches are stored.
func hash64(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, v := range b {
		h = (h ^ uint64(v)) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (k *sketchBank) add(entry int, at argument) error {
	k.scratch = at.key(k.scratch[:0])
	hash := hash64(k.scratch)
	register := uint32(hash >> (64 - k.precision))
	rank := uint8(min(bits.LeadingZeros64(hash<<k.precision), 64-k.precision) + 1)
	k.note(&k.list[entry], register, rank)
	return nil
}

func (k *sketchBank) note(s *sketch, register uint32, rank uint8) {
	if s.dense != nil {
		s.dense[register] = max(s.dense[register], rank)
		return
	}
	i, _ := slices.BinarySearch(s.sparse, register<<rankBits)
	if i < len(s.sparse) && s.sparse[i]>>rankBits == register {
		s.sparse[i] = max(s.sparse[i], register<<rankBits|uint32(rank))
		return
	}
	s.sparse = slices.Insert(s.sparse, i, register<<rankBits|uint32(rank))
	const share = 4 // a listed register takes about as many bytes as this many unlisted ones
	if len(s.sparse) > 1<<k.precision/share {
		s.dense = make([]byte, 1<<k.precision)
		for _, v := range s.sparse {
			s.dense[v>>rankBits] = uint8(v)
		}
		s.sparse = s.sparse[:0]
	}
}

func (k *sketchBank) merge(into, from int) error {
	a, b := &k.list[into], &k.list[from]
	for _, v := range b.sparse {
		k.note(a, v>>rankBits, uint8(v))
	}
	for register, rank := range b.dense {
		if rank > 0 {
			k.note(a, uint32(register), rank)
		}
	}
	return nil
}

func (k *sketchBank) emit(dst *record.Column, entry int) error {
	s := &k.list[entry]
	counts := make([]int, 64-k.precision+2)
	for _, v := range s.sparse {
		counts[uint8(v)]++
	}
	for _, rank := range s.dense {
		counts[rank]++
	}
	if s.dense == nil {
		counts[0] = 1<<k.precision - len(s.sparse)
	}
	registers := float64(uint64(1) << k.precision)
	dst.AppendInt(int64(math.Round(estimate(counts, registers))))
	return nil
}

// estimate is the improved raw estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017),
// algorithm 6. counts says how many of the m registers have each rank.
func estimate(counts []int, m float64) float64 {
	q := len(counts) - 2
	z := m * tau(1-float64(counts[q+1])/m)
	for i := q; i >= 1; i-- {
		z = (z + float64(counts[i])) / 2
	}
	z += m * sigma(float64(counts[0])/m)
	return m * m / (2 * math.Ln2 * z)
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for {
		x *= x
		before := z
		z += x * y
		y += y
		if z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		before := z
		y /= 2
		z -= (1 - x) * (1 - x) * y
		if z == before {
			return z / 3
		}
	}
}

func (k *sketchBank) save(dst []byte, entry int) []byte {
	s := &k.list[entry]
	if s.dense != nil {
		return append(append(dst, sketchDense), s.dense...)
	}
	dst = binary.AppendUvarint(append(dst, sketchSparse), uint64(len(s.sparse)))
	last := uint32(0)
	for _, v := range s.sparse {
		dst = append(binary.AppendUvarint(dst, uint64(v>>rankBits-last)), uint8(v))
		last = v >> rankBits
	}
	return dst
}

func (k *sketchBank) load(b []byte) ([]byte, error) {
	s := k.last()
	registers, ranks := 1<<k.precision, uint8(64-k.precision+1)
	if len(b) == 0 || b[0] > sketchDense {
		return nil, errShort
	}
	if b[0] == sketchDense {
		if len(b) < 1+registers || slices.Max(b[1:1+registers]) > ranks {
			return nil, errShort
		}
		s.dense = slices.Clone(b[1 : 1+registers])
		return b[1+registers:], nil
	}
	n, rest, err := readCount(b[1:])
	register := int64(0)
	for i := int64(0); i < n && err == nil; i++ {
		var delta int64
		if delta, rest, err = readCount(rest); err != nil {
			break
		}
		register += delta
		if register >= int64(registers) || len(rest) == 0 || rest[0] > ranks || i > 0 && delta == 0 {
			return nil, errShort
		}
		s.sparse = append(s.sparse, uint32(register)<<rankBits|uint32(rest[0]))
		rest = rest[1:]
	}
	return rest, err
}

var (
	_ bank = (*countBank)(nil)
	_ bank = (*sumBank)(nil)
	_ bank = (*floatBank)(nil)
	_ bank = (*valueBank)(nil)
	_ bank = (*sketchBank)(nil)
	_ bank = (*topBank)(nil)
	_ bank = (*listBank)(nil)
	_ bank = (*setBank)(nil)

	_ refusing = (*sumBank)(nil)
	_ refusing = (*setBank)(nil)
	_ backed   = (*listBank)(nil)
	_ backed   = (*setBank)(nil)
)
