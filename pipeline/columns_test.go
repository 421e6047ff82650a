package pipeline

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/step"
)

// schemaOf makes a schema of "name type" texts; a * behind the name says that a record may lack it.
func schemaOf(t *testing.T, columns ...string) *record.Schema {
	t.Helper()
	s := &record.Schema{}
	for _, c := range columns {
		name, text, _ := strings.Cut(c, " ")
		typ, err := record.ParseType(text)
		if err != nil {
			t.Fatal(err)
		}
		bare, optional := strings.CutSuffix(name, "*")
		s.Fields = append(s.Fields, record.Field{Name: bare, Type: typ, Optional: optional})
	}
	return s
}

func textsOf(s *record.Schema) []string {
	if s == nil {
		return nil
	}
	out := []string{}
	for _, f := range s.Fields {
		name := f.Name
		if f.Optional {
			name += "*"
		}
		out = append(out, name+" "+f.Type.String())
	}
	return out
}

// What is decoded is what the sinks take together: null where a sink lacks the column or takes null itself.
func TestMerge_whatSinksTakeTogether(t *testing.T) {
	for _, c := range []struct {
		name  string
		sinks [][]string // nil: any columns
		want  []string
		clash string
	}{
		{"one sink is left as it is", [][]string{{"a int64", "b* string"}}, []string{"a int64", "b* string"}, ""},
		{"one that takes anything", [][]string{nil}, nil, ""},
		{"two that take anything", [][]string{nil, nil}, nil, ""},
		{"the same columns", [][]string{{"a int64"}, {"a int64"}}, []string{"a int64"}, ""},
		{"one takes null", [][]string{{"a int64"}, {"a* nullable(int64)"}}, []string{"a* nullable(int64)"}, ""},
		{"columns of one each", [][]string{{"a int64", "b string"}, {"a int64", "c date"}}, []string{"a int64", "b* nullable(string)", "c* nullable(date)"}, ""},
		{"beside one that takes anything", [][]string{{"a int64"}, nil}, []string{"a* nullable(int64)"}, ""},
		{"what may be missing anyway", [][]string{{"a* int64"}, nil}, []string{"a* int64"}, ""},
		{"may be missing at one only", [][]string{{"a* int64"}, {"a int64"}}, []string{"a int64"}, ""},
		{"other types", [][]string{{"a int64", "b string"}, {"a string", "b string"}}, []string{"b string"}, "a"},
		{"other zones", [][]string{{`a timestamp(3, "Europe/Berlin")`}, {"a timestamp(3)"}}, []string{}, "a"},
		{"other precision", [][]string{{"a timestamp(3)"}, {"a timestamp(6)"}, {"a timestamp(3)"}}, []string{}, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sinks []*record.Schema
			for _, columns := range c.sinks {
				if columns == nil {
					sinks = append(sinks, nil)
					continue
				}
				sinks = append(sinks, schemaOf(t, columns...))
			}
			d := merge(sinks)
			if diff := cmp.Diff(c.want, textsOf(d.all)); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
			clash := ""
			if len(d.unlike) > 0 {
				clash = d.unlike[0].column
			}
			if clash != c.clash {
				t.Errorf("got the clash %q, want %q", clash, c.clash)
			}
		})
	}
}

func TestMerge_boundsHoldTheValuesOfAll(t *testing.T) {
	bounded := func(low, high int64) *record.Schema {
		return &record.Schema{Fields: []record.Field{{Name: "d", Type: record.Type{Kind: record.Date, Min: low, Max: high}}}}
	}
	for _, c := range []struct{ a, b, want [2]int64 }{
		{[2]int64{0, 10}, [2]int64{5, 20}, [2]int64{0, 20}}, {[2]int64{0, 10}, [2]int64{}, [2]int64{}}, {[2]int64{}, [2]int64{0, 10}, [2]int64{}},
	} {
		d := merge([]*record.Schema{bounded(c.a[0], c.a[1]), bounded(c.b[0], c.b[1])})
		if got := d.all.Fields[0].Type; got.Min != c.want[0] || got.Max != c.want[1] {
			t.Errorf("%v and %v: got %d to %d, want %v", c.a, c.b, got.Min, got.Max, c.want)
		}
	}
}

// anything decodes what is declared: its schema is what is wanted and what it adds.
type anything struct{ adds *record.Schema }

func (a anything) Schema(wanted *record.Schema) (*record.Schema, error) {
	out := &record.Schema{}
	if wanted != nil {
		out.Fields = append(out.Fields, wanted.Fields...)
	}
	for _, f := range a.adds.Fields {
		if i := out.Index(f.Name); i >= 0 {
			out.Fields[i].Type = f.Type
			continue
		}
		out.Fields = append(out.Fields, f)
	}
	return out, nil
}

func (anything) New(*record.Schema) (codec.Decoder, error) { return words{}, nil }

// planned makes the plan of two sinks with columns of their own.
func planned(t *testing.T, declared, left, right *record.Schema, change func(*Definition)) (plan, error) {
	t.Helper()
	w := newWorld(t, "a")
	w.routed()
	w.def.Codec = anything{declared}
	w.def.Sinks[0].When, w.def.Sinks[1].When = "", ""
	l, r := w.def.Sinks[0].Sink.(*table), w.def.Sinks[1].Sink.(*table)
	l.inspect = func() (sink.Inspection, error) { return sink.Inspection{Schema: left}, nil }
	r.inspect = func() (sink.Inspection, error) { return sink.Inspection{Schema: right}, nil }
	if change != nil {
		change(w.def)
	}
	return newPlan(t.Context(), w.def, "store", nil)
}

// Each sink gets the columns that it names, in its own types; one that takes any gets all.
func TestPlan_eachSinkGetsItsColumns(t *testing.T) {
	declared := schemaOf(t, "n int64", "kind string")
	p, err := planned(t, declared, schemaOf(t, "n int32", "a string", "kind string"), schemaOf(t, "n int64", "b date"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"a string", "kind string", "n int32"}, {"b date", "n int64"}} {
		got := []string{}
		for _, f := range p.shares[i].out.Fields {
			got = append(got, f.Name+" "+f.Type.String())
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("sink %d gets %q, want %q", i, got, want)
		}
	}
	p, err = planned(t, declared, schemaOf(t, "n int64", "a string"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if sh := p.shares[1]; sh.columns != nil || len(sh.casts) > 0 || len(sh.out.Fields) != 3 {
		t.Errorf("the sink that takes anything gets %+v, want all as it is", sh)
	}
	if sh := p.shares[0]; len(sh.columns) != 2 || len(sh.bare) != 1 || len(sh.casts) > 0 || sh.out.Fields[1-sh.out.Index("n")].Type.Nullable {
		t.Errorf("the other gets %+v, want n and a, which is decoded with null", sh)
	}
}

// What can't be is refused before anything runs, by name and with the way out.
func TestPlan_refusesWhatSeveralSinksCantTake(t *testing.T) {
	for _, c := range []struct {
		name                  string
		declared, left, right []string
		change                func(*Definition)
		want, remedy          string
	}{
		{
			"types that nobody chose",
			[]string{"n int64"},
			[]string{"n int64", "at timestamp(3)"},
			[]string{"n int64", "at timestamp(6)"},
			nil,
			`the column "at" is timestamp(3) for sink "left" and timestamp(6) for sink "right"`, "declare it in decode.columns",
		},
		{
			"a declared type that can't be cast",
			[]string{"n array(int64)"},
			[]string{"n int64"},
			[]string{"n string"},
			nil,
			`sink "left": step:cast: column "n"`, "",
		},
		{
			"a column that nobody takes",
			[]string{"n int64", "x int64"},
			[]string{"n int64"},
			[]string{"n int64"},
			nil,
			`no sink's target has the column "x"`, "step of type drop",
		},
		{
			"but a condition reads it",
			[]string{"n int64", "x int64"},
			[]string{"n int64"},
			[]string{"n int64"},
			func(d *Definition) { d.Sinks[1].When = "x > 1" }, "", "",
		},
		{
			"a condition over what is not there",
			[]string{"n int64"},
			[]string{"n int64"},
			[]string{"n int64"},
			func(d *Definition) { d.Sinks[1].When = "x > 1" }, `sink "right": when: expression "x > 1"`, "",
		},
		{
			"a step makes the column",
			[]string{"n int64"},
			[]string{"n int64", "at string"},
			[]string{"n int64", "at int64"},
			func(d *Definition) {
				d.Steps = []step.Step{&step.Set{ID: "at", Columns: []step.Assignment{{Column: "at", Value: "n + 1"}}}}
			}, "", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := planned(t, schemaOf(t, c.declared...), schemaOf(t, c.left...), schemaOf(t, c.right...), c.change)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case c.want != "" && (err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.RemedyOf(err), c.remedy)):
				t.Errorf("got %v of kind %s with the remedy %q, want %q and %q", err, fault.KindOf(err), fault.RemedyOf(err), c.want, c.remedy)
			}
		})
	}
}
