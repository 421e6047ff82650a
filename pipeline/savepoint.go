package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/savepoint"
	"github.com/ingestd/ingestd/sink"
)

// SavepointRequest says what savepoint is to be made.
type SavepointRequest struct {
	Name    string
	By      string // who makes it
	Reason  string
	Version string // of ingestd
	Config  string // of the pipeline, without secrets
	// Log is the number of a kept checkpoint in the log; 0 for the newest.
	Log checkpoint.Seq
}

// CreateSavepoint makes a savepoint of a kept checkpoint. It takes no lease and changes nothing else, so a run may go on beside it: what
// that collects in between makes the savepoint fail, not incomplete.
//
// Error kinds: fault.Misconfigured when the checkpoint is not one that a savepoint can be of yet (see [settled]), or there is none, or
// the name is taken; fault.Lost for an object that is gone; fault.Corrupt, and those of the store.
func CreateSavepoint(ctx context.Context, def *Definition, env Env, q SavepointRequest) (savepoint.Index, error) {
	entries, err := History(ctx, def)
	if err != nil {
		return savepoint.Index{}, err
	}
	of, err := settled(def, entries, q.Log)
	if err != nil {
		return savepoint.Index{}, err
	}
	return writeSavepoint(ctx, def, env, q, of)
}

// logged is a checkpoint with nothing pending, and its number in the log.
type logged struct {
	seq checkpoint.Seq
	man checkpoint.Manifest
}

func writeSavepoint(ctx context.Context, def *Definition, env Env, q SavepointRequest, of logged) (savepoint.Index, error) {
	nonce := make([]byte, 8)
	env.Random(nonce)
	return savepoint.Place{Store: def.Store, Pipeline: def.ID, Name: q.Name}.Write(ctx, fmt.Sprintf("%x", nonce), savepoint.Content{
		Index: savepoint.Index{
			Made: time.Now().UnixMilli(), By: q.By, Reason: q.Reason, Version: q.Version,
			StoreID: of.man.StoreID, Pipeline: of.man.Pipeline, Lease: of.man.Lease, Checkpoint: of.man.Checkpoint, Log: of.seq,
		},
		Manifest: of.man, Config: q.Config, Get: checkpoint.NewStateObjects(def.Store, def.ID).Get,
	})
}

// settled returns a manifest of the log as a savepoint has it: nothing is pending, because later manifests say that all of it is
// committed, and no sink holds rows back that only its own target has.
func settled(def *Definition, entries []Logged, want checkpoint.Seq) (logged, error) {
	const op = "pipeline.Savepoint"
	found, newest, err := wanted(entries, want)
	if err != nil {
		return logged{}, err
	}
	of := logged{found.Seq, *found.Entry.Manifest}
	refuse := func(err error) error {
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("checkpoint %d, log number %d, can't be a savepoint's: %w", of.man.Checkpoint, of.seq, err), notSettled)
	}
	of.man.Sinks = slices.Clone(of.man.Sinks)
	for i := range of.man.Sinks {
		st := &of.man.Sinks[i]
		if n := len(st.Pending); n > 0 && !committed(newest.Entry.Manifest, st) {
			return of, refuse(fmt.Errorf("%d committables of sink %q are not known committed", n, st.Name))
		}
		settleSink(st)
	}
	if err := holdsNothing(def, &of.man); err != nil {
		return of, refuse(err)
	}
	return of, nil
}

// wanted finds a manifest by its number, or the newest for 0, and the newest. An entry at or above it that can't be read is an error.
func wanted(entries []Logged, want checkpoint.Seq) (found, newest *Logged, err error) {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Err != nil && e.Seq >= want:
			return nil, nil, e.Err
		case e.Err != nil || e.Entry.Manifest == nil:
			continue
		case e.Seq == want || want == 0:
			found = e
		}
		newest = e
	}
	if found == nil {
		return nil, nil, fault.E("pipeline.Savepoint", fault.Misconfigured, errors.New("there is no such checkpoint: none was published yet, or it was collected"))
	}
	return found, newest, nil
}

const notSettled = "start the pipeline and stop it by SIGTERM, or take the savepoint from the pipeline while it runs"

// committed reports whether a later manifest says that all is committed which an earlier one lists as pending for a sink.
func committed(later *checkpoint.Manifest, st *checkpoint.SinkState) bool {
	last := st.Pending[len(st.Pending)-1]
	for _, now := range later.Sinks {
		if now.Name == st.Name {
			return cmp.Or(cmp.Compare(now.Lease, last.Lease), cmp.Compare(now.Checkpoint, last.Checkpoint)) >= 0
		}
	}
	return false
}

// settleSink notes that all that is pending is committed.
func settleSink(st *checkpoint.SinkState) {
	if n := len(st.Pending); n > 0 {
		st.Lease, st.Checkpoint, st.Pending = st.Pending[n-1].Lease, st.Pending[n-1].Checkpoint, nil
	}
}

// errHeld says that a sink has prepared rows that no committable names.
var errHeld = errors.New("rows are held back until their file is rolled")

// holdsNothing asks the sinks whether rows of a checkpoint are only in an open file.
func holdsNothing(def *Definition, man *checkpoint.Manifest) error {
	plugins, names := def.sinks()
	for i, p := range plugins {
		h, ok := p.(sink.Holder)
		if !ok {
			continue
		}
		rows, err := h.Held(stateOf(*man, names[i]))
		if err != nil {
			return err
		}
		if rows > 0 {
			return fmt.Errorf("sink %q: %d %w", names[i], rows, errHeld)
		}
	}
	return nil
}
