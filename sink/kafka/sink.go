package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Sink is an open sink of one run. It implements sink.Sink.
type Sink struct {
	settings *Settings
	encoders encoders
	log      *slog.Logger
	env      sink.Env
	nonce    string // of the run, in the ledger's record
	target   target
	ledger   ledgerPlace

	last      unitName // the newest unit that was assembled, of any run
	base      unitName // the newest that is known Committed by the manifest that was restored
	pending   []unitName
	committer *committer // once it was asked for
}

var _ sink.Sink = (*Sink)(nil)

// Restore begins after the newest manifest's last unit, and refuses another ledger than that manifest's.
func (s *Sink) Restore(_ context.Context, state []byte, pending []sink.Committable) error {
	const op = "sink/kafka.Restore"
	old, err := readState(state)
	if err != nil {
		return at(op, fault.Corrupt, err)
	}
	if old.Ledger != (ledgerPlace{}) {
		if err := s.sameLedger(old.Ledger); err != nil {
			return at(op, fault.Misconfigured, err)
		}
	}
	s.last, s.base = old.Last, old.Last
	for i := range pending {
		d, err := readUnitData(&pending[i])
		if err != nil {
			return at(op, fault.Corrupt, err)
		}
		if i == 0 {
			s.base = d.Previous
		}
		s.pending = append(s.pending, nameOf(&pending[i]))
	}
	return nil
}

// sameLedger goes on with the ledger of the manifest.
func (s *Sink) sameLedger(old ledgerPlace) error {
	switch {
	case old.Topic != s.ledger.Topic:
		return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("the ledger of this pipeline is %s, not %s", old.Topic, s.ledger.Topic),
			fmt.Sprintf("set ledger.topic = %q", old.Topic))
	case old.ID == s.ledger.ID:
		s.ledger.Partition = old.Partition // the topic may have got more partitions since
	case s.settings.Ledger.AcceptID != s.ledger.ID:
		return fault.WithRemedy("", fault.Lost,
			fmt.Errorf("%w: the ledger %s was deleted and created again (ID %s, before %s), so it can't tell what is committed", errLedger, old.Topic, s.ledger.ID, old.ID),
			fmt.Sprintf("if nothing was pending, or its rows may be doubled: set ledger.accept_id = %q", s.ledger.ID))
	}
	return nil
}

// Writer returns the writer of one task.
func (s *Sink) Writer(_ context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	w, err := newWriter(s, task, schema)
	if err != nil {
		return nil, at("sink/kafka.Writer", fault.Misconfigured, err)
	}
	return w, nil
}

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer {
	s.committer = newCommitter(s)
	return s.committer
}

// Close ends the committer's connection.
func (s *Sink) Close() error {
	if s.committer != nil {
		s.committer.close()
	}
	return nil
}

// judge decides whether this run may go on, by the ledger's record.
func (s *Sink) judge(e *entry) error {
	lease := s.env.Lease
	switch {
	case e == nil:
	case e.Store != s.env.Identity.StoreID:
		if !s.env.Adopt || e.Writer >= lease {
			return fmt.Errorf("%w: %s, not %s", errStore, e.Store, s.env.Identity.StoreID)
		}
	case e.Writer > lease:
		return fmt.Errorf("%w: lease %d, ours is %d", errFenced, e.Writer, lease)
	case e.Writer == lease && e.Nonce != s.nonce:
		return fmt.Errorf("%w under our lease %d: is the checkpoint store a copy?", errFenced, lease)
	}
	return nil
}

// start decides at the first look what the ledger must hold from then on, and demands that it fits the manifest: the unit before
// those that are pending, or one of them. With at-least-once delivery, an older run may have committed more than it published.
func (s *Sink) start(e *entry) (unitName, error) {
	switch {
	case e == nil || e.Store != s.env.Identity.StoreID:
		if e == nil && s.base != (unitName{}) && s.settings.Ledger.AcceptID != s.ledger.ID {
			return unitName{}, fault.WithRemedy("", fault.Lost,
				fmt.Errorf("%w: it has no record of this pipeline, and %s is committed", errLedger, s.base),
				fmt.Sprintf("if the rows of pending checkpoints may be doubled: set ledger.accept_id = %q", s.ledger.ID))
		}
		return s.base, nil
	case e.Last == s.base:
		return e.Last, nil
	}
	newest := s.base
	for _, name := range s.pending {
		if e.Last == name {
			return e.Last, nil
		}
		newest = name
	}
	if e.earlier(newest, s.env.Lease) {
		return e.Last, nil
	}
	return unitName{}, fault.E("", fault.Lost, fmt.Errorf("%w: the newest committed unit is %s, and the manifest expects %s or what is pending after it (up to %s)",
		errLedger, e.Last, s.base, newest))
}

var errReplace = errors.New("the sink rejects no rows at commit")
