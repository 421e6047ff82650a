package local

import "github.com/cockroachdb/pebble/v2"

// Cache bounds the memory of all databases that share it: blocks read from disk and memtables both count in it.
type Cache struct {
	blocks *pebble.Cache
}

// NewCache returns a cache of at most that many bytes.
func NewCache(bytes int64) *Cache { return &Cache{blocks: pebble.NewCache(bytes)} }

// Bytes returns what is held now.
func (c *Cache) Bytes() int64 { return c.blocks.Size() }

// Close gives the memory back once the last database that uses the cache is closed. Call it once.
func (c *Cache) Close() { c.blocks.Unref() }
