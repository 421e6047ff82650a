// Package state is the keyed state of steps: typed values, lists and maps by key, with expiry and timers, which take part in the
// pipeline's checkpoints.
//
// A [Task] holds the state of one keyed task in two layers: what has changed since the newest applied checkpoint, in memory, and
// what is applied, behind a [Reader]. A barrier freezes the changes; they become a [Delta], which is stored with the checkpoint
// and applied to the local database only after its manifest is published (I8). What a delta says is absolute, so applying it
// again, or over a newer copy of the same keys, changes nothing.
package state

// Group is a key group: a fixed hash range of keys, by which keyed state is stored and moved. It is at most 65,535.
type Group uint16

// Reader shows what is applied. It may be used by several goroutines, and while a delta is applied: a read shows all of a delta
// or nothing of it.
type Reader interface {
	// Get appends the value of a key to dst; ok is false, and dst as it was, when there is none.
	Get(dst, key []byte) (value []byte, ok bool, err error)
	// Scan calls f with each key from `from` up to but not including `to`, in order, until f returns false. Key and value are
	// valid during the call. What it shows is of one moment.
	Scan(from, to []byte, f func(key, value []byte) bool) error
}

// Delta is what one checkpoint changes, in absolute operations: first every range is emptied, then the keys are written or
// deleted.
type Delta struct {
	Drops []Range // sorted by From
	Ops   []Op    // sorted by Key, each key once
}

// Range holds the keys from From up to but not including To.
type Range struct{ From, To []byte }

// Op writes or deletes one key.
type Op struct {
	Key    []byte
	Value  []byte
	Delete bool
}
