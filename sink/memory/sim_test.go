//go:build synctests

package memory

import (
	"testing"

	"github.com/ingestd/ingestd/sink/sinktest"
)

// Every call of the script is broken in every way, and many more histories are tried.
func TestSimMemory_everyCall(t *testing.T) {
	h := harness(faultless)
	h.Histories, h.Stride, h.Seed = 4000, 1, 1000
	sinktest.Run(t, h)
}
