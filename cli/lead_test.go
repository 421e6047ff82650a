package cli

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
)

// Every end that is no success says what leads on, with the commands as they are typed.
func TestLeadOn_namesACommandForEveryEnd(t *testing.T) {
	for r := machine.Restart; r <= machine.StoppedByRule; r++ {
		res := pipeline.Result{Name: "orders", Stop: machine.Stop{Reason: r}}
		got := leadOn(res, "/etc/my pipelines.toml")
		if !strings.Contains(got, "ingestd ") || !strings.Contains(got, " -c '/etc/my pipelines.toml'") {
			t.Errorf("%s: got %q, want a command with the config", r, got)
		}
		if code := exitForReason(r); code == exitDone {
			t.Errorf("%s: exit code %d", r, code)
		}
	}
	gone := pipeline.Result{Name: "orders", Stop: machine.Stop{
		Reason: machine.StoppedLost, Text: `sink "dead_letter", checkpoint 7 of lease 2, 3 rows: the file is gone`,
		Pending: []machine.PendingSink{{Name: pipeline.MainSink}, {Name: pipeline.DeadLetterSink}},
	}}
	if got := leadOn(gone, "my.toml"); !strings.Contains(got, "ingestd checkpoint drop orders dead_letter --accept-loss --reason WHY -c my.toml") {
		t.Errorf("prepared rows are lost: got %q", got)
	}
	refused := pipeline.Result{Name: "orders", Stop: machine.Stop{Reason: machine.StoppedMisconfigured}, Err: pipeline.ErrGuarantee}
	if got := leadOn(refused, "my.toml"); !strings.Contains(got, "another delivery") || !strings.Contains(got, "ingestd validate --connect -c my.toml") {
		t.Errorf("got %q", got)
	}
}

func TestQuoted_isOneWordOfAShell(t *testing.T) {
	for in, want := range map[string]string{
		"my.toml": "my.toml", "/etc/a-b_c.toml": "/etc/a-b_c.toml", "my file": "'my file'", "it's": `'it'\''s'`, "": "''", "$(x)": "'$(x)'",
	} {
		if got := quoted(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// The codes are stable: scripts and the unit of the system's manager depend on them.
func TestExitTable_isStable(t *testing.T) {
	want := []string{"done", "failed", "usage", "config", "guarantee", "fenced", "lost", "rule"}
	table := exitTable()
	if len(table) != len(want) {
		t.Fatalf("got %d codes, want %d", len(table), len(want))
	}
	for i, e := range table {
		if e.code != i || e.name != want[i] || e.meaning == "" {
			t.Errorf("got %d %q %q, want %d %q and what it means", e.code, e.name, e.meaning, i, want[i])
		}
	}
}
