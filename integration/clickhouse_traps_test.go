//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/testcontainers/testcontainers-go"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
)

// trapTable makes a table of id and n with more columns and an end of its definition.
func trapTable(t *testing.T, s *clickHouse, name, more, end string) {
	t.Helper()
	s.exec(t, "CREATE TABLE "+name+" (id UInt64, n Nullable(UInt8), "+more+"_ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX b _ingestd_block TYPE minmax) ENGINE = MergeTree "+end)
}

func trapSchema() *record.Schema {
	return &record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Uint64}},
		{Name: "n", Type: record.Type{Kind: record.Uint8, Nullable: true}},
	}}
}

// trapBatch has ids from 0; n is id modulo parts, and null where that is 0.
func trapBatch(rows, parts int) *record.Batch {
	b := record.NewBatch(trapSchema())
	b.Meta.Split = "topic/0"
	for i := range rows {
		b.Cols[0].AppendInt(int64(i))
		if i%parts == 0 {
			b.Cols[1].AppendNull()
		} else {
			b.Cols[1].AppendInt(int64(i % parts))
		}
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Timestamp: -1, Value: fmt.Appendf(nil, "raw %d", i)})
	}
	return b
}

// prepared writes a batch and returns the units of its checkpoint, published.
func (r *chRun) prepared(b *record.Batch) []sink.Committable {
	r.t.Helper()
	w, err := r.sink.Writer(context.Background(), 0, b.Schema)
	if err != nil {
		r.t.Fatal(err)
	}
	if refused, err := w.Write(context.Background(), b); err != nil || len(refused) > 0 {
		r.t.Fatal(refused, err)
	}
	part, err := w.Prepare(context.Background(), sink.Cut{Lease: r.lease, Checkpoint: r.checkpoint + 1})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.assemble(part)
}

// trap opens a run on a table through dial (nil: plain), with an opening manifest published.
func trap(t *testing.T, s *clickHouse, table string, store sink.SegmentStore, dial chsink.Dial) *chRun {
	t.Helper()
	settings := chSettings(s.addr, table)
	r := openRunThrough(t, settings, sink.Identity{StoreID: "store", Pipeline: table, Sink: "sink"}, store, 1, nil, dial)
	r.assemble()
	return r
}

var errLost = errors.New("the reply is lost")

// isStatement reports whether a flush is the insert's statement into the table; the next flush is its block.
func isStatement(out []byte, table string) bool {
	return bytes.Contains(out, []byte("INSERT INTO `db`.`"+table+"` ("))
}

// Trap: after a lost reply the server goes on with the insert, and rows appear after a look that found none. The retry ends the
// old insert before it looks.
func TestClickHouse_lateEffectAfterLostReply(t *testing.T) {
	s := clickHouseServer(t)
	const rows = 20
	wants := fmt.Sprint(rows)
	// Every row takes 100 ms in the server.
	slow := "slow UInt8 MATERIALIZED sleepEachRow(0.1), "
	lose := func(table string) chsink.Dial {
		var armed, lost atomic.Bool
		return dialCalls(func(out []byte, send func() error) error {
			switch {
			case isStatement(out, table) && !lost.Load():
				armed.Store(true)
			case armed.Swap(false):
				lost.Store(true)
				go send() // the block is on its way, and nobody waits for the answer
				return errLost
			}
			return send()
		})
	}
	t.Run("control", func(t *testing.T) {
		trapTable(t, s, "late_control", slow, "ORDER BY id"+durable)
		r := trap(t, s, "late_control", newMemorySegments(), lose("late_control"))
		units := r.prepared(trapBatch(rows, 4))
		if o, _, err := r.committer.Commit(context.Background(), units[0]); o != sink.Unknown {
			t.Fatalf("got %v (%v), want unknown", o, err)
		}
		if got := s.count(t, "SELECT count() FROM late_control"); got != "0" {
			t.Fatalf("a look right after the lost reply finds %s rows, want 0: the trap is not sprung", got)
		}
		for deadline := time.Now().Add(30 * time.Second); s.count(t, "SELECT count() FROM late_control") != wants; waitABit() {
			if time.Now().After(deadline) {
				t.Fatalf("the rows of the insert with the lost reply never appear")
			}
		}
	})
	t.Run("sink", func(t *testing.T) {
		trapTable(t, s, "late_sink", slow, "ORDER BY id"+durable)
		r := trap(t, s, "late_sink", newMemorySegments(), lose("late_sink"))
		units := r.prepared(trapBatch(rows, 4))
		if o, _, err := r.committer.Commit(context.Background(), units[0]); o != sink.Unknown {
			t.Fatalf("got %v (%v), want unknown", o, err)
		}
		r.commit(units...)
		<-time.After(3 * time.Second) // longer than the first insert would have taken
		if got := s.count(t, "SELECT count() FROM late_sink"); got != wants {
			t.Errorf("got %s rows, want %s", got, wants)
		}
	})
}

// Trap: the first attempt lies somewhere on the way and arrives after the retry has been acknowledged. The kill could not find
// it; the attempt's number in the fence row refuses it. The control is the same statement without the fence: it doubles.
func TestClickHouse_delayedFirstAttemptIsFenced(t *testing.T) {
	s := clickHouseServer(t)
	trapTable(t, s, "delayed", "", "PARTITION BY n ORDER BY id SETTINGS allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1")
	var delayed string
	r := trap(t, s, "delayed", newMemorySegments(), dialCalls(func(out []byte, send func() error) error {
		if isStatement(out, "delayed") && delayed == "" {
			text := string(out)
			const end = " FORMAT Native"
			delayed = text[strings.Index(text, "INSERT INTO") : strings.Index(text, end)+len(end)]
			return errLost
		}
		return send()
	}))
	units := r.prepared(trapBatch(100, 3))
	if o, _, err := r.committer.Commit(context.Background(), units[0]); o != sink.Unknown {
		t.Fatalf("got %v (%v), want unknown", o, err)
	}
	r.commit(units...)

	block := s.count(t, "SELECT DISTINCT _ingestd_block FROM delayed")
	err := s.native(t, delayed, delayedBlock(t, 100, block))
	if !ch.IsErr(err, proto.Error(395)) || !strings.Contains(err.Error(), "ingestd: the fence row") {
		t.Errorf("the delayed attempt is answered %v, want error 395 of the fence", err)
	}
	if got := s.count(t, "SELECT count() FROM delayed"); got != "100" {
		t.Errorf("got %s rows, want 100", got)
	}
	unfenced := delayed[:strings.Index(delayed, " WHERE throwIf(")] + " FORMAT Native"
	if err := s.native(t, unfenced, delayedBlock(t, 100, block)); err != nil {
		t.Fatal(err)
	}
	if got := s.count(t, "SELECT count() FROM delayed"); got != "200" {
		t.Fatalf("without the fence there are %s rows, want 200: the trap is not sprung", got)
	}
}

// delayedBlock is the block of trapBatch as ch-go's own columns.
func delayedBlock(t *testing.T, rows int, block string) proto.Input {
	t.Helper()
	value, err := strconv.ParseUint(block, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var id, blocks proto.ColUInt64
	n := new(proto.ColUInt8).Nullable()
	for i := range rows {
		id.Append(uint64(i))
		blocks.Append(value)
		n.Append(proto.NewNullable(uint8(i % 3)))
	}
	return proto.Input{{Name: "id", Data: id}, {Name: "n", Data: n}, {Name: "_ingestd_block", Data: blocks}}
}

// native runs one statement through ch-go, as it is written.
func (s *clickHouse) native(t *testing.T, body string, input proto.Input) error {
	t.Helper()
	ctx := context.Background()
	c, err := ch.Dial(ctx, ch.Options{Address: s.addr, Database: "db", User: clickHouseUser, Password: clickHousePassword})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Do(ctx, ch.Query{Body: body, Input: input})
}

// Trap: clickhouse-go's batch rewrites the statement and drops the condition without an error; ch-go sends it as written.
func TestClickHouse_conditionThatClickhouseGoDrops(t *testing.T) {
	s := clickHouseServer(t)
	s.exec(t, "CREATE TABLE dropped (id UInt64) ENGINE = MergeTree ORDER BY id")
	const statement = "INSERT INTO dropped (id) SELECT id FROM input('id UInt64') WHERE throwIf(1, 'never') = 0 FORMAT Native"
	ctx := context.Background()
	conn := s.connect(t)
	defer conn.Close()
	b, err := conn.PrepareBatch(ctx, statement)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Append(uint64(1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(); err != nil {
		t.Fatalf("clickhouse-go keeps the condition now (%v): the sink could use it", err)
	}
	if got := s.count(t, "SELECT count() FROM dropped"); got != "1" {
		t.Fatalf("got %s rows from clickhouse-go, want the 1 that the condition forbids", got)
	}
	err = s.native(t, statement, proto.Input{{Name: "id", Data: proto.ColUInt64{2}}})
	if !ch.IsErr(err, proto.Error(395)) {
		t.Errorf("got %v from ch-go, want error 395", err)
	}
	if got := s.count(t, "SELECT count() FROM dropped WHERE id = 2"); got != "0" {
		t.Errorf("ch-go inserted %s rows that the condition forbids", got)
	}
}

// Trap: with transform_null_in = 0, the server's default, NULL NOT IN (…) is NULL, and the rows of the NULL partition are lost.
func TestClickHouse_nullPartitionIsHealed(t *testing.T) {
	s := clickHouseServer(t)
	const end = "PARTITION BY n ORDER BY id SETTINGS allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1"
	trapTable(t, s, "nulls", "", end)
	store := newMemorySegments()
	r := trap(t, s, "nulls", store, nil)
	units := r.prepared(trapBatch(90, 3))
	r.commit(units...)
	s.exec(t, "CREATE TABLE nulls_copy AS nulls", "INSERT INTO nulls_copy SELECT * FROM nulls",
		"ALTER TABLE nulls DROP PARTITION ID '"+s.text(t, "SELECT DISTINCT _partition_id FROM nulls WHERE n IS NULL")[0]+"'")
	if got := s.count(t, "SELECT count() FROM nulls"); got != "60" {
		t.Fatalf("got %s rows without the partition, want 60", got)
	}
	lost := s.count(t, "SELECT count() FROM nulls_copy WHERE (n) NOT IN (SELECT n FROM nulls)")
	if lost != "0" {
		t.Fatalf("the condition keeps %s rows with the server's default: the trap is not sprung", lost)
	}
	r = openRun(t, chSettings(s.addr, "nulls"), sink.Identity{StoreID: "store", Pipeline: "nulls", Sink: "sink"}, store, 2, r.state, units...)
	r.commit(units...)
	if got := s.count(t, "SELECT countIf(n IS NULL) FROM nulls") + " " + s.count(t, "SELECT count() FROM nulls") + " " + s.count(t, "SELECT uniqExact(id) FROM nulls"); got != "30 90 90" {
		t.Errorf("got %s rows with NULL, all, different ones; want 30 90 90", got)
	}
}

// Trap: the server's default is to queue inserts and to merge them with others' (async_insert = 1). The sink's are in the table
// when they are acknowledged, and are no part of another's block.
func TestClickHouse_insertsAreNotQueued(t *testing.T) {
	s := clickHouseServer(t)
	if got := s.text(t, "SELECT value FROM system.settings WHERE name = 'async_insert'")[0]; got != "1" {
		t.Fatalf("the server's default of async_insert is %s, not 1: the trap is not sprung", got)
	}
	trapTable(t, s, "queued", "", "ORDER BY id"+durable)
	r := trap(t, s, "queued", newMemorySegments(), nil)
	var running atomic.Value
	running.Store("")
	s2 := chSettings(s.addr, "queued")
	r2 := openRunThrough(t, s2, sink.Identity{StoreID: "store", Pipeline: "queued", Sink: "sink"}, newMemorySegments(), 2, r.state, dialCalls(func(out []byte, send func() error) error {
		err := send()
		if isStatement(out, "queued") {
			running.Store(strings.Join(s.text(t, "SELECT concat(Settings['async_insert'], Settings['deduplicate_insert'], Settings['transform_null_in']) FROM system.processes WHERE startsWith(query, 'INSERT INTO `db`.`queued`')"), ","))
		}
		return err
	}))
	r2.assemble()
	r2.commit(r2.prepared(trapBatch(10, 3))...)
	if got := running.Load(); got != "0disable1" {
		t.Errorf("the running insert has async_insert, deduplicate_insert, transform_null_in = %v, want 0disable1", got)
	}
	if got := s.count(t, "SELECT count() FROM queued"); got != "10" {
		t.Errorf("got %s rows right after the acknowledgement, want 10", got)
	}
	if got := s.count(t, "SELECT uniqExact(_part) FROM queued"); got != "1" {
		t.Errorf("got %s parts, want one block as one part", got)
	}
}

// Trap: a profile of the server can make empty aggregates nothing or NULL, cut results short and hide rows. None of it may
// change what the conditions see.
func TestClickHouse_hostileProfileChangesNothing(t *testing.T) {
	const users = `<clickhouse>
	<profiles><hostile>
		<empty_result_for_aggregation_by_empty_set>1</empty_result_for_aggregation_by_empty_set>
		<aggregate_functions_null_for_empty>1</aggregate_functions_null_for_empty>
		<limit>1</limit><offset>1</offset>
		<read_overflow_mode>break</read_overflow_mode><set_overflow_mode>break</set_overflow_mode><timeout_overflow_mode>break</timeout_overflow_mode>
		<use_query_cache>1</use_query_cache><partial_result_on_first_cancel>1</partial_result_on_first_cancel>
	</hostile></profiles>
	<users><hostile>
		<password>secret</password><profile>hostile</profile><quota>default</quota><networks><ip>::/0</ip></networks><access_management>1</access_management>
	</hostile></users></clickhouse>`
	s := startClickHouse(t, testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader: strings.NewReader(users), ContainerFilePath: "/etc/clickhouse-server/users.d/hostile.xml", FileMode: 0o644,
	}))
	defer s.terminate(t)
	settings := func(table string) chsink.Settings {
		c := chSettings(s.addr, table)
		c.User = "hostile"
		return c
	}
	for _, table := range []string{"hostile", "hostile_parts"} {
		end := "ORDER BY id" + durable
		if table == "hostile_parts" {
			end = "PARTITION BY n ORDER BY id SETTINGS allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1"
		}
		t.Run(table, func(t *testing.T) {
			trapTable(t, s, table, "", end)
			store := newMemorySegments()
			id := sink.Identity{StoreID: "store", Pipeline: table, Sink: "sink"}
			r := openRun(t, settings(table), id, store, 1, nil)
			r.assemble()
			units := r.prepared(trapBatch(90, 3))
			// A later run commits it: the condition is true for an empty table.
			r2 := openRun(t, settings(table), id, store, 2, r.state, units...)
			r2.commit(units...)
			// The zombie is refused although its own row was never deleted.
			if o, _, err := r.committer.Commit(context.Background(), units[0]); o != sink.Fenced {
				t.Errorf("got %v (%v) for the older run, want fenced", o, err)
			}
			r3 := openRun(t, settings(table), id, store, 3, r2.state, units...)
			r3.commit(units...)
			if total := s.count(t, "SELECT count() FROM "+table); total != "90" {
				t.Errorf("got %s rows, want 90", total)
			}
		})
	}
}

// Trap: the server dies in an insert over three partitions, after some of them appeared. The retry puts in what is missing.
func TestClickHouse_serverKilledBetweenPartitions(t *testing.T) {
	s := startClickHouse(t)
	defer s.terminate(t)
	docker, err := testcontainers.NewDockerClientWithOpts(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	const rows, tries = 600_000, 12
	for try := range tries {
		table := fmt.Sprintf("halves_%d", try)
		// The text makes the parts large, so that some milliseconds lie between their renames.
		trapTable(t, s, table, "text String MATERIALIZED randomString(100), ", "PARTITION BY n ORDER BY id SETTINGS allow_nullable_key = 1, fsync_after_insert = 1, fsync_part_directory = 1")
		r := trap(t, s, table, newMemorySegments(), nil)
		units := r.prepared(trapBatch(rows, 3))
		partitions := "SELECT toString(uniqExact(partition_id)) FROM system.parts WHERE active AND database = 'db' AND table = '" + table + "'"
		outcome := make(chan sink.Outcome, 1)
		go func() {
			o, _, _ := r.committer.Commit(context.Background(), units[0])
			outcome <- o
		}()
		watch := s.connect(t)
		for {
			var n string
			if err := watch.QueryRow(context.Background(), partitions).Scan(&n); err != nil || n != "0" {
				break
			}
		}
		s.kill(t, docker)
		watch.Close()
		first := <-outcome
		s.restart(t)
		there := s.text(t, partitions)[0]
		t.Logf("try %d: first outcome %v, %s of 3 partitions after the restart", try, first, there)
		if first != sink.Committed {
			r.commit(units...)
		}
		if got := s.count(t, "SELECT count() FROM "+table) + " " + s.count(t, "SELECT uniqExact(id) FROM "+table); got != fmt.Sprint(rows, " ", rows) {
			t.Fatalf("got %s rows and different ones, want %d of both", got, rows)
		}
		if first != sink.Committed && (there == "1" || there == "2") {
			return
		}
	}
	t.Fatalf("in %d tries the server never died between two partitions", tries)
}
