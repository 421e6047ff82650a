package savepoint

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files that are missing; one that is there is kept for ever")

// golden returns a file of testdata, and writes it when it is missing and may be.
func golden(t *testing.T, name string, fresh []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *rewrite {
		return fresh
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The tar file of version 1 is read by every later version, and written to the byte as long as that is the newest.
func TestSavepoint_goldenFile(t *testing.T) {
	_, p := made(t)
	var fresh bytes.Buffer
	if err := Export(t.Context(), mustOpen(t, p), "sp", &fresh); err != nil {
		t.Fatal(err)
	}
	old := golden(t, "savepoint.v1.tar", fresh.Bytes())
	if !bytes.Equal(old, fresh.Bytes()) {
		t.Error("a savepoint is written in other bytes than those of version 1")
	}
	path := filepath.Join(t.TempDir(), "old.tar")
	if *rewrite {
		path = filepath.Join("testdata", "savepoint.v1.tar")
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := OpenPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	sameAs(t, mustOpen(t, from), content())
}

// Whatever stands in an index, it is refused or it is written again as the same; nothing outside of its folder is read.
func FuzzIndex(f *testing.F) {
	store := storetest.NewMemory(nil)
	p := Place{store, "p", "sp"}
	if _, err := p.Write(context.Background(), "n1", content()); err != nil {
		f.Fatal(err)
	}
	whole := store.Objects()[p.full(indexName)]
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		store := storetest.NewMemory(func(c storetest.Call) storetest.Fault {
			if err := checkpoint.CheckName(c.Name); err != nil {
				t.Errorf("a name that is none is asked for: %v", err)
			}
			return storetest.None
		})
		if err := store.Create(context.Background(), "p/savepoints/sp/index", data); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), Place{store, "p", "sp"}); err == nil {
			t.Error("a savepoint without a manifest is opened")
		}
		var x Index
		if checkpoint.DecodeObject(kindIndex, data, &x) != nil || x.check() != nil {
			return
		}
		again, err := checkpoint.EncodeObject(kindIndex, &x)
		var y Index
		if err == nil {
			err = checkpoint.DecodeObject(kindIndex, again, &y)
		}
		if diff := cmp.Diff(x, y); err != nil || diff != "" {
			t.Errorf("%v, the index differs:\n%s", err, diff)
		}
	})
}
