package clickhouse

import "strings"

// identifier quotes a name for a statement. ClickHouse reads backslash escapes between backticks.
func identifier(name string) string {
	return "`" + escape(name, '`') + "`"
}

// literal quotes a text for a statement.
func literal(text string) string {
	return "'" + escape(text, '\'') + "'"
}

// escape puts a backslash before the quote and the backslash, and writes the control characters that the server's lexer
// or a log line would read otherwise as escapes. All other bytes stand for themselves.
func escape(text string, quote byte) string {
	var b strings.Builder
	b.Grow(len(text) + 2)
	for i := range len(text) {
		switch c := text[i]; c {
		case quote, '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case 0:
			b.WriteString(`\0`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// tableName is a table with its database.
type tableName struct {
	Database, Table string
}

// String returns the name quoted, for a statement.
func (n tableName) String() string {
	return identifier(n.Database) + "." + identifier(n.Table)
}

// sibling is another table of the same database.
func (n tableName) sibling(table string) tableName {
	return tableName{Database: n.Database, Table: table}
}
