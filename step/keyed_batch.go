package step

import (
	"hash/maphash"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// made collects the rows that an operator puts in the place of a batch's.
type made struct {
	rows *record.Batch
	keys state.Keys
}

func newMade(out *record.Schema) *made { return &made{rows: record.NewBatch(out)} }

// appendMeta gives the row whose columns were appended the provenance of a row of b.
func (m *made) appendMeta(b *record.Batch, row int) {
	p := &b.Meta
	m.rows.AppendMeta(record.RowMeta{
		Offset: p.Offsets[row], Timestamp: p.Timestamps[row], Key: p.Keys[row], Value: p.Values[row], Headers: p.Headers[row],
	})
}

// replace puts the rows in the place of b's, and their keys in the place of keys unless that is nil. It leaves m empty.
func (m *made) replace(b *record.Batch, keys *state.Keys) {
	split, topic, partition := b.Meta.Split, b.Meta.Topic, b.Meta.Partition
	b.Reshape(m.rows.Schema)
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = split, topic, partition
	for i := range m.rows.Cols {
		b.Cols[i].AppendAll(&m.rows.Cols[i])
	}
	to, from := &b.Meta, &m.rows.Meta
	to.Offsets = append(to.Offsets, from.Offsets...)
	to.Timestamps = append(to.Timestamps, from.Timestamps...)
	to.Keys = append(to.Keys, from.Keys...)
	to.Values = append(to.Values, from.Values...)
	to.Headers = append(to.Headers, from.Headers...)
	b.Rows = m.rows.Rows
	m.rows.Reset()
	if keys != nil {
		*keys, m.keys = m.keys, *keys
	}
	m.keys.Reset()
}

// rowSet finds the entries that rows of a batch belong to: a key, or a key and a number. It copies no keys.
type rowSet struct {
	seed  maphash.Seed
	slots []int32 // open addressing: the entry's number + 1
	list  []rowEntry
}

type rowEntry struct {
	hash  uint64
	space int64
	row   int // the first with this key
}

func newRowSet() rowSet { return rowSet{seed: maphash.MakeSeed()} }

func (s *rowSet) clear() {
	clear(s.slots)
	s.list = s.list[:0]
}

// find returns the number of the entry of a row's key and a number; fresh is true when it was added now.
func (s *rowSet) find(keys *state.Keys, row int, space int64) (entry int, fresh bool) {
	if 2*(len(s.list)+1) > len(s.slots) {
		s.grow()
	}
	key := keys.Key(row)
	hash := maphash.Bytes(s.seed, key) ^ uint64(space)*0x9e3779b97f4a7c15
	mask := uint64(len(s.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s.slots[i] == 0 {
			s.list = append(s.list, rowEntry{hash: hash, space: space, row: row})
			s.slots[i] = int32(len(s.list))
			return len(s.list) - 1, true
		}
		e := &s.list[s.slots[i]-1]
		if e.hash == hash && e.space == space && string(keys.Key(e.row)) == string(key) {
			return int(s.slots[i]) - 1, false
		}
	}
}

func (s *rowSet) grow() {
	const least = 256
	s.slots = make([]int32, max(least, 2*len(s.slots)))
	mask := uint64(len(s.slots) - 1)
	for n := range s.list {
		i := s.list[n].hash & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = int32(n + 1)
	}
}
