//go:build synctests

package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/sink/memory"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

const (
	keys       = 9
	keyedEvery = 10 * time.Millisecond  // of event time between records
	window     = 400 * time.Millisecond // of event time
)

// Each key passes once, whatever is sent twice, over crashes, zombies, store and sink faults, lost local disks and other numbers of
// tasks.
func TestSim_dedupUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, config.ExactlyOnce, (*keyedWorld).dedups)
}

// Each window of each key comes out once, with the count that the topic gives.
func TestSim_windowsUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, config.ExactlyOnce, (*keyedWorld).counts)
}

// A count that is told with each change goes up by what came, and never twice over the same.
func TestSim_updatesUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, config.ExactlyOnce, (*keyedWorld).updates)
}

// With at-least-once each key passes at least once. That some pass twice shows that the crashes hit; the state itself counts no record
// twice: by its counters each number passed once.
func TestSim_dedupAtLeastOnceLosesNothing(t *testing.T) {
	simulateKeyed(t, config.AtLeastOnce, (*keyedWorld).dedups)
}

// With at-least-once a window may come out again, and each time with the same count: what is read again is not counted twice.
func TestSim_windowsAtLeastOnceCountOnce(t *testing.T) {
	simulateKeyed(t, config.AtLeastOnce, (*keyedWorld).counts)
}

// With at-least-once a count may be told again, never more than what came, and the last is exact.
func TestSim_updatesAtLeastOnceCountOnce(t *testing.T) {
	simulateKeyed(t, config.AtLeastOnce, (*keyedWorld).updates)
}

// simulateKeyed runs every seed with a delivery and a subject. With at-least-once some seed must show a row twice: else the crashes
// prove nothing.
func simulateKeyed(t *testing.T, delivery config.Delivery, subject func(w *keyedWorld)) {
	t.Helper()
	const enough = 10 // seeds that show what a single one need not
	from, to := seeds(t)
	if os.Getenv("SIM_SEED") == "" {
		share := uint64(4) // local disks are real ones, and take their time
		if testing.Short() {
			share = 8
		}
		to = from + (to-from+share-1)/share
	}
	began := time.Now()
	bases, doubled := 0, 0
	for seed := from; seed < to; seed++ {
		failed := !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := &keyedWorld{world: newWorld(t, seed, delivery), dir: dir, times: map[int]int{}, sums: map[string]int{}, totals: map[string]int{}}
				subject(w)
				w.live()
				w.judge()
				if w.doubled > 0 && delivery == config.ExactlyOnce {
					t.Errorf("%d rows are doubled", w.doubled)
				}
				doubled += w.doubled
				if bases += w.bases(); w.constant {
					bases++
				}
			})
		})
		if failed {
			t.Fatalf("repeat with: SIM_SEED=%d go test -tags synctests,invariants -run '%s' ./integration/sim", seed, t.Name())
		}
	}
	if bases == 0 && to-from >= enough {
		t.Error("no seed ended with a base: restores from one were not tried")
	}
	if delivery == config.AtLeastOnce && doubled == 0 && to-from >= enough {
		t.Error("no seed showed a duplicate: the crashes prove nothing")
	}
	n := float64(to-from) * crashes
	t.Logf("%s: %d seeds, %.0f crashes and recoveries, %.0f a minute; %d rows doubled", delivery, to-from, n, n/time.Since(began).Minutes(), doubled)
}

// keyedWorld is a world whose pipeline has keyed state, and local disks that outlive processes or don't. A subject says what the
// pipeline is and what must come of it.
type keyedWorld struct {
	*world
	dir    string
	disks  []string // not in use
	made   int
	booted int

	steps    []step.Step
	change   func(d *pipeline.Definition, p *process) // nil: nothing is unusual
	between  func()                                   // while no process lives; nil: nothing
	feed     func() error                             // writes what is to be read
	sent     atomic.Int64                             // records
	constant bool                                     // what is kept does not change later, so that no base is due
	complete func() bool                              // whether everything is there, at least once
	judge    func()

	times   map[int]int    // how often each number was sent
	sums    map[string]int // of windows, "key start"
	totals  map[string]int // of keys
	doubled int            // rows that came out again
}

func (w *keyedWorld) dedups() {
	w.steps = []step.Step{pipeline.Keyed(&step.Dedup{ID: "once", Key: []string{"n"}})}
	w.feed = func() error { return w.produce(false) }
	w.complete = func() bool { return len(w.seen(func(r *keyedRow) string { return fmt.Sprint(r.N) })) >= len(w.times) }
	w.judge = func() {
		want := map[string]int{}
		for n := range w.times {
			want[fmt.Sprint(n)] = 1
		}
		got := w.seen(func(r *keyedRow) string { return fmt.Sprint(r.N) })
		for name, rows := range got {
			w.doubled += len(rows) - 1
			got[name] = rows[:1]
		}
		w.compare(got, want, func(*keyedRow) int { return 1 })
		w.judgeState(int64(len(w.times)))
	}
}

func (w *keyedWorld) counts() {
	w.steps = []step.Step{pipeline.Keyed(&step.Aggregate{
		ID: "counts", Key: []string{"k"}, Columns: []step.AggregateColumn{{Column: "n", Value: "count()"}},
		Window: step.Window{Kind: step.Tumbling, Size: window}, Start: "start", Late: step.LateDrop,
	})}
	w.feed = func() error { return w.produce(true) }
	name := func(r *keyedRow) string {
		start, err := time.Parse("2006-01-02T15:04:05.000Z", r.Start)
		if err != nil {
			w.t.Fatal(err)
		}
		return fmt.Sprint(r.K, " ", start.UnixMilli())
	}
	w.complete = func() bool { return len(w.seen(name)) >= len(w.sums) }
	w.judge = func() {
		got := w.seen(name)
		for _, rows := range got {
			w.doubled += len(rows) - 1
		}
		w.compare(got, w.sums, func(r *keyedRow) int { return r.N })
		w.judgeState(-1)
	}
}

func (w *keyedWorld) updates() {
	w.steps = []step.Step{pipeline.Keyed(&step.Aggregate{
		ID: "totals", Key: []string{"k"}, Columns: []step.AggregateColumn{{Column: "n", Value: "count()"}},
	})}
	w.feed = func() error { return w.produce(false) }
	name := func(r *keyedRow) string { return fmt.Sprint(r.K) }
	w.complete = func() bool {
		got := w.seen(name)
		for k, n := range w.totals {
			if !slices.ContainsFunc(got[k], func(r keyedRow) bool { return r.N >= n }) {
				return false
			}
		}
		return true
	}
	w.judge = func() {
		got := w.seen(name)
		for k, rows := range got {
			slices.SortFunc(rows, func(a, b keyedRow) int { return a.N - b.N })
			left := slices.Compact(slices.Clone(rows))
			w.doubled += len(rows) - len(left)
			got[k] = rows[len(rows)-1:]
		}
		w.compare(got, w.totals, func(r *keyedRow) int { return r.N })
		w.judgeState(-1)
	}
}

func (w *keyedWorld) live() {
	go func() { w.produced <- w.feed() }()
	for range crashes {
		p := w.boot()
		time.Sleep(time.Duration(w.pick(2000)) * time.Millisecond)
		if w.chance(4) {
			q := w.boot()
			time.Sleep(time.Duration(w.pick(1500)) * time.Millisecond)
			q.crash()
			w.free(q)
		}
		p.crash()
		w.free(p)
		if w.chance(2) {
			w.store.Land()
		}
		if w.between != nil {
			w.between()
		}
	}
	if err := <-w.produced; err != nil {
		w.t.Fatal(err)
	}
	w.calm.Store(true)
	w.store.Land()
	p := w.boot()
	for deadline := time.Now().Add(10 * time.Minute); (!w.complete() || !w.read() || p.supervisor.Status().State != pipeline.Running) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	p.supervisor.Stop()
	res := <-p.done
	if res.Reason != machine.Done || len(res.Pending) > 0 {
		w.t.Errorf("the last run ended as %s: %s (%d sinks with pending committables), status %+v", res.Reason, res.Text, len(res.Pending), p.supervisor.Status())
	}
}

// read reports whether the newest checkpoint has every record: with at-least-once rows may be there before it has.
func (w *keyedWorld) read() bool {
	w.t.Helper()
	entries, err := pipeline.History(context.Background(), &pipeline.Definition{ID: "p", Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	m := entries[len(entries)-1].Entry.Manifest
	if m == nil {
		return false
	}
	var at int64
	for _, p := range m.Positions() {
		if strings.HasPrefix(p.Split, "t/") {
			at += int64(p.Offset)
		}
	}
	return at == w.sent.Load()
}

// produce sends numbered records in order of event time, some of them again later, and at last, if windows are to end, one in each
// partition that ends them all.
func (w *keyedWorld) produce(ends bool) error { //nolint:revive // flag-parameter: the two ends of a test
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer client.Close()
	begin := time.UnixMilli(1_700_000_000_000)
	send := func(n int, at time.Time) *kgo.Record {
		key := w.pick(keys)
		w.times[n]++
		w.sums[fmt.Sprint(key, " ", at.Truncate(window).UnixMilli())]++
		w.totals[fmt.Sprint(key)]++
		return &kgo.Record{Partition: int32(w.pick(partitions)), Timestamp: at, Value: fmt.Appendf(nil, `{"n":%d,"k":%d}`, n, key)}
	}
	for n := 0; n < records; {
		var batch []*kgo.Record
		for range min(1+w.pick(12), records-n) {
			at := begin.Add(time.Duration(n) * keyedEvery)
			batch = append(batch, send(n, at))
			for range w.pick(3) { // again, near and far
				batch = append(batch, send(w.pick(n+1), at))
			}
			n++
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		w.sent.Add(int64(len(batch)))
		time.Sleep(time.Duration(w.pick(300)) * time.Millisecond)
	}
	if !ends {
		return nil
	}
	var last []*kgo.Record
	for p := range partitions {
		last = append(last, &kgo.Record{Partition: int32(p), Timestamp: begin.Add(time.Hour), Value: []byte(`{"n":-1,"k":-1}`)})
	}
	w.sent.Add(partitions)
	return client.ProduceSync(context.Background(), last...).FirstErr()
}

// keyedProcess is a process with a local disk.
type keyedProcess struct {
	*process
	disk string
}

// free lets a later process use a disk again, or loses it.
func (w *keyedWorld) free(p keyedProcess) {
	if w.chance(3) {
		if err := os.RemoveAll(p.disk); err != nil {
			w.t.Error(err)
		}
		return
	}
	w.disks = append(w.disks, p.disk)
}

// boot starts a process on a new disk or on one that an earlier process used.
func (w *keyedWorld) boot() keyedProcess {
	w.t.Helper()
	p := keyedProcess{process: newProcess()}
	if n := len(w.disks); n > 0 && !w.chance(4) {
		i := w.pick(n)
		p.disk = w.disks[i]
		w.disks = slices.Delete(w.disks, i, i+1)
	} else {
		w.made++
		p.disk = fmt.Sprintf("%s/%d", w.dir, w.made)
	}
	p.who = fmt.Sprint("process ", w.booted)
	w.booted++
	w.start(p.process, w.define(p.process), local.NewFolder(p.disk))
	return p
}

func (w *keyedWorld) define(p *process) *pipeline.Definition {
	w.t.Helper()
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	src, err := kafka.New(kafka.Settings{Brokers: w.brokers, Topics: []string{"t"}, Dial: w.net.DialContext}, slog.New(slog.DiscardHandler))
	must(err)
	dec, err := codecjson.New(codecjson.Settings{Columns: []codecjson.Column{{Name: "n", Type: "int64"}, {Name: "k", Type: "int64"}}})
	must(err)
	rows, err := memory.New(memory.Settings{SegmentRows: 16, UnitSegments: 2}, w.rows, w.calls(p))
	must(err)
	d := &pipeline.Definition{
		Name: "p", ID: "p", Delivery: w.delivery, Digest: "d", Tasks: 1 + w.pick(4), Source: src, Codec: dec, Sink: rows,
		Steps: w.steps, StateMemory: 16 << 20, KeyGroups: 16, StateLimits: local.Limits{Deltas: 1 + w.pick(8)},
		EventTime: step.WatermarkOptions{Disorder: time.Millisecond},
		Store:     dyingStore{w.store, p},
		Checkpoint: pipeline.CheckpointSettings{
			Interval: time.Duration(50+w.pick(400)) * time.Millisecond, Keep: 2, MaxPending: 1 + w.pick(3), Timeout: time.Minute,
		},
		Restart:    pipeline.RestartSettings{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		StallAfter: time.Minute, ShutdownTimeout: time.Hour, DiscoveryInterval: time.Minute,
	}
	if w.change != nil {
		w.change(d, p)
	}
	return d
}

// newest is the newest manifest.
func (w *keyedWorld) newest() *checkpoint.Manifest {
	w.t.Helper()
	entries, err := pipeline.History(context.Background(), &pipeline.Definition{ID: "p", Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	m := entries[len(entries)-1].Entry.Manifest
	if m == nil || m.State() == nil {
		w.t.Fatal("the newest entry names no keyed state")
	}
	return m
}

// bases is how many bases the newest manifest names.
func (w *keyedWorld) bases() int {
	w.t.Helper()
	stored, err := pipeline.ReadState(w.newest().State())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(stored.State.Bases)
}

// keyedRow is a row of any subject.
type keyedRow struct {
	N     int    `json:"n"`
	K     int    `json:"k"`
	Start string `json:"start"`
}

// seen returns the rows that came out, by name.
func (w *keyedWorld) seen(name func(r *keyedRow) string) map[string][]keyedRow {
	w.t.Helper()
	got := map[string][]keyedRow{}
	for _, r := range w.rows.Rows() {
		var row keyedRow
		if err := json.Unmarshal(r, &row); err != nil {
			w.t.Fatalf("row %s: %v", r, err)
		}
		got[name(&row)] = append(got[name(&row)], row)
	}
	return got
}

// compare wants every name, no other, and the value of each of its rows.
func (w *keyedWorld) compare(got map[string][]keyedRow, want map[string]int, value func(r *keyedRow) int) {
	w.t.Helper()
	for name, n := range want {
		if len(got[name]) == 0 {
			w.t.Errorf("%s: got nothing, want %d", name, n)
		}
	}
	for name, rows := range got {
		n, known := want[name]
		for i := range rows {
			if !known || value(&rows[i]) != n {
				w.t.Errorf("%s: got %d, want %d (wanted at all: %t)", name, value(&rows[i]), n, known)
			}
		}
	}
}

// judgeState wants every record counted once in what checkpoints hold, whatever came out: read by the source, taken in by the step,
// and, if it is known how many it passes, passed.
func (w *keyedWorld) judgeState(passed int64) {
	w.t.Helper()
	stages := w.newest().Counters.Stages
	if got, sent := stages[2].In, w.sent.Load(); got != sent || stages[0].In != sent {
		w.t.Errorf("counters: the step took %d of %d records that were read, %d were sent", got, stages[0].In, sent)
	}
	if got := stages[2].Passed; passed >= 0 && got != passed {
		w.t.Errorf("counters: the step passed %d records, want %d", got, passed)
	}
}
