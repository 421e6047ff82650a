// Package plugins lists the plugins of this repository, for the daemon and for daemons that add one of their own.
package plugins

import (
	"io"
	"path/filepath"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/filestore"
	"github.com/ingestd/ingestd/checkpoint/s3"
	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/blackhole"
	"github.com/ingestd/ingestd/sink/clickhouse"
	sinkfile "github.com/ingestd/ingestd/sink/file"
	sinkkafka "github.com/ingestd/ingestd/sink/kafka"
	"github.com/ingestd/ingestd/sink/postgres"
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
		Codecs:   codecs(),
		Encoders: encoders(),
		Steps:    steps(),
		Keyed:    keyedSteps(),
		Sinks: []cli.Plugin[sink.Plugin]{
			cli.New(clickhouse.Spec(), func(s clickhouse.Settings, _ cli.Env) (sink.Plugin, error) { return clickhouse.New(s) }),
			cli.New(postgres.Spec(), func(s postgres.Settings, _ cli.Env) (sink.Plugin, error) { return postgres.New(s) }),
			cli.Opened(sinkfile.Spec(), openFile),
			cli.Opened(sinkkafka.Spec(), func(s *config.Section, env cli.Env) (sink.Plugin, error) {
				return sinkkafka.Open(s, env.Encoder, env.Log)
			}),
			cli.New(blackhole.Spec(), func(s blackhole.Settings, _ cli.Env) (sink.Plugin, error) { return blackhole.New(s) }),
		},
		Stores: []cli.Plugin[cli.OpenStore]{
			cli.New(filestore.Spec(), func(s filestore.Settings, env cli.Env) (cli.OpenStore, error) {
				if s.Path == "" {
					s.Path = filepath.Join(env.DataDir, "checkpoints")
				}
				return func() (checkpoint.Store, error) { return filestore.Open(s.Path) }, nil
			}),
			cli.New(s3.Spec(), func(s s3.Settings, _ cli.Env) (cli.OpenStore, error) {
				return func() (checkpoint.Store, error) { return s3.Open(s) }, s.Check()
			}),
		},
		State: func(dir string) pipeline.StateDisk { return local.NewFolder(filepath.Join(dir, "state")) },
		Lock:  func(dir string) (io.Closer, error) { return filestore.Lock(dir) },
	}
}

// openFile makes a file sink, with the encoder within its section.
func openFile(section *config.Section, env cli.Env) (sink.Plugin, error) {
	var s sinkfile.Settings
	if !section.Decode(sinkfile.Spec(), &s) {
		return nil, section.Err()
	}
	if s.Encode != nil {
		encoder, ok := env.Encoder(s.Encode)
		if !ok {
			return nil, s.Encode.Err()
		}
		s.Encoder = encoder
	}
	p, err := sinkfile.New(s)
	if err != nil {
		section.Errorf("", "%v", err)
		return nil, err
	}
	return p, nil
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
