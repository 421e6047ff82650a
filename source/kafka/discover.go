package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
)

const opDiscover fault.Op = "source/kafka.Discover"

// discoverPatience is how long Discover tries again when the brokers can't be asked.
const discoverPatience = 30 * time.Second

// errAgain marks what may be otherwise in the next answer of the brokers.
var errAgain = errors.New("the brokers disagree")

// Bounded implements [source.Source].
func (s *Source) Bounded() bool { return s.plan.Until != "" }

// Discover implements [source.Source]. It tries again inside when brokers don't answer or are not agreed yet, up to half a
// minute, or gone_after where a topic is missing.
func (s *Source) Discover(ctx context.Context, known []source.Split) ([]source.Split, error) {
	client, err := s.client()
	if err != nil {
		return nil, fault.E(opDiscover, fault.Misconfigured, err)
	}
	begin := time.Now()
	for attempt := 0; ; attempt++ {
		found, err := s.discover(ctx, client, known, time.Since(begin))
		again := errors.Is(err, errAgain)
		if err == nil || !again && kindOf(err) != fault.Transient {
			return found, wrapped(err)
		}
		if !again && time.Since(begin) > discoverPatience {
			return nil, wrapped(err)
		}
		if wait := backoff(attempt); wait > backoffMin && ctx.Err() == nil { // the first repetition is nothing unusual
			s.log.Warn("the brokers can't tell the topics", slog.String("error", err.Error()), slog.String("again_in", wait.String()))
		}
		if errPause := pause(ctx, backoff(attempt)); errPause != nil {
			return nil, fault.E(opDiscover, fault.Transient, fmt.Errorf("%w; before that: %w", errPause, err))
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return classified(opDiscover, err)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// discover makes one attempt; waited is how long the attempts before took.
func (s *Source) discover(ctx context.Context, client *kgo.Client, known []source.Split, waited time.Duration) ([]source.Split, error) {
	if err := s.freeMirror(ctx, client); err != nil {
		return nil, err
	}
	listed, err := s.listedTopics(ctx, client, known)
	if err != nil {
		return nil, err
	}
	if err := s.verify(known, listed, waited); err != nil {
		return nil, err
	}
	if s.Bounded() && len(known) > 0 {
		return nil, nil
	}
	fresh, err := s.fresh(known, listed, waited)
	if err != nil {
		return nil, err
	}
	splits, err := s.resolve(ctx, client, fresh, listed, len(known) == 0)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(splits, func(a, b source.Split) int { return cmp.Compare(a.Split, b.Split) })
	return splits, nil
}

// listedTopics returns the metadata of the topics that the settings name and of those that are known.
func (s *Source) listedTopics(ctx context.Context, client *kgo.Client, known []source.Split) (map[string]topicMeta, error) {
	var ask []string
	if s.plan.regex == nil {
		ask = append(ask, s.plan.Topics...)
		for _, k := range known {
			if split, err := parseSplit(k.Split); err == nil {
				ask = append(ask, split.topic)
			}
		}
	}
	return metadata(ctx, client, ask)
}

// verify compares the known splits with what the brokers say.
func (s *Source) verify(known []source.Split, listed map[string]topicMeta, waited time.Duration) error {
	for _, k := range known {
		if k.Finished {
			continue // it is not read again
		}
		split, err := parseSplit(k.Split)
		if err != nil {
			return fault.E(opDiscover, fault.Misconfigured, err)
		}
		id, err := parseTopicID(k.Identity)
		if err != nil {
			return fault.E(opDiscover, fault.Corrupt, fmt.Errorf("split %s: %w", k.Split, err))
		}
		topic := listed[split.topic]
		if _, ok := topic.partitions[split.partition]; !ok || topic.err != nil {
			if topic.err != nil && !errors.Is(topic.err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("topic %s: %w", split.topic, topic.err)
			}
			if waited < s.plan.GoneAfter {
				return fmt.Errorf("split %s: %w: it is not there", k.Split, errAgain)
			}
			return goneError(k.Split, id, waited)
		}
		if id != (topicID{}) && id != topic.id {
			if waited < min(s.plan.GoneAfter, time.Second) {
				return fmt.Errorf("split %s: %w: its topic has another ID", k.Split, errAgain)
			}
			return recreated(split.topic, id, topic.id, k.Split)
		}
	}
	return nil
}

// fresh returns the partitions that are wanted and not known, sorted.
func (s *Source) fresh(known []source.Split, listed map[string]topicMeta, waited time.Duration) ([]splitKey, error) {
	have := map[string]bool{}
	for _, k := range known {
		have[k.Split] = true
	}
	topics := slices.Clone(s.plan.Topics)
	if s.plan.regex != nil {
		topics = append(topics, s.matching(listed)...)
	}
	var fresh []splitKey
	for _, name := range topics {
		topic := listed[name]
		switch {
		case errors.Is(topic.err, kerr.UnknownTopicOrPartition):
			if waited < s.plan.GoneAfter {
				return nil, fmt.Errorf("topic %s: %w: it is not there", name, errAgain)
			}
			return nil, fault.E(opDiscover, fault.Misconfigured, fmt.Errorf("topics: the topic %s does not exist", name))
		case topic.err != nil:
			return nil, fmt.Errorf("topic %s: %w", name, topic.err)
		}
		for partition := range topic.partitions {
			key := splitKey{name, partition}
			if !have[key.String()] {
				have[key.String()] = true
				fresh = append(fresh, key)
			}
		}
	}
	slices.SortFunc(fresh, func(a, b splitKey) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	return fresh, nil
}

// offsets are the places that a policy may need of one log: they are asked for in this order, so that a record that arrives
// in between is never passed over.
type offsets struct {
	start, end map[splitKey]listed
	from, to   map[splitKey]listed // by start_timestamp and until_timestamp
}

func (s *Source) ask(ctx context.Context, client *kgo.Client, splits []splitKey) (o offsets, err error) {
	ask := func(at int64) map[splitKey]listed {
		if err != nil {
			return nil
		}
		var found map[splitKey]listed
		found, err = listOffsets(ctx, client, splits, at, s.plan.isolation)
		return found
	}
	o.start, o.end = ask(atStart), ask(atEnd)
	if s.plan.Start == startTimestamp {
		o.from = ask(s.plan.StartTimestamp.UnixMilli())
	}
	if s.plan.Until == untilTimestamp {
		o.to = ask(s.plan.UntilTimestamp.UnixMilli())
	}
	return o, err
}

// resolve turns partitions into splits. At the first start of a pipeline the start policy counts.
func (s *Source) resolve(ctx context.Context, client *kgo.Client, fresh []splitKey, topics map[string]topicMeta, first bool) ([]source.Split, error) { //nolint:revive // first is a fact, not a mode
	o, err := s.ask(ctx, client, fresh)
	if err != nil {
		return nil, err
	}
	var errs []error
	splits := make([]source.Split, 0, len(fresh))
	for _, key := range fresh {
		at := o.start[key]
		if first {
			if at, err = s.begin(key, &o); err != nil {
				errs = append(errs, err)
			}
		}
		until, err := s.bound(key, &o)
		if err != nil {
			errs = append(errs, err)
		}
		if until != source.Unbounded {
			until = max(until, record.Offset(at.offset))
		}
		splits = append(splits, source.Split{
			Position: source.Position{
				Split: key.String(), Identity: topics[key.topic].id.String(),
				Offset: record.Offset(at.offset), LeaderEpoch: record.LeaderEpoch(at.epoch),
			},
			Until: until,
		})
	}
	if first {
		errs = append(errs, unknownSplits("start_offsets", s.plan.startOffsets, fresh)...)
		errs = append(errs, unknownSplits("until_offsets", s.plan.untilOffsets, fresh)...)
	}
	if len(errs) > 0 {
		return nil, fault.E(opDiscover, fault.Misconfigured, errors.Join(errs...))
	}
	return splits, nil
}

// begin resolves the start policy for one partition.
func (s *Source) begin(key splitKey, o *offsets) (listed, error) {
	switch s.plan.Start {
	case startLatest:
		return o.end[key], nil
	case startTimestamp:
		if at := o.from[key]; at.offset >= 0 {
			return at, nil
		}
		// No record is as late. The end was asked for before: what came since has its chance.
		return o.end[key], nil
	case startOffsets:
		at, ok := s.plan.startOffsets[key]
		first, last := o.start[key].offset, o.end[key].offset
		if !ok {
			return listed{}, fmt.Errorf("start_offsets: %s is missing; it has the offsets %d to %d", key, first, last)
		}
		if at < first || at > last {
			return listed{}, fmt.Errorf("start_offsets: %s = %d is out of range; it has the offsets %d to %d", key, at, first, last)
		}
		return listed{offset: at, epoch: int32(record.NoLeaderEpoch)}, nil
	}
	return o.start[key], nil
}

// bound resolves the end bound for one partition.
func (s *Source) bound(key splitKey, o *offsets) (record.Offset, error) {
	switch s.plan.Until {
	case untilEnd:
		return record.Offset(o.end[key].offset), nil
	case untilTimestamp:
		if at := o.to[key]; at.offset >= 0 {
			return record.Offset(at.offset), nil
		}
		return record.Offset(o.end[key].offset), nil
	case untilOffsets:
		at, ok := s.plan.untilOffsets[key]
		if !ok {
			return 0, fmt.Errorf("until_offsets: %s is missing; its log ends at offset %d", key, o.end[key].offset)
		}
		return record.Offset(at), nil
	}
	return source.Unbounded, nil
}

func unknownSplits(name string, table map[splitKey]int64, have []splitKey) []error {
	var errs []error
	for key := range table {
		if !slices.Contains(have, key) {
			errs = append(errs, fmt.Errorf("%s: there is no partition %s", name, key))
		}
	}
	return errs
}
