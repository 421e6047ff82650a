package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// Inspect looks at the server and the table. It changes nothing.
func (p *Plugin) Inspect(ctx context.Context, id sink.Identity) (sink.Inspection, error) {
	const op = "sink/clickhouse.Inspect"
	c, err := p.dialer.any(ctx)
	if err != nil {
		return sink.Inspection{}, fault.E(op, kindOf(err), err)
	}
	defer c.close()
	i := inspector{settings: &p.settings, dialer: p.dialer, conn: c}
	if err := i.run(ctx, id); err != nil {
		return sink.Inspection{}, fault.E(op, kindOf(err), fmt.Errorf("inspect %s for %s/%s: %w", i.name(), id.Pipeline, id.Sink, err))
	}
	slices.SortStableFunc(i.result.Findings, func(a, b sink.Finding) int { return cmp.Compare(b.Level, a.Level) })
	return i.result, nil
}

// inspector collects what one look at the target finds.
type inspector struct {
	settings *Settings
	dialer   *dialer
	conn     *conn
	table    *table
	result   sink.Inspection
}

func (i *inspector) name() tableName { return tableName{i.settings.Database, i.settings.Table} }

func (i *inspector) add(level sink.Level, remedy, format string, args ...any) {
	i.result.Findings = append(i.result.Findings, sink.Finding{Level: level, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (i *inspector) run(ctx context.Context, id sink.Identity) error {
	var err error
	i.table, err = readTable(ctx, i.conn, i.name())
	if errors.Is(err, errNoTable) {
		i.add(sink.Blocks, "CREATE TABLE "+i.name().String()+" (…) ENGINE = MergeTree ORDER BY …", "the table %s does not exist, or %s may not see it", i.name(), i.settings.User)
		return nil
	}
	if err != nil {
		return err
	}
	names, err := i.table.wanted(i.settings)
	if err != nil {
		i.add(sink.Blocks, "", "%v", err)
		return nil
	}
	i.columns(names)
	i.engine()
	i.ttl()
	i.views()
	for _, look := range []func(context.Context) error{
		i.provenance, i.servers, i.durability, i.policies, i.grants, i.serverSettings,
	} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return i.owner(ctx, id)
}

// owner reads who raised the fence last.
func (i *inspector) owner(ctx context.Context, id sink.Identity) error {
	there, err := i.conn.exists(ctx, i.name().sibling(fenceTable))
	if err != nil || !there {
		return err
	}
	last, ok, err := newestFence(ctx, i.conn, i.settings.Database, id)
	if err != nil {
		return i.optional(err, i.name().sibling(fenceTable).String())
	}
	if !ok {
		return nil
	}
	i.result.Owner = &sink.Owner{StoreID: last.store, Lease: last.lease}
	i.result.Untouched, err = i.untouched(ctx, id)
	return err
}

// untouched reports whether the table has no row of the pipeline: the fence is that of all tables of the database.
func (i *inspector) untouched(ctx context.Context, id sink.Identity) (bool, error) {
	registry := i.name().sibling(registryTable)
	there, err := i.conn.exists(ctx, registry)
	if err != nil || !there || !i.table.hasProvenance() {
		return false, err
	}
	rows, err := i.conn.query(ctx, "SELECT DISTINCT toString(number) FROM "+registry.String()+" WHERE "+key(id), 1)
	if err != nil {
		return false, i.optional(err, registry.String())
	}
	for _, row := range rows {
		number, err := parseUint(row[0])
		if err != nil {
			return false, err
		}
		n, err := i.conn.number(ctx, countBlocks(i.name(), blockNumber(number, 0), blockNumber(number+1, 0)))
		if err != nil || n > 0 {
			return false, err
		}
	}
	return true, nil
}

// columns makes the schema and finds columns that can't be written or that the protocol needs.
func (i *inspector) columns(names []string) {
	schema, unwritable := i.table.schema(names)
	i.result.Schema = schema
	for _, err := range unwritable {
		i.add(sink.Blocks, "list the columns to be written in `columns`, without this one", "%v", err)
	}
	for k := range i.table.columns {
		c := &i.table.columns[k]
		if c.inPartition && !slices.Contains(names, c.name) {
			i.add(sink.Forbids, "list the column in `columns`, or partition by a column that is written",
				"the partition key %s uses the column %s, which is not written: what is missing of a block can't be told by partition",
				i.table.partitionKey, identifier(c.name))
		}
	}
}

// engine judges what the table's engine does to rows and to their provenance.
func (i *inspector) engine() {
	e := i.table.engine
	family := strings.TrimPrefix(strings.TrimPrefix(e, "Replicated"), "Shared")
	switch {
	case e == "MergeTree":
	case e == "View", e == "MaterializedView", e == "LiveView", e == "WindowView", e == "Dictionary", strings.HasPrefix(e, "System"):
		i.add(sink.Blocks, "", "%s is a %s: name the table behind it", i.name(), e)
	case e == "Null":
		i.add(sink.Forbids, "", "the engine Null keeps no rows: whether a block was inserted can't be told")
	case e == "Distributed", e == "Buffer":
		i.add(sink.Forbids, "", "the engine %s passes rows on later, to tables that can't be asked here: name the table behind it", e)
	case !strings.HasSuffix(e, "MergeTree"):
		i.add(sink.Forbids, "", "the engine %s is not of the MergeTree family: an insert is not atomic", e)
	case family != "MergeTree":
		i.add(sink.Forbids, "", "a merge of the engine %s may drop or combine rows, and their provenance with them: whether a block was inserted can't be told", e)
	default:
		i.add(sink.Forbids, "", "the engine %s has replicas: after a lost reply, a part that is known to the others may still be missing here", e)
	}
}

// quotedText is a text in quotes within a definition.
var quotedText = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|` + "`(?:[^`\\\\]|\\\\.)*`")

func (i *inspector) ttl() {
	definition := quotedText.ReplaceAllString(i.table.engineFull, "''")
	if _, ttl, found := strings.Cut(definition, " TTL "); found {
		ttl, _, _ = strings.Cut(ttl, " SETTINGS ")
		i.add(sink.Weakens, "", "the table has a TTL (%s): rows that expire before the outcome of their insert is known are inserted again, and expire again", strings.TrimSpace(ttl))
	}
}

func (i *inspector) views() {
	for _, v := range i.table.views {
		i.add(sink.Weakens, "", "the view %s gets its rows after the table: it may miss those of a block in whose insert the server dies, or the insert is killed", v)
	}
}

// provenance looks for the column and its index.
func (i *inspector) provenance(ctx context.Context) error {
	col := i.table.column(provenanceColumn)
	switch {
	case col == nil && i.settings.Provenance == provenanceAdd:
		i.add(sink.Note, addProvenance(i.name()), "the column %s is missing and will be added", provenanceColumn)
		return nil
	case col == nil:
		i.add(sink.Forbids, addProvenance(i.name()), "the table has no column %s, which tells which blocks it has", provenanceColumn)
		return nil
	case !i.table.hasProvenance():
		i.add(sink.Forbids, "ALTER TABLE "+i.name().String()+" DROP COLUMN "+provenanceColumn+"; "+addProvenance(i.name()),
			"the column %s is %s %s, not a plain UInt64", provenanceColumn, col.defaultKind, col.typ)
		return nil
	}
	n, err := i.conn.number(ctx, "SELECT toString(count()) FROM system.data_skipping_indices WHERE database = "+literal(i.settings.Database)+
		" AND table = "+literal(i.settings.Table)+" AND expr IN ("+literal(provenanceColumn)+", "+literal("`"+provenanceColumn+"`")+")")
	if err != nil {
		return i.optional(err, "system.data_skipping_indices")
	}
	if n == 0 {
		i.add(sink.Note, "ALTER TABLE "+i.name().String()+" ADD INDEX "+provenanceIndex+" "+provenanceColumn+" TYPE minmax GRANULARITY 1",
			"the column %s has no index: finding out what became of an insert reads the whole column", provenanceColumn)
	}
	return nil
}

// optional turns the refusal of a system table into a note.
func (i *inspector) optional(err error, what string) error {
	var e *ch.Exception
	if errors.As(err, &e) && (int(e.Code) == codeAccessDenied || int(e.Code) == codeUnknownTable || int(e.Code) == codeUnknownIdentifier) {
		i.add(sink.Note, "GRANT SELECT ON "+what+" TO "+identifier(i.settings.User), "%s can't be read", what)
		return nil
	}
	return err
}

// servers checks that all addresses lead to one server: a unit's attempts, kills and looks must meet.
func (i *inspector) servers(ctx context.Context) error {
	const dials = 2 // of each address: a balancer gives itself away
	for range dials {
		for _, addr := range i.settings.Addr {
			c, err := i.dialer.dial(ctx, addr)
			if err != nil {
				i.add(sink.Note, "", "%s does not answer: %v", addr, err)
				continue
			}
			same := c.server.same(i.conn.server)
			c.close()
			if !same {
				i.add(sink.Forbids, "list only addresses of one server in `addr`", "%s leads to the server %s, and another connection to %s", addr, c.server, i.conn.server)
				return nil
			}
		}
	}
	return nil
}

// fsyncSettings are the table's settings that make an acknowledged insert outlast a power loss.
func fsyncSettings() []string { return []string{"fsync_after_insert", "fsync_part_directory"} }

func (i *inspector) durability(ctx context.Context) error {
	rows, err := i.conn.query(ctx, "SELECT name, value FROM system.merge_tree_settings WHERE name IN ('"+strings.Join(fsyncSettings(), "', '")+"')", 2)
	if err != nil {
		return i.optional(err, "system.merge_tree_settings")
	}
	values := make(map[string]string, len(rows))
	for _, row := range rows {
		values[row[0]] = row[1]
	}
	var off []string
	for _, name := range fsyncSettings() {
		if value, ok := tableSetting(i.table.engineFull, name); ok {
			values[name] = value
		}
		if v := values[name]; v != "1" && v != "true" {
			off = append(off, name)
		}
	}
	if len(off) == 0 {
		return nil
	}
	level := sink.Forbids
	if !i.settings.Durable {
		level = sink.Weakens
	}
	i.add(level, "ALTER TABLE "+i.name().String()+" MODIFY SETTING "+strings.Join(off, " = 1, ")+" = 1",
		"the table does not have %s: an insert that was acknowledged can vanish with a power loss", strings.Join(off, " and "))
	return nil
}

// tableSetting finds a setting in a table's engine_full.
func tableSetting(engineFull, name string) (value string, ok bool) {
	definition := quotedText.ReplaceAllString(engineFull, "''")
	_, list, found := strings.Cut(definition, " SETTINGS ")
	if !found {
		return "", false
	}
	for item := range strings.SplitSeq(list, ",") {
		if key, value, _ := strings.Cut(item, "="); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

func (i *inspector) policies(ctx context.Context) error {
	rows, err := i.conn.query(ctx, "SELECT short_name FROM system.row_policies WHERE database IN ("+literal(i.settings.Database)+", '') AND table IN ("+
		literal(i.settings.Table)+", '')", 1)
	if err != nil {
		return i.optional(err, "system.row_policies")
	}
	for _, row := range rows {
		i.add(sink.Forbids, "DROP ROW POLICY "+identifier(row[0])+" ON "+i.name().String(),
			"the row policy %s can hide rows from the user %s, so that a block that is there is not found", identifier(row[0]), i.settings.User)
	}
	return nil
}

// grant is a right that the sink needs.
type grant struct {
	right, on string
	level     sink.Level
	why       string
}

func (i *inspector) needed() []grant {
	name := i.name()
	list := []grant{
		{"SELECT", name.String(), sink.Forbids, "to find out what became of an insert"},
		{"INSERT", name.String(), sink.Blocks, "to insert"},
		{"SELECT", name.sibling(fenceTable).String(), sink.Blocks, "for the fence"},
		{"INSERT", name.sibling(fenceTable).String(), sink.Blocks, "for the fence"},
		{"SELECT", name.sibling(registryTable).String(), sink.Blocks, "for the pipeline's number"},
		{"INSERT", name.sibling(registryTable).String(), sink.Blocks, "for the pipeline's number"},
		// Its own inserts a user can always end, and sees them.
		{"KILL QUERY", "*.*", sink.Weakens, "so it can't end inserts of an earlier run under another user: those may come after their retry"},
	}
	if i.table.canRefuse() {
		on := identifier(name.Database) + ".*"
		list = append(list,
			grant{"CREATE TABLE", on, sink.Note, "to find the rows that the server refuses, on a throw-away table"},
			grant{"DROP TABLE", on, sink.Note, "to drop that table"})
	}
	if i.settings.Provenance == provenanceAdd && !i.table.hasProvenance() {
		list = append(list, grant{"ALTER ADD COLUMN", name.String(), sink.Blocks, "to add the column " + provenanceColumn},
			grant{"ALTER ADD INDEX", name.String(), sink.Blocks, "to add its index"})
	}
	return list
}

func (i *inspector) grants(ctx context.Context) error {
	needed := i.needed()
	for _, table := range []string{fenceTable, registryTable} {
		there, err := i.conn.exists(ctx, i.name().sibling(table))
		if err != nil {
			return err
		}
		if !there {
			needed = append(needed, grant{"CREATE TABLE", i.name().sibling(table).String(), sink.Blocks, "to make that table, once"},
				grant{"TABLE ENGINE", "MergeTree", sink.Blocks, "to make the table " + table + ", once"})
		}
	}
	for _, g := range needed {
		granted, err := i.conn.granted(ctx, g.right, g.on)
		if err != nil {
			if e, ok := errors.AsType[*ch.Exception](err); ok { // an older server: the first insert will tell
				i.add(sink.Note, "", "CHECK GRANT %s ON %s: %s", g.right, g.on, e.Message)
				return nil
			}
			return err
		}
		if !granted {
			i.add(g.level, "GRANT "+g.right+" ON "+g.on+" TO "+identifier(i.settings.User), "the user %s lacks %s on %s, %s", i.settings.User, g.right, g.on, g.why)
		}
	}
	return nil
}

// serverSettings checks that the settings that the protocol depends on can be sent.
func (i *inspector) serverSettings(ctx context.Context) error {
	ours := insertSettings(i.settings)
	have, err := readSettings(ctx, i.conn, settingNames(ours))
	if err != nil {
		return err
	}
	for _, s := range ours {
		if h, ok := have[s.Key]; ok && h.readonly && h.value != s.Value {
			i.add(sink.Forbids, "", "the setting %s is %s for the user %s and can't be changed; %s is needed", s.Key, h.value, i.settings.User, s.Value)
		}
	}
	for _, name := range sortedKeys(i.settings.Server) {
		h, err := readSettings(ctx, i.conn, []string{name})
		if err != nil {
			return err
		}
		if _, ok := h[name]; !ok {
			i.add(sink.Blocks, "", "the server has no setting %s", name)
		}
	}
	return nil
}
