package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
)

// adopt makes the recorded bytes of earlier runs' files part of files of this run: one for each task that has some, several
// joined when there are fewer tasks. Nothing is ever appended to another run's file, whose process may still do so, and what it
// holds beyond the recorded length stays behind.
func (s *Sink) adopt(ctx context.Context, files []content) error {
	groups := make([][]content, s.env.Tasks)
	var strangers []content
	n := 0
	for _, f := range files {
		seen, err := s.isCommitted(f.Name)
		switch {
		case err != nil:
			return err
		case seen:
			// Its rows are visible: an at-least-once run committed it and died before it published that.
		case f.Compression != s.settings.Compression:
			strangers = append(strangers, f)
		default:
			group := &groups[n%len(groups)]
			if len(*group) > 0 && !(*group)[0].joins(&f) {
				strangers = append(strangers, f)
				continue
			}
			*group = append(*group, f)
			n++
		}
	}
	if len(files) == 0 {
		return nil
	}
	if err := s.copyAll(ctx, groups, strangers); err != nil {
		return errors.Join(err, s.dropCopies())
	}
	return syncName(s.disk, s.layout.progress())
}

// joins tells whether two files make one, put one behind the other.
func (c *content) joins(next *content) bool {
	return c.Compression == next.Compression && c.Format == next.Format && !next.Headed
}

// copyAll makes the copies: of the groups for the tasks to go on with, of the strangers to be completed.
func (s *Sink) copyAll(ctx context.Context, groups [][]content, strangers []content) error {
	for task, group := range groups {
		if len(group) == 0 {
			continue
		}
		c, digest, err := s.join(ctx, group)
		if err != nil {
			return err
		}
		s.mu.slots[task], s.mu.recorded[task] = slot{content: &c, digest: digest}, &c
	}
	for _, f := range strangers {
		c, _, err := s.join(ctx, []content{f})
		if err != nil {
			return err
		}
		s.mu.strangers = append(s.mu.strangers, c)
	}
	return nil
}

// dropCopies removes the copies of a restore that failed. Nothing refers to them, and on a full disk they would leave the next
// attempt no room.
func (s *Sink) dropCopies() error {
	var errs []error
	for _, c := range s.mu.recorded {
		if c != nil {
			errs = append(errs, s.disk.Remove(s.layout.inProgress(c.Name)))
		}
	}
	for _, c := range s.mu.strangers {
		errs = append(errs, s.disk.Remove(s.layout.inProgress(c.Name)))
	}
	return errors.Join(errs...)
}

// isCommitted tells whether a file in progress is gone because it was committed.
func (s *Sink) isCommitted(temp string) (bool, error) {
	missing, err := gone(s.disk, s.layout.inProgress(temp))
	if err != nil || !missing {
		return false, err
	}
	l, err := readLedger(s.disk, s.layout)
	if err != nil {
		return false, err
	}
	for _, p := range l.entries {
		e, err := readEntry(s.disk, s.layout, p)
		if err != nil {
			return false, err
		}
		if e.Temp == temp {
			return true, nil
		}
	}
	return false, fault.E("sink/file.Restore", fault.Lost,
		fmt.Errorf("the file %s in progress, which the newest manifest names, is gone, and the ledger does not have it", s.layout.inProgress(temp)))
}

// join copies recorded bytes to one new file, and checks them on the way.
func (s *Sink) join(ctx context.Context, group []content) (content, *xxhash.Digest, error) {
	joined := group[0]
	joined.Name, joined.Rows, joined.Length, joined.Checksum = s.newName(), 0, 0, 0
	to, err := s.disk.Open(s.layout.inProgress(joined.Name), openNew)
	if err != nil {
		return content{}, nil, err
	}
	digest := xxhash.New()
	for _, f := range group {
		if err = s.copyContent(ctx, io.MultiWriter(to, digest), f); err != nil {
			break
		}
		joined.Rows += f.Rows
		joined.Length += f.Length
		joined.Opened = min(joined.Opened, f.Opened)
	}
	if err == nil {
		err = to.Sync()
	}
	joined.Checksum = digest.Sum64()
	if err = errors.Join(err, to.Close()); err != nil {
		return content{}, nil, errors.Join(err, s.disk.Remove(s.layout.inProgress(joined.Name)))
	}
	return joined, digest, nil
}

// copyContent copies the recorded bytes of a file, which must be the ones that were recorded.
func (s *Sink) copyContent(ctx context.Context, to io.Writer, f content) error {
	sum, n, err := s.read(ctx, s.layout.inProgress(f.Name), f.Length, to)
	if err != nil {
		return err
	}
	if n != f.Length || sum != f.Checksum {
		return damaged(s.layout.inProgress(f.Name), n, sum, f.Length, f.Checksum)
	}
	return nil
}

func damaged(name string, length int64, sum uint64, wantLength int64, want uint64) error {
	return fault.E("sink/file.Verify", fault.Corrupt,
		fmt.Errorf("%s has %d bytes with checksum %016x, recorded are %d with %016x", name, length, sum, wantLength, want))
}

// read copies up to limit bytes of a file, and returns their checksum and number.
func (s *Sink) read(ctx context.Context, name string, limit int64, to io.Writer) (sum uint64, n int64, err error) {
	from, err := s.disk.Open(name, openRead)
	if err != nil {
		return 0, 0, err
	}
	digest := xxhash.New()
	n, err = io.Copy(io.MultiWriter(to, digest), &patient{ctx: ctx, from: io.LimitReader(from, limit)})
	return digest.Sum64(), n, errors.Join(err, from.Close())
}

// patient reads until a context ends: a large copy must not keep a run from ending.
type patient struct {
	ctx  context.Context //nolint:containedctx // of one copy, which this value is
	from io.Reader
}

// Read reads, unless the context ended.
func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.from.Read(b)
}

// isGone tells whether an error says that a file is not there.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
