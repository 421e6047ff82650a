package step

import (
	"cmp"
	"slices"
	"time"

	"github.com/ingestd/ingestd/state"
)

// WatermarkOptions say how far behind the newest row of a split others may come.
type WatermarkOptions struct {
	// Disorder is how far back in event time a row may be behind the newest one of its split.
	Disorder time.Duration
	// IdleAfter is the time by the clock without rows after which a split no longer holds the watermark back; 0: never.
	IdleAfter time.Duration
	// AheadMax is how far a row's time may be ahead of the clock and still move the watermark, so that one wrong time does not
	// close all windows; 0: any time may.
	AheadMax time.Duration
}

// WatermarkTracker computes the watermark of the splits that a source task reads: the least, over its splits, of the newest event
// time minus the disorder. It is plain data without a clock of its own; times are milliseconds since 1970. The zero value is not
// usable.
type WatermarkTracker struct {
	disorder, idle, ahead int64
	splits                map[string]*splitTime
	watermark             int64
}

type splitTime struct {
	newest int64 // event time
	active int64 // by the clock: the last row, or when the split was added
}

// SplitTime is what is kept of a split in a checkpoint.
type SplitTime struct {
	Split  string `json:"split"`
	Newest int64  `json:"newest"` // event time of the newest row, state.NoTime before the first
}

// NewWatermarkTracker returns a tracker without splits.
func NewWatermarkTracker(o WatermarkOptions) *WatermarkTracker {
	return &WatermarkTracker{
		disorder: o.Disorder.Milliseconds(), idle: o.IdleAfter.Milliseconds(), ahead: o.AheadMax.Milliseconds(),
		splits: make(map[string]*splitTime), watermark: state.NoTime,
	}
}

// Add begins with a split. newest is what an earlier run's checkpoint says of it, or [state.NoTime]. Until its first row a split
// holds the watermark back, and so it does after Add for as long as a split that has become silent.
func (w *WatermarkTracker) Add(split string, newest, clock int64) {
	w.splits[split] = &splitTime{newest: newest, active: clock}
}

// Remove ends with a split that is finished, or read elsewhere.
func (w *WatermarkTracker) Remove(split string) { delete(w.splits, split) }

// Observe takes the event time of a row, or the newest of several rows, of a split that was added.
func (w *WatermarkTracker) Observe(split string, at, clock int64) {
	s := w.splits[split]
	s.active = clock
	if w.ahead == 0 || at <= clock+w.ahead {
		s.newest = max(s.newest, at)
	}
}

// Idle reports whether a split has been silent for so long that it does not hold the watermark back.
func (w *WatermarkTracker) Idle(split string, clock int64) bool {
	return w.idle > 0 && clock-w.splits[split].active >= w.idle
}

// Watermark returns how far event time has come: no row of an older time is expected. It never falls; [state.NoTime] means that
// it is not known yet. When all splits are silent it is the greatest of theirs, so that the last windows end too; without splits
// it stays.
func (w *WatermarkTracker) Watermark(clock int64) int64 {
	least, greatest, waiting := int64(0), state.NoTime, false
	for split, s := range w.splits {
		at := s.newest
		if at != state.NoTime {
			at -= w.disorder
		}
		greatest = max(greatest, at)
		if w.Idle(split, clock) {
			continue
		}
		if !waiting || at < least {
			least = at
		}
		waiting = true
	}
	if !waiting {
		least = greatest
	}
	w.watermark = max(w.watermark, least)
	return w.watermark
}

// Splits returns what a checkpoint keeps, sorted by split.
func (w *WatermarkTracker) Splits() []SplitTime {
	list := make([]SplitTime, 0, len(w.splits))
	for split, s := range w.splits {
		list = append(list, SplitTime{Split: split, Newest: s.newest})
	}
	slices.SortFunc(list, func(a, b SplitTime) int { return cmp.Compare(a.Split, b.Split) })
	return list
}
