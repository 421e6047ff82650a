// Package filestore keeps a checkpoint store in a local directory.
//
// Each object is a file under its own name. It is written to a temporary file, synced, and linked to its name by link(2), which
// fails when the name is taken; then the directory is synced. So a name shows nothing or a whole object, at every moment and
// after a power failure, and of any number of writers one wins.
//
// The file system must be local, or behave so: link(2) and fsync on directories are tried by [Open].
package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

var _ checkpoint.Store = (*Store)(nil)

// Names with "~" are the store's own: no object's name has one.
const (
	tempFolder   = "~tmp"
	presenceName = "lock"
)

// Store is a directory of objects. It may be used by several goroutines, and several processes may have the same directory
// open.
//
// What Get and GetRange return is durable, even when its creator died before it synced the directory: a decision that was read
// can't be taken back by a power failure. Delete is durable too, so that a manifest is gone for ever before its files are.
type Store struct {
	fs       fileSystem
	root     string
	instance string // distinguishes the temporary files of each open store
	temps    atomic.Uint64
	presence io.Closer

	mu struct {
		sync.Mutex
		// durable are the directories whose own entry is known to be durable, by path. While the store is open nobody removes
		// a directory.
		durable map[string]bool
	}
}

// Open returns the store in the directory dir, which is made if need be. Temporary files of writers that died are removed when
// nobody else has the store open: every open store holds a shared lock on a file beside them from before its first one until
// Close, and the kernel drops it when the process ends, so whoever gets that lock exclusively knows that no writer is alive.
// Empty directories go at the same moment.
//
// Error kinds: fault.Misconfigured when the directory can't be used, or when its file system lacks what a store needs.
func Open(dir string) (*Store, error) {
	const op = "checkpoint/filestore.Open"
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	s := newStore(disk{}, root, rand.Text())
	if err := s.prepare(); err != nil {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("store %s: %w", root, err))
	}
	p, err := enter(filepath.Join(root, tempFolder, presenceName), s.removeLeftovers)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("store %s: %w", root, err))
	}
	s.presence = p
	if err := s.probe(); err != nil {
		return nil, fault.E(op, fault.Misconfigured, errors.Join(fmt.Errorf("store %s: %w", root, err), s.Close()))
	}
	return s, nil
}

// Close gives the directory up. Calls under way must have returned.
func (s *Store) Close() error {
	if err := s.presence.Close(); err != nil {
		return fault.E("checkpoint/filestore.Close", fault.Transient, err)
	}
	return nil
}

// newStore returns a store that has not touched the disk yet.
func newStore(fsys fileSystem, root, instance string) *Store {
	s := &Store{fs: fsys, root: root, instance: instance}
	s.mu.durable = map[string]bool{}
	return s
}

// prepare makes the directories that every store has.
func (s *Store) prepare() error {
	if err := s.ensureRoot(); err != nil {
		return err
	}
	if err := s.fs.Mkdir(filepath.Join(s.root, tempFolder)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// ensureRoot makes the root and what is missing above it, durably. A root that is there, below a folder that we may not read,
// was made by whoever owns that folder.
func (s *Store) ensureRoot() error {
	missing := []string{}
	dir := s.root
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		err := s.isDir(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, dir)
	}
	if err := s.syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, path := range slices.Backward(missing) {
		if err := s.fs.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.syncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// isDir returns nil if path is a directory.
func (s *Store) isDir(path string) error {
	f, err := s.fs.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: %w", path, syscall.ENOTDIR)
	}
	return errors.Join(err, f.Close())
}

// probe finds out whether the file system does what the store rests on.
func (s *Store) probe() error {
	temp, err := s.writeTemp([]byte("probe"))
	if err != nil {
		return err
	}
	second := temp + "-link"
	err = s.fs.Link(temp, second)
	switch {
	case err != nil:
		err = fmt.Errorf("the file system has no hard links: %w", err)
	case !errors.Is(s.fs.Link(temp, second), fs.ErrExist):
		err = errors.New("the file system lets a second link replace a first")
	default:
		err = s.syncDir(s.root)
	}
	s.discard(second)
	s.discard(temp)
	return err
}

// Create implements [checkpoint.Store]. Besides that contract it returns fault.Misconfigured, and does nothing, when name is none
// or when a part of it is an object.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	const op = "checkpoint/filestore.Create"
	if err := checkpoint.CheckName(name); err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	path := s.path(name)
	if err := s.ensureDirs(filepath.Dir(path)); err != nil {
		return fault.E(op, classifyBefore(err), fmt.Errorf("%s: %w", name, err))
	}
	temp, err := s.writeTemp(data)
	if err != nil {
		return fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, err))
	}
	err = s.fs.Link(temp, path)
	s.discard(temp)
	switch {
	case errors.Is(err, fs.ErrExist):
		return s.taken(op, name, path)
	case err != nil:
		return fault.E(op, classifyChange(err), fmt.Errorf("%s: %w", name, err))
	}
	if err := s.syncDir(filepath.Dir(path)); err != nil {
		return fault.E(op, fault.Unknown, fmt.Errorf("%s: is there, perhaps not for ever: %w", name, err))
	}
	return nil
}

// taken tells an object under a name from a directory, which is none.
func (s *Store) taken(op fault.Op, name, path string) error {
	f, err := s.fs.Open(path)
	if err == nil {
		info, statErr := f.Stat()
		f.Close() //nolint:errcheck // only opened to look at it
		if statErr == nil && info.IsDir() {
			return fault.E(op, fault.Misconfigured, fmt.Errorf("%s: other objects lie below this name", name))
		}
	}
	return fault.E(op, fault.Unknown, fmt.Errorf("%s: %w", name, checkpoint.ErrExists))
}

// Get implements [checkpoint.Store]. Error kinds: fault.Transient, fault.Misconfigured for what is no name.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	const op = "checkpoint/filestore.Get"
	if err := checkpoint.CheckName(name); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	data, err := s.read(ctx, name, 0, math.MaxInt64)
	if err != nil {
		return nil, fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, err))
	}
	return data, nil
}

// GetRange implements [checkpoint.Store]. Error kinds as Get; a negative offset or length is fault.Misconfigured.
func (s *Store) GetRange(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	const op = "checkpoint/filestore.GetRange"
	if err := checkpoint.CheckName(name); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if offset < 0 || length < 0 {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("%s: %d bytes from %d", name, length, offset))
	}
	data, err := s.read(ctx, name, offset, length)
	if err != nil {
		return nil, fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, err))
	}
	return data, nil
}

// read returns a part of an object that is durable.
func (s *Store) read(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := s.path(name)
	f, err := s.fs.Open(path)
	switch {
	case noDirectory(err):
		return nil, checkpoint.ErrNotExist
	case err != nil:
		return nil, err
	}
	data, err := readRange(f, offset, length)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	// The creator may have died between link and sync. Whoever acts on what is read here must be able to read it again. The
	// folders above it were durable before the link.
	if err := s.syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return data, nil
}

func readRange(f file, offset, length int64) ([]byte, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, checkpoint.ErrNotExist
	}
	data := make([]byte, min(length, max(info.Size()-offset, 0)))
	n, err := f.ReadAt(data, offset)
	if n == len(data) {
		return data, nil
	}
	return nil, fmt.Errorf("read %d of %d bytes at %d: %w", n, len(data), offset, err)
}

// List implements [checkpoint.Store]. Files whose names are none of an object are not listed. A name may be listed before it is
// durable. Error kinds: fault.Transient, fault.Misconfigured for a prefix that no name has.
func (s *Store) List(ctx context.Context, prefix, after string) ([]string, error) {
	const op = "checkpoint/filestore.List"
	folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
	if folder != "" {
		if err := checkpoint.CheckName(strings.TrimSuffix(folder, "/")); err != nil {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("prefix %q: %w", prefix, err))
		}
	}
	var names []string
	keep := func(name string) {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	if err := s.walk(ctx, folder, keep); err != nil {
		return nil, fault.E(op, fault.Transient, fmt.Errorf("prefix %q: %w", prefix, err))
	}
	slices.Sort(names) // "a-b" < "a/b" < "a0": the order of folders is another
	return names, nil
}

// walk calls see with each object's name below folder, which is "" or ends with a slash.
func (s *Store) walk(ctx context.Context, folder string, see func(name string)) error {
	folders := []string{folder}
	for len(folders) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		folder, folders = folders[len(folders)-1], folders[:len(folders)-1]
		entries, err := s.fs.ReadDir(s.path(folder))
		if err != nil && !noDirectory(err) {
			return err
		}
		for _, e := range entries {
			name := folder + e.Name()
			switch {
			case checkpoint.CheckName(name) != nil:
			case e.IsDir():
				folders = append(folders, name+"/")
			case e.Type().IsRegular():
				see(name)
			}
		}
	}
	return nil
}

// Delete implements [checkpoint.Store], durably. Error kinds: fault.Transient when nothing was removed, fault.Misconfigured for
// what is no name, else fault.Unknown.
func (s *Store) Delete(ctx context.Context, name string) error {
	const op = "checkpoint/filestore.Delete"
	if err := checkpoint.CheckName(name); err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	path := s.path(name)
	// A directory under the name is no object. Remove would take an empty one away, which other stores know to be durable.
	f, err := s.fs.Open(path)
	switch {
	case noDirectory(err):
		return s.deleted(op, name, path)
	case err != nil:
		return fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, err))
	}
	info, err := f.Stat()
	f.Close() //nolint:errcheck // only opened to look at it
	switch {
	case err != nil:
		return fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, err))
	case info.IsDir():
		return nil
	}
	if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.E(op, classifyChange(err), fmt.Errorf("%s: %w", name, err))
	}
	return s.deleted(op, name, path)
}

// deleted makes it durable that a name is gone, whoever removed it.
func (s *Store) deleted(op fault.Op, name, path string) error {
	if err := s.syncDir(filepath.Dir(path)); err != nil && !noDirectory(err) {
		return fault.E(op, fault.Unknown, fmt.Errorf("%s: is gone, perhaps not for ever: %w", name, err))
	}
	return nil
}

// path returns the place of an object or folder. The name was checked: it can't lead out of the root.
func (s *Store) path(name string) string { return filepath.Join(s.root, filepath.FromSlash(name)) }

// ensureDirs makes dir and what is missing between the root and it, durably. That a directory is there does not mean that its
// entry is durable: whoever made it may not have synced it yet, or have died before. So each is synced once by every store.
func (s *Store) ensureDirs(dir string) error {
	relative, err := filepath.Rel(s.root, dir)
	if err != nil {
		return err
	}
	parent := s.root
	for element := range strings.SplitSeq(relative, string(os.PathSeparator)) {
		path := filepath.Join(parent, element)
		if element == "." || s.isDurable(path) {
			parent = path
			continue
		}
		err := s.fs.Mkdir(path)
		if errors.Is(err, fs.ErrExist) {
			err = s.isDir(path)
		}
		if err != nil {
			return err
		}
		if err := s.syncDir(parent); err != nil {
			return err
		}
		s.setDurable(path)
		parent = path
	}
	return nil
}

func (s *Store) isDurable(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.durable[dir]
}

func (s *Store) setDurable(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.durable[dir] = true
}

func (s *Store) syncDir(dir string) error {
	f, err := s.fs.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeTemp returns the path of a new temporary file with data, synced.
func (s *Store) writeTemp(data []byte) (string, error) {
	path := filepath.Join(s.root, tempFolder, fmt.Sprintf("%s-%d", s.instance, s.temps.Add(1)))
	f, err := s.fs.Create(path)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	// What was synced stays so: an error of Close alone is still one that nothing has followed from.
	if err := errors.Join(err, f.Close()); err != nil {
		s.discard(path)
		return "", err
	}
	return path, nil
}

// discard removes a temporary file. What can't be removed is left for the next Open.
func (s *Store) discard(temp string) {
	s.fs.Remove(temp) //nolint:errcheck // a leftover takes space and does nothing else
}

// removeLeftovers removes temporary files and empty directories. It is called while nobody else has the store open.
func (s *Store) removeLeftovers() error {
	temps, err := s.fs.ReadDir(filepath.Join(s.root, tempFolder))
	if err != nil {
		return err
	}
	for _, e := range temps {
		if e.Name() != presenceName {
			s.discard(filepath.Join(s.root, tempFolder, e.Name()))
		}
	}
	return s.removeEmpty("")
}

// removeEmpty removes the directories below folder that have nothing in them, lowest first: each run leaves some.
func (s *Store) removeEmpty(folder string) error {
	entries, err := s.fs.ReadDir(s.path(folder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := folder + e.Name()
		if !e.IsDir() || checkpoint.CheckName(name) != nil {
			continue
		}
		if err := s.removeEmpty(name + "/"); err != nil {
			return err
		}
		s.fs.Remove(s.path(name)) //nolint:errcheck // fails when there is something in it, as it should
	}
	return nil
}
