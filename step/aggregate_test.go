package step

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// TestAggregate_endOfInputGivesWhatChanged checks final aggregates without a window over several runs: each end gives the keys that
// changed since the one before, with all that was ever counted.
func TestAggregate_endOfInputGivesWhatChanged(t *testing.T) {
	step := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}, Emit: EmitFinal}
	r := newRig(t, step, keyedSchema(t), 16)
	run := func(tasks int, want []string, keys ...string) {
		t.Helper()
		r.open(tasks)
		var rows []keyedRow
		for _, key := range keys {
			rows = append(rows, keyedRow{key: key, word: "w"})
		}
		if out := r.process(keyedBatch(r.in, 0, rows)); len(out) != 0 {
			t.Errorf("before the end came %q", out)
		}
		r.advance(1<<40, 1<<40)
		sameRows(t, r.end(), want)
		if again := r.end(); len(again) > 0 {
			t.Errorf("a second end gave %q", again)
		}
		r.checkpoint()
	}
	run(2, []string{`"a" 2`, `"b" 1`}, "a", "b", "a")
	run(3, nil)
	run(1, []string{`"b" 2`, `"c" 1`}, "c", "b")
	run(4, []string{`"a" 3`}, "a")
}

// TestAggregate_endOfInputInParts makes more rows than one call may give.
func TestAggregate_endOfInputInParts(t *testing.T) {
	for _, w := range []Window{{}, {Kind: Tumbling, Size: time.Second}, {Kind: Session, Gap: time.Second}} {
		step := &Aggregate{ID: "agg", Key: []string{"v"}, Columns: []AggregateColumn{{"n", "count()"}}, Emit: EmitFinal, Window: w, TimeColumn: "at"}
		r := newRig(t, step, keyedSchema(t), 16)
		r.open(1)
		const most = 100
		const keys = 3*most + 5
		op, ok := r.ops[0].(*aggregateOperator)
		if !ok {
			t.Fatal("another operator")
		}
		op.madeMax = most
		var rows []keyedRow
		for i := range keys {
			rows = append(rows, keyedRow{v: int64(i), at: int64(i % 7 * 3000)})
		}
		r.process(keyedBatch(r.in, 0, rows))
		out := record.NewBatch(r.binding.Out)
		if err := r.ops[0].End(out, &r.res); err != nil || out.Rows < most || out.Rows > 2*most {
			t.Errorf("%s: got %d rows at once and %v, want about %d", w.String(), out.Rows, err, most)
		}
		if n := out.Rows + len(r.end()); n != keys {
			t.Errorf("%s: got %d rows, want %d", w.String(), n, keys)
		}
	}
}

func TestAggregate_updatesOfWindows(t *testing.T) {
	step := &Aggregate{
		ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}, Emit: EmitUpdate, End: "to",
		Window: Window{Kind: Hopping, Size: 2 * time.Second, Slide: time.Second}, TimeColumn: "at",
	}
	r := newRig(t, step, keyedSchema(t), 4)
	r.open(1)
	got := r.process(keyedBatch(r.in, 0, []keyedRow{{key: "a", at: 1500}, {key: "a", at: 1600}, {key: "b", at: 900}}))
	sameRows(t, got, []string{`"a" "1970-01-01T00:00:02.000Z" 2`, `"a" "1970-01-01T00:00:03.000Z" 2`, `"b" "1970-01-01T00:00:01.000Z" 1`, `"b" "1970-01-01T00:00:02.000Z" 1`})
	if got := r.advance(2000, 0); len(got) != 0 {
		t.Errorf("the end of a window gave %q again", got)
	}
	got = r.process(keyedBatch(r.in, 10, []keyedRow{{key: "a", at: 1500}}))
	sameRows(t, got, []string{`"a" "1970-01-01T00:00:03.000Z" 3`})
}

// TestAggregate_updateHasProvenanceOfLastRow checks that a row of an update can be traced to the record that made it.
func TestAggregate_updateHasProvenanceOfLastRow(t *testing.T) {
	step := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}}
	r := newRig(t, step, keyedSchema(t), 1)
	r.open(1)
	b := keyedBatch(r.in, 7, []keyedRow{{key: "a", at: 1}, {key: "b", at: 2}, {key: "a", at: 3}})
	keys := state.Keys{}
	for row := range b.Rows {
		keys.AppendRow(b, []int{0}, row, 1)
	}
	if err := r.ops[0].Process(b, &keys, &r.res); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]record.Offset{9, 8}, b.Meta.Offsets); diff != "" {
		t.Error(diff)
	}
	if b.Meta.Timestamps[0] != 3 || string(b.Meta.Values[1]) != "b" {
		t.Errorf("provenance: got %+v", b.Meta)
	}
}

// TestAggregate_refusesWhatDoesNotFit checks that a row that one aggregate can't take has no effect on any.
func TestAggregate_refusesWhatDoesNotFit(t *testing.T) {
	in := schema(t, "key", "string", "v", "int64", "u", "uint64", "d", "decimal(38, 0)")
	nines := strings.Repeat("9", 38)
	step := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{
		{"n", "count()"}, {"v", "sum(v)"}, {"u", "sum(u)"}, {"d", "sum(d)"}, {"kinds", "count_distinct(v, 2)"},
	}}
	r := newRig(t, step, in, 4)
	r.open(1)
	got := r.process(batch(
		t, in,
		`{"key": "a", "v": 9223372036854775807, "u": 18446744073709551615, "d": "`+nines+`"}`,
		`{"key": "a", "v": 1, "u": 0, "d": 0}`,                    // v
		`{"key": "a", "v": -1, "u": 1, "d": 0}`,                   // u
		`{"key": "a", "v": -1, "u": 0, "d": 1}`,                   // d
		`{"key": "a", "v": -1, "u": 0, "d": -1}`,                  // good
		`{"key": "a", "v": 0, "u": 0, "d": 0}`,                    // kinds
		`{"key": "a", "v": -1, "u": 0, "d": 1}`,                   // good
		`{"key": "b", "v": -9223372036854775808, "u": 0, "d": 0}`, // good
		`{"key": "b", "v": -1, "u": 0, "d": 0}`,                   // v
	))
	sameRows(t, got, []string{
		`"a" 3 9223372036854775805 18446744073709551615 ` + nines + ` 2`, `"b" 1 -9223372036854775808 0 0 1`,
	})
	var columns []string
	for _, letter := range r.res.Refused {
		columns = append(columns, letter.Column)
		if letter.Stage != "step:agg" || len(letter.Value) == 0 {
			t.Errorf("letter: got %+v", letter)
		}
	}
	if diff := cmp.Diff([]string{"v", "u", "d", "kinds", "v"}, columns); diff != "" {
		t.Error(diff)
	}
	contains(t, r.res.Refused[0].Reason, "sum(v): the sum with this value does not fit int64")
	contains(t, r.res.Refused[3].Reason, "limit of 2 different values")
	r.balanced(r.res.Made)
}

// TestAggregate_sessionsThatCannotJoin: a row that would join two sessions whose sum does not fit is refused and joins nothing.
func TestAggregate_sessionsThatCannotJoin(t *testing.T) {
	in := schema(t, "key", "string", "at", "timestamp(3)", "v", "int64")
	step := &Aggregate{
		ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"v", "sum(v)"}}, Window: Window{Kind: Session, Gap: time.Second}, TimeColumn: "at",
	}
	r := newRig(t, step, in, 1)
	r.open(1)
	r.process(batch(
		t, in,
		`{"key": "a", "at": "1970-01-01T00:00:01Z", "v": 9223372036854775807}`,
		`{"key": "a", "at": "1970-01-01T00:00:02.5Z", "v": 5}`,
		`{"key": "a", "at": "1970-01-01T00:00:01.8Z", "v": 0}`,
	))
	if len(r.res.Refused) != 1 {
		t.Fatalf("refused: got %d, want 1", len(r.res.Refused))
	}
	sameRows(t, r.end(), []string{`"a" 9223372036854775807`, `"a" 5`})
}

func TestAggregate_forgetsAfterTTL(t *testing.T) {
	step := &Aggregate{
		ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}, TTL: state.TTL{For: time.Second, By: state.ProcessingTime},
	}
	r := newRig(t, step, keyedSchema(t), 4)
	r.open(1)
	count := func(clock int64, want string) {
		t.Helper()
		r.advance(state.NoTime, clock)
		sameRows(t, r.process(keyedBatch(r.in, 0, []keyedRow{{key: "a"}})), []string{`"a" ` + want})
	}
	count(1000, "1")
	count(1900, "2")
	count(2800, "3")
	r.checkpoint()
	r.open(2)
	count(3700, "4")
	count(4700, "1")
}

func TestAggregate_checksSettings(t *testing.T) {
	in := schema(t, "key", "string", "m", "map(string, string)", "at", "timestamp(3)", "v", "int64", "text", "string", "list", "array(int64)", "u", "uint256")
	good := func() *Aggregate {
		return &Aggregate{
			ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"n", "count()"}}, Start: "s", End: "e", TimeColumn: "at",
			Window: Window{Kind: Tumbling, Size: time.Second},
		}
	}
	if _, err := good().BindKeyed(in); err != nil {
		t.Fatal(err)
	}
	columns := func(value string) func(a *Aggregate) {
		return func(a *Aggregate) { a.Columns = []AggregateColumn{{"c", value}} }
	}
	for want, change := range map[string]func(a *Aggregate){
		`there is no column "nope"`:                                       func(a *Aggregate) { a.Key = []string{"nope"} },
		`is there twice`:                                                  func(a *Aggregate) { a.Key = []string{"key", "key"} },
		`a map can't be part of a key`:                                    func(a *Aggregate) { a.Key = []string{"m"} },
		`key: there must be at least one column`:                          func(a *Aggregate) { a.Key = nil },
		`columns: there must be at least one aggregate`:                   func(a *Aggregate) { a.Columns = nil },
		`column "key" is there twice`:                                     func(a *Aggregate) { a.Start = "key" },
		`"text" can't be the event time`:                                  func(a *Aggregate) { a.TimeColumn = "text" },
		`window.size: a whole number of milliseconds`:                     func(a *Aggregate) { a.Window.Size = 1500 * time.Microsecond },
		`window.gap: a tumbling window has none`:                          func(a *Aggregate) { a.Window.Gap = time.Second },
		`window.slide: each row would be in 1000 windows`:                 func(a *Aggregate) { a.Window.Kind, a.Window.Slide = Hopping, time.Millisecond },
		`window.slide: 2s is more than the size 1s`:                       func(a *Aggregate) { a.Window.Kind, a.Window.Slide = Hopping, 2*time.Second },
		`window.offset: 1s is not`:                                        func(a *Aggregate) { a.Window.Offset = time.Second },
		`sessions can grow together`:                                      func(a *Aggregate) { a.Window, a.Emit = Window{Kind: Session, Gap: time.Second}, EmitUpdate },
		`ttl: a window has its own end`:                                   func(a *Aggregate) { a.TTL.For = time.Hour },
		`allowed_lateness: there is no window`:                            func(a *Aggregate) { a.Window, a.AllowedLateness = Window{}, time.Second },
		`sum: a number (for a uint256: cast`:                              columns("sum(text)"),
		`cast it to decimal(76, 0)) is expected, the argument is uint256`: columns("sum(u)"),
		`column "c": min: a type with an order`:                           columns("min(list)"),
		`expression "nope"`:                                               columns("sum(nope)"),
		`expression "v +"`:                                                columns("sum(v +)"),
		`a map can't be part of a key: two maps`:                          columns("count_distinct(m)"),
		`there is no aggregate "median"; there are count, sum`:            columns("median(v)"),
		`is not an aggregate such as sum(amount)`:                         columns("v"),
		`sum needs an argument`:                                           columns("sum()"),
		`too many arguments`:                                              columns("sum(v, 2)"),
		`top_k needs k as a second argument, from 1 to 100`:               columns("top_k(v)"),
		`top_k: k must be a whole number from 1 to 100`:                   columns("top_k(v, 101)"),
		`a bracket is closed that was not opened`:                         columns("sum(v))"),
		`a quote is not closed`:                                           columns(`sum("v)`),
		`an argument is missing`:                                          columns(`collect(v,)`),
		`collect does not go with ttl`: func(a *Aggregate) {
			a.Window, a.TTL.For = Window{}, time.Hour
			columns("collect(v)")(a)
		},
	} {
		a := good()
		change(a)
		_, err := a.BindKeyed(in)
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v", want, err)
			continue
		}
		contains(t, err.Error(), want)
	}
}

// TestAggregate_changesThatCannotUseOldState: what decides the meaning of the accumulators decides whether they are taken over.
func TestAggregate_changesThatCannotUseOldState(t *testing.T) {
	bind := func(w Window, columns ...AggregateColumn) []state.Descriptor {
		t.Helper()
		a := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: columns, Window: w, TimeColumn: "at"}
		binding, err := a.BindKeyed(keyedSchema(t))
		if err != nil {
			t.Fatal(err)
		}
		return binding.States
	}
	minute := Window{Kind: Tumbling, Size: time.Minute}
	old, err := state.NewRegistry(nil, state.Wanted{States: bind(minute, AggregateColumn{"n", "sum(v)"}, AggregateColumn{"l", "collect(v)"})})
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range [][]state.Descriptor{
		bind(minute, AggregateColumn{"renamed", "sum(v)"}, AggregateColumn{"renamed2", "collect(v, 9)"}),
	} {
		registry, err := state.NewRegistry(old.Slots(), state.Wanted{States: again})
		if err != nil || len(registry.Slots()) != len(old.Slots()) {
			t.Errorf("got error %v", err)
		}
	}
	for _, other := range [][]state.Descriptor{
		bind(Window{Kind: Tumbling, Size: time.Hour}, AggregateColumn{"n", "sum(v)"}, AggregateColumn{"l", "collect(v)"}),
		bind(minute, AggregateColumn{"n", "sum(price)"}, AggregateColumn{"l", "collect(v)"}),
		bind(minute, AggregateColumn{"n", "avg(v)"}, AggregateColumn{"l", "collect(v)"}),
		bind(minute, AggregateColumn{"l", "collect(v)"}, AggregateColumn{"n", "sum(v)"}),
		bind(minute, AggregateColumn{"n", "sum(v)"}, AggregateColumn{"l", "collect(word)"}),
	} {
		_, err := state.NewRegistry(old.Slots(), state.Wanted{States: other})
		if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" {
			t.Errorf("got error %v", err)
		}
	}
}

// TestAggregate_namesCorruptState damages stored accumulators in every byte: it is an error of kind Corrupt that names the column, or
// another value, never a panic.
func TestAggregate_namesCorruptState(t *testing.T) {
	step := &Aggregate{ID: "agg", Key: []string{"key"}, Columns: []AggregateColumn{{"total", "sum(v)"}, {"often", "top_k(word, 2)"}, {"least", "min(word)"}}}
	r := newRig(t, step, keyedSchema(t), 1)
	r.open(1)
	row := []keyedRow{{key: "a", v: 300, word: "w"}}
	r.process(keyedBatch(r.in, 0, row))
	r.checkpoint()
	process := func() error {
		r.open(1)
		b := keyedBatch(r.in, 0, row)
		var keys state.Keys
		keys.AppendRow(b, []int{0}, 0, 1)
		return r.ops[0].Process(b, &keys, &KeyedResult{})
	}
	found := 0
	for key, value := range r.store.values {
		for cut := range len(value) + 1 {
			damaged := append([]byte(nil), value...)
			if cut < len(value) {
				damaged = damaged[:cut]
			} else {
				damaged = append(damaged, 1)
			}
			r.store.values[key] = damaged
			if err := process(); err != nil {
				found++
				if fault.KindOf(err) != fault.Corrupt {
					t.Errorf("%x: got error %v", damaged, err)
				}
				if cut > 2 {
					contains(t, err.Error(), `step "agg", accumulator of column`)
				}
			}
		}
		r.store.values[key] = value
	}
	if found < 10 {
		t.Errorf("%d damages were found", found)
	}
}

// TestAggregate_countsWords takes a text apart and counts its words over a restart.
func TestAggregate_countsWords(t *testing.T) {
	in := schema(t, "line", "string")
	explode := &Explode{ID: "words", Column: "line", Into: "", Split: SplitSpace}
	out, apply, err := explode.Bind(in)
	if err != nil {
		t.Fatal(err)
	}
	step := &Aggregate{ID: "counts", Key: []string{"line"}, Columns: []AggregateColumn{{"n", "count()"}}, Emit: EmitFinal}
	r := newRig(t, step, out, 8)
	text := strings.Fields("to be or not to be that is the question whether tis nobler in the mind to suffer the slings")
	want := map[string]int{}
	for i := 0; i < len(text); i += 3 {
		r.open(1 + i%4)
		words := text[i:min(i+3, len(text))]
		for _, word := range words {
			want[word]++
		}
		b := batch(t, in, `{"line": "`+strings.Join(words, "  ")+`"}`)
		apply(b, &Result{})
		r.process(b)
		r.checkpoint()
	}
	var list []string
	for word, n := range want {
		list = append(list, fmt.Sprintf("%q %d", word, n))
	}
	sameRows(t, r.end(), list)
}

// TestKeyedSteps_refuseStateOfAnotherKey: state that was kept by one key means nothing under another.
func TestKeyedSteps_refuseStateOfAnotherKey(t *testing.T) {
	in, wider := schema(t, "a", "int32", "b", "int32", "c", "string"), schema(t, "a", "nullable(int64)", "b", "int32", "c", "string")
	changed := schema(t, "a", "string", "b", "int32", "c", "string")
	for name, step := range map[string]func(key ...string) KeyedStep{
		"dedup": func(key ...string) KeyedStep { return &Dedup{ID: "s", Key: key} },
		"aggregate": func(key ...string) KeyedStep {
			return &Aggregate{ID: "s", Key: key, Columns: []AggregateColumn{{"n", "count()"}}}
		},
		"enrich": func(key ...string) KeyedStep {
			return &Enrich{ID: "s", Key: key, Table: in, TableKey: key, Columns: []EnrichColumn{{"x", "c"}}}
		},
	} {
		bind := func(s *record.Schema, key ...string) []state.Descriptor {
			t.Helper()
			binding, err := step(key...).BindKeyed(s)
			if err != nil {
				t.Fatal(name, err)
			}
			return binding.States
		}
		old, err := state.NewRegistry(nil, state.Wanted{States: bind(in, "a", "b")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := state.NewRegistry(old.Slots(), state.Wanted{States: bind(wider, "a", "b")}); err != nil {
			t.Errorf("%s with wider integers: %v", name, err)
		}
		others := [][]state.Descriptor{bind(in, "b", "a"), bind(in, "a"), bind(in, "a", "c")}
		if name != "enrich" { // the table's key decides there
			others = append(others, bind(changed, "a", "b"))
		}
		for i, other := range others {
			_, err := state.NewRegistry(old.Slots(), state.Wanted{States: other})
			if err == nil || fault.KindOf(err) != fault.Misconfigured {
				t.Errorf("%s, change %d: got error %v", name, i, err)
				continue
			}
			contains(t, err.Error(), "key of a integer, b integer")
		}
	}
}
