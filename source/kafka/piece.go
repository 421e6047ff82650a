package kafka

import (
	"hash/crc32"
	"sync"
	"unsafe"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// Bounds of one piece, which becomes one source.Fetch.
const (
	pieceBytes = 4 << 20
	pieceRows  = 8192
)

const (
	rowSize     = int64(unsafe.Sizeof(source.Row{}))
	headerSize  = int64(unsafe.Sizeof(record.Header{}))
	refusalSize = int64(unsafe.Sizeof(record.DeadLetter{}))
)

// byteClasses and rowClasses are the sizes in which memory is kept for use again.
func byteClasses() [6]int {
	return [...]int{4 << 10, 32 << 10, 256 << 10, 1 << 20, 2 << 20, pieceBytes}
}
func rowClasses() [4]int { return [...]int{16, 256, 2048, pieceRows} }

// pool keeps the memory of pieces and what is needed to fill them. It is safe for use by several goroutines.
type pool struct {
	bytes [6]sync.Pool // *[]byte
	rows  [4]sync.Pool // *[]source.Row
	dec   decompressor
	crc   *crc32.Table
}

func newPool() *pool { return &pool{crc: crc32.MakeTable(crc32.Castagnoli)} }

// getBytes returns an empty slice with room for n bytes at least.
func (p *pool) getBytes(n int) []byte {
	for i, size := range byteClasses() {
		if n > size {
			continue
		}
		if b, ok := p.bytes[i].Get().(*[]byte); ok {
			return (*b)[:0]
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

func (p *pool) putBytes(b []byte) {
	for i, size := range byteClasses() {
		if cap(b) == size {
			p.bytes[i].Put(&b)
		}
	}
}

// getRows returns an empty slice with room for n rows, or for [pieceRows].
func (p *pool) getRows(n int) []source.Row {
	for i, size := range rowClasses() {
		if n > size && size < pieceRows {
			continue
		}
		if rows, ok := p.rows[i].Get().(*[]source.Row); ok {
			return (*rows)[:0]
		}
		return make([]source.Row, 0, size)
	}
	return nil // not reached: the last class takes everything
}

func (p *pool) putRows(rows []source.Row) {
	clear(rows) // so that nothing of the bytes stays reachable
	for i, size := range rowClasses() {
		if cap(rows) == size {
			p.rows[i].Put(&rows)
		}
	}
}

// piece is a part of a split on its way to Poll: records, or progress without records.
type piece struct {
	split    *split
	next     int64 // position after it
	epoch    int32 // leader epoch of what precedes next
	rows     []source.Row
	refused  []record.DeadLetter
	headers  []record.Header // rows' headers alias it
	buf      []byte          // rows alias it
	finished bool
	extra    int64 // bytes of refused records
	charge   int64 // taken from the budget
}

// empty reports whether it holds no record.
func (p *piece) empty() bool { return len(p.rows) == 0 && len(p.refused) == 0 }

// size is the memory that it holds.
func (p *piece) size() int64 {
	// Twice the headers: growing the slice leaves older ones to the rows before.
	n := int64(cap(p.buf)) + int64(cap(p.rows))*rowSize + 2*int64(cap(p.headers))*headerSize
	return n + int64(cap(p.refused))*refusalSize + p.extra
}

// free gives the memory back to the pool.
func (p *piece) free(to *pool) {
	to.putBytes(p.buf)
	to.putRows(p.rows)
	p.buf, p.rows, p.headers, p.refused = nil, nil, nil, nil
}
