// Package step holds the stateless transformations of a pipeline and the expression language that they use.
package step

import "github.com/ingestd/ingestd/record"

// Step is one configured transformation. It is bound once to a schema and then applied by one task at a time; each task binds
// its own.
type Step interface {
	// Name is the step's id in counters, dead letters and messages: its `id`, else its type and place ("filter-2").
	Name() string
	// Bind checks the step against the schema of the batches that it will get and returns the schema of those it makes.
	// Errors are fault.Misconfigured and say what was expected.
	Bind(in *record.Schema) (out *record.Schema, apply Apply, err error)
}

// Apply transforms a batch in place: it may drop rows, change columns and b.Schema, never the order of rows. What it can't
// transform it takes out of the batch and adds to res. In = passed + filtered + refused holds for each call (I12).
type Apply func(b *record.Batch, res *Result)

// Result collects what a step took out of a batch. The caller resets and reuses it.
type Result struct {
	Filtered int64
	// Refused are the rows that go to the dead letters, complete with provenance.
	Refused []record.DeadLetter
}

// Wanter is implemented by steps that rename, remove or make columns. The pipeline asks backwards from what the sink takes.
type Wanter interface {
	// Want returns the columns that the step needs before it so that out comes after it: rename maps a name back, set takes
	// out the column that it makes, cast gives the type before. Columns that only its expressions use are not its business:
	// decode.columns declares them.
	Want(out *record.Schema) *record.Schema
}
