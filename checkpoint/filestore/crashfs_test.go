package filestore

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// errDead is what a process sees that is dead: every call after the one at which it died.
var errDead = errors.New("the process is dead")

// world is a disk with its page cache. What is not synced is lost, kept or torn when the power fails, entry by entry and file by
// file: no order between them is promised.
type world struct{ root *node }

// node is an inode.
type node struct {
	dir bool
	// A file's bytes as they are seen, and as they are durable.
	seen, durable []byte
	// A directory's entries as they are seen, and the changes of each name that are not durable yet, oldest first: the first
	// is the durable state.
	entries map[string]*node
	history map[string][]*node
}

func newWorld() *world { return &world{root: newDir()} }

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, history: map[string][]*node{}}
}

func (w *world) find(p string) (*node, error) {
	n := w.root
	for element := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if element == "" {
			continue
		}
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		n = n.entries[element]
		if n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// set changes an entry, to nil when it goes.
func (n *node) set(name string, to *node) {
	if len(n.history[name]) == 0 {
		n.history[name] = []*node{n.entries[name]}
	}
	n.history[name] = append(n.history[name], to)
	if to == nil {
		delete(n.entries, name)
		return
	}
	n.entries[name] = to
}

func (n *node) sync() {
	n.durable = slices.Clone(n.seen)
	n.history = map[string][]*node{}
}

// image returns the disk after a power failure. Choose picks one of n possibilities for everything that was not synced.
func (w *world) image(choose func(n int) int) *world {
	copies := map[*node]*node{}
	var copyNode func(n *node) *node
	copyNode = func(n *node) *node {
		if c := copies[n]; c != nil {
			return c
		}
		if !n.dir {
			c := &node{seen: tear(n, choose)}
			c.durable = slices.Clone(c.seen)
			copies[n] = c
			return c
		}
		c := newDir()
		copies[n] = c
		names := slices.Collect(maps.Keys(n.entries))
		for name := range n.history {
			if n.entries[name] == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			states := n.history[name]
			if len(states) == 0 {
				states = []*node{n.entries[name]}
			}
			if state := states[choose(len(states))]; state != nil {
				c.entries[name] = copyNode(state)
			}
		}
		return c
	}
	return &world{root: copyNode(w.root)}
}

// tear returns what is left of a file.
func tear(n *node, choose func(n int) int) []byte {
	if slices.Equal(n.seen, n.durable) {
		return slices.Clone(n.seen)
	}
	switch choose(4) {
	case 0:
		return slices.Clone(n.durable)
	case 1:
		return slices.Clone(n.seen[:len(n.seen)/2])
	case 2:
		return make([]byte, len(n.seen))
	}
	return slices.Clone(n.seen)
}

// accident is what happens to a process at one of its calls.
type accident uint8

const (
	dieBefore  accident = iota // it dies, and the call has no effect
	dieAfter                   // it dies, and the call has its effect
	failBefore                 // the call fails, and has no effect
	failAfter                  // the call fails, though it has its effect
)

// process is a fileSystem: one process that looks at a world and has an accident at its call number at.
type process struct {
	w        *world
	calls    int
	at       int // 0: no accident
	accident accident
	err      error // of a call that fails
	dead     bool
}

// do is one call: act is its effect.
func (p *process) do(act func() error) error {
	if p.dead {
		return errDead
	}
	p.calls++
	if p.calls != p.at {
		return act()
	}
	switch p.accident {
	case dieBefore:
		p.dead = true
		return errDead
	case dieAfter:
		act()
		p.dead = true
		return errDead
	case failBefore:
		return p.err
	case failAfter:
		act()
		return p.err
	}
	panic("unknown accident")
}

func (p *process) Open(name string) (file, error) {
	var f file
	err := p.do(func() error {
		n, err := p.w.find(name)
		f = &handle{p: p, n: n, name: path.Base(name)}
		return err
	})
	return f, err
}

func (p *process) Create(name string) (file, error) {
	var f file
	err := p.do(func() error {
		n := &node{}
		f = &handle{p: p, n: n, name: path.Base(name)}
		return p.w.add(name, n)
	})
	return f, err
}

func (p *process) Mkdir(name string) error {
	return p.do(func() error { return p.w.add(name, newDir()) })
}

func (p *process) Link(from, to string) error {
	return p.do(func() error {
		n, err := p.w.find(from)
		if err != nil {
			return err
		}
		return p.w.add(to, n)
	})
}

// rename replaces what is at to.
func (p *process) rename(from, to string) error {
	return p.do(func() error {
		n, err := p.w.find(from)
		if err != nil {
			return err
		}
		d, err := p.w.find(path.Dir(to))
		if err != nil {
			return err
		}
		d.set(path.Base(to), n)
		return p.w.remove(from)
	})
}

func (w *world) add(name string, n *node) error {
	d, err := w.find(path.Dir(name))
	switch {
	case err != nil:
		return err
	case !d.dir:
		return syscall.ENOTDIR
	case d.entries[path.Base(name)] != nil:
		return syscall.EEXIST
	}
	d.set(path.Base(name), n)
	return nil
}

func (p *process) Remove(name string) error {
	return p.do(func() error { return p.w.remove(name) })
}

func (w *world) remove(name string) error {
	n, err := w.find(name)
	if err != nil {
		return err
	}
	if n.dir && len(n.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	d, err := w.find(path.Dir(name))
	if err != nil {
		return err
	}
	d.set(path.Base(name), nil)
	return nil
}

func (p *process) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	err := p.do(func() error {
		d, err := p.w.find(name)
		if err != nil {
			return err
		}
		for child, n := range d.entries {
			out = append(out, fs.FileInfoToDirEntry(info{n, child}))
		}
		return nil
	})
	return out, err
}

// handle is an open file or directory of a process.
type handle struct {
	p    *process
	n    *node
	name string
}

func (h *handle) Write(data []byte) (int, error) {
	err := h.p.do(func() error {
		h.n.seen = append(h.n.seen, data...)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(data), nil
}

func (h *handle) ReadAt(data []byte, offset int64) (int, error) {
	n := 0
	err := h.p.do(func() error {
		if offset < int64(len(h.n.seen)) {
			n = copy(data, h.n.seen[offset:])
		}
		if n < len(data) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (h *handle) Sync() error {
	return h.p.do(func() error {
		h.n.sync()
		return nil
	})
}

func (h *handle) Stat() (fs.FileInfo, error) {
	return info{h.n, h.name}, h.p.do(func() error { return nil })
}

func (h *handle) Close() error { return h.p.do(func() error { return nil }) }

type info struct {
	n    *node
	name string
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.n.seen)) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.n.dir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | dirMode
	}
	return fileMode
}
