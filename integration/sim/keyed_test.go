//go:build synctests

package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
	simulateKeyed(t, func(w *keyedWorld) {
		w.step = &step.Dedup{ID: "once", Key: []string{"n"}}
	})
}

// Each window of each key comes out once, with the count that the topic gives.
func TestSim_windowsUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, func(w *keyedWorld) {
		w.windows = true
		w.step = &step.Aggregate{
			ID: "counts", Key: []string{"k"}, Columns: []step.AggregateColumn{{Column: "n", Value: "count()"}},
			Window: step.Window{Kind: step.Tumbling, Size: window}, Start: "start", Late: step.LateDrop,
		}
	})
}

func simulateKeyed(t *testing.T, what func(w *keyedWorld)) {
	t.Helper()
	from, to := seeds(t)
	if os.Getenv("SIM_SEED") == "" {
		const share = 4 // local disks are real ones, and take their time
		to = from + (to-from+share-1)/share
	}
	began := time.Now()
	bases := 0
	for seed := from; seed < to; seed++ {
		failed := !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := &keyedWorld{world: newWorld(t, seed, config.ExactlyOnce), dir: dir, times: map[int]int{}, counts: map[string]int{}}
				what(w)
				w.live()
				w.judge()
				bases += w.bases()
			})
		})
		if failed {
			t.Fatalf("repeat with: SIM_SEED=%d go test -tags synctests,invariants -run '%s' ./integration/sim", seed, t.Name())
		}
	}
	if bases == 0 && to-from > 5 {
		t.Error("no seed ended with a base: restores from one were not tried")
	}
	n := float64(to-from) * crashes
	t.Logf("%d seeds, %.0f crashes and recoveries, %.0f a minute", to-from, n, n/time.Since(began).Minutes())
}

// keyedWorld is a world whose pipeline has a keyed step, and local disks that outlive processes or don't.
type keyedWorld struct {
	*world
	step    step.KeyedStep
	windows bool
	dir     string
	disks   []string // not in use
	made    int

	times  map[int]int    // how often each number was sent
	counts map[string]int // of windows, "key start"
}

func (w *keyedWorld) live() {
	go func() { w.produced <- w.produce() }()
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
	}
	if err := <-w.produced; err != nil {
		w.t.Fatal(err)
	}
	w.calm.Store(true)
	w.store.Land()
	p := w.boot()
	for deadline := time.Now().Add(10 * time.Minute); (len(w.rows.Rows()) < w.expected() || p.supervisor.Status().State != pipeline.Running) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	p.supervisor.Stop()
	res := <-p.done
	if res.Reason != machine.Done || len(res.Pending) > 0 {
		w.t.Errorf("the last run ended as %s: %s (%d sinks with pending committables), status %+v", res.Reason, res.Text, len(res.Pending), p.supervisor.Status())
	}
}

func (w *keyedWorld) expected() int {
	if w.windows {
		return len(w.counts)
	}
	return len(w.times)
}

// produce sends numbered records in order of event time, some of them again later, and at last one in each partition that ends
// all windows.
func (w *keyedWorld) produce() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer client.Close()
	begin := time.UnixMilli(1_700_000_000_000)
	send := func(n int, at time.Time) *kgo.Record {
		key := w.pick(keys)
		w.times[n]++
		w.counts[fmt.Sprint(key, " ", at.Truncate(window).UnixMilli())]++
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
		time.Sleep(time.Duration(w.pick(300)) * time.Millisecond)
	}
	if !w.windows {
		return nil
	}
	var last []*kgo.Record
	for p := range partitions {
		last = append(last, &kgo.Record{Partition: int32(p), Timestamp: begin.Add(time.Hour), Value: []byte(`{"n":-1,"k":-1}`)})
	}
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
	return &pipeline.Definition{
		Name: "p", ID: "p", Delivery: w.delivery, Digest: "d", Tasks: 1 + w.pick(4), Source: src, Codec: dec, Sink: rows,
		Steps: []step.Step{pipeline.Keyed(w.step)}, StateMemory: 16 << 20, KeyGroups: 16, StateLimits: local.Limits{Deltas: 1 + w.pick(8)},
		EventTime: step.WatermarkOptions{Disorder: time.Millisecond},
		Store:     dyingStore{w.store, p},
		Checkpoint: pipeline.CheckpointSettings{
			Interval: time.Duration(50+w.pick(400)) * time.Millisecond, Keep: 2, MaxPending: 1 + w.pick(3), Timeout: time.Minute,
		},
		Restart:    pipeline.RestartSettings{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		StallAfter: time.Minute, ShutdownTimeout: time.Hour, DiscoveryInterval: time.Minute,
	}
}

// bases is how many bases the newest manifest names.
func (w *keyedWorld) bases() int {
	w.t.Helper()
	entries, err := pipeline.History(context.Background(), &pipeline.Definition{ID: "p", Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	m := entries[len(entries)-1].Entry.Manifest
	if m == nil || m.State() == nil {
		w.t.Fatal("the newest entry names no keyed state")
	}
	var kept struct {
		State local.State `json:"state"`
	}
	if err := json.Unmarshal(m.State().Data, &kept); err != nil {
		w.t.Fatal(err)
	}
	return len(kept.State.Bases)
}

func (w *keyedWorld) judge() {
	w.t.Helper()
	got := map[string]int{}
	for _, r := range w.rows.Rows() {
		var row struct {
			N     int    `json:"n"`
			K     int    `json:"k"`
			Start string `json:"start"`
		}
		if err := json.Unmarshal(r, &row); err != nil {
			w.t.Fatalf("row %s: %v", r, err)
		}
		if !w.windows {
			got[fmt.Sprint(row.N)]++
			continue
		}
		start, err := time.Parse("2006-01-02T15:04:05.000Z", row.Start)
		if err != nil {
			w.t.Fatalf("row %s: %v", r, err)
		}
		name := fmt.Sprint(row.K, " ", start.UnixMilli())
		if got[name] != 0 {
			w.t.Errorf("the window %s came out twice", name)
		}
		got[name] = row.N
	}
	want := w.counts
	if !w.windows {
		want = map[string]int{}
		for n := range w.times {
			want[fmt.Sprint(n)] = 1
		}
	}
	for name, n := range want {
		if got[name] != n {
			w.t.Errorf("%s: got %d, want %d", name, got[name], n)
		}
		delete(got, name)
	}
	for name, n := range got {
		w.t.Errorf("%s: got %d, want nothing", name, n)
	}
}
