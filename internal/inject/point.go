// Package inject has the named points at which tests break the daemon. Without the build tag faultpoints a point is nothing.
//
// With the tag, INGESTD_FAULTS arms points for the process: a comma-separated list of point:action[:n], which acts when the
// point is reached for the n-th time (1 by default):
//
//	kill   SIGKILL to the own process
//	stop   SIGSTOP to the own process; a test sends SIGCONT
//
// Before it acts a point writes "ingestd fault point NAME reached" to standard error, so that a test counts a kill only if the
// process died at its point.
package inject

// The points of the checkpoint protocol, in the order of a record's way.
const (
	// AfterPrepare is in a task, when its rows of a checkpoint are durable and nothing else knows of them.
	AfterPrepare = "after-prepare"
	// AfterStateStored is when what a checkpoint changed in keyed state is stored, and no manifest names it.
	AfterStateStored = "after-state-stored"
	// BeforePublish is before the manifest's first Create: its reply is lost, and nothing was written.
	BeforePublish = "before-publish"
	// PublishReplyLost is after a Create that wrote the manifest, before anybody learns of it.
	PublishReplyLost = "publish-reply-lost"
	// AfterPublish is when the run knows that the manifest is published, before any commit.
	AfterPublish = "after-publish"
	// BeforeApply is when a checkpoint is published and the local database does not have its changes yet.
	BeforeApply = "before-apply"
	// BeforeCommit is before a sink is asked to commit.
	BeforeCommit = "before-commit"
	// BeforeInsert is in the ClickHouse sink, when a unit's rows are loaded and its insert is about to be sent.
	BeforeInsert = "before-insert"
	// BeforeEndTxn is in the Kafka and PostgreSQL sinks, when a unit's rows and the ledger's are written and the transaction is about
	// to be ended.
	BeforeEndTxn = "before-end-txn"
	// AfterEffect is after a sink's commit took effect, before anybody learns of it.
	AfterEffect = "after-effect"
	// BetweenSinks is when one sink is known to have committed a checkpoint and another is not.
	BetweenSinks = "between-sinks"
	// AfterCommit is when the run knows that a commit took effect and no manifest says so.
	AfterCommit = "after-commit"
	// DuringRecovery is in a takeover, after the sinks are fenced and before what is pending is committed.
	DuringRecovery = "during-recovery"
	// AfterRestore is in a start, when keyed state is restored and no record has been read.
	AfterRestore = "after-restore"
)
