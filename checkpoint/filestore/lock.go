package filestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ingestd/ingestd/fault"
)

// lockName is no object's name, so that the data directory may be a store at the same time.
const lockName = "~lock"

// Lock takes a data directory, made if need be, for this process until the result is closed or the process ends, however it
// ends; the caller keeps the result. It is advice for people who start a second daemon by mistake: what protects the data is the lease.
//
// Error kind: fault.Misconfigured, at once, when another process has the directory; the text names it.
func Lock(dir string) (io.Closer, error) {
	const op = "checkpoint/filestore.Lock"
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("data directory %s is in use by %s", dir, holder(f))
		return nil, fault.WithRemedy(op, fault.Misconfigured, errors.Join(err, f.Close()),
			"stop that daemon, or give this one a data directory of its own")
	}
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), f.Close()))
	}
	writeHolder(f) //nolint:errcheck // on a full disk the message to others lacks the number, and the lock holds all the same
	return &lock{f}, nil
}

type lock struct{ f *os.File }

// Close gives the directory to the next. The file stays: removing it would let two processes lock two files of one name.
func (l *lock) Close() error {
	if err := errors.Join(l.f.Truncate(0), l.f.Close()); err != nil {
		return fault.E("checkpoint/filestore.Close", fault.Transient, err)
	}
	return nil
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// holder names who wrote the lock file. The kernel's lock decides; this is for the message only.
func holder(f *os.File) string {
	text := make([]byte, 32)
	n, err := f.ReadAt(text, 0)
	pid := strings.TrimSpace(string(text[:n]))
	if pid == "" || err != nil && !errors.Is(err, io.EOF) {
		return "another process"
	}
	return "process " + pid
}
