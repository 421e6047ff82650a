package machine

import (
	"os"
	"strings"
	"testing"
)

// short returns the configurations of every test run: two tasks with a record each, two sinks, two checkpoints that may be under
// way together, one fault. States is the number that is visited without the race detector; where it is statesMax the search is
// not exhaustive, and the long form goes on.
func short() []exploration {
	two := exploration{records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1}
	const limited = min(statesMax, 400_000) // of what is larger than its time
	with := func(name string, states int, a, b kind, change func(*exploration)) exploration {
		c := two
		c.name, c.states, c.sinks, c.limit = name, states, [2]kind{a, b}, statesMax
		change(&c)
		return c
	}
	return []exploration{
		with("three leases, one dies after its claim", statesMax, ledger, clickhouse, func(c *exploration) { c.runs, c.dies = 3, 1 }),
		with("two runs", 428_000, ledger, ledger, func(*exploration) {}),
		with("clickhouse and file", 151_000, clickhouse, file, func(c *exploration) { c.cuts = 1 }),
		with("kafka and ledger", 51_000, kafka, ledger, func(c *exploration) { c.cuts = 1 }),
		with("several units, refused rows", 130_000, clickhouse, file, func(c *exploration) { c.cuts, c.refuses, c.units = 1, 1, true }),
		with("refused rows to the end", 348_000, ledger, file, func(c *exploration) { c.cuts, c.refuses, c.ends = 1, 2, true }),
		with("empty checkpoints", 52_000, ledger, file, func(c *exploration) { c.faults, c.idle = 0, true }),
		with("collection", statesMax, ledger, file, func(c *exploration) { c.collects, c.keep = true, 1 }),
		with("at-least-once", 279_000, ledger, ledger, func(c *exploration) { c.alo = true }),
		with("keyed state", 300_000, ledger, ledger, func(c *exploration) { c.keyed, c.keep, c.faults, c.limit = true, 2, 0, limited }),
		with("keyed state, shared objects", limited, ledger, ledger, func(c *exploration) {
			c.keyed, c.shared, c.keep, c.limit = true, true, 1, limited
		}),
		with("a pin by hand", limited, ledger, ledger, func(c *exploration) {
			c.keyed, c.keep, c.faults, c.runs, c.cuts, c.hands, c.limit = true, 1, 0, 3, 1, [3]hand{1: pinNewest}, limited
		}),
		with("a pin by hand, one run after the other", 45_000, ledger, ledger, func(c *exploration) {
			c.keyed, c.keep, c.faults, c.runs, c.cuts, c.hands, c.oneByOne = true, 1, 0, 3, 1, [3]hand{1: pinNewest}, true
		}),
		with("pinned and let go", 2_500, ledger, ledger, func(c *exploration) {
			c.keyed, c.keep, c.faults, c.runs, c.cuts, c.hands, c.oneByOne = true, 1, 0, 3, 1, [3]hand{1: pinNewest, 2: unpinAll}, true
		}),
		with("savepoints", limited, ledger, file, func(c *exploration) {
			c.keyed, c.saves, c.holds, c.keep, c.faults, c.limit = true, true, true, 1, 0, limited
		}),
		with("at-least-once, refused rows", 115_000, ledger, ledger, func(c *exploration) { c.alo, c.refuses = true, 1 }),
	}
}

// long returns the configurations in which the protocol was found right before there was code, as far as they concern the
// machine, and those of the short form to their end.
func long() []exploration {
	const limit = 12_000_000
	with := func(name string, a, b kind, runs, faults int, change func(*exploration)) exploration {
		c := exploration{
			name: name, sinks: [2]kind{a, b}, records: []int{1, 1}, runs: runs, dies: -1, cuts: 2, faults: faults, limit: limit,
		}
		change(&c)
		return c
	}
	collecting := func(c *exploration) { c.collects, c.keep, c.records, c.cuts = true, 1, []int{2, 1}, 3 }
	configs := []exploration{
		with("ledger, clickhouse, three runs, one fault", ledger, clickhouse, 3, 1, func(*exploration) {}),
		with("kafka, file, three runs, two faults", kafka, file, 3, 2, func(*exploration) {}),
		with("clickhouse, kafka, three records, two faults", clickhouse, kafka, 2, 2, func(c *exploration) { c.records = []int{2, 1} }),
		with("clickhouse twice, two faults", clickhouse, clickhouse, 2, 2, func(*exploration) {}),
		with("ledger, clickhouse, three faults", ledger, clickhouse, 2, 3, func(*exploration) {}),
		with("collection: ledger, file, three checkpoints, two faults", ledger, file, 2, 2, collecting),
		with("collection: clickhouse, file, three runs", clickhouse, file, 3, 1, func(c *exploration) { c.collects, c.keep = true, 1 }),
		with("collection: kafka, file, three runs", kafka, file, 3, 1, func(c *exploration) { c.collects, c.keep = true, 1 }),
		with("at-least-once: ledger, clickhouse, three runs", ledger, clickhouse, 3, 1, func(c *exploration) { c.alo = true }),
		with("at-least-once: kafka, file, three runs, two faults", kafka, file, 3, 2, func(c *exploration) { c.alo = true }),
		with("refused rows: clickhouse, ledger, three runs, to the end", clickhouse, ledger, 3, 1, func(c *exploration) { c.refuses, c.ends = 1, true }),
	}
	for _, c := range short() {
		c.limit, c.states = limit, 0
		configs = append(configs, c)
	}
	return configs
}

// The real Machine under every interleaving of a small world holds I1 to I7, I9, I12 and I13, and from every state a rescuer
// commits every record: exactly once, or at least once. With at-least-once some state must show a duplicate, else the control
// shows nothing. EXPLORE=long takes minutes and up to 3 GiB.
func TestExplore_holdsTheInvariants(t *testing.T) {
	configs := short()
	if os.Getenv("EXPLORE") == "long" {
		configs = long()
	}
	total := 0
	for _, cfg := range configs {
		t.Run(cfg.name, func(t *testing.T) {
			x := newExplorer(cfg, none)
			bad, at := x.explore()
			total += x.states.n
			exhaustive := cfg.limit == 0 || x.states.n < cfg.limit
			t.Logf("%d states (exhaustive: %v), %d moves, depth %d; parts: %d runs, %d logs, %d and %d targets; %d worlds rescued",
				x.states.n, exhaustive, x.moves, x.depth, len(x.runs.all), len(x.logs.all), len(x.targets[0].all), len(x.targets[1].all), len(x.judged))
			switch {
			case bad != "":
				t.Errorf("%s\n  %s", bad, strings.Join(x.trace(at), "\n  "))
			case x.states.n < min(cfg.states, statesMax):
				t.Errorf("got %d states, want at least %d: something is not explored any more", x.states.n, min(cfg.states, statesMax))
			case cfg.alo && !x.doubled:
				t.Error("at-least-once shows no duplicate anywhere: the exploration does not tell the two deliveries apart")
			}
		})
	}
	t.Logf("%d states in %d configurations", total, len(configs))
}
