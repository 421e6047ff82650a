package filestore

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/ingestd/ingestd/fault"
)

// classifyBefore gives the kind of an error before anything could be seen under the name.
func classifyBefore(err error) fault.Kind {
	if errors.Is(err, syscall.ENOTDIR) {
		return fault.Misconfigured // a part of the name is an object: it never will be a folder
	}
	return fault.Transient
}

// classifyChange gives the kind of an error of link(2) or unlink(2) itself.
func classifyChange(err error) fault.Kind {
	// The kernel refuses with these before it changes anything. With every other one, EIO above all, and with a server behind
	// the file system, the name may have changed.
	refused := []error{
		syscall.EACCES, syscall.EPERM, syscall.EROFS, // not allowed
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMLINK, syscall.ENOMEM, // no room
		syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EXDEV, syscall.EISDIR, // no such place
	}
	if slices.ContainsFunc(refused, func(e error) bool { return errors.Is(err, e) }) {
		return fault.Transient
	}
	return fault.Unknown
}

// noDirectory reports that a path does not exist, or leads through a file.
func noDirectory(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
