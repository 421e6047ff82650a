package pipeline

import (
	"fmt"
	"sync"
	"time"

	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/source"
)

// meter collects what a run does, for metrics and for the stall watchdog. It may be used by any goroutine.
type meter struct {
	metrics *telemetry.Pipeline
	names   []string // of sinks
	mu      struct {
		sync.Mutex
		moved   time.Time            // when the pipeline last made progress
		doing   map[string]doing     // what is under way, by who does it
		waiting map[int]doing        // why a task's source can't go on
		lag     map[int][]source.Lag // by task
	}
}

// doing is something under way.
type doing struct {
	what  string
	since time.Time
}

func newMeter(metrics *telemetry.Pipeline, names []string) *meter {
	m := &meter{metrics: metrics, names: names}
	m.mu.moved = time.Now()
	m.mu.doing, m.mu.waiting, m.mu.lag = map[string]doing{}, map[int]doing{}, map[int][]source.Lag{}
	return m
}

func (m *meter) read(records, bytes int64) {
	m.metrics.Read(records, bytes)
	m.progress()
}

func (m *meter) progress() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.moved = time.Now()
}

// begin notes that who starts to do something; end that it is over.
func (m *meter) begin(who, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.mu.doing[who]; ok && old.what == what {
		return // another attempt at the same: it counts from the first
	}
	m.mu.doing[who] = doing{what, time.Now()}
}

func (m *meter) end(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.doing, who)
	m.mu.moved = time.Now()
}

// source takes what a task's reader says of its splits.
func (m *meter) source(task int, lag []source.Lag, waiting string) {
	for _, l := range lag {
		m.metrics.Lag(l.Split, l.Records, l.Seconds)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.lag[task] = lag
	old, was := m.mu.waiting[task]
	switch {
	case waiting == "":
		delete(m.mu.waiting, task)
	case !was || old.what != waiting:
		m.mu.waiting[task] = doing{waiting, time.Now()}
	}
}

// prepared takes a part that a task made durable.
func (m *meter) prepared(p machine.Part, took time.Duration) {
	m.metrics.Phase("prepare", took)
	for _, s := range p.Stages {
		m.metrics.Stage(s.Stage, s.Passed, s.Filtered, s.Refused)
	}
	for i, s := range p.Sinks {
		m.metrics.Prepared(m.names[i], s.Rows)
	}
}

// stall names what keeps the pipeline from moving for longer than after, or returns "".
func (m *meter) stall(now time.Time, after time.Duration) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for task, d := range m.mu.waiting {
		if now.Sub(d.since) >= after {
			return fmt.Sprintf("task %d waits for the source since %s: %s", task, now.Sub(d.since).Round(time.Second), d.what)
		}
	}
	for who, d := range m.mu.doing {
		if now.Sub(d.since) >= after {
			return fmt.Sprintf("%s since %s: %s", who, now.Sub(d.since).Round(time.Second), d.what)
		}
	}
	if now.Sub(m.mu.moved) < after {
		return ""
	}
	for task, lags := range m.mu.lag {
		for _, l := range lags {
			if l.Records > 0 {
				return fmt.Sprintf("task %d: split %s is %d records behind and nothing moved for %s", task, l.Split, l.Records,
					now.Sub(m.mu.moved).Round(time.Second))
			}
		}
	}
	return ""
}
