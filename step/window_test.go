package step

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// TestWindow_endsAreThoseOfAllWindowsThatHoldTheTime looks for windows by trying every start.
func TestWindow_endsAreThoseOfAllWindowsThatHoldTheTime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		slide := time.Duration(1+random.IntN(20)) * time.Millisecond
		w := Window{Kind: Hopping, Slide: slide, Size: slide + time.Duration(random.IntN(60))*time.Millisecond}
		w.Offset = time.Duration(random.Int64N(slide.Milliseconds())) * time.Millisecond
		if random.IntN(2) == 0 {
			w = Window{Kind: Tumbling, Size: slide, Offset: w.Offset}
		}
		if err := w.Check(); err != nil {
			t.Fatal(err)
		}
		at := random.Int64N(400) - 200
		var want []int64
		for start := at - w.Size.Milliseconds() + 1; start <= at; start++ {
			if (start-w.Offset.Milliseconds())%slide.Milliseconds() == 0 {
				want = append(want, start+w.Size.Milliseconds())
			}
		}
		if got := w.ends(nil, at); !slices.Equal(got, want) {
			t.Fatalf("%s at %d: got %v, want %v", w.String(), at, got, want)
		}
	}
}

func TestEventTime_roundsDownToMilliseconds(t *testing.T) {
	for _, c := range []struct {
		typ    string
		stored int64
		want   int64
		ok     bool
	}{
		{"timestamp(3)", 1234, 1234, true},
		{"timestamp(0)", -2, -2000, true},
		{"timestamp(2)", 7, 70, true},
		{"timestamp(9)", 1_999_999, 1, true},
		{"timestamp(9)", -1, -1, true},
		{"timestamp(6)", -1000, -1, true},
		{"timestamp(6)", -1001, -2, true},
		{"date", -1, -86_400_000, true},
		{"timestamp(0)", 1 << 62, 0, false},
	} {
		in := schema(t, "at", c.typ)
		e, err := NewEventTime(in, "at")
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(in)
		b.Cols[0].AppendInt(c.stored)
		if got, ok := e.At(b, 0); ok != c.ok || ok && got != c.want {
			t.Errorf("%s of %d: got %d, %v", c.typ, c.stored, got, ok)
		}
	}
	in := schema(t, "v", "int8")
	for _, name := range []string{"", Timestamp} {
		e, err := NewEventTime(in, name)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(in)
		b.AppendMeta(record.RowMeta{Timestamp: 5})
		b.AppendMeta(record.RowMeta{Timestamp: -1})
		got, ok := e.At(b, 0)
		if _, none := e.At(b, 1); got != 5 || !ok || none {
			t.Errorf("the record's timestamp: got %d, %v, and %v without one", got, ok, none)
		}
	}
}

func TestWatermark_isTheLeastOfTheSplits(t *testing.T) {
	w := NewWatermarkTracker(WatermarkOptions{Disorder: 10 * time.Millisecond, IdleAfter: time.Second, AheadMax: time.Minute})
	expect := func(clock, want int64) {
		t.Helper()
		if got := w.Watermark(clock); got != want {
			t.Errorf("watermark: got %d, want %d", got, want)
		}
	}
	expect(0, state.NoTime)
	w.Add("a", state.NoTime, 0)
	w.Add("b", state.NoTime, 0)
	w.Observe("a", 100, 1)
	expect(1, state.NoTime) // b may still come with anything
	w.Observe("b", 50, 2)
	expect(2, 40)
	w.Observe("b", 45, 3) // within the disorder
	expect(3, 40)
	w.Observe("a", 500, 900)
	expect(900, 40)
	expect(1003, 490) // b is silent
	w.Observe("b", 60, 1100)
	expect(1100, 490) // it never falls
	w.Observe("b", 700, 1101)
	expect(1101, 490)
	w.Observe("a", 100_000_000, 1102) // a wrong time moves nothing
	expect(1102, 490)
	w.Remove("a")
	expect(1102, 690)
	w.Observe("b", 2000, 1103)
	w.Add("c", 1500, 1103)
	expect(1103, 1490)
	expect(5000, 1990) // all are silent: the greatest
	w.Remove("b")
	w.Remove("c")
	expect(9000, 1990)
}

// TestWatermark_goesOnWhereACheckpointLeftIt restores the splits in another tracker.
func TestWatermark_goesOnWhereACheckpointLeftIt(t *testing.T) {
	w := NewWatermarkTracker(WatermarkOptions{Disorder: time.Millisecond})
	for i, split := range []string{"b", "a", "c"} {
		w.Add(split, state.NoTime, 0)
		if split != "c" {
			w.Observe(split, int64(100*(i+1)), 0)
		}
	}
	kept := w.Splits()
	if !slices.Equal(kept, []SplitTime{{"a", 200}, {"b", 100}, {"c", state.NoTime}}) {
		t.Errorf("kept: got %v", kept)
	}
	again := NewWatermarkTracker(WatermarkOptions{Disorder: time.Millisecond})
	for _, s := range kept[:2] {
		again.Add(s.Split, s.Newest, 0)
	}
	if got := again.Watermark(1 << 40); got != 99 {
		t.Errorf("watermark: got %d, want 99 (without idle_after no split is ever left out)", got)
	}
}
