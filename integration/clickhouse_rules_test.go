//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
)

// stoppedClient names the variable that makes this test binary a client which stops in the midst of an insert.
const stoppedClient = "INGESTD_TEST_STOPPED_CLIENT"

// Trap: a client that is stopped (SIGSTOP) in the midst of an insert holds up KILL … SYNC for the server's receive_timeout, 300
// seconds by default. With the settings of the sink a takeover takes seconds, and the client inserts nothing when it goes on.
func TestClickHouse_stoppedClientDoesNotHoldUpTheTakeover(t *testing.T) {
	if addr := os.Getenv(stoppedClient); addr != "" {
		runStoppedClient(t, addr)
		return
	}
	s := clickHouseServer(t)
	trapTable(t, s, "stopped", "", "ORDER BY id"+durable)
	cmd := exec.Command(os.Args[0], "-test.run=^TestClickHouse_stoppedClientDoesNotHoldUpTheTakeover$", "-test.v")
	cmd.Env = append(os.Environ(), stoppedClient+"="+s.addr)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	await(t, lines, "stopping")
	for { // until the signal is in force
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err == nil && status.Stopped() {
			break
		}
	}
	if got := s.count(t, "SELECT count() FROM system.processes WHERE startsWith(query_id, 'ingestd/stopped/')"); got != "1" {
		t.Fatalf("%s inserts of the stopped client are running, want 1: the trap is not sprung", got)
	}
	begin := time.Now()
	r := openRun(t, chSettings(s.addr, "stopped"), sink.Identity{StoreID: "store", Pipeline: "stopped", Sink: "sink"}, newMemorySegments(), 2, nil)
	took := time.Since(begin)
	t.Logf("the takeover took %v", took.Round(time.Millisecond))
	if took > 25*time.Second {
		t.Errorf("the takeover took %v, want less than 25 s", took)
	}
	r.assemble()
	r.commit(r.prepared(trapBatch(10, 3))...)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if line := await(t, lines, "outcome"); !strings.HasSuffix(line, "unknown") && !strings.HasSuffix(line, "fenced") {
		t.Errorf("the stopped client's insert ends with %q", line)
	}
	if line := await(t, lines, "again"); !strings.HasSuffix(line, "fenced") {
		t.Errorf("the stopped client's retry ends with %q, want fenced", line)
	}
	_ = cmd.Wait()
	if got := s.count(t, "SELECT count() FROM stopped"); got != "10" {
		t.Errorf("got %s rows, want the 10 of the new run", got)
	}
}

// await reads lines until one begins with a word.
func await(t *testing.T, lines *bufio.Scanner, word string) string {
	t.Helper()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), word) {
			return lines.Text()
		}
	}
	t.Fatalf("the client ended before it said %q", word)
	return ""
}

// runStoppedClient is the client: it stops itself between statement and block.
func runStoppedClient(t *testing.T, addr string) {
	t.Helper()
	s := &clickHouse{addr: addr}
	var armed, done atomic.Bool
	r := trap(t, s, "stopped", newMemorySegments(), dialCalls(func(out []byte, send func() error) error {
		if armed.Swap(false) && !done.Swap(true) {
			fmt.Fprintln(os.Stdout, "stopping")
			if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
				return err
			}
			<-time.After(time.Second) // the signal takes a moment to reach every thread
		}
		if isStatement(out, "stopped") {
			armed.Store(true)
		}
		return send()
	}))
	units := r.prepared(trapBatch(7, 3))
	o, _, _ := r.committer.Commit(context.Background(), units[0])
	fmt.Fprintln(os.Stdout, "outcome", o)
	o, _, _ = r.committer.Commit(context.Background(), units[0])
	fmt.Fprintln(os.Stdout, "again", o)
}

// Where the kill can't be had an unknown outcome stays unknown, until a server that started later shows that every insert of
// before is over.
func TestClickHouse_withoutKillANewServerStartDecides(t *testing.T) {
	s := startClickHouse(t)
	defer s.terminate(t)
	trapTable(t, s, "nokill", "", "ORDER BY id"+durable)
	store, id := newMemorySegments(), sink.Identity{StoreID: "store", Pipeline: "nokill", Sink: "sink"}
	r := trap(t, s, "nokill", store, nil)
	units := r.prepared(trapBatch(5, 2))
	p, err := chsink.New(chSettings(s.addr, "nokill"))
	if err != nil {
		t.Fatal(err)
	}
	p.DialWith(dialCalls(func(out []byte, send func() error) error {
		if bytes.Contains(out, []byte("KILL QUERY")) {
			return errLost
		}
		return send()
	}))
	open, err := p.Open(context.Background(), sink.Env{Identity: id, Lease: 2, Segments: store, Tasks: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Restore(context.Background(), r.state, units); err != nil {
		t.Fatal(err)
	}
	c := open.Committer()
	for range 2 {
		if err := c.Fence(context.Background()); err == nil || fault.KindOf(err) != fault.Transient {
			t.Fatalf("got %v, want a fence that can't be raised without the kill", err)
		}
		if o, _, err := c.Commit(context.Background(), units[0]); o != sink.Unknown {
			t.Fatalf("got %v (%v), want unknown", o, err)
		}
	}
	<-time.After(4 * time.Second) // so that the new start can be told from the old one, which is known to the second
	docker, err := testcontainers.NewDockerClientWithOpts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.kill(t, docker)
	s.restart(t)
	if err := c.Fence(context.Background()); err != nil {
		t.Fatalf("got %v after the server started again, want a raised fence", err)
	}
	if o, _, err := c.Commit(context.Background(), units[0]); o != sink.Committed {
		t.Errorf("got %v (%v), want committed", o, err)
	}
	if got := s.count(t, "SELECT count() FROM nokill"); got != "5" {
		t.Errorf("got %s rows, want 5", got)
	}
}

// A user without the right to kill can end its own inserts, which is enough as long as all runs have the same user. Inspect names
// the exception with the statement that mends it, and the tables that the user can't make itself.
func TestClickHouse_userWithFewRights(t *testing.T) {
	const users = `<clickhouse><users><limited>
		<password>secret</password><profile>default</profile><quota>default</quota><networks><ip>::/0</ip></networks>
		<grants><query>GRANT SELECT, INSERT ON db.*</query><query>GRANT SELECT ON system.*</query></grants>
	</limited></users></clickhouse>`
	s := startClickHouse(t, testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader: strings.NewReader(users), ContainerFilePath: "/etc/clickhouse-server/users.d/limited.xml", FileMode: 0o644,
	}))
	defer s.terminate(t)
	trapTable(t, s, "few", "", "ORDER BY id"+durable)
	settings := chSettings(s.addr, "few")
	settings.User = "limited"
	has := func(found []sink.Finding, level sink.Level, remedy string) bool {
		return slices.ContainsFunc(found, func(f sink.Finding) bool { return f.Level == level && f.Remedy == remedy })
	}
	found := inspect(t, settings).Findings
	if !has(found, sink.Weakens, "GRANT KILL QUERY ON *.* TO `limited`") || !has(found, sink.Blocks, "GRANT CREATE TABLE ON `db`.`ingestd_fence` TO `limited`") {
		t.Errorf("got %+v, want findings about KILL QUERY and CREATE TABLE", found)
	}
	p, err := chsink.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	store, id := newMemorySegments(), sink.Identity{StoreID: "store", Pipeline: "few", Sink: "sink"}
	_, err = p.Open(context.Background(), sink.Env{Identity: id, Lease: 1, Segments: store, Tasks: 1})
	if fault.KindOf(err) != fault.Misconfigured || !strings.HasPrefix(fault.RemedyOf(err), "CREATE TABLE") {
		t.Fatalf("got %v with the remedy %q, want the statement that makes the table", err, fault.RemedyOf(err))
	}
	other := chSettings(s.addr, "few") // somebody with more rights makes the tables
	openRun(t, other, sink.Identity{StoreID: "store", Pipeline: "other", Sink: "sink"}, store, 1, nil)
	if got := inspect(t, settings).Findings; has(got, sink.Blocks, "GRANT CREATE TABLE ON `db`.`ingestd_fence` TO `limited`") {
		t.Errorf("got %+v, want nothing about CREATE TABLE any more", got)
	}

	// An insert of the user hangs between statement and block; the next run ends it.
	var armed atomic.Bool
	hang := make(chan struct{})
	r := openRunThrough(t, settings, id, store, 1, nil, dialCalls(func(out []byte, send func() error) error {
		if armed.Swap(false) {
			<-hang
		}
		armed.Store(isStatement(out, "few"))
		return send()
	}))
	r.assemble()
	units := r.prepared(trapBatch(5, 2))
	outcome := make(chan sink.Outcome, 1)
	go func() {
		o, _, _ := r.committer.Commit(context.Background(), units[0])
		outcome <- o
	}()
	running := "SELECT count() FROM system.processes WHERE startsWith(query_id, 'ingestd/few/')"
	for s.count(t, running) != "1" {
		waitABit()
	}
	r2 := openRun(t, settings, id, store, 2, r.state, units...)
	if got := s.count(t, running); got != "0" {
		t.Errorf("%s inserts of the older run are running after the fence, want 0", got)
	}
	r2.commit(units...)
	close(hang)
	if o := <-outcome; o != sink.Unknown && o != sink.Fenced {
		t.Errorf("got %v for the insert that hung", o)
	}
	if got := s.count(t, "SELECT count() FROM few"); got != "5" {
		t.Errorf("got %s rows, want 5", got)
	}
}

// A unit is decided when the server says that it touches too many partitions. It is inserted nevertheless, at the second attempt.
func TestClickHouse_moreThanTheLimitOfPartitions(t *testing.T) {
	s := clickHouseServer(t)
	trapTable(t, s, "wide", "", "PARTITION BY id ORDER BY id"+durable)
	r := trap(t, s, "wide", newMemorySegments(), nil)
	units := r.prepared(trapBatch(150, 3))
	o, _, err := r.committer.Commit(context.Background(), units[0])
	if o != sink.Unknown || !strings.Contains(err.Error(), "Too many partitions") {
		t.Fatalf("got %v (%v), want unknown for the server's limit", o, err)
	}
	r.commit(units...)
	if got := s.count(t, "SELECT count() FROM wide") + " " + s.count(t, "SELECT uniqExact(_partition_id) FROM wide"); got != "150 150" {
		t.Errorf("got %s rows and partitions, want 150 150", got)
	}
}

// The table changes between preparing and committing: a new column does no harm, a dropped one is named with the statement that
// brings it back, and then the same unit is committed.
func TestClickHouse_changedTableIsNamed(t *testing.T) {
	s := clickHouseServer(t)
	trapTable(t, s, "changed", "", "ORDER BY id"+durable)
	r := trap(t, s, "changed", newMemorySegments(), nil)
	units := append(r.prepared(trapBatch(10, 3)), r.prepared(trapBatch(10, 3))...)
	s.exec(t, "ALTER TABLE changed ADD COLUMN more String DEFAULT 'x'")
	r.commit(units[0])
	s.exec(t, "ALTER TABLE changed DROP COLUMN n")
	o, _, err := r.committer.Commit(context.Background(), units[1])
	const remedy = "ALTER TABLE `db`.`changed` ADD COLUMN `n` Nullable(UInt8)"
	if o != sink.Retry || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) != remedy {
		t.Fatalf("got %v, %v (%v), remedy %q; want retry, misconfigured, %q", o, fault.KindOf(err), err, fault.RemedyOf(err), remedy)
	}
	s.exec(t, fault.RemedyOf(err))
	r.commit(units[1])
	if got := s.count(t, "SELECT count() FROM changed") + " " + s.count(t, "SELECT countIf(more = 'x') FROM changed"); got != "20 20" {
		t.Errorf("got %s rows, want 20 20", got)
	}
	s.exec(t, "DROP TABLE ingestd_fence SYNC")
	lost := r.prepared(trapBatch(3, 3))
	if o, _, err := r.committer.Commit(context.Background(), lost[0]); o != sink.Retry || fault.KindOf(err) != fault.Transient {
		t.Fatalf("got %v, %v without the fence's table, want retry, transient", o, err)
	}
	r.commit(lost...)
}

// A store that is older than the table would use block numbers again.
func TestClickHouse_olderStoreIsRefused(t *testing.T) {
	s := clickHouseServer(t)
	trapTable(t, s, "older", "", "ORDER BY id"+durable)
	store, id := newMemorySegments(), sink.Identity{StoreID: "store", Pipeline: "older", Sink: "sink"}
	r := trap(t, s, "older", store, nil)
	old := r.state
	// Another opening manifest and what it reserves.
	r = openRun(t, chSettings(s.addr, "older"), id, store, 2, r.state)
	r.assemble()
	r.commit(r.prepared(trapBatch(3, 3))...)
	p, err := chsink.New(chSettings(s.addr, "older"))
	if err != nil {
		t.Fatal(err)
	}
	open, err := p.Open(context.Background(), sink.Env{Identity: id, Lease: 3, Segments: store, Tasks: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Restore(context.Background(), old, nil); err == nil || fault.KindOf(err) != fault.Lost {
		t.Errorf("got %v, want a loud error: the table has newer blocks than the store", err)
	}
}

// Pipelines that start at the same moment get different numbers, each keeps its own.
func TestClickHouse_numbersAreUnique(t *testing.T) {
	s := clickHouseServer(t)
	trapTable(t, s, "numbers", "", "ORDER BY id"+durable)
	const pipelines = 8
	states := make([][2]string, pipelines)
	var group sync.WaitGroup
	for i := range pipelines {
		group.Go(func() {
			id := sink.Identity{StoreID: "store", Pipeline: fmt.Sprintf("number %d", i), Sink: "sink"}
			var state []byte
			for lease := range 2 {
				r := openRun(t, chSettings(s.addr, "numbers"), id, newMemorySegments(), record.Lease(lease+1), state)
				r.assemble()
				state = r.state
				number, _, _ := strings.Cut(string(r.state), ",")
				states[i][lease] = number
			}
		})
	}
	group.Wait()
	seen := map[string]int{}
	for i, pair := range states {
		if pair[0] != pair[1] {
			t.Errorf("pipeline %d: got %s, and %s later", i, pair[0], pair[1])
		}
		if other, ok := seen[pair[0]]; ok {
			t.Errorf("pipelines %d and %d both have %s", i, other, pair[0])
		}
		seen[pair[0]] = i
	}
}

// Names may hold anything that the server allows: the whole way works with them, a takeover and a refused row too.
func TestClickHouse_oddNames(t *testing.T) {
	s := clickHouseServer(t)
	const odd = "it's `odd\\ \"ü\" /%"
	quoted := "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(odd) + "`"
	s.exec(t, "CREATE DATABASE "+quoted, "CREATE TABLE "+quoted+"."+quoted+" ("+quoted+" UInt64, n Nullable(UInt8), "+
		"_ingestd_block UInt64, INDEX b _ingestd_block TYPE minmax, CONSTRAINT c CHECK "+quoted+" != 3) ENGINE = MergeTree PARTITION BY "+quoted+" % 2 ORDER BY "+quoted+durable)
	settings := chSettings(s.addr, odd)
	settings.Database = odd
	found := inspect(t, settings)
	if len(found.Findings) != 0 {
		t.Errorf("got %+v, want no findings", found.Findings)
	}
	id := sink.Identity{StoreID: odd, Pipeline: odd, Sink: odd}
	store := newMemorySegments()
	r := openRun(t, settings, id, store, 1, nil)
	r.assemble()
	b := record.NewBatch(found.Schema)
	for i := range 10 {
		b.Cols[0].AppendInt(int64(i))
		b.Cols[1].AppendNull()
		b.AppendMeta(record.RowMeta{})
	}
	units := r.prepared(b)
	r2 := openRun(t, settings, id, store, 2, r.state, units...)
	o, rejected, err := r2.committer.Commit(context.Background(), units[0])
	if o != sink.Rejected || len(rejected) != 1 || rejected[0].Row != 3 {
		t.Fatalf("got %v, %+v (%v); want row 3 rejected", o, rejected, err)
	}
	by, err := r2.committer.Replace(context.Background(), units[0], rejected, 1)
	if err != nil {
		t.Fatal(err)
	}
	r2.commit(by)
	if o, _, err := r.committer.Commit(context.Background(), units[0]); o != sink.Fenced {
		t.Errorf("got %v (%v) for the older run, want fenced", o, err)
	}
	if got := s.count(t, "SELECT count() FROM "+quoted+"."+quoted); got != "9" {
		t.Errorf("got %s rows, want 9", got)
	}
}

// With provenance = "add" the column is made when the sink opens.
func TestClickHouse_provenanceIsAdded(t *testing.T) {
	s := clickHouseServer(t)
	s.exec(t, "CREATE TABLE added (id UInt64, n Nullable(UInt8)) ENGINE = MergeTree ORDER BY id"+durable)
	settings := chSettings(s.addr, "added")
	p, err := chsink.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	env := sink.Env{Identity: sink.Identity{StoreID: "store", Pipeline: "added", Sink: "sink"}, Lease: 1, Segments: newMemorySegments(), Tasks: 1}
	if _, err := p.Open(context.Background(), env); err == nil || !strings.Contains(fault.RemedyOf(err), "ADD COLUMN IF NOT EXISTS _ingestd_block") {
		t.Errorf("got %v with the remedy %q, want the statement that adds the column", err, fault.RemedyOf(err))
	}
	settings.Provenance = "add"
	r := openRun(t, settings, env.Identity, env.Segments, 1, nil)
	r.assemble()
	r.commit(r.prepared(trapBatch(4, 2))...)
	if got := inspect(t, settings).Findings; len(got) != 0 {
		t.Errorf("got %+v, want no findings", got)
	}
}

// A wrong password is a person's matter, an unreachable server is not. The server is its own: the one that is packed for tests
// does not outlive a refused password.
func TestClickHouse_errorKinds(t *testing.T) {
	s := startClickHouse(t)
	defer s.terminate(t)
	settings := chSettings(s.addr, "any")
	settings.Password = config.NewSecret("wrong")
	cases := []struct {
		name     string
		settings chsink.Settings
		want     fault.Kind
	}{
		{"wrong password", settings, fault.Misconfigured},
		{"nobody listens", chSettings("127.0.0.1:1", "any"), fault.Transient},
	}
	for _, c := range cases {
		p, err := chsink.New(c.settings)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Inspect(context.Background(), sink.Identity{})
		if err == nil || fault.KindOf(err) != c.want {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "wrong") && !strings.Contains(err.Error(), "Authentication") {
			t.Errorf("%s: the error may show the password: %v", c.name, err)
		}
	}
}
