package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// table is what the server says about a target.
type table struct {
	name tableName
	oid  string
	// kind is pg_class.relkind: r a table, p a partitioned one, f a foreign one, v and m views.
	kind string
	// persistence is pg_class.relpersistence: p, u unlogged, t temporary.
	persistence string
	// secured is true when row security holds for the user.
	secured bool
	// refuses is true when constraints, indices, triggers or partitions may refuse a row.
	refuses  bool
	triggers []string // that run before a row is stored, enabled
	columns  []column
	// definition tells whether columns have changed: another type may take the same bytes for another value.
	definition string
	keys       [][]string // the column lists of unique indices that ON CONFLICT can name, the primary key first
}

// column is a column of the target.
type column struct {
	name      string
	typ       string // as a definition writes it
	wireType  string // the type of a temporary table's column: a domain's base type
	notNull   bool
	hasValue  bool // the server fills it: a default, or an identity
	always    bool // generated: it can't be written
	shape     *shape
	shapeText error // why it can't be written
}

const readClass = `SELECT c.oid, n.nspname, c.relkind, c.relpersistence, row_security_active(c.oid),
 c.relkind = 'p' OR c.relispartition OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = c.oid) OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid)
 OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgenabled <> 'D')
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`

const readTriggers = `SELECT tgname FROM pg_trigger WHERE tgrelid = $1::oid AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 7 = 7 ORDER BY tgname`

const readColumns = `SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef, attgenerated, attidentity, atttypid, atttypmod, attndims
 FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum`

// readKeys finds what ON CONFLICT can infer from columns alone: whole, immediate unique indices over plain columns.
const readKeys = `SELECT i.indexrelid, a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, place), pg_attribute a
 WHERE i.indrelid = $1::oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
 AND a.attrelid = i.indrelid AND a.attnum = k.num ORDER BY NOT i.indisprimary, i.indexrelid, k.place`

// readTable reads a target's description. Error: errNoTable.
func readTable(ctx context.Context, c *conn, name tableName) (*table, error) {
	rows, err := c.query(ctx, readClass, name.String())
	if err != nil {
		return nil, fmt.Errorf("read pg_class: %w", err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errNoTable)
	}
	r := rows[0]
	t := &table{name: name, oid: r[0], kind: r[2], persistence: r[3], secured: r[4] == "t", refuses: r[5] == "t"}
	if rows, err = c.query(ctx, readTriggers, t.oid); err != nil {
		return nil, fmt.Errorf("read pg_trigger: %w", err)
	}
	for _, r := range rows {
		t.triggers = append(t.triggers, r[0])
	}
	if err := t.readKeys(ctx, c); err != nil {
		return nil, err
	}
	if t.definition, err = readDefinition(ctx, c, name); err != nil {
		return nil, err
	}
	return t, t.readColumns(ctx, c)
}

const readColumnsText = `SELECT concat_ws(' ', c.oid, c.relkind, string_agg(concat_ws(',', attnum, attname, atttypid, atttypmod, attndims, attnotnull, atthasdef, attgenerated, attidentity), ' ' ORDER BY attnum))
 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.oid = to_regclass($1) GROUP BY c.oid, c.relkind`

// readDefinition reads what a table's definition is told by, "" when the table is not there.
func readDefinition(ctx context.Context, c *conn, name tableName) (string, error) {
	text, ok, err := c.text(ctx, readColumnsText, name.String())
	if err != nil || !ok {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:]), nil
}

func (t *table) readKeys(ctx context.Context, c *conn) error {
	rows, err := c.query(ctx, readKeys, t.oid)
	if err != nil {
		return fmt.Errorf("read pg_index: %w", err)
	}
	last := ""
	for _, r := range rows {
		if r[0] != last {
			t.keys, last = append(t.keys, nil), r[0]
		}
		t.keys[len(t.keys)-1] = append(t.keys[len(t.keys)-1], r[1])
	}
	return nil
}

func (t *table) readColumns(ctx context.Context, c *conn) error {
	rows, err := c.query(ctx, readColumns, t.oid)
	if err != nil {
		return fmt.Errorf("read pg_attribute: %w", err)
	}
	oids := make([]string, len(rows))
	for i, r := range rows {
		oids[i] = r[6]
	}
	types, err := readTypes(ctx, c, oids)
	if err != nil {
		return err
	}
	for _, r := range rows {
		col := column{name: r[0], typ: r[1], wireType: r[1], notNull: r[2] == "t", always: r[4] != "" || r[5] == "a", hasValue: r[3] == "t" || r[5] != ""}
		mod, err := strconv.Atoi(r[7])
		if err != nil {
			return fmt.Errorf("read pg_attribute: %w", err)
		}
		dims, err := strconv.Atoi(r[8])
		if err != nil {
			return fmt.Errorf("read pg_attribute: %w", err)
		}
		base, mod := types.base(r[6], mod)
		if base == nil {
			return fmt.Errorf("read pg_type: column %s has the unknown type %s", identifier(col.name), r[6])
		}
		if base.oid != r[6] {
			col.notNull = col.notNull || types[r[6]].notNull
			if col.wireType, _, err = c.text(ctx, "SELECT format_type($1::oid, $2::int4)", base.oid, strconv.Itoa(mod)); err != nil {
				return fmt.Errorf("read pg_type: %w", err)
			}
			t.refuses = true // a domain has constraints
		}
		col.shape, col.shapeText = types.shape(base, mod, dims)
		if col.shape != nil {
			col.shape.typ.Nullable = !col.notNull
			if col.shape.form == formText {
				col.wireType = "text"
			}
			t.refuses = t.refuses || col.shape.judgedLate()
		}
		t.columns = append(t.columns, col)
	}
	return nil
}

// column finds a column by its name, or nil.
func (t *table) column(name string) *column {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &t.columns[i]
}

// wanted lists the columns that rows have: those of the settings, else all that the server does not fill by itself.
func (t *table) wanted(s *Settings) ([]string, error) {
	if len(s.Columns) > 0 {
		for _, name := range s.Columns {
			if c := t.column(name); c == nil || c.always {
				return nil, fmt.Errorf("the table %s has no column %s that can be written", t.name, identifier(name))
			}
		}
		return s.Columns, nil
	}
	var names []string
	for i := range t.columns {
		if c := &t.columns[i]; !c.hasValue && !c.always {
			names = append(names, c.name)
		}
	}
	return names, nil
}

// schema is what rows the table takes. unwritable lists the columns whose types can't be written, with the reason. A row that
// deletes has the key and nothing else, so with delete_column all other columns may be missing: Write looks at the rest.
func (t *table) schema(names []string, s *Settings) (schema *record.Schema, unwritable []error) {
	schema = &record.Schema{}
	key := t.key(s)
	for _, name := range names {
		c := t.column(name)
		if c.shape == nil {
			unwritable = append(unwritable, fmt.Errorf("column %s: %w", identifier(name), c.shapeText))
			continue
		}
		typ := c.shape.typ
		typ.Nullable = typ.Nullable && !slices.Contains(key, name) || s.DeleteColumn != "" && !slices.Contains(key, name)
		schema.Fields = append(schema.Fields, record.Field{Name: name, Type: typ, Optional: typ.Nullable})
	}
	if s.DeleteColumn != "" && schema.Index(s.DeleteColumn) < 0 {
		schema.Fields = append(schema.Fields, record.Field{Name: s.DeleteColumn, Type: record.Type{Kind: record.Bool, Nullable: true}, Optional: true})
	}
	return schema, unwritable
}

// key is the upsert key: that of the settings, else the primary key or the only unique index; nil when rows are appended.
func (t *table) key(s *Settings) []string {
	if s.Mode != modeUpsert {
		return nil
	}
	if len(s.Key) > 0 {
		return s.Key
	}
	if len(t.keys) > 0 {
		return t.keys[0]
	}
	return nil
}

var errNoKey = errors.New("no unique index over the key's columns")

// checkKey reports what keeps rows from being matched by the key.
func (t *table) checkKey(key []string) error {
	if len(key) == 0 {
		return fmt.Errorf("%w: the table has no primary key, and `key` is not set", errNoKey)
	}
	want := slices.Sorted(slices.Values(key))
	for _, k := range t.keys {
		if slices.Equal(slices.Sorted(slices.Values(k)), want) {
			return nil
		}
	}
	return fmt.Errorf("%w (%s)", errNoKey, strings.Join(key, ", "))
}

// missing lists the columns that must have a value and get none.
func (t *table) missing(names []string) []string {
	var list []string
	for i := range t.columns {
		if c := &t.columns[i]; c.notNull && !c.hasValue && !c.always && !slices.Contains(names, c.name) {
			list = append(list, c.name)
		}
	}
	return list
}
