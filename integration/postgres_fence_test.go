//go:build integration

package integration

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
	pgsink "github.com/ingestd/ingestd/sink/postgres"
)

// frozen stops a client at the first statement that it is told of, until it is thawed.
type frozen struct {
	statement []byte
	once      sync.Once
	held      chan struct{}
	thaw      chan struct{}
}

func newFrozen(statement string) *frozen {
	return &frozen{statement: []byte(statement), held: make(chan struct{}), thaw: make(chan struct{})}
}

func (f *frozen) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	return &frozenConn{Conn: c, frozen: f}, err
}

type frozenConn struct {
	net.Conn
	frozen *frozen
}

func (c *frozenConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, c.frozen.statement) {
		c.frozen.once.Do(func() {
			close(c.frozen.held)
			<-c.frozen.thaw
		})
	}
	return c.Conn.Write(b)
}

type committed struct {
	outcome sink.Outcome
	err     error
}

// stands commits a unit of a run that stands still before its COMMIT, with all rows written and the ledger's row locked.
func (r *pgRun) stands(f *frozen, u sink.Committable) chan committed {
	r.t.Helper()
	answer := make(chan committed, 1)
	go func() {
		o, _, err := r.committer.Commit(context.Background(), u)
		answer <- committed{o, err}
	}()
	select {
	case <-f.held:
	case a := <-answer:
		r.t.Fatalf("the commit did not come to the statement: %v, %v", a.outcome, a.err)
	}
	return answer
}

// A daemon that stands still with everything written and the ledger's row locked loses its session to its successor, which commits
// the unit. When it wakes up it learns that it is fenced.
func TestPostgres_zombieThatHoldsTheLedgerIsEnded(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE standing (id int8, body text)")
	store, schema, f := newMemorySegments(), typed(t, "id int64", "body string"), newFrozen("COMMIT\x00")
	set := s.settings("standing")
	set.IdleTimeout = time.Hour // it is not the server that ends it
	f.once.Do(func() {})        // not in Fence
	old := openPostgres(t, set, pgOpen{id: pgIdentity("standing"), store: store, lease: 1, dial: f.dial})
	old.write(numbered(schema, 0, 100))
	units := old.cut()
	f.once = sync.Once{}
	answer := old.stands(f, units[0])
	begun := time.Now()
	next := openPostgres(t, set, pgOpen{id: pgIdentity("standing"), store: store, lease: 2, state: old.state, pending: units})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the take-over took %s", took)
	}
	next.commit(units...)
	close(f.thaw)
	if a := <-answer; a.outcome != sink.Fenced || fault.KindOf(a.err) != fault.Fenced {
		t.Errorf("the zombie is answered %v, %v", a.outcome, a.err)
	}
	if got := s.one(t, "SELECT count(*), count(DISTINCT id) FROM standing"); got != "100|100" {
		t.Errorf("got %s rows", got)
	}
}

// Without the right to end the zombie's session the successor waits until the server ends it, and says for what.
func TestPostgres_zombieOfAnotherRoleIsWaitedFor(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE waiting (id int8, body text)", "CREATE ROLE successor LOGIN PASSWORD 'successor'")
	store, schema, f := newMemorySegments(), typed(t, "id int64", "body string"), newFrozen("COMMIT\x00")
	set := s.settings("waiting")
	set.IdleTimeout = 12 * time.Second
	f.once.Do(func() {}) // not in Fence
	old := openPostgres(t, set, pgOpen{id: pgIdentity("waiting"), store: store, lease: 1, dial: f.dial})
	old.write(numbered(schema, 0, 100))
	units := old.cut()
	f.once = sync.Once{}
	answer := old.stands(f, units[0])
	s.exec(t, "GRANT SELECT, INSERT, UPDATE ON ingestd_ledger, waiting TO successor")
	set.User, set.Password = "successor", config.NewSecret("successor")
	p, err := pgsink.New(set)
	if err != nil {
		t.Fatal(err)
	}
	open, err := p.Open(context.Background(), sink.Env{Identity: pgIdentity("waiting"), Lease: 2, Segments: store, Tasks: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.Restore(context.Background(), old.state, units); err != nil {
		t.Fatal(err)
	}
	c := open.Committer()
	waited := 0
	for err = c.Fence(context.Background()); err != nil; err = c.Fence(context.Background()) {
		if waited++; fault.KindOf(err) != fault.Transient || waited > 30 {
			t.Fatalf("got %v", err)
		}
		if text := err.Error(); !strings.Contains(text, "of lease 1") || !strings.Contains(text, "permission denied") && !strings.Contains(text, "must be") {
			t.Errorf("the error does not say who is waited for: %v", err)
		}
	}
	if waited == 0 {
		t.Error("the fence was raised while the zombie held the row")
	}
	if o, _, err := c.Commit(context.Background(), units[0]); o != sink.Committed {
		t.Errorf("got %v, %v", o, err)
	}
	close(f.thaw)
	if a := <-answer; a.outcome != sink.Fenced {
		t.Errorf("the zombie is answered %v, %v", a.outcome, a.err)
	}
	if got := s.one(t, "SELECT count(*), count(DISTINCT id) FROM waiting"); got != "100|100" {
		t.Errorf("got %s rows", got)
	}
}

// Closing the sink ends a commit that waits.
func TestPostgres_closeEndsACommit(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE TABLE closing (id int8 PRIMARY KEY, body text)")
	r := openPostgres(t, s.settings("closing"), pgOpen{id: pgIdentity("closing"), store: newMemorySegments(), lease: 1})
	other := s.connect(t)
	defer other.Close(context.Background())
	if err := other.Exec(context.Background(), "BEGIN; INSERT INTO closing VALUES (5, 'other')").Close(); err != nil {
		t.Fatal(err)
	}
	r.write(numbered(typed(t, "id int64", "body string"), 0, 10))
	units := r.cut()
	answer := make(chan committed, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		o, _, err := r.committer.Commit(ctx, units[0])
		answer <- committed{o, err}
	}()
	for s.one(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%closing%'") == "0" {
		waitABit()
	}
	cancel()
	if err := r.sink.Close(); err != nil {
		t.Error(err)
	}
	select {
	case a := <-answer:
		if a.outcome == sink.Committed || a.outcome == sink.Lost || a.err == nil {
			t.Errorf("got %v, %v", a.outcome, a.err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the commit goes on")
	}
}
