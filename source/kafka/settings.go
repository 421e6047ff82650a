package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ingestd/ingestd/config"
)

// The values of the keys that are a choice.
const (
	startEarliest  = "earliest"
	startLatest    = "latest"
	startTimestamp = "timestamp"
	startOffsets   = "offsets"

	untilEnd       = "end"
	untilTimestamp = "timestamp"
	untilOffsets   = "offsets"

	readCommitted   = "read_committed"
	readUncommitted = "read_uncommitted"

	lossStop = "stop"
	lossSkip = "skip"

	mechanismPlain    = "PLAIN"
	mechanismScram256 = "SCRAM-SHA-256"
	mechanismScram512 = "SCRAM-SHA-512"
)

// Settings is the section of a Kafka source. [Spec] documents every key; a zero number or duration means its default there.
type Settings struct {
	Brokers           []string         `config:"brokers"`
	Topics            []string         `config:"topics"`
	TopicsRegex       string           `config:"topics_regex"`
	Start             string           `config:"start"`
	StartTimestamp    time.Time        `config:"start_timestamp"`
	StartOffsets      map[string]int64 `config:"start_offsets"`
	Until             string           `config:"until"`
	UntilTimestamp    time.Time        `config:"until_timestamp"`
	UntilOffsets      map[string]int64 `config:"until_offsets"`
	Isolation         string           `config:"isolation"`
	OnLoss            string           `config:"on_loss"`
	GoneAfter         time.Duration    `config:"gone_after"`
	DiscoveryInterval time.Duration    `config:"discovery_interval"`
	FetchBytesMax     config.Bytes     `config:"fetch_bytes_max"`
	BatchBytesMax     config.Bytes     `config:"batch_bytes_max"`
	RecordBytesMax    config.Bytes     `config:"record_bytes_max"`
	ClientID          string           `config:"client_id"`
	Rack              string           `config:"rack"`
	GroupMirror       string           `config:"group_mirror"`
	TLS               *TLS             `config:"tls"`
	SASL              *SASL            `config:"sasl"`

	// Dial opens connections to brokers, TLS included, in place of the network. It is no key of the config: simulations
	// set it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// TLS is the table `tls` of a Kafka source.
type TLS struct {
	CA                 string `config:"ca"`
	Cert               string `config:"cert"`
	Key                string `config:"key"`
	ServerName         string `config:"server_name"`
	InsecureSkipVerify bool   `config:"insecure_skip_verify"`
}

// SASL is the table `sasl` of a Kafka source.
type SASL struct {
	Mechanism string        `config:"mechanism"`
	Username  string        `config:"username"`
	Password  config.Secret `config:"password"`
}

// Spec describes the section of a Kafka source.
func Spec() config.Spec {
	keys := append(whatKeys(), howKeys()...)
	return config.Spec{
		Type: "kafka",
		Doc: "Reads topics of Apache Kafka, or of a broker that speaks its protocol, by direct assignment: no consumer group " +
			"decides what is read. Positions live in the pipeline's checkpoints.",
		Keys: append(keys, connectionKeys()...),
	}
}

func whatKeys() []config.Key {
	return []config.Key{
		{
			Name: "brokers", Kind: config.KindStrings, Required: true, Example: `["localhost:9092"]`,
			Doc: "Addresses (host:port) of some brokers; the others are found through them.",
		},
		{
			Name: "topics", Kind: config.KindStrings, Example: `["orders"]`,
			Doc: "Topics to read. Either this or topics_regex.",
		},
		{
			Name: "topics_regex", Kind: config.KindString,
			Doc: "Regular expression (RE2) that must match a topic's whole name. Topics that appear later are read from their " +
				"first record on. Internal topics never match.",
		},
		{
			Name: "start", Kind: config.KindEnum, Default: startEarliest,
			Enum: []string{startEarliest, startLatest, startTimestamp, startOffsets},
			Doc: "Where the first start of the pipeline begins; later starts go on where the newest checkpoint says. It is " +
				"resolved to numbers before the first record is read. Partitions that are found later begin at their first record.",
		},
		{
			Name: "start_timestamp", Kind: config.KindTime, Example: "2026-01-01T00:00:00Z",
			Doc: "With start = \"timestamp\": begin at the first record with this timestamp or a later one.",
		},
		{
			Name: "start_offsets", Kind: config.KindIntMap,
			Doc: "With start = \"offsets\": for each partition, as \"topic/partition\" = offset, the first offset to read.",
		},
		{
			Name: "until", Kind: config.KindEnum, Enum: []string{untilEnd, untilTimestamp, untilOffsets},
			Doc: "Makes the pipeline end by itself: at what is the end (last stable offset) of each partition at its first " +
				"start, at a timestamp, or at offsets. It is resolved once, at the first start. Absent: it runs without end.",
		},
		{
			Name: "until_timestamp", Kind: config.KindTime,
			Doc: "With until = \"timestamp\": end before the first record with this timestamp or a later one, or at the end " +
				"of the partition as it is at the first start.",
		},
		{
			Name: "until_offsets", Kind: config.KindIntMap,
			Doc: "With until = \"offsets\": for each partition, as \"topic/partition\" = offset, the first offset not to read.",
		},
		{
			Name: "isolation", Kind: config.KindEnum, Default: readCommitted, Enum: []string{readCommitted, readUncommitted},
			Doc: "With read_committed, records of aborted transactions are not read, and records behind an open transaction " +
				"wait for its end.",
		},
	}
}

func howKeys() []config.Key {
	return []config.Key{
		{
			Name: "on_loss", Kind: config.KindEnum, Default: lossStop, Enum: []string{lossStop, lossSkip},
			Doc: "What to do when records were deleted before they were read: stop the pipeline, or go on at the first record " +
				"that is left and count what was lost. A truncated log and a recreated topic always stop it.",
		},
		{
			Name: "gone_after", Kind: config.KindDuration, Default: "30s", Min: "1ms",
			Doc: "How long a topic may be unknown to the brokers before it counts as deleted.",
		},
		{
			Name: "discovery_interval", Kind: config.KindDuration, Default: "1m",
			Doc: "How often new partitions and topics are looked for.",
		},
		{
			Name: "fetch_bytes_max", Kind: config.KindBytes, Default: "4MiB", Min: "1KiB", Max: "1GiB",
			Doc: "Bytes, as sent over the network, that one answer of a broker may have. One record batch may be larger.",
		},
		{
			Name: "batch_bytes_max", Kind: config.KindBytes, Default: "64MiB", Min: "4MiB", Max: "1GiB",
			Doc: "Bytes that one record batch may have after decompression. A larger one stops the pipeline.",
		},
		{
			Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1KiB", Max: "1GiB",
			Doc: "Bytes that a record's key and value may have together. A larger record becomes a dead letter, cut to this size.",
		},
		{
			Name: "group_mirror", Kind: config.KindString,
			Doc: "Name of a consumer group that committed positions are copied to, for lag tools only; nothing is read from it. " +
				"The group must have no members.",
		},
	}
}

func connectionKeys() []config.Key {
	return []config.Key{
		{Name: "client_id", Kind: config.KindString, Default: "ingestd", Doc: "Name that the brokers log and count quotas by."},
		{
			Name: "rack", Kind: config.KindString,
			Doc: "This machine's rack, as the brokers name theirs. A replica in the same rack is read when the brokers offer one.",
		},
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

// plan is what the settings say, checked and in the form in which it is used.
type plan struct {
	Settings
	regex        *regexp.Regexp
	startOffsets map[splitKey]int64
	untilOffsets map[splitKey]int64
	isolation    int8
}

// splitKey is a topic and a partition.
type splitKey struct {
	topic     string
	partition int32
}

// String returns the split's name: "orders/3".
func (k splitKey) String() string { return k.topic + "/" + strconv.Itoa(int(k.partition)) }

// parseSplit reads "orders/3". Topic names can't hold a slash.
func parseSplit(name string) (splitKey, error) {
	topic, number, ok := strings.Cut(name, "/")
	partition, err := strconv.ParseInt(number, 10, 32)
	if !ok || topic == "" || err != nil || partition < 0 {
		return splitKey{}, fmt.Errorf("%q is not of the form topic/partition", name)
	}
	return splitKey{topic, int32(partition)}, nil
}

// check fills in defaults and refuses what can't work together.
func (s Settings) check() (*plan, error) {
	p := &plan{Settings: s}
	p.defaults()
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(p.Brokers) == 0 {
		fail("brokers: the key is missing")
	}
	if (len(p.Topics) == 0) == (p.TopicsRegex == "") {
		fail("topics: either topics or topics_regex must be set")
	}
	if p.TopicsRegex != "" {
		var err error
		if p.regex, err = regexp.Compile("^(?:" + p.TopicsRegex + ")$"); err != nil {
			fail("topics_regex: %w", err)
		}
	}
	belongs := func(set bool, key, other, value, now string) {
		if wanted := now == value; set != wanted {
			fail("%s: it goes together with %s = %q", key, other, value)
		}
	}
	belongs(!p.StartTimestamp.IsZero(), "start_timestamp", "start", startTimestamp, p.Start)
	belongs(len(p.StartOffsets) > 0, "start_offsets", "start", startOffsets, p.Start)
	belongs(!p.UntilTimestamp.IsZero(), "until_timestamp", "until", untilTimestamp, p.Until)
	belongs(len(p.UntilOffsets) > 0, "until_offsets", "until", untilOffsets, p.Until)
	p.startOffsets = splitOffsets("start_offsets", p.StartOffsets, &errs)
	p.untilOffsets = splitOffsets("until_offsets", p.UntilOffsets, &errs)
	if p.TLS != nil && (p.TLS.Cert == "") != (p.TLS.Key == "") {
		fail("tls: cert and key go together")
	}
	p.isolation = 1
	if p.Isolation == readUncommitted {
		p.isolation = 0
	}
	return p, errors.Join(errs...)
}

func (p *plan) defaults() {
	setDefault(&p.Start, startEarliest)
	setDefault(&p.Isolation, readCommitted)
	setDefault(&p.OnLoss, lossStop)
	setDefault(&p.ClientID, "ingestd")
	setDefault(&p.GoneAfter, 30*time.Second)
	setDefault(&p.DiscoveryInterval, time.Minute)
	setDefault(&p.FetchBytesMax, 4<<20)
	setDefault(&p.BatchBytesMax, 64<<20)
	setDefault(&p.RecordBytesMax, 16<<20)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func splitOffsets(key string, table map[string]int64, errs *[]error) map[splitKey]int64 {
	offsets := make(map[splitKey]int64, len(table))
	for name, offset := range table {
		split, err := parseSplit(name)
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s: %w", key, err))
			continue
		}
		if offset < 0 {
			*errs = append(*errs, fmt.Errorf("%s: %s: an offset is 0 or more, not %d", key, name, offset))
		}
		offsets[split] = offset
	}
	return offsets
}
