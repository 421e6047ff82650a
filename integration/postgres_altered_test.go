//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// settle commits units, and what takes their place, and returns the offsets of the rows that were refused.
func (r *pgRun) settle(units ...sink.Committable) []int64 {
	r.t.Helper()
	ctx := context.Background()
	var refused []int64
	for _, u := range units {
		o, rejected, err := r.committer.Commit(ctx, u)
		for o == sink.Rejected { // of a key whose last row is refused, the one before is judged next
			for _, row := range rejected {
				if row.Letter.Reason == "" || string(row.Letter.Value) != fmt.Sprint("raw ", row.Letter.Offset) {
					r.t.Errorf("the letter %+v lacks its reason or its record", row.Letter)
				}
				refused = append(refused, int64(row.Letter.Offset))
			}
			if u, err = r.committer.Replace(ctx, u, rejected, u.Unit+1); err != nil {
				r.t.Fatal(err)
			}
			o, rejected, err = r.committer.Commit(ctx, u)
		}
		if o != sink.Committed {
			r.t.Fatalf("got %v (%v), want committed", o, err)
		}
	}
	slices.Sort(refused)
	return refused
}

// Between the preparing of rows and their commit a person may change the table. The binary format of COPY has no types: an integer's
// bytes are taken for a float's, and a number that is too wide would be cut.
func TestPostgres_tableIsAlteredBeforeTheCommit(t *testing.T) {
	s := postgresServer(t)
	for _, c := range []struct {
		name, columns, alter string
		refused              []int64
		want                 string
		problem              string
	}{
		{
			name: "another type of the same width", columns: "id int8 UNIQUE, body text", alter: "ALTER COLUMN id TYPE float8",
			want: "0|row 0,1|row 1,70000|row 70000",
		},
		{
			name: "a narrower type", columns: "id int8 UNIQUE, body text", alter: "ALTER COLUMN id TYPE int2",
			refused: []int64{70000}, want: "0|row 0,1|row 1",
		},
		{
			name: "a shorter text", columns: "id int8 UNIQUE, body text", alter: "ALTER COLUMN body TYPE varchar(5)",
			refused: []int64{70000}, want: "0|row 0,1|row 1",
		},
		{
			name: "a column more", columns: "id int8 UNIQUE, body text", alter: "ADD COLUMN more int DEFAULT 7",
			want: "0|row 0|7,1|row 1|7,70000|row 70000|7",
		},
		{
			name: "a column less", columns: "id int8 UNIQUE, body text", alter: "DROP COLUMN body", problem: "has no column \"body\"",
		},
		{
			name: "a type that can't be had without loss", columns: "id int8 UNIQUE, body text", alter: "ALTER COLUMN id TYPE bool USING true", problem: "can't be written as bool",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := "altered_" + strings.ReplaceAll(strings.ReplaceAll(c.name, " ", "_"), "'", "")
			s.exec(t, "CREATE TABLE "+table+" ("+c.columns+")")
			r := openPostgres(t, s.settings(table), pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			schema := typed(t, "id int32", "body string")
			r.write(numbered(schema, 0, 2))
			r.commit(r.cut()...) // the layout is known now
			s.exec(t, "TRUNCATE "+table)
			r.write(numbered(schema, 0, 2))
			r.write(numbered(schema, 70000, 1))
			units := r.cut()
			s.exec(t, "ALTER TABLE "+table+" "+c.alter)
			if c.problem != "" {
				o, _, err := r.committer.Commit(context.Background(), units[0])
				if o != sink.Retry || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.problem) {
					t.Fatalf("got %v, %v, want %q", o, err, c.problem)
				}
				return
			}
			if refused := r.settle(units...); !slices.Equal(refused, c.refused) {
				t.Errorf("refused are %v, want %v", refused, c.refused)
			}
			if got := strings.Join(s.text(t, "SELECT * FROM "+table+" ORDER BY id"), ","); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Rows of one unit meet each other: of two with one key the first stays, one that refers to another of the unit is taken wherever that
// is, and goes with it when that is refused; constraints that wait for COMMIT name their row too.
func TestPostgres_refusedRowsOfOneUnit(t *testing.T) {
	s := postgresServer(t)
	row := func(b *record.Batch, id, parent int64, body string) {
		b.Cols[0].AppendInt(id)
		b.Cols[1].AppendInt(parent)
		b.Cols[2].AppendString(body)
		offset := int64(len(b.Meta.Offsets))
		b.AppendMeta(record.RowMeta{Offset: record.Offset(offset), Value: fmt.Append(nil, "raw ", offset)})
	}
	for _, c := range []struct {
		name, mode, columns string
		refused             []int64
		want                string
	}{
		{
			name: "appended", mode: "append", columns: "id int8 PRIMARY KEY, parent int8 REFERENCES %s (id), body text CHECK (body <> 'bad')",
			refused: []int64{2, 3, 5}, want: "1|9|a,4|1|d,9|9|g",
		},
		{
			name: "appended, judged at COMMIT", mode: "append", columns: "id int8 PRIMARY KEY, parent int8 REFERENCES %s (id) DEFERRABLE INITIALLY DEFERRED, body text CHECK (body <> 'bad')",
			refused: []int64{2, 3, 5}, want: "1|9|a,4|1|d,9|9|g",
		},
		{
			name: "merged", mode: "upsert", columns: "id int8 PRIMARY KEY, parent int8 REFERENCES %s (id), body text CHECK (body <> 'bad')",
			refused: []int64{2, 3}, want: "1|9|a,4|1|f,9|9|g",
		},
		{
			name: "over a temporary table", mode: "append", columns: "id int8 PRIMARY KEY, parent int8 REFERENCES %s (id), body text CHECK (body <> 'bad'), span int4range DEFAULT '[1,2)'",
			refused: []int64{2, 3, 5}, want: "1|9|a,4|1|d,9|9|g",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := "unit_" + strings.NewReplacer(" ", "_", ",", "").Replace(strings.ToLower(c.name))
			s.exec(t, fmt.Sprintf("CREATE TABLE %s ("+c.columns+")", table, table))
			set := s.settings(table)
			set.Mode, set.SegmentRows = c.mode, 2
			fields := []string{"id int64", "parent int64", "body string"}
			if strings.Contains(c.columns, "span") {
				fields = append(fields, "span string")
			}
			r := openPostgres(t, set, pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			b := record.NewBatch(typed(t, fields...))
			b.Meta.Split = "t/0"
			row(b, 1, 9, "a")   // 0: refers to a later row
			row(b, 4, 1, "d")   // 1
			row(b, 2, 1, "bad") // 2: refused
			row(b, 3, 2, "c")   // 3: refers to one that is refused
			row(b, 9, 9, "g")   // 4
			row(b, 4, 1, "f")   // 5: the second of its key
			if len(fields) > 3 {
				for range b.Rows {
					b.Cols[3].AppendString("[5,6)")
				}
			}
			if refused := r.write(b); len(refused) > 0 {
				t.Fatal(refused)
			}
			if refused := r.settle(r.cut()...); !slices.Equal(refused, c.refused) {
				t.Errorf("refused are %v, want %v", refused, c.refused)
			}
			if got := strings.Join(s.text(t, "SELECT id, parent, body FROM "+table+" ORDER BY id"), ","); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
