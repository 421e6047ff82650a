package pipeline

import (
	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// StoredState is what a manifest says of keyed state, taken apart for those who only look at it.
type StoredState struct {
	State local.State      // the objects it can be made from
	Slots []state.Slot     // every state there ever was, sorted by slot
	Times []step.SplitTime // how far event time has come in each split, sorted by split
}

// ReadState takes apart what a manifest says of keyed state; nil gives the empty state. It does not read the objects. Error kinds:
// fault.Corrupt, fault.Misconfigured for the version of a later build.
func ReadState(k *checkpoint.KeyedState) (StoredState, error) {
	kept, err := readKept(k)
	return StoredState(kept), err
}

// HasState reports whether the pipeline has keyed steps.
func (d *Definition) HasState() bool { return d.hasState() }
