//go:build invariants

package invariant

// Expensive reports whether checks that walk a whole state are compiled in: if invariant.Expensive { … }.
const Expensive = true
