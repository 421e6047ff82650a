package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

// Committed implements [source.Source]: with group_mirror it commits the positions to the group, as a client without
// membership does. Nothing ever reads them here. The brokers refuse it while the group has members.
func (s *Source) Committed(ctx context.Context, positions []source.Position) error {
	if s.plan.GroupMirror == "" || len(positions) == 0 {
		return nil
	}
	const op fault.Op = "source/kafka.Committed"
	client, err := s.client()
	if err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := s.mirror(ctx, client, positions); err != nil {
		return classified(op, fmt.Errorf("mirror group %s: %w", s.plan.GroupMirror, err))
	}
	return nil
}

func (s *Source) mirror(ctx context.Context, client *kgo.Client, positions []source.Position) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = s.plan.GroupMirror
	req.Generation = -1
	topics := map[string]int{}
	for _, pos := range positions {
		key, err := parseSplit(pos.Split)
		if err != nil {
			return err
		}
		i, ok := topics[key.topic]
		if !ok {
			i = len(req.Topics)
			topics[key.topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = key.topic
			if t.TopicID, err = parseTopicID(pos.Identity); err != nil {
				return err
			}
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = key.partition, int64(pos.Offset), int32(pos.LeaderEpoch)
		if pos.LeaderEpoch < 0 {
			p.LeaderEpoch = int32(record.NoLeaderEpoch)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			if err := coded(p.ErrorCode, "split %s/%d", resp.Topics[i].Topic, p.Partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// freeMirror refuses a mirror group with members, once per source.
func (s *Source) freeMirror(ctx context.Context, client *kgo.Client) error {
	s.mu.Lock()
	done := s.plan.GroupMirror == "" || s.mu.mirror
	s.mu.Unlock()
	if done {
		return nil
	}
	members, err := groupMembers(ctx, client, s.plan.GroupMirror)
	if err != nil {
		return fmt.Errorf("mirror group %s: %w", s.plan.GroupMirror, err)
	}
	if members > 0 {
		err := fmt.Errorf("group_mirror: the group %s has %d members: positions that are written to it would disturb them",
			s.plan.GroupMirror, members)
		return fault.WithRemedy(opDiscover, fault.Misconfigured, err, "name a group of the pipeline's own, or remove group_mirror")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.mirror = true
	return nil
}

// groupMembers counts the members of a group of either protocol.
func groupMembers(ctx context.Context, client *kgo.Client, group string) (int, error) {
	modern := kmsg.NewPtrConsumerGroupDescribeRequest()
	modern.Groups = []string{group}
	members := 0
	if resp, err := modern.RequestWith(ctx, client); err == nil {
		for i := range resp.Groups {
			err := kerr.ErrorForCode(resp.Groups[i].ErrorCode)
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) && !errors.Is(err, kerr.UnsupportedVersion) {
				return 0, err
			}
			members += len(resp.Groups[i].Members)
		}
	} else if ctx.Err() != nil {
		return 0, err
	}
	// A broker that does not know the modern groups has only the others.
	classic := kmsg.NewPtrDescribeGroupsRequest()
	classic.Groups = []string{group}
	resp, err := classic.RequestWith(ctx, client)
	if err != nil {
		return 0, err
	}
	for i := range resp.Groups {
		err := kerr.ErrorForCode(resp.Groups[i].ErrorCode)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return 0, err
		}
		members += len(resp.Groups[i].Members)
	}
	return members, nil
}
