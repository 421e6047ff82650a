package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/source"
)

// The name of the checkpoint store as one of those who do something.
const storeName = "checkpoint store"

func taskName(n int) string { return fmt.Sprintf("task %d", n) }

func sinkName(name string) string { return "sink " + name }

// meter collects what a run does, for metrics and for the stall watchdog: who does what since when, why a source can't go on,
// and which splits have records waiting and since when they don't move. It may be used by any goroutine.
type meter struct {
	metrics *telemetry.Pipeline
	names   []string // of sinks
	mu      struct {
		sync.Mutex
		doing   map[string]doing // by who does it
		waiting map[int]doing    // by task: why its source can't go on
		splits  map[string]*behind
	}
}

// doing is something under way.
type doing struct {
	what  string
	why   string // the last failure
	since time.Time
}

// behind is how far a split is from its end.
type behind struct {
	task    int
	records int64     // as last seen
	since   time.Time // when it moved last, or was last seen at its end
}

// stall names who makes no progress.
type stall struct {
	who, what string
	since     time.Time
}

// text is the stall in a sentence: who, for how long, what.
func (s stall) text(now time.Time) string {
	return fmt.Sprintf("%s since %s: %s", s.who, now.Sub(s.since).Round(time.Second), s.what)
}

func newMeter(metrics *telemetry.Pipeline, names []string) *meter {
	m := &meter{metrics: metrics, names: names}
	m.mu.doing, m.mu.waiting, m.mu.splits = map[string]doing{}, map[int]doing{}, map[string]*behind{}
	return m
}

// begin notes that who does something. What who did before without coming to an end counts on: other attempts, and other ways
// to the same end, are no progress.
func (m *meter) begin(who, what string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.mu.doing[who]
	if !ok {
		d.since = time.Now()
	}
	if d.what != what {
		d.what, d.why = what, ""
	}
	m.mu.doing[who] = d
}

// trouble notes why an attempt of who failed.
func (m *meter) trouble(who, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.mu.doing[who]; ok {
		d.why = why
		m.mu.doing[who] = d
	}
}

// end notes that who has come to an end.
func (m *meter) end(who string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.doing, who)
}

// read counts what a task read.
func (m *meter) read(records, bytes int64) { m.metrics.Read(records, bytes) }

// moved notes that a task took a split past its position.
func (m *meter) moved(task int, split string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.splitLocked(task, split).since = time.Now()
	// A reason that concerns one split may hold while others move; any other is over when something moved.
	if d, ok := m.mu.waiting[task]; ok && (!strings.HasPrefix(d.what, "split ") || strings.HasPrefix(d.what, "split "+split+":")) {
		delete(m.mu.waiting, task)
	}
}

func (m *meter) splitLocked(task int, name string) *behind {
	b := m.mu.splits[name]
	if b == nil {
		b = &behind{since: time.Now()}
		m.mu.splits[name] = b
	}
	b.task = task
	return b
}

// source takes what a task's reader says of its splits.
func (m *meter) source(task int, lag []source.Lag, waiting string) {
	for _, l := range lag {
		m.metrics.Lag(l.Split, l.Records, l.Seconds)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range lag {
		b := m.splitLocked(task, l.Split)
		if b.records <= 0 {
			b.since = time.Now() // nothing was waiting until now
		}
		b.records = l.Records
	}
	for name, b := range m.mu.splits { // finished ones
		if b.task == task && !slices.ContainsFunc(lag, func(l source.Lag) bool { return l.Split == name }) {
			delete(m.mu.splits, name)
		}
	}
	if waiting == "" {
		delete(m.mu.waiting, task)
		return
	}
	d, ok := m.mu.waiting[task]
	if !ok {
		d.since = time.Now()
	}
	d.what = waiting
	m.mu.waiting[task] = d
}

// lost counts offsets that a task's reader passed over, as it was told to, because their records are gone.
func (m *meter) lost(n int64) { m.metrics.Skipped(n) }

// prepared takes a part that a task made durable.
func (m *meter) prepared(p machine.Part, took time.Duration) {
	m.metrics.Phase("prepare", took)
	for _, s := range p.Stages {
		by := map[string]int64{"passed": s.Passed, "filtered": s.Filtered, "refused": s.Refused}
		for name, n := range map[string]int64{"deduplicated": s.Deduplicated, "absorbed": s.Absorbed, "late": s.Late, "made": s.Made} {
			if n > 0 { // only keyed steps and explode have them
				by[name] = n
			}
		}
		m.metrics.Stage(s.Stage, by)
	}
	for i, s := range p.Sinks {
		m.metrics.Prepared(m.names[i], s.Rows)
	}
}

// stalls lists who makes no progress for at least after: first who does something, as it is the cause of others, then sources
// that can't go on, then splits; the longest first in each.
func (m *meter) stalls(now time.Time, after time.Duration) []stall {
	m.mu.Lock()
	defer m.mu.Unlock()
	var busy, waiting, splits []stall
	for who, d := range m.mu.doing {
		if d.why != "" {
			d.what += ": " + d.why
		}
		busy = append(busy, stall{who, d.what, d.since})
	}
	for task, d := range m.mu.waiting {
		waiting = append(waiting, stall{taskName(task), "waits for the source: " + d.what, d.since})
	}
	for name, b := range m.mu.splits {
		if b.records > 0 {
			splits = append(splits, stall{"split " + name, fmt.Sprintf("%d records behind, %s takes none", b.records, taskName(b.task)), b.since})
		}
	}
	var out []stall
	for _, list := range [][]stall{busy, waiting, splits} {
		slices.SortFunc(list, func(a, b stall) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.who, b.who)) })
		for _, s := range list {
			if now.Sub(s.since) >= after {
				out = append(out, s)
			}
		}
	}
	return out
}

// current says what is under way since the longest, or "".
func (m *meter) current(now time.Time) string {
	if m == nil {
		return ""
	}
	if s := m.stalls(now, 0); len(s) > 0 {
		return s[0].text(now)
	}
	return ""
}
