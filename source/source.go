// Package source is the contract of what records are read from: splits with an order and a position of their own, found by a
// [Source] and read by a [Reader] for one task.
//
// A source never decides what was read: positions are part of the checkpoint's manifest, and a run begins where the newest
// manifest says. A source has no memory of its own between runs.
package source

import (
	"context"

	"github.com/ingestd/ingestd/record"
)

// Position is where a split stands: the next record that was not read yet.
type Position struct {
	Split       string             `json:"split"`    // unique in the pipeline: "orders/3", or a file's path
	Identity    string             `json:"identity"` // what must not change under the name: a topic ID, a file's identity
	Offset      record.Offset      `json:"offset"`   // next offset to read, always a resolved number
	LeaderEpoch record.LeaderEpoch `json:"leader_epoch"`
}

// Split is a part of the source with its position and, in bounded mode, its end.
type Split struct {
	Position
	// Until is the end bound: the split is finished when its position's offset is at or above it. [Unbounded] without one.
	Until record.Offset `json:"until"`
	// Finished is true once the position reached the bound. A finished split is not read again.
	Finished bool `json:"finished"`
}

// Unbounded as [Split.Until] says that a split has no end.
const Unbounded record.Offset = -1

// Source finds splits and opens readers. Discover and Open may be called by several goroutines at the same time.
type Source interface {
	// Discover lists the splits that exist now and are not in known, with their start position and end bound resolved to
	// numbers. On the first start of a pipeline known is empty, and the configured start policy counts; later, a split that
	// is not in known is new and begins at its first record (the bounded mode never finds new ones once known is not empty).
	// It also checks known against the source and answers fault.Lost, naming split and numbers, when a known split was
	// recreated, or fault.Transient when the source can't be asked now. The result is sorted by split and may be empty.
	Discover(ctx context.Context, known []Split) ([]Split, error)
	// Open returns a reader of the given splits, beginning at their positions. Budget bounds what it holds. It may wait for
	// the network; it must not read records that nobody polled beyond what the budget allows.
	Open(ctx context.Context, splits []Split, budget Budget) (Reader, error)
	// Bounded reports whether the source has an end: every split that Discover returns then has a bound.
	Bounded() bool
	// Committed tells the source which positions are in a checkpoint that every sink has committed, for lag tools only. It
	// must not block on the network beyond ctx, and its error is only counted.
	Committed(ctx context.Context, positions []Position) error
	// Close releases what the source holds. Its readers are closed before.
	Close() error
}

// Reader reads the splits of one task. It is used by one goroutine at a time.
type Reader interface {
	// Poll waits until there is something to tell and returns it: records of one split, or progress without records, or
	// nothing when ctx ends. Records of a split come in order, without gaps and without repeats, from its position on.
	//
	// Kinds of error: fault.Lost (truncation, offset out of range, recreated: the reader must not be used any more, nothing
	// past the gap was handed out), fault.Transient and fault.Unknown (the pipeline recovers), fault.Misconfigured. While a
	// broker is away or a leader moves the reader retries inside, with backoff, and reports it by Waiting.
	Poll(ctx context.Context) (Fetch, error)
	// Add begins to read splits that were found while running.
	Add(ctx context.Context, splits []Split) error
	// Lag tells how far each split is behind, as last seen; it does no I/O.
	Lag() []Lag
	// Waiting returns why the reader can't go on at the moment, or "" when it can.
	Waiting() string
	// Close ends fetching and gives back the budget of what was fetched and not handed out.
	Close() error
}

// Fetch is what one poll found out about one split. The zero Fetch says nothing happened.
type Fetch struct {
	// Next is the position after everything in this fetch, control records and gaps included. With Rows = 0 it is progress
	// without records. Next.Split is "" in the zero Fetch.
	Next Position
	// Rows are the raw records, in order. The slices belong to the receiver until Release.
	Rows []Row
	// Finished says that the position reached the split's bound: it is the last fetch of this split.
	Finished bool
	// Topic and Partition name the split for metadata columns; a file has "" and 0.
	Topic     string
	Partition int32
	// Release gives the bytes back to the budget and the memory back to the source. It is called exactly once, from any
	// goroutine, when nothing refers to Rows any more; nil when there is nothing to release.
	Release func()
	// Refused lists records that the source itself can't hand on (a line above record_bytes_max). They have their place
	// among Rows by offset, and their effect is a dead letter.
	Refused []record.DeadLetter
}

// Row is one raw record. Its slices alias the fetch's memory.
type Row struct {
	Offset    record.Offset
	Timestamp int64 // milliseconds since 1970, UTC; -1 without one
	Key       []byte
	Value     []byte // nil is a tombstone
	Headers   []record.Header
}

// Lag is how far a split is behind its end.
type Lag struct {
	Split   string
	Records int64   // -1 unknown
	Seconds float64 // age of the next record that was not read, 0 at the end, -1 unknown
}

// Budget bounds the bytes of records in flight (I11). It may be used by several goroutines at the same time.
type Budget interface {
	// Acquire takes n bytes and waits while they can't be had. It fails only when ctx ends.
	Acquire(ctx context.Context, n int64) error
	// TryAcquire takes n bytes or answers false at once.
	TryAcquire(n int64) bool
	// Release gives n bytes back.
	Release(n int64)
}
