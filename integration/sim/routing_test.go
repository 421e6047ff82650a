//go:build synctests

package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/memory"
	"github.com/ingestd/ingestd/source/kafka"
)

func TestSimRouting_exactlyOnceInEachSink(t *testing.T) { simulateRouting(t, config.ExactlyOnce) }

// At-least-once loses nothing in any of several sinks; that it doubles at times shows that the crashes hit.
func TestSimRouting_atLeastOnceLosesNothing(t *testing.T) {
	if doubled := simulateRouting(t, config.AtLeastOnce); doubled == 0 {
		t.Error("no seed showed a duplicate: the crashes prove nothing")
	}
}

func simulateRouting(t *testing.T, delivery config.Delivery) (doubled int) {
	t.Helper()
	from, to := seeds(t)
	to = min(to, from+(to-from+1)/2) // each seed is as long as one of the plain simulation, and there are many of these
	for seed := from; seed < to; seed++ {
		failed := !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &routedWorld{world: newWorld(t, seed, delivery), left: memory.NewTable(), right: memory.NewTable()}
				w.live()
				doubled += w.judge()
			})
		})
		if failed {
			t.Fatalf("repeat with: SIM_SEED=%d go test -tags synctests,invariants -run '%s' ./integration/sim", seed, t.Name())
		}
	}
	return doubled
}

// routedWorld has two targets with columns of their own. The table "left" takes n, a text and left_only, "right" takes n as
// another type, and right_only.
type routedWorld struct {
	*world
	left, right *memory.Table
}

// What becomes of a record, by its number. A record has the column that only the one target has if it is for that one.
func wantedLeft(n int) bool   { return n%3 != 0 }
func wantedRight(n int) bool  { return n%2 == 0 }
func broken(n int) bool       { return n%malformedEach == 1 }
func refusedLeft(n int) bool  { return n%invalidEach == 1 || n%poisonEach == 1 || n%lackingEach == 1 }
func refusedRight(n int) bool { return n > wideMost }
func lettersOf(n int) (of int) {
	if broken(n) {
		return 1
	}
	if wantedLeft(n) && refusedLeft(n) {
		of++
	}
	if wantedRight(n) && refusedRight(n) {
		of++
	}
	return of
}

const (
	lackingEach = 23  // has no left_only
	wideMost    = 200 // what the right target's n can hold
)

func routedRecord(n int) []byte {
	r := map[string]any{"n": n, "text": "fine"}
	switch {
	case n%poisonEach == 1:
		r["text"] = "poison"
	case n%invalidEach == 1:
		r["text"] = "invalid"
	}
	if wantedLeft(n) && n%lackingEach != 1 {
		r["left_only"] = "l" + strconv.Itoa(n)
	}
	if wantedRight(n) {
		r["right_only"] = 7 * n
	}
	value, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	if broken(n) {
		value = value[:len(value)-1]
	}
	return value
}

func (w *routedWorld) produce() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := 0; n < records; {
		var batch []*kgo.Record
		for range min(1+w.pick(12), records-n) {
			batch = append(batch, &kgo.Record{Partition: int32(n % partitions), Key: []byte(strconv.Itoa(n)), Value: routedRecord(n)})
			n++
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		time.Sleep(time.Duration(w.pick(300)) * time.Millisecond)
	}
	return nil
}

// typed is a table that has columns of its own.
type typed struct {
	*memory.Plugin
	schema *record.Schema
}

func (p typed) Capabilities() sink.Capabilities {
	c := p.Plugin.Capabilities()
	c.AnyColumns = false
	return c
}

func (p typed) Inspect(ctx context.Context, id sink.Identity) (sink.Inspection, error) {
	in, err := p.Plugin.Inspect(ctx, id)
	in.Schema = p.schema
	return in, err
}

func field(name string, kind record.Kind) record.Field {
	return record.Field{Name: name, Type: record.Type{Kind: kind}}
}

func (w *routedWorld) define(p *process) *pipeline.Definition {
	w.t.Helper()
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	src, err := kafka.New(kafka.Settings{Brokers: w.brokers, Topics: []string{"t"}, Dial: w.net.DialContext}, slog.New(slog.DiscardHandler))
	must(err)
	dec, err := codecjson.New(codecjson.Settings{Columns: []codecjson.Column{{Name: "n", Type: "int64"}}})
	must(err)
	left, err := memory.New(memory.Settings{SegmentRows: 16, UnitSegments: 2, Invalid: "invalid", Poison: "poison"}, w.left, w.calls(p))
	must(err)
	right, err := memory.New(memory.Settings{SegmentRows: 8, UnitSegments: 1}, w.right, w.calls(p))
	must(err)
	letters, err := memory.New(memory.Settings{SegmentRows: 16}, w.letters, w.calls(p))
	must(err)
	wide := record.Type{Kind: record.Int64}
	return &pipeline.Definition{
		Name: "p", ID: "p", Delivery: w.delivery, Digest: "d", Tasks: 2, Source: src, Codec: dec, DeadLetter: letters,
		Sinks: []pipeline.Route{
			{Name: "left", When: "n % 3 != 0", Sink: typed{left, &record.Schema{Fields: []record.Field{
				{Name: "n", Type: wide}, field("text", record.String), field("left_only", record.String),
			}}}},
			{Name: "right", When: "n % 2 == 0", Sink: typed{right, &record.Schema{Fields: []record.Field{
				{Name: "n", Type: record.Type{Kind: record.Int16, Min: 0, Max: wideMost}}, field("right_only", record.Int64),
			}}}},
		},
		Store: checkpoint.Store(dyingStore{w.store, p}),
		Checkpoint: pipeline.CheckpointSettings{
			Interval: time.Duration(50+w.pick(400)) * time.Millisecond, Keep: 2, MaxPending: 1 + w.pick(3), Timeout: time.Minute,
		},
		Restart:    pipeline.RestartSettings{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		StallAfter: time.Minute, ShutdownTimeout: time.Hour, DiscoveryInterval: time.Minute,
	}
}

func (w *routedWorld) boot() *process {
	w.t.Helper()
	p := newProcess()
	w.start(p, w.define(p), nil)
	return p
}

func (w *routedWorld) live() {
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
	for deadline := time.Now().Add(10 * time.Minute); (w.read() < records || p.supervisor.Status().State != pipeline.Running) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	p.supervisor.Stop()
	res := <-p.done
	if res.Reason != machine.Done || len(res.Pending) > 0 {
		w.t.Errorf("the last run ended as %s: %s (%d sinks with pending committables), status %+v", res.Reason, res.Text, len(res.Pending), p.supervisor.Status())
	}
}

// newest returns the newest manifest, nil before there is one.
func (w *routedWorld) newest() *checkpoint.Manifest {
	entries, err := pipeline.History(context.Background(), &pipeline.Definition{ID: "p", Store: w.store})
	if err != nil {
		return nil
	}
	for _, e := range slices.Backward(entries) {
		if m := e.Entry.Manifest; m != nil {
			return m
		}
	}
	return nil
}

func (w *routedWorld) read() int {
	if m := w.newest(); m != nil && len(m.Counters.Stages) > 0 {
		return int(m.Counters.Stages[0].In)
	}
	return 0
}

// judge compares each table, the letters and the accounts with what was produced.
func (w *routedWorld) judge() (doubled int) {
	w.t.Helper()
	doubled += w.judgeTable("left", w.left, func(n int) bool { return wantedLeft(n) && !refusedLeft(n) }, func(n int) string {
		return fmt.Sprintf(`{"left_only":"l%d","n":%d,"text":"fine"}`, n, n)
	})
	doubled += w.judgeTable("right", w.right, func(n int) bool { return wantedRight(n) && !refusedRight(n) }, func(n int) string {
		return fmt.Sprintf(`{"n":%d,"right_only":%d}`, n, 7*n)
	})
	letters := map[int]int{}
	for _, r := range w.letters.Rows() {
		letters[number(w.t, r)]++
	}
	for n := range records {
		switch got, want := letters[n], lettersOf(n); {
		case got < want:
			w.t.Errorf("record %d has %d dead letters, want %d", n, got, want)
		case got > want && w.delivery == config.ExactlyOnce:
			w.t.Errorf("record %d has %d dead letters, want %d", n, got, want)
		case got > want:
			doubled++
		}
	}
	w.judgeAccounts()
	return doubled
}

func (w *routedWorld) judgeTable(name string, table *memory.Table, has func(n int) bool, form func(n int) string) (doubled int) {
	w.t.Helper()
	seen := map[string]int{}
	for _, r := range table.Rows() {
		seen[sortedRow(w.t, r)]++
	}
	for n := range records {
		row := form(n)
		switch got := seen[row]; {
		case broken(n) || !has(n):
			if got > 0 {
				w.t.Errorf("%s has a row that is not for it: %s", name, row)
			}
		case got == 0:
			w.t.Errorf("%s lacks %s", name, row)
		case got > 1:
			doubled++
		}
		delete(seen, row)
	}
	for row := range seen {
		w.t.Errorf("%s has a row of nothing: %s", name, row)
	}
	if doubled > 0 && w.delivery == config.ExactlyOnce {
		w.t.Errorf("%s: %d rows are doubled", name, doubled)
	}
	return doubled
}

// sortedRow writes a row with its columns sorted.
func sortedRow(t *testing.T, row []byte) string {
	t.Helper()
	var columns map[string]any
	if err := json.Unmarshal(row, &columns); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(columns)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// judgeAccounts holds every stage's account to the records: none is counted twice, also with at-least-once.
func (w *routedWorld) judgeAccounts() {
	w.t.Helper()
	want := map[string]checkpoint.StageCount{}
	add := func(stage string, c checkpoint.StageCount) {
		sum := want[stage]
		sum.Add(c)
		want[stage] = sum
	}
	for n := range records {
		if broken(n) {
			add("decode", checkpoint.StageCount{In: 1, Refused: 1})
			continue
		}
		add("decode", checkpoint.StageCount{In: 1, Passed: 1})
		if !wantedLeft(n) && !wantedRight(n) {
			add("route", checkpoint.StageCount{In: 1, Filtered: 1})
			continue
		}
		add("route", checkpoint.StageCount{In: 1, Passed: 1})
		for stage, of := range map[string][2]bool{"sink:left": {wantedLeft(n), refusedLeft(n)}, "sink:right": {wantedRight(n), refusedRight(n)}} {
			switch {
			case !of[0]:
				add(stage, checkpoint.StageCount{In: 1, Filtered: 1})
			case of[1]:
				add(stage, checkpoint.StageCount{In: 1, Refused: 1})
			default:
				add(stage, checkpoint.StageCount{In: 1, Passed: 1})
			}
		}
	}
	m := w.newest()
	for _, s := range m.Counters.Stages[1:] {
		wants := want[s.Stage]
		wants.Stage = s.Stage
		if s != wants {
			w.t.Errorf("got the account %+v, want %+v", s, wants)
		}
	}
	if len(m.Counters.Stages) != 5 || !m.Counters.Balanced() {
		w.t.Errorf("the accounts don't balance: %+v", m.Counters)
	}
}
