package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// pairs decodes "KEY=VALUE" to a row of a table; what is no pair does not fit.
type pairs struct{ takes time.Duration }

func pairSchema() *record.Schema {
	text := record.Type{Kind: record.String}
	return &record.Schema{Fields: []record.Field{{Name: "value", Type: text}, {Name: "name", Type: text}}}
}

func (pairs) Schema(*record.Schema) (*record.Schema, error) { return pairSchema(), nil }

func (p pairs) New(*record.Schema) (codec.Decoder, error) { return p, nil }

func (p pairs) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	if p.takes > 0 {
		<-time.After(p.takes)
	}
	name, text, ok := strings.Cut(string(value), "=")
	if !ok {
		return record.Refusal{Row: b.Rows, Reason: "it is no pair", Byte: 0}, false
	}
	b.Cols[0].AppendString(text)
	b.Cols[1].AppendString(name)
	return record.Refusal{}, true
}

// joined puts the found value behind the text, for a target that keeps texts.
type joined struct{}

func (joined) Name() string { return "joined" }

func (joined) Bind(in *record.Schema) (*record.Schema, step.Apply, error) {
	text, found := in.Index("text"), in.Index("found")
	out := &record.Schema{Fields: []record.Field{in.Fields[text]}}
	return out, func(b *record.Batch, _ *step.Result) {
		var all []string
		for row := range b.Rows {
			value := "?"
			if !b.Cols[found].IsNull(row) {
				value = string(b.Cols[found].BytesAt(row))
			}
			all = append(all, string(b.Cols[text].BytesAt(row))+" "+value)
		}
		for len(b.Cols) > 1 {
			b.RemoveColumn(len(b.Cols) - 1)
		}
		b.Cols[0].Truncate(0)
		for _, s := range all {
			b.Cols[0].AppendString(s)
		}
		b.Schema = out
	}, nil
}

// withTable gives a world an enrich step. A table's record "-KEY" has no value and the key KEY.
func (w *world) withTable(missing step.Missing, splits ...string) *topic {
	users := newTopic(splits...)
	users.fetched = func(f *source.Fetch) {
		for i := range f.Rows {
			if key, ok := strings.CutPrefix(string(f.Rows[i].Value), "-"); ok {
				f.Rows[i].Key, f.Rows[i].Value = []byte(key), nil
			}
		}
	}
	w.withState(Keyed(&step.Enrich{
		ID: "users", Key: []string{"text"}, Table: pairSchema(), TableKey: []string{"name"}, Missing: missing,
		Columns: []step.EnrichColumn{{Column: "found", From: "value"}},
	}), joined{})
	w.def.Tables = []Table{{Step: "users", Source: users, Codec: pairs{}}}
	return users
}

// The table is read up to its end before the first record, by whatever task, at every start, and checkpoints go on meanwhile.
func TestTables_areReadBeforeTheFirstRecord(t *testing.T) {
	for tasks := 1; tasks <= 3; tasks++ {
		in(t, func(w *world) {
			users := w.withTable(step.MissingNull, "0", "1")
			w.def.Tasks = tasks
			w.def.Tables[0].Codec = pairs{takes: 100 * time.Millisecond}
			var want []string
			for i := range 60 {
				key := fmt.Sprint("k", i)
				users.add(fmt.Sprint(i%2), key+"=old", key+"="+fmt.Sprint("v", i))
				w.source.add([]string{"a", "b"}[i%2], key, fmt.Sprint("unknown", i))
				want = append(want, fmt.Sprint(key, " v", i), fmt.Sprint("unknown", i, " ?"))
			}
			p := w.boot()
			time.Sleep(5 * time.Second) // not read yet
			if got := w.rows.texts(); len(got) > 0 {
				w.t.Errorf("got rows before the table was read: %q", got)
			}
			if m := w.newest(); m.State() == nil {
				w.t.Error("no checkpoint holds the part of the table that was read")
			}
			p.crash()
			p = w.boot()
			time.Sleep(30 * time.Second)
			wantEnd(w.t, p.finish(), machine.Done, "")
			wantTexts(w.t, w.rows, want...)
			m := w.newest()
			if s := m.Counters.Stages; s[1].Stage != "decode" || s[1].Absorbed != 120 || s[2].In != 120 {
				w.t.Errorf("the counters say %+v, want 120 rows absorbed, and as many in the step", s)
			}
			var splits []string
			for _, at := range m.Positions() {
				splits = append(splits, at.Split)
			}
			if !slices.Equal(splits, []string{"a", "b", "table:users/0", "table:users/1"}) {
				w.t.Errorf("got positions of %q", splits)
			}
		})
	}
}

// The table and its positions are one: over crashes, other numbers of tasks and a local disk that is lost, a key that was written last
// is found as such, and one that was deleted is not.
func TestTables_agreeWithAModelOverRuns(t *testing.T) {
	in(t, func(w *world) {
		users := w.withTable(step.MissingNull, "0", "1")
		random := rand.New(rand.NewPCG(5, 6))
		model := map[string]string{}
		var want []string
		for run := range 10 {
			w.def.Tasks = 1 + random.IntN(3)
			for range 40 {
				n := random.IntN(20)
				key, split := fmt.Sprint("k", n), fmt.Sprint(n%2)
				if random.IntN(4) == 0 {
					users.add(split, "-"+key)
					model[key] = "?"
					continue
				}
				model[key] = fmt.Sprint("v", random.IntN(1000))
				users.add(split, key+"="+model[key])
			}
			p := w.boot()
			time.Sleep(3 * time.Second)
			for i := range 20 {
				key := fmt.Sprint("k", i)
				value := model[key]
				if value == "" {
					value = "?"
				}
				w.source.add([]string{"a", "b"}[random.IntN(2)], key)
				want = append(want, key+" "+value)
			}
			time.Sleep(4 * time.Second)
			if run%2 == 0 {
				p.crash()
			} else {
				wantEnd(w.t, p.finish(), machine.Done, "")
			}
			if run%3 == 0 {
				w.disk = folderDisk{w.t.TempDir()}
			}
		}
		wantTexts(w.t, w.rows, want...)
	})
}

// A row of the table that can't be decoded, a deletion without key, and a record that finds nothing are dead letters, and the counters
// balance.
func TestTables_refusedRowsAreDeadLetters(t *testing.T) {
	in(t, func(w *world) {
		users := w.withTable(step.MissingDeadLetter, "0")
		w.source.bounded = true
		users.add("0", "a=1", "malformed", "b=2", "-b")
		w.source.add("a", "a", "b", "c")
		wantEnd(w.t, w.boot().end(), machine.Done, "")
		wantTexts(w.t, w.rows, "a 1")
		wantTexts(w.t, w.letters, "it is no pair", "the table has no row with this key", "the table has no row with this key")
		if m := w.newest(); m.Counters.DeadLetters != 3 || m.Counters.Stages[1].Refused != 1 {
			w.t.Errorf("the counters say %+v", m.Counters)
		}
	})
}

// A table that is added later is read from its beginning, and the splits of one that is gone stay where they are.
func TestTables_comeAndGo(t *testing.T) {
	in(t, func(w *world) {
		users := w.withTable(step.MissingNull, "0")
		steps, tables := w.def.Steps, w.def.Tables
		w.def.Steps, w.def.Tables = []step.Step{once()}, nil
		users.add("0", "x=1")
		run := func(text string) {
			w.source.add("a", text)
			p := w.boot()
			time.Sleep(4 * time.Second)
			wantEnd(w.t, p.finish(), machine.Done, "")
		}
		run("x")
		w.def.Steps, w.def.Tables = steps, tables
		run("x")
		w.def.Steps, w.def.Tables = []step.Step{once()}, nil
		users.add("0", "x=2")
		run("y")
		w.def.Steps, w.def.Tables = steps, tables
		run("x")
		wantTexts(w.t, w.rows, "x", "x 1", "x 2", "y")
	})
}

// A table without any row holds nothing up, and neither does one whose partition is found later.
func TestTables_emptyOnesHoldNothingUp(t *testing.T) {
	in(t, func(w *world) {
		users := w.withTable(step.MissingNull)
		w.source.add("a", "x")
		p := w.boot()
		time.Sleep(4 * time.Second)
		users.add("0", "x=1")
		time.Sleep(15 * time.Second)
		w.source.add("a", "x")
		time.Sleep(4 * time.Second)
		wantEnd(w.t, p.finish(), machine.Done, "")
		wantTexts(w.t, w.rows, "x ?", "x 1")
	})
}

// What is held back behind a barrier goes on in the order of arrival, over all edges: a row of a table before the record that is to
// find it, wherever the tasks stand.
func TestKeyedTask_heldParcelsKeepTheirOrder(t *testing.T) {
	kt := &keyedTask{x: newExchange(3, 1), aligned: []bool{true, true, false}, marks: make([]int64, 3), over: make([]bool, 3)}
	kt.cut = &sink.Cut{Checkpoint: 1}
	order := []int{1, 0, 1, 0}
	for _, from := range order {
		if _, err := kt.receive(t.Context(), parcel{from: from}); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	for _, p := range kt.held {
		got = append(got, p.from)
	}
	if !slices.Equal(got, order) {
		t.Errorf("got parcels of edges %v, want %v", got, order)
	}
}

// What can't work is refused before anything is claimed.
func TestTables_impossiblePlansAreRefused(t *testing.T) {
	for want, change := range map[string]func(d *Definition){
		"nothing gives it its table":        func(d *Definition) { d.Tables = nil },
		`no enrich step "nope"`:             func(d *Definition) { d.Tables = append(d.Tables, Table{Step: "nope"}) },
		"the table, which would stay empty": func(d *Definition) { d.DiscardState = []string{"users"} },
		"no value of one equals":            func(d *Definition) { enrichOf(d).Table.Fields[1].Type.Kind = record.Int64 },
	} {
		in(t, func(w *world) {
			w.withTable(step.MissingNull, "0")
			change(w.def)
			_, err := Bind(w.def)
			if fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), want) {
				w.t.Errorf("got %v, want Misconfigured with %q", err, want)
			}
		})
	}
}

func enrichOf(d *Definition) *step.Enrich {
	e, _ := d.enrich(&d.Tables[0])
	return e
}

// The key of a deleted row is read from the record's key: a text for one column, by a decoder for several; what can't be read is
// refused, with the reason.
func TestDeletions_readKeys(t *testing.T) {
	e := &step.Enrich{ID: "e", Table: pairSchema(), TableKey: []string{"name"}}
	both := &step.Enrich{ID: "e", Table: pairSchema(), TableKey: []string{"name", "value"}}
	number := &step.Enrich{ID: "e", Table: pairSchema(), TableKey: []string{"name"}}
	number.Table.Fields[1].Type.Kind = record.Int64
	for _, c := range []struct {
		table Table
		step  *step.Enrich
		key   string
		want  string
	}{
		{Table{}, e, "x", " x"},
		{Table{KeyCodec: pairs{}}, e, "x=1", " x"},
		{Table{KeyCodec: pairs{}}, both, "x=1", "1 x"},
		{Table{KeyCodec: pairs{}}, e, "x", "it is no pair"},
		{Table{}, both, "x", "several columns"},
		{Table{}, number, "x", "the record's key"},
		{Table{}, e, "", "no key"},
	} {
		d, err := c.table.deletions(c.step)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(c.step.Table)
		var key []byte
		if c.key != "" {
			key = []byte(c.key)
		}
		r, ok := d.append(b, key)
		got := r.Reason
		if ok {
			got = string(b.Cols[0].BytesAt(0)) + " " + string(b.Cols[1].BytesAt(0))
		}
		if ok != !strings.Contains(got, "row of the table") || !strings.Contains(got, c.want) {
			t.Errorf("key %q of %v: got %q, %t, want %q", c.key, c.step.TableKey, got, ok, c.want)
		}
	}
}
