package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

const opPoll fault.Op = "source/file.Poll"

const (
	// chunkBytes is how much is read at once.
	chunkBytes = 1 << 20
	// rowsMax is how many lines one fetch has at most.
	rowsMax = 8192
	// skipBytes is how much is read at once of a line that is too long.
	skipBytes = 64 << 10

	rowSize = int64(unsafe.Sizeof(source.Row{}))
)

// Reader reads files one after the other, in Poll, without goroutines of its own. Lag and Waiting may be called while a Poll
// waits.
type Reader struct {
	settings Settings
	budget   source.Budget
	pool     *sync.Pool // *[]byte of chunk bytes
	chunk    int

	current *os.File // the open file of the first split that is not finished
	opened  stamp
	want    int // how much to read at once, after what the last read gave
	err     error
	closed  bool

	mu struct {
		sync.Mutex
		splits  []*source.Split // written by Poll and Add only
		waiting bool
	}
}

// stamp is how an open file looked when it was opened.
type stamp struct {
	size     int64
	modified time.Time
}

var _ source.Reader = (*Reader)(nil)

// Add implements [source.Reader].
func (r *Reader) Add(_ context.Context, splits []source.Split) error { return r.add(splits) }

func (r *Reader) add(splits []source.Split) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range splits {
		if s.Until < 0 || s.Offset < 0 {
			return fault.E("source/file.Open", fault.Corrupt, fmt.Errorf("split %s: the position %d and the bound %d are not both resolved", s.Split, s.Offset, s.Until))
		}
		if slices.ContainsFunc(r.mu.splits, func(have *source.Split) bool { return have.Split == s.Split }) {
			return fault.E("source/file.Open", fault.Misconfigured, fmt.Errorf("split %s is read already", s.Split))
		}
		r.mu.splits = append(r.mu.splits, &s)
	}
	return nil
}

// Poll implements [source.Reader]. It waits only for the budget, and for ctx when all is read.
func (r *Reader) Poll(ctx context.Context) (source.Fetch, error) {
	if r.err != nil {
		return source.Fetch{}, r.err
	}
	if r.closed {
		return source.Fetch{}, fault.E(opPoll, fault.Misconfigured, errors.New("the reader is closed"))
	}
	s := r.next()
	if s == nil {
		<-ctx.Done()
		return source.Fetch{}, nil
	}
	if ctx.Err() != nil {
		return source.Fetch{}, nil
	}
	fetch, err := r.read(ctx, s)
	if err == nil && fetch.Finished {
		err = r.closeFile()
	}
	if err != nil {
		r.err = classified(opPoll, err)
		if fetch.Release != nil {
			fetch.Release()
		}
		return source.Fetch{}, r.err
	}
	if fetch.Next.Split != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.Position, s.Finished = fetch.Next, fetch.Finished
	}
	return fetch, nil
}

// next returns the first split that is not finished, or nil.
func (r *Reader) next() *source.Split {
	for _, s := range r.mu.splits {
		if !s.Finished {
			return s
		}
	}
	return nil
}

// read returns the next lines of a split.
func (r *Reader) read(ctx context.Context, s *source.Split) (source.Fetch, error) {
	if s.Offset >= s.Until {
		return source.Fetch{Next: s.Position, Finished: true}, nil
	}
	if r.current == nil {
		if err := r.openFile(*s); err != nil {
			return source.Fetch{}, err
		}
	}
	left := int64(s.Until - s.Offset)
	limit := int64(r.settings.RecordBytesMax)
	// Twice the chunk until a line fits, and no more than the longest line with its end.
	for size := min(int64(r.want), left); ; size = min(2*size, left, max(limit+2, size)) {
		charge := size + rowsMax*rowSize
		if !r.acquire(ctx, charge) {
			return source.Fetch{}, nil
		}
		buf := r.buffer(int(size))
		if err := r.fill(buf, *s); err != nil {
			r.budget.Release(charge)
			return source.Fetch{}, err
		}
		last := size == left
		if _, ok := nextLine(buf, 0, last); ok {
			return r.cut(s, buf, charge)
		}
		if size >= limit+2 {
			return r.tooLong(s, buf, charge)
		}
		r.keep(buf)
		r.budget.Release(charge)
	}
}

// buffer returns n bytes; keep takes them back.
func (r *Reader) buffer(n int) []byte {
	if n == r.chunk {
		if b, ok := r.pool.Get().(*[]byte); ok && len(*b) == n {
			return *b
		}
	}
	return make([]byte, n)
}

func (r *Reader) keep(buf []byte) {
	if len(buf) == r.chunk {
		r.pool.Put(&buf)
	}
}

func (r *Reader) acquire(ctx context.Context, n int64) bool {
	if r.budget.TryAcquire(n) {
		return true
	}
	r.wait(1)
	defer r.wait(0)
	return r.budget.Acquire(ctx, n) == nil
}

func (r *Reader) wait(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.waiting = n > 0
}

// fill reads exactly len(buf) bytes at the split's position.
func (r *Reader) fill(buf []byte, s source.Split) error {
	n, err := r.current.ReadAt(buf, int64(s.Offset))
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return lost(opPoll, fmt.Errorf("split %s: the file shrank while it was read: it ends at offset %d, and had %d bytes", s.Split, int64(s.Offset)+int64(n), s.Until))
	}
	return fmt.Errorf("split %s offset %d: %w", s.Split, s.Offset, err)
}

// cut makes rows of the whole lines in buf. What it does not need of the charge it gives back.
func (r *Reader) cut(s *source.Split, buf []byte, charge int64) (source.Fetch, error) {
	last := int64(len(buf)) == int64(s.Until-s.Offset)
	rows := make([]source.Row, 0, min(rowsMax, bytes.Count(buf, []byte{'\n'})+1))
	var refused []record.DeadLetter
	start, at := s.Offset, 0
	for len(rows) < rowsMax && len(refused) < rowsMax {
		l, ok := nextLine(buf, at, last)
		if !ok {
			break
		}
		at = l.next
		if r.settings.LineEnd == endCRLF {
			l = l.trim(buf)
		}
		offset := start + record.Offset(l.start)
		if n := int64(l.end - l.start); n > int64(r.settings.RecordBytesMax) {
			head := buf[l.start : l.start+int(r.settings.RecordBytesMax)]
			refused = append(refused, r.refusal(s, offset, head, n))
			continue
		}
		rows = append(rows, source.Row{Offset: offset, Timestamp: -1, Value: buf[l.start:l.end:l.end]})
	}
	// Most lines alike: what was read and not used now is read again, and should be little.
	r.want = min(r.chunk, max(skipBytes, 2*at))
	used := int64(len(buf)) + int64(cap(rows))*rowSize
	r.budget.Release(charge - used)
	release := func() {
		r.keep(buf)
		r.budget.Release(used)
	}
	return r.done(s, start+record.Offset(at), source.Fetch{Rows: rows, Refused: refused, Release: release})
}

// tooLong refuses a line that buf does not hold, and finds its end.
func (r *Reader) tooLong(s *source.Split, buf []byte, charge int64) (source.Fetch, error) {
	end := s.Offset + record.Offset(len(buf))
	next := end
	found := false
	scratch := make([]byte, skipBytes)
	for next < s.Until && !found {
		part := scratch[:min(int64(len(scratch)), int64(s.Until-next))]
		at := *s
		at.Offset = next
		if err := r.fill(part, at); err != nil {
			r.budget.Release(charge)
			return source.Fetch{}, err
		}
		if n := bytes.IndexByte(part, '\n'); n >= 0 {
			end, next, found = next+record.Offset(n), next+record.Offset(n)+1, true
		} else {
			next += record.Offset(len(part))
			end = next
		}
	}
	head := buf[:r.settings.RecordBytesMax]
	refused := []record.DeadLetter{r.refusal(s, s.Offset, head, int64(end-s.Offset))}
	used := int64(len(buf))
	r.budget.Release(charge - used)
	return r.done(s, next, source.Fetch{Refused: refused, Release: func() { r.budget.Release(used) }})
}

func (r *Reader) refusal(s *source.Split, offset record.Offset, head []byte, size int64) record.DeadLetter {
	return record.DeadLetter{
		Split: s.Split, Offset: offset, Timestamp: -1, Value: head, Stage: "source", Byte: -1,
		Reason: fmt.Sprintf("the line has %d bytes, more than record_bytes_max = %s, and is cut", size, r.settings.RecordBytesMax),
	}
}

// done moves the position and completes the fetch.
func (r *Reader) done(s *source.Split, next record.Offset, f source.Fetch) (source.Fetch, error) {
	if err := r.unchanged(*s); err != nil {
		f.Release()
		return source.Fetch{}, err
	}
	f.Next = s.Position
	f.Next.Offset = next
	f.Finished = next >= s.Until
	return f, nil
}

func (r *Reader) openFile(s source.Split) error {
	f, err := openSplit(s)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("split %s: %w", s.Split, err), f.Close())
	}
	r.current, r.opened = f, stamp{info.Size(), info.ModTime()}
	return nil
}

// unchanged checks that nobody wrote to what was just read. Appending is no change: the bound does not move.
func (r *Reader) unchanged(s source.Split) error {
	info, err := r.current.Stat()
	if err != nil {
		return fmt.Errorf("split %s: %w", s.Split, err)
	}
	if info.ModTime().Equal(r.opened.modified) && info.Size() == r.opened.size {
		return nil
	}
	if info.Size() <= r.opened.size {
		return lost(opPoll, fmt.Errorf("split %s: the file was written to while it was read, at %s: it has %d bytes, and had %d",
			s.Split, info.ModTime().UTC().Format(time.RFC3339Nano), info.Size(), r.opened.size))
	}
	want, err := parseIdentity(s.Identity)
	if err != nil {
		return err
	}
	if err := compare(r.current, s, want); err != nil {
		return err
	}
	r.opened = stamp{info.Size(), info.ModTime()}
	return nil
}

func (r *Reader) closeFile() error {
	if r.current == nil {
		return nil
	}
	f := r.current
	r.current = nil
	return f.Close()
}

// Lag implements [source.Reader]. How many lines are left is not known before they are read.
func (r *Reader) Lag() []source.Lag {
	r.mu.Lock()
	defer r.mu.Unlock()
	lags := make([]source.Lag, len(r.mu.splits))
	for i, s := range r.mu.splits {
		lags[i] = source.Lag{Split: s.Split, Records: -1, Seconds: -1}
		if s.Offset >= s.Until {
			lags[i].Records, lags[i].Seconds = 0, 0
		}
	}
	return lags
}

// Waiting implements [source.Reader].
func (r *Reader) Waiting() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.waiting {
		return "the memory budget is used up"
	}
	return ""
}

// Close implements [source.Reader]. Nothing is fetched ahead, so that there is nothing to give back.
func (r *Reader) Close() error {
	r.closed = true
	if err := r.closeFile(); err != nil {
		return fault.E("source/file.Close", fault.Transient, err)
	}
	return nil
}
