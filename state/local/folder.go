package local

import (
	"log/slog"
	"path/filepath"
)

// Folder keeps the databases of several pipelines, each in a folder of its own.
type Folder struct{ dir string }

// NewFolder returns the databases below a folder, which is made when the first is opened.
func NewFolder(dir string) Folder { return Folder{dir: dir} }

// Open opens a pipeline's database with a cache of its own of so many bytes, as [Open] does.
func (f Folder) Open(pipeline string, memory int64, log *slog.Logger) (*DB, error) {
	cache := NewCache(memory)
	defer cache.Close() // the database keeps it
	return Open(Options{Dir: filepath.Join(f.dir, pipeline), Cache: cache, Log: log})
}

// Wipe empties a pipeline's database, as [Wipe] does.
func (f Folder) Wipe(pipeline string) error { return Wipe(nil, filepath.Join(f.dir, pipeline)) }
