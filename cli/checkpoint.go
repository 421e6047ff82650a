package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
)

func (a *app) checkpointCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "checkpoint", Short: "Look at the checkpoints of a pipeline", Example: "  ingestd checkpoint list orders -c my.toml",
	}, a.takeCommand(), a.dropCommand(), a.adoptCommand(), a.checkpointDiffCommand(), a.pinCommand(), a.unpinCommand(), &cobra.Command{
		Use: "list PIPELINE", Short: "List the commit log: claims and kept checkpoints, newest first", Args: cobra.ExactArgs(1),
		Example: "  ingestd checkpoint list orders -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := a.history(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return listEntries(cmd.OutOrStdout(), entries)
		},
	}, &cobra.Command{
		Use: "show PIPELINE [LOG-NUMBER]", Short: "Print one entry of the commit log whole, by default the newest checkpoint",
		Args:    cobra.RangeArgs(1, 2),
		Example: "  ingestd checkpoint show orders 41 -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := a.history(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			found, err := entry(entries, args[1:])
			if err != nil {
				return err
			}
			if found.Entry == (checkpoint.Entry{}) {
				return exitWith(exitFailed, fmt.Errorf("there is no such entry; %s shows what is kept", commandLine("checkpoint list "+args[0], a.config)))
			}
			return showEntry(cmd.OutOrStdout(), found)
		},
	})
}

// definition loads the config and returns one pipeline of it. The caller closes what is loaded, also after an error.
func (a *app) definition(name string, logTo io.Writer) (*loaded, *pipeline.Definition, error) {
	l, err := a.load(logTo)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, d := range l.defs {
		if d.Name == name {
			return l, d, l.open(d)
		}
		names = append(names, d.Name)
	}
	return nil, nil, exitWith(exitUsage, fmt.Errorf("%s has no pipeline %q; it has %q", a.config, name, names))
}

// history reads a pipeline's log beside whatever runs.
func (a *app) history(ctx context.Context, name string) ([]pipeline.Logged, error) {
	l, d, err := a.definition(name, io.Discard)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return nil, err
	}
	entries, err := pipeline.History(ctx, d)
	if err != nil {
		return nil, exitWith(exitForKind(fault.KindOf(err)), err)
	}
	return entries, nil
}

func listEntries(out io.Writer, entries []pipeline.Logged) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(out, "no checkpoint yet: the pipeline has not run with this store")
		return err
	}
	head, _, _ := newest(entries) //nolint:errcheck // what can't be read is told below
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LOG\tWHAT\tLEASE\tCHECKPOINT\tTIME\tSPLITS\tPENDING\tDEAD LETTERS\tBY") //nolint:errcheck // Flush tells
	for _, e := range slices.Backward(entries) {
		fmt.Fprintln(w, entryLine(e, head.Entry.Manifest)) //nolint:errcheck // Flush tells
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Err != nil {
			return exitWith(exitForKind(fault.KindOf(e.Err)), errors.New("entries of the log can't be read: put them back from a copy, as they were"))
		}
	}
	return nil
}

// entryLine is one line of the list. The newest checkpoint, nil without any, says which others are pinned.
func entryLine(l pipeline.Logged, head *checkpoint.Manifest) string {
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	if l.Err != nil {
		return fmt.Sprintf("%d\tunreadable: %v", l.Seq, l.Err)
	}
	if c := l.Entry.Claim; c != nil {
		return fmt.Sprintf("%d\tclaim\t%d\t\t%s\t\t\t\t%s", l.Seq, c.Lease, at(c.Time), c.Who)
	}
	m := l.Entry.Manifest
	by := m.Author
	if m.Reason != "" {
		by += ": " + m.Reason
	}
	what := "checkpoint"
	if head != nil && head.Pin(l.Seq) != nil {
		what = "pinned"
	}
	return fmt.Sprintf("%d\t%s\t%d\t%d\t%s\t%d\t%s\t%d\t%s", l.Seq, what, m.Lease, m.Checkpoint, at(m.Time), m.SplitCount(), pendingText(m),
		m.Counters.DeadLetters, by)
}

// pendingText counts what is decided and not known to be committed, by sink where there are several.
func pendingText(m *checkpoint.Manifest) string {
	total, rows := 0, 0
	var by []string
	for _, s := range m.Sinks {
		total += len(s.Pending)
		if s.Name != pipeline.DeadLetterSink {
			rows++
		}
		if n := len(s.Pending); n > 0 {
			by = append(by, fmt.Sprintf("%s %d", s.Name, n))
		}
	}
	if rows < 2 || total == 0 {
		return strconv.Itoa(total)
	}
	return fmt.Sprintf("%d (%s)", total, strings.Join(by, ", "))
}

// newest returns the newest manifest of a log; ok is false when there is none. An entry above it that can't be read is an error:
// it may be newer.
func newest(entries []pipeline.Logged) (found pipeline.Logged, ok bool, err error) {
	for _, e := range slices.Backward(entries) {
		if e.Err != nil {
			return pipeline.Logged{}, false, exitWith(exitForKind(fault.KindOf(e.Err)), e.Err)
		}
		if e.Entry.Manifest != nil {
			return e, true, nil
		}
	}
	return pipeline.Logged{}, false, nil
}

// entry returns the entry with the log number that is asked for, by default the newest manifest; an empty one if there is none.
func entry(entries []pipeline.Logged, args []string) (pipeline.Logged, error) {
	if len(args) == 0 {
		found, _, err := newest(entries)
		return found, err
	}
	n, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return pipeline.Logged{}, exitWith(exitUsage, fmt.Errorf("%q is no log number", args[0]))
	}
	for _, e := range entries {
		if e.Seq == checkpoint.Seq(n) && e.Err != nil {
			return e, exitWith(exitForKind(fault.KindOf(e.Err)), e.Err)
		}
		if e.Seq == checkpoint.Seq(n) {
			return e, nil
		}
	}
	return pipeline.Logged{}, nil
}

func showEntry(out io.Writer, found pipeline.Logged) error {
	var v any = found.Entry.Manifest
	if found.Entry.Claim != nil {
		v = found.Entry.Claim
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
