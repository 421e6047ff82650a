//go:build integration

package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/sink"
	pgsink "github.com/ingestd/ingestd/sink/postgres"
)

// inspectPG looks at a target.
func inspectPG(t *testing.T, s pgsink.Settings, pipeline string) sink.Inspection {
	t.Helper()
	p, err := pgsink.New(s)
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Inspect(context.Background(), pgIdentity(pipeline))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Each table has one thing that bears on the guarantee; it is found, at its level, and where there is a remedy it mends it.
func TestPostgres_findings(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE ROLE looker LOGIN PASSWORD 'looker'", "CREATE EXTENSION IF NOT EXISTS file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
		"CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
	app := func(set *pgsink.Settings) { set.User, set.Password = "looker", config.NewSecret("looker") }
	upsert := func(set *pgsink.Settings) { set.Mode, set.Key = "upsert", []string{"id"} }
	for _, c := range []struct {
		table  string
		sql    []string
		change func(*pgsink.Settings)
		level  sink.Level
		want   string
		mends  bool
	}{
		{"f_none", nil, nil, sink.Blocks, "does not exist", false},
		{"f_unlogged", []string{"CREATE UNLOGGED TABLE f_unlogged (id int8)"}, nil, sink.Forbids, "not logged", true},
		{"f_foreign", []string{"CREATE FOREIGN TABLE f_foreign (id int8) SERVER files OPTIONS (filename '/dev/null')"}, nil, sink.Forbids, "foreign table", false},
		{"f_view", []string{"CREATE VIEW f_view AS SELECT 1 AS id"}, nil, sink.Blocks, "view", false},
		{"f_parts", []string{"CREATE TABLE f_parts (id int8) PARTITION BY RANGE (id)", "CREATE UNLOGGED TABLE f_part1 PARTITION OF f_parts FOR VALUES FROM (0) TO (9)"}, nil, sink.Forbids, "partition f_part1 is not logged", true},
		{"f_fpart", []string{"CREATE TABLE f_fpart (id int8) PARTITION BY RANGE (id)", "CREATE FOREIGN TABLE f_part2 PARTITION OF f_fpart FOR VALUES FROM (0) TO (9) SERVER files OPTIONS (filename '/dev/null')"}, nil, sink.Forbids, "partition f_part2 is a foreign table", false},
		{"f_trigger", []string{"CREATE TABLE f_trigger (id int8)", "CREATE TRIGGER sieve BEFORE INSERT ON f_trigger FOR EACH ROW EXECUTE FUNCTION drops()"}, nil, sink.Weakens, "sieve", false},
		{"f_needs", []string{"CREATE TABLE f_needs (id int8, must int8 NOT NULL)"}, func(set *pgsink.Settings) { set.Columns = []string{"id"} }, sink.Blocks, `"must" takes no null`, false},
		{"f_gone", []string{"CREATE TABLE f_gone (id int8)"}, func(set *pgsink.Settings) { set.Columns = []string{"id", "other"} }, sink.Blocks, `no column "other"`, false},
		{"f_enum", []string{"CREATE TYPE no_mood AS ENUM ()", "CREATE TABLE f_enum (id int8, e no_mood)"}, nil, sink.Blocks, "no values", false},
		{"f_key", []string{"CREATE TABLE f_key (id int8, body text)"}, upsert, sink.Blocks, "no unique index", true},
		{"f_partial", []string{"CREATE TABLE f_partial (id int8, body text)", "CREATE UNIQUE INDEX ON f_partial (id) WHERE body > ''"}, upsert, sink.Blocks, "no unique index", true},
		{"f_right", []string{"CREATE TABLE f_right (id int8)"}, app, sink.Blocks, "lacks INSERT", true},
		{"f_secure", []string{"CREATE TABLE f_secure (id int8)", "ALTER TABLE f_secure ENABLE ROW LEVEL SECURITY", "GRANT ALL ON f_secure TO looker"}, app, sink.Blocks, "row security", true},
	} {
		t.Run(c.table, func(t *testing.T) {
			s.exec(t, c.sql...)
			set := s.settings(c.table)
			set.LedgerSchema = "public"
			if c.change != nil {
				c.change(&set)
			}
			find := func() *sink.Finding {
				for _, f := range inspectPG(t, set, "looks").Findings {
					if strings.Contains(f.Text, c.want) {
						return &f
					}
				}
				return nil
			}
			f := find()
			if f == nil || f.Level != c.level {
				t.Fatalf("got %+v, want %q at level %d", inspectPG(t, set, "looks").Findings, c.want, c.level)
			}
			if !c.mends {
				return
			}
			s.exec(t, f.Remedy)
			if f := find(); f != nil {
				t.Errorf("after its remedy: %+v", f)
			}
		})
	}
}

// A role's own default is overruled in each transaction, and said.
func TestPostgres_synchronousCommit(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE ROLE hasty LOGIN PASSWORD 'hasty'", "ALTER ROLE hasty SET synchronous_commit = off", "CREATE SCHEMA hasty AUTHORIZATION hasty",
		"CREATE TABLE hasty.t (id int8, body text)", "CREATE TABLE hasty.said (value text)", "GRANT INSERT ON hasty.t, hasty.said TO hasty",
		"CREATE FUNCTION hasty.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO hasty.said VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
		"CREATE TRIGGER tell AFTER INSERT ON hasty.t FOR EACH STATEMENT EXECUTE FUNCTION hasty.tell()")
	set := s.settings("t")
	set.Schema, set.User, set.Password = "hasty", "hasty", config.NewSecret("hasty")
	found := false
	for _, f := range inspectPG(t, set, "hasty").Findings {
		found = found || strings.Contains(f.Text, "synchronous_commit is off") && f.Level == sink.Note
	}
	if !found {
		t.Error("it is not said")
	}
	r := openPostgres(t, set, pgOpen{id: pgIdentity("hasty"), store: newMemorySegments(), lease: 1})
	r.write(numbered(typed(t, "id int64", "body string"), 0, 3))
	r.commit(r.cut()...)
	if got := s.one(t, "SELECT DISTINCT value FROM hasty.said"); got != "on" {
		t.Errorf("rows were written with synchronous_commit = %s", got)
	}
}

// The ledger of several tables tells them apart: a table that a pipeline never wrote to is fresh.
func TestPostgres_inspectTellsWhatWasWrittenTo(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE touched (id int8, body text)", "CREATE TABLE untouched (id int8, body text)")
	r := openPostgres(t, s.settings("touched"), pgOpen{id: pgIdentity("touching"), store: newMemorySegments(), lease: 1})
	if in := inspectPG(t, s.settings("touched"), "touching"); in.Owner == nil || in.Owner.Lease != 1 || !in.Untouched {
		t.Errorf("after the fence: %+v, untouched %t", in.Owner, in.Untouched)
	}
	r.write(numbered(typed(t, "id int64", "body string"), 0, 3))
	r.commit(r.cut()...)
	for table, want := range map[string]bool{"touched": false, "untouched": true} {
		if in := inspectPG(t, s.settings(table), "touching"); in.Owner == nil || in.Untouched != want {
			t.Errorf("%s: %+v, untouched %t", table, in.Owner, in.Untouched)
		}
	}
}

// A partitioned table takes rows by their partition, and refuses those that have none.
func TestPostgres_partitionedTable(t *testing.T) {
	s := postgresServer(t)
	for _, mode := range []string{"append", "upsert"} {
		t.Run(mode, func(t *testing.T) {
			table := "parts_" + mode
			s.exec(t, "CREATE TABLE "+table+" (id int8 PRIMARY KEY, body text) PARTITION BY RANGE (id)",
				"CREATE TABLE "+table+"_a PARTITION OF "+table+" FOR VALUES FROM (0) TO (50)", "CREATE TABLE "+table+"_b PARTITION OF "+table+" FOR VALUES FROM (50) TO (95)")
			set := s.settings(table)
			set.Mode, set.SegmentRows = mode, 30
			r := openPostgres(t, set, pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			r.write(numbered(typed(t, "id int64", "body string"), 0, 100))
			if refused := r.settle(r.cut()...); len(refused) != 5 || refused[0] != 95 || refused[4] != 99 {
				t.Errorf("refused are %v, want 95 to 99", refused)
			}
			if got := s.one(t, "SELECT (SELECT count(*) FROM "+table+"_a), (SELECT count(*) FROM "+table+"_b)"); got != "50|45" {
				t.Errorf("got %s rows, want 50|45", got)
			}
		})
	}
}
