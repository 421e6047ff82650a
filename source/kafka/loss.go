package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
)

// compare asks the leader of some splits whether its log goes on from their positions, by the leader epoch of what was read
// last (KIP-320). It is done before the first fetch and after each change of leader: an offset in range does not tell.
func (r *Reader) compare(ctx context.Context, node int32, splits []*split) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	topics := map[string]int{}
	r.mu.Lock()
	for _, s := range splits {
		i, ok := topics[s.key.topic]
		if !ok {
			i = len(req.Topics)
			topics[s.key.topic] = i
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = s.key.topic
			req.Topics = append(req.Topics, t)
		}
		s.comparing = s.leaderEpoch
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = s.key.partition, s.leaderEpoch, s.epoch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	r.mu.Unlock()
	kresp, err := r.client.Broker(int(node)).Request(ctx, req)
	if ctx.Err() != nil {
		return
	}
	if err != nil && r.lacks(ctx, node, req.Key()) {
		r.agree(splits)
		return
	}
	if err != nil {
		r.trouble(splits, fmt.Sprintf("broker %d does not answer: %v", node, err))
		return
	}
	resp, ok := kresp.(*kmsg.OffsetForLeaderEpochResponse)
	if !ok {
		r.trouble(splits, fmt.Sprintf("broker %d: an answer of the type %T", node, kresp))
		return
	}
	answers := map[splitKey]*kmsg.OffsetForLeaderEpochResponseTopicPartition{}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			answers[splitKey{resp.Topics[i].Topic, p.Partition}] = p
		}
	}
	for _, s := range splits {
		if err := r.compared(node, s, answers[s.key]); err != nil {
			r.fail(err)
			return
		}
	}
}

// lacks reports whether a broker says that it does not know a request.
func (r *Reader) lacks(ctx context.Context, node int32, key int16) bool {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "ingestd", "1" // brokers refuse empty ones
	kresp, err := r.client.Broker(int(node)).Request(ctx, req)
	resp, ok := kresp.(*kmsg.ApiVersionsResponse)
	if err != nil || !ok || resp.ErrorCode != 0 || len(resp.ApiKeys) == 0 {
		return false
	}
	return !slices.ContainsFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool {
		return k.ApiKey == key && k.MaxVersion >= k.MinVersion
	})
}

// agree takes positions as they are, because the broker has no way to compare them.
func (r *Reader) agree(splits []*split) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range splits {
		s.agreed = s.comparing == s.leaderEpoch
	}
}

// compared judges one answer. An error ends the reader.
func (r *Reader) compared(node int32, s *split, p *kmsg.OffsetForLeaderEpochResponseTopicPartition) error {
	if p == nil {
		r.trouble([]*split{s}, fmt.Sprintf("broker %d did not say where the log's epochs end", node))
		return nil
	}
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		if kindOf(err) == fault.Misconfigured {
			return fmt.Errorf("split %s: %w", s.Split.Split, err)
		}
		r.trouble([]*split{s}, fmt.Sprintf("broker %d answers %v", node, err))
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := p.EndOffset >= 0 && p.LeaderEpoch >= 0
	switch {
	case !known && s.leaderEpoch >= 0 && s.epoch > s.leaderEpoch:
		return truncated(s, fmt.Sprintf("the log's leader epoch is %d, and the position is from epoch %d", s.leaderEpoch, s.epoch))
	case known && p.EndOffset < s.next:
		return truncated(s, fmt.Sprintf("leader epoch %d ends at offset %d, and the position is %d: records %d to %d, which were read, are gone",
			s.epoch, p.EndOffset, s.next, p.EndOffset, s.next-1))
	}
	// An epoch that is unknown although the leader's is not lower says nothing: the log has no records of epochs from then on.
	// Nor does an answer of a leader that was followed by another in the meantime.
	s.agreed = s.comparing == s.leaderEpoch
	return nil
}

func truncated(s *split, detail string) error {
	err := fmt.Errorf("split %s: the log was truncated: %s", s.Split.Split, detail)
	return fault.WithRemedy("source/kafka.Poll", fault.Lost, err,
		"compare what the sinks hold with the topic; `ingestd offsets set --accept-loss` goes on at an offset that you choose")
}

// outOfRange finds out why a broker has no such offset. An error ends the reader.
func (r *Reader) outOfRange(ctx context.Context, s *split) error {
	start, err := listOffsets(ctx, r.client, []splitKey{s.key}, atStart, 0)
	var end map[splitKey]listed
	if err == nil {
		end, err = listOffsets(ctx, r.client, []splitKey{s.key}, atEnd, 0)
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		r.trouble([]*split{s}, "offset out of range; "+err.Error())
		return nil //nolint:nilerr // it is asked again later
	}
	first, last := start[s.key].offset, end[s.key].offset
	switch {
	case s.next < first:
		return r.deleted(ctx, s, first)
	case s.next > last:
		return truncated(s, fmt.Sprintf("it ends at offset %d, and the position is %d", last, s.next))
	}
	r.trouble([]*split{s}, fmt.Sprintf("offset %d is out of range for the leader, whose log has %d to %d", s.next, first, last))
	return nil
}

// deleted decides about records that were deleted before they were read: stop, or go on behind them.
func (r *Reader) deleted(ctx context.Context, s *split, first int64) error {
	if r.plan.OnLoss != lossSkip {
		err := fmt.Errorf("split %s: records %d to %d were deleted before they were read", s.Split.Split, s.next, first-1)
		return fault.WithRemedy("source/kafka.Poll", fault.Lost, err,
			fmt.Sprintf("`ingestd offsets set --accept-loss` with %s = %d goes on; on_loss = \"skip\" does so by itself", s.Split.Split, first))
	}
	b := &builder{r: r, s: s, next: s.next, epoch: -1, said: s.next, until: int64(s.Until)}
	b.move(first)
	lost := b.next - b.said
	r.log.LogAttrs(ctx, slog.LevelError, "records lost", slog.String("split", s.Split.Split),
		slog.Int64("from", b.said), slog.Int64("to", b.next-1), slog.Int64("records", lost))
	if err := b.publish(ctx); err != nil {
		return err
	}
	r.lost.Add(lost)
	return nil
}
