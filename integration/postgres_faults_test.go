//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestd/ingestd/internal/inject"
)

// pgRig is one pipeline under load: Kafka to PostgreSQL, with dead letters in a second table.
type pgRig struct {
	t        *testing.T
	path     string // of the daemon
	config   string
	dir      string
	delivery string
	broker   string
	pg       *postgres
	load     *load
	kills    int
}

const pgRigConfig = `[daemon]
data_dir = %[1]q
listen = ""
memory_limit = "1GiB"

[pipeline.load]
delivery = %[2]q
tasks = 2

[pipeline.load.source]
type = "kafka"
brokers = [%[3]q]
topics = [%[4]q]

[pipeline.load.decode]
type = "json"

[pipeline.load.sink]
type = "postgres"
addr = [%[5]q]
database = "db"
user = "ingest"
password = "secret"
table = "load"
segment_bytes_max = "512KiB"

[pipeline.load.dead_letter]
type = "postgres"
addr = [%[5]q]
database = "db"
user = "ingest"
password = "secret"
table = "letters"

[pipeline.load.checkpoint]
interval = "250ms"
path = %[6]q

[pipeline.load.restart]
backoff_min = "50ms"
backoff_max = "500ms"
`

const pgLoadTable = `CREATE TABLE load (seq int8 NOT NULL, shard int2 NOT NULL, amount numeric(18, 2) NOT NULL, name varchar(20) NOT NULL, text text NOT NULL,
 at timestamptz(3) NOT NULL, tags text[] NOT NULL, note text, _partition int4 NOT NULL, _offset int8 NOT NULL) PARTITION BY LIST (shard)`

const pgLetters = `CREATE TABLE letters (split text NOT NULL, topic text NOT NULL, partition int4 NOT NULL, "offset" int8 NOT NULL, "timestamp" timestamptz,
 key text, key_base64 text, value text, value_base64 text, headers jsonb NOT NULL, stage text NOT NULL, reason text NOT NULL, "column" text, byte int8)`

func newPGRig(t *testing.T, delivery string) *pgRig {
	t.Helper()
	r := &pgRig{t: t, path: daemonBinary(t, "faultpoints"), delivery: delivery, dir: t.TempDir(), pg: startPostgres(t)}
	t.Cleanup(func() { r.pg.terminate(t) })
	r.pg.exec(t, pgLoadTable, "CREATE TABLE load0 PARTITION OF load FOR VALUES IN (0)", "CREATE TABLE load1 PARTITION OF load FOR VALUES IN (1)",
		"CREATE TABLE load2 PARTITION OF load DEFAULT", pgLetters)
	r.broker, _ = kafkaServer(t)
	r.load = startLoad(t, r.broker, fmt.Sprintf("%s-%d", strings.ToLower(t.Name()), time.Now().UnixNano()))
	r.config = r.writeConfig("data")
	return r
}

// writeConfig makes a config with a data directory of its own and the common store of checkpoints.
func (r *pgRig) writeConfig(data string) string {
	r.t.Helper()
	text := fmt.Sprintf(pgRigConfig, filepath.Join(r.dir, data), r.delivery, r.broker, r.load.topic, r.pg.addr, filepath.Join(r.dir, "checkpoints"))
	path := filepath.Join(r.dir, data+".toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// rows counts what is in the table, and how many of it are doubled.
func (r *pgRig) rows() (rows, doubled int64) {
	r.t.Helper()
	if _, err := fmt.Sscanf(r.pg.one(r.t, "SELECT count(*), count(*) - count(DISTINCT (_partition, _offset)) FROM load"), "%d|%d", &rows, &doubled); err != nil {
		r.t.Fatal(err)
	}
	return rows, doubled
}

// moves waits until new rows are in the table, so that what was recovered runs.
func (r *pgRig) moves(d *daemon) {
	r.t.Helper()
	before := r.pg.one(r.t, "SELECT max(_offset) FROM load")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); waitABit() {
		if r.pg.one(r.t, "SELECT max(_offset) FROM load") != before {
			return
		}
		select {
		case <-d.done:
			r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
		default:
		}
	}
	d.kill()
	r.t.Fatalf("no new rows in a minute:\n%s", d.tail())
}

// killAt lets the daemon die at a point and go on after it, and returns how many rows that doubled.
func (r *pgRig) killAt(point string, nth int) int64 {
	r.t.Helper()
	_, before := r.rows()
	if point == inject.DuringRecovery { // there must be something to recover
		d := startDaemon(r.t, r.path, r.config, inject.AfterPublish+":kill:5")
		d.diedAt(inject.AfterPublish, time.Minute)
	}
	d := startDaemon(r.t, r.path, r.config, fmt.Sprintf("%s:kill:%d", point, nth))
	d.diedAt(point, time.Minute)
	r.kills++
	d = startDaemon(r.t, r.path, r.config, "")
	r.moves(d)
	d.kill() // one more, at no point
	_, after := r.rows()
	r.t.Logf("%s: %s: %d rows doubled", r.delivery, point, after-before)
	return after - before
}

// disturb ends what stands between daemon and table while it works: every session of the daemon, then the server.
func (r *pgRig) disturb() {
	r.t.Helper()
	d := startDaemon(r.t, r.path, r.config, "")
	r.moves(d)
	for range 5 {
		r.pg.exec(r.t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ingestd%'")
		r.moves(d)
	}
	r.inTransaction()
	r.pg.kill(r.t)
	r.pg.restart(r.t)
	r.moves(d)
	d.kill()
	r.kills++
}

// inTransaction waits until the daemon has a transaction open in the database.
func (r *pgRig) inTransaction() {
	r.t.Helper()
	c := r.pg.connect(r.t)
	defer c.Close(context.Background())
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		results, err := c.Exec(context.Background(), "SELECT FROM pg_stat_activity WHERE application_name LIKE 'ingestd % lease %' AND query LIKE 'COPY %' AND state = 'active'").ReadAll()
		if err != nil {
			r.t.Fatal(err)
		}
		if len(results[0].Rows) > 0 {
			return
		}
	}
	r.t.Fatal("no COPY was seen in 30 s")
}

// zombie stops a daemon right before its COMMIT, lets a successor take over and do it, and wakes the first one up.
func (r *pgRig) zombie() (exit int) {
	r.t.Helper()
	first := startDaemon(r.t, r.path, r.config, inject.BeforeEndTxn+":stop:4")
	first.stopped(time.Minute)
	second := startDaemon(r.t, r.path, r.writeConfig("second"), "")
	r.moves(second)
	first.signal(syscall.SIGCONT)
	exit = first.exit(time.Minute)
	r.moves(second)
	second.kill()
	r.kills++
	return exit
}

// randomKills kills the daemon at moments that have nothing to do with the protocol.
func (r *pgRig) randomKills(n int, random *rand.Rand) {
	r.t.Helper()
	for range n {
		d := startDaemon(r.t, r.path, r.config, "")
		r.moves(d)
		<-time.After(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		d.kill()
		r.kills++
	}
}

// finish ends the load, lets the daemon take everything and stops it as systemd would, then judges the tables.
func (r *pgRig) finish() verdict {
	r.t.Helper()
	total := r.load.end(r.t)
	d := startDaemon(r.t, r.path, r.config, "")
	r.drained(d, total)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM, want 0:\n%s", code, d.tail())
	}
	v := r.judge()
	r.t.Logf("%s: %d kills: %s", r.delivery, r.kills, v)
	r.judgeLetters()
	return v
}

// drained waits until the newest checkpoint has every record; a minute without progress is too long.
func (r *pgRig) drained(d *daemon, total int64) {
	r.t.Helper()
	var at, before int64
	for deadline := time.Now().Add(time.Minute); at < total && time.Now().Before(deadline); <-time.After(300 * time.Millisecond) {
		before, at = at, 0
		m := newestManifest(r.t, r.path, r.config, "load")
		for _, p := range m.Positions() {
			at += int64(p.Offset)
		}
		if at > before {
			deadline = time.Now().Add(time.Minute)
		}
	}
	if at < total {
		d.kill()
		r.t.Fatalf("the daemon read %d of %d records, and none in a minute:\n%s", at, total, d.tail())
	}
}

// judge compares every row with the record that must stand there.
func (r *pgRig) judge() verdict {
	r.t.Helper()
	var v verdict
	seen := make([][]uint8, loadPartitions)
	for p := range seen {
		seen[p] = make([]uint8, r.load.produced[p].Load())
	}
	c := r.pg.connect(r.t)
	defer c.Close(context.Background())
	q := "SELECT _partition, _offset, seq, shard, amount, name, text, (extract(epoch FROM at) * 1000)::int8, array_to_json(tags), note FROM load"
	result := c.ExecParams(context.Background(), q, nil, nil, nil, nil)
	for result.NextRow() {
		p, offset, got := scanLoad(r.t, result)
		v.rows++
		if p < 0 || p >= loadPartitions || offset < 0 || offset >= int64(len(seen[p])) || malformed(offset) {
			v.foreign++
			continue
		}
		if !got.equal(rowOf(p, offset)) {
			v.altered++
		}
		if seen[p][offset]++; seen[p][offset] > 1 {
			v.doubled++
		}
	}
	if _, err := result.Close(); err != nil {
		r.t.Fatal(err)
	}
	for p := range seen {
		for offset, n := range seen[p] {
			if n == 0 && !malformed(int64(offset)) {
				v.missing++
			}
		}
	}
	return v
}

// scanLoad reads a row of the load's table.
func scanLoad(t *testing.T, result *pgconn.ResultReader) (partition int32, offset int64, got row) {
	t.Helper()
	values := result.Values()
	number := func(i int) int64 {
		n, err := strconv.ParseInt(string(values[i]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	got = row{seq: uint64(number(2)), shard: uint8(number(3)), amount: string(values[4]), name: string(values[5]), text: string(values[6]), at: number(7)}
	if err := json.Unmarshal(values[8], &got.tags); err != nil {
		t.Fatal(err)
	}
	if values[9] != nil {
		note := string(values[9])
		got.note = &note
	}
	return int32(number(0)), number(1), got
}

// judgeLetters compares the dead letters with the records that can't be decoded.
func (r *pgRig) judgeLetters() {
	r.t.Helper()
	var n, distinct, wrong int64
	q := fmt.Sprintf(`SELECT count(*), count(DISTINCT (partition, "offset")), count(*) FILTER (WHERE "offset" %% %d <> %d OR stage <> 'decode' OR value IS NULL) FROM letters`, malformedEach, malformedEach-1)
	if _, err := fmt.Sscanf(r.pg.one(r.t, q), "%d|%d|%d", &n, &distinct, &wrong); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%s: %d dead letters, %d doubled, %d wrong", r.delivery, n, n-distinct, wrong)
	if distinct != r.load.letters() || wrong != 0 || n != distinct && r.delivery == "exactly-once" {
		r.t.Errorf("%d dead letters of %d, %d doubled, %d wrong", distinct, r.load.letters(), n-distinct, wrong)
	}
}

// pgPoints are the protocol's points and that of the sink, before its COMMIT.
func pgPoints() []struct {
	name    string
	nth     int
	doubles bool
} {
	return append(points(), struct {
		name    string
		nth     int
		doubles bool
	}{inject.BeforeEndTxn, 3, false})
}

func TestFaults_postgresLosesAndDoublesNothingExactlyOnce(t *testing.T) {
	r := newPGRig(t, "exactly-once")
	for _, p := range pgPoints() {
		if n := r.killAt(p.name, p.nth); n != 0 {
			t.Errorf("a kill at %s doubled %d rows", p.name, n)
		}
	}
	if code := r.zombie(); code != 5 {
		t.Errorf("the zombie ended with exit code %d, want 5 (fenced)", code)
	}
	r.randomKills(5, rand.New(rand.NewPCG(5, 6)))
	r.disturb()
	if v := r.finish(); v.missing+v.doubled+v.foreign+v.altered != 0 {
		t.Errorf("exactly-once: %s", v)
	}
}

// The control arm: where an effect precedes the publish, at-least-once must show duplicates. If it does not, the kills missed
// and the zeros of the other arm prove nothing.
func TestFaults_postgresDoublesButLosesNothingAtLeastOnce(t *testing.T) {
	r := newPGRig(t, "at-least-once")
	for _, p := range pgPoints() {
		if p.name == inject.DuringRecovery { // nothing is pending with at-least-once
			continue
		}
		if n := r.killAt(p.name, p.nth); p.doubles && n == 0 {
			t.Errorf("a kill at %s doubled nothing, though the effect precedes the publish there", p.name)
		}
	}
	r.randomKills(3, rand.New(rand.NewPCG(7, 8)))
	v := r.finish()
	if v.missing+v.foreign+v.altered != 0 || v.doubled == 0 {
		t.Errorf("at-least-once: %s", v)
	}
}
