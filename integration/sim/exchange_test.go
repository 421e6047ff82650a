//go:build synctests

package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint/storetest"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink/memory"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// Whoever is slow, the source tasks or the keyed tasks, with the least budget there may be and beside a pipeline whose sink stands
// still: every record comes through the exchange, those of a key in the order of their split (I10), and the budget holds (I11).
func TestExchange_neitherStandsNorReorders(t *testing.T) {
	for _, c := range []struct{ source, keyed time.Duration }{
		{0, 0}, {0, 20 * time.Millisecond}, {20 * time.Millisecond, 0}, {20 * time.Millisecond, 20 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("source %s, keyed %s", c.source, c.keyed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { exchangeUnderPressure(t, dir, c.source, c.keyed) })
		})
	}
}

const (
	pressureRecords = 80_000
	pressureBytes   = 1000 // of each
)

func exchangeUnderPressure(t *testing.T, dir string, source, keyed time.Duration) {
	t.Helper()
	net := new(kfake.VirtualNetwork)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "t"), kfake.ListenFn(net.Listen))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	producePressure(t, c, net)
	blocked := make(chan struct{})
	free := func(_ string, effect func() error) error { return effect() }
	stuck := func(what string, effect func() error) error {
		if what == "transaction" {
			<-blocked
		}
		return effect()
	}
	rows := memory.NewTable()
	defs := []*pipeline.Definition{
		pressureFlow(t, "p", c, net, rows, free, source, keyed),
		pressureFlow(t, "q", c, net, memory.NewTable(), stuck, 0, 0),
	}
	limit := leastMemory(t, defs)
	budget, shares, err := pipeline.DivideMemory(limit, defs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var supervisors []*pipeline.Supervisor
	done := make(chan pipeline.Result, len(defs))
	for _, d := range defs {
		s := pipeline.NewSupervisor(d, pipeline.Env{
			Log: slog.New(slog.DiscardHandler), Metrics: telemetry.New("sim").Pipeline(d.Name), Memory: shares[d.Name], Who: "sim",
			State: local.NewFolder(dir), Random: fillRandom,
		})
		supervisors = append(supervisors, s)
		go func() { done <- s.Run(ctx) }()
	}
	for deadline := time.Now().Add(time.Hour); len(rows.Rows()) < pressureRecords && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	if n := len(rows.Rows()); n != pressureRecords {
		t.Errorf("%d of %d records came through: %+v", n, pressureRecords, supervisors[0].Status())
	}
	if _, peak := budget.Used(); peak > budget.Total() {
		t.Errorf("%d bytes were in flight, the budget is %d", peak, budget.Total())
	}
	supervisors[0].Stop()
	if res := <-done; res.Reason != machine.Done {
		t.Errorf("the pipeline ended as %s: %s", res.Reason, res.Text)
	}
	close(blocked)
	cancel()
	<-done
	for _, d := range defs {
		if err := d.Source.Close(); err != nil {
			t.Error(err)
		}
	}
}

func fillRandom(b []byte) {
	for i := range b {
		b[i] = byte(rand.IntN(256))
	}
}

// leastMemory is the limit below which the pipelines are refused.
func leastMemory(t *testing.T, defs []*pipeline.Definition) int64 {
	t.Helper()
	low, high := int64(0), int64(4<<30)
	for low+1 < high {
		mid := (low + high) / 2
		if _, _, err := pipeline.DivideMemory(mid, defs); err != nil {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

func producePressure(t *testing.T, c *kfake.Cluster, net *kfake.VirtualNetwork) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.Dialer(net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	pad := strings.Repeat("x", pressureBytes)
	var all []*kgo.Record
	for n := range pressureRecords {
		all = append(all, &kgo.Record{Partition: int32(n % 4), Value: fmt.Appendf(nil, `{"n":%d,"k":"%d/%d","pad":%q}`, n, n%4, n/4%11, pad)})
	}
	if err := client.ProduceSync(t.Context(), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func pressureFlow(t *testing.T, name string, c *kfake.Cluster, net *kfake.VirtualNetwork, rows *memory.Table, calls memory.Calls, source, keyed time.Duration) *pipeline.Definition { //nolint:revive // argument-limit: one pipeline of two
	t.Helper()
	src, err := kafka.New(kafka.Settings{Brokers: c.ListenAddrs(), Topics: []string{"t"}, Dial: net.DialContext}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := codecjson.New(codecjson.Settings{Columns: []codecjson.Column{{Name: "n", Type: "int64"}, {Name: "k", Type: "string"}}})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := memory.New(memory.Settings{}, rows, calls)
	if err != nil {
		t.Fatal(err)
	}
	return &pipeline.Definition{
		Name: name, ID: name, Delivery: config.ExactlyOnce, Digest: "d", Tasks: 2, Source: src, Codec: dec, Sink: sink,
		Steps: []step.Step{pause("before", source), pipeline.Keyed(inOrder{}), pause("behind", keyed)}, StateMemory: 16 << 20, KeyGroups: 16,
		Store:      storetest.NewMemory(nil),
		Checkpoint: pipeline.CheckpointSettings{Interval: 200 * time.Millisecond, Keep: 2, MaxPending: 2, Timeout: time.Hour},
		Restart:    pipeline.RestartSettings{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond, Limit: 1},
		StallAfter: time.Minute, ShutdownTimeout: time.Hour, DiscoveryInterval: time.Hour,
	}
}

// pausing is a step that takes its time for each batch.
type pausing struct {
	name  string
	takes time.Duration
}

func pause(name string, d time.Duration) step.Step { return pausing{name, d} }

func (p pausing) Name() string { return p.name }

func (p pausing) Bind(in *record.Schema) (*record.Schema, step.Apply, error) {
	return in, func(*record.Batch, *step.Result) { <-time.After(p.takes) }, nil
}

// inOrder is a keyed step that lets everything pass and fails when numbers of a key go back.
type inOrder struct{}

func (inOrder) Name() string         { return "in-order" }
func (inOrder) KeyColumns() []string { return []string{"k"} }

func (inOrder) BindKeyed(in *record.Schema) (step.KeyedBinding, error) {
	n := in.Index("n")
	return step.KeyedBinding{Out: in, Open: func(*state.Task) (step.Operator, error) {
		return &orderOperator{n: n, last: map[string]int64{}}, nil
	}}, nil
}

type orderOperator struct {
	n    int
	last map[string]int64
}

var errOrder = errors.New("a key goes back")

func (o *orderOperator) Process(b *record.Batch, keys *state.Keys, _ *step.KeyedResult) error {
	for row := range b.Rows {
		key, n := string(keys.Key(row)), b.Cols[o.n].Int(row)
		if last, seen := o.last[key]; seen && n <= last {
			return fault.E("sim", fault.Corrupt, fmt.Errorf("%w: %s after %s", errOrder, strconv.FormatInt(n, 10), strconv.FormatInt(last, 10)))
		}
		o.last[key] = n
	}
	return nil
}

func (*orderOperator) Advance(_, _ int64, _ *record.Batch, _ *step.KeyedResult) error { return nil }

func (*orderOperator) End(*record.Batch, *step.KeyedResult) error { return nil }
