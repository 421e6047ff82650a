package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// Check implements [source.Checker]: brokers, topics, permissions, the start policy's numbers and the mirror group. It reads
// no record and tries once.
func (s *Source) Check(ctx context.Context) []source.Finding {
	findings := s.settingsFindings()
	add := func(level source.Level, text, remedy string) {
		findings = append(findings, source.Finding{Level: level, Text: text, Remedy: remedy})
	}
	block := func(err error) {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			add(source.Blocks, strings.TrimPrefix(line, string(opDiscover)+": "), cmp.Or(fault.RemedyOf(err), remedy(err)))
		}
	}
	client, err := s.client()
	if err != nil {
		block(err)
		return worstFirst(findings)
	}
	topics, err := s.listedTopics(ctx, client, nil)
	if err != nil {
		block(fmt.Errorf("brokers %s: %w", strings.Join(s.plan.Brokers, ", "), err))
		return worstFirst(findings)
	}
	// Nothing is waited for: what is not there now is told now.
	fresh, err := s.fresh(nil, topics, s.plan.GoneAfter)
	if err != nil {
		block(err)
		return worstFirst(findings)
	}
	if len(fresh) == 0 {
		add(source.Note, fmt.Sprintf("no topic matches topics_regex = %q now", s.plan.TopicsRegex), "")
	}
	splits, err := s.resolve(ctx, client, fresh, topics, true)
	if err != nil {
		block(err)
		return worstFirst(findings)
	}
	for _, split := range splits {
		if split.Identity == "" {
			add(source.Weakens, "the brokers have no topic IDs: a topic that is deleted and created again is not noticed", "use Kafka 2.8 or later")
			break
		}
	}
	for _, err := range s.tryFetch(ctx, client, splits, topics) {
		block(err)
	}
	if err := s.freeMirror(ctx, client); err != nil {
		block(err)
	}
	return worstFirst(findings)
}

// settingsFindings tells what the settings give away.
func (s *Source) settingsFindings() []source.Finding {
	var findings []source.Finding
	if s.plan.isolation == 0 {
		findings = append(findings, source.Finding{
			Level: source.Weakens, Text: "isolation = \"read_uncommitted\": records of aborted transactions are read, too",
		})
	}
	if s.plan.OnLoss == lossSkip {
		findings = append(findings, source.Finding{
			Level: source.Weakens, Text: "on_loss = \"skip\": records that are deleted before they are read are passed over and counted",
		})
	}
	if s.plan.TLS != nil && s.plan.TLS.InsecureSkipVerify {
		findings = append(findings, source.Finding{
			Level: source.Weakens, Text: "tls.insecure_skip_verify: brokers are not who they say they are",
		})
	}
	return findings
}

func worstFirst(findings []source.Finding) []source.Finding {
	slices.SortStableFunc(findings, func(a, b source.Finding) int { return cmp.Compare(b.Level, a.Level) })
	return findings
}

// tryFetch asks for one byte of every partition, without waiting for any: only so can it be seen that records may be read.
func (s *Source) tryFetch(ctx context.Context, client *kgo.Client, splits []source.Split, topics map[string]topicMeta) []error {
	byBroker := map[int32][]*split{}
	var errs []error
	for _, one := range splits {
		sp, err := newSplit(one)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		leader := topics[sp.key.topic].partitions[sp.key.partition]
		if leader.broker < 0 {
			errs = append(errs, fmt.Errorf("split %s: the partition has no leader: %w", one.Split, cmp.Or(leader.err, error(kerr.LeaderNotAvailable))))
			continue
		}
		sp.leaderEpoch = leader.epoch
		byBroker[leader.broker] = append(byBroker[leader.broker], sp)
	}
	for node, list := range byBroker {
		r := &Reader{plan: s.plan, client: client}
		resp, err := r.ask(ctx, &fetchJob{node: node, splits: list, bytes: 1})
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("broker %d: %w", node, err))
			continue
		}
		errs = append(errs, refusals(resp, list)...)
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}

// refusals returns what partitions answered, each topic's permission once.
func refusals(resp *kmsg.FetchResponse, splits []*split) []error {
	var errs []error
	denied := map[string]bool{}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			name := t.Topic
			for _, s := range splits {
				if resp.Version >= 13 && s.id == t.TopicID {
					name = s.key.topic
				}
			}
			err := kerr.ErrorForCode(t.Partitions[j].ErrorCode)
			switch {
			case err == nil:
			case errors.Is(err, kerr.TopicAuthorizationFailed):
				if !denied[name] {
					errs = append(errs, fmt.Errorf("topic %s: read: %w", name, err))
				}
				denied[name] = true
			default:
				errs = append(errs, fmt.Errorf("split %s/%d: read: %w", name, t.Partitions[j].Partition, err))
			}
		}
	}
	return errs
}
