package filestore_test

import (
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/checkpoint/storetest"
)

func TestStore_conforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return open(t, t.TempDir())
	})
}

func open(t *testing.T, dir string) *filestore.Store {
	t.Helper()
	s, err := filestore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
