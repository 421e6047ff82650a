package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// loaded is a config file made into what runs.
type loaded struct {
	file   *config.File
	daemon config.Daemon
	defs   []*pipeline.Definition
	stores map[string]OpenStore // by pipeline
	opened []io.Closer
	log    *slog.Logger
}

// open opens the checkpoint stores of the pipelines. The caller calls close, also after an error.
func (l *loaded) open(defs ...*pipeline.Definition) error {
	for _, d := range defs {
		store, err := l.stores[d.Name]()
		if err != nil {
			return exitWith(exitForKind(fault.KindOf(err)), fmt.Errorf("pipeline %q: checkpoint store: %s", d.Name, describe(err)))
		}
		d.Store = store
		if c, ok := store.(io.Closer); ok {
			l.opened = append(l.opened, c)
		}
	}
	return nil
}

// close closes what open opened. Nothing depends on its success.
func (l *loaded) close() {
	for _, c := range l.opened {
		if err := c.Close(); err != nil {
			l.log.Warn("close the checkpoint store", slog.String("error", err.Error()))
		}
	}
	l.opened = nil
}

// describe is an error's text with what mends it, when that is known.
func describe(err error) string {
	if remedy := fault.RemedyOf(err); remedy != "" {
		return err.Error() + "\n  next: " + remedy
	}
	return err.Error()
}

// load reads the config and makes every plugin, without I/O on servers. All errors of the file come at once.
func (a *app) load(logTo io.Writer) (*loaded, error) {
	f, err := config.Load(a.config, config.ProcessEnv())
	if f == nil {
		return nil, exitWith(exitConfig, err)
	}
	l := &loaded{file: f, daemon: f.Daemon(), stores: map[string]OpenStore{}}
	l.log = newLog(l.daemon.Log, logTo)
	for _, p := range f.Pipelines(a.plugins.registry()) {
		if d := a.define(l, p); d != nil {
			l.defs = append(l.defs, d)
		}
	}
	if err := f.Err(); err != nil {
		return nil, exitWith(exitConfig, err)
	}
	return l, nil
}

// define makes one pipeline. What is wrong is reported in the file.
func (a *app) define(l *loaded, p config.Pipeline) *pipeline.Definition {
	env := a.withEncoders(Env{Log: l.log.With(slog.String("pipeline", p.Name)), Pipeline: p.ID, DataDir: l.daemon.DataDir})
	d := &pipeline.Definition{
		Name: p.Name, ID: p.ID, Delivery: p.Delivery, Tasks: p.Tasks,
		Checkpoint: pipeline.CheckpointSettings{
			Interval: p.Checkpoint.Interval, Bytes: int64(p.Checkpoint.Bytes), Keep: p.Checkpoint.Keep,
			MaxPending: p.Checkpoint.MaxPending, Timeout: p.Checkpoint.Timeout,
		},
		Restart:    pipeline.RestartSettings{Initial: p.Restart.BackoffMin, Max: p.Restart.BackoffMax, Limit: p.Restart.Limit},
		StallAfter: l.daemon.StallAfter, ShutdownTimeout: l.daemon.ShutdownTimeout,
		KeyGroups: p.State.KeyGroups, StateMemory: int64(p.State.Memory),
		EventTime: step.WatermarkOptions{Disorder: p.EventTime.Disorder, IdleAfter: p.EventTime.IdleAfter, AheadMax: p.EventTime.AheadMax},
	}
	if d.Tasks == 0 {
		d.Tasks = runtime.GOMAXPROCS(0)
	}
	ok := make([]bool, 6)
	d.Source, ok[0] = find(a.plugins.Sources, p.Source, env)
	d.Codec, ok[1] = find(a.plugins.Codecs, p.Decode, env)
	d.Sinks, ok[2] = a.sinks(p, env)
	l.stores[p.Name], ok[3] = find(a.plugins.Stores, p.Checkpoint.Store, env)
	d.DeadLetter, ok[4] = a.deadLetter(p, d, env)
	d.Steps, ok[5] = a.steps(p, d, env)
	d.Digest = l.file.PipelineDigest(p.Name) // complete now: sections within steps are read
	d.DiscoveryInterval = discoveryDefault
	if r, is := d.Source.(source.Rediscoverer); is {
		d.DiscoveryInterval = r.DiscoveryInterval()
	}
	for _, k := range ok {
		if !k {
			return nil
		}
	}
	return bind(p, d)
}

// withEncoders lets sinks make the encoders that their sections name.
func (a *app) withEncoders(env Env) Env {
	env.Encoder = func(s *config.Section) (codec.EncoderFactory, bool) {
		return nested(a.plugins.Encoders, s, "encoder", env)
	}
	return env
}

// bind checks steps and codec against each other, as far as the config alone allows it, and reports what does not fit.
func bind(p config.Pipeline, d *pipeline.Definition) *pipeline.Definition {
	_, err := pipeline.Bind(d)
	if err == nil {
		return d
	}
	if e, ok := errors.AsType[*pipeline.StepError](err); ok {
		p.Steps[e.Place].Errorf("", "%s", describe(e.Err))
	} else if e, ok := errors.AsType[*pipeline.RouteError](err); ok {
		p.Sinks[e.Place].Errorf(e.Key, "%s", describe(e.Err))
	} else {
		p.Decode.Errorf("", "%s", describe(err))
	}
	return nil
}

// sinks makes the sinks that take rows.
func (a *app) sinks(p config.Pipeline, env Env) (routes []pipeline.Route, ok bool) {
	ok = len(p.Sinks) > 0
	for _, s := range p.Sinks {
		plugin, made := find(a.plugins.Sinks, s.Section, env)
		routes = append(routes, pipeline.Route{Name: s.ID, Sink: plugin, When: s.When})
		ok = ok && made
	}
	return routes, ok
}

func (a *app) deadLetter(p config.Pipeline, d *pipeline.Definition, env Env) (sink.Plugin, bool) {
	if p.DeadLetter == nil {
		return nil, true
	}
	if p.DeadLetterLimits.MaxRatio < 1 {
		d.MaxRatio, d.RatioWindow = p.DeadLetterLimits.MaxRatio, p.DeadLetterLimits.RatioWindow
	}
	s, ok := find(a.plugins.Sinks, p.DeadLetter, env)
	if ok && !s.Capabilities().DeadLetters {
		p.DeadLetter.Errorf("type", "a %q sink can't take dead letters", p.DeadLetter.Type())
		return nil, false
	}
	return s, ok
}

func (a *app) steps(p config.Pipeline, d *pipeline.Definition, env Env) ([]step.Step, bool) {
	var out []step.Step
	good := true
	seen := map[string]bool{}
	for i, s := range p.Steps {
		env.Place = i + 1
		made, ok := a.step(s, d, env)
		if !ok {
			good = false
			continue
		}
		if seen[made.Name()] {
			s.Errorf("id", "another step has the name %q already", made.Name())
			good = false
		}
		seen[made.Name()] = true
		out = append(out, made)
	}
	return out, good
}

// step makes one step, keyed or not, and the input of its table if it has one.
func (a *app) step(s *config.Section, d *pipeline.Definition, env Env) (step.Step, bool) {
	for _, p := range a.plugins.Keyed {
		if p.Spec.Type != s.Type() {
			continue
		}
		made, ok := p.Make(s, env)
		if e, is := made.(*step.Enrich); ok && is {
			ok = a.table(s, e, d, env)
		}
		return pipeline.Keyed(made), ok
	}
	return find(a.plugins.Steps, s, env)
}

// table makes the plugins that the table of an enrich step comes from.
func (a *app) table(s *config.Section, e *step.Enrich, d *pipeline.Definition, env Env) bool {
	if e.Input == nil {
		return true // a plugin of somebody else gives the step its table
	}
	t := pipeline.Table{Step: e.ID}
	var ok [3]bool
	t.Source, ok[0] = nested(a.plugins.Sources, e.Input.Source, "source", env)
	t.Codec, ok[1] = nested(a.plugins.Codecs, e.Input.Decode, "decoder", env)
	if ok[2] = true; e.Input.KeyDecode != nil {
		t.KeyCodec, ok[2] = nested(a.plugins.Codecs, e.Input.KeyDecode, "decoder", env)
	}
	if ok != [3]bool{true, true, true} {
		return false
	}
	var err error
	if e.Table, err = t.Codec.Schema(nil); err != nil {
		s.Errorf("table.decode", "%s", err)
		return false
	}
	d.Tables = append(d.Tables, t)
	return true
}

// nested returns the plugin for a section within a section, which nobody has checked.
func nested[T any](plugins []Plugin[T], s *config.Section, what string, env Env) (T, bool) {
	var types []string
	for _, p := range plugins {
		if p.Spec.Type == s.Type() {
			return p.Make(s, env)
		}
		types = append(types, strconv.Quote(p.Spec.Type))
	}
	s.Errorf("type", "unknown %s %q; there are %s", what, s.Type(), strings.Join(types, ", "))
	var none T
	return none, false
}

// newLog returns the daemon's logger: text on a terminal, JSON otherwise.
func newLog(s config.Log, to io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	f, isFile := to.(*os.File)
	if s.Format == "text" || s.Format != "json" && isFile && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(to, opts))
	}
	return slog.New(slog.NewJSONHandler(to, opts))
}

// discoveryDefault is how often sources are asked for new splits when they have no setting of their own.
const discoveryDefault = 30 * time.Second
