package clickhouse

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ingestd/ingestd/record"
)

// blockColumn is one column of a native block: the columns of the unit's batches one after the other.
type blockColumn struct {
	name   string
	shape  *shape
	chunks []*record.Column
}

// block is the native block of a unit. It holds the batches' memory and makes its bytes as they are written.
type block struct {
	rows    int
	columns []blockColumn
	// number fills the provenance column; 0 leaves it out.
	number uint64
}

// newBlock puts the batches of a unit together.
func newBlock(data *unitData, batches []*record.Batch) (*block, error) {
	b := &block{number: data.Block, rows: rowsOf(batches)}
	for _, batch := range batches {
		if len(batch.Cols) != len(data.Columns) {
			return nil, fmt.Errorf("a batch has %d columns, the unit %d", len(batch.Cols), len(data.Columns))
		}
	}
	for i, wire := range data.Columns {
		s, err := parseShape(wire.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", identifier(wire.Name), err)
		}
		col := blockColumn{name: wire.Name, shape: s}
		for _, batch := range batches {
			if !s.takes(&batch.Cols[i].Type) {
				return nil, fmt.Errorf("column %s: %s can't be sent as %s", identifier(wire.Name), batch.Cols[i].Type.String(), wire.Type)
			}
			col.chunks = append(col.chunks, &batch.Cols[i])
		}
		b.columns = append(b.columns, col)
	}
	return b, nil
}

// encode writes the block in the server's native format. version is that of the protocol.
func (b *block) encode(w *frameWriter, version int) error {
	columns := len(b.columns)
	if b.number != 0 {
		columns++
	}
	w.buffer(func(buf *proto.Buffer) {
		proto.BlockInfo{BucketNum: -1}.Encode(buf)
		buf.PutInt(columns)
		buf.PutInt(b.rows)
	})
	for i := range b.columns {
		c := &b.columns[i]
		w.columnStart(c.name, c.shape.wire, version)
		w.native(c.shape, c.chunks)
	}
	if b.number != 0 {
		w.columnStart(provenanceColumn, "UInt64", version)
		for range b.rows {
			w.buf = binary.LittleEndian.AppendUint64(w.buf, b.number)
			w.spill()
		}
	}
	return w.flush()
}

// frameBytes is how much of a block is compressed at a time, as the server's own client does.
const frameBytes = 1 << 20

// frameWriter writes a block's bytes in frames, compressed or not. The first error stays.
type frameWriter struct {
	to  io.Writer
	zip *compress.Writer // nil sends the bytes as they are
	buf []byte
	err error
}

func newFrameWriter(to io.Writer, compression string) *frameWriter {
	w := &frameWriter{to: to}
	switch compression {
	case compressionZSTD:
		w.zip = compress.NewWriter(compress.LevelZero, compress.ZSTD)
	case compressionLZ4:
		w.zip = compress.NewWriter(compress.LevelZero, compress.LZ4)
	}
	return w
}

// buffer lets f append to the frame.
func (w *frameWriter) buffer(f func(*proto.Buffer)) {
	b := proto.Buffer{Buf: w.buf}
	f(&b)
	w.buf = b.Buf
}

// columnStart writes a column's name and type.
func (w *frameWriter) columnStart(name, typ string, version int) {
	w.buffer(func(b *proto.Buffer) {
		b.PutString(name)
		b.PutString(typ)
		if proto.FeatureCustomSerialization.In(version) {
			b.PutBool(false) // the type's own serialization
		}
	})
}

// spill writes the frame when it is full.
func (w *frameWriter) spill() {
	if len(w.buf) >= frameBytes {
		w.err = w.flush()
	}
}

// flush writes the frame, and returns the first error of all.
func (w *frameWriter) flush() error {
	if w.err != nil || len(w.buf) == 0 {
		w.buf = w.buf[:0]
		return w.err
	}
	out := w.buf
	if w.zip != nil {
		if w.err = w.zip.Compress(w.buf); w.err != nil {
			return w.err
		}
		out = w.zip.Data
	}
	_, w.err = w.to.Write(out)
	w.buf = w.buf[:0]
	return w.err
}

// native writes the values of all chunks as one column. Integers are little endian there, as in a record's column.
func (w *frameWriter) native(s *shape, chunks []*record.Column) {
	if s.typ.Nullable {
		for _, c := range chunks {
			w.nullMap(c)
		}
	}
	if s.layout == layoutList {
		w.lists(s, chunks)
		return
	}
	for _, c := range chunks {
		switch s.layout {
		case layoutCopy:
			w.bytes(c.Fixed)
		case layoutLow1:
			w.low(c.Fixed, 2, 1)
		case layoutLow2:
			w.low(c.Fixed, 4, 2)
		case layoutLow4:
			w.low(c.Fixed, 8, 4)
		case layoutUUID:
			w.uuids(c.Fixed)
		case layoutString:
			w.strings(c)
		case layoutList: // above
		}
	}
}

// bytes writes memory of a batch, a frame at a time.
func (w *frameWriter) bytes(b []byte) {
	for len(b) > 0 {
		n := min(len(b), frameBytes-min(len(w.buf), frameBytes-1))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
		w.spill()
	}
}

// nullMap writes one byte for each row; a column that has no nulls has zeros.
func (w *frameWriter) nullMap(c *record.Column) {
	if c.Type.Nullable {
		w.bytes(c.Nulls)
		return
	}
	w.bytes(make([]byte, c.Len()))
}

// low writes the lowest bytes of each integer. That it fits was checked when the row was taken.
func (w *frameWriter) low(fixed []byte, width, keep int) {
	for i := 0; i < len(fixed); i += width {
		w.buf = append(w.buf, fixed[i:i+keep]...)
		w.spill()
	}
}

// uuids turns around both halves: the server holds a UUID as two little-endian integers.
func (w *frameWriter) uuids(fixed []byte) {
	const half = 8
	for i := 0; i < len(fixed); i += half {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, binary.BigEndian.Uint64(fixed[i:]))
		w.spill()
	}
}

func (w *frameWriter) strings(c *record.Column) {
	for i := range c.Len() {
		value := c.BytesAt(i)
		w.buf = binary.AppendUvarint(w.buf, uint64(len(value)))
		w.buf = append(w.buf, value...)
		w.spill()
	}
}

// lists writes where each list ends, counted over all chunks, and then the elements.
func (w *frameWriter) lists(s *shape, chunks []*record.Column) {
	var base uint64
	keys := make([]*record.Column, 0, len(chunks))
	elems := make([]*record.Column, 0, len(chunks))
	for _, c := range chunks {
		for _, end := range c.Off[1:] {
			w.buf = binary.LittleEndian.AppendUint64(w.buf, base+uint64(end))
			w.spill()
		}
		base += uint64(c.Elem.Len())
		keys = append(keys, c.Key)
		elems = append(elems, c.Elem)
	}
	if s.key != nil {
		w.native(s.key, keys)
	}
	w.native(s.elem, elems)
}
