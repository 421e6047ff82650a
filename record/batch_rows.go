package record

import (
	"bytes"
	"slices"
)

// NewBatch returns an empty batch of a schema. Every type must pass [Type.Check].
func NewBatch(s *Schema) *Batch {
	b := &Batch{}
	b.Reshape(s)
	return b
}

// Reshape makes b an empty batch of a schema, which may be another one than before. It keeps the memory of columns whose type
// stays the same. Columns between the length and the capacity of Cols are spare: a step that takes a column out of a batch
// leaves it there, and Reshape finds it again.
func (b *Batch) Reshape(s *Schema) {
	cols := b.Cols[:cap(b.Cols)]
	for i := range s.Fields {
		place := slices.IndexFunc(cols[min(i, len(cols)):], func(c Column) bool { return c.Type.Equal(&s.Fields[i].Type) })
		if place < 0 {
			cols = slices.Insert(cols, min(i, len(cols)), NewColumn(s.Fields[i].Type))
			continue
		}
		cols[i], cols[i+place] = cols[i+place], cols[i]
	}
	b.Schema, b.Cols = s, cols[:len(s.Fields)]
	b.Reset()
}

// Reset makes the batch empty, forgets its split, and keeps the memory of its columns.
func (b *Batch) Reset() {
	b.Truncate(0)
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = "", "", 0
}

// Truncate drops all rows from the given number on, and what columns hold beyond the batch's rows.
func (b *Batch) Truncate(rows int) {
	rows = min(rows, b.Rows)
	for i := range b.Cols {
		b.Cols[i].Truncate(rows)
	}
	m := &b.Meta
	m.Offsets = m.Offsets[:min(rows, len(m.Offsets))]
	m.Timestamps = m.Timestamps[:min(rows, len(m.Timestamps))]
	m.Keys = cut(m.Keys, rows)
	m.Values = cut(m.Values, rows)
	m.Headers = cut(m.Headers, rows)
	b.Rows = rows
}

// cut shortens s and drops what it referred to.
func cut[T any](s []T, rows int) []T {
	rows = min(rows, len(s))
	clear(s[rows:])
	return s[:rows]
}

// Keep drops all rows that are not named. rows must be strictly ascending and below Rows.
func (b *Batch) Keep(rows []uint32) {
	if len(rows) == b.Rows {
		return
	}
	for i := range b.Cols {
		b.Cols[i].keep(rows)
	}
	m := &b.Meta
	m.Offsets = gather(m.Offsets, rows)
	m.Timestamps = gather(m.Timestamps, rows)
	m.Keys = gather(m.Keys, rows)
	m.Values = gather(m.Values, rows)
	m.Headers = gather(m.Headers, rows)
	b.Rows = len(rows)
}

func gather[T any](s []T, rows []uint32) []T {
	for i, row := range rows {
		s[i] = s[row]
	}
	return cut(s, len(rows))
}

// Bytes returns the memory that the batch's rows take: columns, and the keys, values and headers that the provenance refers to.
func (b *Batch) Bytes() int64 {
	var n int64
	for i := range b.Cols {
		n += b.Cols[i].bytes()
	}
	const perRow = 8 + 8 + 3*24 // offset, timestamp and three slice headers
	n += int64(b.Rows) * perRow
	for _, key := range b.Meta.Keys {
		n += int64(len(key))
	}
	for _, value := range b.Meta.Values {
		n += int64(len(value))
	}
	const perHeader = 16 + 24 // a string's and a slice's header
	for _, headers := range b.Meta.Headers {
		for i := range headers {
			n += perHeader + int64(len(headers[i].Key)+len(headers[i].Value))
		}
	}
	return n
}

// RowMeta is the provenance of one row. Its slices may alias the memory of a fetch.
type RowMeta struct {
	Offset    Offset
	Timestamp int64 // milliseconds since 1970, UTC; -1 without one
	Key       []byte
	Value     []byte
	Headers   []Header
}

// AppendMeta appends the provenance of a row whose columns were appended, and counts the row.
func (b *Batch) AppendMeta(m RowMeta) {
	b.Meta.Offsets = append(b.Meta.Offsets, m.Offset)
	b.Meta.Timestamps = append(b.Meta.Timestamps, m.Timestamp)
	b.Meta.Keys = append(b.Meta.Keys, m.Key)
	b.Meta.Values = append(b.Meta.Values, m.Value)
	b.Meta.Headers = append(b.Meta.Headers, m.Headers)
	b.Rows++
}

// Letter returns the dead letter of a row that a stage refuses. It copies what it takes from the batch, so it may live longer.
func (b *Batch) Letter(row int, stage string, r Refusal) DeadLetter {
	m := &b.Meta
	return DeadLetter{
		Split:     m.Split,
		Topic:     m.Topic,
		Partition: m.Partition,
		Offset:    m.Offsets[row],
		Timestamp: m.Timestamps[row],
		Key:       bytes.Clone(m.Keys[row]),
		Value:     bytes.Clone(m.Values[row]),
		Headers:   cloneHeaders(m.Headers[row]),
		Stage:     stage,
		Reason:    r.Reason,
		Column:    r.Column,
		Byte:      r.Byte,
	}
}

func cloneHeaders(headers []Header) []Header {
	if headers == nil {
		return nil
	}
	clone := make([]Header, len(headers))
	for i, h := range headers {
		clone[i] = Header{Key: h.Key, Value: bytes.Clone(h.Value)}
	}
	return clone
}

// AddColumn appends an empty column of a type behind the others, with the memory of a spare one (see [Batch.Reshape]) if there
// is one of the same type. The caller fills it to the batch's rows and adds its field to the schema.
func (b *Batch) AddColumn(t *Type) *Column {
	n := len(b.Cols)
	at := slices.IndexFunc(b.Cols[n:cap(b.Cols)], func(c Column) bool { return c.Type.Equal(t) })
	if at >= 0 {
		b.Cols = b.Cols[:n+1]
		b.swapColumns(n, n+at)
		b.Cols[n].Truncate(0)
		return &b.Cols[n]
	}
	all := append(b.Cols[:cap(b.Cols):cap(b.Cols)], NewColumn(*t)) // it grows: the spare ones stay
	all[n], all[len(all)-1] = all[len(all)-1], all[n]
	b.Cols = all[: n+1 : len(all)]
	return &b.Cols[n]
}

// RemoveColumn takes column i out and keeps it as a spare one; the others keep their order.
func (b *Batch) RemoveColumn(i int) {
	last := len(b.Cols) - 1
	for ; i < last; i++ {
		b.swapColumns(i, i+1)
	}
	b.Cols = b.Cols[:last]
}

// MoveColumn puts column from, which stands behind column to, in its place; column to becomes spare, the others keep their order.
func (b *Batch) MoveColumn(from, to int) {
	b.swapColumns(from, to)
	b.RemoveColumn(from)
}

// swapColumns swaps two columns, of which the second may be spare.
func (b *Batch) swapColumns(i, j int) {
	cols := b.Cols[:cap(b.Cols)]
	cols[i], cols[j] = cols[j], cols[i]
}
