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

// ErrExists says that Create found an object under the name.
var ErrExists = errors.New("object exists")

// ErrNotExist says that no object has the name.
var ErrNotExist = errors.New("no such object")
