package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Committer gives decided files their final names.
type Committer struct {
	sink   *Sink
	fenced bool
	swept  bool // what no manifest names any more was removed
}

var _ sink.Committer = (*Committer)(nil)

// decision is what a committable says: which file in progress becomes which final one.
type decision struct {
	Folder   string `json:"folder"`
	Temp     string `json:"temp"`
	Final    string `json:"final"`
	Length   int64  `json:"length"`
	Checksum uint64 `json:"checksum"`
}

var errVersion = errors.New("unknown version")

func decode(c *sink.Committable) (decision, error) {
	if c.Version != stateVersion {
		return decision{}, fmt.Errorf("committable of version %d, this build knows %d: %w", c.Version, stateVersion, errVersion)
	}
	var d decision
	err := json.Unmarshal(c.Data, &d)
	return d, err
}

// Fence leaves the run's mark in the folder. Then it removes the files in progress of earlier leases that the restored manifest
// does not name: that manifest is the newest of all leases below this one, and will stay so, because this run's claim is
// effective; no manifest will ever name them.
func (c *Committer) Fence(ctx context.Context) error {
	const op = "sink/file.Fence"
	s := c.sink
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	if err := checkFolder(s.disk, s.layout, s.env.Identity, s.folder); err != nil {
		return fault.E(op, kindOf(err), err)
	}
	found, by, err := raise(s.disk, s.layout, s.env.Lease, s.nonce)
	switch {
	case err != nil:
		return fault.E(op, kindOf(err), err)
	case found == foreign:
		return fault.E(op, fault.Fenced, s.foreign(by))
	}
	c.fenced = true
	if err := c.sweep(s.listed); err != nil {
		return fault.E(op, kindOf(err), err)
	}
	return nil
}

func (s *Sink) foreign(by record.Lease) error {
	if by == s.env.Lease {
		return fmt.Errorf("another run has lease %d, of a copy of the checkpoint store", by)
	}
	return fmt.Errorf("lease %d has the folder, this run has %d", by, s.env.Lease)
}

// sweep removes the files in progress of earlier leases, except those named.
func (c *Committer) sweep(keep map[string]bool) error {
	s := c.sink
	names, err := s.disk.List(s.layout.progress())
	if err != nil {
		return err
	}
	for _, name := range names {
		lease, _, ok := parseRun(name)
		if !ok || lease >= s.env.Lease || keep[name] {
			continue
		}
		if err := s.disk.Remove(s.layout.inProgress(name)); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// Commit gives a decided file its final name: ledger entry, rename, and the folders forced to the disk. A file that has an entry
// and is not in progress any more was committed.
func (c *Committer) Commit(ctx context.Context, u sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	const op = "sink/file.Commit"
	if err := ctx.Err(); err != nil {
		return sink.Unknown, nil, fault.E(op, fault.Transient, err)
	}
	d, err := decode(&u)
	switch {
	case errors.Is(err, errVersion):
		return sink.Lost, nil, fault.WithRemedy(op, fault.Misconfigured, err, "run the version of ingestd that wrote it, or a later one")
	case err != nil:
		return sink.Lost, nil, fault.E(op, fault.Corrupt, err)
	}
	outcome, err := c.commit(ctx, &u, d)
	if err != nil {
		return outcome, nil, fault.E(op, kindOf(err), err)
	}
	c.tidy(placeOf(&u))
	return sink.Committed, nil, nil
}

// commit returns Committed exactly with a nil error. Every failure is Unknown, also one before this call's effect: an earlier call
// may have had one.
func (c *Committer) commit(ctx context.Context, u *sink.Committable, d decision) (sink.Outcome, error) {
	s := c.sink
	if err := checkFolder(s.disk, s.layout, s.env.Identity, d.Folder); err != nil {
		return sink.Unknown, err
	}
	found, by, _, err := look(s.disk, s.layout, s.env.Lease, s.nonce)
	switch {
	case err != nil:
		return sink.Unknown, err
	case found == foreign:
		return sink.Fenced, fault.E("sink/file.Fence", fault.Fenced, s.foreign(by))
	}
	known, err := readLedger(s.disk, s.layout)
	if err != nil {
		return sink.Unknown, err
	}
	temp := s.layout.inProgress(d.Temp)
	missing, err := gone(s.disk, temp)
	entered := known.has(placeOf(u))
	switch {
	case err != nil:
		return sink.Unknown, err
	case missing && !entered:
		return sink.Lost, fault.E("sink/file.Commit", fault.Lost, fmt.Errorf("the file %s with %d rows of checkpoint %d of lease %d is gone and was not committed: somebody removed it",
			temp, u.Rows, u.Checkpoint, u.Lease))
	case missing:
		// Renamed, perhaps by a run that died before that was durable.
		return c.settle(s.layout.committed(), ".", s.layout.progress())
	}
	if outcome, err := c.verify(ctx, temp, u.Lease == s.env.Lease, d); err != nil {
		return outcome, err
	}
	if entered {
		// Perhaps by an attempt that failed before its entry was durable. It must be before the rename is.
		err = syncName(s.disk, s.layout.committed())
	} else {
		err = s.enter(placeOf(u), entry{
			Format: entryFormat, Temp: d.Temp, File: d.Final, Rows: u.Rows, Bytes: d.Length, Checksum: fmt.Sprintf("%016x", d.Checksum),
		})
	}
	if err != nil {
		return sink.Unknown, err
	}
	return c.rename(ctx, d)
}

// verify compares a file with what was decided: its length, and the bytes too when this run has not written them itself.
func (c *Committer) verify(ctx context.Context, name string, own bool, d decision) (sink.Outcome, error) { //nolint:revive // own says whose bytes they are
	s := c.sink
	length, err := s.disk.Size(name)
	if err != nil {
		return sink.Unknown, err
	}
	sum := d.Checksum
	if !own && length == d.Length {
		if sum, length, err = s.read(ctx, name, length, io.Discard); err != nil {
			return sink.Unknown, err
		}
	}
	if length != d.Length || sum != d.Checksum {
		return sink.Lost, damaged(name, length, sum, d.Length, d.Checksum)
	}
	return sink.Unknown, nil
}

// rename moves the file onto its final name. When power was lost between the writes of two folders it may have both names.
func (c *Committer) rename(ctx context.Context, d decision) (sink.Outcome, error) {
	s := c.sink
	temp := s.layout.inProgress(d.Temp)
	free, err := gone(s.disk, d.Final)
	switch {
	case err != nil:
		return sink.Unknown, err
	case free:
		err = s.disk.Rename(temp, d.Final)
	default:
		if _, err := c.verify(ctx, d.Final, false, d); err != nil {
			return sink.Unknown, fault.WithRemedy("sink/file.Commit", fault.Misconfigured, fmt.Errorf("another file has the name %s: %w", d.Final, err), "move it away")
		}
		err = s.disk.Remove(temp)
	}
	if err != nil && !isGone(err) {
		return sink.Unknown, err
	}
	if err != nil {
		// Another run renamed it in the meantime, which is the same act; or it was removed. The next look tells.
		return sink.Unknown, fmt.Errorf("the file %s went away during the commit: %w", temp, err)
	}
	return c.settle(".", s.layout.progress())
}

// settle makes a commit durable: the entry, then the new name, then that the old one is gone.
func (c *Committer) settle(dirs ...string) (sink.Outcome, error) {
	for _, dir := range dirs {
		if err := syncName(c.sink.disk, dir); err != nil {
			return sink.Unknown, err
		}
	}
	return sink.Committed, nil
}

// tidy removes what is not needed any more. It may fail: the next commit, or the next run, tries again. Only a run that has
// fenced and has published a manifest removes anything, and only what its published manifests do not name: the files that it
// copied, and ledger entries.
func (c *Committer) tidy(done place) {
	s := c.sink
	if !c.fenced || done.lease != s.env.Lease || !s.hasPublished() {
		return
	}
	if !c.swept {
		// All that was pending when this run began is committed: commits go in order.
		c.swept = c.sweep(nil) == nil
	}
	// The commit of a checkpoint comes after the manifest of the one before, in both modes.
	_ = s.shorten(done) //nolint:errcheck // it only saves space, and the next commit tries again
}

// Replace is never needed: no row is rejected at commit.
func (c *Committer) Replace(context.Context, sink.Committable, []sink.RejectedRow, record.Unit) (sink.Committable, error) {
	return sink.Committable{}, fault.E("sink/file.Replace", fault.Misconfigured, errors.New("a file refuses no row"))
}
