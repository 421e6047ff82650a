package telemetry

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// page returns the lines of /metrics that belong to ingestd.
func page(t *testing.T, m *Metrics) []string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var out []string
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, "ingestd_") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// everything reports something of each family.
func everything() *Metrics {
	m := New("v1")
	m.Memory(100, 40)
	p := m.Pipeline("p")
	p.Guarantee("exactly-once")
	p.State("running", []string{"running", "stopped"})
	p.Restarted("failure")
	p.Read(10, 1000)
	p.Lag("orders/0", 5, 1.5)
	p.Skipped(3)
	p.MirrorFailed()
	p.Stage("decode", map[string]int64{"passed": 7, "filtered": 2, "refused": 1})
	p.StateChanged(5)
	p.StateStored(6, time.UnixMilli(1500))
	p.DeadLetters("sink:sink", 4)
	p.Prepared("sink", 7)
	p.Outcome("sink", "committed")
	p.Checkpoint("published")
	p.Phase("total", 250*time.Millisecond)
	p.Committed(time.UnixMilli(1500))
	p.Pending("sink", 2)
	p.Stalled(map[string]time.Duration{"sink sink": 31 * time.Second, "task 0": 30 * time.Second})
	return m
}

// Every family of the table can be reported, has the form that the ecosystem expects, and is in the reference.
func TestMetrics_everyFamilyIsReportedAndDocumented(t *testing.T) {
	lines := page(t, everything())
	reference := string(Reference())
	for _, f := range families() {
		name := "ingestd_" + f.name
		if !slices.ContainsFunc(lines, func(l string) bool {
			return regexp.MustCompile(`^` + name + `(_count)?[{ ]`).MatchString(l)
		}) {
			t.Errorf("%s is in the table, and nothing reports it", name)
		}
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s: a counter, and only a counter, ends in _total", name)
		}
		if !strings.HasSuffix(f.help, ".") || !strings.Contains(reference, "| `"+name+"` | "+string(f.kind)+" |") || !strings.Contains(reference, f.help) {
			t.Errorf("%s is not in the reference as it is in the table", name)
		}
	}
}

func TestMetrics_values(t *testing.T) {
	lines := page(t, everything())
	for _, want := range []string{
		`ingestd_memory_budget_bytes 100`, `ingestd_memory_used_bytes 40`,
		`ingestd_guarantee_info{guarantee="exactly-once",pipeline="p"} 1`,
		`ingestd_pipeline_state{pipeline="p",state="running"} 1`, `ingestd_pipeline_state{pipeline="p",state="stopped"} 0`,
		`ingestd_source_records_total{pipeline="p"} 10`, `ingestd_source_bytes_total{pipeline="p"} 1000`,
		`ingestd_source_lag_records{pipeline="p",split="orders/0"} 5`, `ingestd_source_lag_seconds{pipeline="p",split="orders/0"} 1.5`,
		`ingestd_stage_records_total{pipeline="p",result="passed",stage="decode"} 7`,
		`ingestd_stage_records_total{pipeline="p",result="filtered",stage="decode"} 2`,
		`ingestd_stage_records_total{pipeline="p",result="refused",stage="decode"} 1`,
		`ingestd_dead_letter_records_total{pipeline="p",stage="decode"} 1`, `ingestd_dead_letter_records_total{pipeline="p",stage="sink:sink"} 4`,
		`ingestd_checkpoint_duration_seconds_sum{phase="total",pipeline="p"} 0.25`,
		`ingestd_checkpoint_last_committed_timestamp_seconds{pipeline="p"} 1.5`, `ingestd_checkpoint_pending{pipeline="p",sink="sink"} 2`,
		`ingestd_stalled{pipeline="p"} 1`, `ingestd_stalled_seconds{by="sink sink",pipeline="p"} 31`, `ingestd_stalled_seconds{by="task 0",pipeline="p"} 30`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// What is over is not shown any more, and only that: other pipelines keep theirs.
func TestMetrics_whatIsOverGoesAway(t *testing.T) {
	m := everything()
	q := m.Pipeline("q")
	q.Stalled(map[string]time.Duration{"task 1": time.Minute})
	q.Guarantee("exactly-once")
	p := m.Pipeline("p")
	p.Stalled(map[string]time.Duration{"task 0": 40 * time.Second})
	p.Guarantee("at-least-once")
	var got []string
	for _, l := range page(t, m) {
		if strings.HasPrefix(l, "ingestd_stalled") || strings.HasPrefix(l, "ingestd_guarantee") {
			got = append(got, l)
		}
	}
	want := []string{
		`ingestd_guarantee_info{guarantee="at-least-once",pipeline="p"} 1`, `ingestd_guarantee_info{guarantee="exactly-once",pipeline="q"} 1`,
		`ingestd_stalled{pipeline="p"} 1`, `ingestd_stalled{pipeline="q"} 1`,
		`ingestd_stalled_seconds{by="task 0",pipeline="p"} 40`, `ingestd_stalled_seconds{by="task 1",pipeline="q"} 60`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Stalled(nil)
	for _, l := range page(t, m) {
		if strings.HasPrefix(l, "ingestd_stalled") && strings.Contains(l, `pipeline="p"`) && l != `ingestd_stalled{pipeline="p"} 0` {
			t.Errorf("after the stall: %s", l)
		}
	}
}
