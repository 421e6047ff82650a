package memory

import (
	"bytes"
	"sync"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Table is a target that several runs share. It may be used by several goroutines at the same time.
type Table struct {
	mu struct {
		sync.Mutex
		rows    [][]byte
		ledger  map[owner]entry
		fences  map[owner]fence
		segment map[string][]byte // of a flawed writer
	}
}

// owner is what ledger and fence are keyed by.
type owner struct {
	pipeline string
	lane     record.Lane
	sink     string
}

// place orders committables.
type place struct {
	lease      record.Lease
	checkpoint record.Checkpoint
	unit       record.Unit
}

func placeOf(c *sink.Committable) place { return place{c.Lease, c.Checkpoint, c.Unit} }

func (p place) above(q place) bool {
	switch {
	case p.lease != q.lease:
		return p.lease > q.lease
	case p.checkpoint != q.checkpoint:
		return p.checkpoint > q.checkpoint
	}
	return p.unit > q.unit
}

// entry is the ledger: the highest place that took effect, the lease of the run that wrote it, and its store.
type entry struct {
	place   place
	writer  record.Lease
	storeID string
}

type fence struct {
	lease   record.Lease
	nonce   string
	storeID string
}

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{}
	t.mu.ledger, t.mu.fences, t.mu.segment = map[owner]entry{}, map[owner]fence{}, map[string][]byte{}
	return t
}

// Rows returns the rows that a reader sees, each as a JSON object, in order of their coming. They belong to the caller.
func (t *Table) Rows() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows := make([][]byte, len(t.mu.rows))
	for i, r := range t.mu.rows {
		rows[i] = bytes.Clone(r)
	}
	return rows
}
