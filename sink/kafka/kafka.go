// Package kafka writes records to a Kafka topic, exactly once for consumers that read committed records.
//
// What is prepared: ready record batches, compressed, in segments of the checkpoint store. Only producer id, epoch, sequence and
// checksum are filled in when a checkpoint is committed, which is one transaction.
//
// What is the decision's proof (the ledger): a record in a compacted topic of our own, under the key of pipeline, lane and sink,
// written inside the same transaction. It names the newest unit that took effect. It must be the unit asked for, which is done
// then, or the one before; anything else stops the pipeline. A consumer group's offset would expire and then look as if it had
// never been, and the target topic may be deleted.
//
// Who can still act late (the fence): an older run, or a request of our own whose reply was lost. InitProducerId of the
// transactional id answers only when everything that was begun under it is decided, and refuses it from then on. So the ledger is
// read after that, and the transaction has exactly the producer and epoch that it returned. A record of the ledger names the newest
// lease: a run of an older one that takes the producer over learns it there, writes nothing, and the newer run takes it back.
//
// What can expire: nothing. A transaction that times out, a transactional id that is forgotten and a lost reply all lead to the same
// next attempt: take over, read the ledger, write again or not.
//
// EndTxn is sent once. Below transaction version 2 the epoch stays the same from one transaction to the next, and an EndTxn that
// comes late would end the next one; so the producer is taken over before each transaction there.
package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// Plugin is a configured Kafka sink.
type Plugin struct {
	settings Settings
	encoders encoders
	log      *slog.Logger
}

var _ sink.Plugin = (*Plugin)(nil)

// encoders make the value and the key; nil is the default.
type encoders struct{ value, key codec.EncoderFactory }

// Encoders are what the sections `encode` and `key_encode` stand for; nil where there is none.
type Encoders struct {
	Value codec.EncoderFactory
	Key   codec.EncoderFactory
}

// New checks the settings and returns the sink. It connects nowhere. The error is fault.Misconfigured.
func New(s Settings, e Encoders, log *slog.Logger) (*Plugin, error) {
	s.defaults()
	if err := s.check(); err != nil {
		return nil, fault.E("sink/kafka.New", fault.Misconfigured, err)
	}
	return &Plugin{settings: s, encoders: encoders{forTopic(e.Value, s.Topic, "value"), forTopic(e.Key, s.Topic, "key")}, log: log}, nil
}

// Open makes the sink of a section of a config. encoder makes the encoder of a section within it, and reports what is wrong there,
// with ok false. The error is fault.Misconfigured.
func Open(section *config.Section, encoder func(*config.Section) (factory codec.EncoderFactory, ok bool), log *slog.Logger) (*Plugin, error) {
	var s Settings
	if !section.Decode(Spec(), &s) {
		return nil, section.Err()
	}
	var e Encoders
	for _, nested := range []struct {
		section *config.Section
		into    *codec.EncoderFactory
	}{{s.Encode, &e.Value}, {s.KeyEncode, &e.Key}} {
		if nested.section == nil {
			continue
		}
		var ok bool
		if *nested.into, ok = encoder(nested.section); !ok {
			return nil, nested.section.Err()
		}
	}
	p, err := New(s, e, log)
	if err != nil {
		section.Errorf("", "%v", err)
	}
	return p, err
}

// Capabilities tells what the sink promises for a cluster that Inspect finds nothing against.
func (p *Plugin) Capabilities() sink.Capabilities {
	return sink.Capabilities{
		Form:   sink.Staged,
		Ledger: "a record in the topic " + p.settings.Ledger.Topic + ", written in the same transaction and read after our own InitProducerId",
		Fence:  "the transactional id: InitProducerId ends every older transaction, and the ledger names the newest lease",
		Expiry: "none: a transaction is begun anew when it ended without an answer", ExactlyOnce: true, DeadLetters: true, AnyColumns: true,
		Visible: "records appear to read_committed consumers after their checkpoint is published, all of a transaction at once; " +
			"read_uncommitted ones see them earlier, and those of failed attempts too",
		CommitBytes: commitBytes(&p.settings),
		Tested:      "Apache Kafka 4.3.1, with the transaction versions 0, 1 and 2, one broker and three",
		Limits: []string{
			"consumers must read with isolation.level = read_committed",
			"brokers from 2.8 on; those before 3.6 may take records that come late of a transaction that is over (KIP-890), which the guarantee names",
			"the ledger's topic has cleanup.policy = compact and nothing else",
			"a record above the topic's max.message.bytes is a dead letter",
			"a topic that is deleted and created again while rows are pending stops the pipeline",
		},
	}
}

// commitBytes is the memory of one commit: the segment that is sent, the one that is read ahead, with a batch above the limit, and
// requests on their way.
func commitBytes(s *Settings) int64 {
	const segments, requests = 2, 2
	return segments*(int64(s.SegmentBytes)+int64(s.BatchBytes)) + requests*requestBytes
}

// transactionalID is the producer's name in the cluster.
func transactionalID(s *Settings, id sink.Identity) string {
	return strings.Join([]string{s.TransactionalIDPrefix, id.Pipeline, strconv.FormatUint(uint64(id.Lane), 10), id.Sink}, "/")
}

// Open connects, and creates ledger and topic if they are missing and may be created.
func (p *Plugin) Open(ctx context.Context, env sink.Env) (sink.Sink, error) {
	const op = "sink/kafka.Open"
	client, err := p.settings.dial(p.log)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	defer client.Close()
	p.encoders.use(env.Cache)
	s := &Sink{settings: &p.settings, encoders: p.encoders, log: p.log, env: env, nonce: rand.Text()}
	if err := s.prepare(ctx, client); err != nil {
		return nil, at(op, fault.Transient, err)
	}
	return s, nil
}

// prepare finds out about the two topics, and creates them.
func (s *Sink) prepare(ctx context.Context, client *kgo.Client) error {
	set := s.settings
	found, err := metadata(ctx, client, set.Topic, set.Ledger.Topic)
	if err != nil {
		return err
	}
	ledger := found[set.Ledger.Topic]
	if ledger == nil {
		if !set.Ledger.Create {
			return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("the ledger %s: %w", set.Ledger.Topic, errNoTopic), createLedger(set))
		}
		if ledger, err = create(ctx, client, ledgerTopic(set)); err != nil {
			return fmt.Errorf("create the ledger: %w", err)
		}
	}
	if err := checkLedger(ctx, client, ledger); err != nil {
		return err
	}
	topic := found[set.Topic]
	if topic == nil {
		if set.Create == nil {
			return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("topic %s: %w", set.Topic, errNoTopic), createTarget(set))
		}
		if topic, err = create(ctx, client, targetTopic(set)); err != nil {
			return fmt.Errorf("create the topic: %w", err)
		}
	}
	if ledger.id == (topicID{}) || topic.id == (topicID{}) {
		return fault.WithRemedy("", fault.Misconfigured, errors.New("the brokers have no topic IDs"), "run Kafka 2.8 or later")
	}
	s.target, err = readTarget(ctx, client, topic)
	s.ledger = ledgerPlace{Topic: ledger.name, ID: ledger.id.String(), Partition: byKey(ledgerKey(s.env.Identity), int32(len(ledger.leaders)))}
	return err
}
