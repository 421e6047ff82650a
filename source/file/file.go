// Package file reads lines of local files to their end: a bounded source. Every file is a split, named by its absolute path,
// and its position is a byte offset, always the first byte of a line.
//
// What must not change under a path is the part of the file that is read: its length, its first bytes and its last bytes are
// the split's identity. Device and inode are not part of it, because both change when a volume is mounted again or a file is
// restored, while its contents do not.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

const opDiscover fault.Op = "source/file.Discover"

// Source reads files. It is safe for use by several goroutines.
type Source struct {
	settings Settings
	log      *slog.Logger
	chunk    int // bytes that are read at once, as long as lines are shorter
	pool     sync.Pool
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Checker = (*Source)(nil)
	_ source.Sizer   = (*Source)(nil)
)

// New checks the settings and returns a source. It does no I/O. An error is fault.Misconfigured and starts with the key.
func New(settings Settings, log *slog.Logger) (*Source, error) {
	settings, err := settings.check()
	if err != nil {
		return nil, fault.E("source/file.New", fault.Misconfigured, err)
	}
	return &Source{settings: settings, log: log, chunk: chunkBytes}, nil
}

// Bounded implements [source.Source]: true.
func (s *Source) Bounded() bool { return true }

// AcquireMax implements [source.Sizer]: what is read at once, or the longest line, and its rows.
func (s *Source) AcquireMax() int64 {
	return max(int64(s.chunk), int64(s.settings.RecordBytesMax)+2) + rowsMax*rowSize
}

// Discover implements [source.Source]. With known splits it only compares them with the files.
func (s *Source) Discover(ctx context.Context, known []source.Split) ([]source.Split, error) {
	if len(known) > 0 {
		return nil, verifyAll(ctx, known)
	}
	paths, err := s.find()
	if err != nil {
		return nil, fault.E(opDiscover, fault.Misconfigured, err)
	}
	splits := make([]source.Split, 0, len(paths))
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return nil, fault.E(opDiscover, fault.Transient, context.Cause(ctx))
		}
		split, err := first(path)
		if err != nil {
			return nil, classified(opDiscover, err)
		}
		splits = append(splits, split)
	}
	return splits, nil
}

// verifyAll compares known splits with the files.
func verifyAll(ctx context.Context, known []source.Split) error {
	for _, k := range known {
		if err := ctx.Err(); err != nil {
			return fault.E(opDiscover, fault.Transient, context.Cause(ctx))
		}
		if k.Finished {
			continue
		}
		f, err := openSplit(k)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return fault.E(opDiscover, fault.Transient, err)
		}
	}
	return nil
}

// find returns the files that the settings name, sorted, each once.
func (s *Source) find() ([]string, error) {
	var paths []string
	var errs []error
	for _, pattern := range s.settings.Paths {
		found, err := match(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("paths: %w", err))
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	return slices.Compact(paths), errors.Join(errs...)
}

// match returns the absolute paths of the files that a pattern finds.
func match(pattern string) ([]string, error) {
	pattern, err := filepath.Abs(pattern)
	if err != nil {
		return nil, err
	}
	found := []string{pattern}
	glob := strings.ContainsAny(pattern, `*?[\`)
	if glob {
		if found, err = filepath.Glob(pattern); err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
	}
	var files []string
	for _, path := range found {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			files = append(files, path)
		case !glob || !info.IsDir():
			return nil, fmt.Errorf("%s is not a regular file", path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no file matches %s", pattern)
	}
	return files, nil
}

// first returns the split of a file as it is now.
func first(path string) (source.Split, error) {
	f, err := os.Open(path)
	if err != nil {
		return source.Split{}, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return source.Split{}, err
	}
	id, err := identify(f, info.Size())
	if err != nil {
		return source.Split{}, err
	}
	return source.Split{
		Position: source.Position{Split: path, Identity: id.String(), LeaderEpoch: record.NoLeaderEpoch},
		Until:    record.Offset(info.Size()),
	}, nil
}

// Open implements [source.Source]. Files are opened when their turn comes.
func (s *Source) Open(_ context.Context, splits []source.Split, budget source.Budget) (source.Reader, error) {
	r := &Reader{settings: s.settings, budget: budget, pool: &s.pool, chunk: s.chunk, want: s.chunk}
	if err := r.add(splits); err != nil {
		return nil, err
	}
	return r, nil
}

// Committed implements [source.Source]: there is nobody to tell.
func (s *Source) Committed(context.Context, []source.Position) error { return nil }

// Close implements [source.Source].
func (s *Source) Close() error { return nil }

// Check implements [source.Checker]: it looks whether the files are there and can be read.
func (s *Source) Check(ctx context.Context) []source.Finding {
	splits, err := s.Discover(ctx, nil)
	if err != nil {
		if known, ok := errors.AsType[*fault.Error](err); ok {
			err = known.Err
		}
		return []source.Finding{{Level: source.Blocks, Text: err.Error()}}
	}
	var bytes int64
	for _, split := range splits {
		bytes += int64(split.Until)
	}
	return []source.Finding{{Level: source.Note, Text: fmt.Sprintf("%d files with %d bytes", len(splits), bytes)}}
}

// kindOf classifies an error of the file system: what a person must mend is Misconfigured, and the rest may pass.
func kindOf(err error) fault.Kind {
	known, ok := errors.AsType[*fault.Error](err)
	switch {
	case ok:
		return known.Kind
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return fault.Misconfigured
	}
	return fault.Transient
}

// classified wraps err for the border of the package.
func classified(op fault.Op, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.E(op, kindOf(err), err)
}
