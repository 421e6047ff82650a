//go:build integration

package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
)

// inspect looks at a table and returns its findings.
func inspect(t *testing.T, s chsink.Settings) sink.Inspection {
	t.Helper()
	p, err := chsink.New(s)
	if err != nil {
		t.Fatal(err)
	}
	i, err := p.Inspect(context.Background(), sink.Identity{Pipeline: "p", Sink: "sink"})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

const durable = " SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"

// The goal is that every condition that breaks exactly-once is found before a row is written, with the statement that mends it.
func TestClickHouse_inspectionFindsWhatBreaksExactlyOnce(t *testing.T) {
	s := clickHouseServer(t)
	const columns = "(id UInt64, ts DateTime, _ingestd_block UInt64, INDEX b _ingestd_block TYPE minmax)"
	cases := []struct {
		name, create string
		level        sink.Level
		text, remedy string
	}{
		{"in_provenance", "CREATE TABLE in_provenance (id UInt64) ENGINE = MergeTree ORDER BY id" + durable, sink.Forbids, "no column _ingestd_block", "ALTER TABLE `db`.`in_provenance` ADD COLUMN IF NOT EXISTS _ingestd_block UInt64 CODEC(T64, ZSTD(1)), ADD INDEX"},
		{"in_provenance_type", "CREATE TABLE in_provenance_type (id UInt64, _ingestd_block String) ENGINE = MergeTree ORDER BY id" + durable, sink.Forbids, "not a plain UInt64", "DROP COLUMN"},
		{"in_index", "CREATE TABLE in_index (id UInt64, _ingestd_block UInt64) ENGINE = MergeTree ORDER BY id" + durable, sink.Note, "has no index", "ADD INDEX"},
		{"in_fsync", "CREATE TABLE in_fsync " + columns + " ENGINE = MergeTree ORDER BY id SETTINGS fsync_after_insert = 1", sink.Forbids, "fsync_part_directory", "ALTER TABLE `db`.`in_fsync` MODIFY SETTING fsync_part_directory = 1"},
		{"in_replacing", "CREATE TABLE in_replacing " + columns + " ENGINE = ReplacingMergeTree ORDER BY id" + durable, sink.Forbids, "ReplacingMergeTree may drop", ""},
		{"in_summing", "CREATE TABLE in_summing " + columns + " ENGINE = SummingMergeTree ORDER BY id" + durable, sink.Forbids, "SummingMergeTree may drop", ""},
		{"in_aggregating", "CREATE TABLE in_aggregating " + columns + " ENGINE = AggregatingMergeTree ORDER BY id" + durable, sink.Forbids, "AggregatingMergeTree may drop", ""},
		{"in_null", "CREATE TABLE in_null (id UInt64, ts DateTime, _ingestd_block UInt64) ENGINE = Null", sink.Forbids, "Null keeps no rows", ""},
		{"in_buffer", "CREATE TABLE in_buffer AS in_index ENGINE = Buffer(db, in_index, 1, 1, 1, 1, 1, 1, 1)", sink.Forbids, "Buffer passes rows on", ""},
		{"in_memory", "CREATE TABLE in_memory (id UInt64, _ingestd_block UInt64) ENGINE = Memory", sink.Forbids, "not of the MergeTree family", ""},
		{"in_view", "CREATE VIEW in_view AS SELECT 1 AS id", sink.Blocks, "is a View", ""},
		{"in_ttl", "CREATE TABLE in_ttl " + columns + " ENGINE = MergeTree ORDER BY id TTL ts + INTERVAL 1 DAY" + durable, sink.Weakens, "TTL (ts + toIntervalDay(1))", ""},
		{"in_partition", "CREATE TABLE in_partition (id UInt64, day Date DEFAULT toDate(id), _ingestd_block UInt64, INDEX b _ingestd_block TYPE minmax) ENGINE = MergeTree PARTITION BY day ORDER BY id" + durable, sink.Forbids, "column `day`, which is not written", "columns"},
		{"in_type", "CREATE TABLE in_type (id UInt64, p Point, _ingestd_block UInt64, INDEX b _ingestd_block TYPE minmax) ENGINE = MergeTree ORDER BY id" + durable, sink.Blocks, "column `p`: type Point", "columns"},
		{"in_missing", "SELECT 1", sink.Blocks, "does not exist", "CREATE TABLE"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s.exec(t, c.create)
			got := inspect(t, chSettings(s.addr, c.name)).Findings
			for _, f := range got {
				if f.Level == c.level && strings.Contains(f.Text, c.text) && strings.Contains(f.Remedy, c.remedy) {
					return
				}
			}
			t.Errorf("got %+v, want level %d with %q and remedy %q", got, c.level, c.text, c.remedy)
		})
	}
	t.Run("view", func(t *testing.T) {
		s.exec(t, "CREATE TABLE in_source "+columns+" ENGINE = MergeTree ORDER BY id"+durable,
			"CREATE MATERIALIZED VIEW in_mv ENGINE = MergeTree ORDER BY id AS SELECT id FROM in_source")
		got := inspect(t, chSettings(s.addr, "in_source")).Findings
		if len(got) != 1 || got[0].Level != sink.Weakens || !strings.Contains(got[0].Text, "view db.in_mv") {
			t.Errorf("got %+v, want one finding about the view", got)
		}
	})
	t.Run("clean", func(t *testing.T) {
		s.exec(t, "CREATE TABLE in_clean "+columns+" ENGINE = MergeTree ORDER BY id"+durable)
		got := inspect(t, chSettings(s.addr, "in_clean"))
		if len(got.Findings) != 0 {
			t.Errorf("got %+v, want no findings", got.Findings)
		}
		if len(got.Schema.Fields) != 2 || got.Schema.Fields[1].Name != "ts" {
			t.Errorf("got the schema %+v, want id and ts", got.Schema)
		}
	})
	t.Run("mended", func(t *testing.T) {
		f := inspect(t, chSettings(s.addr, "in_provenance")).Findings
		s.exec(t, f[0].Remedy)
		if got := inspect(t, chSettings(s.addr, "in_provenance")).Findings; len(got) != 0 {
			t.Errorf("got %+v after the remedy, want nothing", got)
		}
		f = inspect(t, chSettings(s.addr, "in_fsync")).Findings
		s.exec(t, f[0].Remedy)
		if got := inspect(t, chSettings(s.addr, "in_fsync")).Findings; len(got) != 0 {
			t.Errorf("got %+v after the remedy, want nothing", got)
		}
	})
}
