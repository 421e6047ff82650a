package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// ledgerTable is the table with one row for each pipeline, lane and sink.
const ledgerTable = "ingestd_ledger"

// createLedger is the statement that makes the ledger's table.
func createLedger(name tableName) string {
	return "CREATE TABLE " + name.String() + " (pipeline text NOT NULL, lane bigint NOT NULL, sink text NOT NULL, store text NOT NULL, " +
		"writer bigint NOT NULL, nonce text NOT NULL, lease bigint NOT NULL, checkpoint bigint NOT NULL, unit bigint NOT NULL, " +
		"early boolean NOT NULL, targets text[] NOT NULL DEFAULT '{}', changed timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, lane, sink))"
}

// ledgerGrant is the statement that gives the role what it needs of the ledger.
func ledgerGrant(s *Settings) string {
	return "GRANT SELECT, INSERT, UPDATE ON " + s.ledger().String() + " TO " + identifier(s.User)
}

// ledgerRemedy are the statements that make the ledger for a role that may not.
func ledgerRemedy(s *Settings) string {
	name := s.ledger()
	schema := identifier(name.Schema)
	return "CREATE SCHEMA IF NOT EXISTS " + schema + "; GRANT USAGE ON SCHEMA " + schema + " TO " + identifier(s.User) + "; " + createLedger(name) + "; " + ledgerGrant(s)
}

// unitName is a unit's name within the sink. The zero value names none. Names grow in the order of commits.
type unitName struct {
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Unit       record.Unit       `json:"unit"`
}

func nameOf(u *sink.Committable) unitName { return unitName{u.Lease, u.Checkpoint, u.Unit} }

// after reports whether u comes after v in the order of commits.
func (u unitName) after(v unitName) bool { return u.compare(v) > 0 }

// takes reports whether u is v, or takes the place of it, or the other way round: rows that were refused made another unit of it.
func (u unitName) takes(v unitName) bool {
	return u.Lease == v.Lease && u.Checkpoint == v.Checkpoint && u.Unit/sink.UnitStep == v.Unit/sink.UnitStep
}

// entry is the ledger's row of one pipeline, lane and sink.
type entry struct {
	// store is the checkpoint store of the writer.
	store string
	// writer is the lease of the run that wrote the row last, and nonce tells two runs under one lease apart.
	writer record.Lease
	nonce  string
	// last is the highest unit that took effect.
	last unitName
	// early says that last was committed before its manifest was published, with at-least-once delivery.
	early bool
	// target is a table that the transaction writes to, "" for none: the row lists all that were ever written to.
	target string
}

// earlier tells that the newest unit is one that a run before this lease committed and never published, after the given one: with
// at-least-once delivery that may be.
func (e *entry) earlier(known unitName, lease record.Lease) bool {
	return e.early && e.last.after(known) && e.last.Lease < lease
}

// ledgerKey are the arguments that name the row.
func ledgerKey(id sink.Identity) []string {
	return []string{id.Pipeline, strconv.FormatUint(uint64(id.Lane), 10), id.Sink}
}

// whereKey is the condition on them.
const whereKey = " WHERE pipeline = $1 AND lane = $2 AND sink = $3"

// readEntry reads the ledger's row, nil when there is none. suffix is FOR UPDATE in a transaction that goes on to write.
func readEntry(ctx context.Context, c *conn, name tableName, id sink.Identity, suffix string) (*entry, error) {
	rows, err := c.query(ctx, "SELECT store, writer, nonce, lease, checkpoint, unit, early FROM "+name.String()+whereKey+suffix, ledgerKey(id)...)
	if err != nil {
		return nil, fmt.Errorf("read the ledger %s: %w", name, err)
	}
	if len(rows) == 0 {
		return nil, nil //nolint:nilnil // no row is an answer
	}
	r := rows[0]
	var numbers [4]uint64
	for i, text := range []string{r[1], r[3], r[4], r[5]} {
		if numbers[i], err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, fault.E("", fault.Corrupt, fmt.Errorf("the ledger %s holds %q: %w", name, text, err))
		}
	}
	return &entry{
		store: r[0], writer: record.Lease(numbers[0]), nonce: r[2], early: r[6] == "t",
		last: unitName{record.Lease(numbers[1]), record.Checkpoint(numbers[2]), record.Unit(numbers[3])},
	}, nil
}

// args are the row's values, in the order of the statements below.
func (e *entry) args(id sink.Identity) []string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return append(ledgerKey(id), e.store, number(uint64(e.writer)), e.nonce, number(uint64(e.last.Lease)), number(uint64(e.last.Checkpoint)),
		number(uint64(e.last.Unit)), strconv.FormatBool(e.early))
}

// insertEntry makes the row, locked. false: another run made one meanwhile.
func insertEntry(ctx context.Context, c *conn, name tableName, id sink.Identity, e *entry) (bool, error) {
	rows, err := c.query(ctx, "INSERT INTO "+name.String()+" (pipeline, lane, sink, store, writer, nonce, lease, checkpoint, unit, early) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING 1", e.args(id)...)
	if err != nil {
		return false, fmt.Errorf("write the ledger %s: %w", name, err)
	}
	return len(rows) == 1, nil
}

// updateEntry changes the row, which is locked.
func updateEntry(ctx context.Context, c *conn, name tableName, id sink.Identity, e *entry) error {
	rows, err := c.query(ctx, "UPDATE "+name.String()+" SET store = $4, writer = $5, nonce = $6, lease = $7, checkpoint = $8, unit = $9, early = $10, changed = now(), "+
		"targets = CASE WHEN $11 = '' OR $11 = ANY (targets) THEN targets ELSE targets || $11::text END"+whereKey+" RETURNING 1", append(e.args(id), e.target)...)
	if err != nil {
		return fmt.Errorf("write the ledger %s: %w", name, err)
	}
	if len(rows) != 1 {
		return fault.E("", fault.Misconfigured, fmt.Errorf("the ledger %s did not take the change: is there a trigger or a rule on it?", name))
	}
	return nil
}

// wroteTo reports whether the row lists a table as one that was written to.
func wroteTo(ctx context.Context, c *conn, ledger tableName, id sink.Identity, target tableName) (bool, error) {
	wrote, err := c.yes(ctx, "SELECT $4 = ANY (targets) FROM "+ledger.String()+whereKey, append(ledgerKey(id), target.String())...)
	if err != nil {
		return false, fmt.Errorf("read the ledger %s: %w", ledger, err)
	}
	return wrote, nil
}

// replaceLast is the statement by which a person says what the ledger holds.
func replaceLast(name tableName, id sink.Identity, last unitName) string {
	return fmt.Sprintf("INSERT INTO %s (pipeline, lane, sink, store, writer, nonce, lease, checkpoint, unit, early) VALUES (%s, %d, %s, %s, 0, '', %d, %d, %d, false)",
		name, literal(id.Pipeline), id.Lane, literal(id.Sink), literal(id.StoreID), last.Lease, last.Checkpoint, last.Unit)
}
