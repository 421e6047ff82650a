package filestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// Goal: Open refuses a directory that can't hold a store, at once and with the reason.
func TestOpen_refusesWhatIsNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{path, filepath.Join(path, "store")} {
		if _, err := Open(dir); err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("got %v from Open(%q), want fault.Misconfigured", err, dir)
		}
	}
}

// unlike is a disk that lacks what the store rests on.
type unlike struct {
	disk
	link func(from, to string) error
}

func (u unlike) Link(from, to string) error { return u.link(from, to) }

func TestProbe_findsWhatTheFileSystemLacks(t *testing.T) {
	for _, c := range []struct {
		name string
		fs   fileSystem
		want string
	}{
		{"no links", unlike{link: func(_, to string) error { return &os.LinkError{Op: "link", New: to, Err: syscall.EPERM} }}, "no hard links"},
		{"links that replace", unlike{link: func(from, to string) error {
			if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return os.Link(from, to)
		}}, "replace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(c.fs, t.TempDir(), "test")
			if err := s.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := s.probe(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error about %q", err, c.want)
			}
			if left := temps(t, s.root); len(left) > 0 {
				t.Errorf("got %q left, want nothing", left)
			}
		})
	}
}

// Goal: temporary files of the dead go and those of the living stay. Method: a file as a dead writer leaves it, and two stores
// of which one stays open.
func TestOpen_removesTemporaryFilesOnlyOfTheDead(t *testing.T) {
	root := t.TempDir()
	first, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	temp, err := first.writeTemp([]byte("under way"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp); err != nil {
		t.Fatalf("got %v after another Open, want the living writer's file", err)
	}
	if err := errors.Join(first.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	third, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if left := temps(t, root); len(left) > 0 {
		t.Errorf("got %q after all writers were gone, want nothing", left)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_removesEmptyFoldersAndNothingElse(t *testing.T) {
	root := t.TempDir()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p/staging/0/1/1", "p/staging/0/2/1", "p/log/0/1"} {
		if err := s.Create(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "p/staging/0/1/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "p/staging/0/1")); err != nil {
		t.Fatalf("got %v after Delete, want the folder to stay while the store is open", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "p/staging/0/1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v for an empty folder after Open, want it gone", err)
	}
	names, err := s.List(t.Context(), "", "")
	if want := []string{"p/log/0/1", "p/staging/0/2/1"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v, want %q", names, err, want)
	}
	if err := s.Create(t.Context(), "p/staging/0/1/1", nil); err != nil {
		t.Errorf("Create in a folder that was removed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Goal: what people and programs leave in the directory is no object.
func TestList_ignoresForeignFiles(t *testing.T) {
	root := t.TempDir()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(t.Context(), "p/a", nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p/a~", "p/.a.swp#", "lost+found"} {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(root, "p/link")); err != nil {
		t.Fatal(err)
	}
	if names, err := s.List(t.Context(), "", ""); err != nil || !slices.Equal(names, []string{"p/a"}) {
		t.Errorf("got %q, %v, want only p/a", names, err)
	}
}

// Goal: a directory keeps names apart that another store would not. A clash is a person's mistake, and nothing happens.
func TestCreate_refusesANameBelowAnObject(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"p/a", "p/f/b"} {
		if err := s.Create(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"p/a/b", "p/a/b/c", "p/f", "p"} {
		err := s.Create(t.Context(), name, []byte("y"))
		if err == nil || fault.KindOf(err) != fault.Misconfigured || errors.Is(err, checkpoint.ErrExists) {
			t.Errorf("got %v from Create(%q), want fault.Misconfigured", err, name)
		}
	}
}

func TestClassifyChange_knowsWhatHadNoEffect(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		want  fault.Kind
		why   string
	}{
		{syscall.ENOSPC, fault.Transient, "no room for the entry"},
		{syscall.EDQUOT, fault.Transient, "no quota for the entry"},
		{syscall.EMLINK, fault.Transient, "too many names of the file"},
		{syscall.EACCES, fault.Transient, "the folder is not ours"},
		{syscall.EPERM, fault.Transient, "links are forbidden"},
		{syscall.EROFS, fault.Transient, "mounted read-only, perhaps after an error of the disk"},
		{syscall.ENOENT, fault.Transient, "the folder was removed"},
		{syscall.EXDEV, fault.Transient, "another file system is mounted inside the store"},
		{syscall.EIO, fault.Unknown, "the disk failed somewhere on the way"},
		{syscall.ESTALE, fault.Unknown, "a server forgot the file, perhaps after the link"},
		{syscall.ETIMEDOUT, fault.Unknown, "a server's answer was lost"},
		{syscall.EINTR, fault.Unknown, "a signal came, perhaps after the request was sent"},
	} {
		err := &os.LinkError{Op: "link", Old: "a", New: "b", Err: c.errno}
		if got := classifyChange(err); got != c.want {
			t.Errorf("got %v for %v, want %v: %s", got, c.errno, c.want, c.why)
		}
	}
}

// temps lists the temporary files of a store.
func temps(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, tempFolder))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != presenceName {
			names = append(names, e.Name())
		}
	}
	return names
}
