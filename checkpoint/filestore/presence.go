package filestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// enter takes the shared lock on the file at path, which is made if need be, until the result is closed. If nobody else has it,
// alone runs before anybody else can.
func enter(path string, alone func() error) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		err = alone()
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = nil
	default:
		err = fmt.Errorf("the file system has no locks: %w", err)
	}
	// From exclusive to shared the kernel may let another go first. That other finds nothing of ours: no temporary file was
	// made yet. The wait is for another's clean-up, which is short.
	if err == nil {
		err = flock(f, syscall.LOCK_SH)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// flock repeats flock(2) as long as signals interrupt it.
func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
