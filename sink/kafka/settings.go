package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ingestd/ingestd/config"
)

// The values of the keys that are a choice.
const (
	partitionSource     = "source"
	partitionKey        = "key"
	partitionRoundRobin = "round_robin"
	partitionColumn     = "column"

	timestampSource = "source"
	timestampNow    = "now"
	timestampColumn = "column"

	compressionNone   = "none"
	compressionGzip   = "gzip"
	compressionSnappy = "snappy"
	compressionLZ4    = "lz4"
	compressionZstd   = "zstd"

	mechanismPlain    = "PLAIN"
	mechanismScram256 = "SCRAM-SHA-256"
	mechanismScram512 = "SCRAM-SHA-512"
)

// Settings is the section of a Kafka sink. [Spec] documents every key.
type Settings struct {
	Brokers       []string `config:"brokers"`
	Topic         string   `config:"topic"`
	AcceptTopicID string   `config:"accept_topic_id"`
	Create        *Create  `config:"create"`

	Encode    *config.Section `config:"encode"`
	Columns   []string        `config:"columns"`
	Value     string          `config:"value"`
	Tombstone string          `config:"tombstone"`

	Key       []string        `config:"key"`
	KeyEncode *config.Section `config:"key_encode"`
	KeepKey   bool            `config:"keep_key"`

	Headers     []config.Entry `config:"headers"`
	KeepHeaders bool           `config:"keep_headers"`

	Timestamp       string `config:"timestamp"`
	TimestampColumn string `config:"timestamp_column"`

	Partitioner     string `config:"partitioner"`
	PartitionColumn string `config:"partition_column"`

	Compression  string       `config:"compression"`
	BatchBytes   config.Bytes `config:"batch_bytes_max"`
	SegmentBytes config.Bytes `config:"segment_bytes_max"`
	UnitBytes    config.Bytes `config:"unit_bytes_max"`

	TransactionalIDPrefix string        `config:"transactional_id_prefix"`
	TransactionTimeout    time.Duration `config:"transaction_timeout"`
	Ledger                *Ledger       `config:"ledger"`

	ClientID string `config:"client_id"`
	TLS      *TLS   `config:"tls"`
	SASL     *SASL  `config:"sasl"`

	// Dial opens connections to brokers, TLS included, in place of the network. It is no key of the config: simulations and
	// tests set it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Create is the table `create` of a Kafka sink.
type Create struct {
	Partitions        int32          `config:"partitions"`
	ReplicationFactor int16          `config:"replication_factor"`
	Config            []config.Entry `config:"config"`
}

// Ledger is the table `ledger` of a Kafka sink.
type Ledger struct {
	Topic             string `config:"topic"`
	Create            bool   `config:"create"`
	Partitions        int32  `config:"partitions"`
	ReplicationFactor int16  `config:"replication_factor"`
	AcceptID          string `config:"accept_id"`
}

// TLS is the table `tls` of a Kafka sink.
type TLS struct {
	CA                 string `config:"ca"`
	Cert               string `config:"cert"`
	Key                string `config:"key"`
	ServerName         string `config:"server_name"`
	InsecureSkipVerify bool   `config:"insecure_skip_verify"`
}

// SASL is the table `sasl` of a Kafka sink.
type SASL struct {
	Mechanism string        `config:"mechanism"`
	Username  string        `config:"username"`
	Password  config.Secret `config:"password"`
}

// Spec describes the section of a Kafka sink.
func Spec() config.Spec {
	keys := append(targetKeys(), recordKeys()...)
	keys = append(keys, commitKeys()...)
	return config.Spec{
		Type: "kafka",
		Doc: "Writes records to a topic of Apache Kafka 2.8 or later, exactly once for consumers that read committed records. " +
			"A checkpoint is one transaction.",
		Keys: append(keys, connectionKeys()...),
	}
}

func targetKeys() []config.Key {
	return []config.Key{
		{
			Name: "brokers", Kind: config.KindStrings, Required: true, Min: "1", Example: `["localhost:9092"]`,
			Doc: "Addresses (host:port) of some brokers; the others are found through them.",
		},
		{Name: "topic", Kind: config.KindString, Required: true, Min: "1", Example: "orders_clean", Doc: "The topic that is written to."},
		{
			Name: "accept_topic_id", Kind: config.KindString,
			Doc: "The ID of a topic that was created in the place of the one that rows were prepared for. They are written to it; " +
				"without this key they stop the pipeline, with a message that names the ID.",
		},
		{
			Name: "create", Kind: config.KindTable, Doc: "Create the topic if it does not exist. Absent: it must exist.",
			Table: &config.Spec{
				Doc: "How the topic is created.",
				Keys: []config.Key{
					{Name: "partitions", Kind: config.KindInt, Default: "-1", Min: "-1", Max: "100000", Doc: "Number of partitions; -1 is the brokers' default."},
					{Name: "replication_factor", Kind: config.KindInt, Default: "-1", Min: "-1", Max: "100", Doc: "Number of replicas; -1 is the brokers' default."},
					{Name: "config", Kind: config.KindStringMap, Example: `{ "cleanup.policy" = "compact" }`, Doc: "Settings of the topic."},
				},
			},
		},
	}
}

func recordKeys() []config.Key {
	return []config.Key{
		{
			Name: "encode", Kind: config.KindSection, Example: `{ type = "json" }`,
			Doc: "How a row becomes a record's value, with the keys of an encoder. Absent: a JSON object with all columns.",
		},
		{Name: "columns", Kind: config.KindStrings, Example: `["id", "total"]`, Doc: "The columns of the value, in this order. Absent: all."},
		{
			Name: "value", Kind: config.KindString, Example: "body",
			Doc: "A column of type string or fixed_string whose bytes are the value as it is; null makes a tombstone. It goes in place of `encode`.",
		},
		{
			Name: "tombstone", Kind: config.KindString, Example: "deleted",
			Doc: "A column of type bool. Where it is true the record has no value: compaction then forgets the key.",
		},
		{
			Name: "key", Kind: config.KindStrings, Example: `["id"]`,
			Doc: "The columns of the record's key. One is written as its text, and null is no key; several are a JSON object. See `key_encode`.",
		},
		{Name: "key_encode", Kind: config.KindSection, Example: `{ type = "json" }`, Doc: "How the columns of `key` become the record's key, with the keys of an encoder."},
		{Name: "keep_key", Kind: config.KindBool, Default: "false", Doc: "The record's key is that of the source's record."},
		{Name: "headers", Kind: config.KindStringMap, Example: `{ tenant = "tenant_id" }`, Doc: "Headers and the columns that they hold, as text; null is a header without value."},
		{Name: "keep_headers", Kind: config.KindBool, Default: "false", Doc: "The source's record's headers come before those of `headers`."},
		{
			Name: "timestamp", Kind: config.KindEnum, Default: timestampSource, Enum: []string{timestampSource, timestampNow, timestampColumn},
			Doc: "The record's timestamp: that of the source's record (the time of writing where it has none), the time of writing, or a column. " +
				"A topic with message.timestamp.type = LogAppendTime has the broker's.",
		},
		{Name: "timestamp_column", Kind: config.KindString, Doc: "With timestamp = \"column\": a column of type timestamp or date."},
		{
			Name: "partitioner", Kind: config.KindEnum, Enum: []string{partitionSource, partitionKey, partitionRoundRobin, partitionColumn},
			Doc: "The record's partition: the number of the source's partition; by the key, as the Java client does (murmur2); one after the other; " +
				"or a column. Absent: by the key where there is one. Records without key go round.",
		},
		{Name: "partition_column", Kind: config.KindString, Doc: "With partitioner = \"column\": a column of an integer type."},
		{
			Name: "compression", Kind: config.KindEnum, Default: compressionLZ4,
			Enum: []string{compressionLZ4, compressionZstd, compressionSnappy, compressionGzip, compressionNone}, Doc: "Compression of record batches.",
		},
	}
}

func commitKeys() []config.Key {
	return []config.Key{
		{Name: "batch_bytes_max", Kind: config.KindBytes, Default: "1MiB", Min: "1KiB", Max: "64MiB", Doc: "Bytes of a record batch before compression. The topic's max.message.bytes is a limit, too."},
		{Name: "segment_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1KiB", Max: "256MiB", Doc: "Bytes of one staged segment, before compression."},
		{
			Name: "unit_bytes_max", Kind: config.KindBytes, Default: "1GiB", Min: "1KiB", Max: "64GiB",
			Doc: "Bytes of one transaction, as staged. A checkpoint above it is several transactions, one after the other.",
		},
		{Name: "transactional_id_prefix", Kind: config.KindString, Default: "ingestd", Min: "1", Doc: "First part of the transactional id. The rest is the pipeline's ID, the lane and the sink."},
		{
			Name: "transaction_timeout", Kind: config.KindDuration, Default: "60s", Min: "1s", Max: "15m",
			Doc: "How long a transaction that nobody ends holds back readers. One commit must fit in; nothing is lost when it does not. " +
				"The brokers' transaction.max.timeout.ms is the limit.",
		},
		{
			Name: "ledger", Kind: config.KindTable, Doc: "The compacted topic that tells which checkpoints are committed. Pipelines may share it. Never delete it.",
			Table: &config.Spec{
				Doc: "The ledger.",
				Keys: []config.Key{
					{Name: "topic", Kind: config.KindString, Default: "ingestd-ledger", Min: "1", Doc: "Its name."},
					{Name: "create", Kind: config.KindBool, Default: "true", Doc: "Create it if it does not exist."},
					{Name: "partitions", Kind: config.KindInt, Default: "16", Min: "1", Max: "1000", Doc: "Its number of partitions when it is created."},
					{Name: "replication_factor", Kind: config.KindInt, Default: "-1", Min: "-1", Max: "100", Doc: "Its number of replicas when it is created; -1 is the brokers' default."},
					{
						Name: "accept_id", Kind: config.KindString,
						Doc: "The ID of a ledger that was created in the place of a lost one. What was pending then is committed as if it had not been: " +
							"if it had, its rows are doubled. Remove the key afterwards.",
					},
				},
			},
		},
	}
}

func connectionKeys() []config.Key {
	return []config.Key{
		{Name: "client_id", Kind: config.KindString, Default: "ingestd", Doc: "Name that the brokers log and count quotas by."},
		{
			Name: "tls", Kind: config.KindTable, Doc: "Encrypted connections. The table may be empty.",
			Table: &config.Spec{
				Doc: "Encrypted connections.",
				Keys: []config.Key{
					{Name: "ca", Kind: config.KindString, Doc: "File with the certificates (PEM) that are trusted; absent: the system's."},
					{Name: "cert", Kind: config.KindString, Doc: "File with this client's certificate (PEM), together with key."},
					{Name: "key", Kind: config.KindString, Doc: "File with this client's private key (PEM)."},
					{Name: "server_name", Kind: config.KindString, Doc: "Name in the brokers' certificates; absent: the host's name."},
					{
						Name: "insecure_skip_verify", Kind: config.KindBool, Default: "false",
						Doc: "Accept any certificate. Whoever can answer in a broker's place can then read and forge everything.",
					},
				},
			},
		},
		{
			Name: "sasl", Kind: config.KindTable, Doc: "Authentication by name and password.",
			Table: &config.Spec{
				Doc: "Authentication by name and password.",
				Keys: []config.Key{
					{
						Name: "mechanism", Kind: config.KindEnum, Default: mechanismScram256,
						Enum: []string{mechanismPlain, mechanismScram256, mechanismScram512}, Doc: "The SASL mechanism.",
					},
					{Name: "username", Kind: config.KindString, Required: true, Doc: "The user's name.", Example: "ingestd"},
					{
						Name: "password", Kind: config.KindSecret, Required: true, Example: "${env:KAFKA_PASSWORD}",
						Doc: "The user's password.",
					},
				},
			},
		},
	}
}

// defaults fills in what the config's defaults are, for settings that come from elsewhere.
func (s *Settings) defaults() {
	text := func(v *string, otherwise string) {
		if *v == "" {
			*v = otherwise
		}
	}
	size := func(v *config.Bytes, otherwise config.Bytes) {
		if *v == 0 {
			*v = otherwise
		}
	}
	if s.Ledger == nil {
		s.Ledger = &Ledger{Create: true, ReplicationFactor: -1}
	}
	if s.Ledger.Partitions == 0 {
		s.Ledger.Partitions = 16
	}
	text(&s.Ledger.Topic, "ingestd-ledger")
	text(&s.ClientID, "ingestd")
	text(&s.TransactionalIDPrefix, "ingestd")
	text(&s.Compression, compressionLZ4)
	text(&s.Timestamp, timestampSource)
	if s.Partitioner == "" && (len(s.Key) > 0 || s.KeepKey) {
		s.Partitioner = partitionKey
	}
	text(&s.Partitioner, partitionRoundRobin)
	size(&s.BatchBytes, 1<<20)
	size(&s.SegmentBytes, 16<<20)
	size(&s.UnitBytes, 1<<30)
	if s.TransactionTimeout == 0 {
		s.TransactionTimeout = time.Minute
	}
}

// check refuses what can't work together.
func (s *Settings) check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(s.Brokers) == 0 || s.Topic == "" {
		fail("brokers and topic are needed")
	}
	if s.Topic != "" && s.Topic == s.Ledger.Topic {
		fail("topic: it can't be the ledger, %s", s.Ledger.Topic)
	}
	exclude := func(a, b bool, text string) {
		if a && b {
			fail("%s", text)
		}
	}
	exclude(s.Value != "", s.Encode != nil, "value: it goes in place of encode")
	exclude(s.Value != "", len(s.Columns) > 0, "value: it goes in place of columns")
	exclude(s.KeepKey, len(s.Key) > 0, "keep_key: it goes in place of key")
	exclude(s.KeyEncode != nil, len(s.Key) == 0, "key_encode: it needs the columns of key")
	belongs := func(set bool, key, other, value, now string) {
		if set != (now == value) {
			fail("%s: it goes together with %s = %q", key, other, value)
		}
	}
	belongs(s.TimestampColumn != "", "timestamp_column", "timestamp", timestampColumn, s.Timestamp)
	belongs(s.PartitionColumn != "", "partition_column", "partitioner", partitionColumn, s.Partitioner)
	exclude(s.Partitioner == partitionKey, len(s.Key) == 0 && !s.KeepKey, "partitioner: \"key\" needs key or keep_key")
	for key, id := range map[string]string{"accept_topic_id": s.AcceptTopicID, "ledger.accept_id": s.Ledger.AcceptID} {
		if _, err := parseTopicID(id); err != nil {
			fail("%s: %w", key, err)
		}
	}
	if s.TLS != nil && (s.TLS.Cert == "") != (s.TLS.Key == "") {
		fail("tls: cert and key go together")
	}
	for _, name := range append([]string{}, s.Brokers...) {
		if _, _, err := net.SplitHostPort(name); err != nil {
			fail("brokers: %q is not host:port", name)
		}
	}
	if strings.ContainsAny(s.TransactionalIDPrefix, "\x00\n") {
		fail("transactional_id_prefix: it holds a control character")
	}
	return errors.Join(errs...)
}
