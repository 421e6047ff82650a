package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// The names of the sink's own objects in the target's database.
const (
	provenanceColumn = "_ingestd_block"
	provenanceIndex  = "_ingestd_block_index"
	fenceTable       = "ingestd_fence"
	registryTable    = "ingestd_pipelines"
)

// table is what the server says about the target.
type table struct {
	name         tableName
	engine       string
	engineFull   string
	partitionKey string
	createQuery  string
	views        []string // tables that take rows from this one: materialized views
	columns      []column
}

// column is a column of the target.
type column struct {
	name        string
	typ         string
	defaultKind string // "", DEFAULT, MATERIALIZED, ALIAS, EPHEMERAL
	inPartition bool
}

// insertable reports whether an INSERT may name the column.
func (c *column) insertable() bool { return c.defaultKind == "" || c.defaultKind == "DEFAULT" }

var errNoTable = errors.New("there is no such table")

// readTable reads the target's description.
func readTable(ctx context.Context, c *conn, name tableName) (*table, error) {
	where := " WHERE database = " + literal(name.Database) + " AND "
	rows, err := c.query(ctx, "SELECT engine, engine_full, partition_key, create_table_query, "+
		"arrayStringConcat(arrayMap((d, t) -> concat(d, '.', t), dependencies_database, dependencies_table), '\\n') "+
		"FROM system.tables"+where+"name = "+literal(name.Table), 5)
	if err != nil {
		return nil, fmt.Errorf("read system.tables: %w", err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errNoTable)
	}
	t := &table{name: name, engine: rows[0][0], engineFull: rows[0][1], partitionKey: rows[0][2], createQuery: rows[0][3]}
	if rows[0][4] != "" {
		t.views = strings.Split(rows[0][4], "\n")
	}
	rows, err = c.query(ctx, "SELECT name, type, default_kind, toString(is_in_partition_key) FROM system.columns"+where+
		"table = "+literal(name.Table)+" ORDER BY position", 4)
	if err != nil {
		return nil, fmt.Errorf("read system.columns: %w", err)
	}
	for _, row := range rows {
		t.columns = append(t.columns, column{name: row[0], typ: row[1], defaultKind: row[2], inPartition: row[3] == "1"})
	}
	return t, nil
}

// column finds a column by its name, or nil.
func (t *table) column(name string) *column {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &t.columns[i]
}

// hasProvenance reports whether the table has the provenance column as the sink needs it.
func (t *table) hasProvenance() bool {
	c := t.column(provenanceColumn)
	return c != nil && c.typ == "UInt64" && c.insertable()
}

// wanted lists the columns that rows have: those of the settings, else all insertable ones without a default expression.
func (t *table) wanted(s *Settings) ([]string, error) {
	if len(s.Columns) > 0 {
		for _, name := range s.Columns {
			if c := t.column(name); c == nil || !c.insertable() || name == provenanceColumn {
				return nil, fmt.Errorf("the table has no column %s that can be written", identifier(name))
			}
		}
		return s.Columns, nil
	}
	var names []string
	for i := range t.columns {
		if c := &t.columns[i]; c.defaultKind == "" && c.name != provenanceColumn {
			names = append(names, c.name)
		}
	}
	return names, nil
}

// schema is what rows the table takes. unwritable lists the columns whose types can't be written, with the reason.
func (t *table) schema(names []string) (schema *record.Schema, unwritable []error) {
	schema = &record.Schema{}
	for _, name := range names {
		s, err := parseShape(t.column(name).typ)
		if err != nil {
			unwritable = append(unwritable, fmt.Errorf("column %s: %w", identifier(name), err))
			continue
		}
		// A column of nulls need not be in every record: a missing value is a null. All others must be there.
		schema.Fields = append(schema.Fields, record.Field{Name: name, Type: s.typ, Optional: s.typ.Nullable})
	}
	return schema, unwritable
}

// wireColumn is a column as a committable names it: its type is fixed when the unit is made, whatever becomes of the table.
type wireColumn struct {
	Name string `json:"n"`
	Type string `json:"t"`
}

// wire matches a batch's schema with the table.
func (t *table) wire(schema *record.Schema) ([]wireColumn, []*shape, error) {
	columns := make([]wireColumn, len(schema.Fields))
	shapes := make([]*shape, len(schema.Fields))
	for i := range schema.Fields {
		f := &schema.Fields[i]
		c := t.column(f.Name)
		if c == nil || !c.insertable() || f.Name == provenanceColumn {
			return nil, nil, fmt.Errorf("table %s has no column %s that can be written", t.name, identifier(f.Name))
		}
		s, err := parseShape(c.typ)
		if err != nil {
			return nil, nil, fmt.Errorf("column %s: %w", identifier(f.Name), err)
		}
		if !s.takes(&f.Type) {
			return nil, nil, fmt.Errorf("column %s has type %s in the table and %s in the pipeline; add a cast step",
				identifier(f.Name), c.typ, f.Type.String())
		}
		columns[i], shapes[i] = wireColumn{Name: f.Name, Type: s.wire}, s
	}
	return columns, shapes, nil
}

// partitionColumnsOutside lists the columns of the partition key that a schema does not have.
func (t *table) partitionColumnsOutside(s *record.Schema) []string {
	var list []string
	for i := range t.columns {
		if c := &t.columns[i]; c.inPartition && s.Index(c.name) < 0 {
			list = append(list, identifier(c.name))
		}
	}
	return list
}

// setting is what the server says about one of its settings.
type setting struct {
	value    string
	readonly bool
}

// readSettings reads the settings of the connection's user that the sink cares for, those that the server has.
func readSettings(ctx context.Context, c *conn, names []string) (map[string]setting, error) {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = literal(name)
	}
	rows, err := c.query(ctx, "SELECT name, value, toString(readonly) FROM system.settings WHERE name IN ("+strings.Join(quoted, ", ")+")", 3)
	if err != nil {
		return nil, fmt.Errorf("read system.settings: %w", err)
	}
	settings := make(map[string]setting, len(rows))
	for _, row := range rows {
		settings[row[0]] = setting{value: row[1], readonly: row[2] != "0"}
	}
	return settings, nil
}

// parseUint reads a decimal number of a query's result.
func parseUint(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }

// canRefuse reports whether the server may refuse a row for its values: by a constraint, or by an expression that it computes.
func (t *table) canRefuse() bool {
	computed := slices.ContainsFunc(t.columns, func(c column) bool { return c.defaultKind == "DEFAULT" || c.defaultKind == "MATERIALIZED" })
	return computed || t.partitionKey != "" || len(t.views) > 0 || strings.Contains(t.createQuery, "CONSTRAINT ")
}
