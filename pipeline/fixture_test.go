package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// topic is a source in memory: splits with records, which a test adds to.
type topic struct {
	mu      sync.Mutex
	splits  map[string][]string
	changed chan struct{} // closed when records are added
	bounded bool
	fetch   int // records of one fetch at most

	// What a test changes, each nil or zero for nothing unusual. They are read with mu held.
	discover func() error
	refuse   func(value string) bool      // the source itself can't hand it on
	poll     func(split string) error     // before a fetch of it
	waiting  string                       // why the reader can't go on
	lag      map[string]int64             // instead of what is true
	opens    int                          // readers
	lost     int64                        // offsets passed over
	fetched  func(f *source.Fetch)        // changes a fetch
	settled  func(p []source.Position)    // positions shown to lag tools
	budget   func(s source.Budget, n int) // of each fetch's bytes
}

func newTopic(splits ...string) *topic {
	s := &topic{splits: map[string][]string{}, changed: make(chan struct{}), fetch: 3}
	for _, name := range splits {
		s.splits[name] = nil
	}
	return s
}

// add appends records to a split, which is made if need be.
func (s *topic) add(split string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splits[split] = append(s.splits[split], values...)
	close(s.changed)
	s.changed = make(chan struct{})
}

// set changes what is unusual.
func (s *topic) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *topic) Discover(_ context.Context, known []source.Split) ([]source.Split, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discover != nil {
		if err := s.discover(); err != nil {
			return nil, err
		}
	}
	var out []source.Split
	for name, records := range s.splits {
		if slices.ContainsFunc(known, func(k source.Split) bool { return k.Split == name }) {
			continue
		}
		sp := source.Split{Position: source.Position{Split: name, Identity: "id", LeaderEpoch: record.NoLeaderEpoch}, Until: source.Unbounded}
		if s.bounded {
			sp.Until = record.Offset(len(records))
			sp.Finished = sp.Until == 0
		}
		out = append(out, sp)
	}
	slices.SortFunc(out, func(a, b source.Split) int { return strings.Compare(a.Split, b.Split) })
	return out, nil
}

func (s *topic) Open(_ context.Context, splits []source.Split, _ source.Budget) (source.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	return &topicReader{topic: s, splits: slices.Clone(splits)}, nil
}

func (s *topic) Bounded() bool { return s.bounded }

func (s *topic) Committed(_ context.Context, p []source.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled != nil {
		s.settled(p)
	}
	return nil
}

func (s *topic) Close() error { return nil }

type topicReader struct {
	topic  *topic
	splits []source.Split
	turn   int
}

func (r *topicReader) Poll(ctx context.Context) (source.Fetch, error) {
	for {
		f, changed, err := r.next()
		if err != nil || f.Next.Split != "" {
			return f, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return source.Fetch{}, nil
		}
	}
}

func (r *topicReader) next() (source.Fetch, <-chan struct{}, error) {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	for range r.splits {
		r.turn = (r.turn + 1) % len(r.splits)
		sp := &r.splits[r.turn]
		all := t.splits[sp.Split]
		if sp.Finished || int(sp.Offset) >= len(all) {
			continue
		}
		if t.poll != nil {
			if err := t.poll(sp.Split); err != nil {
				return source.Fetch{}, nil, err
			}
		}
		f := source.Fetch{Topic: "topic", Next: sp.Position}
		for f.Next.Offset < record.Offset(len(all)) && len(f.Rows)+len(f.Refused) < t.fetch && (sp.Until == source.Unbounded || f.Next.Offset < sp.Until) {
			value := all[f.Next.Offset]
			if t.refuse != nil && t.refuse(value) {
				f.Refused = append(f.Refused, record.DeadLetter{Split: sp.Split, Offset: f.Next.Offset, Value: []byte(value), Timestamp: -1, Byte: -1, Stage: "source", Reason: "too long"})
			} else {
				f.Rows = append(f.Rows, source.Row{Offset: f.Next.Offset, Timestamp: -1, Value: []byte(value)})
			}
			f.Next.Offset++
		}
		f.Finished = sp.Until != source.Unbounded && f.Next.Offset >= sp.Until
		sp.Position, sp.Finished = f.Next, f.Finished
		if t.fetched != nil {
			t.fetched(&f)
		}
		return f, nil, nil
	}
	return source.Fetch{}, t.changed, nil
}

func (r *topicReader) Add(_ context.Context, splits []source.Split) error {
	r.splits = append(r.splits, splits...)
	return nil
}

func (r *topicReader) Lag() []source.Lag {
	t := r.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []source.Lag
	for _, sp := range r.splits {
		n := int64(len(t.splits[sp.Split])) - int64(sp.Offset)
		if fixed, ok := t.lag[sp.Split]; ok {
			n = fixed
		}
		out = append(out, source.Lag{Split: sp.Split, Records: n, Seconds: float64(n)})
	}
	return out
}

func (r *topicReader) Waiting() string {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	return r.topic.waiting
}

func (r *topicReader) Lost() int64 {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	return r.topic.lost
}

func (r *topicReader) Close() error { return nil }

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

// row is what a table holds.
type row struct {
	Split  string
	Offset record.Offset
	Text   string // of a dead letter its reason
}

// table is the target of a sink in memory, which outlives runs.
type table struct {
	mu     sync.Mutex
	rows   []row
	ledger map[string]bool
	lease  record.Lease
	by     map[record.Checkpoint][]row // what was committed by each checkpoint

	// What a test changes, each nil for nothing unusual. They are called without mu held.
	inspect func() (sink.Inspection, error)
	fence   func() error
	write   func(ctx context.Context, rows []row) error
	prepare func(ctx context.Context, task int) error
	commit  func(ctx context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error)
	replace func() error
	caps    sink.Capabilities
}

func newTable() *table {
	return &table{
		ledger: map[string]bool{}, by: map[record.Checkpoint][]row{},
		caps: sink.Capabilities{Form: sink.ServerSide, Ledger: "a map", Fence: "a number", Visible: "at commit", ExactlyOnce: true, DeadLetters: true, AnyColumns: true},
	}
}

// texts returns the texts of all rows, sorted.
func (t *table) texts() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, r := range t.rows {
		out = append(out, r.Text)
	}
	slices.Sort(out)
	return out
}

func (t *table) Capabilities() sink.Capabilities { return t.caps }

func (t *table) Inspect(context.Context, sink.Identity) (sink.Inspection, error) {
	if t.inspect != nil {
		return t.inspect()
	}
	return sink.Inspection{}, nil
}

func (t *table) Open(_ context.Context, env sink.Env) (sink.Sink, error) {
	return &tableSink{table: t, env: env}, nil
}

type tableSink struct {
	table *table
	env   sink.Env
}

func (s *tableSink) Writer(_ context.Context, task int, _ *record.Schema) (sink.Writer, error) {
	return &tableWriter{sink: s, task: task}, nil
}

func (s *tableSink) Committer() sink.Committer { return s }

func (s *tableSink) Restore(context.Context, []byte, []sink.Committable) error { return nil }

func (s *tableSink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	var all []row
	for _, p := range parts {
		all = append(all, decodeRows(p.Data)...)
	}
	if len(all) == 0 {
		return sink.Assembled{}, nil
	}
	return sink.Assembled{Committables: []sink.Committable{{
		Lease: cut.Lease, Checkpoint: cut.Checkpoint, Rows: int64(len(all)), Version: 1, Data: encodeRows(all),
	}}}, nil
}

func (s *tableSink) Close() error { return nil }

func (s *tableSink) Fence(context.Context) error {
	if s.table.fence != nil {
		if err := s.table.fence(); err != nil {
			return err
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.table.lease > s.env.Lease {
		return fault.E("table.Fence", fault.Fenced, errors.New("a newer lease is there"))
	}
	s.table.lease = s.env.Lease
	return nil
}

func (s *tableSink) Commit(ctx context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	if s.table.commit != nil {
		if outcome, rows, err := s.table.commit(ctx, c); outcome != sink.Committed {
			return outcome, rows, err
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.table.lease > s.env.Lease {
		return sink.Fenced, nil, errors.New("a newer lease is there")
	}
	id := fmt.Sprintf("%d/%d/%d", c.Lease, c.Checkpoint, c.Unit)
	if !s.table.ledger[id] {
		s.table.ledger[id] = true
		s.table.rows = append(s.table.rows, decodeRows(c.Data)...)
		s.table.by[c.Checkpoint] = append(s.table.by[c.Checkpoint], decodeRows(c.Data)...)
	}
	return sink.Committed, nil, nil
}

func (s *tableSink) Replace(_ context.Context, c sink.Committable, rejected []sink.RejectedRow, unit record.Unit) (sink.Committable, error) {
	if s.table.replace != nil {
		if err := s.table.replace(); err != nil {
			return sink.Committable{}, err
		}
	}
	var left []row
	for i, r := range decodeRows(c.Data) {
		if !slices.ContainsFunc(rejected, func(x sink.RejectedRow) bool { return x.Row == int64(i) }) {
			left = append(left, r)
		}
	}
	c.Unit, c.Rows, c.Data = unit, int64(len(left)), encodeRows(left)
	return c, nil
}

// rejecting is a commit that refuses rows with a text, once decided for all.
func rejecting(text string) func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	return func(_ context.Context, c sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
		var bad []sink.RejectedRow
		for i, r := range decodeRows(c.Data) {
			if r.Text == text {
				bad = append(bad, sink.RejectedRow{Row: int64(i), Letter: record.DeadLetter{
					Split: r.Split, Offset: r.Offset, Timestamp: -1, Byte: -1, Stage: "sink:sink", Reason: "the target refuses it", Value: []byte(r.Text),
				}})
			}
		}
		if len(bad) > 0 {
			return sink.Rejected, bad, fault.E("table.Commit", fault.Rejected, errors.New("rows are refused"))
		}
		return sink.Committed, nil, nil
	}
}

type tableWriter struct {
	sink *tableSink
	task int
	rows []row
}

func (w *tableWriter) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	var rows []row
	var refused []record.Refusal
	text := b.Schema.Index("text")
	letter := text < 0
	if letter {
		text = b.Schema.Index("reason")
	}
	for i := range b.Rows {
		r := row{Split: b.Meta.Split, Offset: b.Meta.Offsets[i], Text: string(b.Cols[text].BytesAt(i))}
		switch {
		case letter:
			r.Split = string(b.Cols[b.Schema.Index("split")].BytesAt(i))
		case r.Text == "invalid":
			refused = append(refused, record.Refusal{Row: i, Reason: "it is invalid", Byte: -1})
			continue
		}
		rows = append(rows, r)
	}
	if w.sink.table.write != nil {
		if err := w.sink.table.write(ctx, rows); err != nil {
			return nil, err
		}
	}
	w.rows = append(w.rows, rows...)
	return refused, nil
}

func (w *tableWriter) Prepare(ctx context.Context, _ sink.Cut) (sink.Part, error) {
	if w.sink.table.prepare != nil {
		if err := w.sink.table.prepare(ctx, w.task); err != nil {
			return sink.Part{}, err
		}
	}
	p := sink.Part{Task: w.task, Rows: int64(len(w.rows))}
	if len(w.rows) > 0 {
		p.Data = encodeRows(w.rows)
	}
	w.rows = nil
	return p, nil
}

func (w *tableWriter) Close() error { return nil }

func encodeRows(rows []row) []byte {
	data, err := json.Marshal(rows)
	if err != nil {
		panic(err)
	}
	return data
}

func decodeRows(data []byte) []row {
	var rows []row
	if err := json.Unmarshal(data, &rows); err != nil {
		panic(err)
	}
	return rows
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
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: w.metrics.Pipeline(w.def.Name), Memory: NewBudget(1 << 30).Share(1 << 20), Who: "test",
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
	w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
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
