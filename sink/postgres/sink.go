package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Sink is an open sink of one run. It implements sink.Sink.
type Sink struct {
	settings *Settings
	dialer   *dialer
	env      sink.Env
	nonce    string   // of the run, in the ledger's row
	key      []string // of the upsert; nil: rows are appended

	last      unitName // the newest unit that was assembled, of any run
	base      unitName // the newest that is known Committed by the manifest that was restored
	pending   []unitName
	committer *committer // once it was asked for

	mu struct {
		sync.Mutex
		table *table
	}
}

var _ sink.Sink = (*Sink)(nil)

// Restore begins after the newest manifest's last unit, and refuses another ledger than that manifest's.
func (s *Sink) Restore(_ context.Context, state []byte, pending []sink.Committable) error {
	const op = "sink/postgres.Restore"
	old, err := readState(state)
	if err != nil {
		return at(op, err)
	}
	if now := s.settings.ledger(); old.Ledger != (tableName{}) && old.Ledger != now {
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("the ledger of this pipeline is %s, not %s", old.Ledger, now),
			fmt.Sprintf("set ledger_schema = %q", old.Ledger.Schema))
	}
	s.last, s.base = old.Last, old.Last
	for i := range pending {
		d, err := readUnitData(&pending[i])
		if err != nil {
			return at(op, err)
		}
		if i == 0 {
			s.base = d.Previous
		}
		s.pending = append(s.pending, nameOf(&pending[i]))
	}
	return nil
}

// Writer returns the writer of one task.
func (s *Sink) Writer(ctx context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	const op = "sink/postgres.Writer"
	s.mu.Lock()
	defer s.mu.Unlock() // writers are opened one after the other, so I/O under the lock holds up nothing else
	d := &unitData{Key: s.key, Delete: s.settings.DeleteColumn}
	l, err := newLayout(s.mu.table, schema, d)
	if err != nil && s.reload(ctx) == nil { // the table may have been mended since it was read
		l, err = newLayout(s.mu.table, schema, d)
	}
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("%w: %w", errColumns, err))
	}
	w := newWriter(task, s.env.Segments, s.settings)
	w.schema, w.layout, w.letters = schema, l, isLetters(schema)
	w.raw.Raw = s.settings.OnReject == rejectDeadLetter && s.mu.table.refuses && !w.letters
	return w, nil
}

// reload reads the table again. The lock must be held.
func (s *Sink) reload(ctx context.Context) error {
	c, err := s.dialer.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	t, err := readTable(ctx, c, s.settings.target())
	if err == nil {
		s.mu.table = t
	}
	return err
}

// checked names the definition of the table that writers look at.
func (s *Sink) checked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.table.definition
}

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer {
	s.committer = &committer{sink: s}
	return s.committer
}

// Close ends the committer's connection. A commit under way fails by it.
func (s *Sink) Close() error {
	if s.committer != nil {
		s.committer.close()
	}
	return nil
}

// judge decides whether this run may go on, by the ledger's row.
func (s *Sink) judge(e *entry) error {
	lease := s.env.Lease
	switch {
	case e == nil:
	case e.store != s.env.Identity.StoreID:
		if !s.env.Adopt || e.writer >= lease {
			return fmt.Errorf("%w: %s, not %s", errStore, e.store, s.env.Identity.StoreID)
		}
	case e.writer > lease:
		return fmt.Errorf("%w: lease %d, ours is %d", errFenced, e.writer, lease)
	case e.writer == lease && e.nonce != s.nonce:
		return fmt.Errorf("%w under our lease %d: is the checkpoint store a copy?", errFenced, lease)
	}
	return nil
}

// start decides at the first look what the ledger must hold from then on, and demands that it fits the manifest: the unit before
// those that are pending, or one of them. With at-least-once delivery, an older run may have committed more than it published.
func (s *Sink) start(e *entry) (unitName, error) {
	name, id := s.settings.ledger(), s.env.Identity
	if e == nil || e.store != id.StoreID {
		if e == nil && s.base != (unitName{}) {
			return unitName{}, fault.WithRemedy("", fault.Lost, fmt.Errorf("%w: %s has no row of this pipeline, and unit %s is committed", errBack, name, s.base),
				"if the table has the rows of that unit: "+replaceLast(name, id, s.base))
		}
		return s.base, nil
	}
	newest := s.base
	for _, known := range append([]unitName{s.base}, s.pending...) {
		if e.last.takes(known) {
			return e.last, nil
		}
		newest = known
	}
	if e.earlier(newest, s.env.Lease) {
		return e.last, nil
	}
	why := errBack
	if e.last.after(newest) {
		why = errAhead
	}
	return unitName{}, fault.E("", fault.Lost, fmt.Errorf("%w: the newest committed unit is %s, and the manifest expects %s, or what is pending after it (up to %s)",
		why, e.last, s.base, newest))
}
