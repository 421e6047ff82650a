package state

// filter is a Bloom filter that grows: what it does not have was never added; what it has may be another. A lookup touches one cache
// line of each segment.
type filter struct {
	segments [][]uint64 // blocks of 8 words; each segment is larger than the one before
	keys     int        // in all segments
	room     int        // keys that the newest still takes
}

const (
	blockWords = 8
	// keysPerBlock in 512 bits are 12 bits for each key; with 6 bits set by each, one in 200 is taken for another.
	keysPerBlock = 42
	filterBits   = 6
	// growth: a filter whose size was not foreseen has few segments.
	growth = 4
)

// grow adds a segment for about keys more keys and returns its bytes.
func (f *filter) grow(keys int) int64 {
	const wordBytes = 8
	blocks := max(1, (keys+keysPerBlock-1)/keysPerBlock)
	f.segments = append(f.segments, make([]uint64, blocks*blockWords))
	f.room = blocks * keysPerBlock
	return int64(blocks * blockWords * wordBytes)
}

// block returns the words of a segment that a hash belongs to.
func block(segment []uint64, hash uint64) []uint64 {
	blocks := uint64(len(segment) / blockWords)
	i := (hash >> 32) * blocks >> 32 // the upper half, evenly on all blocks
	return segment[i*blockWords : (i+1)*blockWords]
}

// bits spreads the lower half of a hash; each step takes 9 of its bits.
func bits(hash uint64) uint64 { return (hash & 0xffffffff) * 0x9e3779b97f4a7c15 }

// add adds a key by its hash; room must be above 0.
func (f *filter) add(hash uint64) {
	words := block(f.segments[len(f.segments)-1], hash)
	for spread, n := bits(hash), 0; n < filterBits; n++ {
		words[spread>>61] |= 1 << (spread >> 55 & 63)
		spread <<= 9
	}
	f.keys++
	f.room--
}

// has tells whether a key of the hash may have been added.
func (f *filter) has(hash uint64) bool {
	for _, segment := range f.segments {
		if all(block(segment, hash), hash) {
			return true
		}
	}
	return false
}

func all(words []uint64, hash uint64) bool {
	for spread, n := bits(hash), 0; n < filterBits; n++ {
		if words[spread>>61]>>(spread>>55&63)&1 == 0 {
			return false
		}
		spread <<= 9
	}
	return true
}

func (f *filter) bytes() int64 {
	const wordBytes = 8
	var n int64
	for _, segment := range f.segments {
		n += int64(len(segment)) * wordBytes
	}
	return n
}
