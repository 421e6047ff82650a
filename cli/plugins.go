package cli

import (
	"io"
	"log/slog"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// Plugins lists everything that a daemon is built with. There is no other registry: what is not in the value that main gives
// to [Main] does not exist.
type Plugins struct {
	Sources []Plugin[source.Source]
	Codecs  []Plugin[codec.Factory]
	// Encoders are what sinks that store records may encode rows by, in a section within their own.
	Encoders []Plugin[codec.EncoderFactory]
	Steps    []Plugin[step.Step]
	Keyed    []Plugin[step.KeyedStep] // steps that keep state by key; their types differ from those of Steps
	Sinks    []Plugin[sink.Plugin]
	Stores   []Plugin[OpenStore]
	// State opens the local databases of keyed state below a data directory.
	State func(dir string) pipeline.StateDisk
	// Lock takes the lock of the data directory, which it makes if it is missing, until the result is closed.
	Lock func(dir string) (io.Closer, error)
}

// OpenStore opens a checkpoint store. It is called only by verbs that use the store: validate without --connect makes no folder.
type OpenStore func() (checkpoint.Store, error)

// Plugin is one plugin of a role: what its section may say, and how it is made from it.
type Plugin[T any] struct {
	Spec config.Spec
	// Make decodes the section and returns the plugin, which has done no I/O yet. What is
	// wrong with the section is reported there, and ok is false.
	Make func(s *config.Section, env Env) (plugin T, ok bool)
}

// Env is what a plugin gets when it is made.
type Env struct {
	Log      *slog.Logger
	Pipeline string
	// Place counts the steps of a pipeline from 1, for their default names.
	Place int
	// DataDir is the daemon's data directory, by default the place of checkpoints.
	DataDir string
	// Encoder makes the encoder of a section within a sink's. What is wrong is reported there, and ok is false.
	Encoder func(s *config.Section) (factory codec.EncoderFactory, ok bool)
}

// New returns a plugin whose section has the spec and fills the settings S.
func New[T, S any](spec config.Spec, build func(settings S, env Env) (T, error)) Plugin[T] {
	return Plugin[T]{Spec: spec, Make: func(s *config.Section, env Env) (T, bool) {
		var settings S
		var none T
		if !s.Decode(spec, &settings) {
			return none, false
		}
		plugin, err := build(settings, env)
		if err != nil {
			s.Errorf("", "%v", err)
			return none, false
		}
		return plugin, true
	}}
}

// Opened returns a plugin that decodes its section itself and has reported there what is wrong when open returns an error.
func Opened[T any](spec config.Spec, open func(s *config.Section, env Env) (T, error)) Plugin[T] {
	return Plugin[T]{Spec: spec, Make: func(s *config.Section, env Env) (T, bool) {
		plugin, err := open(s, env)
		return plugin, err == nil
	}}
}

// registry is what config needs to know of the plugins.
func (p *Plugins) registry() config.Registry {
	return config.Registry{Roles: map[string][]config.Spec{
		config.RoleSource:     specs(p.Sources),
		config.RoleDecode:     specs(p.Codecs),
		config.RoleEncode:     specs(p.Encoders),
		config.RoleStep:       append(specs(p.Steps), specs(p.Keyed)...),
		config.RoleSink:       specs(p.Sinks),
		config.RoleDeadLetter: specs(p.Sinks),
		config.RoleStore:      specs(p.Stores),
	}}
}

func specs[T any](plugins []Plugin[T]) []config.Spec {
	var out []config.Spec
	for _, p := range plugins {
		out = append(out, p.Spec)
	}
	return out
}

// find returns the plugin for a section. Config has checked that there is one.
func find[T any](plugins []Plugin[T], s *config.Section, env Env) (T, bool) {
	var none T
	if s == nil {
		return none, false
	}
	for _, p := range plugins {
		if p.Spec.Type == s.Type() {
			return p.Make(s, env)
		}
	}
	return none, false
}
