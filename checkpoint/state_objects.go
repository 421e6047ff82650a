package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// folderState holds what keyed state is made of: below it stand lane and lease, as in the staging folder, so that what an older
// run still writes or deletes is never its successor's.
const folderState = "state"

// StatePrefix begins the names of the objects of keyed state that a run stores under its lease, relative to the pipeline's folder.
func StatePrefix(lane record.Lane, lease record.Lease) string {
	return fmt.Sprintf("%s/%d/%0*d/", folderState, lane, seqDigits, lease)
}

// StateObjects is the view of the store that keyed state gets: objects below the pipeline's folder, by their relative names. It may
// be used by several goroutines at the same time.
type StateObjects struct {
	store    Store
	pipeline string
}

// NewStateObjects returns the objects of a pipeline.
func NewStateObjects(store Store, pipeline string) *StateObjects {
	return &StateObjects{store: store, pipeline: pipeline}
}

// Put stores an object under a name that is used for these bytes only. When an answer stays away it sends the same again, and takes
// an object that is there for its own only if it has the same bytes. Error kinds: fault.Corrupt when it has others, else the
// store's own.
func (o *StateObjects) Put(ctx context.Context, name string, data []byte) error {
	const op = "checkpoint.PutState"
	full := ObjectName(o.pipeline, name)
	var err error
	for range putAttempts {
		err = o.store.Create(ctx, full, data)
		if err == nil || fault.KindOf(err) != fault.Unknown || ctx.Err() != nil {
			break
		}
	}
	if err == nil || !errors.Is(err, ErrExists) {
		return wrap(op, full, err)
	}
	got, err := o.store.Get(ctx, full)
	if err == nil && !bytes.Equal(got, data) {
		return fault.E(op, fault.Corrupt, fmt.Errorf("object %s: other bytes are under this name", full))
	}
	return wrap(op, full, err)
}

func wrap(op fault.Op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fault.E(op, fault.KindOf(err), fmt.Errorf("object %s: %w", name, err))
}

// Get returns an object's bytes, which belong to the caller. Error kinds: fault.Lost when it is not there, else the store's own.
func (o *StateObjects) Get(ctx context.Context, name string) ([]byte, error) {
	full := ObjectName(o.pipeline, name)
	data, err := o.store.Get(ctx, full)
	if errors.Is(err, ErrNotExist) {
		return nil, fault.E("checkpoint.GetState", fault.Lost, fmt.Errorf("object %s: %w", full, err))
	}
	return data, wrap("checkpoint.GetState", full, err)
}

// Sweep deletes the objects of leases below the given one that keep does not name, and returns how many. Those of the lease itself
// may be on their way into a manifest.
func (o *StateObjects) Sweep(ctx context.Context, lane record.Lane, below record.Lease, keep map[string]bool) (int, error) {
	const op = "checkpoint.SweepState"
	prefix := ObjectName(o.pipeline, fmt.Sprintf("%s/%d/", folderState, lane))
	names, err := o.store.List(ctx, prefix, "")
	if err != nil {
		return 0, wrap(op, prefix, err)
	}
	gone := slices.DeleteFunc(names, func(full string) bool {
		lease, _, _ := strings.Cut(strings.TrimPrefix(full, prefix), "/")
		n, err := strconv.ParseUint(lease, 10, 64)
		return err != nil || record.Lease(n) >= below || keep[strings.TrimPrefix(full, o.pipeline+"/")]
	})
	swept, err := deleteAll(ctx, o.store, gone)
	return swept, wrap(op, prefix, err)
}
