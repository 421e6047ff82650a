package clickhouse

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ingestd/ingestd/record"
)

// blockColumn is one column of a native block, made of the columns of the unit's batches one after the other.
// It implements ch-go's ColInput.
type blockColumn struct {
	shape  *shape
	chunks []*record.Column
	rows   int
	// sent is set when the first byte of data is encoded: from then on an error of the server can't be told from one in the
	// midst of writing.
	sent *atomic.Bool
}

var _ proto.ColInput = (*blockColumn)(nil)

// Type returns the name of the type in the block.
func (c *blockColumn) Type() proto.ColumnType { return proto.ColumnType(c.shape.wire) }

// Rows returns the number of rows.
func (c *blockColumn) Rows() int { return c.rows }

// EncodeColumn appends the column to a buffer.
func (c *blockColumn) EncodeColumn(b *proto.Buffer) {
	c.sent.Store(true)
	b.Buf = appendNative(b.Buf, c.shape, c.chunks)
}

// WriteColumn hands the column to a writer, memory of the batches where the bytes are the same.
func (c *blockColumn) WriteColumn(w *proto.Writer) {
	c.sent.Store(true)
	if c.shape.layout == layoutCopy && !c.shape.typ.Nullable {
		for _, chunk := range c.chunks {
			if len(chunk.Fixed) > 0 {
				w.ChainWrite(chunk.Fixed)
			}
		}
		return
	}
	w.ChainBuffer(func(b *proto.Buffer) { b.Buf = appendNative(b.Buf, c.shape, c.chunks) })
}

// constantColumn is the provenance column: one number in every row.
type constantColumn struct {
	value uint64
	rows  int
}

var _ proto.ColInput = (*constantColumn)(nil)

// Type returns UInt64.
func (c *constantColumn) Type() proto.ColumnType { return proto.ColumnTypeUInt64 }

// Rows returns the number of rows.
func (c *constantColumn) Rows() int { return c.rows }

// EncodeColumn appends the column to a buffer.
func (c *constantColumn) EncodeColumn(b *proto.Buffer) {
	for range c.rows {
		b.Buf = binary.LittleEndian.AppendUint64(b.Buf, c.value)
	}
}

// WriteColumn hands the column to a writer.
func (c *constantColumn) WriteColumn(w *proto.Writer) { w.ChainBuffer(c.EncodeColumn) }

// appendNative appends the values of all chunks as one column in the server's native format. Integers there are little
// endian, as in a record's column.
func appendNative(dst []byte, s *shape, chunks []*record.Column) []byte {
	if s.typ.Nullable {
		for _, c := range chunks {
			dst = appendNullMap(dst, c)
		}
	}
	switch s.layout {
	case layoutCopy:
		for _, c := range chunks {
			dst = append(dst, c.Fixed...)
		}
	case layoutLow1:
		dst = appendLow(dst, chunks, 2, 1)
	case layoutLow2:
		dst = appendLow(dst, chunks, 4, 2)
	case layoutLow4:
		dst = appendLow(dst, chunks, 8, 4)
	case layoutUUID:
		for _, c := range chunks {
			dst = appendUUIDs(dst, c.Fixed)
		}
	case layoutString:
		for _, c := range chunks {
			dst = appendStrings(dst, c)
		}
	case layoutList:
		dst = appendLists(dst, s, chunks)
	}
	return dst
}

// appendNullMap writes one byte for each row; a column that has no nulls has zeros.
func appendNullMap(dst []byte, c *record.Column) []byte {
	if c.Type.Nullable {
		return append(dst, c.Nulls...)
	}
	return append(dst, make([]byte, c.Len())...)
}

// appendLow writes the lowest bytes of each integer. That it fits was checked when the row was taken.
func appendLow(dst []byte, chunks []*record.Column, width, keep int) []byte {
	for _, c := range chunks {
		for i := 0; i < len(c.Fixed); i += width {
			dst = append(dst, c.Fixed[i:i+keep]...)
		}
	}
	return dst
}

// appendUUIDs turns around both halves: the server holds a UUID as two little-endian integers.
func appendUUIDs(dst, fixed []byte) []byte {
	const half = 8
	for i := 0; i < len(fixed); i += half {
		dst = binary.LittleEndian.AppendUint64(dst, binary.BigEndian.Uint64(fixed[i:]))
	}
	return dst
}

func appendStrings(dst []byte, c *record.Column) []byte {
	for i := range c.Len() {
		value := c.BytesAt(i)
		dst = binary.AppendUvarint(dst, uint64(len(value)))
		dst = append(dst, value...)
	}
	return dst
}

// appendLists writes where each list ends, counted over all chunks, and then the elements.
func appendLists(dst []byte, s *shape, chunks []*record.Column) []byte {
	var base uint64
	keys := make([]*record.Column, 0, len(chunks))
	elems := make([]*record.Column, 0, len(chunks))
	for _, c := range chunks {
		for _, end := range c.Off[1:] {
			dst = binary.LittleEndian.AppendUint64(dst, base+uint64(end))
		}
		base += uint64(c.Elem.Len())
		keys = append(keys, c.Key)
		elems = append(elems, c.Elem)
	}
	if s.key != nil {
		dst = appendNative(dst, s.key, keys)
	}
	return appendNative(dst, s.elem, elems)
}
