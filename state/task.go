package state

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/internal/invariant"
)

// NoTime is the watermark before any row told of event time.
const NoTime int64 = math.MinInt64

// Descriptor tells what one state of a step is, so that a later run finds it again and refuses what it can't read.
type Descriptor struct {
	Step    string `json:"step"`    // the step's name
	Name    string `json:"name"`    // of the state in the step
	Kind    string `json:"kind"`    // "value", "list", "map", "reducing", "aggregating", "timer", "seen"
	Type    string `json:"type"`    // of the values, as text: equal text means that old values can be read
	Version int    `json:"version"` // of the encoding of values
}

// TaskOptions says what a [Task] works on.
type TaskOptions struct {
	Reader   Reader    // what is applied
	Registry *Registry // of the pipeline
	Groups   int       // key groups of the pipeline, 1 to 65,536
	Own      []Group   // the task's own; nil: all
	// DirtyMax is the number of bytes in changes at which [Task.Full] asks for a checkpoint; 0: 32 MiB.
	DirtyMax int64
	// CacheBytes bounds what is kept to save reads from Reader: applied and read values, and up to half of it filters of
	// keys that were seen. 0: nothing is kept.
	CacheBytes int64
}

// Task is the keyed state of one keyed task. Only the task's goroutine uses it, but for what says otherwise. When a call returns
// an error of the Reader, or the checkpoint is given up, the task is dropped and a new one takes its place: that is what
// undoes its changes.
type Task struct {
	o      TaskOptions
	layers []*layer // oldest first: clean ones, frozen ones, the current one
	clean  int      // how many of them are clean

	group Group
	user  []byte // the current key with its length

	watermark, clock int64

	filterBytes               int64 // of all filters of its states
	keyBuf, valueBuf, readBuf []byte
	pages                     []*page // free
	sweeps                    []*sweep
}

// dirtyMaxDefault is what a frozen layer serializes and applies well within a second.
const dirtyMaxDefault = 32 << 20

// NewTask returns a task at what the Reader shows, with the ranges dropped that the registry's discarded states take.
func NewTask(o TaskOptions) *Task {
	if o.DirtyMax == 0 {
		o.DirtyMax = dirtyMaxDefault
	}
	if o.Own == nil {
		o.Own = make([]Group, o.Groups)
		for i := range o.Own {
			o.Own[i] = Group(i)
		}
	} else {
		o.Own = slices.Sorted(slices.Values(o.Own))
	}
	t := &Task{o: o, layers: []*layer{{}}, watermark: NoTime, clock: NoTime}
	for _, r := range o.Registry.Drops(o.Own) {
		t.current().drop(r)
	}
	return t
}

// Own returns the task's key groups in order. The caller must not change the slice.
func (t *Task) Own() []Group { return t.o.Own }

// Groups returns the number of key groups of the pipeline.
func (t *Task) Groups() int { return t.o.Groups }

// For selects the key that states work on from now on. It copies key.
func (t *Task) For(key []byte, group Group) {
	t.group, t.user = group, appendUser(t.user[:0], key)
}

// SetTime tells how far event time is known to have come, and the clock, both in milliseconds since 1970; [NoTime] as long as it
// is not known. They decide what has expired.
func (t *Task) SetTime(watermark, clock int64) { t.watermark, t.clock = watermark, clock }

// now returns the time by a clock.
func (t *Task) now(by Clock) int64 {
	if by == EventTime {
		return t.watermark
	}
	return t.clock
}

func (t *Task) current() *layer { return t.layers[len(t.layers)-1] }

// DirtyBytes returns the memory of the changes that are not applied yet, frozen ones included.
func (t *Task) DirtyBytes() int64 { return bytesOf(t.layers[t.clean:]) }

// CachedBytes returns the memory of what is kept to save reads. Together with DirtyBytes it is what the task holds.
func (t *Task) CachedBytes() int64 { return bytesOf(t.layers[:t.clean]) + t.filterBytes }

// Full tells that the changes have reached DirtyMax: no more rows should be processed before a checkpoint is cut and applied.
func (t *Task) Full() bool { return t.DirtyBytes() >= t.o.DirtyMax }

func bytesOf(layers []*layer) int64 {
	var n int64
	for _, l := range layers {
		n += l.bytes()
	}
	return n
}

// Frozen is what a task changed in one checkpoint.
type Frozen struct{ layer *layer }

// Freeze ends the changes of a checkpoint; what follows belongs to the next one. It takes microseconds, whatever there is to
// freeze. Each frozen layer stays until [Task.Applied] is called for it, in order.
func (t *Task) Freeze() *Frozen {
	f := &Frozen{layer: t.current()}
	t.layers = append(t.layers, &layer{})
	return f
}

// Empty tells that nothing was changed.
func (f *Frozen) Empty() bool { return f.layer.empty() }

// Delta returns the changes. It may be called on another goroutine while the task goes on. The delta refers to memory of the
// task: it must not be changed, and not be used after [Task.Applied].
func (f *Frozen) Delta() Delta { return f.layer.delta() }

// Applied tells that the Reader shows the delta of the oldest frozen layer, which must be f.
func (t *Task) Applied(f *Frozen) {
	invariant.Check("I8", t.clean < len(t.layers)-1 && t.layers[t.clean] == f.layer, "applied", "out of order")
	t.clean++
	f.layer = nil
	t.adopt()
}

// Expired returns a function that tells whether reads treat what is stored under a key as absent, at what [Task.SetTime] told last and
// ever after. It may be used on other goroutines; what it names need not be copied to a base. It knows the states that were opened.
func (t *Task) Expired() func(key, stored []byte) bool {
	type limit struct {
		ttl TTL
		now int64
	}
	limits := make(map[uint16]limit, len(t.sweeps))
	for _, s := range t.sweeps {
		if own := s.cell.own; own.d.Kind != KindList { // its elements say nothing without their head
			limits[own.slot] = limit{own.ttl, t.now(own.ttl.By)}
		}
	}
	return func(key, stored []byte) bool {
		if len(key) < prefixBytes || len(stored) < timedBytes || stored[0] != headTimed {
			return false
		}
		l, ok := limits[binary.BigEndian.Uint16(key[2:])]
		return ok && l.ttl.over(int64(binary.BigEndian.Uint64(stored[1:])), l.now)
	}
}

// get returns the value of a stored key. It is valid until the next call that reads or changes state.
func (t *Task) get(key []byte) (value []byte, ok bool, err error) {
	hash := xxhash.Sum64(key)
	for _, l := range slices.Backward(t.layers) {
		if id := l.find(hash, key); id >= 0 && l.entries[id].value != gone {
			if !l.has(id) {
				return nil, false, nil
			}
			return l.value(id), true, nil
		}
		if l.covers(key) {
			return nil, false, nil
		}
	}
	t.readBuf, ok, err = t.o.Reader.Get(t.readBuf[:0], key)
	if err != nil || !ok {
		return nil, false, err
	}
	t.keep(hash, key, t.readBuf)
	return t.readBuf, true, nil
}

func (t *Task) set(key, value []byte) { t.current().put(xxhash.Sum64(key), key, value) }

func (t *Task) remove(key []byte) { t.current().remove(xxhash.Sum64(key), key) }

// drop empties a range, whose ends it copies.
func (t *Task) drop(from, to []byte) {
	t.current().drop(Range{From: slices.Clone(from), To: slices.Clone(to)})
}
