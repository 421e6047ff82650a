package machine

import (
	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// Effect is something that the machine asks the driver to do. The driver decides nothing: it does it and answers by an event.
//
//sumtype:decl
type Effect interface{ effect() }

// TimerKind says what a timer is for.
type TimerKind uint8

const (
	// TimerInterval is the time to the next checkpoint.
	TimerInterval TimerKind = iota + 1
	// TimerDiscovery is the time to the next look for new splits.
	TimerDiscovery
	// TimerStore backs off a request to the store; its purpose tells which.
	TimerStore
	// TimerFence backs off a sink's fence.
	TimerFence
	// TimerCommit backs off a sink's commit.
	TimerCommit
	// TimerReplace backs off a sink's replacement of refused rows.
	TimerReplace
	// TimerSource backs off the search for splits at the start.
	TimerSource
)

// Timer names a timer: at most one of each name is set.
type Timer struct {
	Kind TimerKind
	For  Purpose // TimerStore
	Sink int     // TimerFence, TimerCommit, TimerReplace
}

type (
	// List asks for the highest number of the log.
	List struct{ For Purpose }
	// Get asks for an entry.
	Get struct {
		For Purpose
		Seq checkpoint.Seq
	}
	// Create asks to create an entry if its number is free. The same number is always asked with the same entry.
	Create struct {
		For   Purpose
		Seq   checkpoint.Seq
		Entry checkpoint.Entry
	}
	// FenceSink asks to raise a sink's fence to the run's lease. State and Pending are what the sink is restored with when it
	// is asked for the first time in the run, and mean nothing later.
	FenceSink struct {
		Sink    int
		State   []byte
		Pending []sink.Committable
	}
	// Commit asks a sink to make a committable visible.
	Commit struct {
		Sink        int
		Committable sink.Committable
	}
	// Replace asks a sink for a committable without the rows that its last commit refused, and the driver to keep their
	// dead letters for the next [Barrier] with Letters.
	Replace struct {
		Sink        int
		Committable sink.Committable
		Unit        record.Unit
	}
	// Discover asks the source for splits that are not known.
	Discover struct{ Known []source.Split }
	// Run asks to start the tasks: keyed state is restored, and every split that is not finished is read from its position.
	Run struct {
		Splits []source.Split
		State  *checkpoint.KeyedState // nil before the first
	}
	// AddSplits asks to read splits that were found while running.
	AddSplits struct{ Splits []source.Split }
	// Barrier asks every task for its part of a checkpoint. After a final one tasks read no more.
	Barrier struct{ Cut sink.Cut }
	// Letters asks the coordinator's own writer for the part with the kept dead letters of the named sinks.
	Letters struct {
		Cut   sink.Cut
		Sinks []int
	}
	// Assemble asks the named sinks for their part of the manifest.
	Assemble struct {
		Cut   sink.Cut
		Sinks []int
		Parts [][]sink.Part // for each named sink, sorted by task
	}
	// Edit asks for the change that is to be published, offline.
	Edit struct {
		Seq  checkpoint.Seq // 0: there is no manifest yet
		Head checkpoint.Manifest
	}
	// Published tells that a checkpoint is decided.
	Published struct {
		Seq      checkpoint.Seq
		Manifest checkpoint.Manifest
	}
	// Settled tells that every committable of the newest manifest is known Committed.
	Settled struct {
		Checkpoint record.Checkpoint
		Positions  []source.Position
	}
	// Collect asks to delete what no manifest needs: first the manifests, then the segments and the objects of keyed state.
	// Failures are harmless.
	Collect struct {
		Manifests []checkpoint.Seq
		Segments  []string
		State     []string
	}
	// Sweep asks to delete the segments of older leases but those named.
	Sweep struct {
		Below record.Lease
		Keep  []string
	}
	// SetTimer asks for a [TimerFired]. Attempt counts from 0 and lets the driver choose a delay.
	SetTimer struct {
		Timer   Timer
		Attempt int
	}
	// Stop ends the run. Nothing follows it.
	Stop struct {
		Reason Reason
		Text   string
		// Pending is what is decided and not known Committed, for the message.
		Pending []PendingSink
	}
)

// PendingSink names what a sink has left to commit.
type PendingSink struct {
	Name         string
	Committables []sink.Committable
	Held         int64 // rows that no committable names so far
}

// Reason says why a run ended and what happens next.
type Reason uint8

const (
	// Done means that everything asked for is done.
	Done Reason = iota + 1
	// Restart means that the pipeline goes on by the recovery path, after a while.
	Restart
	// StoppedFenced means that a newer lease owns the lane.
	StoppedFenced
	// StoppedLost means that prepared work or input is gone.
	StoppedLost
	// StoppedCorrupt means that stored bytes fail a check.
	StoppedCorrupt
	// StoppedMisconfigured means that a person must act.
	StoppedMisconfigured
	// StoppedByRule means that a configured rule says stop.
	StoppedByRule
)

// String returns the reason's name, as in logs and metrics.
func (r Reason) String() string {
	names := [...]string{"invalid", "done", "restart", "fenced", "lost", "corrupt", "misconfigured", "rule"}
	if int(r) < len(names) {
		return names[r]
	}
	return names[0]
}

// ReasonFor maps an error's kind to the end of the run: the one place where a kind becomes a reaction.
func ReasonFor(kind fault.Kind) Reason {
	switch kind {
	case fault.Unknown, fault.Transient:
		return Restart
	case fault.Rejected:
		return StoppedByRule
	case fault.Fenced:
		return StoppedFenced
	case fault.Lost:
		return StoppedLost
	case fault.Corrupt:
		return StoppedCorrupt
	case fault.Misconfigured:
		return StoppedMisconfigured
	}
	return Restart
}

func (List) effect()      {}
func (Get) effect()       {}
func (Create) effect()    {}
func (FenceSink) effect() {}
func (Commit) effect()    {}
func (Replace) effect()   {}
func (Discover) effect()  {}
func (Run) effect()       {}
func (AddSplits) effect() {}
func (Barrier) effect()   {}
func (Letters) effect()   {}
func (Assemble) effect()  {}
func (Edit) effect()      {}
func (Published) effect() {}
func (Settled) effect()   {}
func (Collect) effect()   {}
func (Sweep) effect()     {}
func (SetTimer) effect()  {}
func (Stop) effect()      {}
