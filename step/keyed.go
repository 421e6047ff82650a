package step

import (
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// KeyedStep is a configured step that remembers by key. It runs in the second stage of a pipeline, after the exchange: all rows
// of a key reach the same task, in the order of their split (I10). All keyed steps of a pipeline have the same key.
type KeyedStep interface {
	// Name is as [Step]'s. State is found again by it: a step with another name begins with nothing.
	Name() string
	// KeyColumns names the columns that make the key, in order; at least one.
	KeyColumns() []string
	// BindKeyed checks the step against the schema of the batches that it will get, and returns the schema of those it makes
	// and the states that it keeps, which are compared with what an earlier run stored. Errors are fault.Misconfigured.
	BindKeyed(in *record.Schema) (KeyedBinding, error)
}

// KeyedBinding is a keyed step as bound to a schema. Each task opens its own operator.
type KeyedBinding struct {
	Out    *record.Schema
	States []state.Descriptor
	Open   func(t *state.Task) (Operator, error)
}

// Operator is a keyed step in one task. Only the task's goroutine uses it.
type Operator interface {
	// Process takes a batch of rows of the task's key groups. Like [Apply] it changes the batch in place, and accounts in res
	// for each row that it takes out: in = passed + filtered + deduplicated + absorbed + late + refused (I12). keys has one
	// entry for each row and is kept in step with the batch by the operator that drops rows.
	Process(b *record.Batch, keys *state.Keys, res *KeyedResult) error
	// Advance tells how far event time is known to have come (the watermark: no row of an older time is expected; state.NoTime
	// before the first) and the clock, both in milliseconds since 1970. Rows that are due go to out, and are counted as made.
	Advance(watermark, clock int64, out *record.Batch, res *KeyedResult) error
	// End tells that the bounded input is over: what waits for an end goes to out.
	End(out *record.Batch, res *KeyedResult) error
}

// KeyedResult collects what a keyed step took out of a batch, and what it made. The caller resets and reuses it.
type KeyedResult struct {
	Result
	Deduplicated int64 // rows whose key was seen before
	Absorbed     int64 // rows that live on in state
	Late         int64 // rows that came after their window was gone, and are counted only
	Made         int64 // rows that the step added
}
