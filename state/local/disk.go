package local

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// How long a write waits on a full disk before it is tried again, and how often the log says so.
const (
	fullBackoff = 100 * time.Millisecond
	loudEvery   = 10 * time.Second
)

var errDiskLeft = errors.New("the database is being closed")

// disk is the file system that Pebble sees. Pebble tries a flush that found no room again and again without a pause, and takes
// a full disk under its MANIFEST for the end of the process. So a write that finds no room waits here until there is some, or
// until the database is closed.
//
// A sync that fails is not repeated: what it should have written may be gone, and a second one would say nothing of it. It fails
// late, as every other write error does, so that Pebble's repetitions stay few.
type disk struct {
	inner vfs.FS
	log   *slog.Logger
	leave chan struct{} // closed by stop

	mu struct {
		sync.Mutex
		waiting int       // writes that wait for room
		said    time.Time // when the log last said so
	}
}

var _ vfs.FS = (*disk)(nil)

func newDisk(inner vfs.FS, log *slog.Logger) *disk {
	return &disk{inner: inner, log: log, leave: make(chan struct{})}
}

// stop makes all waiting writes fail.
func (d *disk) stop() { close(d.leave) }

// full tells whether a write waits for room.
func (d *disk) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.waiting > 0
}

// retry calls f until it finds room.
func (d *disk) retry(name string, f func() error) error {
	err := f()
	if err == nil {
		return nil
	}
	if !vfs.IsNoSpaceError(err) {
		d.pause(fullBackoff)
		return err
	}
	d.mu.Lock()
	d.mu.waiting++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.mu.waiting--
		d.mu.Unlock()
	}()
	for err != nil && vfs.IsNoSpaceError(err) {
		d.say(name, err)
		if !d.pause(fullBackoff) {
			return fmt.Errorf("%w: %w", errDiskLeft, err)
		}
		err = f()
	}
	return err
}

// pause waits; false if the database is being closed.
func (d *disk) pause(wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.leave:
		return false
	}
}

func (d *disk) say(name string, err error) {
	d.mu.Lock()
	due := time.Since(d.mu.said) >= loudEvery
	if due {
		d.mu.said = time.Now()
	}
	d.mu.Unlock()
	if due {
		d.log.Error("no room on disk for state, writing waits", slog.String("file", name), slog.Any("error", err))
	}
}

// Create waits for room.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = d.retry(name, func() error {
		f, err = d.inner.Create(name, category)
		return err
	})
	return d.file(f, name, err)
}

// OpenReadWrite waits for room.
func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (f vfs.File, err error) {
	err = d.retry(name, func() error {
		f, err = d.inner.OpenReadWrite(name, category, opts...)
		return err
	})
	return d.file(f, name, err)
}

// ReuseForWrite waits for room.
func (d *disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = d.retry(newname, func() error {
		f, err = d.inner.ReuseForWrite(oldname, newname, category)
		return err
	})
	return d.file(f, newname, err)
}

func (d *disk) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

// Link waits for room.
func (d *disk) Link(oldname, newname string) error {
	return d.retry(newname, func() error { return d.inner.Link(oldname, newname) })
}

// Rename waits for room.
func (d *disk) Rename(oldname, newname string) error {
	return d.retry(newname, func() error { return d.inner.Rename(oldname, newname) })
}

// MkdirAll waits for room.
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.retry(dir, func() error { return d.inner.MkdirAll(dir, perm) })
}

// Lock waits for room.
func (d *disk) Lock(name string) (c io.Closer, err error) {
	err = d.retry(name, func() error {
		c, err = d.inner.Lock(name)
		return err
	})
	return c, err
}

// Open is the inner file system's.
func (d *disk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.inner.Open(name, opts...)
}

// OpenDir is the inner file system's.
func (d *disk) OpenDir(name string) (vfs.File, error) { return d.inner.OpenDir(name) }

// Remove is the inner file system's.
func (d *disk) Remove(name string) error { return d.inner.Remove(name) }

// RemoveAll is the inner file system's.
func (d *disk) RemoveAll(name string) error { return d.inner.RemoveAll(name) }

// List is the inner file system's.
func (d *disk) List(dir string) ([]string, error) { return d.inner.List(dir) }

// Stat is the inner file system's.
func (d *disk) Stat(name string) (vfs.FileInfo, error) { return d.inner.Stat(name) }

// PathBase is the inner file system's.
func (d *disk) PathBase(path string) string { return d.inner.PathBase(path) }

// PathJoin is the inner file system's.
func (d *disk) PathJoin(elem ...string) string { return d.inner.PathJoin(elem...) }

// PathDir is the inner file system's.
func (d *disk) PathDir(path string) string { return d.inner.PathDir(path) }

// GetDiskUsage is the inner file system's.
func (d *disk) GetDiskUsage(path string) (vfs.DiskUsage, error) { return d.inner.GetDiskUsage(path) }

// Unwrap returns the inner file system.
func (d *disk) Unwrap() vfs.FS { return d.inner }

type diskFile struct {
	vfs.File
	disk *disk
	name string
}

// Write waits for room, and goes on behind what was written before there was none.
func (f *diskFile) Write(p []byte) (int, error) {
	done := 0
	err := f.disk.retry(f.name, func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	return done, err
}

// WriteAt waits for room.
func (f *diskFile) WriteAt(p []byte, offset int64) (n int, err error) {
	err = f.disk.retry(f.name, func() error {
		n, err = f.File.WriteAt(p, offset)
		return err
	})
	return n, err
}

// Preallocate waits for room.
func (f *diskFile) Preallocate(offset, length int64) error {
	return f.disk.retry(f.name, func() error { return f.File.Preallocate(offset, length) })
}

// Sync returns a failure after a pause.
func (f *diskFile) Sync() error { return f.after(f.File.Sync()) }

// SyncData is as Sync.
func (f *diskFile) SyncData() error { return f.after(f.File.SyncData()) }

// SyncTo is as Sync.
func (f *diskFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.after(err)
}

func (f *diskFile) after(err error) error {
	if err != nil {
		if vfs.IsNoSpaceError(err) {
			f.disk.say(f.name, err)
		}
		f.disk.pause(fullBackoff)
	}
	return err
}
