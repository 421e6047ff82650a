//go:build synctests

package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/memory"
	"github.com/ingestd/ingestd/source/kafka"
)

const (
	partitions = 3
	records    = 240 // of a whole simulation
	crashes    = 5
	// What becomes of a record, by its number.
	malformedEach = 13 // refused by the decoder
	invalidEach   = 17 // refused when it is written
	poisonEach    = 19 // refused when it is committed
)

// seeds says how many seeds to run: SIM_SEEDS, else few with -short and more without; SIM_SEED runs one.
func seeds(t *testing.T) (from, to uint64) {
	t.Helper()
	if s := os.Getenv("SIM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n, n + 1
	}
	n := uint64(400)
	if testing.Short() {
		n = 40
	}
	if s := os.Getenv("SIM_SEEDS"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return 1, n + 1
}

func TestSim_exactlyOnceUnderCrashesAndFaults(t *testing.T) {
	simulate(t, config.ExactlyOnce)
}

// At-least-once loses nothing; that it doubles at times shows that the crashes hit.
func TestSim_atLeastOnceLosesNothing(t *testing.T) {
	if doubled := simulate(t, config.AtLeastOnce); doubled == 0 {
		t.Error("no seed showed a duplicate: the crashes prove nothing")
	}
}

// simulate runs every seed with a delivery and returns how many records were doubled.
func simulate(t *testing.T, delivery config.Delivery) (doubled int) {
	t.Helper()
	from, to := seeds(t)
	began := time.Now()
	for seed := from; seed < to; seed++ {
		failed := !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, delivery)
				w.live()
				doubled += w.judge()
			})
		})
		if failed {
			t.Fatalf("repeat with: SIM_SEED=%d go test -tags synctests,invariants -run '%s' ./integration/sim", seed, t.Name())
		}
	}
	n := float64(to-from) * crashes
	t.Logf("%s: %d seeds, %.0f crashes and recoveries, %.0f a minute", delivery, to-from, n, n/time.Since(began).Minutes())
	return doubled
}

// world is everything outside the daemon, and the oracle.
type world struct {
	t        *testing.T
	delivery config.Delivery
	random   *rand.Rand
	mu       sync.Mutex // guards random
	net      *kfake.VirtualNetwork
	cluster  *kfake.Cluster
	brokers  []string
	store    *storetest.Memory
	rows     *memory.Table
	letters  *memory.Table
	calm     atomic.Bool // no more faults
	produced chan error
}

func newWorld(t *testing.T, seed uint64, delivery config.Delivery) *world {
	t.Helper()
	w := &world{
		t: t, delivery: delivery, random: rand.New(rand.NewPCG(seed, 0)), net: new(kfake.VirtualNetwork),
		rows: memory.NewTable(), letters: memory.NewTable(), produced: make(chan error, 1),
	}
	w.store = storetest.NewMemory(w.storeFault)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"), kfake.ListenFn(w.net.Listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w.cluster, w.brokers = c, c.ListenAddrs()
	return w
}

// chance is true with a probability of one in n.
func (w *world) chance(n int) bool { return w.pick(n) == 0 }

func (w *world) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

func (w *world) storeFault(c storetest.Call) storetest.Fault {
	if w.calm.Load() || !w.chance(12) {
		return storetest.None
	}
	return storetest.Fault(1 + w.pick(int(storetest.Late)))
}

// live produces, and runs and crashes the daemon, until everything must be there.
func (w *world) live() {
	go func() { w.produced <- w.produce() }()
	for range crashes {
		p := w.boot()
		time.Sleep(time.Duration(w.pick(2000)) * time.Millisecond)
		if w.chance(4) { // a zombie: it lives on while its successor starts
			q := w.boot()
			time.Sleep(time.Duration(w.pick(1500)) * time.Millisecond)
			q.crash()
		}
		p.crash()
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
	for deadline := time.Now().Add(10 * time.Minute); (w.count() < records || p.supervisor.Status().State != pipeline.Running) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	p.supervisor.Stop()
	res := <-p.done
	if res.Reason != machine.Done || len(res.Pending) > 0 {
		w.t.Errorf("the last run ended as %s: %s (%d sinks with pending committables), status %+v", res.Reason, res.Text, len(res.Pending), p.supervisor.Status())
	}
}

// count is how many records have come out, at least once.
func (w *world) count() int {
	seen := map[int]bool{}
	for _, table := range []*memory.Table{w.rows, w.letters} {
		for _, r := range table.Rows() {
			seen[number(w.t, r)] = true
		}
	}
	return len(seen)
}

// number finds a record's number in a row or in a dead letter's raw value.
func number(t *testing.T, row []byte) int {
	t.Helper()
	var r struct {
		N     *int   `json:"n"`
		Value string `json:"value"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal(row, &r); err != nil {
		t.Fatalf("row %s: %v", row, err)
	}
	if r.N != nil {
		return *r.N
	}
	n, err := strconv.Atoi(r.Key)
	if err != nil {
		t.Fatalf("dead letter %s: %v", row, err)
	}
	return n
}

// refused reports whether a record must be a dead letter.
func refused(n int) bool { return n%malformedEach == 1 || n%invalidEach == 1 || n%poisonEach == 1 }

func (w *world) produce() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := 0; n < records; {
		var batch []*kgo.Record
		for range min(1+w.pick(12), records-n) {
			text := "fine"
			switch {
			case n%poisonEach == 1:
				text = "poison"
			case n%invalidEach == 1:
				text = "invalid"
			}
			value := fmt.Appendf(nil, `{"n":%d,"text":%q}`, n, text)
			if n%malformedEach == 1 {
				value = value[:len(value)-1]
			}
			batch = append(batch, &kgo.Record{Partition: int32(n % partitions), Key: []byte(strconv.Itoa(n)), Value: value})
			n++
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		time.Sleep(time.Duration(w.pick(300)) * time.Millisecond)
	}
	return nil
}

// process is one run of the daemon.
type process struct {
	who        string
	alive      atomic.Bool // what a dead one does has no effect
	supervisor *pipeline.Supervisor
	cancel     context.CancelFunc
	done       chan pipeline.Result
}

// crash ends a process at once: nothing that it does afterwards takes effect.
func (p *process) crash() {
	p.alive.Store(false)
	p.cancel()
	<-p.done
}

// errDead is what a crashed process sees.
var errDead = errors.New("this process is dead")

// dyingStore is the store as one process sees it.
type dyingStore struct {
	*storetest.Memory
	p *process
}

func (s dyingStore) Create(ctx context.Context, name string, data []byte) error {
	if !s.p.alive.Load() {
		return fault.E("sim", fault.Unknown, errDead)
	}
	return s.Memory.Create(ctx, name, data)
}

func (s dyingStore) Delete(ctx context.Context, name string) error {
	if !s.p.alive.Load() {
		return fault.E("sim", fault.Unknown, errDead)
	}
	return s.Memory.Delete(ctx, name)
}

// calls breaks calls to a table: before the effect, after it, or for good.
func (w *world) calls(p *process) memory.Calls {
	return func(_ string, effect func() error) error {
		if !p.alive.Load() {
			return fault.E("sim", fault.Unknown, errDead)
		}
		if w.calm.Load() || !w.chance(10) {
			return effect()
		}
		if w.chance(2) {
			return fault.E("sim", fault.Unknown, errors.New("request lost"))
		}
		if err := effect(); err != nil {
			return err
		}
		return fault.E("sim", fault.Unknown, errors.New("reply lost"))
	}
}

// boot starts a process.
func (w *world) boot() *process {
	w.t.Helper()
	p := newProcess()
	w.start(p, w.define(p), nil)
	return p
}

func newProcess() *process {
	p := &process{who: "sim", done: make(chan pipeline.Result, 1)}
	p.alive.Store(true)
	return p
}

// start runs a process's pipeline, with a local disk if it has keyed steps.
func (w *world) start(p *process, def *pipeline.Definition, disk pipeline.StateDisk) {
	w.t.Helper()
	metrics := telemetry.New("sim")
	budget, shares, err := pipeline.DivideMemory(1<<30, []*pipeline.Definition{def})
	if err != nil || budget == nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SIM_SEED") != "" {
		log = slog.New(slog.NewTextHandler(io.Writer(os.Stderr), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	p.supervisor = pipeline.NewSupervisor(def, pipeline.Env{
		Log: log, Metrics: metrics.Pipeline("p"), Memory: shares["p"], Who: p.who, State: disk,
		Random: func(b []byte) {
			for i := range b {
				b[i] = byte(w.pick(256))
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		res := p.supervisor.Run(ctx)
		cancel()
		if err := def.CloseSources(); err != nil {
			w.t.Error(err)
		}
		p.done <- res
	}()
}

func (w *world) define(p *process) *pipeline.Definition {
	w.t.Helper()
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	src, err := kafka.New(kafka.Settings{Brokers: w.brokers, Topics: []string{"t"}, Dial: w.net.DialContext}, slog.New(slog.DiscardHandler))
	must(err)
	dec, err := codecjson.New(codecjson.Settings{Columns: []codecjson.Column{{Name: "n", Type: "int64"}, {Name: "text", Type: "string"}}})
	must(err)
	rows, err := memory.New(memory.Settings{SegmentRows: 16, UnitSegments: 2, Invalid: "invalid", Poison: "poison"}, w.rows, w.calls(p))
	must(err)
	letters, err := memory.New(memory.Settings{SegmentRows: 16}, w.letters, w.calls(p))
	must(err)
	return &pipeline.Definition{
		Name: "p", ID: "p", Delivery: w.delivery, Digest: "d", Tasks: 2, Source: src, Codec: dec, Sink: sink.Plugin(rows), DeadLetter: letters,
		Store: checkpoint.Store(dyingStore{w.store, p}),
		Checkpoint: pipeline.CheckpointSettings{
			Interval: time.Duration(50+w.pick(400)) * time.Millisecond, Keep: 2, MaxPending: 1 + w.pick(3), Timeout: time.Minute,
		},
		Restart:    pipeline.RestartSettings{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		StallAfter: time.Minute, ShutdownTimeout: time.Hour, DiscoveryInterval: time.Minute,
	}
}

// judge compares tables and counters with what was produced, and returns how many records were doubled.
func (w *world) judge() (doubled int) {
	w.t.Helper()
	seen := map[int]int{}
	for _, r := range w.rows.Rows() {
		n := number(w.t, r)
		if refused(n) {
			w.t.Errorf("a refused record is in the table: %s", r)
		}
		seen[n]++
	}
	for _, r := range w.letters.Rows() {
		n := number(w.t, r)
		if !refused(n) {
			w.t.Errorf("a dead letter that is none: %s", r)
		}
		seen[n]++
	}
	for n := range records {
		switch {
		case seen[n] == 0:
			w.t.Errorf("record %d is lost", n)
		case seen[n] > 1:
			doubled++
		}
	}
	if doubled > 0 && w.delivery == config.ExactlyOnce {
		w.t.Errorf("%d records are doubled", doubled)
	}
	w.judgeCounters()
	return doubled
}

func (w *world) judgeCounters() {
	w.t.Helper()
	entries, err := pipeline.History(context.Background(), &pipeline.Definition{ID: "p", Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	m := entries[len(entries)-1].Entry.Manifest
	if m == nil {
		w.t.Fatal("the newest entry is no manifest")
	}
	var letters int64
	for n := range records {
		if refused(n) {
			letters++
		}
	}
	if got := m.Counters.Stages[0].In; got != records || m.Counters.DeadLetters != letters {
		w.t.Errorf("counters: %d records read and %d dead letters, want %d and %d", got, m.Counters.DeadLetters, records, letters)
	}
}
