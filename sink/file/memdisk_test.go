package file

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// memDisk is a file system in memory that can lose power. It is as bad as a file system may be: what is written to a file may be
// gone, or be zeros, until the file is forced to the disk; a name, made, moved or removed, may be as before until its folder is. A
// move is done in one step, but when only the new name's folder was forced, the old name may come back beside it.
type memDisk struct {
	mu      sync.Mutex
	root    *node
	changes []*change // of names, not yet durable
}

type node struct {
	folder  bool
	data    []byte
	durable []byte           // what Sync has seen
	names   map[string]*node // as they are
	kept    map[string]*node // as they are on the disk
}

// change is one or, for a move, two changes of names.
type change struct {
	dirs   []*node
	names  []string
	nodes  []*node // nil: the name is removed
	synced []bool
}

var _ disk = (*memDisk)(nil)

func newFolder() *node {
	return &node{folder: true, names: map[string]*node{}, kept: map[string]*node{}}
}

func newMemDisk() *memDisk { return &memDisk{root: newFolder()} }

func (m *memDisk) find(name string) (*node, error) {
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		next := n.names[part]
		if !n.folder || next == nil {
			return nil, &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
		}
		n = next
	}
	return n, nil
}

func (m *memDisk) parent(name string) (*node, string, error) {
	dir, err := m.find(path.Dir(name))
	if err == nil && !dir.folder {
		err = &fs.PathError{Op: "find", Path: name, Err: fs.ErrInvalid}
	}
	return dir, path.Base(name), err
}

func (m *memDisk) set(dir *node, name string, n *node) *change {
	if n == nil {
		delete(dir.names, name)
	} else {
		dir.names[name] = n
	}
	c := &change{dirs: []*node{dir}, names: []string{name}, nodes: []*node{n}, synced: []bool{false}}
	m.changes = append(m.changes, c)
	return c
}

func (m *memDisk) Open(name string, how openMode) (handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	switch {
	case err == nil && how == openNew:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case err == nil && how == openReplace:
		n.data = nil
	case err != nil && (how == openNew || how == openReplace):
		dir, base, err := m.parent(name)
		if err != nil {
			return nil, err
		}
		n = &node{}
		m.set(dir, base, n)
	case err != nil:
		return nil, err
	}
	return &memHandle{disk: m, node: n}, nil
}

func (m *memDisk) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find(name); err == nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return err
	}
	m.set(dir, base, newFolder())
	return nil
}

func (m *memDisk) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(from)
	if err != nil {
		return err
	}
	fromDir, fromName, err := m.parent(from)
	if err != nil {
		return err
	}
	toDir, toName, err := m.parent(to)
	if err != nil {
		return err
	}
	old := toDir.names[toName]
	switch {
	case old == n:
		return nil // two names of one file: POSIX does nothing
	case old != nil && old.folder && len(old.names) > 0:
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	toDir.names[toName] = n
	delete(fromDir.names, fromName)
	m.changes = append(m.changes, &change{
		dirs: []*node{toDir, fromDir}, names: []string{toName, fromName}, nodes: []*node{n, nil}, synced: []bool{false, false},
	})
	return nil
}

func (m *memDisk) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find(name); err != nil {
		return err
	}
	dir, base, err := m.parent(name)
	if err != nil {
		return err
	}
	m.set(dir, base, nil)
	return nil
}

func (m *memDisk) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

func (m *memDisk) Size(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return 0, err
	}
	return int64(len(n.data)), nil
}

// sync makes a file's bytes or a folder's names durable.
func (m *memDisk) sync(n *node) {
	if !n.folder {
		n.durable = bytes.Clone(n.data)
		return
	}
	m.changes = slices.DeleteFunc(m.changes, func(c *change) bool {
		all := true
		for i := range c.dirs {
			c.synced[i] = c.synced[i] || c.dirs[i] == n
			all = all && c.synced[i]
		}
		if all {
			c.keep(len(c.dirs))
		}
		return all
	})
}

// keep puts the first parts of a change on the disk.
func (c *change) keep(parts int) {
	for i := range parts {
		if c.nodes[i] == nil {
			delete(c.dirs[i].kept, c.names[i])
		} else {
			c.dirs[i].kept[c.names[i]] = c.nodes[i]
		}
	}
}

// losePower drops what is not durable: everything with seed 0, else what the seed chooses.
func (m *memDisk) losePower(seed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	random := rand.New(rand.NewPCG(seed, 1))
	for _, c := range m.changes {
		switch {
		case seed == 0:
		case random.IntN(2) == 0:
			c.keep(len(c.dirs))
		case len(c.dirs) == 2 && c.synced[0]:
			c.keep(1) // the new name is durable, the old one came back
		}
	}
	m.changes = nil
	m.root.reboot(random, seed, map[*node]bool{})
}

func (n *node) reboot(random *rand.Rand, seed uint64, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.folder {
		n.names = maps.Clone(n.kept)
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			n.names[name].reboot(random, seed, seen)
		}
		return
	}
	data := bytes.Clone(n.durable)
	if extra := len(n.data) - len(data); extra > 0 && seed != 0 {
		tail := bytes.Clone(n.data[len(data):][:random.IntN(extra+1)])
		if random.IntN(2) == 0 {
			clear(tail) // the length was written, the bytes were not
		}
		data = append(data, tail...)
	}
	n.data, n.durable = data, bytes.Clone(data)
}

type memHandle struct {
	disk *memDisk
	node *node
	at   int
}

func (h *memHandle) Read(b []byte) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if h.at >= len(h.node.data) {
		return 0, io.EOF
	}
	n := copy(b, h.node.data[h.at:])
	h.at += n
	return n, nil
}

func (h *memHandle) Write(b []byte) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.node.data = append(h.node.data, b...)
	return len(b), nil
}

func (h *memHandle) Sync() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.disk.sync(h.node)
	return nil
}

func (h *memHandle) Close() error { return nil }

// faultyDisk is one process's view of a disk.
type faultyDisk struct {
	disk
	faults *sinktest.Faults
	flaw   flaw
}

// flaw is one way to do it wrong, for the tests that show that the suite finds it.
type flaw uint8

const (
	faultless     flaw = iota
	skipsFileSync      // files are not forced to the disk
	skipsDirSync       // folders are not
	skipsRootSync      // the folder of the final names is not
	entryIsDone        // an entry is taken for a commit, though the file was not renamed
	seesNoMarks        // the marks of other runs are not seen
	flawsEnd
)

func (d *faultyDisk) Open(name string, how openMode) (h handle, err error) {
	err = d.faults.Do(fmt.Sprintf("open %s", name), func() (err error) {
		h, err = d.disk.Open(name, how)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultyHandle{handle: h, disk: d, name: name}, nil
}

func (d *faultyDisk) Mkdir(name string) error {
	return d.faults.Do("mkdir "+name, func() error { return d.disk.Mkdir(name) })
}

func (d *faultyDisk) Rename(from, to string) error {
	return d.faults.Do("rename "+from+" "+to, func() error { return d.disk.Rename(from, to) })
}

func (d *faultyDisk) Remove(name string) error {
	return d.faults.Do("remove "+name, func() error { return d.disk.Remove(name) })
}

func (d *faultyDisk) List(dir string) (names []string, err error) {
	err = d.faults.Do("list "+dir, func() (err error) {
		names, err = d.disk.List(dir)
		if d.flaw == seesNoMarks && strings.HasSuffix(dir, "/fence") {
			names = nil
		}
		return err
	})
	return names, err
}

func (d *faultyDisk) Size(name string) (size int64, err error) {
	err = d.faults.Do("size "+name, func() (err error) {
		size, err = d.disk.Size(name)
		if d.flaw == entryIsDone && d.entered(path.Base(name)) {
			err = fs.ErrNotExist
		}
		return err
	})
	return size, err
}

// entered tells whether an entry of the ledger names a file in progress.
func (d *faultyDisk) entered(temp string) bool {
	l := newLayout(sink.Identity{Pipeline: "suite", Sink: "sink"})
	g, err := readLedger(d.disk, l)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(g.entries, func(p place) bool {
		e, err := readEntry(d.disk, l, p)
		return err == nil && e.Temp == temp
	})
}

type faultyHandle struct {
	handle
	disk *faultyDisk
	name string
}

func (h *faultyHandle) Read(b []byte) (n int, err error) {
	if h.disk.faults.Dead() {
		return 0, io.ErrUnexpectedEOF
	}
	return h.handle.Read(b)
}

func (h *faultyHandle) Write(b []byte) (n int, err error) {
	err = h.disk.faults.Do("write "+h.name, func() (err error) {
		n, err = h.handle.Write(b)
		return err
	})
	return n, err
}

func (h *faultyHandle) Sync() error {
	return h.disk.faults.Do("sync "+h.name, func() error {
		folder := h.isFolder()
		switch {
		case h.disk.flaw == skipsDirSync && folder, h.disk.flaw == skipsFileSync && !folder, h.disk.flaw == skipsRootSync && h.name == ".":
			return nil
		}
		return h.handle.Sync()
	})
}

func (h *faultyHandle) isFolder() bool {
	m, ok := h.handle.(*memHandle)
	return ok && m.node.folder
}
