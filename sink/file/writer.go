package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// bufferBytes is how many bytes of rows a writer collects before it hands them to the system.
const bufferBytes = 256 << 10

// Writer appends one task's rows to its file in progress. Between Prepare and the next Write it holds no file open.
type Writer struct {
	sink *Sink
	task int
	form form // of rows

	buffer []byte // rows that were not handed on
	packer packer
	file   *appender // nil when nothing was written since Prepare
	rows   int64     // since Prepare
	begun  int64     // the file's length at that time
}

var _ sink.Writer = (*Writer)(nil)

// appender is an open file in progress, with what it holds.
type appender struct {
	handle  handle
	content content
	digest  *xxhash.Digest
	fresh   bool // its name is not durable yet
}

// Write appends bytes to the file.
func (a *appender) Write(b []byte) (int, error) {
	n, err := a.handle.Write(b)
	a.content.Length += int64(n)
	_, _ = a.digest.Write(b[:n]) //nolint:errcheck // a digest can't fail
	return n, err
}

// Writer returns a task's writer. Every schema is taken that the encoder takes. A restored file of the task that has another
// format, or another header, is complete.
func (s *Sink) Writer(_ context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	if task < 0 || task >= s.env.Tasks || s.folder == "" {
		return nil, fault.E("sink/file.Writer", fault.Misconfigured, fmt.Errorf("task %d of %d, restored %t", task, s.env.Tasks, s.folder != ""))
	}
	p, err := newPacker(s.settings.Compression)
	if err != nil {
		return nil, fault.E("sink/file.Writer", fault.Misconfigured, err)
	}
	f, err := s.format.of(schema)
	if err != nil {
		return nil, err
	}
	s.estrange(task, f.identity)
	return &Writer{sink: s, task: task, packer: p, form: f}, nil
}

// Write appends the rows of a batch. It refuses those that have no form; in lines of JSON every row has one.
func (w *Writer) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	var refused []record.Refusal
	for row := range b.Rows {
		out, refusal, ok := w.form.append(w.buffer, b, row)
		if !ok {
			refused = append(refused, refusal)
			continue
		}
		w.buffer = out
		if err := w.room(ctx); err != nil {
			return nil, fault.E("sink/file.Write", kindOf(err), err)
		}
	}
	w.rows += int64(b.Rows - len(refused))
	return refused, nil
}

// room makes room in the buffer after a row. A file is opened with its first row, so that none is without rows.
func (w *Writer) room(ctx context.Context) error {
	if err := w.open(ctx); err != nil || len(w.buffer) < bufferBytes {
		return err
	}
	return w.flush()
}

// open goes on with the task's file, or makes one.
func (w *Writer) open(ctx context.Context) error {
	if w.file != nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := w.sink
	a, how := &appender{}, openAppend
	if c, digest := s.take(w.task); c != nil {
		a.content, a.digest = *c, digest
	} else {
		a.content = content{Name: s.newName(), Compression: s.settings.Compression}
		w.form.describe(&a.content)
		a.digest, a.fresh, how = xxhash.New(), true, openNew
	}
	var err error
	if a.handle, err = s.disk.Open(s.layout.inProgress(a.content.Name), how); err != nil {
		return err
	}
	w.file, w.begun = a, a.content.Length
	w.packer.begin(a)
	if a.content.Length == 0 && len(w.form.header) > 0 {
		_, err = w.packer.Write(w.form.header)
	}
	return err
}

// flush hands the buffered rows on.
func (w *Writer) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	_, err := w.packer.Write(w.buffer)
	w.buffer = w.buffer[:0]
	return err
}

// Prepare makes the rows durable and lets go of the file: for good when it is complete. A failed Sync is never repeated, since
// the system forgets what it could not write: the run recovers and writes the rows to another file.
func (w *Writer) Prepare(_ context.Context, cut sink.Cut) (sink.Part, error) {
	const op = "sink/file.Prepare"
	if w.file == nil {
		return sink.Part{Task: w.task}, nil
	}
	c, err := w.finish(cut)
	if err != nil {
		return sink.Part{}, fault.E(op, kindOf(err), err)
	}
	part := sink.Part{Task: w.task, Rows: w.rows, Bytes: c.Length - w.begun}
	d := partData{Content: c, Complete: w.sink.complete(&c, cut)}
	if part.Data, err = json.Marshal(d); err != nil {
		return sink.Part{}, fault.E(op, fault.Corrupt, err)
	}
	digest := w.file.digest
	w.rows, w.file = 0, nil
	if d.Complete {
		w.sink.put(w.task, nil, nil)
	} else {
		w.sink.put(w.task, &c, digest)
	}
	return part, nil
}

// finish writes what is left, forces it to the disk and closes the file.
func (w *Writer) finish(cut sink.Cut) (content, error) {
	a := w.file
	if err := errors.Join(w.flush(), w.packer.end()); err != nil {
		return content{}, err
	}
	if err := a.handle.Sync(); err != nil {
		return content{}, err
	}
	if err := a.handle.Close(); err != nil {
		return content{}, err
	}
	if a.fresh {
		if err := syncName(w.sink.disk, w.sink.layout.progress()); err != nil {
			return content{}, err
		}
	}
	a.content.Rows += w.rows
	a.content.Checksum = a.digest.Sum64()
	if a.content.Opened == 0 {
		a.content.Opened = cut.Time
	}
	return a.content, nil
}

// Close closes the file. What was not prepared is not recorded anywhere and is never copied.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	a := w.file
	w.file = nil
	if err := a.handle.Close(); err != nil {
		return fault.E("sink/file.Close", fault.Transient, err)
	}
	return nil
}
