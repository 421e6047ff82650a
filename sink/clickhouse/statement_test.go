package clickhouse

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/sink"
)

func testInsertion() *insertion {
	return &insertion{
		table:   tableName{"db", "events"},
		columns: []wireColumn{{"id", "UInt64"}, {"it's `odd`", "Enum8('a\\'b' = 1)"}},
		block:   7<<counterBits | 5,
		fence:   fenceRow{lease: 3, attempt: 2, nonce: "N"},
		id:      sink.Identity{StoreID: "S", Pipeline: "p'1", Lane: 4, Sink: "sink"},
	}
}

const (
	wantUnconditional = "INSERT INTO `db`.`events` (`id`, `it's \\`odd\\``, _ingestd_block) SELECT `id`, `it's \\`odd\\``, _ingestd_block" +
		" FROM input('`id` UInt64, `it\\'s \\\\`odd\\\\`` Enum8(\\'a\\\\\\'b\\' = 1), _ingestd_block UInt64')"
	wantFence = " WHERE throwIf((SELECT max((lease, attempt, nonce)) FROM `db`.`ingestd_fence` WHERE pipeline = 'p\\'1' AND lane = 4 AND sink = 'sink')" +
		" != (toUInt64(3), toUInt64(2), 'N'), 'ingestd: the fence row is not this run\\'s') = 0"
)

func TestStatement_firstAttemptHasTheFenceOnly(t *testing.T) {
	in := testInsertion()
	in.partitionKey = "toYYYYMM(ts)" // not asked for in the first attempt
	if got, want := in.statement(), wantUnconditional+wantFence+" FORMAT Native"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestStatement_retryKeepsWhatIsMissing(t *testing.T) {
	cases := map[string]string{
		"":                   " AND (SELECT count() FROM `db`.`events` WHERE _ingestd_block = 7696581394437) = 0",
		"toYYYYMM(ts)":       " AND (toYYYYMM(ts)) NOT IN (SELECT toYYYYMM(ts) FROM `db`.`events` WHERE _ingestd_block = 7696581394437)",
		"(a, toYYYYMM(`b`))": " AND ((a, toYYYYMM(`b`))) NOT IN (SELECT (a, toYYYYMM(`b`)) FROM `db`.`events` WHERE _ingestd_block = 7696581394437)",
	}
	for key, condition := range cases {
		in := testInsertion()
		in.partitionKey, in.missingOnly = key, true
		if got, want := in.statement(), wantUnconditional+wantFence+condition+" FORMAT Native"; got != want {
			t.Errorf("partition key %q: got\n%s, want\n%s", key, got, want)
		}
	}
}

func TestStatement_withoutABlockNumberThereIsNoColumn(t *testing.T) {
	in := testInsertion()
	in.block = 0
	if got := in.statement(); strings.Contains(got, provenanceColumn) {
		t.Errorf("got %s, want nothing of %s", got, provenanceColumn)
	}
	if got := in.plain(); strings.Contains(got, "throwIf") || !strings.HasSuffix(got, ") FORMAT Native") {
		t.Errorf("got %s, want an insert without conditions", got)
	}
}

// The kill finds the inserts of this pipeline, lane and sink, of leases up to the own, in this database, and no others.
func TestStatement_killFindsOnlyItsOwn(t *testing.T) {
	id := sink.Identity{Pipeline: "a/b", Lane: 2, Sink: "dead_letter"}
	c := &sink.Committable{Lease: 1, Checkpoint: 41, Unit: 3}
	name := queryID("d/b", id, 9, c, 6)
	if want := "ingestd/a%2Fb/2/dead_letter/d%2Fb/9/41/3/6"; name != want {
		t.Fatalf("got the query_id %s, want %s", name, want)
	}
	if got := strings.Split(name, "/")[leaseField-1]; got != "9" {
		t.Errorf("field %d of %s is %s, want the lease", leaseField, name, got)
	}
	want := "KILL QUERY WHERE startsWith(query_id, 'ingestd/a%2Fb/2/dead_letter/d%2Fb/') AND toUInt64OrZero(splitByChar('/', query_id)[6]) <= 9" +
		" AND current_database = 'd/b' SYNC"
	if got := killRunning("d/b", id, 9); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, other := range []sink.Identity{{Pipeline: "a/b", Lane: 2, Sink: "dead"}, {Pipeline: "a", Lane: 2, Sink: "b"}, {Pipeline: "a/b", Lane: 22, Sink: "dead_letter"}} {
		if strings.HasPrefix(queryID("d/b", other, 1, c, 1), queryPrefix("d/b", id)) {
			t.Errorf("the inserts of %+v look like those of %+v", other, id)
		}
	}
}

func TestStatement_settingsThatTheServerHas(t *testing.T) {
	ours := insertSettings(&Settings{ReceiveTimeout: 1500 * time.Millisecond, InsertTimeout: time.Minute})
	values := map[string]string{}
	for _, s := range ours {
		if _, twice := values[s.Key]; twice {
			t.Errorf("the setting %s is sent twice", s.Key)
		}
		values[s.Key] = s.Value
		if !reserved(s.Key) {
			t.Errorf("a config may overwrite %s", s.Key)
		}
	}
	for key, want := range map[string]string{
		"async_insert": "0", "deduplicate_insert": "disable", "deduplicate_insert_select": "disable", "insert_deduplicate": "0",
		"transform_null_in": "1", "receive_timeout": "2", "poll_interval": "1", "max_execution_time": "60",
	} {
		if values[key] != want {
			t.Errorf("got %s = %q, want %q", key, values[key], want)
		}
	}
	got := present(ours, map[string]setting{"async_insert": {}, "poll_interval": {}})
	if len(got) != 2 || got[0].Key != "async_insert" || got[1] != (ch.Setting{Key: "poll_interval", Value: "1"}) {
		t.Errorf("got %v, want the two that the server has", got)
	}
}

func TestStatement_tableSettingsAreReadFromTheDefinition(t *testing.T) {
	full := "MergeTree PARTITION BY x ORDER BY (y, ' SETTINGS fsync_after_insert = 0, ') SETTINGS fsync_after_insert = 1, index_granularity = 8192"
	if got, ok := tableSetting(full, "fsync_after_insert"); got != "1" || !ok {
		t.Errorf("got %q, %t; want 1", got, ok)
	}
	if got, ok := tableSetting(full, "fsync_part_directory"); ok {
		t.Errorf("got %q, want nothing", got)
	}
	if got, ok := tableSetting("MergeTree ORDER BY x", "fsync_after_insert"); ok {
		t.Errorf("got %q, want nothing", got)
	}
}
