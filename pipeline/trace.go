package pipeline

import (
	"log/slog"

	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
)

// CheckpointStep is a step of a checkpoint, or of the way to the first one. With log.level = "debug" each step that begins is a
// message "checkpoint step" with its name and the checkpoint.
type CheckpointStep string

// The steps of a pipeline with keyed state, in order, and the ends of those that no other step follows. Commit and apply go on
// beside each other, and beside the next checkpoint.
const (
	StepStart   CheckpointStep = "start"   // the run claims the commit log
	StepRestore CheckpointStep = "restore" // the local database is brought to what the newest manifest says, until it is restored
	StepTrigger CheckpointStep = "trigger" // the barrier is sent
	StepFreeze  CheckpointStep = "freeze"  // the barrier has come to a keyed task on all edges: it freezes its state, and its writers prepare
	StepPrepare CheckpointStep = "prepare" // all tasks have given their part: what they changed in the state is stored
	StepPublish CheckpointStep = "publish" // the manifest is created
	StepCommit  CheckpointStep = "commit"  // a sink commits, until it has committed
	StepApply   CheckpointStep = "apply"   // the local database takes the changes, until they are applied

	StepRestored  CheckpointStep = "restored"
	StepCommitted CheckpointStep = "committed"
	StepApplied   CheckpointStep = "applied"
)

// trace tells that a step begins.
func trace(log *slog.Logger, s CheckpointStep, c record.Checkpoint) {
	log.Debug("checkpoint step", slog.String("step", string(s)), slog.Uint64("checkpoint", uint64(c)))
}

// traceCreate tells that a claim or a manifest is about to be created for the first time.
func traceCreate(log *slog.Logger, e machine.Create) {
	switch {
	case e.Entry.Claim != nil:
		trace(log, StepStart, 0)
	case e.Entry.Manifest != nil:
		trace(log, StepPublish, e.Entry.Manifest.Checkpoint)
	}
}
