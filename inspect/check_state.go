package inspect

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

// wanted is what manifests say of an object of keyed state.
type wanted struct {
	bytes    int64
	checksum local.Hash
	links    map[link]bool // of a delta: its places in chains
	by       []checkpoint.Seq
}

// link is a delta's place in a chain.
type link struct {
	seq         uint64
	prev, chain local.Hash
	first       bool // what stands before it is not known any more
}

// checkState reads every object of keyed state that a kept manifest names, each once.
func (c *checker) checkState() error {
	objects := map[string]*wanted{}
	for _, l := range c.entries {
		if l.entry.Manifest == nil {
			continue
		}
		if k := l.entry.Manifest.State(); k != nil {
			c.gather(l.seq, k, objects)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		if err := c.checkObject(name, objects[name]); err != nil {
			return err
		}
	}
	return nil
}

// gather notes what a manifest says of its objects, and checks what it says of its state as a whole.
func (c *checker) gather(seq checkpoint.Seq, k *checkpoint.KeyedState, objects map[string]*wanted) {
	entry := checkpoint.EntryName(c.pipeline, 0, seq)
	kept, err := pipeline.ReadState(k)
	if err == nil {
		err = kept.State.Check()
	}
	if err != nil {
		c.find(Corrupt, entry, "its keyed state: %v", err)
		return
	}
	var names []string
	kept.State.Objects(func(name string) { names = append(names, name) })
	slices.Sort(names)
	if names = slices.Compact(names); !slices.Equal(names, k.Objects) {
		c.find(Corrupt, entry, "it lists %d objects of keyed state as its own, and needs %d others", len(k.Objects), len(names))
	}
	note := func(name string, bytes int64, checksum local.Hash) *wanted {
		if name == "" {
			return &wanted{links: map[link]bool{}}
		}
		w, ok := objects[name]
		if !ok {
			w = &wanted{bytes: bytes, checksum: checksum, links: map[link]bool{}}
			objects[name] = w
		}
		if w.bytes != bytes || w.checksum != checksum {
			c.find(Corrupt, entry, "it names %s with %d bytes and the checksum %x…, another checkpoint with %d bytes and %x…", name, bytes, checksum[:4], w.bytes, w.checksum[:4])
		}
		w.by = append(w.by, seq)
		return w
	}
	for i := range kept.State.Bases {
		for _, s := range kept.State.Bases[i].Slices {
			note(s.Object, s.Bytes, s.Checksum)
		}
	}
	for _, d := range kept.State.Deltas {
		prev, known := kept.State.ChainAt(d.Seq - 1)
		note(d.Object, d.Bytes, d.Checksum).links[link{d.Seq, prev, d.Chain, !known}] = true
	}
}

func (c *checker) checkObject(name string, w *wanted) error {
	full := checkpoint.ObjectName(c.pipeline, name)
	data, err := c.store.Get(c.ctx, full)
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		return c.missing(full, w)
	case err != nil:
		return c.judge(full, err)
	}
	if err := w.check(data); err != nil {
		c.find(Corrupt, full, "%v; %s", err, w.who())
		return nil
	}
	c.report.Bytes += w.bytes
	if len(w.links) > 0 {
		c.report.Deltas++
		return nil
	}
	c.report.Slices++
	return nil
}

// check compares an object's bytes with what was stored, and with the chain.
func (w *wanted) check(data []byte) error {
	if int64(len(data)) != w.bytes {
		return fmt.Errorf("it has %d bytes, %d were stored", len(data), w.bytes)
	}
	if sum := local.Hash(sha256.Sum256(data)); sum != w.checksum {
		return fmt.Errorf("its checksum is %x…, %x… was stored", sum[:4], w.checksum[:4])
	}
	if len(w.links) == 0 {
		return nil
	}
	if _, err := state.DecodeDelta(data); err != nil {
		return err
	}
	for l := range w.links {
		if chain := local.Hash(state.NextChain(l.prev, l.seq, data)); !l.first && chain != l.chain {
			return fmt.Errorf("as delta %d its chain hash is %x…, want %x…", l.seq, chain[:4], l.chain[:4])
		}
	}
	return nil
}

func (w *wanted) who() string {
	return fmt.Sprintf("the checkpoints with the log numbers %d need it", w.by)
}

// missing reports an object that is not there, unless every manifest that names it was collected meanwhile: manifests go first.
func (c *checker) missing(full string, w *wanted) error {
	names, err := c.store.List(c.ctx, checkpoint.LogPrefix(c.pipeline, 0), "")
	if err != nil {
		return err
	}
	w.by = slices.DeleteFunc(w.by, func(seq checkpoint.Seq) bool {
		return !slices.Contains(names, checkpoint.EntryName(c.pipeline, 0, seq))
	})
	if len(w.by) > 0 {
		c.find(Missing, full, "it is not there; %s", w.who())
	}
	return nil
}
