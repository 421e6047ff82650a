package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// disk is a folder of a file system. Names are relative to it, with slashes. What is written is durable after Sync of the file,
// and names are durable after Sync of the folder that holds them. It may be used by several goroutines at the same time.
type disk interface {
	// Open opens a file, or a folder for its Sync.
	Open(name string, how openMode) (handle, error)
	// Mkdir makes a folder; fs.ErrExist when something is there.
	Mkdir(name string) error
	// Rename moves a file or folder in one step. It replaces a file, and fails for a folder that is not empty.
	Rename(from, to string) error
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// List returns the names in a folder, sorted.
	List(dir string) ([]string, error)
	// Size returns the size of a file; fs.ErrNotExist when it is not there.
	Size(name string) (int64, error)
}

// handle is an open file.
type handle interface {
	io.ReadWriteCloser
	Sync() error
}

type openMode int

const (
	openRead    = openMode(os.O_RDONLY)
	openNew     = openMode(os.O_WRONLY | os.O_CREATE | os.O_EXCL)
	openReplace = openMode(os.O_WRONLY | os.O_CREATE | os.O_TRUNC)
	openAppend  = openMode(os.O_WRONLY | os.O_APPEND)
)

// Readers of the target run under other users.
const (
	filePerm   fs.FileMode = 0o644
	folderPerm fs.FileMode = 0o755
)

// osDisk is a folder of the machine.
type osDisk struct {
	root string
}

var _ disk = osDisk{}

func (d osDisk) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Open opens a file of the machine.
func (d osDisk) Open(name string, how openMode) (handle, error) {
	f, err := os.OpenFile(d.path(name), int(how), filePerm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir makes a folder; of the folder itself, ".", all parents too, and makes their names durable.
func (d osDisk) Mkdir(name string) error {
	if name != "." {
		return os.Mkdir(d.path(name), folderPerm)
	}
	root, err := filepath.Abs(d.root)
	if err != nil {
		return err
	}
	return mkdirAll(root)
}

func mkdirAll(dir string) error {
	err := os.Mkdir(dir, folderPerm)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := mkdirAll(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = os.Mkdir(dir, folderPerm)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	synced := syncName(osDisk{root: filepath.Dir(dir)}, ".")
	if errors.Is(synced, fs.ErrPermission) && err != nil {
		return err // it was there, below a folder that is not ours to read
	}
	return errors.Join(err, synced)
}

// Rename moves a file or folder of the machine.
func (d osDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// Remove removes a file or an empty folder of the machine.
func (d osDisk) Remove(name string) error { return os.Remove(d.path(name)) }

// List returns the names in a folder of the machine.
func (d osDisk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(d.path(dir))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Size returns the size of a file of the machine.
func (d osDisk) Size(name string) (int64, error) {
	info, err := os.Lstat(d.path(name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// syncName makes a file's bytes or a folder's names durable.
func syncName(d disk, name string) error {
	f, err := d.Open(name, openRead)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ensureDir makes a folder unless it is there, and makes its name durable in any case: who made it may have died before.
func ensureDir(d disk, name string) error {
	if err := d.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if name == "." {
		return nil
	}
	return syncName(d, path.Dir(name))
}

// writeFile writes a new small file and makes its bytes durable, not its name.
func writeFile(d disk, name string, data []byte) error {
	f, err := d.Open(name, openReplace)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// smallMax bounds what is read of a file that must be small.
const smallMax = 1 << 16

func readFile(d disk, name string) ([]byte, error) {
	f, err := d.Open(name, openRead)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, smallMax))
	return data, errors.Join(err, f.Close())
}

// gone reports whether a file is not there, or an error that leaves it open.
func gone(d disk, name string) (bool, error) {
	_, err := d.Size(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
