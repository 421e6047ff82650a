// Package sink is the contract of what rows are written to, exactly once, in two phases: a [Writer] of each task prepares rows
// durably and invisibly, and the pipeline's one [Committer] makes them visible after the manifest that lists them is published.
//
// Every sink answers four questions in its package doc and in its tests: what is prepared, what is the decision's proof (the
// ledger), who can still act late (the fence), and what can expire. sinktest holds each rule of this contract as a case.
package sink

import (
	"context"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Outcome is what is known about a commit. The zero value is the worst case.
type Outcome uint8

const (
	// Unknown means that the commit may or may not have taken effect, now or later: ask again by the same Commit.
	Unknown Outcome = iota
	// Committed means that the committable has taken effect, exactly once, now or in an earlier call.
	Committed
	// Retry means that nothing has taken effect and that the same call may succeed later.
	Retry
	// Rejected means that the target refuses named rows, and that nothing of this unit has taken or will take effect.
	Rejected
	// Lost means that the committable can't ever be done.
	Lost
	// Fenced means that the target was taken over by another run. Read the own log before it is obeyed.
	Fenced
)

// String returns the outcome's name in lower case, as in logs and metrics.
func (o Outcome) String() string {
	names := [...]string{"unknown", "committed", "retry", "rejected", "lost", "fenced"}
	if int(o) < len(names) {
		return names[o]
	}
	return "invalid"
}

// Identity is who writes: the same everywhere in names, ledgers and fences.
type Identity struct {
	StoreID  string // of the checkpoint store: a copied folder or a fresh store has another
	Pipeline string // the pipeline's ID
	Lane     record.Lane
	Sink     string // the sink's ID in the pipeline: "sink" unless it has one, "dead_letter"
}

// Committable is what makes one unit of a checkpoint visible, and does so again after a crash. It is part of the manifest and
// never changes once published. (Lease, Checkpoint, Unit) with the [Identity] is its name everywhere.
type Committable struct {
	Lease      record.Lease      `json:"lease"` // the lease that cut it
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Unit       record.Unit       `json:"unit"`
	Rows       int64             `json:"rows"`
	Bytes      int64             `json:"bytes"`
	Segments   []Segment         `json:"segments,omitempty"` // in order
	Version    int               `json:"version"`            // of Data, by the sink
	Data       []byte            `json:"data,omitempty"`     // the sink's own
}

// Segment names prepared rows in the checkpoint store, below the pipeline's staging folder.
type Segment struct {
	Name     string `json:"name"` // relative to the pipeline's folder, holds lane and lease
	Bytes    int64  `json:"bytes"`
	Rows     int64  `json:"rows"`
	Checksum uint64 `json:"checksum"` // XXH64 of the stored bytes
}

// Part is what one task's writer prepared for one checkpoint. It travels to the coordinator by value.
type Part struct {
	Task     int
	Rows     int64
	Bytes    int64
	Segments []Segment
	Data     []byte // the sink's own, small
}

// SegmentStore is the view of the checkpoint store that a sink gets: one folder of segments. It may be used by several
// goroutines at the same time.
type SegmentStore interface {
	// Put stores data under a new name of the current lease; it is durable when Put returns nil. After an error nothing
	// refers to it, and the run's collection removes it.
	Put(ctx context.Context, data []byte, rows int64) (Segment, error)
	// Get returns the bytes of a segment, checked against its checksum: fault.Corrupt when they differ, fault.Lost when it
	// is not there.
	Get(ctx context.Context, s Segment) ([]byte, error)
}

// Env is what a run gives a sink when it opens.
type Env struct {
	Identity Identity
	Lease    record.Lease // of this run; 0 when only Capabilities, Schema and Check are wanted
	Segments SegmentStore
	Cache    codec.Cache // for encoders that keep something; nil: there is none
	Tasks    int         // how many writers may be asked for
	// AtLeastOnce is true when commits go before the manifest.
	AtLeastOnce bool
	// Adopt lets the sink take a target over that another checkpoint store wrote to, by Restore and Fence: a person asked for
	// it. Lease is above every lease of that store then, and nothing is pending.
	Adopt bool
}

// Plugin is one configured sink before it runs. Its methods may be called before any lease is held and change nothing in the target.
type Plugin interface {
	// Capabilities tells form, ledger, fence and limits, as far as the config alone decides them.
	Capabilities() Capabilities
	// Inspect connects and reads the target: columns, settings, grants. It returns what was found, complete with each
	// problem and the statement that mends it. It creates and changes nothing. Error kinds: Transient when the target can't
	// be reached, Misconfigured when it can't be used.
	Inspect(ctx context.Context, id Identity) (Inspection, error)
	// Open returns the sink for one run under env.Lease. It may create the sink's own helper objects (ledger, fence).
	Open(ctx context.Context, env Env) (Sink, error)
}

// Prober is a [Plugin] that must know the rows' columns to tell whether it can take them: one that registers their schema, say.
type Prober interface {
	// Probe asks servers other than the target, and changes nothing there. Findings and error kinds are as those of Inspect.
	Probe(ctx context.Context, schema *record.Schema) ([]Finding, error)
}

// Inspection is what a look at the target found.
type Inspection struct {
	// Schema is what rows the target takes; nil when it takes any columns.
	Schema *record.Schema
	// Findings are problems and remarks, worst first.
	Findings []Finding
	// Owner is who wrote to the target last as this pipeline, lane and sink; nil when nobody did.
	Owner *Owner
	// Untouched says that the target holds nothing of this pipeline, lane and sink, though there is an Owner: a fence may be that
	// of several targets.
	Untouched bool
}

// Owner is the run that raised a target's fence last.
type Owner struct {
	StoreID string
	Lease   record.Lease
}

// Finding is one fact about a target that bears on the guarantee.
type Finding struct {
	Level  Level
	Text   string // what is so, in one sentence
	Remedy string // the exact statement that mends it, or ""
}

// FindingsOf makes findings of what a [codec.Prober] says.
func FindingsOf(notes, blocks []string) []Finding {
	var out []Finding
	for _, text := range blocks {
		out = append(out, Finding{Level: Blocks, Text: text})
	}
	for _, text := range notes {
		out = append(out, Finding{Level: Note, Text: text})
	}
	return out
}

// Level says what a finding means for the pipeline.
type Level uint8

const (
	// Note is worth telling and changes nothing.
	Note Level = iota
	// Weakens means that the guarantee holds with the exception that the text names.
	Weakens
	// Forbids means that exactly-once can't hold: the pipeline is refused unless it asks for at-least-once.
	Forbids
	// Blocks means that the sink can't be used at all.
	Blocks
)

// Sink is one open sink of one run. Writers and the committer work at the same time; Assemble is called by the coordinator's
// goroutine only, in order of checkpoints.
type Sink interface {
	// Writer returns the writer of one task, 0 <= task < Env.Tasks, for batches of the given schema.
	Writer(ctx context.Context, task int, schema *record.Schema) (Writer, error)
	// Committer returns the run's committer. It is called once.
	Committer() Committer
	// Restore tells the sink its state of the newest manifest, before anything is assembled or written. Empty on the first
	// start. pending are the committables that are not known Committed.
	Restore(ctx context.Context, state []byte, pending []Committable) error
	// Assemble makes the committables of a checkpoint from its tasks' parts (sorted by task; tasks without rows may be
	// absent), and the sink's state after it. It is called only when the manifest with the state of the call before (or of
	// Restore) is known to be published. It does no I/O and must not depend on anything but its arguments and earlier
	// calls. It may return no committable for no rows. Units are numbered 0, UnitStep, 2 * UnitStep …
	Assemble(cut Cut, parts []Part) (Assembled, error)
	// Close releases connections. It does not commit, and it removes nothing that a manifest may name.
	Close() error
}

// UnitStep is the distance of a checkpoint's unit numbers. A unit that takes the place of another, because rows were refused at
// commit, has the next number above it, so that the order of units, and with it a ledger of the highest one, stays right.
const UnitStep record.Unit = 1 << 16

// Cut is a checkpoint about to be decided.
type Cut struct {
	Lease      record.Lease
	Checkpoint record.Checkpoint
	// Time is when the barrier was cut, milliseconds since 1970 by the daemon's clock: only for decisions that are stored,
	// such as rolling a file by age.
	Time int64
	// Final is true for the last checkpoint of a bounded run or of a shutdown.
	Final bool
	// Roll asks a sink that collects rows over several checkpoints to make committables of all that it holds.
	Roll bool
}

// Assembled is a sink's part of a manifest.
type Assembled struct {
	Committables []Committable
	State        []byte // small: it is in every manifest
}

// Writer turns one task's batches into prepared rows. It is used by one goroutine.
type Writer interface {
	// Write takes all rows of b. It keeps no reference to b, and changes nothing in it: other sinks get it too. The rows that
	// the target's schema lets it know can't be stored are not taken and returned as refusals, in order of rows. An error
	// leaves the writer unusable until the run recovers.
	Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error)
	// Prepare ends the checkpoint's part: when it returns nil, every row that was written since the last Prepare is durable,
	// and invisible in the target.
	Prepare(ctx context.Context, cut Cut) (Part, error)
	// Close drops what was not prepared.
	Close() error
}

// Committer makes committables visible. It is used by one goroutine; at most one call is under way (I7).
type Committer interface {
	// Fence keeps every older lease from taking effect, now and later, before the ledger is asked. It is called before the
	// first Commit of a run, and again after Fenced was answered though the own log shows no newer claim. Error kinds:
	// Fenced when a newer lease is there already, Transient and Unknown to call again, Lost for another store ID.
	Fence(ctx context.Context) error
	// Commit makes c visible, or finds that it is. It is called again with the same c until the outcome is Committed, also
	// by later runs and days later. The error explains every outcome but Committed and says nothing else.
	// Rejected comes with the rows; for the rest see [Outcome].
	Commit(ctx context.Context, c Committable) (Outcome, []RejectedRow, error)
	// Replace returns the committable that takes the place of c without the rejected rows: same lease and checkpoint, the
	// given unit, its bytes durable. c.Rows less the rejected rows are its rows; it may be empty.
	Replace(ctx context.Context, c Committable, rejected []RejectedRow, unit record.Unit) (Committable, error)
}

// RejectedRow is a row that the target refused at commit. Row counts from 0 over the committable's rows.
type RejectedRow struct {
	Row    int64
	Letter record.DeadLetter
}

// Capabilities states in code what a sink promises and what its limits are; the pipeline's guarantee is derived from it.
type Capabilities struct {
	Form Form
	// Ledger, Fence and Expiry are one sentence each, for validate and the docs; "" for none.
	Ledger, Fence, Expiry string
	// ExactlyOnce is false for a sink that can't tell whether a committable took effect.
	ExactlyOnce bool
	// DeadLetters is true when the sink can take dead letters.
	DeadLetters bool
	// AnyColumns is true when Inspect never asks for columns: steps can then be checked without a look at the target.
	AnyColumns bool
	// Visible says in one sentence when a reader of the target sees rows.
	Visible string
	// Limits are what the sink refuses, or keeps its promise only with, one sentence each: for the docs.
	Limits []string
	// Tested names the servers, with their versions, on which the sink's tests run: for the docs.
	Tested string
	// CommitBytes is the memory that one commit takes at most; the daemon keeps it out of the budget for data in flight.
	CommitBytes int64
}

// Form is how rows are prepared.
type Form uint8

const (
	// Staged rows lie in segments of the checkpoint store.
	Staged Form = iota + 1
	// ServerSide rows lie in the target, invisible.
	ServerSide
	// Direct rows have no effect that could be doubled (blackhole).
	Direct
)
