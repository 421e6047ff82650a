// Package postgres writes rows to a PostgreSQL table, exactly once.
//
// What is prepared: batches of rows in segments of the checkpoint store. A commit encodes them in the binary format of COPY for the
// table as it is then.
//
// What is the decision's proof (the ledger): a row of the table ingestd_ledger for each pipeline, lane and sink, in the target's
// database. It names the highest unit that took effect, and is changed in the transaction that writes the unit's rows. A COMMIT
// without an answer is resolved by the next transaction, which reads the row.
//
// Who can still act late (the fence): an older run, or an earlier attempt of our own. Every transaction first locks the ledger's row
// and checks lease, nonce and store in it, so one that comes later finds the newer lease and writes nothing. One that holds the
// lock is waited for; when it stands still its session is ended, or ends by its own time-outs.
//
// What can expire: nothing. What a server forgets, by a failover to a standby that was behind, is missed in the ledger, and stops
// the pipeline.
//
// Nothing is kept in the server's session, so a pooler in transaction mode may stand between.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// Plugin is a configured PostgreSQL sink.
type Plugin struct {
	settings Settings
	dialer   *dialer
}

var _ sink.Plugin = (*Plugin)(nil)

// New checks the settings and returns the sink. It connects nowhere. The error is fault.Misconfigured.
func New(s Settings) (*Plugin, error) {
	const op = "sink/postgres.New"
	if err := s.check(); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	p := &Plugin{settings: s}
	p.dialer = &dialer{settings: &p.settings, network: new(net.Dialer).DialContext}
	if _, err := p.dialer.config(); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	return p, nil
}

// DialWith makes the sink open its connections through d, a tunnel for instance. It must be called before anything else.
func (p *Plugin) DialWith(d Dial) { p.dialer.network = d }

// Capabilities tells what the sink promises for a table that Inspect finds nothing against.
func (p *Plugin) Capabilities() sink.Capabilities {
	return sink.Capabilities{
		Form:   sink.Staged,
		Ledger: "a row in " + ledgerTable + ", changed in the transaction that writes the rows",
		Fence:  "that row: every transaction locks it first, and goes on only under the newest lease",
		Expiry: "none: a checkpoint can be committed days later", ExactlyOnce: true, DeadLetters: true,
		Visible:     "the rows of a checkpoint appear at once, after it is published",
		CommitBytes: commitBytes(&p.settings),
		Tested:      "PostgreSQL 15",
		Limits: []string{
			"made for servers of version 13 to 18; which ones the tests run on is said below",
			"a failover to a standby that lags loses commits; the next commit finds that and stops the pipeline (synchronous replication prevents it)",
			"foreign tables, also as partitions, are refused for exactly-once, views at all",
			"types without a binary form of ingestd's own (ranges, intervals, geometry …) are sent as text and cast, over a temporary table",
		},
	}
}

// commitBytes is the memory of one commit: the segment that is read, stored and decompressed, with a batch above the limit, and the
// rows that are being sent.
func commitBytes(s *Settings) int64 {
	const segments, chunks = 3, 4
	return segments*int64(s.Segment) + chunks*chunkBytes
}

// at gives an error the operation and its kind.
func at(op fault.Op, err error) error {
	return fault.WithRemedy(op, kindOf(err), err, fault.RemedyOf(err))
}

// Open connects and makes the ledger's table if it is missing.
func (p *Plugin) Open(ctx context.Context, env sink.Env) (sink.Sink, error) {
	const op = "sink/postgres.Open"
	c, err := p.dialer.dial(ctx)
	if err != nil {
		return nil, at(op, err)
	}
	defer c.close()
	if err := ensureLedger(ctx, c, &p.settings); err != nil {
		return nil, at(op, err)
	}
	t, err := readTable(ctx, c, p.settings.target())
	if err != nil {
		return nil, at(op, err)
	}
	s := &Sink{settings: &p.settings, dialer: p.dialer, env: env, nonce: rand.Text()}
	s.mu.table, s.key = t, slices.Clone(t.key(&p.settings))
	if p.settings.Mode == modeUpsert {
		if err := t.checkKey(s.key); err != nil {
			return nil, fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("table %s: %w", t.name, err), uniqueIndex(t.name, s.key))
		}
	}
	return s, nil
}

// uniqueIndex is the statement that makes a key's index.
func uniqueIndex(name tableName, key []string) string {
	if len(key) == 0 {
		return "ALTER TABLE " + name.String() + " ADD PRIMARY KEY (…)"
	}
	return "CREATE UNIQUE INDEX ON " + name.String() + " (" + identifiers(key) + ")"
}

// ensureLedger makes the ledger's table if it is not there. A role without the right to do so can be given the table instead.
func ensureLedger(ctx context.Context, c *conn, s *Settings) error {
	name := s.ledger()
	there, err := exists(ctx, c, name)
	if err != nil || there {
		return err
	}
	err = c.exec(ctx, createLedger(name))
	if err == nil {
		return nil
	}
	if there, again := exists(ctx, c, name); again == nil && there { // another run was first
		return nil
	}
	return fault.WithRemedy("", kindOf(err), fmt.Errorf("make the ledger %s: %w", name, err), ledgerRemedy(s))
}

// exists reports whether a table is there, also for a role that may not see into its schema.
func exists(ctx context.Context, c *conn, name tableName) (bool, error) {
	there, err := c.yes(ctx, "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)",
		name.Schema, name.Table)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return there, nil
}

// errColumns says that rows can't be written as they are.
var errColumns = errors.New("the rows don't fit the table")
