//go:build race

package machine

// statesMax bounds a short exploration under the race detector, which makes it several times slower and finds nothing in a
// single goroutine. Without it the same configurations are explored to the end.
const statesMax = 100_000
