package savepoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

// Place is a savepoint's folder in a checkpoint store: savepoints/NAME below that of a pipeline.
type Place struct {
	Store    checkpoint.Store
	Pipeline string
	Name     string
}

var _ Folder = Place{}

// folder is where savepoints lie, below the pipeline's folder.
const folder = "savepoints/"

// relative returns the name of an object below the pipeline's folder.
func (p Place) relative(name string) string { return folder + p.Name + "/" + name }

func (p Place) full(name string) string { return checkpoint.ObjectName(p.Pipeline, p.relative(name)) }

// Get returns an object of the savepoint; see [Folder].
func (p Place) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	full := p.full(name)
	data, err := p.Store.Get(ctx, full)
	if err == nil && int64(len(data)) > limit {
		return nil, fault.E("savepoint.Get", fault.Corrupt, fmt.Errorf("%s has %d bytes, want at most %d", full, len(data), limit))
	}
	return data, err
}

// Content is what a savepoint is made of.
type Content struct {
	// Index says who makes it, when and from what; Folder and Objects are filled in.
	Index    Index
	Manifest checkpoint.Manifest
	Config   string
	// Get returns the bytes of an object that the manifest's keyed state names.
	Get func(ctx context.Context, name string) ([]byte, error)
}

// ErrTaken says that a savepoint of this name is there.
var ErrTaken = errors.New("there is a savepoint of this name")

// Write makes a savepoint. Nonce is random, a name of its own below the savepoint's folder: what an attempt left that died is not in
// the way of the next. When it returns nil the savepoint is durable; after an error it is not there, unless the error is fault.Unknown.
//
// Error kinds: fault.Misconfigured when the name is taken ([ErrTaken]) or can't be one, fault.Corrupt for a manifest with something
// pending, those of Get and of the store.
func (p Place) Write(ctx context.Context, nonce string, c Content) (Index, error) {
	const op = "savepoint.Write"
	if err := CheckName(p.Name); err != nil {
		return Index{}, err
	}
	if err := nothingPending(&c.Manifest); err != nil {
		return Index{}, fault.E(op, fault.Corrupt, err)
	}
	if err := p.free(ctx); err != nil {
		return Index{}, err
	}
	w := writing{place: p, content: &c, index: c.Index}
	w.index.Folder, w.index.Objects = nonce, nil
	err := w.run(ctx)
	if err != nil && fault.KindOf(err) != fault.Unknown {
		w.giveUp(ctx)
	}
	return w.index, err
}

// free reports whether the name is not taken.
func (p Place) free(ctx context.Context) error {
	_, err := p.Store.Get(ctx, p.full(indexName))
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		return nil
	case err != nil:
		return fault.E("savepoint.Write", fault.KindOf(err), err)
	}
	return taken(p.Name)
}

func taken(name string) error {
	return fault.WithRemedy("savepoint.Write", fault.Misconfigured, fmt.Errorf("%q: %w", name, ErrTaken), "take another name, or delete that one")
}

// writing is a savepoint on its way into a store.
type writing struct {
	place   Place
	content *Content
	index   Index
}

// run stores the objects in the order of their names, then the index.
func (w *writing) run(ctx context.Context) error {
	manifest, err := checkpoint.Encode(checkpoint.Entry{Manifest: &w.content.Manifest})
	if err != nil {
		return err
	}
	if err := w.put(ctx, configName, []byte(w.content.Config)); err != nil {
		return err
	}
	if err := w.put(ctx, manifestName, manifest); err != nil {
		return err
	}
	for _, name := range stateObjects(&w.content.Manifest) { // sorted, and below "state/"
		data, err := w.content.Get(ctx, name)
		if err != nil {
			return err
		}
		if err := w.put(ctx, name, data); err != nil {
			return err
		}
	}
	return w.finish(ctx)
}

func (w *writing) put(ctx context.Context, name string, data []byte) error {
	w.index.Objects = append(w.index.Objects, Object{Name: name, Bytes: int64(len(data)), Checksum: sum(data)})
	objects := checkpoint.NewStateObjects(w.place.Store, w.place.Pipeline)
	return objects.Put(ctx, w.place.relative(w.index.Folder+"/"+name), data)
}

// finish creates the index: now the savepoint is there.
func (w *writing) finish(ctx context.Context) error {
	const op = "savepoint.Write"
	const attempts = 3
	if err := w.index.check(); err != nil {
		return fault.E(op, fault.Corrupt, err)
	}
	data, err := checkpoint.EncodeObject(kindIndex, &w.index)
	if err != nil {
		return err
	}
	name := w.place.full(indexName)
	sent := false // it may land yet
	for range attempts {
		err = w.place.Store.Create(ctx, name, data)
		if err == nil || errors.Is(err, checkpoint.ErrExists) || fault.KindOf(err) != fault.Unknown {
			break
		}
		sent = true
	}
	switch {
	case err == nil:
		return nil
	case sent && !errors.Is(err, checkpoint.ErrExists):
		return fault.E(op, fault.Unknown, err)
	case !errors.Is(err, checkpoint.ErrExists):
		return fault.E(op, fault.KindOf(err), err)
	}
	got, err := w.place.Store.Get(ctx, name)
	if err != nil {
		return fault.E(op, fault.Unknown, err) // it may be ours
	}
	if !bytes.Equal(got, data) {
		return taken(w.place.Name)
	}
	return nil
}

// giveUpTimeout bounds how long what was stored is removed again.
const giveUpTimeout = 10 * time.Second

// giveUp removes what no index names. What it leaves behind is shown as incomplete, and harms nothing.
func (w *writing) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTimeout)
	defer cancel()
	for _, o := range w.index.Objects {
		_ = w.place.Store.Delete(ctx, w.place.full(w.index.Folder+"/"+o.Name)) //nolint:errcheck // what is left is named by nothing
	}
}

// Copy makes a savepoint in the store that is the same as another, byte for byte. Everything is checked on the way. Error kinds: as of
// [Place.Write] and [Savepoint.Get].
func (p Place) Copy(ctx context.Context, nonce string, from *Savepoint) error {
	_, err := p.Write(ctx, nonce, Content{Index: from.Index, Manifest: from.Manifest, Config: from.Config, Get: from.Get})
	return err
}

// Delete removes a savepoint, the index first, and what creations left that died. It must not be called while one of this name is
// being made. Error kinds: fault.Misconfigured when there is nothing, else the store's own.
func (p Place) Delete(ctx context.Context) error {
	const op = "savepoint.Delete"
	if err := CheckName(p.Name); err != nil {
		return err
	}
	names, err := p.Store.List(ctx, p.full(""), "")
	if err != nil {
		return fault.E(op, fault.KindOf(err), err)
	}
	if len(names) == 0 {
		return fault.E(op, fault.Misconfigured, fmt.Errorf("there is no savepoint %q", p.Name))
	}
	for _, name := range append([]string{p.full(indexName)}, names...) {
		if err := p.Store.Delete(ctx, name); err != nil {
			return fault.E(op, fault.KindOf(err), fmt.Errorf("object %s: %w", name, err))
		}
	}
	return nil
}

// Listed is one savepoint of a pipeline. Err says what is wrong with it; one without an index was left by a creation that died, or
// is being made.
type Listed struct {
	Name  string
	Index Index
	Err   error
}

// ErrIncomplete says that a savepoint has no index.
var ErrIncomplete = errors.New("incomplete: being made, or left by a creation that died")

// List returns the savepoints of a pipeline, sorted by name. Error kinds: those of the store.
func List(ctx context.Context, store checkpoint.Store, pipeline string) ([]Listed, error) {
	prefix := checkpoint.ObjectName(pipeline, folder)
	names, err := store.List(ctx, prefix, "")
	if err != nil {
		return nil, fault.E("savepoint.List", fault.KindOf(err), err)
	}
	var out []Listed
	for _, full := range names {
		name, _, _ := strings.Cut(strings.TrimPrefix(full, prefix), "/")
		if len(out) > 0 && out[len(out)-1].Name == name {
			continue
		}
		l := Listed{Name: name}
		data, err := store.Get(ctx, Place{store, pipeline, name}.full(indexName))
		switch {
		case errors.Is(err, checkpoint.ErrNotExist):
			l.Err = ErrIncomplete
		case err != nil:
			l.Err = err
		default:
			l.Err = checkpoint.DecodeObject(kindIndex, data, &l.Index)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
