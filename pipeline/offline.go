package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
)

// Logged is one entry of a pipeline's commit log with its number. Err is set in place of the entry when what is stored can't be
// read.
type Logged struct {
	Seq   checkpoint.Seq
	Entry checkpoint.Entry
	Err   error
}

// History reads a pipeline's commit log, lowest number first. It claims nothing, so a run may go on beside it; an entry that is
// collected in between is left out. An empty log gives no entries. Error kinds: those of the store; what a single entry holds
// is that entry's.
func History(ctx context.Context, def *Definition) ([]Logged, error) {
	names, err := def.Store.List(ctx, checkpoint.LogPrefix(def.ID, 0), "")
	if err != nil {
		return nil, err
	}
	var out []Logged
	for _, name := range names {
		seq, err := checkpoint.ParseEntry(def.ID, 0, name)
		if err != nil {
			return nil, err
		}
		data, err := def.Store.Get(ctx, name)
		if errors.Is(err, checkpoint.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l := Logged{Seq: seq}
		if l.Entry, err = checkpoint.Decode(data); err != nil {
			l.Err = fmt.Errorf("log entry %s: %w", name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Change is a change of a pipeline's newest manifest by hand.
type Change struct {
	Author string
	Reason string
	// Apply gets the newest manifest under the lease, and its number in the log, and returns the changed one. An error gives
	// the change up; the lease is taken all the same.
	Apply func(seq checkpoint.Seq, head checkpoint.Manifest) (checkpoint.Manifest, error)
}

// Edit publishes a change of the newest manifest, offline: it takes the next lease, so a run that is alive is fenced and stops
// at its next publish. It returns the number at which the changed manifest stands.
//
// Error kinds: fault.Fenced when somebody newer claimed, fault.Corrupt, fault.Misconfigured, and Apply's own. After any error
// but Apply's the change may be published: look at the log.
func Edit(ctx context.Context, def *Definition, env Env, change Change) (checkpoint.Seq, error) {
	return edit(ctx, def, env, 0, handmade{change.Author, change.Reason, func(_ record.Lease, seq checkpoint.Seq, head checkpoint.Manifest) (checkpoint.Manifest, bool, error) {
		man, err := change.Apply(seq, head)
		return man, err == nil, err
	}})
}

// handmade is a change with what it needs to know; publish is false when there is nothing to publish.
type handmade struct {
	author, reason string
	apply          func(lease record.Lease, seq checkpoint.Seq, head checkpoint.Manifest) (man checkpoint.Manifest, publish bool, err error)
}

// edit runs a machine that does nothing but a change by hand, under a lease that is not below the lowest.
func edit(ctx context.Context, def *Definition, env Env, lowest record.Lease, change handmade) (checkpoint.Seq, error) {
	id, _, err := openStore(ctx, def, env)
	if err != nil {
		return 0, err
	}
	r := run{def: def, env: env, storeID: id}
	cfg := r.config()
	cfg.Offline, cfg.LeaseMin = true, lowest
	e := editor{def: def, change: change, machine: machine.New(cfg), env: env}
	queue := []machine.Event{machine.Started{}}
	for len(queue) > 0 {
		if ctx.Err() != nil {
			return 0, fault.E("pipeline.Edit", fault.Unknown, context.Cause(ctx))
		}
		ev := queue[0]
		queue = queue[1:]
		for _, effect := range e.machine.Step(time.Now().UnixMilli(), ev) {
			answer, err := e.do(ctx, effect)
			if err != nil || e.done {
				return e.published, err
			}
			if answer != nil {
				queue = append(queue, answer)
			}
		}
	}
	return 0, fault.E("pipeline.Edit", fault.Unknown, errors.New("the change came to no end"))
}

// editor does the effects of an offline change one after the other.
type editor struct {
	def       *Definition
	env       Env
	change    handmade
	machine   *machine.Machine
	published checkpoint.Seq
	refused   error // of Apply
	done      bool
}

func (e *editor) do(ctx context.Context, effect machine.Effect) (machine.Event, error) {
	switch f := effect.(type) {
	case machine.List:
		return e.read(listLog(ctx, e.def, f)), nil
	case machine.Get:
		return e.read(getEntry(ctx, e.def, f)), nil
	case machine.Create:
		data, err := checkpoint.Encode(f.Entry)
		if err != nil {
			return nil, err
		}
		err = e.def.Store.Create(ctx, checkpoint.EntryName(e.def.ID, 0, f.Seq), data)
		if err != nil && !errors.Is(err, checkpoint.ErrExists) {
			e.env.Log.Warn("checkpoint store: create", slog.String("error", err.Error()))
			pause(ctx, claimAttempt, e.env.Random)
		}
		return machine.Created{For: f.For, Seq: f.Seq, Result: createResult(err)}, nil
	case machine.Edit:
		man, publish, err := e.change.apply(e.machine.Lease(), f.Seq, f.Head)
		e.refused = err
		man.Author, man.Reason = e.change.author, e.change.reason
		return machine.Edited{OK: publish, Manifest: man}, nil
	case machine.SetTimer:
		pause(ctx, f.Attempt, e.env.Random)
		return machine.TimerFired{Timer: f.Timer}, nil
	case machine.Published:
		e.published = f.Seq
		return nil, nil
	case machine.Stop:
		e.done = true
		return nil, e.end(f)
	case machine.FenceSink, machine.Commit, machine.Replace, machine.Discover, machine.Run, machine.AddSplits, machine.Barrier,
		machine.Letters, machine.Assemble, machine.Settled, machine.Collect, machine.Sweep:
	}
	return nil, fault.E("pipeline.Edit", fault.Corrupt, fmt.Errorf("an offline change asks for %T", effect))
}

// read tells of an answer that the store did not give: the machine asks again.
func (e *editor) read(ev machine.Event, err error) machine.Event {
	if err != nil {
		e.env.Log.Warn("checkpoint store: read", slog.String("error", err.Error()))
	}
	return ev
}

func (e *editor) end(s machine.Stop) error {
	if e.refused != nil {
		return e.refused
	}
	switch s.Reason {
	case machine.Done:
		return nil
	case machine.StoppedFenced:
		return fault.E("pipeline.Edit", fault.Fenced, errors.New(s.Text))
	case machine.StoppedCorrupt:
		return fault.E("pipeline.Edit", fault.Corrupt, errors.New(s.Text))
	case machine.StoppedMisconfigured:
		return fault.E("pipeline.Edit", fault.Misconfigured, errors.New(s.Text))
	case machine.Restart, machine.StoppedLost, machine.StoppedByRule:
	}
	return fault.E("pipeline.Edit", fault.Unknown, errors.New(s.Text))
}
