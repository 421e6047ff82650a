package savepoint

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// Outside is a savepoint outside of a checkpoint store: a folder or a tar file. Close it.
type Outside interface {
	Folder
	io.Closer
	// Name is what the savepoint was called, as the path tells it.
	Name() string
}

// OpenPath finds a savepoint in a folder, the copy of one in a store, or in a tar file that [Export] made. Error kind:
// fault.Misconfigured when there is none.
func OpenPath(path string) (Outside, error) {
	const op = "savepoint.OpenPath"
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, fault.E(op, fault.Misconfigured, err)
		}
		return &directory{root}, nil
	}
	a, err := openArchive(path)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("%s: %w", path, err))
	}
	return a, nil
}

// directory is a folder of the file system. Its names can't lead out of it.
type directory struct{ root *os.Root }

func (d *directory) Name() string {
	abs, err := filepath.Abs(d.root.Name())
	if err != nil {
		abs = d.root.Name()
	}
	return filepath.Base(abs)
}

func (d *directory) Close() error { return d.root.Close() }

func (d *directory) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	f, err := d.root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, checkpoint.ErrNotExist)
	}
	if err != nil {
		return nil, fault.E("savepoint.Get", fault.Transient, err)
	}
	data, err := readAll(f, limit)
	return data, errors.Join(err, f.Close())
}

// readAll reads what has at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fault.E("savepoint.Get", fault.Transient, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.E("savepoint.Get", fault.Corrupt, fmt.Errorf("it has more than %d bytes", limit))
	}
	return data, nil
}

// archive is a tar file. Its entries are looked up, and read when they are asked for.
type archive struct {
	file    *os.File
	name    string
	entries map[string]extent // by name below the savepoint's folder
}

// extent is where an entry's bytes are in the file.
type extent struct{ at, size int64 }

func openArchive(path string) (*archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, entries: map[string]extent{}}
	if err := a.scan(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// scan finds the entries. A file that is cut off is found when an object is asked for that is not whole.
func (a *archive) scan() error {
	r := tar.NewReader(a.file)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) || err != nil && a.name != "" {
			break
		}
		if err != nil {
			return errors.New("it is neither a folder nor a tar file")
		}
		top, name, ok := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg || !ok {
			continue
		}
		if a.name == "" {
			a.name = top
		}
		at, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if _, again := a.entries[name]; again || top != a.name {
			return fmt.Errorf("entry %q has no place in a savepoint", h.Name)
		}
		a.entries[name] = extent{at, h.Size}
	}
	if a.name == "" {
		return errors.New("there is no savepoint in it")
	}
	return nil
}

func (a *archive) Name() string { return a.name }

func (a *archive) Close() error { return a.file.Close() }

func (a *archive) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	e, ok := a.entries[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, checkpoint.ErrNotExist)
	}
	return readAll(io.NewSectionReader(a.file, e.at, e.size), limit)
}

// Export writes a savepoint as one tar file. Every object is checked on the way. It fails with the kinds of [Savepoint.Get], and what
// was written until then is not to be used.
func Export(ctx context.Context, s *Savepoint, name string, out io.Writer) error {
	const op = "savepoint.Export"
	w := tar.NewWriter(out)
	write := func(as string, data []byte) error {
		const readable = 0o644
		err := w.WriteHeader(&tar.Header{
			Name: name + "/" + as, Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: readable, ModTime: time.UnixMilli(s.Made).UTC().Truncate(time.Second),
		})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			return fault.E(op, fault.Transient, err)
		}
		return nil
	}
	index, err := checkpoint.EncodeObject(kindIndex, &s.Index)
	if err != nil {
		return err
	}
	if err := write(indexName, index); err != nil {
		return err
	}
	for _, o := range s.Objects {
		data, err := s.Get(ctx, o.Name)
		if err != nil {
			return err
		}
		if err := write(s.Folder+"/"+o.Name, data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	return nil
}
