// Package plugins lists the plugins of this repository, for the daemon and for daemons that add one of their own.
package plugins

import (
	"io"
	"path/filepath"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/codec/raw"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/blackhole"
	"github.com/ingestd/ingestd/sink/clickhouse"
	sinkfile "github.com/ingestd/ingestd/sink/file"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/file"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// All returns everything that the daemon is built with. The value is the caller's own: append to its lists before it goes to [cli.Main].
func All() cli.Plugins {
	return cli.Plugins{
		Sources: []cli.Plugin[source.Source]{
			cli.New(kafka.Spec(), func(s kafka.Settings, env cli.Env) (source.Source, error) { return kafka.New(s, env.Log) }),
			cli.New(file.Spec(), func(s file.Settings, env cli.Env) (source.Source, error) { return file.New(s, env.Log) }),
		},
		Codecs: []cli.Plugin[codec.Factory]{
			cli.Opened(json.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return json.Open(s) }),
			cli.Opened(raw.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return raw.Open(s) }),
		},
		Steps: steps(),
		Keyed: keyedSteps(),
		Sinks: []cli.Plugin[sink.Plugin]{
			cli.New(clickhouse.Spec(), func(s clickhouse.Settings, _ cli.Env) (sink.Plugin, error) { return clickhouse.New(s) }),
			cli.New(sinkfile.Spec(), func(s sinkfile.Settings, _ cli.Env) (sink.Plugin, error) { return sinkfile.New(s) }),
			cli.New(blackhole.Spec(), func(s blackhole.Settings, _ cli.Env) (sink.Plugin, error) { return blackhole.New(s) }),
		},
		Stores: []cli.Plugin[cli.OpenStore]{
			cli.New(filestore.Spec(), func(s filestore.Settings, env cli.Env) (cli.OpenStore, error) {
				if s.Path == "" {
					s.Path = filepath.Join(env.DataDir, "checkpoints")
				}
				return func() (checkpoint.Store, error) { return filestore.Open(s.Path) }, nil
			}),
		},
		State: func(dir string) pipeline.StateDisk { return local.NewFolder(filepath.Join(dir, "state")) },
		Lock:  func(dir string) (io.Closer, error) { return filestore.Lock(dir) },
	}
}

func steps() []cli.Plugin[step.Step] {
	var out []cli.Plugin[step.Step]
	for _, spec := range step.Specs() {
		out = append(out, cli.Opened(spec, func(s *config.Section, env cli.Env) (step.Step, error) { return step.Open(s, env.Place) }))
	}
	explode := func(s *config.Section, env cli.Env) (step.Step, error) { return step.OpenExplode(s, env.Place) }
	return append(out, cli.Opened(step.ExplodeSpec(), explode))
}

func keyedSteps() []cli.Plugin[step.KeyedStep] {
	var out []cli.Plugin[step.KeyedStep]
	for _, spec := range step.KeyedSpecs() {
		out = append(out, cli.Opened(spec, func(s *config.Section, env cli.Env) (step.KeyedStep, error) { return step.OpenKeyed(s, env.Place) }))
	}
	return out
}
