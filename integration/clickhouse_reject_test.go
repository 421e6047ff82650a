//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// rejection is one kind of refused row.
type rejection struct {
	name, more string
	bad        []int
}

// Rows that the server refuses are found one by one, whatever refuses them; nothing of their unit is in the table before it is
// replaced, and the throw-away table is gone.
func TestClickHouse_refusedRowsAreFound(t *testing.T) {
	s := clickHouseServer(t)
	many := make([]int, 0, 200)
	for i := range 200 {
		many = append(many, i*25)
	}
	cases := []rejection{
		{"one", "CONSTRAINT c CHECK id != 4321, ", []int{4321}},
		{"two_constraints", "CONSTRAINT c CHECK id != 7, CONSTRAINT d CHECK id != 3, ", []int{3, 7}},
		{"many", "CONSTRAINT c CHECK id % 25 != 0, ", many},
		{"default", "d UInt8 DEFAULT throwIf(id = 17 OR id = 4999, 'by the default'), ", []int{17, 4999}},
		{"materialized", "m Date MATERIALIZED toDate(if(id = 2500, 'no date', '2020-01-01')), ", []int{2500}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			table := "reject_" + c.name
			trapTable(t, s, table, c.more, "PARTITION BY id % 2 ORDER BY id"+durable)
			store := newMemorySegments()
			r := trap(t, s, table, store, nil)
			units := r.prepared(trapBatch(5000, 3))
			begin := time.Now()
			o, rejected, err := r.committer.Commit(context.Background(), units[0])
			if o != sink.Rejected {
				t.Fatalf("got %v (%v), want rejected", o, err)
			}
			t.Logf("found in %v", time.Since(begin).Round(time.Millisecond))
			var got []int
			for _, row := range rejected {
				got = append(got, int(row.Row))
				if want := fmt.Sprintf("raw %d", row.Row); string(row.Letter.Value) != want || row.Letter.Reason == "" || row.Letter.Offset != record.Offset(row.Row) {
					t.Errorf("the letter of row %d is %+v, want the value %q, its offset and a reason", row.Row, row.Letter, want)
				}
			}
			if !slices.Equal(got, c.bad) {
				t.Errorf("got the rows %v, want %v", got, c.bad)
			}
			if n := s.count(t, "SELECT count() FROM "+table); n != "0" {
				t.Errorf("%s rows are in the table before the unit is replaced", n)
			}
			by, err := r.committer.Replace(context.Background(), units[0], rejected, units[0].Unit+1)
			if err != nil {
				t.Fatal(err)
			}
			r.commit(by)
			want := fmt.Sprint(5000 - len(c.bad))
			if n := s.count(t, "SELECT count() FROM "+table); n != want || fmt.Sprint(by.Rows) != want {
				t.Errorf("got %s rows, and %d in the replacement, want %s", n, by.Rows, want)
			}
			if o, _, err := r.committer.Commit(context.Background(), by); o != sink.Committed {
				t.Errorf("the replacement again: got %v (%v), want committed", o, err)
			}
			if n := s.count(t, "SELECT count() FROM system.tables WHERE startsWith(name, 'ingestd_check_')"); n != "0" {
				t.Errorf("%s throw-away tables are left", n)
			}
		})
	}
	t.Run("stop", func(t *testing.T) {
		trapTable(t, s, "reject_stop", "CONSTRAINT c CHECK id != 5, ", "ORDER BY id"+durable)
		settings := chSettings(s.addr, "reject_stop")
		settings.OnReject = "stop"
		r := openRun(t, settings, sink.Identity{StoreID: "store", Pipeline: "reject_stop", Sink: "sink"}, newMemorySegments(), 1, nil)
		r.assemble()
		units := r.prepared(trapBatch(10, 3))
		o, rejected, err := r.committer.Commit(context.Background(), units[0])
		if o != sink.Retry || len(rejected) != 0 || fault.KindOf(err) != fault.Rejected || !strings.Contains(err.Error(), "topic/0 offset 5") {
			t.Errorf("got %v, %v (%v); want retry, misconfigured and the place of the row", o, fault.KindOf(err), err)
		}
	})
	t.Run("view", func(t *testing.T) {
		trapTable(t, s, "reject_view", "", "ORDER BY id"+durable)
		s.exec(t, "CREATE MATERIALIZED VIEW reject_mv ENGINE = MergeTree ORDER BY id AS SELECT id, throwIf(id = 3) AS x FROM reject_view")
		r := trap(t, s, "reject_view", newMemorySegments(), nil)
		units := r.prepared(trapBatch(10, 3))
		// The view may fail after the table has its rows: then the insert is asked for again, and is there.
		for range 3 {
			o, rejected, err := r.committer.Commit(context.Background(), units[0])
			if o == sink.Rejected || len(rejected) > 0 {
				t.Fatalf("rows are rejected for the fault of a view: %v", err)
			}
		}
		if got := s.count(t, "SELECT count() FROM reject_view"); got != "0" && got != "10" {
			t.Errorf("got %s rows, want none or all", got)
		}
	})
}
