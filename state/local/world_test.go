package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/state"
)

// store is a checkpoint store in memory.
type store struct {
	mu     sync.Mutex
	held   map[string][]byte
	onPut  func() // between two slices of an export
	onGet  func() error
	absent map[string]bool
}

func newStore() *store { return &store{held: map[string][]byte{}, absent: map[string]bool{}} }

func (s *store) Put(_ context.Context, name string, data []byte) error {
	s.mu.Lock()
	s.held[name] = slices.Clone(data)
	hook := s.onPut
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return nil
}

func (s *store) Get(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	data, ok := s.held[name]
	if s.absent[name] {
		ok = false
	}
	hook := s.onGet
	s.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return nil, err
		}
	}
	if !ok {
		return nil, checkpoint.ErrNotExist
	}
	return slices.Clone(data), nil
}

// limited shows only what a state names: what else is there may have been collected.
type limited struct {
	*store
	names map[string]bool
}

func (l limited) Get(ctx context.Context, name string) ([]byte, error) {
	if !l.names[name] {
		return nil, checkpoint.ErrNotExist
	}
	return l.store.Get(ctx, name)
}

func (s *store) limitedTo(st State) limited {
	l := limited{store: s, names: map[string]bool{}}
	st.Objects(func(name string) { l.names[name] = true })
	return l
}

type model map[string]string

func (m model) apply(d *state.Delta) model {
	next := maps.Clone(m)
	for _, r := range d.Drops {
		maps.DeleteFunc(next, func(k, _ string) bool { return k >= string(r.From) && k < string(r.To) })
	}
	for _, o := range d.Ops {
		if o.Delete {
			delete(next, string(o.Key))
		} else {
			next[string(o.Key)] = string(o.Value)
		}
	}
	return next
}

// control breaks one rule of the protocol on purpose.
type control int

const (
	asDesigned     control = iota
	effectsEarly           // Pebble gets a delta's effects before the manifest is published
	chainIgnored           // the local database is believed whatever its history is
	horizonIgnored         // a base of several moments is taken for one of its oldest moment
	dirtyIgnored           // slices are named again even if they changed
	metaApart              // the entry that tells where the database stands is not in the delta's batch
	controlsEnd            // their number
)

func (c control) String() string {
	return [...]string{
		"as designed", "effects before publishing", "chain ignored", "horizon ignored", "changed slices named again",
		"entry not in the batch",
	}[c]
}

// world is a pipeline's state with its store, its disk and the truth.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	control control

	store     *store
	published State // the newest manifest
	history   []State
	models    map[Hash]model // by chain
	pending   *Base          // an export's result that no manifest names yet
	exporting bool

	mem     *vfs.MemFS
	options Options
	db      *DB

	image struct { // a crash that happens at a write to the disk
		sync.Mutex
		after int // writes until then; 0: none planned
		mem   *vfs.MemFS
		state State
		rng   *rand.Rand
	}
	stale  *vfs.MemFS // another machine's disk
	counts counts
}

type counts struct{ crashes, renewed, rebuilt, flips, rewinds, exports, written, reused, applied int }

func (c *counts) add(d counts) {
	c.crashes += d.crashes
	c.renewed += d.renewed
	c.rebuilt += d.rebuilt
	c.flips += d.flips
	c.rewinds += d.rewinds
	c.exports += d.exports
	c.written += d.written
	c.reused += d.reused
	c.applied += d.applied
}

func newWorld(tb testing.TB, seed uint64, c control) *world {
	tb.Helper()
	w := &world{
		t: tb, rng: rand.New(rand.NewPCG(seed, 17)), control: c, store: newStore(),
		models: map[Hash]model{{}: {}}, mem: vfs.NewCrashableMem(),
	}
	w.image.rng = rand.New(rand.NewPCG(seed, 18))
	w.history = []State{{}}
	w.open()
	w.restore()
	return w
}

// point is called before each operation on the file system.
func (w *world) point(op errorfs.Op) error {
	if !slices.Contains([]errorfs.OpKind{
		errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpCreate, errorfs.OpRename, errorfs.OpLink,
		errorfs.OpRemove, errorfs.OpFileClose,
	}, op.Kind) {
		return nil
	}
	w.image.Lock()
	defer w.image.Unlock()
	if w.image.after == 0 {
		return nil
	}
	if w.image.after--; w.image.after == 0 {
		w.image.mem = w.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[w.image.rng.IntN(4)], RNG: w.image.rng})
		w.image.state = w.published
	}
	return nil
}

func (w *world) open() {
	w.t.Helper()
	w.options = Options{
		Dir: "state", FS: errorfs.Wrap(w.mem, errorfs.InjectorFunc(w.point)), MemTable: 32 << 10, DiskReserve: -1,
		FlushEvery: time.Hour,
	}
	db, err := Open(w.options)
	if errors.Is(err, ErrPoisoned) {
		w.counts.renewed++
		w.wipe()
		db, err = Open(w.options)
	}
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.db = db
}

func (w *world) wipe() {
	w.t.Helper()
	if err := Wipe(w.options.FS, w.options.Dir); err != nil {
		w.t.Fatalf("wipe: %v", err)
	}
}

// restore brings the database to the published state, as a daemon does it.
func (w *world) restore() {
	w.t.Helper()
	for attempt := 0; ; attempt++ {
		if w.control == chainIgnored && w.db.mu.ready && w.db.mu.meta.at.Seq <= w.published.Seq {
			if chain, known := w.published.ChainAt(w.db.mu.meta.at.Seq); known {
				w.db.mu.meta.at.Chain, w.db.mu.meta.horizon = chain, Position{}
			}
		}
		before, _ := w.db.At()
		usable := w.db.usable(&w.published)
		err := w.db.Restore(w.t.Context(), w.published, RestoreOptions{Objects: w.store.limitedTo(w.published)})
		if err == nil {
			if !usable && before.Seq > 0 {
				w.counts.rebuilt++
			}
			return
		}
		if !errors.Is(err, ErrPoisoned) || attempt > 2 {
			w.t.Fatalf("restore: %v", err)
		}
		w.renew()
	}
}

// renew throws the local database away.
func (w *world) renew() {
	w.t.Helper()
	w.counts.renewed++
	w.close()
	w.wipe()
	w.open()
}

func (w *world) close() {
	w.t.Helper()
	if err := w.db.Close(); err != nil && !errors.Is(w.db.Err(), ErrPoisoned) {
		w.t.Fatalf("close: %v", err)
	}
}

func randomKey(rng *rand.Rand) []byte {
	key := binary.BigEndian.AppendUint16(nil, uint16(rng.IntN(4)))
	key = append(key, byte(rng.IntN(8)))
	for range rng.IntN(3) {
		key = append(key, byte(rng.IntN(6)))
	}
	return key
}

// randomDelta changes a few keys, many, or a range; often only one part of the keys, so that slices stay clean.
func randomDelta(rng *rand.Rand) state.Delta {
	var d state.Delta
	for range rng.IntN(3) {
		from, to := randomKey(rng), randomKey(rng)
		if c := slices.Compare(from, to); c > 0 {
			from, to = to, from
		} else if c == 0 {
			continue
		}
		d.Drops = append(d.Drops, state.Range{From: from, To: to})
	}
	if rng.IntN(3) > 0 {
		d.Drops = nil
	}
	slices.SortFunc(d.Drops, func(a, b state.Range) int { return slices.Compare(a.From, b.From) })
	if len(d.Drops) == 2 && slices.Compare(d.Drops[0].To, d.Drops[1].From) > 0 {
		d.Drops = d.Drops[:1]
	}
	n := []int{0, 3, 30, 600}[rng.IntN(4)]
	ops := map[string]state.Op{}
	group := byte(rng.IntN(8))
	for range n {
		key := randomKey(rng)
		if group < 4 {
			key[1] = group
		}
		op := state.Op{Key: key, Delete: rng.IntN(4) == 0}
		if !op.Delete {
			op.Value = make([]byte, rng.IntN(80))
			for i := range op.Value {
				op.Value[i] = byte(rng.IntN(256))
			}
		}
		ops[string(key)] = op
	}
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		d.Ops = append(d.Ops, ops[key])
	}
	return d
}

// publish stores a random delta, and the manifest that names it.
func (w *world) publish() (Step, state.Delta) { return w.publishThis(randomDelta(w.rng)) }

func (w *world) publishThis(d state.Delta) (Step, state.Delta) {
	if w.control == effectsEarly {
		b, err := w.db.batch(&w.db.mu.meta, &d)
		if err == nil {
			err = w.db.db.Apply(b, pebble.NoSync)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	seq := w.published.Seq + 1
	ref := Ref{Seq: seq}
	var data []byte
	if len(d.Ops)+len(d.Drops) > 0 {
		var err error
		if data, err = state.EncodeDelta(nil, d); err != nil {
			w.t.Fatal(err)
		}
		ref.Bytes, ref.Checksum = int64(len(data)), sha256.Sum256(data)
		ref.Object = fmt.Sprintf("delta-%d-%x", seq, ref.Checksum[:6])
	}
	ref.Chain = state.NextChain(w.published.Chain, seq, data)
	step := Step{Seq: seq, Chain: ref.Chain, Prev: w.published.Chain}
	w.models[ref.Chain] = w.models[w.published.Chain].apply(&d)
	if ref.Object != "" {
		w.store.mu.Lock()
		w.store.held[ref.Object] = data
		w.store.mu.Unlock()
	}
	next := w.published.WithDelta(ref)
	if w.pending != nil && next.Seq >= w.pending.Horizon {
		with, err := next.WithBase(*w.pending)
		if err != nil {
			w.t.Fatalf("publish a base: %v", err)
		}
		next, w.pending = with, nil
	}
	if err := next.Check(); err != nil {
		w.t.Fatalf("publish: %v", err)
	}
	w.image.Lock()
	w.published = next
	w.image.Unlock()
	w.history = append(w.history, next)
	return step, d
}

func (w *world) apply(step Step, d state.Delta) {
	w.t.Helper()
	if w.control == metaApart {
		b, err := w.db.batch(&w.db.mu.meta, &d)
		if err == nil {
			err = w.db.db.Apply(b, pebble.NoSync)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.db.mu.meta.at = Position{Seq: step.Seq, Chain: step.Chain}
		value := w.db.mu.meta.encode()
		if _, err = w.db.db.AsyncFlush(); err == nil {
			err = w.db.db.Set(keyMeta(), value, pebble.NoSync)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		return
	}
	err := w.db.Apply(w.t.Context(), step, d)
	if err != nil && !errors.Is(err, ErrPoisoned) {
		w.t.Fatalf("apply: %v", err)
	}
	w.counts.applied++
	if err != nil && !w.exporting {
		w.renew()
		w.restore()
	}
}

func (w *world) checkpoint() { w.apply(w.publish()) }

// export makes a base while checkpoints go on, and leaves it to a later manifest.
func (w *world) export() {
	w.t.Helper()
	w.store.onPut = func() {
		for range w.rng.IntN(3) {
			w.checkpoint()
		}
	}
	w.exporting = true
	defer func() { w.store.onPut, w.exporting = nil, false }()
	if w.control == dirtyIgnored {
		for i := range w.db.tracker.mu.touched {
			w.db.tracker.mu.touched[i] = 0
		}
	}
	out, err := w.db.Export(w.t.Context(), ExportOptions{
		Objects: w.store, Prefix: "base/", State: w.published, SliceBytes: int64(500 + w.rng.IntN(8000)), Budget: 1, Now: time.Unix(1e9, 0),
	})
	if errors.Is(err, ErrPoisoned) {
		w.renew()
		w.restore()
		return
	}
	if err != nil {
		w.t.Fatalf("export: %v", err)
	}
	if w.control == horizonIgnored {
		out.Base.Horizon, out.Base.HorizonChain = out.Base.Seq, out.Base.Chain
		for i := range out.Base.Slices {
			out.Base.Slices[i].Seq = out.Base.Seq
		}
	}
	w.counts.exports++
	w.counts.reused += out.Reused
	w.counts.written += out.Written
	w.pending = &out.Base
}

// rewind goes back to an older manifest, from which another history begins.
func (w *world) rewind() {
	w.counts.rewinds++
	from := max(0, len(w.history)-1-w.rng.IntN(12))
	w.published = w.history[from]
	w.history = w.history[:from+1]
	w.pending = nil
}

// difference is "" if the database holds what the model says.
func (w *world) difference() string {
	want := w.models[w.published.Chain]
	got := model{}
	last := ""
	var order string
	err := w.db.Scan(nil, nil, func(key, value []byte) bool {
		if string(key) <= last {
			order = fmt.Sprintf("key %x comes after %x", key, last)
		}
		last = string(key)
		got[last] = string(value)
		return true
	})
	for range 20 {
		key := randomKey(w.rng)
		value, ok, err := w.db.Get([]byte("before"), key)
		stored, there := want[string(key)]
		if err == nil && (ok != there || string(value) != "before"+stored) {
			return fmt.Sprintf("at %d: key %x by itself: got %q (%v), want %q (%v)", w.published.Seq, key, value, ok, stored, there)
		}
	}
	switch {
	case err != nil:
		return err.Error()
	case order != "":
		return order
	case !maps.Equal(got, want):
		for k, v := range want {
			if g, ok := got[k]; !ok || g != v {
				return fmt.Sprintf("at %d: key %x: got %x (%v), want %x", w.published.Seq, k, g, ok, v)
			}
		}
		for k := range got {
			if _, ok := want[k]; !ok {
				return fmt.Sprintf("at %d: key %x is there and should not be", w.published.Seq, k)
			}
		}
	}
	return ""
}
