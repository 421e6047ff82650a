//go:build unix

package file

import "syscall"

// Writable tells whether this process may make files in the folder. It makes none.
func (d osDisk) Writable() error {
	const writeAndSearch = 2 | 1
	return syscall.Access(d.root, writeAndSearch)
}
