package file

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// defaultExtension ends the names of files with lines of JSON.
const defaultExtension = ".ndjson"

// format is the configured form of rows; the zero value is lines of JSON.
type format struct {
	encoder codec.FileEncoder
	file    codec.FileFormat
}

func newFormat(f codec.EncoderFactory) (format, error) {
	if f == nil {
		return format{}, nil
	}
	e, ok := f.(codec.FileEncoder)
	if !ok {
		return format{}, fmt.Errorf("encode: the forms of %T can't stand in a file, where nothing tells one's end", f)
	}
	file, err := e.FileFormat()
	return format{encoder: e, file: file}, err
}

// form turns rows of one schema into bytes of a file. A writer has its own.
type form struct {
	encoder  codec.Encoder // nil: lines of JSON
	file     codec.FileFormat
	header   []byte
	identity string
}

// of returns the form for rows of a schema.
func (f format) of(schema *record.Schema) (form, error) {
	if f.encoder == nil {
		return form{file: codec.FileFormat{End: "\n"}}, nil
	}
	e, err := f.encoder.New(schema)
	if err != nil {
		return form{}, fault.E("sink/file.Writer", fault.KindOf(err), err)
	}
	header := f.encoder.FileHeader(schema)
	return form{encoder: e, file: f.file, header: header, identity: f.file.Identity + " " + strconv.Quote(string(header))}, nil
}

// describe writes into the record of a new file what its form is.
func (f *form) describe(c *content) {
	c.Format, c.Headed = f.identity, len(f.header) > 0
	if f.file.Extension != defaultExtension {
		c.Extension = f.file.Extension
	}
}

// append appends a row and its end. If the row has no form, dst is returned as it was.
func (f *form) append(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if f.encoder == nil {
		return append(codec.AppendJSON(dst, b, row), '\n'), record.Refusal{}, true
	}
	out, refusal, ok := f.encoder.Encode(dst, b, row)
	if !ok {
		return dst, refusal, false
	}
	if !f.file.Quoted && bytes.Contains(out[len(dst):], []byte(f.file.End)) {
		return out[:len(dst)], record.Refusal{Row: row, Reason: "its form holds a line end, where a file has one for each row", Byte: -1}, false
	}
	return append(out, f.file.End...), record.Refusal{}, true
}

// estrange lets go of a task's restored file if it has another format: it is complete at the first checkpoint. It is called
// before a writer of the task has written.
func (s *Sink) estrange(task int, identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.slots[task].content
	if c == nil || c.Format == identity {
		return
	}
	s.mu.strangers = append(s.mu.strangers, *c)
	s.mu.slots[task], s.mu.recorded[task] = slot{}, nil
}
