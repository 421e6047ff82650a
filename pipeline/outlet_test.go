package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// seen is a writer that notes what it gets.
type seen struct {
	types []string
	rows  []string
	cols  []*byte // where its columns lie
}

func (s *seen) Write(_ context.Context, b *record.Batch) ([]record.Refusal, error) {
	s.types = nil
	for i := range b.Cols {
		s.types = append(s.types, b.Schema.Fields[i].Name+" "+b.Cols[i].Type.String())
		if f := b.Cols[i].Fixed; len(f) > 0 {
			s.cols = append(s.cols, &f[0])
		}
	}
	for row := range b.Rows {
		text := fmt.Sprint(b.Meta.Offsets[row], string(b.Meta.Keys[row]))
		for i := range b.Cols {
			c := &b.Cols[i]
			switch {
			case c.IsNull(row):
				text += " null"
			case c.Type.Width() > 0:
				text += fmt.Sprint(" ", c.Int(row))
			default:
				text += " " + string(c.BytesAt(row))
			}
		}
		s.rows = append(s.rows, text)
	}
	return nil, nil
}

func (*seen) Prepare(context.Context, sink.Cut) (sink.Part, error) { return sink.Part{}, nil }
func (*seen) Close() error                                         { return nil }

// outputTo makes a task's way to sinks that take these columns, from rows of written.
func outputTo(tb testing.TB, written *record.Schema, takes []*record.Schema, when ...string) (*output, []*seen) {
	tb.Helper()
	def := &Definition{}
	for i := range takes {
		def.Sinks = append(def.Sinks, Route{Name: fmt.Sprint("s", i), When: when[i]})
	}
	d := merge(takes)
	p := plan{written: written}
	if err := p.divide(def, &d); err != nil {
		tb.Fatal(err)
	}
	o, err := newOutlets(def, &p)
	if err != nil {
		tb.Fatal(err)
	}
	t := &output{
		outlets: o, dead: -1, letters: record.NewBatch(record.DeadLetterSchema()),
		meter: newMeter(telemetry.New("test").Pipeline("p"), nil),
	}
	for _, stage := range def.stages() {
		t.stages = append(t.stages, checkpoint.StageCount{Stage: stage})
	}
	var writers []*seen
	for i := range o.list {
		w := &seen{}
		writers, o.list[i].writer = append(writers, w), w
	}
	return t, writers
}

// numbered is a batch of n (null where the text is "none") and s.
func numbered(tb testing.TB, texts ...string) *record.Batch {
	tb.Helper()
	b := record.NewBatch(&record.Schema{Fields: []record.Field{
		{Name: "n", Type: record.Type{Kind: record.Int64, Nullable: true}}, {Name: "s", Type: record.Type{Kind: record.String}},
	}})
	b.Meta.Split = "a"
	for i, text := range texts {
		if text == "none" {
			b.Cols[0].AppendNull()
		} else {
			b.Cols[0].AppendInt(int64(100 * i))
		}
		b.Cols[1].AppendString(text)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Key: []byte("k")})
	}
	return b
}

// letters lists the dead letters of a task: stage, offset, column, reason.
func (t *output) lettersTold() []string {
	var out []string
	at := func(name string, row int) string {
		return string(t.letters.Cols[t.letters.Schema.Index(name)].BytesAt(row))
	}
	for row := range t.letters.Rows {
		out = append(out, fmt.Sprintf("%s %d %s: %s", at("stage", row), t.letters.Meta.Offsets[row], at("column", row), at("reason", row)))
	}
	return out
}

// Each sink gets its rows in its columns and types, with their provenance; what it can't take is a dead letter of that sink alone.
func TestOutlet_givesEachSinkItsRowsAndColumns(t *testing.T) {
	schema := func(columns ...string) *record.Schema { return schemaOf(t, columns...) }
	for _, c := range []struct {
		name    string
		takes   []*record.Schema
		when    []string
		texts   []string
		types   [][]string
		rows    [][]string
		letters []string
	}{
		{
			"all to both",
			[]*record.Schema{nil, nil},
			[]string{"", ""},
			[]string{"a", "none"},
			[][]string{{"n nullable(int64)", "s string"}, {"n nullable(int64)", "s string"}},
			[][]string{{"0k 0 a", "1k null none"}, {"0k 0 a", "1k null none"}},
			nil,
		},
		{
			"without null where there is none",
			[]*record.Schema{schema("n int64"), nil},
			[]string{"", ""},
			[]string{"a", "b"},
			[][]string{{"n int64"}, {"n nullable(int64)", "s string"}},
			[][]string{{"0k 0", "1k 100"}, {"0k 0 a", "1k 100 b"}},
			nil,
		},
		{
			"each the columns that it has",
			[]*record.Schema{schema("s string"), schema("n nullable(int64)")},
			[]string{`n == nil || n < 200`, ""},
			[]string{"none", "b", "c"},
			[][]string{{"s string"}, {"n nullable(int64)"}},
			[][]string{{"0k none", "1k b"}, {"0k null", "1k 100", "2k 200"}},
			nil,
		},
		{
			"a null is refused by who does not take it",
			[]*record.Schema{schema("n int64"), nil},
			[]string{"", ""},
			[]string{"a", "none", "b"},
			[][]string{{"n int64"}, {"n nullable(int64)", "s string"}},
			[][]string{{"0k 0", "2k 200"}, {"0k 0 a", "1k null none", "2k 200 b"}},
			[]string{"sink:s0 1 n: null does not fit int64"},
		},
		{
			"and by nobody who does not want the row",
			[]*record.Schema{schema("n int64"), nil},
			[]string{`s != "none"`, ""},
			[]string{"none", "a"},
			[][]string{{"n int64"}, {"n nullable(int64)", "s string"}},
			[][]string{{"1k 100"}, {"0k null none", "1k 100 a"}},
			nil,
		},
		{
			"another type is cast, and refused where it does not fit",
			[]*record.Schema{schema("n int8"), schema("n nullable(int64)", "s string")},
			[]string{"", `s == "b"`},
			[]string{"a", "b", "c", "none"},
			[][]string{{"n int8"}, {"n nullable(int64)", "s string"}},
			[][]string{{"0k 0", "1k 100"}, {"1k 100 b"}},
			[]string{`sink:s0 2 n: int8: "200" is out of the type's range`, "sink:s0 3 n: null does not fit int8"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := numbered(t, c.texts...)
			o, writers := outputTo(t, b.Schema, c.takes, c.when...)
			for round := range 2 { // what is kept between batches must not show
				if err := o.write(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				for i, w := range writers {
					if diff := cmp.Diff(c.types[i], w.types); diff != "" {
						t.Errorf("round %d, sink %d, columns differ (-want +got):\n%s", round, i, diff)
					}
					if diff := cmp.Diff(c.rows[i], w.rows); diff != "" {
						t.Errorf("round %d, sink %d, rows differ (-want +got):\n%s", round, i, diff)
					}
					w.rows = nil
				}
				got := o.lettersTold()
				slices.Sort(got)
				if len(got) != len(c.letters) {
					t.Errorf("round %d: got the letters %q, want %q", round, got, c.letters)
				}
				for i := range min(len(got), len(c.letters)) {
					if got[i] != c.letters[i] {
						t.Errorf("round %d: got the letter %q, want %q", round, got[i], c.letters[i])
					}
				}
				o.letters.Reset()
			}
			counters := checkpoint.Counters{Stages: append([]checkpoint.StageCount{{Stage: "in", In: int64(2 * b.Rows), Passed: int64(2 * b.Rows)}}, o.stages[stepsAt:]...), DeadLetters: int64(2 * len(c.letters))}
			if !counters.Balanced() {
				t.Errorf("the accounts don't balance: %+v", counters)
			}
		})
	}
}

// Nothing is copied for a sink that takes every row as it is, nor where only columns are left out.
func TestOutlet_copiesOnlyWhatItChanges(t *testing.T) {
	b := numbered(t, "a", "b")
	o, writers := outputTo(t, b.Schema, []*record.Schema{nil, schemaOf(t, "n int64")}, "", `s startsWith "a" || s == "b"`)
	if err := o.write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for i, w := range writers {
		if len(w.cols) != 1 || w.cols[0] != &b.Cols[0].Fixed[0] {
			t.Errorf("sink %d got a copy", i)
		}
	}
}

// BenchmarkOutlet measures what it costs to tell rows apart, for each row of a batch.
func BenchmarkOutlet(b *testing.B) {
	const rows = 1000
	texts := make([]string, rows)
	for i := range texts {
		texts[i] = []string{"some text", "another text"}[i%2]
	}
	batch := numbered(b, texts...)
	for name, c := range map[string]struct {
		takes []*record.Schema
		when  []string
	}{
		"one sink":                 {[]*record.Schema{nil}, []string{""}},
		"two without conditions":   {[]*record.Schema{nil, nil}, []string{"", ""}},
		"two halves":               {[]*record.Schema{nil, nil}, []string{`s == "some text"`, `s != "some text"`}},
		"null is taken out":        {[]*record.Schema{schemaOfKinds("n"), nil}, []string{"", ""}},
		"an expression of its own": {[]*record.Schema{nil, nil}, []string{`s startsWith "some"`, ""}},
	} {
		b.Run(name, func(b *testing.B) {
			o, _ := outputTo(b, batch.Schema, c.takes, c.when...)
			for i := range o.outlets.list {
				o.outlets.list[i].writer = nowhere{}
			}
			for b.Loop() {
				if err := o.write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}

func schemaOfKinds(names ...string) *record.Schema {
	s := &record.Schema{}
	for _, n := range names {
		s.Fields = append(s.Fields, record.Field{Name: n, Type: record.Type{Kind: record.Int64}})
	}
	return s
}

type nowhere struct{ sink.Writer }

func (nowhere) Write(context.Context, *record.Batch) ([]record.Refusal, error) { return nil, nil }
