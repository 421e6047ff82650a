package machine

import "testing"

func TestExplore_x(t *testing.T) {
	for _, cfg := range []exploration{
		{name: "file kafka", sinks: [2]kind{file, kafka}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1, limit: 1000000},
		{name: "ch ledger reject", sinks: [2]kind{clickhouse, ledger}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1, refuses: 1, limit: 1000000},
		{name: "ledger file reject ends", sinks: [2]kind{ledger, file}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1, refuses: 1, ends: true, limit: 1000000},
		{name: "alo", sinks: [2]kind{ledger, clickhouse}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1, alo: true, limit: 1000000},
		{name: "alo reject", sinks: [2]kind{ledger, ledger}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1, alo: true, refuses: 1, limit: 1000000},
		{name: "gc", sinks: [2]kind{ledger, file}, records: []int{2, 1}, runs: 2, dies: -1, cuts: 3, faults: 1, collects: true, keep: 1, ends: true, limit: 1000000},
		{name: "three", sinks: [2]kind{ledger, clickhouse}, records: []int{1, 1}, runs: 3, dies: 1, cuts: 2, faults: 1, limit: 1000000},
	} {
		x := newExplorer(cfg, none)
		bad, at := x.explore()
		x.report(t, bad, at)
		t.Log(x.doubled)
	}
}
