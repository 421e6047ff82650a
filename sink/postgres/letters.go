package postgres

import (
	"bytes"
	"encoding/base64"

	"github.com/ingestd/ingestd/record"
)

// isLetters reports whether a schema is that of dead letters.
func isLetters(s *record.Schema) bool { return sameSchema(s, record.DeadLetterSchema()) }

// storableLetters makes dead letters that hold zero bytes fit texts of the server, which have none: a letter that can't be stored
// would be lost. A key or value moves to its column in base64, as one that is no text at all; elsewhere a zero byte becomes the
// replacement character.
func storableLetters(b *record.Batch) *record.Batch {
	found := false
	for i := range b.Cols {
		found = found || bytes.IndexByte(b.Cols[i].Bytes, 0) >= 0
	}
	if !found {
		return b
	}
	out := pick(b, all(b.Rows))
	for _, name := range []string{"key", "value"} {
		encode(&out.Cols[b.Schema.Index(name)], &out.Cols[b.Schema.Index(name+"_base64")])
	}
	for i := range out.Cols {
		if c := &out.Cols[i]; bytes.IndexByte(c.Bytes, 0) >= 0 {
			*c = replaced(c)
		}
	}
	return out
}

func all(rows int) []uint32 {
	list := make([]uint32, rows)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

// encode moves texts with zero bytes to the other column.
func encode(text, encoded *record.Column) {
	plain, moved := record.NewColumn(text.Type), record.NewColumn(encoded.Type)
	for row := range text.Len() {
		if text.IsNull(row) || bytes.IndexByte(text.BytesAt(row), 0) < 0 {
			plain.AppendFrom(text, row)
			moved.AppendFrom(encoded, row)
			continue
		}
		plain.AppendNull()
		moved.AppendString(base64.StdEncoding.EncodeToString(text.BytesAt(row)))
	}
	*text, *encoded = plain, moved
}

// replaced copies a column of texts with the replacement character in place of zero bytes.
func replaced(c *record.Column) record.Column {
	out := record.NewColumn(c.Type)
	for row := range c.Len() {
		if c.IsNull(row) {
			out.AppendNull()
			continue
		}
		out.AppendBytes(bytes.ReplaceAll(c.BytesAt(row), []byte{0}, []byte("\uFFFD")))
	}
	return out
}
