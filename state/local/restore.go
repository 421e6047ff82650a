package local

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

// Objects gives what was stored for a checkpoint. It may be used by several goroutines. Get returns checkpoint.ErrNotExist for a
// name that holds nothing; the result belongs to the caller.
type Objects interface {
	Get(ctx context.Context, name string) ([]byte, error)
}

// Progress says how far a restore is. Bytes are those of objects.
type Progress struct {
	BasesTried int
	BaseBytes  int64
	BaseTotal  int64
	Deltas     int
	DeltaTotal int
	DeltaBytes int64
}

// RestoreOptions are the settings of a restore. A zero field means its default.
type RestoreOptions struct {
	Objects  Objects        // required
	Progress func(Progress) // called by one goroutine at a time, after each object; must not block
	Parallel int            // objects read at the same time; 4
}

const (
	incomingName    = "incoming"
	defaultParallel = 4
)

// Restore brings the database to a state that a published manifest tells. When it already stands at that state, or at an earlier
// one that the deltas lead on from, only the missing deltas are applied. Otherwise all it holds is replaced by the newest base that
// can be read, in one step that a crash does not split, and the deltas since. Nothing else uses the database meanwhile.
//
// Errors name the object: fault.Lost if it is not there, fault.Corrupt if it is not what was stored, or the store's own kind.
// fault.Transient with [ErrPoisoned] in its chain says that the local database failed. After any error Restore may be called again.
func (db *DB) Restore(ctx context.Context, s State, options RestoreOptions) error {
	const op = "state/local.Restore"
	if options.Parallel == 0 {
		options.Parallel = defaultParallel
	}
	if options.Progress == nil {
		options.Progress = func(Progress) {}
	}
	if err := s.Check(); err != nil {
		return err
	}
	if err := db.guard.err(op); err != nil {
		return err
	}
	r := &restore{db: db, state: &s, options: options}
	if db.usable(&s) {
		r.adopt()
	} else if err := r.load(ctx, op); err != nil {
		return err
	}
	if err := r.replay(ctx, op); err != nil {
		return err
	}
	if at, _ := db.At(); at != (Position{Seq: s.Seq, Chain: s.Chain}) {
		return fault.E(op, fault.Corrupt, fmt.Errorf("the deltas lead to %d, %x…, not to %d, %x…", at.Seq, at.Chain[:4], s.Seq, s.Chain[:4]))
	}
	return nil
}

func (db *DB) usable(s *State) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mu.ready && db.mu.meta.trusted(s)
}

// restore is one call of Restore.
type restore struct {
	db       *DB
	state    *State
	options  RestoreOptions
	progress Progress
}

// adopt takes up what is known of the slices of the newest base.
func (r *restore) adopt() {
	r.db.mu.Lock()
	m := r.db.mu.meta
	r.db.mu.Unlock()
	r.db.options.Log.Info("local state is used", slog.Uint64("at", m.at.Seq), slog.Uint64("want", r.state.Seq))
	if len(r.state.Bases) == 0 {
		return
	}
	base := &r.state.Bases[0]
	dirty := m.dirty
	if m.base != base.id() || len(dirty) != (len(base.Slices)+7)/8 {
		dirty = bytes.Repeat([]byte{0xff}, (len(base.Slices)+7)/8)
	}
	r.db.tracker.install(base, dirty, m.at.Seq)
}

// load replaces the whole database by the newest base that can be read. Without bases, or when none can be read and all deltas
// are there, it begins with nothing.
func (r *restore) load(ctx context.Context, op fault.Op) error {
	at, ready := r.db.At()
	r.db.options.Log.Info("local state is made anew from the checkpoint store",
		slog.Bool("was_there", ready), slog.Uint64("at", at.Seq), slog.Uint64("want", r.state.Seq))
	var failed []error
	for i := range r.state.Bases {
		r.progress.BasesTried++
		err := r.loadBase(ctx, op, &r.state.Bases[i])
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrPoisoned) || ctx.Err() != nil {
			return err
		}
		r.db.options.Log.Error("a base can't be read", slog.Uint64("base", r.state.Bases[i].Seq), slog.Any("error", err))
		failed = append(failed, err)
	}
	if _, known := r.state.after(0); known {
		empty := &Base{}
		return r.replace(ctx, op, empty, nil)
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return fault.E(op, fault.KindOf(failed[0]), errors.Join(failed...))
}

// loadBase fetches a base's objects into files and puts them in the place of all that the database holds.
func (r *restore) loadBase(ctx context.Context, op fault.Op, base *Base) error {
	fsys := r.db.disk
	dir := fsys.PathJoin(r.db.path, incomingName)
	if err := errors.Join(fsys.RemoveAll(dir), fsys.MkdirAll(dir, 0o700)); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	var paths []string
	r.progress.BaseBytes, r.progress.BaseTotal = 0, base.Bytes()
	fetching, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	slots := make(chan struct{}, r.options.Parallel)
	var mu sync.Mutex // guards progress and failed
	var failed error
	for i := range base.Slices {
		slice := &base.Slices[i]
		if slice.Object == "" {
			continue
		}
		path := fsys.PathJoin(dir, fmt.Sprintf("%06d.sst", i))
		paths = append(paths, path)
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if fetching.Err() != nil {
				return
			}
			err := r.fetchSlice(fetching, op, slice, path)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = cmp.Or(failed, err) // what fails after the first one fails because of it
				cancel()
				return
			}
			r.progress.BaseBytes += slice.Bytes
			r.options.Progress(r.progress)
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return fault.E(op, fault.Transient, context.Cause(ctx))
	}
	if failed != nil {
		return failed
	}
	return r.replace(ctx, op, base, paths)
}

func (r *restore) fetchSlice(ctx context.Context, op fault.Op, slice *Slice, path string) error {
	data, err := fetch(ctx, op, r.options.Objects, object{slice.Object, slice.Bytes, slice.Checksum})
	if err != nil {
		return err
	}
	if err = writeFile(r.db.disk, path, data); err != nil {
		return fault.E(op, fault.Transient, fmt.Errorf("write %s: %w", path, err))
	}
	return nil
}

func writeFile(fsys vfs.FS, path string, data []byte) error {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// object is what is known of one before it is read.
type object struct {
	name     string
	bytes    int64
	checksum Hash
}

func fetch(ctx context.Context, op fault.Op, objects Objects, o object) ([]byte, error) {
	data, err := objects.Get(ctx, o.name)
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		return nil, fault.E(op, fault.Lost, fmt.Errorf("read %s: %w", o.name, err))
	case err != nil:
		return nil, fault.E(op, fault.KindOf(err), fmt.Errorf("read %s: %w", o.name, err))
	case int64(len(data)) != o.bytes:
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("read %s: it has %d bytes, %d were stored", o.name, len(data), o.bytes))
	}
	if sum := Hash(sha256.Sum256(data)); sum != o.checksum {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("read %s: its checksum is %x…, %x… was stored", o.name, sum[:4], o.checksum[:4]))
	}
	return data, nil
}

// replace puts files in the place of all keys, together with the entry that says what they are: one change of Pebble's, so that
// after a crash either the old keys are there or the new ones.
func (r *restore) replace(ctx context.Context, op fault.Op, base *Base, paths []string) error {
	db := r.db
	m := meta{at: Position{Seq: base.Seq, Chain: base.Chain}, base: base.id(), dirty: make([]byte, (len(base.Slices)+7)/8)}
	if base.Horizon > base.Seq {
		m.horizon = Position{Seq: base.Horizon, Chain: base.HorizonChain}
	}
	dir := db.disk.PathJoin(db.path, incomingName)
	if err := db.disk.MkdirAll(dir, 0o700); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	own := db.disk.PathJoin(dir, "meta.sst")
	if err := db.writeMetaTable(own, &m); err != nil {
		return fault.E(op, fault.Transient, fmt.Errorf("write %s: %w", own, err))
	}
	span := pebble.KeyRange{Start: keyMeta(), End: keyEnd()}
	done := db.act(func() error {
		_, err := db.db.IngestAndExcise(ctx, append([]string{own}, paths...), nil, nil, span)
		return err
	})
	var err error
	select {
	case err = <-done:
	case <-db.guard.bad:
		err = errors.New("the database failed meanwhile")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		// Whether the change was made is not known here; only the entry read from a fresh database tells.
		db.guard.poison(fmt.Errorf("load base %d: %w", base.Seq, err))
		return db.guard.err(op)
	}
	if err = db.disk.RemoveAll(dir); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	db.tracker.install(base, m.dirty, m.at.Seq)
	db.mu.Lock()
	defer db.mu.Unlock()
	db.mu.meta, db.mu.ready = m, true
	return nil
}

func (db *DB) writeMetaTable(path string, m *meta) error {
	f, err := db.disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), db.tableOptions())
	return errors.Join(w.Set(keyMeta(), m.encode()), w.Close())
}

// tableOptions are those of the files that this package writes itself.
func (db *DB) tableOptions() sstable.WriterOptions {
	return db.pebble.MakeWriterOptions(6, db.db.TableFormat())
}

// fetched is a delta on its way from the store.
type fetched struct {
	ref  *Ref
	data []byte
	err  error
}

// replay applies the deltas that are missing, and reads the next ones meanwhile.
func (r *restore) replay(ctx context.Context, op fault.Op) error {
	at, _ := r.db.At()
	refs, known := r.state.after(at.Seq)
	if !known {
		return fault.E(op, fault.Corrupt, fmt.Errorf("deltas after %d are missing", at.Seq))
	}
	r.progress.Deltas, r.progress.DeltaTotal, r.progress.DeltaBytes = 0, len(refs), 0
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan chan fetched, r.options.Parallel)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		defer close(queue)
		for i := range refs {
			result := make(chan fetched, 1)
			select {
			case queue <- result:
			case <-ctx.Done():
				return
			}
			group.Go(func() { result <- r.fetchDelta(ctx, op, &refs[i]) })
		}
	})
	prev := at.Chain
	for result := range queue {
		f := <-result
		if f.err != nil {
			return f.err
		}
		if err := r.applyFetched(ctx, op, &f, prev); err != nil {
			return err
		}
		prev = f.ref.Chain
		r.progress.Deltas++
		r.progress.DeltaBytes += f.ref.Bytes
		r.options.Progress(r.progress)
	}
	if ctx.Err() != nil {
		return fault.E(op, fault.Transient, context.Cause(ctx))
	}
	return nil
}

func (r *restore) fetchDelta(ctx context.Context, op fault.Op, ref *Ref) fetched {
	f := fetched{ref: ref}
	if ref.Object != "" {
		f.data, f.err = fetch(ctx, op, r.options.Objects, object{ref.Object, ref.Bytes, ref.Checksum})
	}
	return f
}

func (r *restore) applyFetched(ctx context.Context, op fault.Op, f *fetched, prev Hash) error {
	if chain := Hash(state.NextChain(prev, f.ref.Seq, f.data)); chain != f.ref.Chain {
		return fault.E(op, fault.Corrupt, fmt.Errorf("delta %d (%s) does not follow the one before: its chain hash is %x…, want %x…",
			f.ref.Seq, f.ref.Object, chain[:4], f.ref.Chain[:4]))
	}
	var delta state.Delta
	if len(f.data) > 0 {
		var err error
		if delta, err = state.DecodeDelta(f.data); err != nil {
			return fault.E(op, fault.Corrupt, fmt.Errorf("read %s: %w", f.ref.Object, err))
		}
	}
	return r.db.Apply(ctx, Step{Seq: f.ref.Seq, Chain: f.ref.Chain, Prev: prev}, delta)
}
