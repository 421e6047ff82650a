package state

import "github.com/cespare/xxhash/v2"

// What is kept of applied and read values lies in generations, oldest first: an applied layer becomes one, and what is read from
// the Reader goes to the newest. Only the oldest is ever dropped, as a whole. So a generation always stands above whatever was true
// before it, and no value needs a note of how old it is.
const (
	generationsMax = 6 // each is looked up before the Reader is asked
	// A layer of so few entries is copied to the newest generation: a pause of well under a millisecond.
	copiedMax = 2048
)

// adopt makes the layer that was applied last, the newest clean one, a generation of the cache.
func (t *Task) adopt() {
	l := t.layers[t.clean-1]
	l.order, l.loose = order{}, nil // the cache is not scanned
	if t.clean > 1 && len(l.entries) <= copiedMax && !l.dropsCached() && t.layers[t.clean-2].bytes() <= t.share() {
		t.layers[t.clean-2].take(l)
		t.removeLayer(t.clean - 1)
	}
	for t.clean > 0 && (t.clean > generationsMax || t.CachedBytes() > t.o.CacheBytes) {
		t.removeLayer(0)
	}
}

func (t *Task) removeLayer(i int) {
	copy(t.layers[i:], t.layers[i+1:])
	t.layers[len(t.layers)-1] = nil
	t.layers = t.layers[:len(t.layers)-1]
	t.clean--
}

// dropsCached tells whether the layer emptied a range that a generation may have values of: all but ranges of timers.
func (l *layer) dropsCached() bool {
	for _, r := range l.drops {
		if len(r.From) <= kindAt || len(r.To) <= kindAt || r.From[kindAt] != kindTimer|scoped || r.To[kindAt] != kindTimer|scoped {
			return true
		}
	}
	return false
}

// take copies what a newer layer says, timers aside, which are never looked up.
func (l *layer) take(newer *layer) {
	for id := range newer.entries {
		key := newer.key(id)
		if key[kindAt] == kindTimer|scoped || newer.entries[id].value == gone {
			continue
		}
		hash := xxhash.Sum64(key)
		if newer.has(id) {
			l.table.put(hash, key, newer.value(id))
		} else {
			l.table.remove(hash, key)
		}
	}
}

// keep puts a value that was read into the newest generation.
func (t *Task) keep(hash uint64, key, value []byte) {
	if int64(len(key)+len(value)) >= t.share() {
		return
	}
	if t.clean == 0 || t.layers[t.clean-1].bytes() > t.share() {
		t.layers = append(t.layers, nil)
		copy(t.layers[t.clean+1:], t.layers[t.clean:])
		t.layers[t.clean] = &layer{}
		t.clean++
	}
	t.layers[t.clean-1].table.put(hash, key, value)
	for t.clean > 1 && (t.clean > generationsMax || t.CachedBytes() > t.o.CacheBytes) {
		t.removeLayer(0)
	}
}

// share is the size from which on a generation takes nothing more.
func (t *Task) share() int64 {
	const parts = 4
	return t.o.CacheBytes / parts
}
