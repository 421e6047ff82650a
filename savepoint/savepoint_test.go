package savepoint

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// content is a savepoint of a checkpoint with two objects of keyed state.
func content() Content {
	names := []string{"state/0/0000000000000001/b000001-0", "state/0/0000000000000001/d0000000000000001"}
	man := checkpoint.Manifest{
		StoreID: "s", Pipeline: "p", Lease: 2, Checkpoint: 7, ConfigDigest: "d",
		Shards: []checkpoint.Shard{
			{ID: checkpoint.StateShard, Epoch: 1, Status: checkpoint.ShardOwned, State: &checkpoint.KeyedState{Groups: 4, Version: 1, Data: []byte("{}"), Objects: names}},
			{ID: "a/0", Epoch: 1, Status: checkpoint.ShardOwned, Splits: []source.Split{{Position: source.Position{Split: "a/0", Offset: 5}, Until: source.Unbounded}}},
		},
		Sinks: []checkpoint.SinkState{{Name: "sink", Lease: 2, Checkpoint: 6}},
	}
	return Content{
		Index:    Index{Made: 1_700_000_000_000, By: "me", Reason: "why", Version: "1", StoreID: "s", Pipeline: "p", Lease: 2, Checkpoint: 7, Log: 9},
		Manifest: man, Config: "[pipeline.p]\n",
		Get: func(_ context.Context, name string) ([]byte, error) { return []byte("bytes of " + name), nil },
	}
}

// made is a store with the savepoint "sp".
func made(t *testing.T) (*storetest.Memory, Place) {
	t.Helper()
	store := storetest.NewMemory(nil)
	p := Place{store, "p", "sp"}
	if _, err := p.Write(t.Context(), "n1", content()); err != nil {
		t.Fatal(err)
	}
	return store, p
}

func mustOpen(t *testing.T, f Folder) *Savepoint {
	t.Helper()
	s, err := Open(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// want checks the kind and the text of an error.
func want(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v of kind %v, want kind %v and %q", err, fault.KindOf(err), kind, text)
	}
}

// sameAs checks that a savepoint is whole and holds the content.
func sameAs(t *testing.T, s *Savepoint, c Content) {
	t.Helper()
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(c.Manifest, s.Manifest, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the manifest differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(c.Index, s.Index, cmpopts.IgnoreFields(Index{}, "Folder", "Objects")); diff != "" || s.Config != c.Config {
		t.Errorf("config %q; the index differs (-want +got):\n%s", s.Config, diff)
	}
	for _, name := range c.Manifest.State().Objects {
		got, err := s.Get(t.Context(), name)
		wanted, _ := c.Get(t.Context(), name)
		if err != nil || !bytes.Equal(got, wanted) {
			t.Errorf("object %s: got %q, %v", name, got, err)
		}
	}
}

func TestWrite_isReadBack(t *testing.T) {
	_, p := made(t)
	sameAs(t, mustOpen(t, p), content())
}

// Whatever call to the store fails, and in whatever way, a process that dies there included: a savepoint is listed only if it is whole,
// and the same name can be tried again.
func TestWrite_isThereWholeOrNotAtAll(t *testing.T) {
	for _, how := range []storetest.Fault{storetest.Refused, storetest.ReplyLost, storetest.RequestLost, storetest.Late} {
		for _, forGood := range []bool{false, true} {
			for at := 1; ; at++ {
				calls := 0
				broken := true
				store := storetest.NewMemory(func(c storetest.Call) storetest.Fault {
					calls = c.Number
					if broken && (c.Number == at || forGood && c.Number > at) {
						return how
					}
					return storetest.None
				})
				p := Place{store, "p", "sp"}
				_, err := p.Write(t.Context(), "n1", content())
				if calls < at {
					break
				}
				broken = false
				t.Run(fmt.Sprint(how, forGood, at), func(t *testing.T) { afterFault(t, store, p, err) })
			}
		}
	}
}

// afterFault checks what a write left that met a fault.
func afterFault(t *testing.T, store *storetest.Memory, p Place, result error) {
	t.Helper()
	store.Land()
	list, err := List(t.Context(), store, "p")
	if err != nil {
		t.Fatal(err)
	}
	there := len(list) == 1 && list[0].Err == nil
	if there {
		sameAs(t, mustOpen(t, p), content())
	}
	if (result == nil) != there && fault.KindOf(result) != fault.Unknown {
		t.Errorf("write answered %v, and the savepoint is there: %t", result, there)
	}
	_, err = p.Write(t.Context(), "n2", content())
	if there {
		want(t, err, fault.Misconfigured, ErrTaken.Error())
	} else if err != nil {
		t.Errorf("written again: %v", err)
	}
	sameAs(t, mustOpen(t, p), content())
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if left := store.Objects(); len(left) > 0 {
		t.Errorf("%d objects are left of a deleted savepoint", len(left))
	}
}

// An object that can't be had ends the making, and nothing is left.
func TestWrite_objectThatIsGone(t *testing.T) {
	store := storetest.NewMemory(nil)
	c := content()
	c.Get = func(context.Context, string) ([]byte, error) {
		return nil, fault.E("test", fault.Lost, errors.New("it is gone"))
	}
	_, err := Place{store, "p", "sp"}.Write(t.Context(), "n1", c)
	want(t, err, fault.Lost, "it is gone")
	if left := store.Objects(); len(left) > 0 {
		t.Errorf("left: %d objects", len(left))
	}
}

func TestWrite_refuses(t *testing.T) {
	store := storetest.NewMemory(nil)
	for _, name := range []string{"", "a/b", ".a", "-a", "a.tar", "ä", strings.Repeat("x", 101)} {
		_, err := Place{store, "p", name}.Write(t.Context(), "n", content())
		want(t, err, fault.Misconfigured, "can't be a savepoint's name")
	}
	if left := store.Objects(); len(left) > 0 {
		t.Errorf("left: %d objects", len(left))
	}
}

// Of two that make a savepoint of one name at the same time one wins, and what the other stored is gone.
func TestWrite_oneOfTwoWins(t *testing.T) {
	store := storetest.NewMemory(nil)
	p := Place{store, "p", "sp"}
	c := content()
	inner := c.Get
	once := false
	c.Get = func(ctx context.Context, name string) ([]byte, error) {
		if !once {
			once = true
			if _, err := p.Write(ctx, "n2", content()); err != nil {
				t.Error(err)
			}
		}
		return inner(ctx, name)
	}
	_, err := p.Write(t.Context(), "n1", c)
	if !errors.Is(err, ErrTaken) {
		t.Errorf("got %v, want ErrTaken", err)
	}
	sameAs(t, mustOpen(t, p), content())
	for name := range store.Objects() {
		if strings.Contains(name, "/n1/") {
			t.Errorf("left of the loser: %s", name)
		}
	}
}

// Every object that is missing, cut off, longer or with another byte is found by Verify, and by name; a damaged index or manifest by
// Open.
func TestVerify_findsEveryDamage(t *testing.T) {
	store, _ := made(t)
	whole := store.Objects()
	for name, data := range whole {
		for what, damaged := range map[string][]byte{
			"missing": nil, "empty": {}, "cut": data[:len(data)-1], "longer": append(slices.Clone(data), 'x'), "flipped": flip(data),
		} {
			t.Run(what+" "+name, func(t *testing.T) {
				err := verify(t, whole, name, damaged)
				kind, text := fault.Corrupt, filepath.Base(name)
				switch {
				case what == "missing" && strings.HasSuffix(name, "/index"):
					kind, text = fault.Misconfigured, "there is no savepoint"
				case what == "missing":
					kind, text = fault.Lost, "is missing"
				}
				want(t, err, kind, text)
			})
		}
	}
}

func flip(data []byte) []byte {
	out := slices.Clone(data)
	out[len(out)/2] ^= 1
	return out
}

// verify opens and verifies a savepoint with one other object; nil is a missing one.
func verify(t *testing.T, objects map[string][]byte, other string, data []byte) error {
	t.Helper()
	store := storetest.NewMemory(nil)
	for name, stored := range objects {
		if name == other {
			stored = data
		}
		if stored == nil {
			continue
		}
		if err := store.Create(t.Context(), name, stored); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), Place{store, "p", "sp"})
	if err != nil {
		return err
	}
	return s.Verify(t.Context())
}

// An index that is well formed and does not fit its manifest, or that leads out of its folder, is refused.
func TestOpen_refusesWhatDoesNotFit(t *testing.T) {
	store, p := made(t)
	objects := store.Objects()
	for what, change := range map[string]func(x *Index){
		"another checkpoint":   func(x *Index) { x.Checkpoint = 8 },
		"does not list":        func(x *Index) { x.Objects = x.Objects[:3] },
		"the index lists 5":    func(x *Index) { x.Objects = append(x.Objects, Object{"z", 0, x.Objects[0].Checksum}) },
		"stands behind":        func(x *Index) { x.Objects[0], x.Objects[1] = x.Objects[1], x.Objects[0] },
		"object name":          func(x *Index) { x.Objects[3].Name = "../../out" },
		"with the checksum":    func(x *Index) { x.Objects[0].Checksum = "00" },
		"folder":               func(x *Index) { x.Folder = "../n1" },
		"object \"config\" is": func(x *Index) { x.Folder = "n2" },
	} {
		t.Run(what, func(t *testing.T) {
			x := mustOpen(t, p).Index
			change(&x)
			data, err := checkpoint.EncodeObject(kindIndex, &x)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(t, objects, p.full(indexName), data); err == nil || what != "object \"config\" is" && !strings.Contains(err.Error(), what) {
				t.Errorf("got %v, want %q", err, what)
			}
		})
	}
}

// An exported savepoint is the same in another store and in a folder, and the same savepoint gives the same tar file.
func TestExport_andBack(t *testing.T) {
	store, p := made(t)
	dir := t.TempDir()
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := Export(t.Context(), mustOpen(t, p), "sp", out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two exports differ")
	}
	write(t, filepath.Join(dir, "sp.tar"), first.Bytes())
	for name, data := range store.Objects() {
		write(t, filepath.Join(dir, "copy", filepath.FromSlash(strings.TrimPrefix(name, "p/savepoints/"))), data)
	}
	for _, path := range []string{"sp.tar", "copy/sp"} {
		t.Run(path, func(t *testing.T) {
			from, err := OpenPath(filepath.Join(dir, path))
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			s := mustOpen(t, from)
			sameAs(t, s, content())
			to := Place{storetest.NewMemory(nil), "q", from.Name()}
			if err := to.Copy(t.Context(), "n9", s); err != nil {
				t.Fatal(err)
			}
			if from.Name() != "sp" {
				t.Errorf("it is called %q, want sp", from.Name())
			}
			sameAs(t, mustOpen(t, to), content())
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A tar file that is cut off anywhere is never taken for a whole one, and copying it leaves nothing in the store.
func TestOpenPath_cutOff(t *testing.T) {
	_, p := made(t)
	var b bytes.Buffer
	if err := Export(t.Context(), mustOpen(t, p), "sp", &b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.tar")
	const end = 1024 // two empty blocks, which nobody needs
	for n := 0; n < b.Len()-end; n += 100 {
		write(t, path, b.Bytes()[:n])
		store := storetest.NewMemory(nil)
		err := copyPath(t, path, Place{store, "p", "sp"})
		if err == nil && n < b.Len()-end-512 {
			t.Errorf("%d of %d bytes are taken for the whole", n, b.Len())
		}
		if left := store.Objects(); err != nil && len(left) > 0 {
			t.Errorf("%d bytes: %d objects are left", n, len(left))
		}
	}
}

func copyPath(t *testing.T, path string, to Place) error {
	t.Helper()
	from, err := OpenPath(path)
	if err != nil {
		return err
	}
	defer from.Close()
	s, err := Open(t.Context(), from)
	if err != nil {
		return err
	}
	return to.Copy(t.Context(), "n9", s)
}

func TestOpenPath_refuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text.tar"), []byte(strings.Repeat("no tar file\n", 100)))
	write(t, filepath.Join(dir, "none.tar"), archiveOf(t, nil))
	write(t, filepath.Join(dir, "two.tar"), archiveOf(t, []string{"a/index", "b/index"}))
	write(t, filepath.Join(dir, "twice.tar"), archiveOf(t, []string{"a/index", "a/index"}))
	for name, text := range map[string]string{
		"missing": "no such file", "text.tar": "neither a folder nor a tar file", "none.tar": "there is no savepoint in it",
		"two.tar": `entry "b/index" has no place`, "twice.tar": `entry "a/index" has no place`,
	} {
		_, err := OpenPath(filepath.Join(dir, name))
		want(t, err, fault.Misconfigured, text)
	}
	from, err := OpenPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	_, err = Open(t.Context(), from)
	want(t, err, fault.Misconfigured, "there is no savepoint")
	if data, err := from.Get(t.Context(), "../"+filepath.Base(dir)+"/text.tar", 1<<20); err == nil {
		t.Errorf("a name leads out of the folder: %d bytes", len(data))
	}
}

func archiveOf(t *testing.T, names []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestList_showsWhatIsThere(t *testing.T) {
	store, p := made(t)
	for _, name := range []string{"p/savepoints/sp-2/n/config", "p/savepoints/bad/index", "p/log/0/0000000000000001", "q/savepoints/x/index"} {
		if err := store.Create(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := List(t.Context(), store, "p")
	if err != nil || len(list) != 3 || list[0].Name != "bad" || list[1].Name != "sp" || list[2].Name != "sp-2" {
		t.Fatalf("got %+v, %v", list, err)
	}
	want(t, list[0].Err, fault.Corrupt, "does not begin with")
	if list[1].Err != nil || list[1].Index.Checkpoint != 7 || list[1].Index.Bytes() == 0 {
		t.Errorf("got %+v", list[1])
	}
	if !errors.Is(list[2].Err, ErrIncomplete) {
		t.Errorf("got %v, want ErrIncomplete", list[2].Err)
	}
	want(t, Place{store, "p", "none"}.Delete(t.Context()), fault.Misconfigured, "there is no savepoint")
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(store.Objects()); n != 4 {
		t.Errorf("%d objects are left, want those of others", n)
	}
}
