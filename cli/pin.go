package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
)

// pinning is a change of which checkpoints stay.
type pinning struct {
	out, log         io.Writer
	pipeline, number string
	reason           string
	seq              checkpoint.Seq // number
	entries          []pipeline.Logged
	// apply returns what is pinned then.
	apply func(p *pinning, head checkpoint.Manifest) ([]checkpoint.Pin, error)
	// check looks again when the change is published; nil: there is nothing to look at.
	check func(p *pinning, ctx context.Context, def *pipeline.Definition) error
}

const pinLong = `

It takes the pipeline's lease and publishes a checkpoint that differs from the newest one only in that, offline: stop the daemon first. A
run that is alive elsewhere is fenced and stops.`

func (a *app) pinCommand() *cobra.Command {
	return a.pinningCommand(&cobra.Command{
		Use: "pin PIPELINE LOG-NUMBER", Short: "Keep a checkpoint until it is unpinned, offline",
		Long: `Keeps a checkpoint with its keyed state, however many come after it, so that it can be looked at and compared. What it decided for
sinks is not kept: to go back to a checkpoint, make a savepoint.` + pinLong,
		Example: "  ingestd checkpoint pin orders 41 -c my.toml",
	}, pinning{apply: (*pinning).pin, check: (*pinning).stays})
}

func (a *app) unpinCommand() *cobra.Command {
	return a.pinningCommand(&cobra.Command{
		Use: "unpin PIPELINE LOG-NUMBER", Short: "Let a pinned checkpoint go, offline",
		Long:    `Lets a pinned checkpoint go: the next run removes it when it has enough newer ones.` + pinLong,
		Example: "  ingestd checkpoint unpin orders 41 -c my.toml",
	}, pinning{apply: (*pinning).unpin})
}

func (a *app) pinningCommand(cmd *cobra.Command, p pinning) *cobra.Command {
	cmd.Args = cobra.ExactArgs(2)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.out, p.log, p.pipeline, p.number = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], args[1]
		return p.run(cmd.Context(), a)
	}
	cmd.Flags().StringVar(&p.reason, "reason", "", "why; it is kept in the commit log")
	return cmd
}

func (p *pinning) run(ctx context.Context, a *app) error {
	t, err := a.newestOf(ctx, p.pipeline, p.log)
	defer t.close()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(p.number, 10, 64)
	if err != nil {
		return exitWith(exitUsage, fmt.Errorf("%q is no log number", p.number))
	}
	p.seq = checkpoint.Seq(n)
	if p.entries, err = pipeline.History(ctx, t.def); err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), err)
	}
	if _, err := p.apply(p, *t.head.Entry.Manifest); err != nil {
		return exitWith(exitUsage, err)
	}
	err = a.publishByHand(ctx, t, p.out, handmade{
		author: whoever(), reason: cmp.Or(p.reason, "checkpoint pins"),
		apply: func(man checkpoint.Manifest) (checkpoint.Manifest, error) {
			pins, err := p.apply(p, man)
			man.Pinned = pins
			return man, err
		},
	})
	if err != nil || p.check == nil {
		return err
	}
	return p.check(p, ctx, t.def)
}

// stays looks whether the pinned checkpoint is still whole: a run that was alive may have been about to remove it, and the pin
// does not call a removal back.
func (p *pinning) stays(ctx context.Context, def *pipeline.Definition) error {
	gone := func(what string, err error) error {
		return exitWith(exitLost, fmt.Errorf("the checkpoint went away while it was being pinned, as a run was alive: %s: %w\n  next: ingestd checkpoint unpin %s %d",
			what, err, p.pipeline, p.seq))
	}
	name := checkpoint.EntryName(def.ID, 0, p.seq)
	data, err := def.Store.Get(ctx, name)
	if err != nil {
		return gone(name, err)
	}
	e, err := checkpoint.Decode(data)
	if err != nil || e.Manifest == nil {
		return gone(name, cmp.Or(err, errors.New("it is no checkpoint")))
	}
	k := e.Manifest.State()
	if k == nil {
		return nil
	}
	for _, object := range k.Objects {
		full := checkpoint.ObjectName(def.ID, object)
		if _, err := def.Store.GetRange(ctx, full, 0, 1); err != nil {
			return gone(full, err)
		}
	}
	return nil
}

func (p *pinning) pin(head checkpoint.Manifest) ([]checkpoint.Pin, error) {
	at := slices.IndexFunc(p.entries, func(l pipeline.Logged) bool { return l.Seq == p.seq && l.Entry.Manifest != nil })
	switch {
	case at < 0:
		return nil, fmt.Errorf("log number %d is no checkpoint that is kept", p.seq)
	case head.Pin(p.seq) != nil:
		return nil, errors.New("it is pinned already")
	}
	pin := checkpoint.Pin{Seq: p.seq}
	if k := p.entries[at].Entry.Manifest.State(); k != nil {
		pin.Objects = k.Objects
	}
	pins := append(slices.Clone(head.Pinned), pin)
	slices.SortFunc(pins, func(a, b checkpoint.Pin) int { return cmp.Compare(a.Seq, b.Seq) })
	return pins, nil
}

// unpin lets also one go that is not there any more, or can't be read.
func (p *pinning) unpin(head checkpoint.Manifest) ([]checkpoint.Pin, error) {
	if head.Pin(p.seq) == nil {
		return nil, fmt.Errorf("log number %d is not pinned", p.seq)
	}
	return slices.DeleteFunc(slices.Clone(head.Pinned), func(pin checkpoint.Pin) bool { return pin.Seq == p.seq }), nil
}
