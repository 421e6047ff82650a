package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicID is a topic's ID; zero with brokers before Kafka 2.8, which have none.
type topicID [16]byte

// String returns the ID as Kafka's tools print it, or "" for none.
func (id topicID) String() string {
	if id == (topicID{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func parseTopicID(text string) (topicID, error) {
	var id topicID
	if text == "" {
		return id, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("%q is not a topic ID", text)
	}
	return topicID(raw), nil
}

// topicMeta is what the brokers say about a topic.
type topicMeta struct {
	name    string
	id      topicID
	leaders []int32 // of the partitions, by number; -1 for none
	replica int     // the fewest replicas of a partition
}

// errNoTopic says that a topic does not exist, as far as the brokers know.
var errNoTopic = errors.New("it does not exist")

// metadata asks for topics. It creates none.
func metadata(ctx context.Context, client *kgo.Client, names ...string) (map[string]*topicMeta, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = new(name)
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for metadata: %w", err)
	}
	found := map[string]*topicMeta{}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.UnknownTopicOrPartition) {
			continue
		}
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %s: %w", *t.Topic, err)
		}
		meta := &topicMeta{name: *t.Topic, id: t.TopicID, leaders: slices.Repeat([]int32{-1}, len(t.Partitions))}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if p.Partition < 0 || int(p.Partition) >= len(meta.leaders) {
				return nil, fmt.Errorf("topic %s: partition %d of %d", meta.name, p.Partition, len(meta.leaders))
			}
			if p.ErrorCode == 0 {
				meta.leaders[p.Partition] = p.Leader
			}
			if n := len(p.Replicas); meta.replica == 0 || n < meta.replica {
				meta.replica = n
			}
		}
		found[meta.name] = meta
	}
	return found, nil
}

// oneTopic asks for one topic that must exist.
func oneTopic(ctx context.Context, client *kgo.Client, name string) (*topicMeta, error) {
	found, err := metadata(ctx, client, name)
	if err != nil {
		return nil, err
	}
	if found[name] == nil {
		return nil, fmt.Errorf("topic %s: %w", name, errNoTopic)
	}
	return found[name], nil
}

// leader returns who leads a partition.
func (t *topicMeta) leader(partition int32) (int32, error) {
	if int(partition) >= len(t.leaders) {
		return -1, fmt.Errorf("topic %s has %d partitions, not partition %d", t.name, len(t.leaders), partition)
	}
	if t.leaders[partition] < 0 {
		return -1, fmt.Errorf("topic %s: partition %d has no leader", t.name, partition)
	}
	return t.leaders[partition], nil
}

// send sends a request to one broker, once.
func send[T kmsg.Response](ctx context.Context, client *kgo.Client, broker int32, req kmsg.Request) (T, error) {
	var none T
	resp, err := client.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return none, err
	}
	got, ok := resp.(T)
	if !ok {
		return none, fmt.Errorf("an answer of the type %T", resp)
	}
	return got, nil
}

// coded wraps the code of an answer with what it was about; nil for the code 0.
func coded(code int16, format string, args ...any) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// features is what a cluster can do, by what its brokers say about versions.
type features struct {
	// transactions is the finalized transaction.version; 0 where there is none.
	transactions int16
	// verifies is true when the brokers check late records of transactions that are over (KIP-890, Kafka 3.6).
	verifies bool
	// topicIDs is true when topics have IDs (Kafka 2.8).
	topicIDs bool
	// guess is the broker's version, as its requests give it away.
	guess string
}

// verifyVersion is the first version of AddPartitionsToTxn that brokers verify by.
const verifyVersion = 4

// topicIDVersion is the first version of Metadata that has topic IDs.
const topicIDVersion = 10

const metadataKey = 3

// askFeatures asks some broker.
func askFeatures(ctx context.Context, client *kgo.Client) (features, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "ingestd", "1"
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return features{}, fmt.Errorf("ask for versions: %w", err)
	}
	f := features{guess: guessVersion(resp)}
	for i := range resp.ApiKeys {
		switch k := &resp.ApiKeys[i]; k.ApiKey {
		case addPartitionsKey:
			f.verifies = k.MaxVersion >= verifyVersion
		case metadataKey:
			f.topicIDs = k.MaxVersion >= topicIDVersion
		}
	}
	for i := range resp.FinalizedFeatures {
		if resp.FinalizedFeatures[i].Name == "transaction.version" {
			f.transactions = resp.FinalizedFeatures[i].MaxVersionLevel
		}
	}
	return f, nil
}
