//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	pgsink "github.com/ingestd/ingestd/sink/postgres"
)

// Refused rows are found among the others, whatever refuses them, and the rest is committed as a unit of its own.
func TestPostgres_refusedRowsAreFound(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE rej_parent (id int8 PRIMARY KEY)", "INSERT INTO rej_parent SELECT generate_series(0, 999)",
		"CREATE FUNCTION rej_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.body = 'row 7' THEN RAISE EXCEPTION 'seven'; END IF; RETURN NEW; END $$")
	cases := []struct {
		name, create, after string
		bad                 []int64
		reason              string
	}{
		{"check", "(id int8, body text CHECK (body NOT IN ('row 0', 'row 499', 'row 998', 'row 999')))", "", []int64{0, 499, 998, 999}, "check constraint"},
		{"unique", "(id int8 UNIQUE, body text)", "INSERT INTO %[1]s VALUES (3, 'old'), (500, 'old')", []int64{3, 500}, "duplicate key"},
		{"deferred", "(id int8 REFERENCES rej_parent DEFERRABLE INITIALLY DEFERRED, body text)", "DELETE FROM rej_parent WHERE id IN (10, 11)", []int64{10, 11}, "foreign key"},
		{"trigger", "(id int8, body text)", "CREATE TRIGGER x BEFORE INSERT ON %[1]s FOR EACH ROW EXECUTE FUNCTION rej_trigger()", []int64{7}, "seven"},
		{"partition", "(id int8, body text) PARTITION BY RANGE (id)", "CREATE TABLE rej_part PARTITION OF %[1]s FOR VALUES FROM (0) TO (995)", []int64{995, 996, 997, 998, 999}, "no partition"},
		{"cast", "(id int8, body int4range)", "", nil, "malformed range"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := "rej_" + c.name
			s.exec(t, "CREATE TABLE "+table+" "+c.create)
			if c.after != "" {
				s.exec(t, strings.ReplaceAll(c.after, "%[1]s", table))
			}
			before := s.one(t, "SELECT count(*) FROM "+table)
			store := newMemorySegments()
			r := openPostgres(t, s.settings(table), pgOpen{id: pgIdentity(table), store: store, lease: 1})
			b := numbered(typed(t, "id int64", "body string"), 0, 1000)
			bad := c.bad
			if c.name == "cast" {
				b, bad = ranges(t), []int64{1, 3}
			}
			if refused := r.write(b); len(refused) > 0 {
				t.Fatalf("refused by Write: %+v", refused)
			}
			u := r.cut()[0]
			o, rejected, err := r.committer.Commit(context.Background(), u)
			if o != sink.Rejected {
				t.Fatalf("got %s (%v), want rejected", o, err)
			}
			var rows []int64
			for _, x := range rejected {
				rows = append(rows, x.Row)
				if int64(x.Letter.Offset) != x.Row || !strings.Contains(x.Letter.Reason, c.reason) || x.Letter.Stage != "sink:sink" || string(x.Letter.Value) != fmt.Sprint("raw ", x.Row) {
					t.Errorf("letter of row %d: %+v", x.Row, x.Letter)
				}
			}
			if !slices.Equal(rows, bad) {
				t.Fatalf("got rows %v, want %v", rows, bad)
			}
			if got := s.one(t, "SELECT count(*) FROM "+table); got != before {
				t.Fatalf("%s rows are there after the refusal, before %s", got, before)
			}
			by, err := r.committer.Replace(context.Background(), u, rejected, u.Unit+1)
			if err != nil {
				t.Fatal(err)
			}
			r.commit(by)
			if got, want := s.one(t, "SELECT count(*) FROM "+table+" WHERE body::text <> 'old'"), fmt.Sprint(b.Rows-len(bad)); got != want {
				t.Errorf("got %s rows, want %s", got, want)
			}
		})
	}
}

func ranges(t *testing.T) *record.Batch {
	t.Helper()
	b := record.NewBatch(typed(t, "id int64", "body string"))
	for i, text := range []string{"[1,2)", "x", "empty", "[1", "(,)"} {
		b.Cols[0].AppendInt(int64(i))
		b.Cols[1].AppendString(text)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Value: fmt.Append(nil, "raw ", i)})
	}
	return b
}

// The last row of a key wins within a checkpoint and over checkpoints, and a row that deletes leaves nothing.
func TestPostgres_upsertsAndDeletes(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE up (a int4, b text, body text NOT NULL, PRIMARY KEY (a, b))")
	settings := s.settings("up")
	settings.Mode, settings.DeleteColumn = "upsert", "gone"
	r := openPostgres(t, settings, pgOpen{id: pgIdentity("up"), store: newMemorySegments(), lease: 1})
	schema := typed(t, "a int32", "b string", "body nullable(string)", "gone nullable(bool)")
	write := func(a int64, b, body string, gone int64) int {
		batch := record.NewBatch(schema)
		batch.Cols[0].AppendInt(a)
		batch.Cols[1].AppendString(b)
		if body == "" {
			batch.Cols[2].AppendNull()
		} else {
			batch.Cols[2].AppendString(body)
		}
		batch.Cols[3].AppendInt(gone)
		batch.AppendMeta(record.RowMeta{})
		return len(r.write(batch))
	}
	check := func(want ...string) {
		t.Helper()
		if got := s.text(t, "SELECT a, b, body FROM up ORDER BY a, b"); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	write(2, "x", "first", 0)
	write(1, "x", "one", 0)
	write(2, "x", "second", 0)
	write(3, "x", "never", 0)
	write(3, "x", "", 1)
	if n := write(4, "x", "", 0); n != 1 {
		t.Errorf("a null for a column that takes none is not refused")
	}
	r.commit(r.cut()...)
	check("1|x|one", "2|x|second")
	write(1, "x", "", 1)
	write(1, "x", "again", 0)
	write(2, "x", "", 1)
	write(9, "x", "", 1)
	u := r.cut()
	r.commit(u...)
	check("1|x|again")
	r.commit(u...)
	check("1|x|again")
}

// Another client holds a row and wants ours: the server ends one of both, and the commit begins anew by itself.
func TestPostgres_deadlockAndSerializationFailureAreRepeated(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE dead (id int8 PRIMARY KEY, body text)", "INSERT INTO dead SELECT g, 'old' FROM generate_series(0, 99) g", "CREATE SEQUENCE fails",
		"CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 50 AND nextval('fails') <= 2 THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$",
		"ALTER SYSTEM SET deadlock_timeout = '100ms'", "SELECT pg_reload_conf()")
	settings := s.settings("dead")
	settings.Mode = "upsert"
	r := openPostgres(t, settings, pgOpen{id: pgIdentity("dead"), store: newMemorySegments(), lease: 1})
	schema := typed(t, "id int64", "body string")
	r.write(numbered(schema, 0, 100))
	u := r.cut()[0]
	other := s.connect(t)
	defer other.Close(context.Background())
	if err := other.Exec(context.Background(), "BEGIN; SET LOCAL deadlock_timeout = '1h'; UPDATE dead SET body = 'other' WHERE id = 60").Close(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for s.one(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'ingestd % lease 1'") == "0" {
			waitABit()
		}
		done <- other.Exec(context.Background(), "UPDATE dead SET body = 'other' WHERE id = 10; COMMIT").Close()
	}()
	before := s.one(t, "SELECT deadlocks FROM pg_stat_database WHERE datname = 'db'")
	o, _, err := r.committer.Commit(context.Background(), u)
	if o != sink.Committed {
		t.Fatalf("got %s (%v), want committed", o, err)
	}
	if err := <-done; err != nil {
		t.Fatalf("the other client was the victim, so nothing was repeated: %v", err)
	}
	if got := s.one(t, "SELECT count(*) FROM dead WHERE body = 'row ' || id"); got != "100" {
		t.Errorf("got %s rows of ours, want 100 (deadlocks before: %s)", got, before)
	}
	s.exec(t, "CREATE TRIGGER fail BEFORE INSERT ON dead FOR EACH ROW EXECUTE FUNCTION fail_twice()")
	r.write(numbered(schema, 0, 100))
	if o, _, err := r.committer.Commit(context.Background(), r.cut()[0]); o != sink.Committed {
		t.Fatalf("got %s (%v), want committed", o, err)
	}
	if got := s.one(t, "SELECT last_value FROM fails"); got != "3" {
		t.Errorf("the transaction was tried %s times, want 3", got)
	}
}

// cutting passes bytes between client and server, and cuts the connection in place of the answer to the statement.
func cutting(statement string, cut *atomic.Int64) pgsink.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		return &cutConn{Conn: c, statement: []byte(statement), cut: cut}, err
	}
}

type cutConn struct {
	net.Conn
	statement []byte
	cut       *atomic.Int64 // how often it is still to be done
	seen      atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, c.statement) && c.cut.Add(-1) >= 0 {
		c.seen.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.seen.Load() && err == nil {
		c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// The answer to COMMIT is lost: the ledger tells that it took effect, and nothing is doubled.
func TestPostgres_lostReplyToCommitIsResolvedByTheLedger(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE lost (id int8, body text)")
	var cut atomic.Int64
	r := openPostgres(t, s.settings("lost"), pgOpen{id: pgIdentity("lost"), store: newMemorySegments(), lease: 1, dial: cutting("COMMIT\x00", &cut)})
	schema := typed(t, "id int64", "body string")
	for n := range 3 {
		r.write(numbered(schema, n*100, 100))
		u := r.cut()
		cut.Store(int64(n))
		r.commit(u...)
		if left := cut.Load(); left > 0 {
			t.Errorf("%d answers were not cut", left)
		}
	}
	if got := s.one(t, "SELECT count(*), count(DISTINCT id) FROM lost"); got != "300|300" {
		t.Errorf("got %s, want 300|300", got)
	}
}

// A server that went back to before a commit that it has told of is found, and nothing goes on silently.
func TestPostgres_aServerThatWentBackIsLoud(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE back (id int8, body text)")
	store, schema := newMemorySegments(), typed(t, "id int64", "body string")
	r := openPostgres(t, s.settings("back"), pgOpen{id: pgIdentity("back"), store: store, lease: 1})
	r.write(numbered(schema, 0, 10))
	r.commit(r.cut()...)
	s.exec(t, "CREATE TABLE back_ledger AS SELECT * FROM ingestd_ledger WHERE pipeline = 'back'")
	r.write(numbered(schema, 10, 10))
	r.commit(r.cut()...)
	s.exec(t, "DELETE FROM ingestd_ledger WHERE pipeline = 'back'", "INSERT INTO ingestd_ledger SELECT * FROM back_ledger", "DELETE FROM back WHERE id >= 10")
	r.write(numbered(schema, 20, 10))
	o, _, err := r.committer.Commit(context.Background(), r.cut()[0])
	if o == sink.Committed || err == nil || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("got %s (%v), want an error that the server has forgotten commits", o, err)
	}
	if got := s.one(t, "SELECT count(*) FROM back WHERE id >= 20"); got != "0" {
		t.Errorf("%s rows went on", got)
	}
}

// A missing table, a right that is taken away and a server that takes no writes are named, and mended without a new run.
func TestPostgres_whatIsMissingIsNamedAndMended(t *testing.T) {
	s := startPostgres(t)
	t.Cleanup(func() { s.terminate(t) })
	s.exec(t, "CREATE ROLE app LOGIN PASSWORD 'app'", "CREATE TABLE mend (id int8, body text)")
	settings := s.settings("mend")
	settings.User, settings.Password = "app", config.NewSecret("app")
	p, err := pgsink.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Inspect(context.Background(), pgIdentity("mend"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range in.Findings { // the remedies are statements
		if f.Level >= sink.Forbids && f.Remedy != "" {
			s.exec(t, f.Remedy)
		}
	}
	if in, err = p.Inspect(context.Background(), pgIdentity("mend")); err != nil || slices.ContainsFunc(in.Findings, func(f sink.Finding) bool { return f.Level >= sink.Forbids }) {
		t.Fatalf("after the remedies: %+v, %v", in.Findings, err)
	}
	r := openPostgres(t, settings, pgOpen{id: pgIdentity("mend"), store: newMemorySegments(), lease: 1})
	schema := typed(t, "id int64", "body string")
	for i, broken := range []struct{ breaks, mends string }{
		{"REVOKE INSERT ON mend FROM app", "GRANT INSERT ON mend TO app"},
		{"ALTER TABLE mend RENAME TO away", "ALTER TABLE away RENAME TO mend"},
		{"ALTER TABLE ingestd_ledger RENAME TO ledger_away", "ALTER TABLE ledger_away RENAME TO ingestd_ledger"},
	} {
		r.write(numbered(schema, i*10, 10))
		u := r.cut()[0]
		s.exec(t, broken.breaks)
		o, _, err := r.committer.Commit(context.Background(), u)
		if o == sink.Committed || o == sink.Lost || o == sink.Rejected || err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got %s (%v), want misconfigured", broken.breaks, o, err)
		}
		s.exec(t, broken.mends)
		r.commit(u)
	}
	r.write(numbered(schema, 100, 10))
	u := r.cut()[0]
	s.exec(t, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
	if o, _, err := r.committer.Commit(context.Background(), u); o == sink.Committed || err == nil {
		t.Errorf("a server that takes no writes: got %s (%v)", o, err)
	}
	s.exec(t, "ALTER SYSTEM RESET default_transaction_read_only")
	s.exec(t, "SELECT pg_reload_conf()")
	r.commit(u)
	if got := s.one(t, "SELECT count(*), count(DISTINCT id) FROM mend"); got != "40|40" {
		t.Errorf("got %s rows, want 40|40", got)
	}
}
