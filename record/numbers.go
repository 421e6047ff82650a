// Package record is the vocabulary of data in flight: typed numbers, schemas, and batches of records in columns with their
// provenance. It does no I/O and uses nothing from outside the standard library.
package record

// Lease is the right of one daemon run to publish in a lane. It only grows; 0 is no lease.
type Lease uint64

// Checkpoint is the number of an aligned cut of a pipeline. Together with the lease that cut it, it is never used twice (I13).
type Checkpoint uint64

// Offset is the place of a record in its split: a Kafka offset, or a byte offset in a file.
type Offset int64

// LeaderEpoch is Kafka's leader epoch of a record; [NoLeaderEpoch] where the source has none.
type LeaderEpoch int32

// NoLeaderEpoch says that a position has no leader epoch.
const NoLeaderEpoch LeaderEpoch = -1

// Lane is the number of what commits together: one log, one lease, one coordinator. A single daemon has lane 0.
type Lane uint32

// Unit numbers the parts of a checkpoint that take effect in a target in one atomic act each.
type Unit uint32
