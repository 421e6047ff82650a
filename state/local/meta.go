package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/state"
)

// The database holds one key of its own, before all others: every key of the state begins with the two bytes of its group.
func keyMeta() []byte  { return []byte{0} }
func keyFirst() []byte { return []byte{0, 0} }

// keyEnd lies above every key: no kind of state has the number 0xff.
func keyEnd() []byte { return bytes.Repeat([]byte{0xff}, 8) }

// Position is where a database stands: the number of the last delta in it, and the chain hash of that number.
type Position struct {
	Seq   uint64
	Chain Hash
}

// meta is written in the same batch as each delta, so that a database that lost its newest batches in a crash tells which ones
// it has.
type meta struct {
	at Position
	// horizon is the newest delta that any key may already show: above at while a base of several moments is completed.
	horizon Position
	// base is the identity of the base that dirty speaks of.
	base Hash
	// dirty has a bit for each slice of the base: a delta changed a key of it since.
	dirty []byte
}

const (
	metaVersion = 1
	metaFixed   = 1 + 2*(8+32) + 32
)

func (m *meta) encode() []byte {
	dst := append(make([]byte, 0, metaFixed+len(m.dirty)), metaVersion)
	for _, p := range [...]*Position{&m.at, &m.horizon} {
		dst = binary.BigEndian.AppendUint64(dst, p.Seq)
		dst = append(dst, p.Chain[:]...)
	}
	dst = append(dst, m.base[:]...)
	return append(dst, m.dirty...)
}

func decodeMeta(data []byte) (meta, error) {
	var m meta
	if len(data) == 0 {
		return m, errors.New("the database's own entry is empty")
	}
	if data[0] != metaVersion {
		return m, fmt.Errorf("the database's own entry has version %d, this program reads %d", data[0], metaVersion)
	}
	if len(data) < metaFixed {
		return m, fmt.Errorf("the database's own entry has %d bytes, want at least %d", len(data), metaFixed)
	}
	rest := data[1:]
	for _, p := range [...]*Position{&m.at, &m.horizon} {
		p.Seq = binary.BigEndian.Uint64(rest)
		copy(p.Chain[:], rest[8:])
		rest = rest[8+len(p.Chain):]
	}
	m.dirty = bytes.Clone(rest[copy(m.base[:], rest):])
	return m, nil
}

// trusted tells whether what the meta describes is a state that s went through, from which s can be reached by deltas that s
// names. Anything else, also a database that is ahead or on another branch of history, must be made anew.
func (m *meta) trusted(s *State) bool {
	chain, known := s.ChainAt(m.at.Seq)
	if !known || chain != m.at.Chain {
		return false
	}
	if _, known = s.after(m.at.Seq); !known {
		return false
	}
	if m.horizon == (Position{}) {
		return true
	}
	// A part of the keys shows the horizon already: only a state at or above it, with the same history, is reached from here.
	chain, known = s.ChainAt(m.horizon.Seq)
	return known && m.horizon.Seq <= s.Seq && chain == m.horizon.Chain
}

// checkDelta refuses what would break the database's order or reach its own key.
func checkDelta(d *state.Delta) error {
	for i := range d.Drops {
		r := &d.Drops[i]
		if bytes.Compare(r.From, keyFirst()) < 0 || bytes.Compare(r.To, keyEnd()) > 0 || len(r.To) == 0 {
			return fmt.Errorf("range %d, %x to %x, is out of the state's keys", i, r.From, r.To)
		}
		if i > 0 && bytes.Compare(d.Drops[i-1].From, r.From) > 0 {
			return fmt.Errorf("range %d, from %x, is not in order", i, r.From)
		}
	}
	for i := range d.Ops {
		key := d.Ops[i].Key
		if i == 0 && bytes.Compare(key, keyFirst()) < 0 || i == len(d.Ops)-1 && bytes.Compare(key, keyEnd()) >= 0 {
			return fmt.Errorf("key %x is out of the state's keys", key)
		}
		if i > 0 && bytes.Compare(d.Ops[i-1].Key, key) >= 0 {
			return fmt.Errorf("key %d, %x, is not in order", i, key)
		}
	}
	return nil
}
