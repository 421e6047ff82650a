//go:build !faultpoints

package inject

import "testing"

// A build without the tag can't be armed.
func TestPoint_isNothingWithoutItsTag(t *testing.T) {
	t.Setenv("INGESTD_FAULTS", AfterPrepare+":kill")
	Point(AfterPrepare)
}
