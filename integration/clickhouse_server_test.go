//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/cespare/xxhash/v2"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
)

// clickHouse is a server in a container with a port that stays the same when it is killed and started again.
type clickHouse struct {
	container *testcontainers.DockerContainer
	addr      string
}

const (
	clickHouseImage    = "clickhouse/clickhouse-server:26.7"
	clickHouseUser     = "ingest"
	clickHousePassword = "secret"
)

// startClickHouse starts a server. It ends with the test binary, by the reaper, if nothing ends it before.
func startClickHouse(t *testing.T, more ...testcontainers.ContainerCustomizer) *clickHouse {
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
	bind := func(h *container.HostConfig) {
		h.PortBindings = network.PortMap{network.MustParsePort("9000/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
	}
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts("9000/tcp"),
		testcontainers.WithEnv(map[string]string{
			"CLICKHOUSE_USER": clickHouseUser, "CLICKHOUSE_PASSWORD": clickHousePassword, "CLICKHOUSE_DB": "db",
		}),
		testcontainers.WithHostConfigModifier(bind),
		testcontainers.WithWaitStrategyAndDeadline(time.Minute, wait.ForListeningPort("9000/tcp").WithPollInterval(50*time.Millisecond)),
	}
	c, err := testcontainers.Run(context.Background(), clickHouseImage, append(options, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	s := &clickHouse{container: c, addr: "127.0.0.1:" + port}
	s.wait(t)
	return s
}

// kill ends the server with SIGKILL.
func (s *clickHouse) kill(t *testing.T, docker *testcontainers.DockerClient) {
	t.Helper()
	if _, err := docker.ContainerKill(context.Background(), s.container.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
}

// restart starts a server again that was killed, and waits until it answers.
func (s *clickHouse) restart(t *testing.T) {
	t.Helper()
	var err error
	for range 100 { // the engine may not have seen yet that it is gone
		if err = s.container.Start(context.Background()); err == nil {
			s.wait(t)
			return
		}
		waitABit()
	}
	t.Fatal(err)
}

// terminate ends the server and waits for it.
func (s *clickHouse) terminate(t *testing.T) {
	t.Helper()
	if err := s.container.Terminate(context.Background(), testcontainers.StopTimeout(0)); err != nil {
		t.Log(err)
	}
}

// sharedClickHouse is one server for all tests that don't harm it. It ends with the test binary, by the reaper.
var sharedClickHouse = struct {
	sync.Mutex
	server *clickHouse
}{}

func clickHouseServer(t *testing.T) *clickHouse {
	t.Helper()
	sharedClickHouse.Lock()
	defer sharedClickHouse.Unlock()
	if sharedClickHouse.server == nil {
		sharedClickHouse.server = startClickHouse(t)
	}
	return sharedClickHouse.server
}

// wait returns when the server answers queries.
func (s *clickHouse) wait(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		c := s.connect(t)
		if err = c.Ping(context.Background()); err == nil {
			c.Close()
			return
		}
		c.Close()
		waitABit()
	}
	t.Fatalf("the server does not answer: %v", err)
}

// waitABit lets a poll of something real pass a moment.
func waitABit() { <-time.After(50 * time.Millisecond) }

func (s *clickHouse) connect(t *testing.T) driver.Conn {
	t.Helper()
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.addr}, Auth: clickhouse.Auth{Database: "db", Username: clickHouseUser, Password: clickHousePassword},
		DialTimeout: 2 * time.Second, ReadTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exec runs statements.
func (s *clickHouse) exec(t *testing.T, statements ...string) {
	t.Helper()
	c := s.connect(t)
	defer c.Close()
	for _, q := range statements {
		if err := c.Exec(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// text runs a query of one String column and returns its rows.
func (s *clickHouse) text(t *testing.T, query string) []string {
	t.Helper()
	c := s.connect(t)
	defer c.Close()
	rows, err := c.Query(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return list
}

// count runs a query of one number.
func (s *clickHouse) count(t *testing.T, query string) string {
	t.Helper()
	return strings.Join(s.text(t, "SELECT toString(x) FROM ("+query+") AS q(x)"), ",")
}

// memorySegments keeps segments in memory.
type memorySegments struct {
	mu   sync.Mutex
	data map[string][]byte
}

func newMemorySegments() *memorySegments { return &memorySegments{data: make(map[string][]byte)} }

func (m *memorySegments) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := fmt.Sprintf("staging/%d", len(m.data))
	m.data[name] = data
	return sink.Segment{Name: name, Bytes: int64(len(data)), Rows: rows, Checksum: xxhash.Sum64(data)}, nil
}

func (m *memorySegments) Get(_ context.Context, s sink.Segment) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[s.Name], nil
}

// chSettings are the settings of a table in the test's database.
func chSettings(addr, table string) chsink.Settings {
	return chsink.Settings{
		Addr: []string{addr}, Database: "db", Table: table, User: clickHouseUser, Password: config.NewSecret(clickHousePassword),
		Compression: "lz4", Provenance: "check", Durable: true, OnReject: "dead_letter",
		DialTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, InsertTimeout: time.Minute, ReceiveTimeout: 2 * time.Second,
		UnitRows: 1_000_000, UnitBytes: 256 << 20, SegmentRows: 100_000, Segment: 16 << 20,
	}
}

// chRun is one run of a sink, as the pipeline would drive it.
type chRun struct {
	t          *testing.T
	plugin     *chsink.Plugin
	sink       sink.Sink
	committer  sink.Committer
	lease      record.Lease
	checkpoint record.Checkpoint
	state      []byte
}

// openRun opens a run under a lease, from the state of the run before, and fences.
func openRun(t *testing.T, s chsink.Settings, id sink.Identity, store sink.SegmentStore, lease record.Lease, state []byte, pending ...sink.Committable) *chRun { //nolint:revive // a test's driver
	t.Helper()
	return openRunThrough(t, s, id, store, lease, state, nil, pending...)
}

// openRunThrough is openRun over connections that dial opens; nil is plain ones.
func openRunThrough(t *testing.T, s chsink.Settings, id sink.Identity, store sink.SegmentStore, lease record.Lease, state []byte, dial chsink.Dial, pending ...sink.Committable) *chRun { //nolint:revive // a test's driver
	t.Helper()
	ctx := context.Background()
	p, err := chsink.New(s)
	if err != nil {
		t.Fatal(err)
	}
	if dial != nil {
		p.DialWith(dial)
	}
	open, err := p.Open(ctx, sink.Env{Identity: id, Lease: lease, Segments: store, Tasks: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := &chRun{t: t, plugin: p, sink: open, lease: lease, state: state}
	if err := open.Restore(ctx, state, pending); err != nil {
		t.Fatal(err)
	}
	r.committer = open.Committer()
	if err := r.committer.Fence(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

// assemble makes a checkpoint of parts, published at once.
func (r *chRun) assemble(parts ...sink.Part) []sink.Committable {
	r.t.Helper()
	r.checkpoint++
	a, err := r.sink.Assemble(sink.Cut{Lease: r.lease, Checkpoint: r.checkpoint}, parts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.state = a.State
	return a.Committables
}

// commit commits until the outcome is known to be Committed.
func (r *chRun) commit(units ...sink.Committable) {
	r.t.Helper()
	for _, u := range units {
		o, _, err := r.committer.Commit(context.Background(), u)
		if o != sink.Committed {
			r.t.Fatalf("unit %d: got %v (%v), want committed", u.Unit, o, err)
		}
	}
}

func TestClickHouse_thinWay(t *testing.T) {
	s := clickHouseServer(t)
	s.exec(t, "CREATE TABLE thin (id UInt64, body String, ts DateTime64(3), _ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX b _ingestd_block TYPE minmax) ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY id SETTINGS fsync_after_insert=1, fsync_part_directory=1")
	store := newMemorySegments()
	id := sink.Identity{StoreID: "store", Pipeline: "thin", Sink: "sink"}
	r := openRun(t, chSettings(s.addr, "thin"), id, store, 1, nil)
	r.assemble()
	schema := &record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Uint64}},
		{Name: "body", Type: record.Type{Kind: record.String}},
		{Name: "ts", Type: record.Type{Kind: record.Timestamp, Precision: 3}},
	}}
	w, err := r.sink.Writer(context.Background(), 0, schema)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(schema)
	for i := range 1000 {
		b.Cols[0].AppendUint(uint64(i))
		b.Cols[1].AppendString(fmt.Sprint("row ", i))
		b.Cols[2].AppendInt(1_700_000_000_000 + int64(i)*10_000_000)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i)})
	}
	if refused, err := w.Write(context.Background(), b); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	part, err := w.Prepare(context.Background(), sink.Cut{Lease: 1, Checkpoint: 2})
	if err != nil {
		t.Fatal(err)
	}
	units := r.assemble(part)
	r.commit(units...)
	if got := s.text(t, "SELECT concat(toString(count()), ' ', toString(sum(id)), ' ', toString(uniqExact(_partition_id)), ' ', any(body)) FROM thin WHERE startsWith(body, 'row ')"); !strings.HasPrefix(got[0], "1000 499500 ") {
		t.Errorf("got %q", got)
	}
	// A later run finds it committed: the conditional insert adds nothing.
	r2 := openRun(t, chSettings(s.addr, "thin"), id, store, 2, r.state, units...)
	r2.commit(units...)
	if got := s.text(t, "SELECT toString(count()) FROM thin"); got[0] != "1000" {
		t.Errorf("got %q", got)
	}
}
