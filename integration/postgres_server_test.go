//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	pgsink "github.com/ingestd/ingestd/sink/postgres"
)

const postgresImage = "postgres:15"

// postgres is a server in a container with a port that stays the same when it is killed and started again.
type postgres struct {
	container *testcontainers.DockerContainer
	addr      string
	user      string
	password  string
	database  string
}

// startPostgres starts a server. It ends with the test binary, by the reaper, if nothing ends it before. POSTGRES_TEST_IMAGE names
// another image, of another version.
func startPostgres(t *testing.T, more ...testcontainers.ContainerCustomizer) *postgres {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &postgres{addr: "127.0.0.1:" + port, user: "ingest", password: "secret", database: "db"}
	image := postgresImage
	if other := os.Getenv("POSTGRES_TEST_IMAGE"); other != "" {
		image = other
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts("5432/tcp"),
		testcontainers.WithEnv(map[string]string{"POSTGRES_USER": s.user, "POSTGRES_PASSWORD": s.password, "POSTGRES_DB": s.database}),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort("5432/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
		testcontainers.WithCmd("postgres", "-c", "max_connections=300"),
	}
	if s.container, err = testcontainers.Run(context.Background(), image, append(options, more...)...); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
	return s
}

// sharedPostgres is one server for all tests that don't harm it. It ends with the test binary, by the reaper.
var sharedPostgres = struct {
	sync.Mutex
	server *postgres
}{}

func postgresServer(t *testing.T) *postgres {
	t.Helper()
	sharedPostgres.Lock()
	defer sharedPostgres.Unlock()
	if sharedPostgres.server == nil {
		sharedPostgres.server = startPostgres(t)
	}
	return sharedPostgres.server
}

// kill ends the server with SIGKILL.
func (s *postgres) kill(tb testing.TB) {
	tb.Helper()
	docker, err := testcontainers.NewDockerClientWithOpts(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	defer docker.Close()
	if _, err := docker.ContainerKill(context.Background(), s.container.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		tb.Fatal(err)
	}
}

// restart starts a server again that was killed, and waits until it answers.
func (s *postgres) restart(tb testing.TB) {
	tb.Helper()
	var err error
	for range 100 { // the engine may not have seen yet that it is gone
		if err = s.container.Start(context.Background()); err == nil {
			s.wait(tb)
			return
		}
		waitABit()
	}
	tb.Fatal(err)
}

// terminate ends the server and waits for it.
func (s *postgres) terminate(tb testing.TB) {
	tb.Helper()
	if err := s.container.Terminate(context.Background(), testcontainers.StopTimeout(0)); err != nil {
		tb.Log(err)
	}
}

// dial connects as a role.
func (s *postgres) dial(user, password string) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, err
	}
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable", host, port, user, password, s.database))
}

func (s *postgres) connect(tb testing.TB) *pgconn.PgConn {
	tb.Helper()
	c, err := s.dial(s.user, s.password)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// wait returns when the server answers queries.
func (s *postgres) wait(tb testing.TB) {
	tb.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); waitABit() {
		var c *pgconn.PgConn
		if c, err = s.dial(s.user, s.password); err == nil {
			c.Close(context.Background())
			return
		}
	}
	tb.Fatalf("the server does not answer: %v", err)
}

// exec runs statements, each by itself.
func (s *postgres) exec(tb testing.TB, statements ...string) {
	tb.Helper()
	c := s.connect(tb)
	defer c.Close(context.Background())
	for _, q := range statements {
		if err := c.Exec(context.Background(), q).Close(); err != nil {
			tb.Fatalf("%s: %v", q, err)
		}
	}
}

// text runs a query and returns its rows, columns joined by "|", nulls as "∅".
func (s *postgres) text(tb testing.TB, query string) []string {
	tb.Helper()
	c := s.connect(tb)
	defer c.Close(context.Background())
	results, err := c.Exec(context.Background(), query).ReadAll()
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	var list []string
	for _, row := range results[len(results)-1].Rows {
		texts := make([]string, len(row))
		for i, v := range row {
			if texts[i] = string(v); v == nil {
				texts[i] = "∅"
			}
		}
		list = append(list, strings.Join(texts, "|"))
	}
	return list
}

// one runs a query of one row.
func (s *postgres) one(tb testing.TB, query string) string {
	tb.Helper()
	return strings.Join(s.text(tb, query), "\n")
}

// settings are the sink's for a table in the test's database.
func (s *postgres) settings(table string) pgsink.Settings {
	return pgsink.Settings{
		Addr: []string{s.addr}, Database: s.database, User: s.user, Password: config.NewSecret(s.password), Schema: "public", Table: table,
		Mode: "append", OnReject: "dead_letter", SSLMode: "disable", ApplicationName: "ingestd test",
		DialTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, StatementTimeout: time.Minute, LockTimeout: 5 * time.Second, IdleTimeout: 10 * time.Second,
		SegmentRows: 1000, Segment: 1 << 20,
	}
}

// pgRun is one run of a sink, as the pipeline would drive it.
type pgRun struct {
	t          *testing.T
	sink       sink.Sink
	committer  sink.Committer
	lease      record.Lease
	checkpoint record.Checkpoint
	state      []byte
	writers    map[*record.Schema]sink.Writer
}

// pgOpen is what a run begins with.
type pgOpen struct {
	id      sink.Identity
	store   sink.SegmentStore
	lease   record.Lease
	state   []byte
	pending []sink.Committable
	dial    pgsink.Dial
}

// pgIdentity is the identity of a test's pipeline.
func pgIdentity(pipeline string) sink.Identity {
	return sink.Identity{StoreID: "store", Pipeline: pipeline, Sink: "sink"}
}

// openPostgres opens a run and fences.
func openPostgres(t *testing.T, s pgsink.Settings, o pgOpen) *pgRun {
	t.Helper()
	ctx := context.Background()
	p, err := pgsink.New(s)
	if err != nil {
		t.Fatal(err)
	}
	if o.dial != nil {
		p.DialWith(o.dial)
	}
	open, err := p.Open(ctx, sink.Env{Identity: o.id, Lease: o.lease, Segments: o.store, Tasks: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { open.Close() })
	r := &pgRun{t: t, sink: open, lease: o.lease, state: o.state, writers: map[*record.Schema]sink.Writer{}}
	if err := open.Restore(ctx, o.state, o.pending); err != nil {
		t.Fatal(err)
	}
	r.committer = open.Committer()
	if err := r.committer.Fence(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

// write writes a batch and returns what is refused.
func (r *pgRun) write(b *record.Batch) []record.Refusal {
	r.t.Helper()
	w := r.writers[b.Schema]
	if w == nil {
		var err error
		if w, err = r.sink.Writer(context.Background(), 0, b.Schema); err != nil {
			r.t.Fatal(err)
		}
		r.writers[b.Schema] = w
	}
	refused, err := w.Write(context.Background(), b)
	if err != nil {
		r.t.Fatal(err)
	}
	return refused
}

// cut makes a checkpoint of what was written, published at once.
func (r *pgRun) cut() []sink.Committable {
	r.t.Helper()
	r.checkpoint++
	cut := sink.Cut{Lease: r.lease, Checkpoint: r.checkpoint}
	var parts []sink.Part
	for _, w := range r.writers {
		part, err := w.Prepare(context.Background(), cut)
		if err != nil {
			r.t.Fatal(err)
		}
		parts = append(parts, part)
	}
	a, err := r.sink.Assemble(cut, parts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.state = a.State
	return a.Committables
}

// commit commits until the outcome is known to be Committed.
func (r *pgRun) commit(units ...sink.Committable) {
	r.t.Helper()
	for _, u := range units {
		var o sink.Outcome
		var err error
		for range 5 {
			if o, _, err = r.committer.Commit(context.Background(), u); o != sink.Unknown && o != sink.Retry {
				break
			}
			waitABit()
		}
		if o != sink.Committed {
			r.t.Fatalf("unit %d: got %v (%v), want committed", u.Unit, o, err)
		}
	}
}

// typed parses columns "name type" into a schema.
func typed(t *testing.T, fields ...string) *record.Schema {
	t.Helper()
	schema := &record.Schema{}
	for _, f := range fields {
		name, text, _ := strings.Cut(f, " ")
		typ, err := record.ParseType(text)
		if err != nil {
			t.Fatal(err)
		}
		schema.Fields = append(schema.Fields, record.Field{Name: name, Type: typ})
	}
	return schema
}

// numbered is a batch of rows (id, body), from first on.
func numbered(schema *record.Schema, first, n int) *record.Batch {
	b := record.NewBatch(schema)
	b.Meta.Split, b.Meta.Topic = "t/0", "t"
	for i := first; i < first+n; i++ {
		b.Cols[0].AppendInt(int64(i))
		b.Cols[1].AppendString(fmt.Sprint("row ", i))
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Timestamp: 1_700_000_000_000, Value: fmt.Append(nil, "raw ", i)})
	}
	return b
}
