// Package codec is the contract between bytes and columns.
package codec

import (
	"github.com/ingestd/ingestd/record"
)

// Decoder turns raw records into rows of a batch. It is used by one goroutine at a time and keeps no reference to what it was
// given.
type Decoder interface {
	// Decode appends one row to b's columns from value, the raw record (nil is a tombstone). It does not touch b.Meta.
	// ok false means that the record does not fit: b is unchanged, and the refusal says why, where (column and byte). No other
	// failure exists. In steady state it allocates nothing.
	Decode(b *record.Batch, value []byte) (refusal record.Refusal, ok bool)
}

// Factory makes decoders for a schema. One factory is one configured codec of a pipeline.
type Factory interface {
	// Schema completes the schema that the decoder fills: wanted is what the sink takes (nil: anything), after the metadata
	// columns were taken out. The result names the decoded columns in order. Errors are fault.Misconfigured.
	Schema(wanted *record.Schema) (*record.Schema, error)
	// New returns a decoder that fills the columns of a schema that Schema returned. A task has its own decoder.
	New(schema *record.Schema) (Decoder, error)
}
