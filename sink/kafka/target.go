package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
)

// target is what writers must know of the topic.
type target struct {
	id         topicID
	partitions int32
	messageMax int
	compacted  bool
	// before and after are how far a timestamp may lie from the broker's clock, in milliseconds; 0 for no limit.
	before, after int64
}

// messageMaxDefault is Kafka's default of max.message.bytes, for a user that may not read a topic's configuration.
const messageMaxDefault = 1048588

// bodyMax is how many bytes the records of a batch may have.
func (t *target) bodyMax() int { return t.messageMax - batchHeader }

// readTarget reads the topic's configuration. What this user may not read is taken to be Kafka's default.
func readTarget(ctx context.Context, client *kgo.Client, topic *topicMeta) (target, error) {
	t := target{id: topic.id, partitions: int32(len(topic.leaders)), messageMax: messageMaxDefault}
	config, err := topicConfig(ctx, client, topic.name)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return t, nil
	case err != nil:
		return t, err
	}
	if n, err := strconv.Atoi(config["max.message.bytes"]); err == nil {
		t.messageMax = n
	}
	if t.bodyMax() < 1 {
		return t, fault.E("", fault.Misconfigured, fmt.Errorf("topic %s: max.message.bytes is %d, no record fits", topic.name, t.messageMax))
	}
	t.compacted = strings.Contains(config["cleanup.policy"], "compact")
	if config["message.timestamp.type"] != "LogAppendTime" {
		t.before, t.after = limit(config, "message.timestamp.before.max.ms"), limit(config, "message.timestamp.after.max.ms")
	}
	return t, nil
}

// limit reads a distance in time; before Kafka 3.6 there is one for both directions.
func limit(config map[string]string, key string) int64 {
	text, ok := config[key]
	if !ok {
		text = config["message.timestamp.difference.max.ms"]
	}
	const century = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > century {
		return 0
	}
	return n
}

// topicConfig reads a topic's configuration, defaults included.
func topicConfig(ctx context.Context, client *kgo.Client, topic string) (map[string]string, error) {
	all, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w", topic, err)
	}
	return values(all)
}

func values(all kadm.ResourceConfigs) (map[string]string, error) {
	config := map[string]string{}
	for _, r := range all {
		if r.Err != nil {
			return nil, fmt.Errorf("read the configuration of %s: %w", r.Name, r.Err)
		}
		for _, c := range r.Configs {
			config[c.Key] = c.MaybeValue()
		}
	}
	return config, nil
}

// newTopic is a topic that is to be created.
type newTopic struct {
	name       string
	partitions int32
	replicas   int16
	config     map[string]*string
}

func targetTopic(s *Settings) newTopic {
	t := newTopic{name: s.Topic, partitions: orDefault(s.Create.Partitions), replicas: orDefault(s.Create.ReplicationFactor), config: map[string]*string{}}
	for _, c := range s.Create.Config {
		t.config[c.Key] = new(c.Value)
	}
	return t
}

// ledgerTopic is the ledger as it is created. Small segments keep what a reader has to read small.
func ledgerTopic(s *Settings) newTopic {
	return newTopic{
		name: s.Ledger.Topic, partitions: s.Ledger.Partitions, replicas: orDefault(s.Ledger.ReplicationFactor),
		config: map[string]*string{"cleanup.policy": new("compact"), "segment.bytes": new("8388608"), "segment.ms": new("3600000")},
	}
}

// orDefault turns the zero of settings that come from elsewhere into the brokers' default.
func orDefault[T int16 | int32](n T) T {
	if n == 0 {
		return -1
	}
	return n
}

// command is the line that creates the topic by hand.
func (t *newTopic) command(servers string) string {
	words := []string{"kafka-topics --bootstrap-server", servers, "--create --topic", t.name}
	if t.partitions > 0 {
		words = append(words, fmt.Sprintf("--partitions %d", t.partitions))
	}
	if t.replicas > 0 {
		words = append(words, fmt.Sprintf("--replication-factor %d", t.replicas))
	}
	for _, key := range sortedNames(t.config) {
		words = append(words, "--config "+key+"="+*t.config[key])
	}
	return strings.Join(words, " ")
}

func createLedger(s *Settings) string {
	t := ledgerTopic(s)
	return t.command(s.Brokers[0])
}

func createTarget(s *Settings) string {
	with := *s
	with.Create = &Create{}
	t := targetTopic(&with)
	return t.command(s.Brokers[0]) + ", or add `create` to the sink"
}

// create creates a topic, which another run may do at the same moment, and waits until the brokers know it.
func create(ctx context.Context, client *kgo.Client, t newTopic) (*topicMeta, error) {
	_, err := kadm.NewClient(client).CreateTopic(ctx, t.partitions, t.replicas, t.config, t.name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, fmt.Errorf("topic %s: %w", t.name, err)
	}
	const every, most = 50 * time.Millisecond, 30 * time.Second
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for begin := time.Now(); ; {
		meta, err := oneTopic(ctx, client, t.name)
		if err == nil && led(meta) {
			return meta, nil
		}
		if time.Since(begin) > most {
			return nil, errors.Join(fmt.Errorf("topic %s was created, and the brokers do not show it", t.name), err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// led tells that every partition has a leader.
func led(t *topicMeta) bool {
	for _, leader := range t.leaders {
		if leader < 0 {
			return false
		}
	}
	return len(t.leaders) > 0
}

// checkLedger refuses a topic that forgets. A user that may not read its configuration is told so by Inspect.
func checkLedger(ctx context.Context, client *kgo.Client, ledger *topicMeta) error {
	config, err := topicConfig(ctx, client, ledger.name)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return nil
	case err != nil:
		return err
	}
	if policy, ok := config["cleanup.policy"]; ok && policy != "compact" {
		return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("the ledger %s has cleanup.policy = %s: it forgets what is committed", ledger.name, policy), compactLedger(ledger.name))
	}
	return nil
}

func compactLedger(name string) string {
	return "kafka-configs --alter --entity-type topics --entity-name " + name + " --add-config cleanup.policy=compact"
}

func sortedNames[T any](m map[string]T) []string {
	return slices.Sorted(maps.Keys(m))
}
