package codec

import (
	"github.com/ingestd/ingestd/record"
)

// Encoder turns rows of a batch into bytes, for sinks that store records. It is used by one goroutine at a time and keeps no
// reference to what it was given.
type Encoder interface {
	// Encode appends the encoded form of one row to dst and returns the extended slice, as append does. ok false means that
	// the row has no form (a text that is no UTF-8, say): dst is returned as it was, and the refusal names row, column and
	// reason. No other failure exists. In steady state it allocates nothing but what dst needs.
	Encode(dst []byte, b *record.Batch, row int) (out []byte, refusal record.Refusal, ok bool)
}

// EncoderFactory makes encoders. One factory is one configured encoding of a sink; its methods may be called by several
// goroutines at the same time.
type EncoderFactory interface {
	// New returns an encoder for rows of a schema; a task has its own. Errors are fault.Misconfigured: a column's type has
	// no form, with the column named; fault.Transient: a schema registry does not answer.
	New(schema *record.Schema) (Encoder, error)
}
