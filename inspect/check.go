package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Finding is something that is not as it must be, or worth a note.
type Finding struct {
	// Level is "corrupt" for bytes that are not what was stored, "missing" for what is named and not there, "note" for what harms
	// nothing.
	Level  string
	Object string // its full name
	Text   string
}

// The levels of findings.
const (
	Corrupt = "corrupt"
	Missing = "missing"
	Note    = "note"
)

// Report is what a check found.
type Report struct {
	Claims, Manifests int
	Newest            checkpoint.Seq // the newest manifest's number; 0: none
	Deltas, Slices    int            // objects of keyed state that were read and are whole
	Segments          int            // likewise, of what is pending
	Bytes             int64          // of all that
	Savepoints        int            // objects that lie in savepoints, which are not looked at
	Findings          []Finding      // in order of level and object
	// Orphans are the full names of what no manifest names, stored by runs that are over: a run stores nothing under a lease below
	// the newest manifest's any more, and nobody can name it again.
	Orphans []string
}

// Sound reports whether nothing is corrupt or missing.
func (r *Report) Sound() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level != Note })
}

// Check reads everything that a pipeline has stored: every entry of its log, the objects of keyed state that a kept manifest names,
// and the segments of what is pending. It changes nothing, and a run may go on beside it: what is collected meanwhile is not missed.
// Targets, what sinks keep there, and savepoints are not looked at. An error is the store's own: nothing is known then.
func Check(ctx context.Context, store checkpoint.Store, pipeline string) (*Report, error) {
	c := checker{ctx: ctx, store: store, pipeline: pipeline, report: &Report{}}
	// The names come first: what is stored later is of a run that goes on.
	names, err := store.List(ctx, pipeline+"/", "")
	if err != nil {
		return nil, err
	}
	if err := c.folder(); err != nil {
		return nil, err
	}
	if err := c.readLog(); err != nil {
		return nil, err
	}
	c.checkLog()
	if err := c.checkState(); err != nil {
		return nil, err
	}
	if err := c.checkSegments(); err != nil {
		return nil, err
	}
	c.findOrphans(names)
	order := []string{Corrupt, Missing, Note}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int { return slices.Index(order, a.Level) - slices.Index(order, b.Level) })
	return c.report, nil
}

// checker is one check under way.
type checker struct {
	ctx      context.Context //nolint:containedctx // of the one call of Check
	store    checkpoint.Store
	pipeline string
	storeID  string
	entries  []logged
	gone     checkpoint.Seq // the highest number that was listed and gone then
	report   *Report
}

// logged is an entry of the log. An entry that can't be read has none.
type logged struct {
	seq   checkpoint.Seq
	entry checkpoint.Entry
	bad   bool
}

func (c *checker) find(level, object, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{level, object, fmt.Sprintf(format, args...)})
}

// judge makes a finding of an error that says something of an object, and returns any other.
func (c *checker) judge(object string, err error) error {
	switch kind := fault.KindOf(err); {
	case err == nil:
		return nil
	case errors.Is(err, checkpoint.ErrNotExist), kind == fault.Lost:
		c.find(Missing, object, "it is not there")
	case kind == fault.Corrupt, kind == fault.Misconfigured:
		c.find(Corrupt, object, "%v", err)
	default:
		return err
	}
	return nil
}

// folder checks what store and folder say of themselves.
func (c *checker) folder() error {
	id, ok, err := checkpoint.StoreID(c.ctx, c.store)
	switch {
	case err != nil:
		if err := c.judge(checkpoint.StoreName, err); err != nil {
			return err
		}
	case !ok:
		c.find(Missing, checkpoint.StoreName, "the store's ID is not there")
	}
	c.storeID = id
	name := checkpoint.PipelineName(c.pipeline)
	info, err := checkpoint.ReadPipeline(c.ctx, c.store, c.pipeline)
	switch {
	case err != nil:
		return c.judge(name, err)
	case info.Pipeline != c.pipeline:
		c.find(Corrupt, name, "the folder is the pipeline %q's", info.Pipeline)
	case id != "" && info.StoreID != id:
		c.find(Corrupt, name, "the folder was made in the store %s, this is the store %s", info.StoreID, id)
	}
	return nil
}

// settleAttempts bounds how often the log is read again, when checkpoints are removed while they are read.
const settleAttempts = 10

// readLog reads the log. When a run collects what was listed it reads it again, so that the newest manifest is there.
func (c *checker) readLog() error {
	findings := len(c.report.Findings)
	for range settleAttempts {
		c.report.Findings = c.report.Findings[:findings]
		gone, err := c.readEntries()
		if err != nil || gone == 0 {
			return err
		}
		if slices.ContainsFunc(c.entries, func(l logged) bool { return l.entry.Claim == nil && l.seq > c.gone }) {
			return nil // what was collected stood below the newest
		}
	}
	return nil
}

// readEntries reads what the log lists, and returns how much of it was gone then.
func (c *checker) readEntries() (gone int, err error) {
	c.entries, c.gone = nil, 0
	prefix := checkpoint.LogPrefix(c.pipeline, 0)
	names, err := c.store.List(c.ctx, prefix, "")
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		seq, err := checkpoint.ParseEntry(c.pipeline, 0, name)
		if err != nil {
			c.find(Corrupt, name, "it has no place in the log")
			continue
		}
		data, err := c.store.Get(c.ctx, name)
		if errors.Is(err, checkpoint.ErrNotExist) {
			gone++
			c.gone = seq
			continue
		}
		if err != nil {
			return gone, err
		}
		l := logged{seq: seq}
		if l.entry, err = checkpoint.Decode(data); err != nil {
			l.bad = true
			if err := c.judge(name, err); err != nil {
				return gone, err
			}
		}
		c.entries = append(c.entries, l)
	}
	return gone, nil
}

// checkLog checks what entries say of each other (I4, I13).
func (c *checker) checkLog() {
	var lease record.Lease // of the entries so far
	var last cutOf
	claimed := map[record.Lease]bool{}
	unsure := false // an entry before could not be read
	for i, l := range c.entries {
		name := checkpoint.EntryName(c.pipeline, 0, l.seq)
		if l.bad {
			unsure = true
			continue
		}
		c.checkOwner(name, l.entry)
		if got := l.entry.Lease(); got < lease {
			c.find(Corrupt, name, "its lease %d is below %d, which an entry before has", got, lease)
		}
		lease = max(lease, l.entry.Lease())
		m := l.entry.Manifest
		if m == nil {
			c.report.Claims++
			c.checkClaim(i, l, claimed)
			claimed[l.entry.Lease()], unsure = true, false
			continue
		}
		c.report.Manifests++
		c.report.Newest = l.seq
		if !claimed[m.Lease] && !unsure {
			c.find(Missing, name, "there is no claim of its lease %d before it", m.Lease)
		}
		at := cutOf{m.Lease, m.Checkpoint}
		if at.below(last) {
			c.find(Corrupt, name, "checkpoint %d of lease %d stands behind checkpoint %d of lease %d", m.Checkpoint, m.Lease, last.checkpoint, last.lease)
		}
		last = at
	}
	c.checkKept()
}

// checkClaim looks for the claim of the lease before. A lease that was taken above that of another store has none.
func (c *checker) checkClaim(i int, l logged, claimed map[record.Lease]bool) {
	name := checkpoint.EntryName(c.pipeline, 0, l.seq)
	lease := l.entry.Lease()
	if claimed[lease] {
		c.find(Corrupt, name, "lease %d was claimed before", lease)
	}
	var before checkpoint.Seq
	if i > 0 {
		before = c.entries[i-1].seq
		if c.entries[i-1].bad {
			return
		}
	}
	if lease > 1 && !claimed[lease-1] && l.seq > before+1 {
		c.find(Missing, name, "before this claim of lease %d there is no claim of lease %d, and numbers %d to %d are not there: claims are never removed",
			lease, lease-1, before+1, l.seq-1)
	}
}

// cutOf orders manifests.
type cutOf struct {
	lease      record.Lease
	checkpoint record.Checkpoint
}

func (a cutOf) below(b cutOf) bool {
	return a.lease < b.lease || a.lease == b.lease && a.checkpoint < b.checkpoint
}

func (c *checker) checkOwner(name string, e checkpoint.Entry) {
	var storeID, pipeline string
	if e.Claim != nil {
		storeID, pipeline = e.Claim.StoreID, e.Claim.Pipeline
	} else {
		storeID, pipeline = e.Manifest.StoreID, e.Manifest.Pipeline
	}
	if pipeline != c.pipeline {
		c.find(Corrupt, name, "it is of the pipeline %q", pipeline)
	}
	if c.storeID != "" && storeID != c.storeID {
		c.find(Corrupt, name, "it was written in the store %s, this is the store %s", storeID, c.storeID)
	}
}

// checkKept compares the manifests that are there with those that the newest one says are kept.
func (c *checker) checkKept() {
	newest := c.newest()
	if newest == nil {
		return
	}
	there := map[checkpoint.Seq]bool{}
	for _, l := range c.entries {
		there[l.seq] = true
		if l.entry.Manifest != nil && l.seq < c.report.Newest && !slices.Contains(newest.Kept, l.seq) {
			c.find(Note, checkpoint.EntryName(c.pipeline, 0, l.seq), "the newest checkpoint does not list it as kept")
		}
	}
	for _, seq := range newest.Kept {
		if !there[seq] && newest.Pin(seq) != nil {
			c.find(Missing, checkpoint.EntryName(c.pipeline, 0, seq), "it is not there, and is pinned")
		} else if !there[seq] {
			c.find(Note, checkpoint.EntryName(c.pipeline, 0, seq), "the newest checkpoint lists it as kept, and it is not there: it was removed since, or was lost")
		}
	}
}

func (c *checker) newest() *checkpoint.Manifest {
	for _, l := range slices.Backward(c.entries) {
		if l.entry.Manifest != nil {
			return l.entry.Manifest
		}
	}
	return nil
}

// checkSegments reads what the newest manifest lists as pending. What is gone was committed, if a newer manifest lists it no more.
func (c *checker) checkSegments() error {
	for range settleAttempts {
		findings := len(c.report.Findings)
		newest, seq := c.newest(), c.report.Newest
		if newest == nil {
			return nil
		}
		c.report.Segments = 0
		if err := c.pending(newest); err != nil {
			return err
		}
		if len(c.report.Findings) == findings {
			return nil
		}
		fresh := checker{ctx: c.ctx, store: c.store, pipeline: c.pipeline, report: &Report{}}
		if err := fresh.readLog(); err != nil {
			return err
		}
		fresh.checkLog()
		if fresh.report.Newest == seq {
			return nil
		}
		c.report.Findings = c.report.Findings[:findings]
		c.entries, c.report.Newest = fresh.entries, fresh.report.Newest
	}
	c.find(Note, checkpoint.LogPrefix(c.pipeline, 0), "checkpoints follow each other too fast to look at what is pending")
	return nil
}

func (c *checker) pending(m *checkpoint.Manifest) error {
	segments := checkpoint.NewSegments(c.store, c.pipeline, m.Lane, m.Lease)
	for _, s := range m.Sinks {
		for i := range s.Pending {
			if err := c.committable(segments, s.Name, &s.Pending[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) committable(segments *checkpoint.Segments, name string, p *sink.Committable) error {
	for _, g := range p.Segments {
		full := checkpoint.ObjectName(c.pipeline, g.Name)
		_, err := segments.Get(c.ctx, g)
		if err == nil {
			c.report.Segments++
			c.report.Bytes += g.Bytes
			continue
		}
		if err := c.judge(full, err); err != nil {
			return err
		}
		last := &c.report.Findings[len(c.report.Findings)-1]
		last.Text += fmt.Sprintf("; %d rows of checkpoint %d of lease %d for the sink %q are in it, and not known to be committed", g.Rows, p.Checkpoint, p.Lease, name)
	}
	return nil
}

// findOrphans looks for what nothing names.
func (c *checker) findOrphans(names []string) {
	named := map[string]bool{}
	unreadable := false
	var lease record.Lease
	for _, l := range c.entries {
		unreadable = unreadable || l.bad
		m := l.entry.Manifest
		if m == nil {
			continue
		}
		lease = max(lease, m.Lease)
		if k := m.State(); k != nil {
			for _, o := range k.Objects {
				named[o] = true
			}
		}
		for _, s := range m.Sinks {
			for i := range s.Pending {
				for _, g := range s.Pending[i].Segments {
					named[g.Name] = true
				}
			}
		}
	}
	for _, name := range names {
		at := checkpoint.Locate(c.pipeline, name)
		switch at.Part {
		case checkpoint.PartUnknown:
			c.find(Note, name, "it was not put here by ingestd, and is left alone")
		case checkpoint.PartSavepoints:
			c.report.Savepoints++
		case checkpoint.PartSegments, checkpoint.PartState:
			if !unreadable && at.Lane == 0 && at.Lease < lease && !named[at.Relative] {
				c.report.Orphans = append(c.report.Orphans, name)
			}
		case checkpoint.PartLog, checkpoint.PartPipeline, checkpoint.PartCache:
		}
	}
}

// Remove deletes orphans. The caller holds the pipeline's lease and has published a manifest under it before the check that found
// them (I9). It returns how many are gone, also with an error.
func Remove(ctx context.Context, store checkpoint.Store, orphans []string) (int, error) {
	for i, name := range orphans {
		if err := store.Delete(ctx, name); err != nil {
			return i, fault.E("inspect.Remove", fault.KindOf(err), fmt.Errorf("object %s: %w", name, err))
		}
	}
	return len(orphans), nil
}
