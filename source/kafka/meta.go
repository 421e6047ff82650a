package kafka

import (
	"context"
	"encoding/base64"
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
	id         topicID
	err        error // why it can't be read, as the broker says
	internal   bool
	partitions map[int32]leaderMeta
}

// leaderMeta is who leads a partition.
type leaderMeta struct {
	broker int32 // -1 for none
	epoch  int32
	err    error
}

// metadata asks for some topics, or for all with none given.
func metadata(ctx context.Context, client *kgo.Client, topics []string) (map[string]topicMeta, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	if len(topics) > 0 {
		slices.Sort(topics)
		for _, name := range slices.Compact(topics) {
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = new(name)
			req.Topics = append(req.Topics, topic)
		}
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for metadata: %w", err)
	}
	found := make(map[string]topicMeta, len(resp.Topics))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil {
			continue
		}
		meta := topicMeta{id: t.TopicID, err: kerr.ErrorForCode(t.ErrorCode), internal: t.IsInternal, partitions: map[int32]leaderMeta{}}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			leader := leaderMeta{broker: p.Leader, epoch: p.LeaderEpoch, err: kerr.ErrorForCode(p.ErrorCode)}
			if leader.err != nil {
				leader.broker = -1
			}
			meta.partitions[p.Partition] = leader
		}
		found[*t.Topic] = meta
	}
	return found, nil
}

// The timestamps that ListOffsets takes for something else.
const (
	atEnd        = -1
	atStart      = -2
	atLocalStart = -4 // the first offset that is not in tiered storage only
)

// listed is one partition's answer to ListOffsets.
type listed struct {
	offset int64 // -1 when no record is as late as the timestamp
	epoch  int32
	err    error
}

// listOffsets asks where a timestamp or one of the special places is. With isolation 1 the end is the last stable offset.
func listOffsets(ctx context.Context, client *kgo.Client, splits []splitKey, at int64, isolation int8) (map[splitKey]listed, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	topics := map[string]int{}
	for _, split := range splits {
		i, ok := topics[split.topic]
		if !ok {
			i = len(req.Topics)
			topics[split.topic] = i
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic = split.topic
			req.Topics = append(req.Topics, topic)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = split.partition, at
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	found := make(map[splitKey]listed, len(splits))
	if len(splits) == 0 {
		return found, nil
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for offsets: %w", err)
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			found[splitKey{t.Topic, p.Partition}] = listed{p.Offset, p.LeaderEpoch, kerr.ErrorForCode(p.ErrorCode)}
		}
	}
	for _, split := range splits {
		got, ok := found[split]
		if !ok {
			return nil, fmt.Errorf("split %s: the brokers did not say where its offsets are", split)
		}
		if got.err != nil {
			return nil, fmt.Errorf("split %s: ask for offsets: %w", split, got.err)
		}
	}
	return found, nil
}
