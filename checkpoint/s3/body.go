package s3

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// errEnded is what a reader gets that still asks for a body after its call has returned.
var errEnded = errors.New("the call has ended")

// body is the bytes of a request. The connection that sends them may go on reading after the call was given up; the caller may
// change them by then.
type body struct {
	mu struct {
		sync.Mutex
		r *bytes.Reader // nil when the call has ended
	}
}

var _ io.ReadSeeker = (*body)(nil)

func newBody(data []byte) *body {
	b := &body{}
	b.mu.r = bytes.NewReader(data)
	return b
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.r == nil {
		return 0, errEnded
	}
	return b.mu.r.Read(p)
}

// Seek implements [io.Seeker].
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.r == nil {
		return 0, errEnded
	}
	return b.mu.r.Seek(offset, whence)
}

// end takes the bytes away.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.r = nil
}
