package postgres

import (
	"cmp"
	"fmt"
	"strings"
)

// identifier quotes a name for a statement.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal quotes a text for a statement. The E form reads the same whatever standard_conforming_strings is.
func literal(text string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

// identifiers quotes a list of names.
func identifiers(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = identifier(n)
	}
	return strings.Join(quoted, ", ")
}

// tableName is a table with its schema.
type tableName struct {
	Schema, Table string
}

// String returns the name quoted, for a statement.
func (n tableName) String() string { return identifier(n.Schema) + "." + identifier(n.Table) }

// compareNames orders names of units.
func (u unitName) compare(v unitName) int {
	return cmp.Or(cmp.Compare(u.Lease, v.Lease), cmp.Compare(u.Checkpoint, v.Checkpoint), cmp.Compare(u.Unit, v.Unit))
}

// String names a unit for people.
func (u unitName) String() string { return fmt.Sprintf("%d/%d/%d", u.Lease, u.Checkpoint, u.Unit) }
