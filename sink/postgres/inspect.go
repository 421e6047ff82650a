package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// The versions of the server that the sink is made for, as server_version_num counts them.
const (
	versionMin  = 130000
	versionNext = 190000
)

// deadLetterSink is the name under which a pipeline's dead-letter sink runs.
const deadLetterSink = "dead_letter"

// createLetters is a table for dead letters.
func createLetters(name tableName) string {
	return "CREATE TABLE " + name.String() + ` (split text NOT NULL, topic text NOT NULL, partition integer NOT NULL, "offset" bigint NOT NULL,
 "timestamp" timestamptz, key text, key_base64 text, value text, value_base64 text, headers text NOT NULL, stage text NOT NULL, reason text NOT NULL, "column" text, byte bigint)`
}

// Inspect looks at the server and the table. It changes nothing.
func (p *Plugin) Inspect(ctx context.Context, id sink.Identity) (sink.Inspection, error) {
	const op = "sink/postgres.Inspect"
	c, err := p.dialer.dial(ctx)
	if err != nil {
		return sink.Inspection{}, fault.E(op, kindOf(err), err)
	}
	defer c.close()
	i := inspector{settings: &p.settings, conn: c, id: id}
	if err := i.run(ctx); err != nil {
		return sink.Inspection{}, fault.E(op, kindOf(err), fmt.Errorf("inspect %s for %s/%s: %w", p.settings.target(), id.Pipeline, id.Sink, err))
	}
	slices.SortStableFunc(i.result.Findings, func(a, b sink.Finding) int { return cmp.Compare(b.Level, a.Level) })
	return i.result, nil
}

// inspector collects what one look at the target finds.
type inspector struct {
	settings *Settings
	conn     *conn
	id       sink.Identity
	table    *table
	result   sink.Inspection
}

func (i *inspector) add(level sink.Level, remedy, format string, args ...any) {
	i.result.Findings = append(i.result.Findings, sink.Finding{Level: level, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// user is the role as a statement names it.
func (i *inspector) user() string { return identifier(i.settings.User) }

func (i *inspector) run(ctx context.Context) error {
	if err := i.server(ctx); err != nil {
		return err
	}
	if err := i.ledger(ctx); err != nil {
		return err
	}
	var err error
	i.table, err = readTable(ctx, i.conn, i.settings.target())
	if errors.Is(err, errNoTable) || privilege(err) {
		remedy := "CREATE TABLE " + i.settings.target().String() + " (…);\nGRANT USAGE ON SCHEMA " + identifier(i.settings.Schema) + " TO " + i.user()
		if i.id.Sink == deadLetterSink {
			remedy = createLetters(i.settings.target()) + ";\nGRANT INSERT ON " + i.settings.target().String() + " TO " + i.user()
		}
		i.add(sink.Blocks, remedy, "the table %s does not exist, or %s may not see it", i.settings.target(), i.settings.User)
		return nil
	}
	if err != nil {
		return err
	}
	i.kind()
	if err := i.partitions(ctx); err != nil {
		return err
	}
	if i.id.Sink != deadLetterSink {
		i.columns()
	}
	i.behaviour()
	return i.grants(ctx)
}

// privilege reports whether an error is the lack of a right.
func privilege(err error) bool {
	e := serverError(err)
	return e != nil && e.Code == codePrivilege
}

// server looks at what holds for the whole server.
func (i *inspector) server(ctx context.Context) error {
	rows, err := i.conn.query(ctx, `SELECT current_setting('server_version_num'), current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
 current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), current_setting('server_encoding')`)
	if err != nil {
		return err
	}
	r := rows[0]
	version, err := strconv.Atoi(r[0])
	if err != nil {
		return err
	}
	switch {
	case version < versionMin:
		i.add(sink.Blocks, "", "the server is of version %s; 13 is the oldest that ingestd is made for", r[1])
	case version >= versionNext:
		i.add(sink.Note, "", "the server is of version %s; ingestd is made for 13 to 18", r[1])
	}
	if r[2] != "on" {
		i.add(sink.Weakens, "ALTER SYSTEM SET fsync = on", "the server runs with fsync = off: what it has committed can vanish, or its files break, when it loses power")
	}
	if r[3] != "on" {
		i.add(sink.Weakens, "ALTER SYSTEM SET full_page_writes = on", "the server runs with full_page_writes = off: a page that was half written when it lost power stays broken")
	}
	if r[4] == "off" {
		i.add(sink.Note, "", "synchronous_commit is off for this role; ingestd's transactions switch it on for themselves")
	}
	if r[5] == "" && len(i.settings.Addr) > 1 {
		i.add(sink.Weakens, "ALTER SYSTEM SET synchronous_standby_names = '…'",
			"there are standbys and synchronous_standby_names is empty: a failover to one that lags loses commits; the next commit finds that, and the pipeline stops")
	}
	if r[6] != "UTF8" {
		i.add(sink.Note, "", "the database's encoding is %s: texts that it can't hold are refused at commit, row by row", r[6])
	}
	return nil
}

// ledger looks for the ledger's table and who owns the row.
func (i *inspector) ledger(ctx context.Context) error {
	name := i.settings.ledger()
	there, err := exists(ctx, i.conn, name)
	if err != nil && !privilege(err) {
		return err
	}
	if !there {
		return i.noLedger(ctx, name)
	}
	if !i.right(ctx, "SELECT, INSERT, UPDATE", name, "for the ledger") {
		return nil
	}
	rows, err := i.conn.query(ctx, "SELECT relpersistence, row_security_active(oid) FROM pg_class WHERE oid = to_regclass($1)", name.String())
	if err != nil || len(rows) == 0 {
		return err
	}
	if rows[0][1] == "t" {
		i.add(sink.Blocks, "ALTER TABLE "+name.String()+" DISABLE ROW LEVEL SECURITY", "row security holds for %s on %s: it can hide the row that the pipeline wrote", i.settings.User, name)
	}
	if rows[0][0] != "p" {
		i.add(sink.Forbids, "ALTER TABLE "+name.String()+" SET LOGGED", "%s is not logged: it is empty after a crash of the server", name)
	}
	e, err := readEntry(ctx, i.conn, name, i.id, "")
	if err != nil || e == nil {
		return err
	}
	i.result.Owner = &sink.Owner{StoreID: e.store, Lease: e.writer}
	wrote, err := wroteTo(ctx, i.conn, name, i.id, i.settings.target())
	i.result.Untouched = !wrote
	return err
}

func (i *inspector) noLedger(ctx context.Context, name tableName) error {
	may, err := i.conn.yes(ctx, "SELECT has_schema_privilege(oid, 'CREATE, USAGE') AND has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1", name.Schema)
	if err != nil {
		return err
	}
	if may {
		i.add(sink.Note, createLedger(name), "the table %s is missing and will be made", name)
		return nil
	}
	i.add(sink.Blocks, ledgerRemedy(i.settings), "the table %s is missing, and %s may not make it", name, i.settings.User)
	return nil
}

// kind judges what the target is.
func (i *inspector) kind() {
	switch i.table.kind {
	case "r", "p":
	case "f":
		i.add(sink.Forbids, "", "%s is a foreign table: its rows and the ledger can't be committed as one", i.table.name)
	default:
		i.add(sink.Blocks, "", "%s is no table but a view or the like: name the table behind it", i.table.name)
	}
	switch i.table.persistence {
	case "u":
		i.add(sink.Forbids, "ALTER TABLE "+i.table.name.String()+" SET LOGGED", "the table is not logged: its rows vanish when the server crashes, and the ledger still says that they are there")
	case "t":
		i.add(sink.Blocks, "", "%s is a temporary table", i.table.name)
	}
}

// partitions judges those of a partitioned table.
func (i *inspector) partitions(ctx context.Context) error {
	if i.table.kind != "p" {
		return nil
	}
	rows, err := i.conn.query(ctx, `SELECT p.relid::regclass, c.relkind, c.relpersistence FROM pg_partition_tree($1::regclass) p JOIN pg_class c ON c.oid = p.relid
 WHERE p.isleaf AND (c.relkind = 'f' OR c.relpersistence = 'u') ORDER BY 1 LIMIT 10`, i.table.name.String())
	if err != nil {
		return fmt.Errorf("read the partitions: %w", err)
	}
	for _, r := range rows {
		if r[1] == "f" {
			i.add(sink.Forbids, "", "the partition %s is a foreign table: its rows and the ledger can't be committed as one", r[0])
			continue
		}
		i.add(sink.Forbids, "ALTER TABLE "+r[0]+" SET LOGGED", "the partition %s is not logged: its rows vanish when the server crashes, and the ledger still says that they are there", r[0])
	}
	return nil
}

// columns makes the schema and finds columns that can't be written or that must be.
func (i *inspector) columns() {
	names, err := i.table.wanted(i.settings)
	if err != nil {
		i.add(sink.Blocks, "take it out of `columns`, or ALTER TABLE "+i.table.name.String()+" ADD COLUMN …", "%v, or the server generates it", err)
		return
	}
	schema, unwritable := i.table.schema(names, i.settings)
	i.result.Schema = schema
	for _, err := range unwritable {
		i.add(sink.Blocks, "list the columns to be written in `columns`, without this one", "%v", err)
	}
	for _, name := range i.table.missing(names) {
		i.add(sink.Blocks, "list it in `columns`, or ALTER TABLE "+i.table.name.String()+" ALTER COLUMN "+identifier(name)+" SET DEFAULT …",
			"the column %s takes no null, has no default and is not written", identifier(name))
	}
	if i.settings.Mode != modeUpsert {
		return
	}
	key := i.table.key(i.settings)
	if err := i.table.checkKey(key); err != nil {
		i.add(sink.Blocks, uniqueIndex(i.table.name, key), `mode = "upsert": %v`, err)
	}
	for _, k := range key {
		if !slices.Contains(names, k) {
			i.add(sink.Blocks, "list it in `columns`", "the column %s is in the key and is not written", identifier(k))
		}
	}
}

// behaviour finds what changes rows on their way, or hides them.
func (i *inspector) behaviour() {
	if len(i.table.triggers) > 0 {
		i.add(sink.Weakens, "", "the triggers %s run before a row is stored: they may change rows or drop them without a word", strings.Join(i.table.triggers, ", "))
	}
	if i.table.secured { // COPY says: not supported with row-level security
		i.add(sink.Blocks, "ALTER ROLE "+i.user()+" BYPASSRLS", "row security holds for %s: rows can't be copied into such a table", i.settings.User)
	}
}

// right reports whether the role has rights on a table, and says so when it has not.
func (i *inspector) right(ctx context.Context, rights string, name tableName, why string) bool {
	for right := range strings.SplitSeq(rights, ", ") {
		may, err := i.conn.yes(ctx, "SELECT has_table_privilege(to_regclass($1), $2)", name.String(), right)
		if err != nil || !may {
			i.add(sink.Blocks, "GRANT "+rights+" ON "+name.String()+" TO "+i.user(), "the role %s lacks %s on %s, %s", i.settings.User, right, name, why)
			return false
		}
	}
	return true
}

// grants finds what the role may not do.
func (i *inspector) grants(ctx context.Context) error {
	name, rights, why := i.table.name, "INSERT", "to write rows"
	if i.settings.Mode == modeUpsert {
		rights = "SELECT, INSERT, UPDATE"
		if i.settings.DeleteColumn != "" {
			rights += ", DELETE"
		}
		why = "to match rows by key"
	}
	i.right(ctx, rights, name, why)
	merged := i.settings.Mode == modeUpsert || slices.ContainsFunc(i.table.columns, func(c column) bool {
		return c.shape != nil && c.shape.form == formText && i.result.Schema != nil && i.result.Schema.Index(c.name) >= 0
	})
	if !merged {
		return nil
	}
	may, err := i.conn.yes(ctx, "SELECT has_database_privilege(current_database(), 'TEMPORARY')")
	if err == nil && !may {
		i.add(sink.Blocks, "GRANT TEMPORARY ON DATABASE "+identifier(i.settings.Database)+" TO "+i.user(), "the role %s may not make temporary tables, over which rows are merged", i.settings.User)
	}
	return err
}
