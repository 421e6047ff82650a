// Package checkpoint holds what a pipeline remembers: the manifest of a checkpoint, the commit log of claims and manifests that
// decides it, and the contract of the store that keeps them. It reads no clock and draws no random number.
package checkpoint

import (
	"context"
	"errors"
)

// Store keeps named objects that never change. It may be used by several goroutines and by several processes at the same
// time. Names are slash-separated relative paths of [a-zA-Z0-9._-] elements.
//
// List and Get show every Create that returned before they were called; a store that can't promise this must not be used.
type Store interface {
	// Create stores data under name if nothing is there, atomically and durably, and never shows a part of it.
	// nil: this call created it. ErrExists: something is there, perhaps this call's own data from an attempt whose reply was
	// lost. fault.Transient: nothing was and will be created. Every other error is fault.Unknown: it may be there, now or
	// later. The data are not kept.
	Create(ctx context.Context, name string, data []byte) error
	// Get returns the whole object, or ErrNotExist. The result belongs to the caller.
	Get(ctx context.Context, name string) ([]byte, error)
	// GetRange returns length bytes from offset; fewer only at the end of the object. ErrNotExist as Get.
	GetRange(ctx context.Context, name string, offset, length int64) ([]byte, error)
	// List returns the names that begin with prefix and are above after ("" for all), sorted by byte.
	List(ctx context.Context, prefix, after string) ([]string, error)
	// Delete removes an object; nil also when it is not there. An error may have removed it.
	Delete(ctx context.Context, name string) error
}

// BatchDeleter is a [Store] that removes many objects by fewer requests than one for each.
type BatchDeleter interface {
	// DeleteAll removes objects, in the order of their names' places or all at once; nil also for those that are not there. An error
	// may have removed any of them. Error kinds as Store.Delete.
	DeleteAll(ctx context.Context, names []string) error
}

// Prober is a [Store] whose server may lack what a store must promise.
type Prober interface {
	// Probe tries it, by an object of its own that it removes. Error kinds: fault.Misconfigured with what a person must do,
	// fault.Transient when it could not be found out.
	Probe(ctx context.Context) error
}

// DeleteAll removes objects by as few requests as the store allows. After an error any of them may be gone; it may be called again.
// An object must not be in the same call as a manifest that names it: nobody says which goes first.
func DeleteAll(ctx context.Context, store Store, names []string) error {
	_, err := deleteAll(ctx, store, names)
	return err
}

// deleteAll also tells how many are gone for sure.
func deleteAll(ctx context.Context, store Store, names []string) (int, error) {
	if b, ok := store.(BatchDeleter); ok && len(names) > 1 {
		if err := b.DeleteAll(ctx, names); err != nil {
			return 0, err
		}
		return len(names), nil
	}
	for i, name := range names {
		if err := store.Delete(ctx, name); err != nil {
			return i, err
		}
	}
	return len(names), nil
}

// ErrExists says that Create found an object under the name.
var ErrExists = errors.New("object exists")

// ErrNotExist says that no object has the name.
var ErrNotExist = errors.New("no such object")
