package source

import (
	"context"
	"time"
)

// The interfaces below are optional: a source or a reader that has more to say implements them, and the pipeline finds them
// by type assertion.

// Checker is a [Source] that can be asked whether it would work, before a pipeline starts.
type Checker interface {
	// Check asks the source's system and returns what it found, worst first; none means that all is well. It changes
	// nothing there. What could not be asked is a finding too.
	Check(ctx context.Context) []Finding
}

// Rediscoverer is a [Source] whose splits can grow in number while it runs.
type Rediscoverer interface {
	// DiscoveryInterval is how often Discover should be called while running; 0 means never again.
	DiscoveryInterval() time.Duration
}

// Sizer is a [Source] that knows how much its readers acquire at once.
type Sizer interface {
	// AcquireMax returns the largest number of bytes that a reader acquires in one call. A budget that is smaller must grant
	// it all the same when nothing else is taken, and is not kept then.
	AcquireMax() int64
}

// LossCounter is a [Reader] that was configured to go on where records are gone.
type LossCounter interface {
	// Lost returns how many offsets were passed over because their records were deleted before they were read. It only
	// grows, does no I/O, and may be called from any goroutine.
	Lost() int64
}

// Finding is one fact about a source that bears on the pipeline.
type Finding struct {
	Level  Level
	Text   string // what is so, in one sentence
	Remedy string // what mends it, or ""
}

// Level says what a [Finding] means for the pipeline.
type Level uint8

const (
	// Note is worth telling and changes nothing.
	Note Level = iota
	// Weakens means that the guarantee holds with the exception that the text names.
	Weakens
	// Blocks means that the source can't be read.
	Blocks
)
