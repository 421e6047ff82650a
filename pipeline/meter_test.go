package pipeline

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/source"
)

// metered is a meter in a bubble.
type metered struct {
	*meter
	t *testing.T
}

func inMeter(t *testing.T, f func(m metered)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(metered{newMeter(telemetry.New("test").Pipeline("p"), []string{MainSink}), t})
	})
}

// wantStalls compares what makes no progress for 30 seconds.
func (m metered) wantStalls(want ...string) {
	m.t.Helper()
	var got []string
	for _, s := range m.stalls(time.Now(), 30*time.Second) {
		got = append(got, s.text(time.Now()))
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("stalls: got %q, want %q", got, want)
	}
}

func lags(split string, records int64) []source.Lag {
	return []source.Lag{{Split: split, Records: records, Seconds: -1}}
}

func TestMeter_sinkThatDoesNotCommitIsNamed(t *testing.T) {
	inMeter(t, func(m metered) {
		m.begin("sink sink", "commit of checkpoint 5, unit 0")
		time.Sleep(29 * time.Second)
		m.wantStalls()
		m.trouble("sink sink", "connection refused")
		m.begin("sink sink", "commit of checkpoint 5, unit 0") // another attempt is no progress
		time.Sleep(time.Second)
		m.wantStalls("sink sink since 30s: commit of checkpoint 5, unit 0: connection refused")
		m.begin("sink sink", "fence") // nor is another way to the same end
		m.wantStalls("sink sink since 30s: fence")
		m.end("sink sink")
		m.wantStalls()
		m.begin("sink sink", "commit of checkpoint 6, unit 0")
		m.wantStalls()
	})
}

// A split is stalled when records wait and it does not move. A split that was at its end for long and gets a record is not.
func TestMeter_splitThatDoesNotMoveIsNamed(t *testing.T) {
	inMeter(t, func(m metered) {
		for range 100 { // idle
			m.source(0, lags("a", 0), "")
			time.Sleep(time.Second)
		}
		m.source(0, lags("a", 7), "")
		m.wantStalls()
		time.Sleep(20 * time.Second)
		m.moved(1, "b") // others move
		m.source(1, lags("b", 9), "")
		time.Sleep(10 * time.Second)
		m.source(0, lags("a", 8), "")
		m.wantStalls("split a since 30s: 8 records behind, task 0 takes none")
		m.moved(0, "a")
		m.wantStalls()
	})
}

// A split with records waiting at every look, and that moves in between, makes progress.
func TestMeter_splitThatMovesIsNotNamed(t *testing.T) {
	inMeter(t, func(m metered) {
		for range 100 {
			m.source(0, lags("a", 1000), "")
			m.moved(0, "a")
			time.Sleep(time.Second)
			m.wantStalls()
		}
		m.source(0, nil, "") // finished
		time.Sleep(time.Hour)
		m.wantStalls()
	})
}

// The reason of a source may change its words at every attempt; it counts from the first.
func TestMeter_sourceThatWaitsIsNamed(t *testing.T) {
	inMeter(t, func(m metered) {
		for _, text := range []string{"attempt 1", "attempt 2", "attempt 3"} {
			m.source(2, lags("a", -1), "split a: "+text)
			time.Sleep(10 * time.Second)
			m.moved(2, "b") // another split of the task
		}
		m.wantStalls("task 2 since 30s: waits for the source: split a: attempt 3")
		m.moved(2, "a")
		m.wantStalls()
		m.source(2, lags("a", -1), "split a: attempt 4")
		m.source(2, lags("a", -1), "")
		time.Sleep(time.Minute)
		m.wantStalls()
	})
}

// A reason that concerns no split, such as a used-up budget at every look, is none when something moves in between.
func TestMeter_busySourceIsNotNamed(t *testing.T) {
	inMeter(t, func(m metered) {
		for range 60 {
			m.source(0, lags("a", 5), "the memory budget is used up")
			time.Sleep(time.Second)
			m.moved(0, "a")
			m.wantStalls()
		}
		m.source(0, lags("a", 5), "the memory budget is used up")
		time.Sleep(30 * time.Second)
		m.wantStalls(
			"task 0 since 30s: waits for the source: the memory budget is used up",
			"split a since 30s: 5 records behind, task 0 takes none")
	})
}

func TestMeter_longestComesFirst(t *testing.T) {
	inMeter(t, func(m metered) {
		m.begin("task 1", "prepare of checkpoint 3")
		time.Sleep(5 * time.Second)
		m.begin(storeName, "publish of log entry 9, checkpoint 2")
		time.Sleep(35 * time.Second)
		m.wantStalls("task 1 since 40s: prepare of checkpoint 3", "checkpoint store since 35s: publish of log entry 9, checkpoint 2")
		if got := m.current(time.Now()); got != "task 1 since 40s: prepare of checkpoint 3" {
			m.t.Errorf("current: got %q", got)
		}
	})
}
