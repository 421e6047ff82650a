package inspect

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// open opens the state that the world has now.
func (w *world) open() *State {
	w.t.Helper()
	s, err := OpenState(w.t.Context(), w.keyed(), Options{Objects: checkpoint.NewStateObjects(w.store, "p"), Dir: w.t.TempDir()})
	w.must(err)
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return s
}

// lines are the entries of a state as JSON, without place in the store.
func (w *world) lines(s *State, filter Filter) []string {
	w.t.Helper()
	var out []string
	w.must(s.Entries(filter, func(e *Entry) error {
		e.Slot, e.Group = 0, 0
		text, err := json.Marshal(e)
		out = append(out, string(text))
		return err
	}))
	slices.Sort(out)
	return out
}

// Every kind of state is shown as what it is: keys with the names of their columns, values by their types, lists and maps part by part.
func TestState_showsEveryKind(t *testing.T) {
	w := newWorld(t)
	w.claim()
	pairs := state.MapOptions[int64, float64]{Key: state.Int64{}, Value: state.Float64{}}
	row := state.Tuple{Types: []record.Type{{Kind: record.Int64}, {Kind: record.String, Nullable: true}}}
	own := state.Versioned[string]{Name: "mine", V: 3, Put: func(dst []byte, v string) []byte { return append(dst, v...) }, Read: func(b []byte) (string, error) { return string(b), nil }}
	described := []state.Descriptor{
		{Step: "s", Name: "key", Kind: state.KindValue, Type: "key of word string, day date", Version: 1},
		state.Describe("s", "number", state.KindValue, state.Codec[int64](state.Int64{})),
		state.Describe("s", "list", state.KindList, state.Codec[string](state.String{})),
		state.DescribeMap("s", "map", pairs.Key, pairs.Value),
		state.Describe("s", "row", state.KindReducing, state.Codec[[]byte](row)),
		state.DescribeTimers("s", "timer", state.EventTime),
		state.DescribeSeen("s", "seen"),
		state.Describe("s", "own", state.KindValue, state.Codec[string](own)),
	}
	w.change(described, func(task *state.Task) {
		key := keyOfWord(t, "tea")
		task.SetTime(state.NoTime, 5000)
		task.For(key, state.GroupOf(key, testGroups))
		number, err := state.NewValue(task, described[1], state.Codec[int64](state.Int64{}), state.TTL{For: time.Hour, By: state.ProcessingTime})
		w.must(err)
		number.Set(-7)
		number.In(60000).Set(8)
		list, err := state.NewList(task, described[2], state.Codec[string](state.String{}), state.TTL{})
		w.must(err)
		w.must(errors.Join(list.Append("a"), list.Append("b")))
		m, err := state.NewMap(task, described[3], pairs)
		w.must(err)
		m.Put(-1, 0.5)
		rows, err := state.NewReducing(task, described[4], state.Codec[[]byte](row), state.TTL{}, func(_, b []byte) []byte { return b })
		w.must(err)
		b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "a", Type: row.Types[0]}, {Name: "b", Type: row.Types[1]}}})
		b.Cols[0].AppendInt(4)
		b.Cols[1].AppendNull()
		w.must(rows.Add(row.AppendRow(nil, b, []int{0, 1}, 0)))
		timers, err := state.NewTimers(task, described[5], state.EventTime)
		w.must(err)
		timers.Set(1000)
		seen, err := state.NewSeen(task, described[6], state.TTL{})
		w.must(err)
		_, err = seen.Seen(3)
		w.must(err)
		mine, err := state.NewValue(task, described[7], state.Codec[string](own), state.TTL{})
		w.must(err)
		mine.Set("xyz")
	})
	s := w.open()
	const key = `"key":{"word":"tea","day":"1970-01-02"}`
	want := []string{
		`{"step":"s","state":"list","kind":"list","group":0,` + key + `,"length":2}`,
		`{"step":"s","state":"list","kind":"list","group":0,` + key + `,"place":0,"value":"a"}`,
		`{"step":"s","state":"list","kind":"list","group":0,` + key + `,"place":1,"value":"b"}`,
		`{"step":"s","state":"map","kind":"map","group":0,` + key + `,"map_key":-1,"value":0.5}`,
		`{"step":"s","state":"number","kind":"value","group":0,` + key + `,"namespace":60000,"written":"1970-01-01T00:00:05.000Z","value":8}`,
		`{"step":"s","state":"number","kind":"value","group":0,` + key + `,"written":"1970-01-01T00:00:05.000Z","value":-7}`,
		`{"step":"s","state":"own","kind":"value","group":0,` + key + `,"raw_value":"AHh5eg=="}`,
		`{"step":"s","state":"row","kind":"reducing","group":0,` + key + `,"value":[4,null]}`,
		`{"step":"s","state":"seen","kind":"seen","group":0,` + key + `,"namespace":9223372036854775807}`,
		`{"step":"s","state":"timer","kind":"timer","group":0,` + key + `,"namespace":1000,"time":"1970-01-01T00:00:01.000Z"}`,
	}
	if diff := cmp.Diff(want, w.lines(s, Filter{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, f := range []Filter{{State: "own"}, {Step: "s", State: "own", Key: `["tea", "1970-01-02"]`}, {State: "own", Key: `{"word": "tea", "day": "1970-01-02"}`}} {
		if got := w.lines(s, f); !slices.Equal(got, want[6:7]) {
			t.Errorf("filter %+v: got %q, want %q", f, got, want[6])
		}
	}
	for _, f := range []Filter{{Step: "other"}, {Key: "tea"}, {Key: `["coffee","1970-01-02"]`}, {Group: new(1 ^ state.GroupOf(keyOfWord(t, "tea"), testGroups))}} {
		if got := w.lines(s, f); len(got) != 0 {
			t.Errorf("filter %+v: got %q, want nothing", f, got)
		}
	}
	counts, err := s.Stats()
	w.must(err)
	var got []string
	for _, c := range counts {
		got = append(got, strings.Join([]string{c.State, number(c.Entries), number(c.Keys), number(int64(c.Groups)), number(c.Largest)}, " "))
	}
	if diff := cmp.Diff([]string{"number 2 2 1 10", "list 3 1 1 2", "map 1 1 1 9", "row 1 1 1 3", "timer 1 1 1 0", "seen 1 1 1 0", "own 1 1 1 4"}, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func number(n int64) string {
	text, _ := json.Marshal(n)
	return string(text)
}

// A key of one column is found by its value, a string with and without quotes.
func TestWantedKey_isWhatAPersonWrites(t *testing.T) {
	for _, c := range []struct {
		key, array, text string
		want             bool
	}{
		{`{"word":"tea"}`, `["tea"]`, `tea`, true},
		{`{"word":"tea"}`, `["tea"]`, `"tea"`, true},
		{`{"word":"tea"}`, `["tea"]`, `["tea"]`, true},
		{`{"word":"tea"}`, `["tea"]`, `{"word": "tea"}`, true},
		{`{"word":"tea"}`, `["tea"]`, `te`, false},
		{`{"n":5}`, `[5]`, `5`, true},
		{`{"n":5}`, `[5]`, `"5"`, false},
		{`{"word":"5"}`, `["5"]`, `5`, true},
		{`{"word":"a b"}`, `["a b"]`, `a b`, true},
		{`{"word":"a\"b"}`, `["a\"b"]`, `a"b`, true},
		{`{"word":"a\" b"}`, `["a\" b"]`, `[ "a\" b" ]`, true},
		{`["x",3]`, `["x",3]`, `["x", 3]`, true},
		{`["x",3]`, `["x",3]`, `x`, false},
		{`{"w":"x","n":3}`, `["x",3]`, `["x", 3]`, true},
		{``, ``, `x`, false},
	} {
		w := newWantedKey(c.text)
		if got := w.is(json.RawMessage(c.key), json.RawMessage(c.array)); got != c.want {
			t.Errorf("key %s, asked for %s: got %t, want %t", c.key, c.text, got, c.want)
		}
	}
}

// A key whose columns nobody noted shows its values, and a value of another type than its state's shows its bytes.
func TestState_showsWhatItCanNotRead(t *testing.T) {
	w := newWorld(t)
	w.claim()
	d := state.Describe("s", "n", state.KindValue, state.Codec[[]byte](state.Bytes{}))
	w.change([]state.Descriptor{d}, func(task *state.Task) {
		v, err := state.NewValue(task, d, state.Codec[[]byte](state.Bytes{}), state.TTL{})
		w.must(err)
		for _, key := range [][]byte{keyOfWord(t, "tea"), {0x77, 1}, {}} {
			task.For(key, state.GroupOf(key, testGroups))
			v.Set([]byte("xyz"))
		}
	})
	w.slots = slices.Clone(w.slots)
	w.slots[0].Type = "int64"
	got := w.lines(w.open(), Filter{})
	const head = `{"step":"s","state":"n","kind":"value","group":0,`
	want := []string{head + `"key":["tea","1970-01-02"],"raw_value":"AHh5eg=="}`, head + `"raw_key":"AAYAAQECdwE=","raw_value":"AHh5eg=="}`, head + `"raw_value":"AHh5eg=="}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// The difference of two checkpoints is what was added, removed and changed between them.
func TestDiff_showsEveryChange(t *testing.T) {
	w := newWorld(t)
	w.claim()
	w.set("stays", 1)
	w.set("changes", 2)
	w.set("goes", 3)
	before := w.open()
	w.set("changes", 20)
	w.set("comes", 4)
	w.change(counted(), func(task *state.Task) {
		v, err := state.NewValue(task, counted()[1], state.Codec[int64](state.Int64{}), state.TTL{})
		w.must(err)
		key := keyOfWord(t, "goes")
		task.For(key, state.GroupOf(key, testGroups))
		v.Clear()
	})
	after := w.open()
	diff := func(from, to *State, filter Filter) []string {
		var out []string
		w.must(Diff(from, to, filter, func(c Change) error {
			text := c.What
			for _, e := range []*Entry{c.Before, c.After} {
				if e == nil {
					text += " –"
					continue
				}
				text += " " + string(e.Key) + string(e.Value)
			}
			out = append(out, text)
			return nil
		}))
		slices.Sort(out)
		return out
	}
	key := func(word string) string { return `{"word":"` + word + `","day":"1970-01-02"}` }
	want := []string{"added – " + key("comes") + "4", "changed " + key("changes") + "2 " + key("changes") + "20", "removed " + key("goes") + "3 –"}
	if d := cmp.Diff(want, diff(before, after, Filter{})); d != "" {
		t.Errorf("from before to after (-want +got):\n%s", d)
	}
	if got := diff(after, after, Filter{}); len(got) != 0 {
		t.Errorf("from one to itself: got %q", got)
	}
	if got := diff(before, after, Filter{Key: `["comes","1970-01-02"]`}); !slices.Equal(got, want[:1]) {
		t.Errorf("of one key: got %q, want %q", got, want[:1])
	}
}

// A look leaves nothing behind, neither when all is well nor when an object is missing or corrupt, which it names.
func TestOpenState_leavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.claim()
	w.set("tea", 1)
	dir := t.TempDir()
	options := Options{Objects: checkpoint.NewStateObjects(w.store, "p"), Dir: dir}
	empty := func(when string) {
		t.Helper()
		names, err := os.ReadDir(dir)
		if len(names) != 0 || err != nil {
			t.Errorf("%s: %v, %v are left behind", when, names, err)
		}
	}
	s, err := OpenState(t.Context(), w.keyed(), options)
	w.must(err)
	w.must(s.Close())
	empty("closed")
	name := checkpoint.ObjectName("p", w.keyed().Objects[0])
	w.put(name, []byte("other"))
	if _, err := OpenState(t.Context(), w.keyed(), options); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), w.keyed().Objects[0]) {
		t.Errorf("got %v, want an error that says corrupt and names %s", err, name)
	}
	empty("corrupt")
	w.must(w.store.Delete(t.Context(), name))
	if _, err := OpenState(t.Context(), w.keyed(), options); fault.KindOf(err) != fault.Lost || !strings.Contains(err.Error(), w.keyed().Objects[0]) {
		t.Errorf("got %v, want an error that says lost and names %s", err, name)
	}
	empty("missing")
	if _, err := OpenState(t.Context(), nil, options); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("no state: got %v, want an error that says misconfigured", err)
	}
}
