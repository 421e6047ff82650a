package pipeline

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// sized is a source that asks for much at once.
type sized struct {
	*topic
	most int64
}

func (s sized) AcquireMax() int64 { return s.most }

func TestDivideMemory_refusesLessThanTheSum(t *testing.T) {
	const mib = 1 << 20
	defs := func() []*Definition {
		a, b := newTable(), newTable()
		a.caps.CommitBytes, b.caps.CommitBytes = 100*mib, 3*mib
		return []*Definition{
			{Name: "a", Tasks: 2, Source: newTopic(), Sink: a, DeadLetter: b},                         // 16 MiB and 103 for commits
			{Name: "b", Tasks: 1, Source: sized{newTopic(), 20 * mib}, Sink: newTable()},              // one request is more than a task's minimum
			{Name: "c", Tasks: 4, Source: sized{newTopic(), 20 * mib}, Sink: sink.Plugin(newTable())}, // one request is less
		}
	}
	const need = (16 + 103 + 20 + 32) * mib
	if _, _, err := DivideMemory(need-1, defs()); err == nil || fault.KindOf(err) != fault.Misconfigured ||
		!strings.Contains(err.Error(), "memory_limit is 171.0 MiB (179306495 bytes), but the pipelines need at least 171 MiB: 103 MiB for commits and 68 MiB for data in flight") {
		t.Errorf("a byte too little: got %v", err)
	}
	budget, shares, err := DivideMemory(need, defs())
	if err != nil {
		t.Fatal(err)
	}
	if budget.Total() != 68*mib {
		t.Errorf("got a budget of %d, want what is left beside the commits, %d", budget.Total(), 68*mib)
	}
	for name, want := range map[string]int64{"a": 16 * mib, "b": 20 * mib, "c": 32 * mib} {
		if s := shares[name]; !s.TryAcquire(want) || s.TryAcquire(1) {
			t.Errorf("pipeline %s does not get its minimum of %d, and nothing more", name, want)
		}
	}
}
