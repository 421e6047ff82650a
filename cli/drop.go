package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
)

// drop gives up what is decided for a sink and can't ever be committed, by hand: the way on after a sink has answered Lost.
type drop struct {
	out, log               io.Writer
	pipeline, sink, reason string
	acceptLoss, yes        bool
	configured             []string // sinks
}

func (a *app) dropCommand() *cobra.Command {
	var d drop
	cmd := &cobra.Command{
		Use: "drop PIPELINE SINK", Short: "Give up what is decided for a sink and can't be committed any more, offline", Args: cobra.ExactArgs(2),
		Long: `Takes the pipeline's lease and publishes a checkpoint that lists nothing pending for the sink, which is named by its id ("sink"
if it has none, dead_letter for the dead letters). The rows of what is dropped are lost unless they are in the target already: look
there first. It is the way on after a stop as lost, when prepared rows are gone, and when a sink was taken out of the config before
its rows were committed; of such a sink also the rows that it held back are dropped. Without --yes it only shows what would be dropped. A run that is alive is fenced and stops.`,
		Example: `  ingestd checkpoint drop orders sink --reason "staging folder was deleted" --accept-loss --yes -c my.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d.out, d.log, d.pipeline, d.sink = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], args[1]
			return d.run(cmd.Context(), a)
		},
	}
	cmd.Flags().StringVar(&d.reason, "reason", "", "why; it is kept in the checkpoint")
	cmd.Flags().BoolVar(&d.acceptLoss, "accept-loss", false, "the rows are lost on purpose")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "do it; without, only what would be dropped is shown")
	return cmd
}

func (d *drop) run(ctx context.Context, a *app) error {
	t, err := a.newestOf(ctx, d.pipeline, d.log)
	defer t.close()
	if err != nil {
		return err
	}
	d.configured = t.def.SinkNames()
	_, what, err := d.apply(*t.head.Entry.Manifest)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	if _, err := io.WriteString(d.out, what); err != nil {
		return err
	}
	switch {
	case !d.yes:
		_, err := fmt.Fprintln(d.out, "nothing was changed; the same command with --accept-loss, --reason and --yes does it")
		return err
	case !d.acceptLoss || strings.TrimSpace(d.reason) == "":
		return exitWith(exitUsage, errors.New("nothing was changed: it needs --accept-loss and a --reason"))
	}
	return a.publishByHand(ctx, t, d.out, handmade{
		author: whoever(), reason: d.reason,
		apply: func(man checkpoint.Manifest) (checkpoint.Manifest, error) {
			changed, _, err := d.apply(man)
			return changed, err
		},
	})
}

// apply returns the manifest without the sink's pending committables, and names them. A sink that the config does not have any more
// loses also what it held: with its state nobody could go on.
func (d *drop) apply(man checkpoint.Manifest) (checkpoint.Manifest, string, error) {
	var what strings.Builder
	sinks := slices.Clone(man.Sinks)
	i := slices.IndexFunc(sinks, func(s checkpoint.SinkState) bool { return s.Name == d.sink })
	if i < 0 {
		return man, "", fmt.Errorf("the checkpoint has no sink %q", d.sink)
	}
	s := &sinks[i]
	for _, c := range s.Pending {
		fmt.Fprintf(&what, "- %s: checkpoint %d of lease %d, unit %d: %d rows\n", d.sink, c.Checkpoint, c.Lease, c.Unit, c.Rows)
	}
	if s.Held > 0 && !slices.Contains(d.configured, d.sink) {
		fmt.Fprintf(&what, "- %s: %d rows that it held back\n", d.sink, s.Held)
		s.Held, s.State = 0, nil
	}
	s.Pending, man.Sinks = nil, sinks
	if what.Len() == 0 {
		return man, "", fmt.Errorf("nothing is pending for %q", d.sink)
	}
	return man, what.String(), nil
}
