package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/inspect"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

// stateLook is a look at the keyed state of checkpoints, and what it shows of it.
type stateLook struct {
	app       *app
	out, log  io.Writer
	pipeline  string
	savepoint string
	dir       string
	toFile    string
	group     int
	limit     int64
	filter    inspect.Filter
}

func (a *app) stateCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "state", Short: "Look into the keyed state of a pipeline", Example: "  ingestd state scan orders --step counts -c my.toml",
		Long: `Shows what keyed steps remember, as one JSON object a line. It looks at a kept checkpoint (by default the newest, else the one with
the LOG-NUMBER that "ingestd checkpoint list" shows) or at a savepoint, beside whatever runs: the state is restored into a folder of its
own, which is removed at the end, and the pipeline's local database is not touched.`,
	},
		a.stateVerb("ls PIPELINE [LOG-NUMBER]", "List the states of keyed steps", cobra.RangeArgs(1, 2), (*stateLook).ls),
		a.stateVerb("get PIPELINE KEY [LOG-NUMBER]", "Print all that is kept of one key", cobra.RangeArgs(2, 3), (*stateLook).get),
		a.stateVerb("scan PIPELINE [LOG-NUMBER]", "Print every entry", cobra.RangeArgs(1, 2), (*stateLook).scan),
		a.stateVerb("stats PIPELINE [LOG-NUMBER]", "Count entries and bytes of each state", cobra.RangeArgs(1, 2), (*stateLook).stats),
		a.stateVerb("export PIPELINE [LOG-NUMBER]", "Print every entry with its bytes as they are stored", cobra.RangeArgs(1, 2), (*stateLook).export),
		a.stateVerb("diff PIPELINE LOG-NUMBER [LOG-NUMBER]", "Print the entries that differ from one checkpoint to a later one, by default the newest",
			cobra.RangeArgs(2, 3), (*stateLook).diff))
}

// stateVerb makes a verb that shows something of state.
func (a *app) stateVerb(use, short string, args cobra.PositionalArgs, show func(s *stateLook, ctx context.Context, args []string) error) *cobra.Command {
	s := &stateLook{app: a}
	name, _, _ := strings.Cut(use, " ")
	examples := map[string]string{
		"ls": "  ingestd state ls orders -c my.toml", "get": "  ingestd state get orders 'some word' -c my.toml",
		"scan": "  ingestd state scan orders 41 --step counts --limit 10 -c my.toml", "stats": "  ingestd state stats orders -c my.toml",
		"export": "  ingestd state export orders --out state.ndjson -c my.toml", "diff": "  ingestd state diff orders 41 44 -c my.toml",
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, Example: examples[name],
		RunE: func(cmd *cobra.Command, args []string) error {
			s.out, s.log, s.pipeline = cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0]
			return s.run(cmd.Context(), func(ctx context.Context) error { return show(s, ctx, args[1:]) })
		},
	}
	cmd.Flags().StringVar(&s.savepoint, "savepoint", "", "look at this savepoint: its name in the store, or a path, which has a slash or ends in .tar")
	if name == "ls" {
		return cmd
	}
	cmd.Flags().StringVar(&s.dir, "temp-dir", "", "where the state is restored for the look; by default the system's folder for temporary files")
	if name == "stats" {
		return cmd
	}
	cmd.Flags().StringVar(&s.filter.Step, "step", "", "only what this step keeps")
	cmd.Flags().StringVar(&s.filter.State, "state", "", "only the state of this name")
	cmd.Flags().IntVar(&s.group, "group", -1, "only this key group")
	cmd.Flags().Int64Var(&s.limit, "limit", 0, "end after so many lines; 0: never")
	if name == "export" {
		cmd.Flags().StringVar(&s.toFile, "out", "", "write to this file, which must not be there yet")
	}
	return cmd
}

// errEnough ends a look early.
var errEnough = errors.New("enough lines")

// run prepares output and end of a look. What was restored is removed also when the reader of the output goes away.
func (s *stateLook) run(ctx context.Context, show func(ctx context.Context) error) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	if s.group >= 0 {
		if s.group > math.MaxUint16 {
			return exitWith(exitUsage, fmt.Errorf("--group: there is no key group %d", s.group))
		}
		g := state.Group(s.group)
		s.filter.Group = &g
	}
	to := s.out
	if s.toFile != "" {
		const mode = 0o644
		f, err := os.OpenFile(s.toFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return exitWith(exitUsage, err)
		}
		defer func() {
			if cerr := f.Close(); cerr != nil && err == nil {
				err = exitWith(exitFailed, cerr)
			}
		}()
		to = f
	}
	buffered := bufio.NewWriter(to)
	s.out = buffered
	if err = show(ctx); errors.Is(err, errEnough) {
		err = nil
	}
	if ferr := buffered.Flush(); err == nil {
		err = ferr
	}
	if errors.Is(err, syscall.EPIPE) { // whoever reads has seen enough
		return nil
	}
	if _, ok := errors.AsType[*exitError](err); err != nil && !ok {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	return err
}

// print prints a line, and ends the look at its limit.
func (s *stateLook) print(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	if s.limit--; s.limit == 0 {
		return errEnough
	}
	return nil
}

// viewed is a checkpoint that is looked at.
type viewed struct {
	seq      checkpoint.Seq
	manifest *checkpoint.Manifest
	objects  local.Objects
	close    func()
}

// find finds the checkpoint that is asked for.
func (s *stateLook) find(ctx context.Context, number []string) (v viewed, err error) {
	l, def, err := s.app.definition(s.pipeline, io.Discard)
	v.close = func() {
		if l != nil {
			l.close()
		}
	}
	if err != nil {
		return v, err
	}
	if s.savepoint != "" {
		if len(number) > 0 {
			return v, exitWith(exitUsage, errors.New("a savepoint has no log number"))
		}
		return s.findSavepoint(ctx, def, v)
	}
	found, err := lookUp(ctx, def, number)
	switch {
	case err != nil:
		return v, err
	case found.Entry.Claim != nil:
		return v, exitWith(exitUsage, fmt.Errorf("log number %d is a claim, which has no state", found.Seq))
	case found.Entry.Manifest == nil:
		return v, exitWith(exitFailed, fmt.Errorf("there is no such checkpoint; %s shows what is kept", commandLine("checkpoint list "+s.pipeline, s.app.config)))
	}
	v.seq, v.manifest, v.objects = found.Seq, found.Entry.Manifest, checkpoint.NewStateObjects(def.Store, def.ID)
	return v, v.check()
}

// lookUp finds an entry of the log, by default the newest checkpoint, also while checkpoints are removed as fast as they are listed.
func lookUp(ctx context.Context, def *pipeline.Definition, number []string) (found pipeline.Logged, err error) {
	for range lookAttempts {
		var entries []pipeline.Logged
		if entries, err = pipeline.History(ctx, def); err != nil {
			break
		}
		found, err = entry(entries, number)
		if err != nil || found.Seq > 0 || len(number) > 0 || len(entries) == 0 {
			break
		}
	}
	return found, err
}

func (s *stateLook) findSavepoint(ctx context.Context, def *pipeline.Definition, v viewed) (viewed, error) {
	r, err := openSavepoint(ctx, def, s.savepoint)
	if err != nil {
		return v, err
	}
	before := v.close
	v.close = func() {
		_ = r.close() //nolint:errcheck // it was only read
		before()
	}
	v.seq, v.manifest, v.objects = r.Log, &r.Manifest, r
	return v, v.check()
}

func (v *viewed) check() error {
	if v.manifest.State() == nil {
		return exitWith(exitFailed, errors.New("the checkpoint has no keyed state: no keyed step had run when it was made"))
	}
	return nil
}

// lookAttempts bounds how often the newest checkpoint is looked for, when it or what it needs was removed while it was read.
const lookAttempts = 10

// open restores the checkpoint that is asked for. Without a number that is the newest, and a newer one when it was collected meanwhile.
func (s *stateLook) open(ctx context.Context, number []string) (*inspect.State, viewed, error) {
	var err error
	for range lookAttempts {
		var v viewed
		if v, err = s.find(ctx, number); err != nil {
			v.close()
			return nil, v, err
		}
		var st *inspect.State
		st, err = inspect.OpenState(ctx, v.manifest.State(), inspect.Options{
			Objects: v.objects, Dir: s.dir, Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		v.close()
		if err == nil {
			return st, v, nil
		}
		if fault.KindOf(err) != fault.Lost || len(number) > 0 || s.savepoint != "" {
			break
		}
	}
	if fault.KindOf(err) == fault.Lost && s.savepoint == "" {
		err = fmt.Errorf("%w\n  next: if the pipeline runs, its checkpoint was removed while it was read: look at a newer one; else %s", err,
			commandLine("fsck "+s.pipeline, s.app.config))
	}
	return nil, viewed{}, err
}

// with opens a checkpoint's state, shows it, and removes it again.
func (s *stateLook) with(ctx context.Context, number []string, show func(st *inspect.State, v viewed) error) error {
	st, v, err := s.open(ctx, number)
	if err != nil {
		return err
	}
	err = show(st, v)
	if cerr := st.Close(); err == nil {
		err = cerr
	}
	return err
}

func (s *stateLook) ls(ctx context.Context, number []string) error {
	v, err := s.find(ctx, number)
	defer v.close()
	if err != nil {
		return err
	}
	stored, err := pipeline.ReadState(v.manifest.State())
	if err != nil {
		return err
	}
	for _, slot := range stored.Slots {
		line := struct {
			Slot      uint16 `json:"slot"`
			Step      string `json:"step"`
			State     string `json:"state"`
			Kind      string `json:"kind"`
			Type      string `json:"type"`
			Version   int    `json:"version"`
			Discarded bool   `json:"discarded,omitempty"`
		}{slot.Slot, slot.Step, slot.Name, slot.Kind, slot.Type, slot.Version, slot.Discarded}
		if err := s.print(line); err != nil {
			return err
		}
	}
	return nil
}

func (s *stateLook) get(ctx context.Context, args []string) error {
	s.filter.Key = args[0]
	found := false
	err := s.with(ctx, args[1:], func(st *inspect.State, _ viewed) error {
		return st.Entries(s.filter, func(e *inspect.Entry) error {
			found = true
			return s.next(ctx, e)
		})
	})
	if err == nil && !found {
		return exitWith(exitFailed, fmt.Errorf("nothing is kept of the key %s", args[0]))
	}
	return err
}

// next prints a line unless the look was ended.
func (s *stateLook) next(ctx context.Context, v any) error {
	if ctx.Err() != nil {
		return exitWith(exitFailed, context.Cause(ctx))
	}
	return s.print(v)
}

func (s *stateLook) scan(ctx context.Context, number []string) error {
	return s.with(ctx, number, func(st *inspect.State, _ viewed) error {
		return st.Entries(s.filter, func(e *inspect.Entry) error { return s.next(ctx, e) })
	})
}

func (s *stateLook) diff(ctx context.Context, numbers []string) error {
	if s.savepoint != "" && len(numbers) > 1 {
		return exitWith(exitUsage, errors.New("a savepoint is compared with one checkpoint: give one log number"))
	}
	compared := s.savepoint
	s.savepoint = ""
	return s.with(ctx, numbers[:1], func(before *inspect.State, _ viewed) error {
		s.savepoint = compared
		return s.with(ctx, numbers[1:], func(after *inspect.State, _ viewed) error {
			return inspect.Diff(before, after, s.filter, func(c inspect.Change) error { return s.next(ctx, c) })
		})
	})
}

// header says what the lines below it are of.
type header struct {
	Pipeline   string            `json:"pipeline"`
	Savepoint  string            `json:"savepoint,omitempty"`
	Log        checkpoint.Seq    `json:"log"`
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Made       string            `json:"made"`
	Groups     int               `json:"key_groups"`
	Watermark  string            `json:"watermark,omitempty"`
	Deltas     int               `json:"deltas"` // that a restore applies, at most
	Bases      int               `json:"bases"`
	Bytes      int64             `json:"stored_bytes"` // of all of them
}

func (s *stateLook) header(v viewed) (header, error) {
	kept, err := pipeline.ReadState(v.manifest.State())
	h := header{
		Pipeline: s.pipeline, Savepoint: s.savepoint, Log: v.seq, Lease: v.manifest.Lease, Checkpoint: v.manifest.Checkpoint,
		Made: time.UnixMilli(v.manifest.Time).UTC().Format(time.RFC3339), Groups: v.manifest.State().Groups,
		Deltas: len(kept.State.Deltas), Bases: len(kept.State.Bases),
	}
	if w := v.manifest.State().Watermark; w != state.NoTime {
		h.Watermark = time.UnixMilli(w).UTC().Format(time.RFC3339Nano)
	}
	for i := range kept.State.Bases {
		h.Bytes += kept.State.Bases[i].Bytes()
	}
	for _, d := range kept.State.Deltas {
		h.Bytes += d.Bytes
	}
	return h, err
}

func (s *stateLook) stats(ctx context.Context, number []string) error {
	return s.with(ctx, number, func(st *inspect.State, v viewed) error {
		h, err := s.header(v)
		if err != nil {
			return err
		}
		if err := s.print(h); err != nil {
			return err
		}
		counts, err := st.Stats()
		for _, c := range counts {
			if err := s.next(ctx, c); err != nil {
				return err
			}
		}
		return err
	})
}

// exported is a line of an export. Key and value are as they are stored, in base64.
type exported struct {
	*inspect.Entry
	StoredKey   []byte `json:"stored_key"`
	StoredValue []byte `json:"stored_value"`
}

func (s *stateLook) export(ctx context.Context, number []string) error {
	return s.with(ctx, number, func(st *inspect.State, v viewed) error {
		h, err := s.header(v)
		if err != nil {
			return err
		}
		if s.limit > 0 {
			s.limit++ // the first line is none of the entries
		}
		if err := s.print(h); err != nil {
			return err
		}
		return st.Stored(s.filter, func(e *inspect.Entry, key, value []byte) error {
			e.RawKey, e.RawValue = nil, nil
			return s.next(ctx, exported{e, key, value})
		})
	})
}
