// Package sinktest is the conformance suite of sinks. Each case is one rule of the contract in package sink, with the reason for
// it; every sink passes all cases that its [Harness] makes possible.
//
// The suite plays the coordinator: it claims leases, publishes manifests, recovers by the protocol's order, and knows which rows
// must be in the target, once. Faults come from [Faults], which a harness puts between the sink and its target; histories are
// drawn from seeds, and a failure prints the seed.
package sinktest

import (
	"context"
	"testing"

	"github.com/ingestd/ingestd/sink"
)

// Row is what a reader of the target sees of one row of a batch of [Schema]. Of a dead letter ID is the offset, and Text the
// value.
type Row struct {
	ID   int64
	Text string
}

// Target is one fresh target of a sink: an empty table, topic or folder. It lives as long as the test and survives the death of
// the processes that write to it.
type Target interface {
	// Plugin returns the sink, configured for this target, as a new process has it. Every call that it makes to the target
	// goes through f.Do, so that the suite can break it.
	Plugin(f *Faults) (sink.Plugin, error)
	// Rows returns every row that a reader of the target sees, in any order, doubled rows as often as they are there.
	Rows(ctx context.Context) ([]Row, error)
}

// Machine is a [Target] whose machine can lose power: what was not made durable may be gone then.
type Machine interface {
	Target
	// LosePower drops what is not durable. seed chooses among what may be lost.
	LosePower(seed uint64)
}

// Harness is how a sink joins the suite.
type Harness struct {
	// Target returns a fresh target. Cases call it many times.
	Target func(tb testing.TB) Target
	// Exact is true when the committables of a checkpoint hold exactly the checkpoint's rows. A sink that collects the rows
	// of several checkpoints before it shows them leaves it false.
	Exact bool
	// Late is true when a call to the target may take effect after its caller was told that it failed, as with servers.
	Late bool
	// LosesPower is true when the harness's targets are of type [Machine].
	LosesPower bool
	// Poison is a text that the target refuses at commit, and not before; "" when there is none.
	Poison string
	// Invalid is a text that Write refuses; "" when there is none.
	Invalid string
	// Histories is how many random histories a case tries; 0 means 60, and a quarter of it with -short.
	Histories int
	// Seed is the first seed of random histories; 0 means 1.
	Seed uint64
	// Stride makes the cases that break every call of a script break each Stride-th only; 0 means 1. With -short fewer.
	Stride int
}

// Case is one rule of the contract.
type Case struct {
	// Name says what holds, as a test's name does.
	Name string
	// Rule is the rule with its reason.
	Rule string
	// Level is MUST or SHOULD, as in docs/connector-contract.md.
	Level string

	skip func(h *Harness, c sink.Capabilities) string
	run  func(s *suite)
}

// Run runs every case of the suite against the sink.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Check(t, h) })
	}
}

// Check runs one case. It skips the test when the sink can't do what the case is about.
func (c *Case) Check(tb testing.TB, h Harness) {
	tb.Helper()
	s := &suite{TB: tb, h: h, rule: c.Rule, ctx: context.WithoutCancel(tb.Context())}
	p, err := h.Target(tb).Plugin(&Faults{})
	if err != nil {
		tb.Fatalf("the plugin can't be made: %v", err)
	}
	s.caps = p.Capabilities()
	if c.skip != nil {
		if why := c.skip(&h, s.caps); why != "" {
			tb.Skip(why)
		}
	}
	c.run(s)
}

// Cases returns all cases, in the order of the contract's document.
func Cases() []Case {
	cases := contractCases()
	cases = append(cases, faultCases()...)
	return append(cases, historyCases()...)
}

// suite is one case being run.
type suite struct {
	testing.TB
	h    Harness
	rule string
	caps sink.Capabilities
	ctx  context.Context //nolint:containedctx // of the case, which this value is
}

func (s *suite) stride() int {
	n := max(s.h.Stride, 1)
	if testing.Short() {
		n = 4*n + 1
	}
	return n
}

func (s *suite) histories() int {
	n := s.h.Histories
	if n == 0 {
		n = 60
	}
	if testing.Short() {
		n = (n + 3) / 4
	}
	return n
}

func (s *suite) firstSeed() uint64 { return max(s.h.Seed, 1) }
