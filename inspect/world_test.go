package inspect

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

// world is the folder of a pipeline "p" in a store in memory, which is written as a run does.
type world struct {
	t        *testing.T
	store    *storetest.Memory
	storeID  string
	slots    []state.Slot
	kept     local.State
	before   reader0
	lease    record.Lease
	seq      checkpoint.Seq
	cut      record.Checkpoint
	listed   []checkpoint.Seq // kept, without the newest
	pending  []sink.Committable
	pinned   []checkpoint.Pin
	segments *checkpoint.Segments
	faults   func(storetest.Call) storetest.Fault // nil: none
	extra    []string                             // objects that a manifest lists beside those of its state
}

// reader0 shows what is applied: nothing, as tests set each key once.
type reader0 struct{}

func (reader0) Get(dst, _ []byte) ([]byte, bool, error) { return dst, false, nil }

func (reader0) Scan(_, _ []byte, _ func(key, value []byte) bool) error { return nil }

const testGroups = 8

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.store = storetest.NewMemory(func(c storetest.Call) storetest.Fault {
		if w.faults == nil {
			return storetest.None
		}
		return w.faults(c)
	})
	var err error
	w.storeID, err = checkpoint.OpenStore(w.t.Context(), w.store, make([]byte, 16))
	w.must(err)
	_, err = checkpoint.OpenPipeline(w.t.Context(), w.store, w.storeID, "p", testGroups)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) append(e checkpoint.Entry) {
	w.t.Helper()
	data, err := checkpoint.Encode(e)
	w.must(err)
	w.seq++
	w.must(w.store.Create(w.t.Context(), checkpoint.EntryName("p", 0, w.seq), data))
}

// claim takes the next lease.
func (w *world) claim() {
	w.t.Helper()
	w.lease++
	w.segments = checkpoint.NewSegments(w.store, "p", 0, w.lease)
	w.append(checkpoint.Entry{Claim: &checkpoint.Claim{Lease: w.lease, Nonce: "n", StoreID: w.storeID, Pipeline: "p", Who: "test"}})
}

// change stores what f changes in the state of a step, as the next delta.
func (w *world) change(described []state.Descriptor, f func(t *state.Task)) {
	w.t.Helper()
	registry, err := state.NewRegistry(w.slots, state.Wanted{States: described})
	w.must(err)
	w.slots = registry.Slots()
	task := state.NewTask(state.TaskOptions{Reader: w.before, Registry: registry, Groups: testGroups})
	f(task)
	data, err := state.EncodeDelta(nil, task.Freeze().Delta())
	w.must(err)
	seq := w.kept.Seq + 1
	ref := local.Ref{
		Seq: seq, Chain: state.NextChain(w.kept.Chain, seq, data), Object: fmt.Sprintf("%sd%016d", checkpoint.StatePrefix(0, w.lease), seq),
		Bytes: int64(len(data)), Checksum: sha256.Sum256(data),
	}
	w.must(checkpoint.NewStateObjects(w.store, "p").Put(w.t.Context(), ref.Object, data))
	w.kept = w.kept.WithDelta(ref)
}

// keyed is what a manifest says of the state.
func (w *world) keyed() *checkpoint.KeyedState {
	w.t.Helper()
	data, err := json.Marshal(map[string]any{"state": w.kept, "slots": w.slots})
	w.must(err)
	k := &checkpoint.KeyedState{Groups: testGroups, Watermark: state.NoTime, Version: 1, Data: data}
	w.kept.Objects(func(name string) { k.Objects = append(k.Objects, name) })
	k.Objects = append(k.Objects, w.extra...)
	slices.Sort(k.Objects)
	return k
}

// publish appends a manifest with what there is.
func (w *world) publish() checkpoint.Seq {
	w.t.Helper()
	w.cut++
	m := &checkpoint.Manifest{
		StoreID: w.storeID, Pipeline: "p", Lease: w.lease, Checkpoint: w.cut, ConfigDigest: "d", Kept: slices.Clone(w.listed),
		Sinks: []checkpoint.SinkState{{Name: "sink", Pending: w.pending}}, Pinned: w.pinned,
	}
	if w.kept.Seq > 0 {
		m.Shards = []checkpoint.Shard{{ID: checkpoint.StateShard, Epoch: 1, Status: checkpoint.ShardOwned, State: w.keyed()}}
	}
	w.append(checkpoint.Entry{Manifest: m})
	w.listed = append(w.listed, w.seq)
	return w.seq
}

// decide prepares a segment and lists it as pending.
func (w *world) decide(text string) string {
	w.t.Helper()
	g, err := w.segments.Put(w.t.Context(), []byte(text), 3)
	w.must(err)
	w.pending = append(w.pending, sink.Committable{Lease: w.lease, Checkpoint: w.cut + 1, Rows: 3, Bytes: g.Bytes, Version: 1, Segments: []sink.Segment{g}})
	return checkpoint.ObjectName("p", g.Name)
}

// put stores an object whatever is there.
func (w *world) put(name string, data []byte) {
	w.t.Helper()
	w.must(w.store.Delete(context.WithoutCancel(w.t.Context()), name))
	w.must(w.store.Create(w.t.Context(), name, data))
}

// counted are the descriptors of a step that counts by word, as the built-in steps note their key.
func counted() []state.Descriptor {
	return []state.Descriptor{
		{Step: "counts", Name: "key", Kind: state.KindValue, Type: "key of word string, day date", Version: 1},
		state.Describe("counts", "n", state.KindValue, state.Codec[int64](state.Int64{})),
	}
}

// set sets the count of a word.
func (w *world) set(word string, n int64) {
	w.t.Helper()
	w.change(counted(), func(t *state.Task) {
		v, err := state.NewValue(t, counted()[1], state.Codec[int64](state.Int64{}), state.TTL{})
		w.must(err)
		key := keyOfWord(w.t, word)
		t.For(key, state.GroupOf(key, testGroups))
		v.Set(n)
	})
}

// keyOfWord is the key of a word on the second of January 1970.
func keyOfWord(t *testing.T, word string) []byte {
	t.Helper()
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "word", Type: record.Type{Kind: record.String}}, {Name: "day", Type: record.Type{Kind: record.Date}}}})
	b.Cols[0].AppendString(word)
	b.Cols[1].AppendInt(1)
	b.Rows = 1
	return state.AppendKey(nil, b, []int{0, 1}, 0)
}
