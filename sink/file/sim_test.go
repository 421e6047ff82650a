//go:build synctests

package file

import (
	"testing"

	"github.com/ingestd/ingestd/sink/sinktest"
)

// Every call of the script is broken in every way, and many more histories are tried: on a disk that loses power, and with a reader
// that takes files away.
func TestSimFile_everyCall(t *testing.T) {
	for _, settings := range []Settings{everyCheckpoint(), collecting()} {
		h := harness(settings, faultless)
		h.Histories, h.Stride, h.Seed = 2000, 1, 1000
		sinktest.Run(t, h)
		h.LosesPower = false
		h.Target = func(testing.TB) sinktest.Target {
			return &folder{disk: newMemDisk(), settings: settings, consumes: true}
		}
		sinktest.Run(t, h)
	}
}
