package machine

import (
	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// Event is something that the driver tells the machine: the answer to an effect, or a wish from outside.
//
//sumtype:decl
type Event interface{ event() }

// Purpose says what a request to the store is for. The answer repeats it.
type Purpose uint8

const (
	// ForClaim is the search for the log's end while claiming.
	ForClaim Purpose = iota + 1
	// ForRead is the search for the newest manifest below the claim.
	ForRead
	// ForPublish is the resolution of a manifest's Create.
	ForPublish
	// ForProbe is the look at the own log before a sink's Fenced or Lost is obeyed.
	ForProbe
)

// Result is the outcome of a create-if-absent.
type Result uint8

const (
	// CreateUnknown means that it may be there, now or later.
	CreateUnknown Result = iota
	// CreateDone means that this call created it.
	CreateDone
	// CreateExists means that something is there.
	CreateExists
)

// Request is a wish from outside.
type Request uint8

const (
	// CheckpointNow asks for a checkpoint before the interval is over.
	CheckpointNow Request = iota + 1
	// RollNow asks for a checkpoint at which sinks hold nothing back. It is cut even if it has nothing to say.
	RollNow
	// StopGracefully asks for a final checkpoint, its commit and a closing manifest.
	StopGracefully
	// StopWaiting gives up waiting for commits: what is decided is finished by the next run.
	StopWaiting
)

type (
	// Started begins the run.
	Started struct{}
	// Listed answers [List]: Last is the highest number in the log, 0 when it is empty.
	Listed struct {
		For    Purpose
		Last   checkpoint.Seq
		Failed bool
	}
	// Got answers [Get]. Entry is set when Found.
	Got struct {
		For    Purpose
		Seq    checkpoint.Seq
		Found  bool
		Failed bool
		Entry  checkpoint.Entry
	}
	// Created answers [Create].
	Created struct {
		For    Purpose
		Seq    checkpoint.Seq
		Result Result
	}
	// SinkFenced answers [FenceSink]: Kind is fault.Unknown or fault.Transient to try again.
	SinkFenced struct {
		Sink int
		OK   bool
		Kind fault.Kind
		Text string
	}
	// CommitDone answers [Commit]. Rows are the places of refused rows, at least one, sorted and each once, when the outcome is
	// Rejected.
	CommitDone struct {
		Sink    int
		Outcome sink.Outcome
		Rows    []int64
		Text    string
	}
	// ReplaceDone answers [Replace]: Kind is fault.Unknown or fault.Transient to try again.
	ReplaceDone struct {
		Sink int
		OK   bool
		By   sink.Committable
		Kind fault.Kind
		Text string
	}
	// Discovered answers [Discover] with the splits that are not known yet.
	Discovered struct {
		OK     bool
		Splits []source.Split
		Text   string
	}
	// PartDone is one task's part of a checkpoint; task number Config.Tasks is the coordinator's own part, the dead letters
	// of rows that were refused at commit.
	PartDone struct {
		Checkpoint record.Checkpoint
		Part       Part
	}
	// AssembleDone answers [Assemble], one result for each sink that was asked, in the same order.
	AssembleDone struct {
		Checkpoint record.Checkpoint
		Results    []sink.Assembled
	}
	// InputEnded says that every split is finished and its records are with the writers.
	InputEnded struct{}
	// Deleted says that the manifest at a log number was collected.
	Deleted struct{ Seq checkpoint.Seq }
	// Edited answers [Edit] with the changed manifest; OK false gives the change up.
	Edited struct {
		OK       bool
		Manifest checkpoint.Manifest
	}
	// TimerFired says that a timer that was set is over.
	TimerFired struct{ Timer Timer }
	// Requested is a wish from outside.
	Requested struct{ Request Request }
	// Failed says that something outside the protocol failed: a task, an assembly, a stored entry that can't be read. The run
	// ends; unless a person must act it looks at its own log first.
	Failed struct {
		Kind fault.Kind
		Text string
	}
)

// Part is what one task contributes to a checkpoint.
type Part struct {
	Task   int
	Splits []source.Split // each of the task's splits that moved, where it stands now
	Stages []checkpoint.StageCount
	Sinks  []sink.Part // one for each sink, in order
	// State is what keyed state is after the checkpoint, in one of the parts; nil: as before.
	State *checkpoint.KeyedState
}

func (Started) event()      {}
func (Listed) event()       {}
func (Got) event()          {}
func (Created) event()      {}
func (SinkFenced) event()   {}
func (CommitDone) event()   {}
func (ReplaceDone) event()  {}
func (Discovered) event()   {}
func (PartDone) event()     {}
func (AssembleDone) event() {}
func (InputEnded) event()   {}
func (Deleted) event()      {}
func (Edited) event()       {}
func (TimerFired) event()   {}
func (Requested) event()    {}
func (Failed) event()       {}
