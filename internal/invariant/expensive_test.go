//go:build invariants

package invariant_test

import (
	"testing"

	"github.com/ingestd/ingestd/internal/invariant"
)

// The tag is what makes expensive checks run in tests: a wrong constant would switch all of them off in silence.
func TestExpensive_isOnUnderItsTag(t *testing.T) {
	if !invariant.Expensive {
		t.Error("got Expensive false under -tags invariants, want true")
	}
}
