package checkpoint

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
)

const (
	kindStore    = "store"
	kindPipeline = "pipeline"
	// storeIDBytes are the random bytes of a store ID: two stores never have the same.
	storeIDBytes = 16
	// openAttempts bounds how often an object is sent again whose fate is not known. The caller backs off and opens again.
	openAttempts = 3
)

// Keyed state is divided by these, and a pipeline never changes them: its key group is XXH64 of the encoded key, seed 0,
// modulo the number.
const (
	keyGroupFunction = "xxh64"
	keyGroupsDefault = 256
	keyGroupsMax     = 1 << 16
)

type storeObject struct {
	StoreID string `json:"store_id"`
}

type pipelineObject struct {
	StoreID          string `json:"store_id"`
	Pipeline         string `json:"pipeline_id"`
	KeyGroupFunction string `json:"key_group_function"`
	KeyGroups        int    `json:"key_groups"`
}

// OpenStore returns the ID of the store, and makes it of random, 16 bytes, if the store has none. Any number of runs may do so
// at the same time: all get the same ID.
//
// Error kinds: fault.Transient, fault.Unknown (call again, with the same or other random bytes), fault.Corrupt when the ID can't
// be read, fault.Misconfigured when a newer version wrote it.
func OpenStore(ctx context.Context, store Store, random []byte) (string, error) {
	const op = "checkpoint.OpenStore"
	if len(random) != storeIDBytes {
		return "", fault.E(op, fault.Misconfigured, fmt.Errorf("%d random bytes, want %d", len(random), storeIDBytes))
	}
	fresh, err := encode(kindStore, &storeObject{StoreID: hex.EncodeToString(random)})
	if err != nil {
		return "", fault.E(op, fault.Misconfigured, err)
	}
	data, err := createOrGet(ctx, store, StoreName, fresh)
	if err != nil {
		return "", fault.E(op, fault.KindOf(err), err)
	}
	id, err := parseStore(data)
	if err != nil {
		return "", classifyRead(op, err)
	}
	return id, nil
}

// StoreID returns the ID of the store, and changes nothing: ok is false when the store has none yet. Error kinds:
// fault.Transient, fault.Unknown, fault.Corrupt, fault.Misconfigured, as of [OpenStore].
func StoreID(ctx context.Context, store Store) (id string, ok bool, err error) {
	const op = "checkpoint.StoreID"
	data, err := store.Get(ctx, StoreName)
	if errors.Is(err, ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fault.E(op, fault.KindOf(err), err)
	}
	if id, err = parseStore(data); err != nil {
		return "", false, classifyRead(op, err)
	}
	return id, true, nil
}

func parseStore(data []byte) (string, error) {
	var o storeObject
	if err := decode(kindStore, data, &o); err != nil {
		return "", fmt.Errorf("object %q: %w", StoreName, err)
	}
	if id, err := hex.DecodeString(o.StoreID); err != nil || len(id) != storeIDBytes {
		return "", fmt.Errorf("object %q: %q is no store ID", StoreName, o.StoreID)
	}
	return o.StoreID, nil
}

// OpenPipeline makes the folder of a pipeline, or checks that the folder that is there is this pipeline's in this store, and
// returns its number of key groups. The first to open it fixes that number: groups, or 256 for 0. Later ones ask for the same
// or for 0. It may be called by any number of runs at the same time, and again.
//
// Error kinds: fault.Misconfigured when the folder was copied from another store or is another pipeline's, has another number of
// key groups, when a newer version wrote it, or when the ID or the number can't be one; fault.Corrupt when it can't be read or is
// missing where a log is; fault.Transient, fault.Unknown.
func OpenPipeline(ctx context.Context, store Store, storeID, pipeline string, groups int) (int, error) {
	const op = "checkpoint.OpenPipeline"
	if err := checkPipelineID(pipeline); err != nil {
		return 0, fault.E(op, fault.Misconfigured, err)
	}
	if groups < 0 || groups > keyGroupsMax {
		return 0, fault.E(op, fault.Misconfigured, fmt.Errorf("%d key groups, want at most %d", groups, keyGroupsMax))
	}
	want := pipelineObject{StoreID: storeID, Pipeline: pipeline, KeyGroupFunction: keyGroupFunction, KeyGroups: cmp.Or(groups, keyGroupsDefault)}
	fresh, err := encode(kindPipeline, &want)
	if err != nil {
		return 0, fault.E(op, fault.Misconfigured, err)
	}
	name := PipelineName(pipeline)
	data, err := store.Get(ctx, name)
	if errors.Is(err, ErrNotExist) {
		data, err = firstOpen(ctx, store, pipeline, fresh)
	}
	if err != nil {
		return 0, fault.E(op, fault.KindOf(err), err)
	}
	var got pipelineObject
	if err := decode(kindPipeline, data, &got); err != nil {
		return 0, classifyRead(op, fmt.Errorf("object %q: %w", name, err))
	}
	if groups == 0 {
		want.KeyGroups = got.KeyGroups
	}
	return got.KeyGroups, got.compare(op, want)
}

// firstOpen makes the pipeline's object. A log without it is what is left of a copy that was not complete, or of a deletion.
func firstOpen(ctx context.Context, store Store, pipeline string, fresh []byte) ([]byte, error) {
	name := PipelineName(pipeline)
	prefix := pipeline + "/" + folderLog + "/"
	entries, err := store.List(ctx, prefix, "")
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return createOrGet(ctx, store, name, fresh)
	}
	data, err := store.Get(ctx, name) // another run may have made both since
	if errors.Is(err, ErrNotExist) {
		return nil, fault.E("checkpoint.OpenPipeline", fault.Corrupt, fmt.Errorf("%q has a log and no object %q", prefix, name))
	}
	return data, err
}

// compare reports as fault.Misconfigured how a folder differs from what is configured.
func (o pipelineObject) compare(op fault.Op, want pipelineObject) error {
	folder := want.Pipeline + "/"
	switch {
	case o.Pipeline != want.Pipeline:
		return fault.WithRemedy(op, fault.Misconfigured,
			fmt.Errorf("folder %q belongs to the pipeline %q: it was renamed or copied, and a pipeline's ID can't change", folder, o.Pipeline),
			fmt.Sprintf("give the folder its name %q back and set id = %q", o.Pipeline, o.Pipeline))
	case o.StoreID != want.StoreID:
		return fault.WithRemedy(op, fault.Misconfigured,
			fmt.Errorf("folder %q was made in the store %s, this is the store %s: it was copied here, and the original may still run",
				folder, o.StoreID, want.StoreID),
			"use the original store, or a pipeline ID that this store does not have")
	case o.KeyGroupFunction != want.KeyGroupFunction || o.KeyGroups < 1 || o.KeyGroups > keyGroupsMax:
		return fault.E(op, fault.Misconfigured, fmt.Errorf("folder %q has %d key groups by %s, this version knows 1 to %d by %s",
			folder, o.KeyGroups, o.KeyGroupFunction, keyGroupsMax, keyGroupFunction))
	case o.KeyGroups != want.KeyGroups:
		return fault.WithRemedy(op, fault.Misconfigured,
			fmt.Errorf("the pipeline has %d key groups since its first start, key_groups asks for %d", o.KeyGroups, want.KeyGroups),
			fmt.Sprintf("set key_groups = %d or leave it out; tasks can be as many as there are key groups", o.KeyGroups))
	}
	return nil
}

// createOrGet returns what is stored under name, which is data if nothing was. It ends only with bytes that are read back, or
// whose creation was confirmed: an unknown outcome is asked again, with the same bytes.
func createOrGet(ctx context.Context, store Store, name string, data []byte) ([]byte, error) {
	var last error
	for range openAttempts {
		got, err := store.Get(ctx, name)
		if !errors.Is(err, ErrNotExist) {
			return got, err
		}
		last = store.Create(ctx, name, data)
		switch {
		case last == nil:
			return data, nil
		case errors.Is(last, ErrExists), fault.KindOf(last) == fault.Unknown:
		default:
			return nil, last
		}
	}
	got, err := store.Get(ctx, name)
	if errors.Is(err, ErrNotExist) {
		return nil, fault.E("checkpoint.Create", fault.Unknown, fmt.Errorf("object %q: %w", name, last))
	}
	return got, err
}
