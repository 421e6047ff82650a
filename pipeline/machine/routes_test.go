package machine

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/sink"
)

// routedConfig has two sinks that take every row, and no dead letters.
func routedConfig() Config {
	cfg := flowConfig()
	cfg.Stages, cfg.Sinks, cfg.DeadLetter = []string{"source", "route", "sink:left", "sink:right"}, []string{"left", "right"}, -1
	return cfg
}

// routedFlow gives each row to both sinks, but what task 1 reads to the second one only.
func routedFlow(t *testing.T, cfg Config) *flow {
	t.Helper()
	f := newFlow(t, cfg)
	f.route = func(task int, n int64, p *Part) {
		left := checkpoint.StageCount{Stage: "sink:left", In: n, Passed: n}
		p.Sinks[1] = p.Sinks[0]
		if task == 1 {
			left.Passed, left.Filtered, p.Sinks[0] = 0, n, sink.Part{}
		}
		p.Stages = []checkpoint.StageCount{
			{Stage: "source", In: n, Passed: n}, {Stage: "route", In: n, Passed: n}, left, {Stage: "sink:right", In: n, Passed: n},
		}
	}
	return f
}

// I12: sinks are side by side: each takes in what came to all of them, and what it does not want is filtered there.
func TestMachine_accountsOfSeveralSinksBalanceEach(t *testing.T) {
	for _, alo := range []bool{false, true} {
		cfg := routedConfig()
		cfg.AtLeastOnce = alo
		f := routedFlow(t, cfg)
		f.run()
		if f.stop == nil || f.stop.Reason != Done {
			t.Fatalf("got the end %+v", f.stop)
		}
		c := f.newest().Counters
		if left, right := c.Stages[2], c.Stages[3]; left != (checkpoint.StageCount{Stage: "sink:left", In: 8, Passed: 4, Filtered: 4}) ||
			right != (checkpoint.StageCount{Stage: "sink:right", In: 8, Passed: 8}) || !c.Balanced() {
			t.Errorf("got %+v", c)
		}
		if len(f.targets[0]) != 4 || len(f.targets[1]) != 8 {
			t.Errorf("got the rows %q", f.targets)
		}
	}
}

// I7: a sink that does not answer keeps no other from its next commit; both have one under way at once.
func TestMachine_sinksCommitSideBySide(t *testing.T) {
	f := routedFlow(t, routedConfig())
	f.send(Started{})
	under := map[int]int{}
	f.hold = func(e Effect) bool {
		c, ok := e.(Commit)
		if ok {
			under[c.Sink]++
		}
		return ok && c.Sink == 0
	}
	f.send(TimerFired{Timer{Kind: TimerInterval}}, TimerFired{Timer{Kind: TimerInterval}}, TimerFired{Timer{Kind: TimerInterval}})
	if under[0] != 1 || under[1] != 2 {
		t.Errorf("got %d commits of the sink that does not answer and %d of the other, want 1 and as many as may be pending, 2", under[0], under[1])
	}
	if len(f.m.sinks[0].queue) != 2 || len(f.m.sinks[1].queue) != 0 {
		t.Errorf("got %d and %d committables waiting, want 2 and 0", len(f.m.sinks[0].queue), len(f.m.sinks[1].queue))
	}
}

// Rows that a sink collects over checkpoints are counted until a committable names them, and with them the sink may not leave the
// config; nor may it with a committable that is not known committed.
func TestMachine_sinkWithRowsLeftMayNotLeave(t *testing.T) {
	f := routedFlow(t, routedConfig())
	f.collects = map[int]bool{1: true}
	f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}}, TimerFired{Timer{Kind: TimerInterval}})
	if left, right := f.newest().Sinks[0], f.newest().Sinks[1]; left.Held != 0 || right.Held != 4 {
		t.Errorf("got %d and %d rows held, want 0 and 4", left.Held, right.Held)
	}
	without := routedConfig()
	without.Nonce, without.Sinks, without.Stages = "n2", []string{"left"}, []string{"source", "sink:left"}
	entries := len(f.log)
	f.restart(without)
	f.send(Started{})
	if f.stop == nil || f.stop.Reason != StoppedMisconfigured || !strings.Contains(f.stop.Text, `sink "right" is not in the config any more, and 4 rows`) ||
		len(f.stop.Pending) != 1 || f.stop.Pending[0].Held != 4 {
		t.Fatalf("got the end %+v", f.stop)
	}
	if len(f.log) != entries+1 {
		t.Errorf("%d entries were added to the log, want the claim only", len(f.log)-entries)
	}
	with := routedConfig()
	with.Nonce = "n3"
	f.restart(with)
	f.collects = nil
	f.run()
	if f.stop == nil || f.stop.Reason != Done || f.newest().Sinks[1].Held != 0 || len(f.targets[1]) != 8 {
		t.Fatalf("got the end %+v, %d rows held and the rows %q", f.stop, f.newest().Sinks[1].Held, f.targets[1])
	}
	without.Nonce = "n4"
	f.restart(without)
	f.send(Started{})
	if f.stop != nil && f.stop.Reason != Done {
		t.Errorf("without rows left: got the end %+v", f.stop)
	}
	if s := f.newest().Sinks; len(s) != 2 || s[1].Name != "right" {
		t.Errorf("a sink that left loses its place: %+v", s)
	}
}
