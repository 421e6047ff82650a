package filestore

import (
	"io"
	"io/fs"
	"os"
)

// Whoever may read the folder's group may read what the store keeps.
const (
	fileMode = 0o640
	dirMode  = 0o750
)

// fileSystem is all that the store does to a disk, so that tests can crash it at each single call. Paths are absolute.
type fileSystem interface {
	// Open opens a file or a directory for reading and for Sync.
	Open(path string) (file, error)
	// Create makes a new file for writing, or fails with fs.ErrExist.
	Create(path string) (file, error)
	// Link gives a file a second name, or fails with fs.ErrExist.
	Link(from, to string) error
	// Remove removes a name, or an empty directory.
	Remove(path string) error
	// Mkdir makes a directory, or fails with fs.ErrExist.
	Mkdir(path string) error
	// ReadDir lists a directory in any order.
	ReadDir(path string) ([]fs.DirEntry, error)
}

// file is an open file or directory.
type file interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes a file's bytes durable, or a directory's entries.
	Sync() error
	Stat() (fs.FileInfo, error)
}

// disk is the real file system.
type disk struct{}

func (disk) Open(path string) (file, error) { return os.Open(path) }

func (disk) Create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
}

func (disk) Link(from, to string) error                 { return os.Link(from, to) }
func (disk) Remove(path string) error                   { return os.Remove(path) }
func (disk) Mkdir(path string) error                    { return os.Mkdir(path, dirMode) }
func (disk) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }
