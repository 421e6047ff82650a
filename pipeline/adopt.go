package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Target is a sink's target with the store and the lease that wrote to it last.
type Target struct {
	Sink string
	sink.Owner
}

// ErrForeign says that a target was written by a pipeline of the same ID in another checkpoint store.
var ErrForeign = errors.New("the target was written from another checkpoint store")

// foreign are the targets that another store owns.
func foreign(targets []Target, storeID string) []Target {
	var out []Target
	for _, t := range targets {
		if t.StoreID != storeID {
			out = append(out, t)
		}
	}
	return out
}

// refuseForeign stops a pipeline whose target another store owns: what that store decided is not known here, so rows would be
// doubled or skipped.
func refuseForeign(def *Definition, targets []Target, storeID string) error {
	others := foreign(targets, storeID)
	if len(others) == 0 {
		return nil
	}
	t, this := others[0], storeID
	if this == "" {
		this = "new"
	}
	return fault.WithRemedy("pipeline", fault.Lost, fmt.Errorf("sink %q: %w, %s, by pipeline %q under lease %d; this store is %s", t.Sink, ErrForeign, t.StoreID, def.ID, t.Lease, this),
		"use that store, or another pipeline id, or, if that store is gone for good, adopt the target")
}

// Foreign returns the targets that another store owns. It changes nothing. Error kinds: those of the store and of the sinks'
// Inspect.
func Foreign(ctx context.Context, def *Definition) ([]Target, error) {
	id, _, err := checkpoint.StoreID(ctx, def.Store)
	if err != nil {
		return nil, fmt.Errorf("checkpoint store: %w", err)
	}
	return look(ctx, def, id)
}

// look asks the sinks which of their targets another store owns.
func look(ctx context.Context, def *Definition, storeID string) ([]Target, error) {
	_, owned, err := inspect(ctx, def, storeID, nil)
	return foreign(owned, storeID), err
}

// Adopt makes the targets of another checkpoint store this store's, offline: it takes a lease above every lease of that store
// and raises the fences, so that what still runs there is fenced. Positions are not touched: what that store had read is not
// known here. With a checkpoint in the log a manifest with author and reason is published.
//
// Error kinds: fault.Misconfigured when there is nothing to adopt, or while commits are pending: they would be compared with
// the other store's ledger. fault.Fenced, fault.Corrupt, and those of the sinks. It may be called again after any error.
func Adopt(ctx context.Context, def *Definition, env Env, author, reason string) error {
	const op = "pipeline.Adopt"
	id, _, err := openStore(ctx, def, env)
	if err != nil {
		return err
	}
	targets, err := look(ctx, def, id)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fault.E(op, fault.Misconfigured, errors.New("no target is another store's"))
	}
	env.Who += fmt.Sprintf(", adopts targets for %s: %s", author, reason)
	var lowest record.Lease
	for _, t := range targets {
		lowest = max(lowest, t.Lease+1)
	}
	_, err = edit(ctx, def, env, lowest, handmade{author, reason, func(lease record.Lease, seq checkpoint.Seq, head checkpoint.Manifest) (checkpoint.Manifest, bool, error) {
		for _, st := range head.Sinks {
			if len(st.Pending) > 0 {
				return head, false, fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("sink %q has checkpoint %d pending", st.Name, st.Pending[0].Checkpoint),
					"commit it by a run, or give it up by `ingestd checkpoint drop`")
			}
		}
		for _, t := range targets {
			if err := take(ctx, def, env, takeOver{t.Sink, id, lease, head}); err != nil {
				return head, false, fmt.Errorf("sink %q: %w", t.Sink, err)
			}
		}
		return head, seq > 0, nil
	}})
	return err
}

// takeOver is what a sink is adopted with.
type takeOver struct {
	name    string
	storeID string
	lease   record.Lease
	head    checkpoint.Manifest
}

// take opens a sink with the right to adopt and raises its fence.
func take(ctx context.Context, def *Definition, env Env, o takeOver) error {
	plugins, names := def.sinks()
	for i, p := range plugins {
		if names[i] != o.name {
			continue
		}
		s, err := p.Open(ctx, sink.Env{
			Identity: sink.Identity{StoreID: o.storeID, Pipeline: def.ID, Sink: o.name}, Lease: o.lease, Tasks: 1,
			Segments: checkpoint.NewSegments(def.Store, def.ID, 0, o.lease), AtLeastOnce: def.Delivery == config.AtLeastOnce, Adopt: true,
		})
		if err != nil {
			return err
		}
		err = raise(ctx, env, s, stateOf(o.head, o.name))
		logClose(env.Log, "sink "+o.name, s.Close())
		return err
	}
	return nil
}

func stateOf(head checkpoint.Manifest, name string) []byte {
	for _, st := range head.Sinks {
		if st.Name == name {
			return st.State
		}
	}
	return nil
}

// raiseAttempts bounds how often a fence is tried whose outcome is not known: a person waits, and can call again.
const raiseAttempts = 8

func raise(ctx context.Context, env Env, s sink.Sink, state []byte) error {
	if err := s.Restore(ctx, state, nil); err != nil {
		return err
	}
	c := s.Committer()
	for attempt := 0; ; attempt++ {
		err := c.Fence(ctx)
		if kind := fault.KindOf(err); err == nil || kind != fault.Unknown && kind != fault.Transient || attempt == raiseAttempts {
			return err
		}
		env.Log.Warn("raise the fence", slog.String("error", err.Error()))
		pause(ctx, attempt, env.Random)
	}
}
