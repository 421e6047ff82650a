package pipeline

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
)

// words decodes a record to its text; "malformed" does not fit.
type words struct{ schema error }

func (w words) Schema(*record.Schema) (*record.Schema, error) {
	return &record.Schema{Fields: []record.Field{{Name: "text", Type: record.Type{Kind: record.String}}}}, w.schema
}

func (words) New(*record.Schema) (codec.Decoder, error) { return words{}, nil }

func (words) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	if string(value) == "malformed" {
		return record.Refusal{Row: b.Rows, Reason: "it is malformed", Byte: 0}, false
	}
	b.Cols[0].AppendBytes(value)
	return record.Refusal{}, true
}

// world is a pipeline and what is around it. It belongs in a bubble.
type world struct {
	t       *testing.T
	source  *topic
	rows    *table
	letters *table
	store   *storetest.Memory
	faults  func(storetest.Call) storetest.Fault // nil for none; set before anything runs
	def     *Definition
	metrics *telemetry.Metrics
	log     *logBuffer
	disk    StateDisk
}

func newWorld(t *testing.T, splits ...string) *world {
	t.Helper()
	w := &world{t: t, source: newTopic(splits...), rows: newTable(), letters: newTable(), metrics: telemetry.New("test"), log: &logBuffer{}}
	w.store = storetest.NewMemory(func(c storetest.Call) storetest.Fault {
		if w.faults == nil {
			return storetest.None
		}
		return w.faults(c)
	})
	w.def = &Definition{
		Name: "p", ID: "p", Delivery: config.ExactlyOnce, Digest: "d", Tasks: 2, Source: w.source, Codec: words{}, Sink: w.rows, DeadLetter: w.letters,
		Store:      w.store,
		Checkpoint: CheckpointSettings{Interval: time.Second, Keep: 2, MaxPending: 2, Timeout: time.Minute},
		Restart:    RestartSettings{Initial: time.Second, Max: 8 * time.Second},
		StallAfter: 30 * time.Second, ShutdownTimeout: 20 * time.Second, DiscoveryInterval: 10 * time.Second,
	}
	return w
}

func (w *world) env() Env {
	var n byte
	var mu sync.Mutex
	return Env{
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: w.metrics.Pipeline(w.def.Name), Memory: NewBudget(1 << 30).Share(1 << 20), Who: "test", State: w.disk,
		Random: func(b []byte) {
			mu.Lock()
			defer mu.Unlock()
			for i := range b {
				n++
				b[i] = n
			}
		},
	}
}

// process is a supervisor that runs.
type process struct {
	*Supervisor
	t      *testing.T
	cancel context.CancelFunc
	done   chan Result
}

// boot starts the pipeline.
func (w *world) boot() *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: w.t, Supervisor: NewSupervisor(w.def, w.env()), cancel: cancel, done: make(chan Result, 1)}
	go func() { p.done <- p.Run(ctx) }()
	return p
}

// crash ends a process at once.
func (p *process) crash() {
	p.cancel()
	<-p.done
}

// end waits for the end of a process. One that runs on for an hour does not end by itself.
func (p *process) end() Result {
	p.t.Helper()
	defer p.cancel()
	select {
	case res := <-p.done:
		return res
	case <-time.After(time.Hour):
		p.t.Errorf("the pipeline does not end: %+v", p.Status())
		p.cancel()
		return <-p.done
	}
}

// finish asks for a graceful stop and returns the result.
func (p *process) finish() Result {
	p.t.Helper()
	p.Stop()
	return p.end()
}

// in runs a test in a bubble with a world.
func in(t *testing.T, f func(w *world), splits ...string) {
	t.Helper()
	if len(splits) == 0 {
		splits = []string{"a", "b"}
	}
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, splits...)) })
}

// newest returns the newest manifest.
func (w *world) newest() checkpoint.Manifest {
	w.t.Helper()
	entries, err := History(context.Background(), w.def)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range slices.Backward(entries) {
		if e.Entry.Manifest != nil {
			return *e.Entry.Manifest
		}
	}
	w.t.Fatal("there is no manifest")
	return checkpoint.Manifest{}
}

// metric returns the lines of /metrics that begin with a name.
func (w *world) metric(name string) []string {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var out []string
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, name) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// wantMetric compares the lines of /metrics that begin with a name.
func (w *world) wantMetric(name string, want ...string) {
	w.t.Helper()
	if got := w.metric(name); !slices.Equal(got, want) {
		w.t.Errorf("metric %s: got %q, want %q", name, got, want)
	}
}

// wantDone checks the end of a run.
func wantEnd(t *testing.T, got Result, reason machine.Reason, text string) {
	t.Helper()
	if got.Reason != reason || !strings.Contains(got.Text, text) {
		t.Errorf("the pipeline ended as %s: %q, want %s with %q", got.Reason, got.Text, reason, text)
	}
}

func wantTexts(t *testing.T, what *table, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := what.texts(); !slices.Equal(got, want) {
		t.Errorf("the table holds %q, want %q", got, want)
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines returns the lines that hold all of the texts.
func (l *logBuffer) lines(texts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.buf.String()) {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
