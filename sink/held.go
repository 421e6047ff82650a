package sink

// Holder is a [Plugin] whose sinks collect rows over several checkpoints before a committable names them. A [Cut] with Roll ends the
// collecting, except for what a writer has gone on with meanwhile.
type Holder interface {
	// Held returns how many rows a sink with this state, which Assemble has returned, holds: durable, and named by no committable
	// so far. It does no I/O. Error kinds: fault.Corrupt, fault.Misconfigured for a state that it can't read.
	Held(state []byte) (rows int64, err error)
}
