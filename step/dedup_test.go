package step

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// rowText is how a row of keyedSchema comes out.
func rowText(row keyedRow) string {
	v := fmt.Sprint(row.v)
	if row.v == nullV {
		v = "null"
	}
	cents := fmt.Sprintf("%d.%02d", row.v/100, max(row.v, -row.v)%100)
	if row.v < 0 && row.v > -100 {
		cents = "-" + cents
	}
	return fmt.Sprintf("%s %s %s %q %s", keyText(row.key), timeText(row.at), v, row.word, cents)
}

// TestDedup_forEverAgreesWithModel keeps the first row of each key over checkpoints, restarts and other numbers of tasks.
func TestDedup_forEverAgreesWithModel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 4))
		batches := randomRows(random, 60, 300)
		r := newRig(t, &Dedup{ID: "once", Key: []string{"key", "word"}}, keyedSchema(t), 8)
		got := r.history(random, batches, func(int) int64 { return state.NoTime })
		var want []string
		seen := map[string]bool{}
		dropped := int64(0)
		for _, rows := range batches {
			for _, row := range rows {
				if key := row.key + "/" + row.word; !seen[key] {
					seen[key] = true
					want = append(want, rowText(row))
					continue
				}
				dropped++
			}
		}
		sameRows(t, got, want)
		r.balanced(0)
		if r.res.Deduplicated != dropped || r.res.Made != 0 {
			t.Errorf("counted %+v, want %d deduplicated", r.res, dropped)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestDedup_byEventTimeKeepsToTTL: a row within the TTL after a kept one of its key is dropped, a dropped one has such a row within one
// and a half of the TTL.
func TestDedup_byEventTimeKeepsToTTL(t *testing.T) {
	const ttl = 10_000
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 5))
		r := newRig(t, &Dedup{ID: "once", Key: []string{"key"}, TTL: state.TTL{For: ttl * time.Millisecond}, TimeColumn: "at"}, keyedSchema(t), 8)
		r.open(2)
		kept := map[string][]int64{}
		now := int64(1_700_000_000_000)
		passed, dropped := 0, 0
		for i := range 400 {
			now += random.Int64N(2000)
			row := keyedRow{key: fmt.Sprint(random.IntN(6)), at: now - random.Int64N(500)}
			out := r.process(keyedBatch(r.in, i, []keyedRow{row}))
			r.advance(now-500, 0)
			if random.IntN(10) == 0 {
				r.checkpoint()
				r.open(1 + random.IntN(3))
				r.advance(now-500, 0)
			}
			surely, possibly := false, false
			for _, at := range kept[row.key] {
				surely = surely || row.at-at < ttl
				possibly = possibly || row.at-at < ttl+ttl/2
			}
			switch {
			case len(out) == 1 && surely:
				t.Fatalf("seed %d, row %d: %+v passed, kept were %v", seed, i, row, kept[row.key])
			case len(out) == 0 && !possibly:
				t.Fatalf("seed %d, row %d: %+v was dropped, kept were %v", seed, i, row, kept[row.key])
			case len(out) == 1:
				kept[row.key] = append(kept[row.key], row.at)
				passed++
			default:
				dropped++
			}
		}
		if passed < 20 || dropped < 20 {
			t.Fatalf("passed %d, dropped %d: too few to show anything", passed, dropped)
		}
	}
}

func TestDedup_byProcessingTime(t *testing.T) {
	r := newRig(t, &Dedup{ID: "once", Key: []string{"key"}, TTL: state.TTL{For: time.Second, By: state.ProcessingTime}}, keyedSchema(t), 4)
	r.open(1)
	var keys state.Keys
	keys.Append([]byte("k"), 0)
	b := keyedBatch(r.in, 0, []keyedRow{{key: "a"}})
	if err := r.ops[0].Process(b, &keys, &r.res); err == nil {
		t.Error("a row before the first clock: got no error")
	}
	for _, c := range []struct {
		clock int64
		want  int
	}{{1000, 1}, {1500, 0}, {1999, 0}, {4000, 1}, {4001, 0}} {
		r.advance(state.NoTime, c.clock)
		if got := r.process(keyedBatch(r.in, 0, []keyedRow{{key: "a"}})); len(got) != c.want {
			t.Errorf("at %d: got %q, want %d rows", c.clock, got, c.want)
		}
	}
}

func TestDedup_refusesRowsWithoutTime(t *testing.T) {
	in := schema(t, "key", "string", "at", "nullable(timestamp(0))")
	r := newRig(t, &Dedup{ID: "once", Key: []string{"key"}, TTL: state.TTL{For: time.Second}, TimeColumn: "at"}, in, 4)
	r.open(1)
	got := r.process(batch(
		t, in, `{"key": "a", "at": null}`, `{"key": "a", "at": "2020-01-01T00:00:00Z"}`, `{"key": "a", "at": null}`,
	))
	sameRows(t, got, []string{`"a" "2020-01-01T00:00:00Z"`})
	if len(r.res.Refused) != 2 || r.res.Refused[1].Offset != 102 || r.res.Refused[0].Column != "at" {
		t.Errorf("refused: got %+v", r.res.Refused)
	}
	r.balanced(0)
}

func TestDedup_checksSettings(t *testing.T) {
	for want, d := range map[string]Dedup{
		`there is no column "nope"`:  {ID: "d", Key: []string{"nope"}},
		`time_column: column "word"`: {ID: "d", Key: []string{"key"}, TimeColumn: "word"},
		`ttl: -1s is negative`:       {ID: "d", Key: []string{"key"}, TTL: state.TTL{For: -time.Second}},
	} {
		_, err := d.BindKeyed(keyedSchema(t))
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v", want, err)
			continue
		}
		contains(t, err.Error(), want)
	}
}

func BenchmarkDedup(b *testing.B) {
	s := &record.Schema{Fields: []record.Field{{Name: "key", Type: record.Type{Kind: record.Int64}}}}
	step := &Dedup{ID: "once", Key: []string{"key"}, TTL: state.TTL{For: time.Hour}}
	benchmarkKeyed(b, step, s, func(batch *record.Batch, n int) { batch.Cols[0].AppendInt(int64(n)) })
}

func BenchmarkAggregate(b *testing.B) {
	s := &record.Schema{Fields: []record.Field{{Name: "key", Type: record.Type{Kind: record.Int64}}, {Name: "v", Type: record.Type{Kind: record.Int64}}}}
	columns := []AggregateColumn{{"n", "count()"}, {"total", "sum(v)"}}
	tumbling := Window{Kind: Tumbling, Size: time.Minute}
	for name, step := range map[string]*Aggregate{
		"running":  {ID: "agg", Key: []string{"key"}, Columns: columns, Emit: EmitFinal},
		"tumbling": {ID: "agg", Key: []string{"key"}, Columns: columns, Window: tumbling},
		"update":   {ID: "agg", Key: []string{"key"}, Columns: columns},
	} {
		for _, keys := range []int64{100, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", name, keys), func(b *testing.B) {
				random := rand.New(rand.NewPCG(1, 1))
				benchmarkKeyed(b, step, s, func(batch *record.Batch, n int) {
					batch.Cols[0].AppendInt(random.Int64N(keys))
					batch.Cols[1].AppendInt(int64(n))
				})
			})
		}
	}
}

// benchmarkKeyed measures rows through one task, with a checkpoint now and then that empties the layers as an applied one does.
func benchmarkKeyed(b *testing.B, step KeyedStep, s *record.Schema, fill func(batch *record.Batch, n int)) {
	b.Helper()
	const groups, rows, checkpointEvery = 256, 4096, 50
	binding, err := step.BindKeyed(s)
	if err != nil {
		b.Fatal(err)
	}
	registry, err := state.NewRegistry(nil, state.Wanted{States: binding.States})
	if err != nil {
		b.Fatal(err)
	}
	store := &applied{values: make(map[string][]byte)}
	task := state.NewTask(state.TaskOptions{Reader: store, Registry: registry, Groups: groups, CacheBytes: 64 << 20})
	op, err := binding.Open(task)
	if err != nil {
		b.Fatal(err)
	}
	var keys state.Keys
	var res KeyedResult
	in, out := record.NewBatch(s), record.NewBatch(binding.Out)
	n := 0
	for b.Loop() {
		b.StopTimer()
		in.Reshape(s)
		keys.Reset()
		for range rows {
			fill(in, n)
			in.AppendMeta(record.RowMeta{Timestamp: int64(n)})
			keys.AppendRow(in, []int{0}, in.Rows-1, groups)
			n++
		}
		if n/rows%checkpointEvery == 0 {
			f := task.Freeze()
			store.apply(f.Delta())
			task.Applied(f)
		}
		b.StartTimer()
		if err := op.Advance(int64(n)-1000, int64(n), out, &res); err != nil {
			b.Fatal(err)
		}
		out.Reset()
		if err := op.Process(in, &keys, &res); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
}
