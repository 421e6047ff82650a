package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingestd/ingestd/config"
)

// What becomes of a row whose key is in the table already.
const (
	modeAppend = "append"
	modeUpsert = "upsert"
)

// What is done with a row that the server refuses at commit.
const (
	rejectDeadLetter = "dead_letter"
	rejectStop       = "stop"
)

// Settings is a sink's section of the config.
type Settings struct {
	// Addr lists host:port of one server and of those that may take its place; a path is the folder of a Unix socket.
	Addr     []string      `config:"addr"`
	Database string        `config:"database"`
	User     string        `config:"user"`
	Password config.Secret `config:"password"`
	Schema   string        `config:"schema"`
	Table    string        `config:"table"`
	// LedgerSchema is where the ledger's table is; "" is Schema.
	LedgerSchema string `config:"ledger_schema"`
	// Columns are those that are written; empty: all that the server does not fill.
	Columns []string `config:"columns"`
	Mode    string   `config:"mode"` // append, upsert
	// Key is the upsert key; empty: the primary key.
	Key []string `config:"key"`
	// DeleteColumn says which rows delete; "" for none.
	DeleteColumn string `config:"delete_column"`
	OnReject     string `config:"on_reject"` // dead_letter, stop

	SSLMode     string `config:"sslmode"`
	SSLRootCert string `config:"sslrootcert"`
	SSLCert     string `config:"sslcert"`
	SSLKey      string `config:"sslkey"`

	ApplicationName  string        `config:"application_name"`
	DialTimeout      time.Duration `config:"dial_timeout"`      // of each address
	ReadTimeout      time.Duration `config:"read_timeout"`      // of a statement that moves no rows
	StatementTimeout time.Duration `config:"statement_timeout"` // of one statement of a commit, on the server and here
	LockTimeout      time.Duration `config:"lock_timeout"`      // of waiting for a lock
	IdleTimeout      time.Duration `config:"idle_timeout"`      // of a transaction whose client is silent

	SegmentRows int64        `config:"segment_rows_max"`
	Segment     config.Bytes `config:"segment_bytes_max"`
}

// Spec describes the sink's section.
func Spec() config.Spec {
	return config.Spec{
		Type: "postgres",
		Doc: "Writes to a PostgreSQL table, exactly once: the rows of a checkpoint and the ledger's row in one transaction. " +
			"`ingestd validate --connect` prints the statements for what is missing. It is made so that a pooler in transaction mode (PgBouncer) may stand between; no test of ours runs one.",
		Keys: slices.Concat(targetKeys(), connectionKeys(), limitKeys()),
	}
}

func targetKeys() []config.Key {
	return []config.Key{
		{
			Name: "addr", Kind: config.KindStrings, Required: true, Min: "1", Max: "16", Example: `["localhost:5432"]`,
			Doc: "Addresses host:port, or the folder of a Unix socket. They are tried in order; the first that takes writes is used, so list a primary and its standbys.",
		},
		{Name: "database", Kind: config.KindString, Required: true, Example: "app", Doc: "The database."},
		{Name: "user", Kind: config.KindString, Required: true, Example: "ingestd", Doc: "The role."},
		{Name: "password", Kind: config.KindSecret, Example: "${env:POSTGRES_PASSWORD}", Doc: "The role's password."},
		{Name: "schema", Kind: config.KindString, Default: "public", Min: "1", Doc: "The table's schema."},
		{Name: "table", Kind: config.KindString, Required: true, Example: "events", Doc: "The target table; it may be partitioned."},
		{Name: "ledger_schema", Kind: config.KindString, Example: "ingestd", Doc: "Schema of the table `ingestd_ledger`, one row for each pipeline's sink, in the same database; by default `schema`. Made at the start if it is missing and the role may."},
		{Name: "columns", Kind: config.KindStrings, Example: `["id", "ts", "body"]`, Doc: "The columns that are written. By default all that have no default of their own; those with one are filled by the server unless they are named here."},
		{Name: "mode", Kind: config.KindEnum, Enum: []string{modeAppend, modeUpsert}, Default: modeAppend, Doc: "`append` inserts every row. `upsert` inserts or updates by key; of several rows of one key in a checkpoint the last counts."},
		{Name: "key", Kind: config.KindStrings, Example: `["id"]`, Doc: "The columns of the upsert key. A unique index must have exactly these. By default the primary key."},
		{
			Name: "delete_column", Kind: config.KindString, Example: "deleted",
			Doc: "With `upsert`: a column of the rows that says which delete their key. One of booleans deletes where it is true and need not be a column of the table; " +
				"one of another type deletes where it is null, as the value of a tombstone is with the decoder `raw`.",
		},
		{Name: "on_reject", Kind: config.KindEnum, Enum: []string{rejectDeadLetter, rejectStop}, Default: rejectDeadLetter, Doc: "What to do with a row that the server refuses, by a constraint say."},
	}
}

func sslModes() []string {
	return []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
}

func connectionKeys() []config.Key {
	return []config.Key{
		{Name: "sslmode", Kind: config.KindEnum, Enum: sslModes(), Default: "prefer", Doc: "How the connection is protected, in the words of the server's own clients. Only `verify-full` also makes sure that it is the right server."},
		{Name: "sslrootcert", Kind: config.KindString, Example: "/etc/ingestd/ca.pem", Doc: "PEM file of the authorities that are trusted, for `verify-ca` and `verify-full`; by default the system's."},
		{Name: "sslcert", Kind: config.KindString, Example: "/etc/ingestd/client.pem", Doc: "PEM file of the client's certificate."},
		{Name: "sslkey", Kind: config.KindString, Example: "/etc/ingestd/client.key", Doc: "PEM file of the client's key."},
		{Name: "application_name", Kind: config.KindString, Default: "ingestd", Min: "1", Max: "63", Doc: "What pg_stat_activity shows of the session. Within its transactions ingestd shows a name of its own, by which a successor finds them."},
		{Name: "dial_timeout", Kind: config.KindDuration, Default: "5s", Min: "1s", Max: "5m", Doc: "How long connecting to one address may take, with the handshake."},
		{Name: "read_timeout", Kind: config.KindDuration, Default: "30s", Min: "1s", Max: "1h", Doc: "How long a statement that moves no rows may take."},
		{Name: "statement_timeout", Kind: config.KindDuration, Default: "5m", Min: "1s", Max: "24h", Doc: "How long one statement of a commit may take. It bounds how long a stopped daemon can hold up the one that takes over when that may not end its sessions."},
		{Name: "lock_timeout", Kind: config.KindDuration, Default: "20s", Min: "1s", Max: "1h", Doc: "How long a commit waits for a lock; then it begins anew."},
		{Name: "idle_timeout", Kind: config.KindDuration, Default: "30s", Min: "1s", Max: "1h", Doc: "After how long the server ends a transaction whose daemon is silent."},
	}
}

func limitKeys() []config.Key {
	return []config.Key{
		{Name: "segment_rows_max", Kind: config.KindInt, Default: "100000", Min: "1", Max: "1000000", Doc: "The most rows of one staged segment."},
		{Name: "segment_bytes_max", Kind: config.KindBytes, Default: "8MiB", Min: "1KiB", Max: "256MiB", Doc: "The most bytes of one staged segment, before compression. A commit reads one at a time."},
	}
}

// check refuses settings that don't fit together.
func (s *Settings) check() error {
	var errs []error
	if len(s.Addr) == 0 || s.Table == "" || s.Database == "" || s.User == "" {
		errs = append(errs, errors.New("addr, database, user and table are needed"))
	}
	for _, addr := range s.Addr {
		if _, _, err := endpoint(addr); err != nil {
			errs = append(errs, err)
		}
	}
	if s.Mode != modeUpsert && len(s.Key) > 0 {
		errs = append(errs, errors.New(`key: only mode = "upsert" has a key`))
	}
	if s.Mode != modeUpsert && s.DeleteColumn != "" {
		errs = append(errs, errors.New(`delete_column: only mode = "upsert" deletes`))
	}
	if slices.Contains(s.Key, s.DeleteColumn) {
		errs = append(errs, fmt.Errorf("delete_column: %s is in the key", identifier(s.DeleteColumn)))
	}
	if (s.SSLCert == "") != (s.SSLKey == "") {
		errs = append(errs, errors.New("sslcert and sslkey belong together"))
	}
	return errors.Join(errs...)
}

// target is the table's name.
func (s *Settings) target() tableName { return tableName{s.Schema, s.Table} }

// ledger is the name of the ledger's table.
func (s *Settings) ledger() tableName {
	if s.LedgerSchema == "" {
		return tableName{s.Schema, ledgerTable}
	}
	return tableName{s.LedgerSchema, ledgerTable}
}
