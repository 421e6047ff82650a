package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
)

// restoring is what run is told about a savepoint to go on from.
type restoring struct {
	from, pipeline            string
	maps                      []string
	acceptRepeats, freshSinks bool
	id                        string
}

func (r *restoring) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.from, "from", "", "go on from a savepoint: its name, or the path of a folder (with a slash) or of a .tar file")
	f.StringVar(&r.pipeline, "pipeline", "", "with --from: the pipeline; needed when the config has several")
	f.StringArrayVar(&r.maps, "map", nil, "with --from: topic=OLD:NEW or path=OLD:NEW, when splits have other names now")
	f.BoolVar(&r.acceptRepeats, "accept-repeats", false, "with --from: what was written since the savepoint stays, and is written again")
	f.BoolVar(&r.freshSinks, "fresh-sinks", false, "with --from and --id: a copy beside the original, with targets that nobody has written to")
	f.StringVar(&r.id, "id", "", "with --fresh-sinks: the copy's id, which the config must have")
}

func (r *restoring) check() error {
	if r.from == "" && (r.pipeline != "" || len(r.maps) > 0 || r.acceptRepeats || r.freshSinks || r.id != "") {
		return exitWith(exitUsage, errors.New("--pipeline, --map, --accept-repeats, --fresh-sinks and --id go with --from"))
	}
	return nil
}

// definition is the pipeline that the savepoint is for.
func (r *restoring) definition(l *loaded) (*pipeline.Definition, error) {
	var names []string
	for _, d := range l.defs {
		if d.Name == r.pipeline || r.pipeline == "" && len(l.defs) == 1 {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return nil, exitWith(exitUsage, fmt.Errorf("say by --pipeline which one goes on from the savepoint: %q", names))
}

func (r *restoring) splitMaps() ([]pipeline.SplitMap, error) {
	var out []pipeline.SplitMap
	for _, text := range r.maps {
		kind, names, _ := strings.Cut(text, "=")
		from, to, ok := strings.Cut(names, ":")
		m := pipeline.SplitMap{Kind: pipeline.SplitKind(kind), From: from, To: to}
		if !ok || from == "" || to == "" || m.Kind != pipeline.MapTopic && m.Kind != pipeline.MapPath {
			return nil, exitWith(exitUsage, fmt.Errorf("--map %q: want topic=OLD:NEW or path=OLD:NEW", text))
		}
		out = append(out, m)
	}
	return out, nil
}

// restore makes a pipeline go on from a savepoint, before anything runs.
func (a *app) restore(ctx context.Context, l *loaded, r *restoring) error {
	if r.from == "" {
		return nil
	}
	def, err := r.definition(l)
	if err != nil {
		return err
	}
	maps, err := r.splitMaps()
	if err != nil {
		return err
	}
	s, err := openSavepoint(ctx, def, r.from)
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }() //nolint:errcheck // it was only read
	env := a.environment(l, telemetry.New(version()), def, nil)
	done, err := pipeline.Restore(ctx, def, env, pipeline.RestoreRequest{
		From: s.Savepoint, Name: s.name, Author: whoever(), AcceptRepeats: r.acceptRepeats, FreshSinks: r.freshSinks, NewID: r.id, Maps: maps,
	})
	if err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), fmt.Errorf("pipeline %q: savepoint %s: %s", def.Name, r.from, describe(err)))
	}
	for _, rep := range done.Repeats {
		env.Log.Warn("read again", slog.String("split", rep.String()))
	}
	env.Log.Info("goes on from a savepoint", slog.String("savepoint", s.name), slog.Uint64("log", uint64(done.Seq)))
	return nil
}
