package kafka

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/kafkatxn"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

var (
	_ sink.Prober      = (*Plugin)(nil)
	_ kafkatxn.Cluster = (*Plugin)(nil)
)

// forTopic is an encoder as the topic's keys or values need it.
func forTopic(f codec.EncoderFactory, topic, part string) codec.EncoderFactory {
	if t, ok := f.(codec.TopicEncoder); ok {
		return t.ForTopic(topic, part)
	}
	return f
}

// use gives the pipeline's cache to the encoders that keep something there.
func (e encoders) use(cache codec.Cache) {
	for _, f := range []codec.EncoderFactory{e.value, e.key} {
		if user, ok := f.(codec.CacheUser); ok && cache != nil {
			user.UseCache(cache)
		}
	}
}

// Probe implements [sink.Prober]: it asks what encoders work with, such as a schema registry, about the schemas of values and keys.
func (p *Plugin) Probe(ctx context.Context, schema *record.Schema) ([]sink.Finding, error) {
	value, err := pick(schema, "columns", p.settings.Columns)
	if err != nil {
		return []sink.Finding{{Level: sink.Blocks, Text: err.Error()}}, nil //nolint:nilerr // it is the finding
	}
	findings, err := probe(ctx, p.encoders.value, value)
	if err != nil || len(p.settings.Key) == 0 {
		return findings, err
	}
	key, err := pick(schema, "key", p.settings.Key)
	if err != nil {
		return append(findings, sink.Finding{Level: sink.Blocks, Text: err.Error()}), nil //nolint:nilerr // it is the finding
	}
	more, err := probe(ctx, p.encoders.key, key)
	return append(findings, more...), err
}

// pick returns the columns that a list names, all for an empty one.
func pick(schema *record.Schema, key string, names []string) (*record.Schema, error) {
	columns, err := findAll(schema, key, names, func(*record.Type) bool { return true })
	if err != nil {
		return nil, err
	}
	return newProjection(schema, columns).view.Schema, nil
}

func probe(ctx context.Context, f codec.EncoderFactory, schema *record.Schema) ([]sink.Finding, error) {
	asks, ok := f.(codec.Prober)
	if !ok {
		return nil, nil
	}
	notes, blocks, err := asks.Probe(ctx, schema)
	return sink.FindingsOf(notes, blocks), err
}

// KafkaClient implements [kafkatxn.Cluster]. The client lives as long as the process.
func (p *Plugin) KafkaClient() (*kgo.Client, error) { return p.settings.dial(p.log) }

// KafkaTopics implements [kafkatxn.Cluster]: the target and the ledger, as far as they are there already.
func (p *Plugin) KafkaTopics(ctx context.Context) ([]string, error) {
	const op = "sink/kafka.KafkaTopics"
	client, err := p.settings.dial(p.log)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	defer client.Close()
	found, err := metadata(ctx, client, p.settings.Topic, p.settings.Ledger.Topic)
	if err != nil {
		return nil, at(op, fault.Transient, err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}
