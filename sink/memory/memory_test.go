package memory

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// target is a table of the suite.
type target struct {
	table    *Table
	settings Settings
	flaw     flaw
}

func (g *target) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	if g.flaw == keepsSegments {
		g.table.forget()
	}
	p, err := New(g.settings, g.table, f.Do)
	if err != nil {
		return nil, err
	}
	p.flaw = g.flaw
	return p, nil
}

func (g *target) Rows(context.Context) ([]sinktest.Row, error) {
	var rows []sinktest.Row
	for _, data := range g.table.Rows() {
		var r struct {
			ID, Offset  int64
			Text, Value string
		}
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, err
		}
		rows = append(rows, sinktest.Row{ID: r.ID + r.Offset, Text: r.Text + r.Value})
	}
	return rows, nil
}

func harness(f flaw) sinktest.Harness {
	settings := Settings{SegmentRows: 3, UnitSegments: 2, Invalid: "can't be stored", Poison: "refused later"}
	return sinktest.Harness{
		Target: func(testing.TB) sinktest.Target {
			return &target{table: NewTable(), settings: settings, flaw: f}
		},
		Exact: true, Late: true, Invalid: settings.Invalid, Poison: settings.Poison,
	}
}

func TestMemory_conformance(t *testing.T) {
	h := harness(faultless)
	h.Stride = 3 // TestSimMemory has all
	sinktest.Run(t, h)
}

// Every flaw is found, and by the case that is about it: I6 and I7 hold only as far as the suite looks.
func TestMemory_everyFlawIsFound(t *testing.T) {
	by := map[flaw]string{ //nolint:exhaustive // the ends of the list are no flaws
		ignoresLedger:       "commit_repeatedChangesNothing",
		fencesNothing:       "zombie_commitAfterFence",
		forgetsLease:        "atLeastOnce_numberComesAgain",
		forgetsUnit:         "commit_showsExactlyItsRows",
		answersOldLeases:    "zombie_isNotToldCommitted",
		ignoresStore:        "otherStore_isLoud",
		adoptsNothing:       "otherStore_isAdopted",
		ignoresNonce:        "copiedStore_isLoud",
		showsPrepared:       "prepare_showsNothing",
		takesUnknownForDone: "commit_unknownIsAskedAgain",
		writesInParts:       "crash_atEveryCall",
		keepsSegments:       "restore_atAnyManifest",
		keepsBatch:          "writer_keepsNoBatch",
		loadsFirst:          "commit_repeatedChangesNothing",
		dropsTheRest:        "rejected_isReplaced",
		dropsValues:         "rejected_isReplaced",
		emptyCommittables:   "emptyCheckpoint_showsNothing",
		dropsTasks:          "tasks_mayChangeBetweenRuns",
		assemblesAtRandom:   "assemble_isDeterministic",
	}
	for f := faultless + 1; f < flawsEnd; f++ {
		h := harness(f)
		h.Histories, h.Stride = 4, 7
		if failed := sinktest.Failures(t, h, by[f]); failed[by[f]] == "" {
			t.Errorf("flaw %d is not found by %q", f, by[f])
		}
	}
}
