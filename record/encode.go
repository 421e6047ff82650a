package record

import (
	"encoding/binary"
)

// The header of an encoded batch; docs/formats/batch.md describes the format.
const (
	batchMagic   = "ibat"
	batchVersion = 1
	headerSize   = 16

	flagRaw = 1 << 0 // keys, values and headers follow the timestamps

	flagNullable = 1 << 0 // of a type
	flagBounds   = 1 << 1 // Min and Max follow
	typeFlags    = flagNullable | flagBounds

	flagOptional = 1 << 0 // of a field
)

// EncodeOptions says what [EncodeBatchWith] writes.
type EncodeOptions struct {
	// Raw adds the keys, values and headers of the records.
	Raw bool
}

// EncodeBatch appends a batch to dst: schema, columns, and of the provenance split, topic, partition, offsets and timestamps.
// The bytes depend on nothing but the batch.
func EncodeBatch(dst []byte, b *Batch) []byte { return EncodeBatchWith(dst, b, EncodeOptions{}) }

// EncodeBatchWith is [EncodeBatch] with a choice.
func EncodeBatchWith(dst []byte, b *Batch, o EncodeOptions) []byte {
	var flags byte
	if o.Raw {
		flags |= flagRaw
	}
	dst = append(dst, batchMagic...)
	dst = append(dst, batchVersion, flags, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Rows))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b.Schema.Fields)))
	for i := range b.Schema.Fields {
		dst = encodeField(dst, &b.Schema.Fields[i])
	}
	dst = encodeProvenance(dst, &b.Meta)
	if o.Raw {
		dst = encodeRaw(dst, b)
	}
	for i := range b.Cols {
		dst = encodeColumn(dst, &b.Cols[i])
	}
	return dst
}

func encodeField(dst []byte, f *Field) []byte {
	var flags byte
	if f.Optional {
		flags |= flagOptional
	}
	dst = append(dst, flags)
	dst = encodeText(dst, f.Name)
	dst = encodeText(dst, f.Path)
	return encodeType(dst, &f.Type)
}

func encodeType(dst []byte, t *Type) []byte {
	var flags byte
	if t.Nullable {
		flags |= flagNullable
	}
	if t.Min != 0 || t.Max != 0 {
		flags |= flagBounds
	}
	dst = append(dst, byte(t.Kind), flags)
	if flags&flagBounds != 0 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Min))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Max))
	}
	switch t.Kind { //nolint:exhaustive // the other kinds have no parameters
	case Decimal:
		dst = append(dst, byte(t.Precision), byte(t.Scale))
	case FixedString:
		dst = binary.AppendUvarint(dst, uint64(t.Size))
	case Timestamp:
		dst = append(dst, byte(t.Precision))
		dst = encodeText(dst, t.Zone)
	case Enum:
		dst = binary.AppendUvarint(dst, uint64(len(t.Values)))
		for _, v := range t.Values {
			dst = encodeText(dst, v.Name)
			dst = binary.LittleEndian.AppendUint16(dst, uint16(v.Number))
		}
	case Array:
		dst = encodeType(dst, t.Elem)
	case Map:
		dst = encodeType(dst, t.Key)
		dst = encodeType(dst, t.Elem)
	}
	return dst
}

func encodeProvenance(dst []byte, m *Provenance) []byte {
	dst = encodeText(dst, m.Split)
	dst = encodeText(dst, m.Topic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.Partition))
	for _, offset := range m.Offsets {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(offset))
	}
	for _, timestamp := range m.Timestamps {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(timestamp))
	}
	return dst
}

func encodeRaw(dst []byte, b *Batch) []byte {
	for i := range b.Rows {
		dst = encodeBytes(dst, b.Meta.Keys[i])
		dst = encodeBytes(dst, b.Meta.Values[i])
		dst = binary.AppendUvarint(dst, uint64(len(b.Meta.Headers[i])))
		for _, h := range b.Meta.Headers[i] {
			dst = encodeText(dst, h.Key)
			dst = encodeBytes(dst, h.Value)
		}
	}
	return dst
}

func encodeColumn(dst []byte, c *Column) []byte {
	dst = append(dst, c.Nulls...)
	if c.Type.Width() > 0 {
		return append(dst, c.Fixed...)
	}
	for _, end := range c.Off[1:] {
		dst = binary.LittleEndian.AppendUint32(dst, end)
	}
	if c.Type.Kind == String {
		return append(dst, c.Bytes...)
	}
	if c.Key != nil {
		dst = encodeColumn(dst, c.Key)
	}
	return encodeColumn(dst, c.Elem)
}

func encodeText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// encodeBytes keeps nil and empty apart: 0 is nil, else the length plus one.
func encodeBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b))+1)
	return append(dst, b...)
}
