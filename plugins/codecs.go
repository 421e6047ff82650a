package plugins

import (
	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/avro"
	"github.com/ingestd/ingestd/codec/csv"
	"github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/codec/raw"
	"github.com/ingestd/ingestd/codec/text"
	"github.com/ingestd/ingestd/config"
)

func codecs() []cli.Plugin[codec.Factory] {
	return []cli.Plugin[codec.Factory]{
		cli.Opened(json.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return json.Open(s) }),
		cli.Opened(raw.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return raw.Open(s) }),
		cli.Opened(csv.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return csv.Open(s) }),
		cli.Opened(avro.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return avro.Open(s) }),
		cli.Opened(text.Spec(), func(s *config.Section, _ cli.Env) (codec.Factory, error) { return text.Open(s) }),
	}
}

func encoders() []cli.Plugin[codec.EncoderFactory] {
	return []cli.Plugin[codec.EncoderFactory]{
		cli.New(json.EncoderSpec(), func(s json.EncoderSettings, _ cli.Env) (codec.EncoderFactory, error) { return json.NewEncoder(s) }),
		cli.New(raw.EncoderSpec(), func(s raw.EncoderSettings, _ cli.Env) (codec.EncoderFactory, error) { return raw.NewEncoder(s), nil }),
		cli.New(avro.EncoderSpec(), func(s avro.EncoderSettings, _ cli.Env) (codec.EncoderFactory, error) { return avro.NewEncoder(s) }),
		cli.New(csv.EncoderSpec(), func(s csv.EncoderSettings, _ cli.Env) (codec.EncoderFactory, error) { return csv.NewEncoder(s) }),
		cli.New(text.EncoderSpec(), func(s text.EncoderSettings, _ cli.Env) (codec.EncoderFactory, error) { return text.NewEncoder(s) }),
	}
}
