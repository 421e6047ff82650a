package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ingestd/ingestd/config"
)

// Compression of the blocks between the daemon and the server.
const (
	compressionLZ4  = "lz4"
	compressionZSTD = "zstd"
	compressionNone = "none"
)

// Where the provenance column comes from.
const (
	provenanceCheck = "check"
	provenanceAdd   = "add"
)

// What is done with a row that the server refuses at commit.
const (
	rejectDeadLetter = "dead_letter"
	rejectStop       = "stop"
)

// Settings is a sink's section of the config.
type Settings struct {
	// Addr lists host:port of the native protocol. All must lead to one server, or be replicas of which one is used at a time.
	Addr     []string      `config:"addr"`
	Database string        `config:"database"`
	Table    string        `config:"table"`
	User     string        `config:"user"`
	Password config.Secret `config:"password"`
	TLS      *TLS          `config:"tls"`
	// Columns are those that are sent; empty: all that have no default expression.
	Columns     []string `config:"columns"`
	Compression string   `config:"compression"` // lz4, zstd, none
	Provenance  string   `config:"provenance"`  // check, add
	// Durable demands that the table is fsynced before an insert is acknowledged.
	Durable  bool   `config:"durable"`
	OnReject string `config:"on_reject"` // dead_letter, stop

	DialTimeout   time.Duration `config:"dial_timeout"`
	ReadTimeout   time.Duration `config:"read_timeout"`   // of a query that is no insert
	InsertTimeout time.Duration `config:"insert_timeout"` // of one insert, on the server and here
	// ReceiveTimeout is how long the server waits for the next packet of an insert, and so how long a stopped client can hold
	// up the kill of its insert.
	ReceiveTimeout time.Duration `config:"receive_timeout"`

	UnitRows    int64        `config:"unit_rows_max"`
	UnitBytes   config.Bytes `config:"unit_bytes_max"`
	SegmentRows int64        `config:"segment_rows_max"`
	Segment     config.Bytes `config:"segment_bytes_max"`

	// Server holds further settings of the server that are sent with every insert.
	Server map[string]string `config:"settings"`
}

// TLS is how the connection is protected.
type TLS struct {
	CA         string `config:"ca"`          // "" is the system's
	Cert       string `config:"cert"`        // of the client, "" for none
	Key        string `config:"key"`         // of the client
	ServerName string `config:"server_name"` // "" is the host of the address
	// SkipVerify accepts any certificate.
	SkipVerify bool `config:"insecure_skip_verify"`
}

// Spec describes the sink's section.
func Spec() config.Spec {
	keys := connectionKeys()
	keys = append(keys, behaviourKeys()...)
	return config.Spec{
		Type: "clickhouse",
		Doc: "Inserts into a table of the MergeTree family, exactly once, over the native protocol. " +
			"The table needs the column `_ingestd_block`; `ingestd validate --connect` prints the statement.",
		Keys: keys,
	}
}

func connectionKeys() []config.Key {
	return []config.Key{
		{
			Name: "addr", Kind: config.KindStrings, Required: true, Min: "1", Max: "16", Example: `["localhost:9000"]`,
			Doc: "Addresses of the native protocol. They are tried in order; each must lead to one server, not to a balancer of several.",
		},
		{Name: "database", Kind: config.KindString, Default: "default", Min: "1", Doc: "The target's database. Two small tables of ingestd's own, `ingestd_fence` and `ingestd_pipelines`, are made in it."},
		{Name: "table", Kind: config.KindString, Required: true, Example: "events", Doc: "The target table."},
		{Name: "user", Kind: config.KindString, Default: "default", Min: "1", Doc: "The user. It needs SELECT and INSERT on the database's tables, CREATE TABLE for the two small ones, and KILL QUERY."},
		{Name: "password", Kind: config.KindSecret, Example: "${env:CLICKHOUSE_PASSWORD}", Doc: "The user's password."},
		{Name: "tls", Kind: config.KindTable, Doc: "Protects the connection; the server's port for it is 9440 by default.", Table: &config.Spec{
			Doc: "An empty table is TLS with the system's certificate authorities.",
			Keys: []config.Key{
				{Name: "ca", Kind: config.KindString, Example: "/etc/ingestd/ca.pem", Doc: "PEM file of the authorities that are trusted; by default the system's."},
				{Name: "cert", Kind: config.KindString, Example: "/etc/ingestd/client.pem", Doc: "PEM file of the client's certificate."},
				{Name: "key", Kind: config.KindString, Example: "/etc/ingestd/client.key", Doc: "PEM file of the client's key."},
				{Name: "server_name", Kind: config.KindString, Example: "clickhouse.internal", Doc: "The name that the server's certificate must have; by default the host of the address."},
				{Name: "insecure_skip_verify", Kind: config.KindBool, Default: "false", Doc: "Accept any certificate. Anyone on the way can read and change everything."},
			},
		}},
		{Name: "dial_timeout", Kind: config.KindDuration, Default: "5s", Min: "100ms", Max: "5m", Doc: "How long connecting may take, with the handshake."},
		{Name: "read_timeout", Kind: config.KindDuration, Default: "30s", Min: "1s", Max: "1h", Doc: "How long a query that is not an insert may take."},
		{Name: "insert_timeout", Kind: config.KindDuration, Default: "5m", Min: "1s", Max: "1h", Doc: "How long one insert may take; then its outcome is unknown and is found out."},
		{
			Name: "receive_timeout", Kind: config.KindDuration, Default: "5s", Min: "1s", Max: "1m",
			Doc: "How long the server waits for the next packet of an insert. It bounds how long a stopped daemon can hold up the one that takes over.",
		},
	}
}

func behaviourKeys() []config.Key {
	return []config.Key{
		{Name: "columns", Kind: config.KindStrings, Example: `["id", "ts", "body"]`, Doc: "The columns that are written. By default all that have no DEFAULT expression; those with one are filled by the server unless they are named here."},
		{Name: "compression", Kind: config.KindEnum, Enum: []string{compressionLZ4, compressionZSTD, compressionNone}, Default: compressionLZ4, Doc: "Compression of the connection."},
		{Name: "provenance", Kind: config.KindEnum, Enum: []string{provenanceCheck, provenanceAdd}, Default: provenanceCheck, Doc: "`check` refuses a table without the column `_ingestd_block`; `add` adds it."},
		{Name: "durable", Kind: config.KindBool, Default: "true", Doc: "Demand that the table has `fsync_after_insert` and `fsync_part_directory`. Without them an acknowledged insert can vanish with a power loss."},
		{Name: "on_reject", Kind: config.KindEnum, Enum: []string{rejectDeadLetter, rejectStop}, Default: rejectDeadLetter, Doc: "What to do with a row that the server refuses, by a CHECK constraint say."},
		{Name: "unit_rows_max", Kind: config.KindInt, Default: "1000000", Min: "1", Max: "1000000", Doc: "The most rows of one insert."},
		{Name: "unit_bytes_max", Kind: config.KindBytes, Default: "256MiB", Min: "1KiB", Max: "256MiB", Doc: "The most bytes of one insert, before compression. Memory for one is kept in reserve."},
		{Name: "segment_rows_max", Kind: config.KindInt, Default: "100000", Min: "1", Max: "1000000", Doc: "The most rows of one staged segment."},
		{Name: "segment_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1KiB", Max: "256MiB", Doc: "The most bytes of one staged segment, before compression."},
		{Name: "settings", Kind: config.KindStringMap, Example: `{ max_threads = "2" }`, Doc: "Further settings of the server, sent with every insert. Those that the protocol depends on are refused."},
	}
}

// check refuses what the server's settings may not be, and limits that don't fit together.
func (s *Settings) check() error {
	var errs []error
	for _, name := range sortedKeys(s.Server) {
		if reserved(name) {
			errs = append(errs, fmt.Errorf("settings.%s: exactly-once depends on this setting; ingestd sends its own", name))
		}
	}
	if len(s.Addr) == 0 || s.Table == "" {
		errs = append(errs, errors.New("addr and table are needed"))
	}
	for _, addr := range s.Addr {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("addr: %q is not host:port", addr))
		}
	}
	return errors.Join(errs...)
}

// reserved reports whether a setting of the server is ours to send, or would change what an insert does.
func reserved(name string) bool {
	for _, s := range insertSettings(&Settings{}) {
		if s.Key == name {
			return true
		}
	}
	switch name {
	case "insert_deduplication_token", "wait_for_async_insert", "max_insert_block_size", "max_insert_block_size_rows",
		"max_insert_block_size_bytes", "min_insert_block_size_rows", "min_insert_block_size_bytes", "max_rows_in_set",
		"max_bytes_in_set", "readonly", "max_rows_to_read", "max_bytes_to_read",
		"implicit_transaction", "insert_quorum", "distributed_product_mode", "final", "max_threads_for_indexes",
		"enable_scalar_subquery_optimization", "throw_if_no_data_to_insert":
		return true
	}
	return false
}
