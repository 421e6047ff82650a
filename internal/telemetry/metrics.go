package telemetry

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the daemon's metrics. All methods may be called from any goroutine.
type Metrics struct {
	registry   *prometheus.Registry
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
}

// New returns metrics with every family registered.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), counters: map[string]*prometheus.CounterVec{},
		gauges: map[string]*prometheus.GaugeVec{}, histograms: map[string]*prometheus.HistogramVec{},
	}
	for _, f := range families() {
		switch f.kind {
		case counter:
			c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "ingestd", Name: f.name, Help: f.help}, f.labels)
			m.registry.MustRegister(c)
			m.counters[f.name] = c
		case gauge:
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "ingestd", Name: f.name, Help: f.help}, f.labels)
			m.registry.MustRegister(g)
			m.gauges[f.name] = g
		case histogram:
			h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Namespace: "ingestd", Name: f.name, Help: f.help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
			}, f.labels)
			m.registry.MustRegister(h)
			m.histograms[f.name] = h
		}
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauges[buildInfo].WithLabelValues(version, runtime.Version()).Set(1)
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Memory reports the budget and what is used of it, in bytes.
func (m *Metrics) Memory(budget, used int64) {
	m.gauges[memoryBudget].WithLabelValues().Set(float64(budget))
	m.gauges[memoryUsed].WithLabelValues().Set(float64(used))
}

// Pipeline returns the metrics of one pipeline.
func (m *Metrics) Pipeline(name string) *Pipeline { return &Pipeline{m: m, name: name} }

// Pipeline are the metrics of one pipeline. All methods may be called from any goroutine; none is called for each record.
type Pipeline struct {
	m    *Metrics
	name string
}

// Guarantee reports the guarantee that was derived, in place of an earlier one.
func (p *Pipeline) Guarantee(text string) {
	p.m.gauges[guaranteeInfo].DeletePartialMatch(prometheus.Labels{"pipeline": p.name})
	p.m.gauges[guaranteeInfo].WithLabelValues(p.name, text).Set(1)
}

// State reports the state out of all.
func (p *Pipeline) State(state string, all []string) {
	for _, s := range all {
		v := 0.0
		if s == state {
			v = 1
		}
		p.m.gauges[pipelineState].WithLabelValues(p.name, s).Set(v)
	}
}

// Restarted counts a restart by the recovery path.
func (p *Pipeline) Restarted(reason string) {
	p.m.counters[pipelineRestarts].WithLabelValues(p.name, reason).Inc()
}

// Read counts what was read from the source.
func (p *Pipeline) Read(records, bytes int64) {
	p.m.counters[recordsRead].WithLabelValues(p.name).Add(float64(records))
	p.m.counters[bytesRead].WithLabelValues(p.name).Add(float64(bytes))
}

// Lag reports how far a split is behind.
func (p *Pipeline) Lag(split string, records int64, seconds float64) {
	p.m.gauges[lagRecords].WithLabelValues(p.name, split).Set(float64(records))
	p.m.gauges[lagSeconds].WithLabelValues(p.name, split).Set(seconds)
}

// Skipped counts offsets that were passed over because their records are gone.
func (p *Pipeline) Skipped(n int64) {
	p.m.counters[skippedOffsets].WithLabelValues(p.name).Add(float64(n))
}

// MirrorFailed counts a failure to mirror positions into a consumer group.
func (p *Pipeline) MirrorFailed() { p.m.counters[mirrorErrors].WithLabelValues(p.name).Inc() }

// Stage counts a stage's records by what became of them; what was "refused" became dead letters.
func (p *Pipeline) Stage(stage string, by map[string]int64) {
	for result, n := range by {
		p.m.counters[stageRecords].WithLabelValues(p.name, stage, result).Add(float64(n))
	}
	if n := by["refused"]; n > 0 {
		p.DeadLetters(stage, n)
	}
}

// StateChanged reports the memory of changes to keyed state that are not applied.
func (p *Pipeline) StateChanged(bytes int64) {
	p.m.gauges[stateChanged].WithLabelValues(p.name).Set(float64(bytes))
}

// StateStored reports the size of the objects that keyed state is made of, and how far event time has come, when that is known.
func (p *Pipeline) StateStored(bytes int64, at time.Time) {
	p.m.gauges[stateStored].WithLabelValues(p.name).Set(float64(bytes))
	if !at.IsZero() {
		p.m.gauges[watermark].WithLabelValues(p.name).Set(float64(at.UnixMilli()) / 1000)
	}
}

// DeadLetters counts records that became dead letters. Those that [Pipeline.Stage] is told of are counted there.
func (p *Pipeline) DeadLetters(stage string, n int64) {
	p.m.counters[deadLetters].WithLabelValues(p.name, stage).Add(float64(n))
}

// Prepared counts rows that a sink prepared.
func (p *Pipeline) Prepared(sink string, rows int64) {
	p.m.counters[sinkRows].WithLabelValues(p.name, sink).Add(float64(rows))
}

// Outcome counts a sink's answer to a commit.
func (p *Pipeline) Outcome(sink, outcome string) {
	p.m.counters[sinkOutcomes].WithLabelValues(p.name, sink, outcome).Inc()
}

// Checkpoint counts a checkpoint by result.
func (p *Pipeline) Checkpoint(result string) {
	p.m.counters[checkpoints].WithLabelValues(p.name, result).Inc()
}

// Phase observes how long a phase of a checkpoint took.
func (p *Pipeline) Phase(phase string, d time.Duration) {
	p.m.histograms[checkpointDuration].WithLabelValues(p.name, phase).Observe(d.Seconds())
}

// Committed reports when the newest checkpoint was committed by every sink.
func (p *Pipeline) Committed(at time.Time) {
	p.m.gauges[lastCommitted].WithLabelValues(p.name).Set(float64(at.UnixMilli()) / 1000)
}

// Pending reports the committables of a sink that are decided and not known Committed.
func (p *Pipeline) Pending(sink string, n int) {
	p.m.gauges[pendingCheckpoints].WithLabelValues(p.name, sink).Set(float64(n))
}

// Stalled reports who makes no progress, and for how long; none says that all is well.
func (p *Pipeline) Stalled(by map[string]time.Duration) {
	p.m.gauges[stalledSeconds].DeletePartialMatch(prometheus.Labels{"pipeline": p.name})
	v := 0.0
	for who, d := range by {
		v = 1
		p.m.gauges[stalledSeconds].WithLabelValues(p.name, who).Set(d.Seconds())
	}
	p.m.gauges[stalled].WithLabelValues(p.name).Set(v)
}
