package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/savepoint"
)

func (a *app) savepointCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "savepoint", Short: "Make, look at, move and delete savepoints of a pipeline",
		Long: `A savepoint is a copy of a checkpoint that holds all it needs: positions, keyed state, how far the sinks had come, and the config
without secrets. Only a person deletes it. "ingestd run --from" goes on from one.`,
		Example: "  ingestd savepoint create orders before-upgrade -c my.toml",
	}, a.savepointCreateCommand(), a.savepointListCommand(), a.savepointShowCommand(), a.savepointVerifyCommand(), a.savepointExportCommand(),
		a.savepointImportCommand(), a.savepointDeleteCommand())
}

func (a *app) savepointListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list PIPELINE", Short: "List the savepoints of a pipeline", Args: cobra.ExactArgs(1),
		Example: "  ingestd savepoint list orders -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPipeline(args[0], func(_ *loaded, def *pipeline.Definition) error {
				list, err := savepoint.List(cmd.Context(), def.Store, def.ID)
				if err != nil {
					return exitWith(exitForKind(fault.KindOf(err)), err)
				}
				return listSavepoints(cmd.OutOrStdout(), list)
			})
		},
	}
}

// withPipeline calls f with a pipeline of the config and its open store.
func (a *app) withPipeline(name string, f func(*loaded, *pipeline.Definition) error) error {
	l, def, err := a.definition(name, io.Discard)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return err
	}
	return f(l, def)
}

func listSavepoints(out io.Writer, list []savepoint.Listed) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no savepoint")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMADE\tCHECKPOINT\tLEASE\tOBJECTS\tBYTES\tBY") //nolint:errcheck // Flush tells
	var bad error
	for _, l := range list {
		if l.Err != nil {
			fmt.Fprintf(w, "%s\t%v\n", l.Name, l.Err) //nolint:errcheck // Flush tells
			if !errors.Is(l.Err, savepoint.ErrIncomplete) {
				bad = exitWith(exitForKind(fault.KindOf(l.Err)), fmt.Errorf("savepoint %s: %w", l.Name, l.Err))
			}
			continue
		}
		by := l.Index.By
		if l.Index.Reason != "" {
			by += ": " + l.Index.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", l.Name, when(l.Index.Made), l.Index.Checkpoint, l.Index.Lease, len(l.Index.Objects), l.Index.Bytes(), by) //nolint:errcheck // Flush tells
	}
	return errors.Join(w.Flush(), bad)
}

func when(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// reading is a savepoint that is read, with what is to be closed then.
type reading struct {
	*savepoint.Savepoint
	name  string
	close func() error
}

// openSavepoint finds a savepoint by its name among a pipeline's, or by its path, when it has a slash or ends in .tar.
func openSavepoint(ctx context.Context, def *pipeline.Definition, nameOrPath string) (reading, error) {
	if !namesPath(nameOrPath) {
		if err := savepoint.CheckName(nameOrPath); err != nil {
			return reading{}, exitWith(exitUsage, err)
		}
		s, err := savepoint.Open(ctx, savepoint.Place{Store: def.Store, Pipeline: def.ID, Name: nameOrPath})
		return reading{s, nameOrPath, func() error { return nil }}, inSavepoint(nameOrPath, err)
	}
	outside, err := savepoint.OpenPath(nameOrPath)
	if err != nil {
		return reading{}, exitWith(exitUsage, err)
	}
	s, err := savepoint.Open(ctx, outside)
	if err != nil {
		return reading{}, inSavepoint(nameOrPath, errors.Join(err, outside.Close()))
	}
	return reading{s, outside.Name(), outside.Close}, nil
}

func namesPath(text string) bool {
	return strings.ContainsRune(text, '/') || strings.HasSuffix(text, ".tar")
}

func inSavepoint(name string, err error) error {
	if err == nil {
		return nil
	}
	return exitWith(exitForKind(fault.KindOf(err)), fmt.Errorf("savepoint %s: %s", name, describe(err)))
}

// withSavepoint calls f with the savepoint that arguments name: PIPELINE NAME, or a path, which needs no config.
func (a *app) withSavepoint(ctx context.Context, args []string, f func(reading) error) error {
	look := func(def *pipeline.Definition, which string) error {
		s, err := openSavepoint(ctx, def, which)
		if err != nil {
			return err
		}
		defer func() { _ = s.close() }() //nolint:errcheck // it was only read
		return f(s)
	}
	if len(args) == 1 {
		if !namesPath(args[0]) {
			return exitWith(exitUsage, fmt.Errorf("%q is no path: give PIPELINE NAME, or the path of a folder or a .tar file", args[0]))
		}
		return look(nil, args[0])
	}
	return a.withPipeline(args[0], func(_ *loaded, def *pipeline.Definition) error { return look(def, args[1]) })
}

func (a *app) savepointShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show PIPELINE NAME | PATH", Short: "Print what a savepoint holds", Args: cobra.RangeArgs(1, 2),
		Example: "  ingestd savepoint show orders before-upgrade -c my.toml\n  ingestd savepoint show ./before-upgrade.tar",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSavepoint(cmd.Context(), args, func(s reading) error { return showSavepoint(cmd.OutOrStdout(), s) })
		},
	}
}

func showSavepoint(out io.Writer, s reading) error {
	var lines strings.Builder
	fmt.Fprintf(&lines, "savepoint   %s, %d objects, %d bytes\nmade        %s by %s", s.name, len(s.Objects), s.Bytes(), when(s.Made), s.By)
	if s.Reason != "" {
		fmt.Fprintf(&lines, ": %s", s.Reason)
	}
	fmt.Fprintf(&lines, "\nversion     %s\npipeline    %s in store %s\ncheckpoint  %d of lease %d, log number %d, cut %s\n",
		s.Version, s.Pipeline, s.StoreID, s.Checkpoint, s.Lease, s.Log, when(s.Manifest.Time))
	for _, st := range s.Manifest.Sinks {
		fmt.Fprintf(&lines, "sink        %s: committed up to checkpoint %d of lease %d\n", st.Name, st.Checkpoint, st.Lease)
	}
	if k := s.Manifest.State(); k != nil {
		fmt.Fprintf(&lines, "state       %d key groups, %d objects\n", k.Groups, len(k.Objects))
	}
	for _, p := range s.Manifest.Positions() {
		fmt.Fprintf(&lines, "split       %s next offset %d, identity %s\n", p.Split, p.Offset, p.Identity)
	}
	for _, st := range s.Manifest.Counters.Stages {
		fmt.Fprintf(&lines, "count       %s: in %d, out %d\n", st.Stage, st.In, st.Out())
	}
	lines.WriteString("\n" + s.Config)
	_, err := io.WriteString(out, lines.String())
	return err
}

func (a *app) savepointVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify PIPELINE NAME | PATH", Short: "Read every object of a savepoint and check it", Args: cobra.RangeArgs(1, 2),
		Example: "  ingestd savepoint verify orders before-upgrade -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSavepoint(cmd.Context(), args, func(s reading) error {
				if err := s.Verify(cmd.Context()); err != nil {
					return inSavepoint(s.name, err)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "savepoint %s is whole: %d objects, %d bytes\n", s.name, len(s.Objects), s.Bytes())
				return err
			})
		},
	}
}

func (a *app) savepointDeleteCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "delete PIPELINE NAME", Short: "Delete a savepoint, or what is left of one whose making died", Args: cobra.ExactArgs(2),
		Long: `Deletes a savepoint and everything in its folder. No other checkpoint or savepoint needs it. It must not be used while a savepoint
of this name is being made. Without --yes it only says what would be deleted.`,
		Example: "  ingestd savepoint delete orders before-upgrade --yes -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPipeline(args[0], func(_ *loaded, def *pipeline.Definition) error {
				return deleteSavepoint(cmd.Context(), def, args[1], deleting{cmd.OutOrStdout(), yes})
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

type deleting struct {
	out io.Writer
	yes bool
}

func deleteSavepoint(ctx context.Context, def *pipeline.Definition, name string, d deleting) error {
	list, err := savepoint.List(ctx, def.Store, def.ID)
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), err)
	}
	for _, l := range list {
		if l.Name != name {
			continue
		}
		if !d.yes {
			_, err := fmt.Fprintf(d.out, "savepoint %s would be deleted; the same command with --yes does it\n", name)
			return err
		}
		if err := (savepoint.Place{Store: def.Store, Pipeline: def.ID, Name: name}).Delete(ctx); err != nil {
			return inSavepoint(name, err)
		}
		_, err := fmt.Fprintf(d.out, "savepoint %s is deleted\n", name)
		return err
	}
	return exitWith(exitUsage, fmt.Errorf("there is no savepoint %q", name))
}

// savepointMade tells that a savepoint is there.
func savepointMade(out io.Writer, name string, index savepoint.Index) error {
	_, err := fmt.Fprintf(out, "savepoint %s is made: checkpoint %d of lease %d, log number %d, %d objects, %d bytes\n",
		name, index.Checkpoint, index.Lease, index.Log, len(index.Objects), index.Bytes())
	return err
}
