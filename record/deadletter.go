package record

import (
	"encoding/base64"
	"unicode/utf8"
)

// The columns of [DeadLetterSchema], in order.
const (
	letterSplit = iota
	letterTopic
	letterPartition
	letterOffset
	letterTimestamp
	letterKey
	letterKeyBase64
	letterValue
	letterValueBase64
	letterHeaders
	letterStage
	letterReason
	letterColumn
	letterByte
)

// DeadLetterSchema returns the schema of the batches that a dead-letter sink gets:
//
//	split, topic    string; topic is "" for a file
//	partition       int32
//	offset          int64
//	timestamp       timestamp(3), null when the source has none
//	key, value      string, the raw bytes when they are valid UTF-8, else null
//	key_base64      string, the raw key in standard base64 when it is not valid UTF-8, else null
//	value_base64    as key_base64. A tombstone has neither value nor value_base64, every other record exactly one
//	headers         string, a JSON array in order: {"key": …, "value": …} or {"key": …, "value_base64": …}, null for a null
//	                value; a key that is not valid UTF-8 is in key_base64
//	stage, reason   string
//	column          string, null when it concerns the whole record
//	byte            int64, place in the raw value, null when unknown
func DeadLetterSchema() *Schema {
	text, optional := Type{Kind: String}, Type{Kind: String, Nullable: true}
	return &Schema{Fields: []Field{
		letterSplit:       {Name: "split", Type: text},
		letterTopic:       {Name: "topic", Type: text},
		letterPartition:   {Name: "partition", Type: Type{Kind: Int32}},
		letterOffset:      {Name: "offset", Type: Type{Kind: Int64}},
		letterTimestamp:   {Name: "timestamp", Type: Type{Kind: Timestamp, Precision: 3, Nullable: true}},
		letterKey:         {Name: "key", Type: optional},
		letterKeyBase64:   {Name: "key_base64", Type: optional},
		letterValue:       {Name: "value", Type: optional},
		letterValueBase64: {Name: "value_base64", Type: optional},
		letterHeaders:     {Name: "headers", Type: text},
		letterStage:       {Name: "stage", Type: text},
		letterReason:      {Name: "reason", Type: text},
		letterColumn:      {Name: "column", Type: optional},
		letterByte:        {Name: "byte", Type: Type{Kind: Int64, Nullable: true}},
	}}
}

// AppendDeadLetter appends a letter as a row of a batch of [DeadLetterSchema], with its offset and timestamp as provenance. It
// copies what it takes.
func AppendDeadLetter(b *Batch, l DeadLetter) {
	b.Cols[letterSplit].AppendString(l.Split)
	b.Cols[letterTopic].AppendString(l.Topic)
	b.Cols[letterPartition].AppendInt(int64(l.Partition))
	b.Cols[letterOffset].AppendInt(int64(l.Offset))
	appendKnown(&b.Cols[letterTimestamp], l.Timestamp)
	appendRaw(&b.Cols[letterKey], &b.Cols[letterKeyBase64], l.Key)
	appendRaw(&b.Cols[letterValue], &b.Cols[letterValueBase64], l.Value)
	b.Cols[letterHeaders].Bytes = AppendHeaders(b.Cols[letterHeaders].Bytes, l.Headers)
	b.Cols[letterHeaders].CloseList()
	b.Cols[letterStage].AppendString(l.Stage)
	b.Cols[letterReason].AppendString(l.Reason)
	if l.Column == "" {
		b.Cols[letterColumn].AppendNull()
	} else {
		b.Cols[letterColumn].AppendString(l.Column)
	}
	appendKnown(&b.Cols[letterByte], l.Byte)
	b.AppendMeta(RowMeta{Offset: l.Offset, Timestamp: l.Timestamp})
}

// appendKnown appends a number of which -1 means unknown.
func appendKnown(c *Column, v int64) {
	if v == -1 {
		c.AppendNull()
		return
	}
	c.AppendInt(v)
}

func appendRaw(text, encoded *Column, raw []byte) {
	switch {
	case raw == nil:
		text.AppendNull()
		encoded.AppendNull()
	case utf8.Valid(raw):
		text.AppendBytes(raw)
		encoded.AppendNull()
	default:
		text.AppendNull()
		encoded.Bytes = base64.StdEncoding.AppendEncode(encoded.Bytes, raw)
		encoded.CloseList()
	}
}

// AppendHeaders appends headers as the JSON text that [DeadLetterSchema] describes; no headers are [].
func AppendHeaders(dst []byte, headers []Header) []byte {
	dst = append(dst, '[')
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendMember(dst, "key", []byte(h.Key))
		dst = append(dst, ',')
		if h.Value == nil {
			dst = append(dst, `"value":null`...)
		} else {
			dst = appendMember(dst, "value", h.Value)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendMember writes "name":"text", or "name_base64":"…" for bytes that are not UTF-8.
func appendMember(dst []byte, name string, raw []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	if !utf8.Valid(raw) {
		dst = append(dst, `_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, raw)
		return append(dst, '"')
	}
	dst = append(dst, `":`...)
	return AppendQuoted(dst, raw)
}
