//go:build integration

package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// change is a row of a table with the key (shard, id); a nil body is null.
type change struct {
	shard, id int64
	body      any
	gone      bool
}

// changes makes rows of changes.
func changes(schema *record.Schema, list ...change) *record.Batch {
	b := record.NewBatch(schema)
	b.Meta.Split = "t/0"
	for i, c := range list {
		b.Cols[0].AppendInt(c.shard)
		b.Cols[1].AppendInt(c.id)
		if c.body == nil {
			b.Cols[2].AppendNull()
		} else {
			b.Cols[2].AppendString(fmt.Sprint(c.body))
		}
		if len(b.Cols) > 3 {
			b.Cols[3].AppendBool(c.gone)
		}
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Value: fmt.Append(nil, "raw ", i)})
	}
	return b
}

// The last row of a key counts, within a checkpoint and from one to the next; what is not written keeps its value.
func TestPostgres_upsertKeepsTheLastRow(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, `CREATE TABLE last_row (id int4 NOT NULL, shard int8 NOT NULL, body text, kept int DEFAULT 5, UNIQUE (shard, id))`,
		"INSERT INTO last_row VALUES (1, 1, 'before', 9)")
	set := s.settings("last_row")
	set.Mode, set.Key, set.SegmentRows = "upsert", []string{"shard", "id"}, 2
	r := openPostgres(t, set, pgOpen{id: pgIdentity("last_row"), store: newMemorySegments(), lease: 1})
	schema := typed(t, "shard int64", "id int32", "body nullable(string)")
	r.write(changes(schema, change{1, 1, "a", false}, change{1, 2, "b", false}, change{2, 1, "c", false}, change{1, 1, "d", false}, change{1, 2, nil, false}))
	r.commit(r.cut()...)
	want := "1|1|d|9,1|2|∅|5,2|1|c|5"
	if got := strings.Join(s.text(t, "SELECT shard, id, body, kept FROM last_row ORDER BY 1, 2"), ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.write(changes(schema, change{2, 1, "e", false}))
	r.commit(r.cut()...)
	if got := s.one(t, "SELECT body FROM last_row WHERE shard = 2"); got != "e" {
		t.Errorf("got %s", got)
	}
}

// delete_column of booleans need not be a column of the table; one of another type deletes by null, as a tombstone's value.
func TestPostgres_upsertDeletes(t *testing.T) {
	s := postgresServer(t)
	for _, c := range []struct {
		column  string
		columns string
		rows    []change
	}{
		{"gone", "shard int8, id int8, body text NOT NULL", []change{{1, 1, nil, true}, {1, 2, "x", false}, {1, 3, nil, true}, {1, 3, "back", false}, {1, 4, "y", false}, {1, 4, nil, true}, {7, 7, nil, true}}},
		{"body", "shard int8, id int8, body text NOT NULL", []change{{1, 1, nil, false}, {1, 2, "x", false}, {1, 3, nil, false}, {1, 3, "back", false}, {1, 4, "y", false}, {1, 4, nil, false}, {7, 7, nil, false}}},
	} {
		t.Run(c.column, func(t *testing.T) {
			table := "deletes_by_" + c.column
			s.exec(t, "CREATE TABLE "+table+" ("+c.columns+", PRIMARY KEY (shard, id))",
				"INSERT INTO "+table+" SELECT 1, n, 'old' FROM generate_series(1, 5) AS n")
			set := s.settings(table)
			set.Mode, set.DeleteColumn = "upsert", c.column
			p := openPostgres(t, set, pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			fields := []string{"shard int64", "id int64", "body nullable(string)"}
			if c.column == "gone" {
				fields = append(fields, "gone bool")
			}
			schema := typed(t, fields...)
			if refused := p.write(changes(schema, c.rows...)); len(refused) > 0 {
				t.Fatal(refused)
			}
			p.commit(p.cut()...)
			want := "2|x,3|back,5|old"
			if got := strings.Join(s.text(t, "SELECT id, body FROM "+table+" ORDER BY id"), ","); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if c.column == "gone" { // a row that does not delete has all that the table wants
				if refused := p.write(changes(schema, change{1, 9, nil, false}, change{1, 2, "z", false})); len(refused) != 1 || refused[0].Row != 0 {
					t.Errorf("refused are %v, want row 0", refused)
				}
			}
		})
	}
}

// Two pipelines that write the same keys in opposite orders wait for each other, or are begun anew; none loses a commit.
func TestPostgres_upsertsOfTwoPipelines(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE shared_keys (shard int8, id int8, body text, PRIMARY KEY (shard, id))")
	const keys, rounds = 300, 20
	var work sync.WaitGroup
	for _, name := range []string{"ascending", "descending"} {
		set := s.settings("shared_keys")
		set.Mode, set.DeleteColumn = "upsert", "gone"
		r := openPostgres(t, set, pgOpen{id: pgIdentity(name), store: newMemorySegments(), lease: 1})
		schema := typed(t, "shard int64", "id int64", "body nullable(string)", "gone bool")
		var units []sink.Committable
		for round := range rounds {
			var list []change
			for i := range int64(keys) {
				id := i
				if name == "descending" {
					id = keys - 1 - i
				}
				list = append(list, change{1, id, fmt.Sprint(name, " ", round), round < rounds-1 && (id+int64(round))%7 == 0})
			}
			r.write(changes(schema, list...))
			units = append(units, r.cut()...)
		}
		work.Go(func() {
			for _, u := range units {
				if o, _, err := r.committer.Commit(context.Background(), u); o != sink.Committed {
					t.Errorf("%s: got %v, %v", name, o, err)
					return
				}
			}
		})
	}
	work.Wait()
	if got := s.one(t, "SELECT count(*), count(DISTINCT body) FROM shared_keys WHERE body LIKE '% 19'"); got != "300|1" {
		t.Errorf("got %s, want the 300 rows of whoever came last", got)
	}
}
