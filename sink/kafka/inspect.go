package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// Inspect looks at the cluster and the two topics. It changes nothing.
func (p *Plugin) Inspect(ctx context.Context, id sink.Identity) (sink.Inspection, error) {
	const op = "sink/kafka.Inspect"
	client, err := p.settings.dial(p.log)
	if err != nil {
		return sink.Inspection{}, fault.E(op, fault.Misconfigured, err)
	}
	defer client.Close()
	i := inspector{settings: &p.settings, client: client, id: id}
	if err := i.run(ctx); err != nil {
		return sink.Inspection{}, at(op, fault.Transient, fmt.Errorf("inspect topic %s for %s/%s: %w", p.settings.Topic, id.Pipeline, id.Sink, err))
	}
	slices.SortStableFunc(i.result.Findings, func(a, b sink.Finding) int { return cmp.Compare(b.Level, a.Level) })
	return i.result, nil
}

// inspector collects what one look at the cluster finds.
type inspector struct {
	settings *Settings
	client   *kgo.Client
	id       sink.Identity
	result   sink.Inspection
}

func (i *inspector) add(level sink.Level, remedy, format string, args ...any) {
	i.result.Findings = append(i.result.Findings, sink.Finding{Level: level, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (i *inspector) run(ctx context.Context) error {
	i.connection()
	f, err := askFeatures(ctx, i.client)
	if err != nil {
		return err
	}
	if !i.version(f) {
		return nil
	}
	found, err := metadata(ctx, i.client, i.settings.Topic, i.settings.Ledger.Topic)
	if err != nil {
		if kindOf(err, fault.Transient) != fault.Misconfigured {
			return err
		}
		i.add(sink.Blocks, i.grants(), "%v", err)
		return nil
	}
	replicas, err := i.topic(ctx, found[i.settings.Topic])
	if err != nil {
		return err
	}
	if err := i.broker(ctx); err != nil {
		return err
	}
	return i.ledger(ctx, found[i.settings.Ledger.Topic], replicas)
}

// connection tells what the settings give away.
func (i *inspector) connection() {
	if i.settings.TLS != nil && i.settings.TLS.InsecureSkipVerify {
		i.add(sink.Weakens, "", "tls.insecure_skip_verify: brokers are not who they say they are")
	}
	if i.settings.SASL != nil {
		i.add(sink.Note, i.grants(), "the user %s needs rights on the transactional id, the topic and the ledger", i.settings.SASL.Username)
	}
}

// grants are the statements that allow what the sink does.
func (i *inspector) grants() string {
	user := "USER"
	if i.settings.SASL != nil {
		user = i.settings.SASL.Username
	}
	allow := "kafka-acls --bootstrap-server " + i.settings.Brokers[0] + " --add --allow-principal User:" + user
	return strings.Join([]string{
		allow + " --operation Write --operation Describe --transactional-id " + strconv.Quote(transactionalID(i.settings, i.id)),
		allow + " --operation Write --operation Describe --operation DescribeConfigs --topic " + i.settings.Topic,
		allow + " --operation Read --operation Write --operation Describe --operation DescribeConfigs --operation Create --topic " + i.settings.Ledger.Topic,
	}, "; ")
}

// version judges what differs by version, and reports whether the sink works with these brokers at all.
func (i *inspector) version(f features) bool {
	switch {
	case !f.topicIDs:
		i.add(sink.Blocks, "run Kafka 2.8 or later", "the brokers (%s) are older than Kafka 2.8: a topic that was deleted and created again can't be told", f.guess)
		return false
	case !f.verifies:
		i.add(sink.Weakens, "run Kafka 3.6 or later",
			"the brokers (%s) do not check records that come late, of a transaction that is over (KIP-890, Kafka 3.6): such records may double rows, or hold back readers until "+
				"`kafka-transactions abort`", f.guess)
	case f.transactions < transactionsSafe:
		i.add(sink.Note, "kafka-features upgrade --feature transaction.version=2",
			"transaction.version is %d (brokers %s): the producer is taken over before each transaction, which costs about a millisecond", f.transactions, f.guess)
	}
	return true
}

// denied reports that this user may not read something.
func denied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// topic judges the target.
func (i *inspector) topic(ctx context.Context, t *topicMeta) (replicas int, err error) {
	s := i.settings
	switch {
	case t == nil && s.Create == nil:
		i.add(sink.Blocks, createTarget(s), "the topic %s does not exist, or this user may not see it", s.Topic)
		return 0, nil
	case t == nil:
		i.add(sink.Note, "", "the topic %s does not exist and will be created", s.Topic)
		return 0, nil
	}
	config, err := topicConfig(ctx, i.client, t.name)
	if denied(err) {
		i.add(sink.Note, i.grants(), "the configuration of %s can't be read: Kafka's defaults are assumed (max.message.bytes = %d)", t.name, messageMaxDefault)
		return t.replica, nil
	}
	if err != nil {
		return t.replica, err
	}
	i.durability(t, config)
	compacted := strings.Contains(config["cleanup.policy"], "compact")
	if compacted && len(s.Key) == 0 && !s.KeepKey {
		i.add(sink.Blocks, "set `key` or `keep_key`, or choose a topic with cleanup.policy = delete", "the topic %s is compacted (cleanup.policy = %s), and records have no key", t.name, config["cleanup.policy"])
	}
	if n, err := strconv.Atoi(config["max.message.bytes"]); err == nil && n < int(s.BatchBytes) {
		i.add(sink.Note, "", "the topic's max.message.bytes is %d: batches are at most that, and larger records are dead letters", n)
	}
	return t.replica, nil
}

// durability judges whether an acknowledged record can be lost.
func (i *inspector) durability(t *topicMeta, config map[string]string) {
	if config["unclean.leader.election.enable"] == "true" {
		i.add(sink.Weakens, "kafka-configs --alter --entity-type topics --entity-name "+t.name+" --add-config unclean.leader.election.enable=false",
			"%s has unclean.leader.election.enable = true: acknowledged records are lost when a replica that is behind becomes the leader", t.name)
	}
	switch minimum := config["min.insync.replicas"]; {
	case t.replica == 1:
		i.add(sink.Weakens, "", "%s has one replica: acknowledged records are lost with its broker's disk", t.name)
	case minimum == "1":
		i.add(sink.Weakens, "kafka-configs --alter --entity-type topics --entity-name "+t.name+" --add-config min.insync.replicas=2",
			"%s has min.insync.replicas = 1: a record that one broker alone has is acknowledged, and lost with it", t.name)
	}
}

// broker compares the transaction timeout with the brokers' limit.
func (i *inspector) broker(ctx context.Context) error {
	admin := kadm.NewClient(i.client)
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return err
	}
	all, err := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if err != nil {
		return i.optional(err)
	}
	config, err := values(all)
	if err != nil {
		return i.optional(err)
	}
	limit, err := strconv.ParseInt(config["transaction.max.timeout.ms"], 10, 64)
	if most := time.Duration(limit) * time.Millisecond; err == nil && i.settings.TransactionTimeout > most {
		i.add(sink.Blocks, fmt.Sprintf("set transaction_timeout = %q, or raise the brokers' transaction.max.timeout.ms", most),
			"transaction_timeout is %s, and the brokers allow %s at most (transaction.max.timeout.ms)", i.settings.TransactionTimeout, most)
	}
	return nil
}

// optional turns a refusal into a note.
func (i *inspector) optional(err error) error {
	if denied(err) {
		i.add(sink.Note, "", "the brokers' configuration can't be read: whether they allow transaction_timeout = %s shows at the start", i.settings.TransactionTimeout)
		return nil
	}
	return err
}

// ledger judges the ledger and reads who wrote to it last. replicas are the target's.
func (i *inspector) ledger(ctx context.Context, t *topicMeta, replicas int) error {
	s := i.settings
	switch {
	case t == nil && !s.Ledger.Create:
		i.add(sink.Blocks, createLedger(s), "the ledger %s does not exist, or this user may not see it", s.Ledger.Topic)
		return nil
	case t == nil:
		i.add(sink.Note, "", "the ledger %s does not exist and will be created", s.Ledger.Topic)
		return nil
	}
	config, err := topicConfig(ctx, i.client, t.name)
	if err != nil && !denied(err) {
		return err
	}
	policy, known := config["cleanup.policy"]
	switch {
	case !known:
		i.add(sink.Weakens, i.grants(), "the configuration of the ledger %s can't be read: its cleanup.policy must be exactly compact", t.name)
	case policy != "compact":
		i.add(sink.Blocks, compactLedger(t.name), "the ledger %s has cleanup.policy = %s: it forgets what is committed", t.name, policy)
	}
	if known {
		i.durability(t, config)
	}
	if t.replica < replicas {
		i.add(sink.Weakens, "", "the ledger %s has %d replicas, and the topic has %d: when it is lost, what is committed can't be told", t.name, t.replica, replicas)
	}
	r := &ledgerReader{client: i.client, topic: t, key: ledgerKey(i.id)}
	e, err := r.find(ctx)
	if denied(err) {
		i.add(sink.Blocks, i.grants(), "the ledger %s can't be read", t.name)
		return nil
	}
	if err != nil || e == nil {
		return err
	}
	i.result.Owner = &sink.Owner{StoreID: e.Store, Lease: e.Writer}
	return nil
}
