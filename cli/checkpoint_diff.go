package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/state"
)

func (a *app) checkpointDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff PIPELINE LOG-NUMBER [LOG-NUMBER]", Short: "Print what differs from one checkpoint to a later one, by default the newest",
		Args: cobra.RangeArgs(2, 3),
		Long: `Prints how far each split, each stage, each sink and the keyed state have come from one kept checkpoint to another. What keyed state holds
for each key is compared by "ingestd state diff".`,
		Example: "  ingestd checkpoint diff orders 41 44 -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := a.history(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var pair [2]pipeline.Logged
			for i, number := range [][]string{args[1:2], args[2:]} {
				if pair[i], err = entry(entries, number); err != nil {
					return err
				}
				if pair[i].Entry.Manifest == nil {
					return exitWith(exitFailed, fmt.Errorf("there is no such checkpoint; %s shows what is kept", commandLine("checkpoint list "+args[0], a.config)))
				}
			}
			return showDifference(cmd.OutOrStdout(), pair[0], pair[1])
		},
	}
}

func showDifference(out io.Writer, before, after pipeline.Logged) error {
	from, to := before.Entry.Manifest, after.Entry.Manifest
	d := difference{&strings.Builder{}}
	d.line("checkpoint", "", fmt.Sprintf("%d of lease %d, log number %d", from.Checkpoint, from.Lease, before.Seq),
		fmt.Sprintf("%d of lease %d, log number %d", to.Checkpoint, to.Lease, after.Seq),
		(time.Duration(to.Time-from.Time) * time.Millisecond).String())
	if from.ConfigDigest != to.ConfigDigest {
		d.line("config", "", from.ConfigDigest, to.ConfigDigest, "changed")
	}
	d.splits(from, to)
	d.stages(from, to)
	d.sinks(from, to)
	if err := d.state(from.State(), to.State()); err != nil {
		return err
	}
	_, err := io.WriteString(out, d.w.String())
	return err
}

// difference prints lines.
type difference struct{ w *strings.Builder }

// line prints what something was and is, and by how much it differs.
func (d difference) line(what, name, before, after, by string) {
	if name != "" {
		name += ": "
	}
	fmt.Fprintf(d.w, "%-12s  %s%s → %s", what, name, cmp.Or(before, "–"), cmp.Or(after, "–"))
	if by != "" {
		d.w.WriteString("  " + by)
	}
	d.w.WriteByte('\n')
}

// number prints a line of a number that has changed.
func (d difference) number(what, name string, before, after int64) {
	if before != after {
		d.line(what, name, strconv.FormatInt(before, 10), strconv.FormatInt(after, 10), fmt.Sprintf("%+d", after-before))
	}
}

func (d difference) splits(from, to *checkpoint.Manifest) {
	before, after := splitsOf(from), splitsOf(to)
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, was := before[name]
		b, is := after[name]
		switch {
		case !was:
			d.line("split", name, "", strconv.FormatInt(int64(b.Offset), 10), "new")
		case !is:
			d.line("split", name, strconv.FormatInt(int64(a.Offset), 10), "", "gone")
		case a.Identity != b.Identity:
			d.line("split", name, fmt.Sprintf("%d of %s", a.Offset, a.Identity), fmt.Sprintf("%d of %s", b.Offset, b.Identity), "another one")
		default:
			d.number("split", name, int64(a.Offset), int64(b.Offset))
			if b.Finished && !a.Finished {
				d.line("split", name, "reading", "finished", "")
			}
		}
	}
}

func splitsOf(m *checkpoint.Manifest) map[string]source.Split {
	out := map[string]source.Split{}
	for _, sh := range m.Shards {
		for _, sp := range sh.Splits {
			out[sp.Split] = sp
		}
	}
	return out
}

func (d difference) stages(from, to *checkpoint.Manifest) {
	before := map[string]checkpoint.StageCount{}
	for _, s := range from.Counters.Stages {
		before[s.Stage] = s
	}
	for _, b := range to.Counters.Stages {
		a := before[b.Stage]
		delete(before, b.Stage)
		d.number("stage", b.Stage+" in", a.In, b.In)
		d.number("stage", b.Stage+" passed", a.Passed, b.Passed)
		d.number("stage", b.Stage+" made", a.Made, b.Made)
		d.number("stage", b.Stage+" filtered", a.Filtered, b.Filtered)
		d.number("stage", b.Stage+" deduplicated", a.Deduplicated, b.Deduplicated)
		d.number("stage", b.Stage+" absorbed", a.Absorbed, b.Absorbed)
		d.number("stage", b.Stage+" late", a.Late, b.Late)
		d.number("stage", b.Stage+" refused", a.Refused, b.Refused)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		d.line("stage", name, "", "", "gone")
	}
	d.number("dead letters", "", from.Counters.DeadLetters, to.Counters.DeadLetters)
}

func (d difference) sinks(from, to *checkpoint.Manifest) {
	text := func(s checkpoint.SinkState) string {
		out := fmt.Sprintf("committed up to checkpoint %d of lease %d, %d pending", s.Checkpoint, s.Lease, len(s.Pending))
		if s.Held > 0 {
			out += fmt.Sprintf(", %d rows held", s.Held)
		}
		return out
	}
	before := map[string]string{}
	for _, s := range from.Sinks {
		before[s.Name] = text(s)
	}
	for _, s := range to.Sinks {
		if a := before[s.Name]; a != text(s) {
			d.line("sink", s.Name, a, text(s), "")
		}
		delete(before, s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		d.line("sink", name, before[name], "", "gone")
	}
}

func (d difference) state(before, after *checkpoint.KeyedState) error {
	a, errA := pipeline.ReadState(before)
	b, errB := pipeline.ReadState(after)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	d.number("state", "newest delta", int64(a.State.Seq), int64(b.State.Seq))
	d.number("state", "deltas", int64(len(a.State.Deltas)), int64(len(b.State.Deltas)))
	d.number("state", "bases", int64(len(a.State.Bases)), int64(len(b.State.Bases)))
	if before, after := watermarkText(before), watermarkText(after); before != after {
		d.line("state", "watermark", before, after, "")
	}
	was := map[uint16]state.Slot{}
	for _, s := range a.Slots {
		was[s.Slot] = s
	}
	for _, s := range b.Slots {
		name := fmt.Sprintf("%q of step %q", s.Name, s.Step)
		switch before, known := was[s.Slot]; {
		case !known:
			d.line("state", name, "", s.String(), "new")
		case s.Discarded && !before.Discarded:
			d.line("state", name, s.String(), "", "discarded")
		}
	}
	return nil
}

func watermarkText(k *checkpoint.KeyedState) string {
	if k == nil || k.Watermark == state.NoTime {
		return ""
	}
	return time.UnixMilli(k.Watermark).UTC().Format("2006-01-02T15:04:05.000Z")
}
