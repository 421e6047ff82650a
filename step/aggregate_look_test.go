package step

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// storedAccumulators are the accumulators of the rows 1, 2, 2, NULL of a nullable int64, of all aggregates, as a step of that type
// stores them, and the type of the state.
func storedAccumulators(t *testing.T, calls ...string) (typ string, value []byte) {
	t.Helper()
	in := &record.Schema{Fields: []record.Field{
		{Name: "k", Type: record.Type{Kind: record.String}},
		{Name: "n", Type: record.Type{Kind: record.Int64, Nullable: true}},
		{Name: "f", Type: record.Type{Kind: record.Float64}},
		{Name: "d", Type: record.Type{Kind: record.Decimal, Precision: 12, Scale: 2}},
	}}
	bound := &aggregateBinding{step: Aggregate{ID: "counts", Key: []string{"k"}}, out: &record.Schema{}, keys: 1}
	if err := bound.bindKey(in); err != nil {
		t.Fatal(err)
	}
	hidden := len(in.Fields)
	value = []byte{emittedFlag}
	b := record.NewBatch(in)
	for _, n := range []int64{1, 2, 2, 0} {
		b.Cols[0].AppendString("k")
		if b.Cols[1].AppendInt(n); n == 0 {
			b.Cols[1].Truncate(b.Rows)
			b.Cols[1].AppendNull()
		}
		b.Cols[2].AppendFloat(float64(n) / 2)
		b.Cols[3].AppendInt(n * 100)
		b.Rows++
	}
	for _, text := range calls {
		if err := bound.bindColumn(AggregateColumn{Column: text, Value: text}, in, &hidden); err != nil {
			t.Fatal(err)
		}
		c := bound.columns[len(bound.columns)-1]
		if c.typ.describe != nil {
			value = append(value, 3) // the number of values, which lie elsewhere
			continue
		}
		bank, err := c.typ.open(nil, state.Descriptor{})
		if err != nil {
			t.Fatal(err)
		}
		bank.grow(0)
		for row := range b.Rows {
			if a := (argument{b, c.place, row}); !a.null() {
				if err := bank.add(0, a); err != nil {
					t.Fatal(err)
				}
			}
		}
		value = bank.save(value, 0)
	}
	return bound.describe()[1].Type, value
}

// Tools read stored accumulators by the type of their state alone, those of every aggregate.
func TestReadAccumulators_everyAggregate(t *testing.T) {
	typ, value := storedAccumulators(t, "count()", "count(n)", "sum(n)", "avg(n)", "sum(f)", "avg(d)", "sum(d)", "min(n)", "max(n)", "first(d)",
		"last(k)", "collect(n)", "count_distinct(n)", "approx_count_distinct(n, 8)", "top_k(n, 1)")
	list, emitted, err := ReadAccumulators(typ, value)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range list {
		got = append(got, list[i].Text+" "+string(codec.AppendJSONValue(nil, &list[i].Result, 0)))
	}
	want := []string{
		"count() 4", "count() 3", "sum(int64) 5", "avg(int64) 1.6666666666666667", "sum(float64) 2.5", "avg(decimal(12, 2)) 1.250000",
		"sum(decimal(12, 2)) 5.00", "min(int64) 1", "max(int64) 2", "first(decimal(12, 2)) 1.00", "last(string) \"k\"", "collect(int64) 3",
		"count_distinct(int64) 3", "approx_count_distinct(int64, 8) 2", "top_k(int64) [2,1]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accumulators of %s (-want +got):\n%s", typ, diff)
	}
	if !emitted {
		t.Error("the flag of a bounded input's end is not read")
	}
}

// Bytes that are no accumulators of the type are refused, and none panics.
func TestReadAccumulators_refusesOtherBytes(t *testing.T) {
	typ, value := storedAccumulators(t, "count()", "sum(n)", "avg(f)", "min(d)", "approx_count_distinct(n, 8)", "top_k(k, 3)")
	for n := range value {
		if _, _, err := ReadAccumulators(typ, value[:n]); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%d of %d bytes: got %v, want an error that says corrupt", n, len(value), err)
		}
	}
	if _, _, err := ReadAccumulators(typ, append(value, 0)); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a byte too many: got %v, want an error that says corrupt", err)
	}
	for _, other := range []string{"", "no window", "no window: nosuch(int64)", "no window: sum(nosuch)", "no window: sum(string)"} {
		if _, _, err := ReadAccumulators(other, value); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("type %q: got %v, want an error that says corrupt", other, err)
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		bad := append([]byte(nil), value...)
		for range 1 + random.IntN(4) {
			bad[random.IntN(len(bad))] = byte(random.Uint32())
		}
		_, _, _ = ReadAccumulators(typ, bad) // it may be read as something else; it must not panic
	}
}

func TestReadSessions_readsWhatTheStepStores(t *testing.T) {
	c := sessionsCodec()
	value := c.Append(nil, sessions{next: 7, spans: []sessionSpan{{start: 1000, end: 3000, id: 5, armed: 3000}, {start: 9000, end: 9500, id: 6, armed: 9700}}})
	got, err := ReadSessions(value)
	if diff := cmp.Diff([]SessionSpan{{5, 1000, 3000}, {6, 9000, 9500}}, got); diff != "" || err != nil {
		t.Errorf("sessions (-want +got):\n%s%v", diff, err)
	}
	if _, err := ReadSessions(value[:len(value)-1]); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("got %v, want an error that says corrupt", err)
	}
}
