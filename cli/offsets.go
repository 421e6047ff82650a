package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

func (a *app) offsetsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "offsets", Short: "Look at the positions of a pipeline, or set them by hand", Example: "  ingestd offsets show orders -c my.toml",
	}, a.offsetsShowCommand(), a.offsetsSetCommand())
}

func (a *app) offsetsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show PIPELINE", Short: "Print where each split stands in the newest checkpoint", Args: cobra.ExactArgs(1),
		Example: "  ingestd offsets show orders -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := a.history(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return showOffsets(cmd.OutOrStdout(), entries)
		},
	}
}

func (a *app) offsetsSetCommand() *cobra.Command {
	var o offsetsChange
	set := &cobra.Command{
		Use: "set PIPELINE SPLIT=OFFSET …", Short: "Publish a checkpoint with other positions, offline", Args: cobra.MinimumNArgs(2),
		Long: `Takes the pipeline's lease and publishes a checkpoint that differs from the newest one only in the named positions, with author
and reason. Without --yes it only shows the difference. A run that is alive is fenced and stops.

OFFSET is a number, or forget: the split is dropped and found again as new, at its first record, and with the topic ID that
it has now (the way on after a topic was recreated). An offset above the present one skips records that were never read:
that needs --accept-loss. One below it reads records again, whose rows are then there twice: that needs --accept-duplicates.`,
		Example: `  ingestd offsets set orders orders/3=1200 --reason "broker lost 1100 to 1199" --accept-loss --yes -c my.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.out, o.log, o.config, o.pipeline = cmd.OutOrStdout(), cmd.ErrOrStderr(), a.config, args[0]
			return o.run(cmd.Context(), a, args[1:])
		},
	}
	set.Flags().StringVar(&o.reason, "reason", "", "why; it is kept in the checkpoint")
	set.Flags().StringVar(&o.author, "author", "", "who; by default the user's name")
	set.Flags().BoolVar(&o.acceptLoss, "accept-loss", false, "records that are skipped are lost on purpose")
	set.Flags().BoolVar(&o.acceptDuplicates, "accept-duplicates", false, "records that are read again may be in the sink twice")
	set.Flags().BoolVar(&o.yes, "yes", false, "do it; without, only the difference is shown")
	return set
}

func showOffsets(out io.Writer, entries []pipeline.Logged) error {
	head, ok, err := newest(entries)
	if err != nil {
		return err
	}
	if !ok {
		return exitWith(exitFailed, errors.New("no checkpoint yet: the pipeline has not run with this store"))
	}
	m := head.Entry.Manifest
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "checkpoint %d of lease %d, log number %d\n\nSPLIT\tNEXT OFFSET\tUNTIL\tFINISHED\tLEADER EPOCH\tIDENTITY\n", m.Checkpoint, m.Lease, head.Seq) //nolint:errcheck // Flush tells
	for _, sh := range m.Shards {
		for _, sp := range sh.Splits {
			until := "–"
			if sp.Until != source.Unbounded {
				until = strconv.FormatInt(int64(sp.Until), 10)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%t\t%d\t%s\n", sp.Split, sp.Offset, until, sp.Finished, sp.LeaderEpoch, sp.Identity) //nolint:errcheck // Flush tells
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return showSinks(out, m)
}

// showSinks tells, where there are several sinks, how far each has committed: the positions are those of all.
func showSinks(out io.Writer, m *checkpoint.Manifest) error {
	rows := slices.DeleteFunc(slices.Clone(m.Sinks), func(s checkpoint.SinkState) bool { return s.Name == pipeline.DeadLetterSink })
	if len(rows) < 2 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "\nSINK\tCOMMITTED UP TO\tOF LEASE\tPENDING\tROWS HELD\n") //nolint:errcheck // Flush tells
	for _, s := range m.Sinks {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", s.Name, s.Checkpoint, s.Lease, len(s.Pending), s.Held) //nolint:errcheck // Flush tells
	}
	return w.Flush()
}

// offsetsChange is one change of positions by hand.
type offsetsChange struct {
	out, log                     io.Writer
	config, pipeline             string
	reason, author               string
	acceptLoss, acceptDuplicates bool
	yes                          bool
}

// move is what is wanted for one split.
type move struct {
	split  string
	to     record.Offset
	forget bool
}

func (o *offsetsChange) run(ctx context.Context, a *app, args []string) error {
	moves, err := parseMoves(args)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	t, err := a.newestOf(ctx, o.pipeline, o.log)
	defer t.close()
	if err != nil {
		return err
	}
	head := t.head
	_, diff, err := o.apply(*head.Entry.Manifest, moves)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	if _, err := fmt.Fprintf(o.out, "checkpoint %d of lease %d, log number %d:\n%s", head.Entry.Manifest.Checkpoint, head.Entry.Manifest.Lease, head.Seq, diff); err != nil {
		return err
	}
	switch {
	case !o.yes:
		_, err := fmt.Fprintln(o.out, "nothing was changed; the same command with --reason and --yes does it")
		return err
	case strings.TrimSpace(o.reason) == "":
		return exitWith(exitUsage, errors.New("nothing was changed: give a --reason"))
	}
	return a.publishByHand(ctx, t, o.out, handmade{
		author: o.who(), reason: o.reason,
		apply: func(man checkpoint.Manifest) (checkpoint.Manifest, error) {
			changed, _, err := o.apply(man, moves)
			return changed, err
		},
	})
}

func (o *offsetsChange) who() string {
	if o.author != "" {
		return o.author
	}
	return whoever()
}

func parseMoves(args []string) ([]move, error) {
	var out []move
	for _, arg := range args {
		i := strings.LastIndexByte(arg, '=')
		if i <= 0 {
			return nil, fmt.Errorf("%q: want SPLIT=OFFSET, as in orders/3=1200", arg)
		}
		m := move{split: arg[:i], forget: arg[i+1:] == "forget"}
		if !m.forget {
			n, err := strconv.ParseInt(arg[i+1:], 10, 64)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q: the offset must be a number from 0 on, or forget", arg)
			}
			m.to = record.Offset(n)
		}
		if slices.ContainsFunc(out, func(other move) bool { return other.split == m.split }) {
			return nil, fmt.Errorf("%q: the split %s is there twice", arg, m.split)
		}
		out = append(out, m)
	}
	return out, nil
}

// apply returns the manifest with the moves, and the difference in words. It refuses a loss or a doubling that was not accepted.
func (o *offsetsChange) apply(man checkpoint.Manifest, moves []move) (checkpoint.Manifest, string, error) {
	var diff strings.Builder
	shards := append([]checkpoint.Shard(nil), man.Shards...)
	for _, m := range moves {
		i := shardOf(shards, m.split)
		if i < 0 {
			return man, "", fmt.Errorf("the checkpoint has no split %q; %s lists them", m.split, commandLine("offsets show "+o.pipeline, o.config))
		}
		sp := shards[i].Splits[0]
		effect, err := o.judge(m, sp)
		if err != nil {
			return man, "", fmt.Errorf("%s: %w", m.split, err)
		}
		fmt.Fprintf(&diff, "- %s %d\n", m.split, sp.Offset)
		if m.forget {
			shards = append(shards[:i:i], shards[i+1:]...)
			fmt.Fprintf(&diff, "    %s\n", effect)
			continue
		}
		fmt.Fprintf(&diff, "+ %s %d\n    %s\n", m.split, m.to, effect)
		sp.Offset, sp.LeaderEpoch = m.to, record.NoLeaderEpoch
		sp.Finished = sp.Until != source.Unbounded && sp.Offset >= sp.Until
		shards[i].Splits = []source.Split{sp}
	}
	man.Shards = shards
	return man, diff.String(), nil
}

// judge says what a move does, or why it is refused.
func (o *offsetsChange) judge(m move, sp source.Split) (effect string, err error) {
	from := sp.Offset
	switch {
	case m.forget:
		effect = "the split is found again as new: records may be skipped or read again"
		if !o.acceptLoss {
			err = errors.New("to forget a split's position may lose or double records: it needs --accept-loss")
		}
	case m.to > from:
		effect = fmt.Sprintf("up to %d records are never read", m.to-from)
		if !o.acceptLoss {
			err = fmt.Errorf("from %d to %d skips up to %d records that were never read: it needs --accept-loss", from, m.to, m.to-from)
		}
	case m.to < from:
		effect = fmt.Sprintf("up to %d records are read again", from-m.to)
		if !o.acceptDuplicates {
			err = fmt.Errorf("from %d to %d reads up to %d records again: it needs --accept-duplicates", from, m.to, from-m.to)
		}
	case sp.LeaderEpoch == record.NoLeaderEpoch:
		err = fmt.Errorf("it stands at %d already", from)
	default:
		effect = fmt.Sprintf("the leader epoch %d is forgotten, by which a truncated log is found", sp.LeaderEpoch)
		if !o.acceptLoss {
			err = fmt.Errorf("it stands at %d already; to forget its leader epoch, by which a truncated log is found, needs --accept-loss", from)
		}
	}
	return effect, err
}

func shardOf(shards []checkpoint.Shard, split string) int {
	for i, sh := range shards {
		if len(sh.Splits) == 1 && sh.Splits[0].Split == split {
			return i
		}
	}
	return -1
}
