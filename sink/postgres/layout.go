package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// layout is how rows of one schema go into the table.
type layout struct {
	table *table
	cells []placed
	key   []string
	// deleteCol is the place of the column that says which rows delete, -1 for none.
	deleteCol int
	// direct is true when rows are copied into the table itself; otherwise into a temporary one, from which they are merged.
	direct bool
}

// placed is a cell with its column on both sides.
type placed struct {
	cell
	col   int // of the batch
	inKey bool
	to    *column
}

// unitData is the sink's own part of a committable: what is done with its rows, whatever the config says later.
type unitData struct {
	Schema string   `json:"schema"`
	Table  string   `json:"table"`
	Key    []string `json:"key,omitempty"` // rows are appended without
	Delete string   `json:"delete,omitempty"`
	// Previous is the unit before this one.
	Previous unitName `json:"previous"`
	// Early says that the unit is committed before its manifest is published.
	Early bool `json:"early,omitempty"`
	// Checked is the definition of the table that the rows were checked against.
	Checked string `json:"checked"`
}

// target is the table's name.
func (d *unitData) target() tableName { return tableName{d.Schema, d.Table} }

// layoutKey is all that decides a layout, with the table and the rows' schema.
func (d *unitData) layoutKey() string {
	return fmt.Sprintf("%q", append([]string{d.Schema, d.Table, d.Delete}, d.Key...))
}

// newLayout matches a schema with the table.
func newLayout(t *table, schema *record.Schema, d *unitData) (*layout, error) {
	out := &layout{table: t, key: d.Key, deleteCol: -1, direct: len(d.Key) == 0}
	var names []string
	for i := range schema.Fields {
		f := &schema.Fields[i]
		if f.Name == d.Delete {
			out.deleteCol = i
			if f.Type.Kind == record.Bool || t.column(f.Name) == nil {
				continue
			}
		}
		c := t.column(f.Name)
		switch {
		case c == nil || c.always:
			return nil, fmt.Errorf("table %s has no column %s that can be written", t.name, identifier(f.Name))
		case c.shape == nil:
			return nil, fmt.Errorf("column %s: %w", identifier(f.Name), c.shapeText)
		}
		l, err := newCell(c.shape, &f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", identifier(f.Name), err)
		}
		inKey := slices.Contains(d.Key, f.Name)
		l.name, l.notNull = f.Name, c.notNull || inKey
		out.cells = append(out.cells, placed{cell: *l, col: i, inKey: inKey, to: c})
		out.direct = out.direct && c.shape.form != formText
		names = append(names, f.Name)
	}
	for _, k := range d.Key {
		if !slices.Contains(names, k) {
			return nil, fmt.Errorf("the rows have no column %s, which is in the key", identifier(k))
		}
	}
	if d.Delete != "" && out.deleteCol < 0 {
		return nil, fmt.Errorf("the rows have no column %s, which says which rows delete", identifier(d.Delete))
	}
	if missing := t.missing(names); len(missing) > 0 {
		return nil, fmt.Errorf("table %s takes no null in %s, which has no default and is not written", t.name, identifiers(missing))
	}
	return out, nil
}

// deletes returns which rows of a batch delete.
func (y *layout) deletes(b *record.Batch) func(row int) bool {
	if y.deleteCol < 0 {
		return func(int) bool { return false }
	}
	c := &b.Cols[y.deleteCol]
	if c.Type.Kind == record.Bool {
		return func(row int) bool { return !c.IsNull(row) && c.Bool(row) }
	}
	return c.IsNull
}

// names lists the table's columns that are written.
func (y *layout) names() []string {
	names := make([]string, len(y.cells))
	for i := range y.cells {
		names[i] = y.cells[i].name
	}
	return names
}

// The beginning and the end of the binary format of COPY.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// appendRow writes a row as a tuple. In a temporary table two more columns follow: its number in the unit, and whether it
// deletes.
func (y *layout) appendRow(dst []byte, b *record.Batch, row int, number int64, deletes bool) []byte { //nolint:revive // the flag is a value of the row
	const extra = 2
	fields := len(y.cells)
	if !y.direct {
		fields += extra
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(fields))
	for i := range y.cells {
		l := &y.cells[i]
		if deletes && !l.inKey {
			dst = appendNull(dst)
			continue
		}
		dst = l.append(dst, &b.Cols[l.col], row)
	}
	if y.direct {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, 8)
	dst = binary.BigEndian.AppendUint64(dst, uint64(number))
	dst = binary.BigEndian.AppendUint32(dst, 1)
	if deletes {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// stream makes rows of a unit readable as COPY's binary format. Its error, unlike that which the server reports for it, has a kind.
type stream struct {
	pipe *io.PipeReader
	done chan struct{}
	err  error
}

// open starts reading segments. close must be called.
func (y *layout) open(ctx context.Context, r *reader, s span) *stream {
	in, out := io.Pipe()
	st := &stream{pipe: in, done: make(chan struct{})}
	go func() {
		defer close(st.done)
		st.err = y.write(ctx, out, r, s)
		_ = out.CloseWithError(st.err) // it returns none
	}()
	return st
}

// close ends the reading and returns why it failed, nil when it did not or was only ended early.
func (s *stream) close() error {
	_ = s.pipe.Close() //nolint:errcheck // it returns none
	<-s.done
	if s.err == io.ErrClosedPipe { //nolint:errorlint // the pipe returns it as it is
		return nil
	}
	return s.err
}

// chunkBytes is how much is encoded before it is sent.
const chunkBytes = 128 << 10

func (y *layout) write(ctx context.Context, out io.Writer, r *reader, s span) error {
	buf := append(make([]byte, 0, chunkBytes), copyHeader...)
	var schema *record.Schema
	err := r.each(ctx, s, func(b *record.Batch, first int64, from, to int) error {
		if schema == nil {
			schema = b.Schema
		} else if !sameSchema(schema, b.Schema) {
			return fmt.Errorf("the segments of the unit differ in their columns")
		}
		deletes := y.deletes(b)
		for row := from; row < to; row++ {
			buf = y.appendRow(buf, b, row, first+int64(row), deletes(row))
			if len(buf) < chunkBytes {
				continue
			}
			if _, err := out.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = out.Write(append(buf, copyTrailer...))
	return err
}

// The temporary table's own names: its columns are numbered, so that no name of the target can be in the way.
const (
	tempTable  = "pg_temp.ingestd_rows"
	tempNumber = "ingestd_number"
	tempDelete = "ingestd_delete"
)

// copyStatement is the COPY of the rows.
func (y *layout) copyStatement() string {
	if y.direct {
		return "COPY " + y.table.name.String() + " (" + identifiers(y.names()) + ") FROM STDIN (FORMAT binary)"
	}
	return "COPY " + tempTable + " FROM STDIN (FORMAT binary)"
}

// createTemp makes the temporary table of a transaction.
func (y *layout) createTemp() string {
	var b strings.Builder
	b.WriteString("CREATE TEMPORARY TABLE ingestd_rows (")
	for i := range y.cells {
		fmt.Fprintf(&b, "c%d %s, ", i, y.cells[i].to.wireType)
	}
	b.WriteString(tempNumber + " bigint, " + tempDelete + " boolean) ON COMMIT DROP")
	return b.String()
}

// merge are the statements that bring the temporary table's rows of a span into the table, in order. Of a key the last row of the
// whole unit counts.
func (y *layout) merge(s span) []string {
	between := fmt.Sprintf("%s >= %d AND %s < %d", tempNumber, s.from, tempNumber, s.to)
	into := "INSERT INTO " + y.table.name.String() + " (" + identifiers(y.names()) + ") SELECT "
	var list, keys []string
	for i := range y.cells {
		list = append(list, y.value(i))
		if y.cells[i].inKey {
			keys = append(keys, y.value(i))
		}
	}
	if len(keys) == 0 {
		return []string{into + strings.Join(list, ", ") + " FROM " + tempTable + " WHERE " + between + " ORDER BY " + tempNumber}
	}
	// The last row of a key counts. Rows are locked in order of the key, as every other run and pipeline locks them.
	order := strings.Join(keys, ", ")
	last := "(SELECT * FROM (SELECT DISTINCT ON (" + order + ") * FROM " + tempTable + " ORDER BY " + order + ", " + tempNumber + " DESC) AS a WHERE " + between + ") AS l"
	upsert := into + strings.Join(list, ", ") + " FROM " + last + " WHERE NOT " + tempDelete + " ORDER BY " + order + " ON CONFLICT (" + identifiers(y.key) + ") " + y.conflict()
	if y.deleteCol < 0 {
		return []string{upsert}
	}
	return append(y.mergeDeletes(last), upsert)
}

// value is a column of the temporary table as the target's type.
func (y *layout) value(i int) string {
	name := fmt.Sprintf("c%d", i)
	if y.cells[i].to.shape.form == formText {
		return name + "::" + y.cells[i].to.typ
	}
	return name
}

// conflict is what becomes of a row that is there already.
func (y *layout) conflict() string {
	var set []string
	for i := range y.cells {
		if l := &y.cells[i]; !l.inKey {
			set = append(set, identifier(l.name)+" = EXCLUDED."+identifier(l.name))
		}
	}
	if len(set) == 0 {
		return "DO NOTHING"
	}
	return "DO UPDATE SET " + strings.Join(set, ", ")
}

// mergeDeletes locks the rows to be deleted in order of the key, and deletes them by a second statement, which sees what was
// changed while the first waited.
func (y *layout) mergeDeletes(last string) []string {
	var on, order []string
	for i := range y.cells {
		if l := &y.cells[i]; l.inKey {
			on = append(on, "t."+identifier(l.name)+" = "+strings.Replace(y.value(i), "c", "l.c", 1))
			order = append(order, "t."+identifier(l.name))
		}
	}
	where := strings.Join(on, " AND ") + " AND l." + tempDelete
	return []string{
		"SELECT FROM " + y.table.name.String() + " AS t, " + last + " WHERE " + where + " ORDER BY " + strings.Join(order, ", ") + " FOR UPDATE OF t",
		"DELETE FROM " + y.table.name.String() + " AS t USING " + last + " WHERE " + where,
	}
}
