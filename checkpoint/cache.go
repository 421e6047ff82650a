package checkpoint

import (
	"context"
	"errors"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
)

// folderCache holds what plugins keep for later runs: objects that are never needed for what is promised, and never change.
const folderCache = "cache"

// Cache keeps small objects of a pipeline beside its checkpoints, for the plugins of all its runs. Nothing that is promised depends
// on them. It may be used by several goroutines at the same time.
type Cache struct {
	store    Store
	pipeline string
}

var _ codec.Cache = (*Cache)(nil)

// NewCache returns the cache of a pipeline.
func NewCache(store Store, pipeline string) *Cache { return &Cache{store: store, pipeline: pipeline} }

// Get implements [codec.Cache].
func (c *Cache) Get(ctx context.Context, name string) ([]byte, error) {
	full, err := c.name(name)
	if err != nil {
		return nil, err
	}
	data, err := c.store.Get(ctx, full)
	if errors.Is(err, ErrNotExist) {
		return nil, codec.ErrNotCached
	}
	return data, wrap("checkpoint.Cache.Get", full, err)
}

// Put implements [codec.Cache]. It does not wait for a store that does not answer: who keeps something asks again.
func (c *Cache) Put(ctx context.Context, name string, data []byte) error {
	full, err := c.name(name)
	if err != nil {
		return err
	}
	if err := c.store.Create(ctx, full, data); !errors.Is(err, ErrExists) {
		return wrap("checkpoint.Cache.Put", full, err)
	}
	return nil
}

func (c *Cache) name(relative string) (string, error) {
	full := ObjectName(c.pipeline, folderCache+"/"+relative)
	if err := checkName(full); err != nil {
		return "", fault.E("checkpoint.Cache", fault.Misconfigured, err)
	}
	return full, nil
}
