package kafka

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/kafkatxn"
)

var _ kafkatxn.Cluster = (*Source)(nil)

// KafkaClient implements [kafkatxn.Cluster].
func (s *Source) KafkaClient() (*kgo.Client, error) { return s.client() }

// KafkaTopics implements [kafkatxn.Cluster]: the topics of the settings, those of a pattern as they are now.
func (s *Source) KafkaTopics(ctx context.Context) ([]string, error) {
	if s.plan.regex == nil {
		return slices.Clone(s.plan.Topics), nil
	}
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	listed, err := metadata(ctx, client, nil)
	if err != nil {
		return nil, wrapped(err)
	}
	return s.matching(listed), nil
}

// matching returns the topics that the pattern means, sorted.
func (s *Source) matching(listed map[string]topicMeta) []string {
	var topics []string
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !listed[name].internal && s.plan.regex.MatchString(name) {
			topics = append(topics, name)
		}
	}
	return topics
}
