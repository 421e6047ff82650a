//go:build !race

package machine

// statesMax bounds a short exploration.
const statesMax = 1_000_000
