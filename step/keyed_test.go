package step

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// applied is a state.Reader in memory.
type applied struct {
	values map[string][]byte
	sorted []string
}

func (a *applied) Get(dst, key []byte) (value []byte, ok bool, err error) {
	v, ok := a.values[string(key)]
	return append(dst, v...), ok, nil
}

func (a *applied) Scan(from, to []byte, f func(key, value []byte) bool) error {
	if a.sorted == nil {
		for key := range a.values {
			a.sorted = append(a.sorted, key)
		}
		slices.Sort(a.sorted)
	}
	i, _ := slices.BinarySearch(a.sorted, string(from))
	for ; i < len(a.sorted) && a.sorted[i] < string(to); i++ {
		if !f([]byte(a.sorted[i]), a.values[a.sorted[i]]) {
			return nil
		}
	}
	return nil
}

func (a *applied) apply(d state.Delta) {
	a.sorted = nil
	for _, r := range d.Drops {
		for key := range a.values {
			if key >= string(r.From) && key < string(r.To) {
				delete(a.values, key)
			}
		}
	}
	for _, op := range d.Ops {
		if op.Delete {
			delete(a.values, string(op.Key))
			continue
		}
		a.values[string(op.Key)] = bytes.Clone(op.Value)
	}
}

// rig runs a keyed step in any number of tasks, as the second stage of a pipeline does.
type rig struct {
	t       *testing.T
	binding KeyedBinding
	in      *record.Schema
	key     []int
	groups  int
	store   *applied
	slots   []state.Slot
	tasks   []*state.Task
	ops     []Operator
	res     KeyedResult
	rows    int64 // that went in
	passed  int64
	workMax int // of an aggregate, 0: as it is
}

func newRig(t *testing.T, step KeyedStep, in *record.Schema, groups int) *rig {
	t.Helper()
	binding, err := step.BindKeyed(in)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, binding: binding, in: in, groups: groups, store: &applied{values: make(map[string][]byte)}}
	for _, name := range step.KeyColumns() {
		r.key = append(r.key, in.Index(name))
	}
	return r
}

// open begins with what was applied, in a number of tasks that share the key groups.
func (r *rig) open(tasks int) {
	r.t.Helper()
	registry, err := state.NewRegistry(r.slots, state.Wanted{States: r.binding.States})
	if err != nil {
		r.t.Fatal(err)
	}
	r.slots = registry.Slots()
	own := make([][]state.Group, tasks)
	for g := range r.groups {
		own[g%tasks] = append(own[g%tasks], state.Group(g))
	}
	r.tasks, r.ops = nil, nil
	for i := range tasks {
		task := state.NewTask(state.TaskOptions{Reader: r.store, Registry: registry, Groups: r.groups, Own: own[i], CacheBytes: 1 << 14})
		op, err := r.binding.Open(task)
		if err != nil {
			r.t.Fatal(err)
		}
		if o, ok := op.(*aggregateOperator); ok && r.workMax > 0 {
			o.workMax, o.madeMax = r.workMax, r.workMax
		}
		r.tasks, r.ops = append(r.tasks, task), append(r.ops, op)
	}
}

// checkpoint freezes and applies what changed.
func (r *rig) checkpoint() {
	for _, task := range r.tasks {
		f := task.Freeze()
		encoded, err := state.EncodeDelta(nil, f.Delta())
		if err != nil {
			r.t.Fatal(err)
		}
		d, err := state.DecodeDelta(encoded)
		if err != nil {
			r.t.Fatal(err)
		}
		r.store.apply(d)
		task.Applied(f)
	}
}

// process sends the rows of a batch to their tasks and returns the rows that come out, as text.
func (r *rig) process(b *record.Batch) []string {
	r.t.Helper()
	var out []string
	r.rows += int64(b.Rows)
	for i := range r.tasks {
		part := record.NewBatch(r.in)
		part.Meta.Split, part.Meta.Topic, part.Meta.Partition = b.Meta.Split, b.Meta.Topic, b.Meta.Partition
		var keys state.Keys
		for row := range b.Rows {
			key := state.AppendKey(nil, b, r.key, row)
			group := state.GroupOf(key, r.groups)
			if int(group)%len(r.tasks) != i {
				continue
			}
			for c := range part.Cols {
				part.Cols[c].AppendFrom(&b.Cols[c], row)
			}
			m := &b.Meta
			part.AppendMeta(record.RowMeta{Offset: m.Offsets[row], Timestamp: m.Timestamps[row], Key: m.Keys[row], Value: m.Values[row], Headers: m.Headers[row]})
			keys.Append(key, group)
		}
		if err := r.ops[i].Process(part, &keys, &r.res); err != nil {
			r.t.Fatal(err)
		}
		r.sound(part, &keys)
		out = append(out, texts(part)...)
		if part.Meta.Split != b.Meta.Split {
			r.t.Errorf("split: got %q, want %q", part.Meta.Split, b.Meta.Split)
		}
	}
	r.passed += int64(len(out))
	return out
}

// sound checks that a batch and its keys fit together.
func (r *rig) sound(b *record.Batch, keys *state.Keys) {
	r.t.Helper()
	if keys.Len() != b.Rows || b.Schema != r.binding.Out || len(b.Meta.Offsets) != b.Rows || len(b.Meta.Values) != b.Rows {
		r.t.Fatalf("a batch of %d rows has %d keys, %d offsets", b.Rows, keys.Len(), len(b.Meta.Offsets))
	}
	for i := range b.Cols {
		if b.Cols[i].Len() != b.Rows {
			r.t.Fatalf("column %d has %d rows, want %d", i, b.Cols[i].Len(), b.Rows)
		}
	}
	at := make([]int, len(r.key))
	for i, c := range r.key {
		at[i] = b.Schema.Index(r.in.Fields[c].Name)
	}
	for row := range b.Rows {
		if key := state.AppendKey(nil, b, at, row); !bytes.Equal(key, keys.Key(row)) || keys.Group(row) != state.GroupOf(key, r.groups) {
			r.t.Fatalf("row %d has the key %x in group %d, want %x", row, keys.Key(row), keys.Group(row), key)
		}
	}
}

// until calls f with an empty batch until it makes no more rows.
func (r *rig) until(f func(op Operator, out *record.Batch) error) []string {
	r.t.Helper()
	var list []string
	for _, op := range r.ops {
		for {
			out := record.NewBatch(r.binding.Out)
			before := r.res.Made
			if err := f(op, out); err != nil {
				r.t.Fatal(err)
			}
			if r.res.Made-before != int64(out.Rows) {
				r.t.Errorf("made: got %d, want %d", r.res.Made-before, out.Rows)
			}
			if out.Rows == 0 {
				break
			}
			list = append(list, texts(out)...)
		}
	}
	return list
}

func (r *rig) advance(watermark, clock int64) []string {
	r.t.Helper()
	return r.until(func(op Operator, out *record.Batch) error { return op.Advance(watermark, clock, out, &r.res) })
}

func (r *rig) end() []string {
	r.t.Helper()
	return r.until(func(op Operator, out *record.Batch) error { return op.End(out, &r.res) })
}

// balanced checks I12 over all that went through.
func (r *rig) balanced(made int64) {
	r.t.Helper()
	if got := r.passed - made + r.res.Filtered + r.res.Deduplicated + r.res.Absorbed + r.res.Late + int64(len(r.res.Refused)); got != r.rows {
		r.t.Errorf("counted %d rows of %d: %+v", got, r.rows, r.res)
	}
}

// texts returns the rows of a batch.
func texts(b *record.Batch) []string {
	list := make([]string, b.Rows)
	for row := range list {
		values := make([]string, len(b.Cols))
		for i := range b.Cols {
			values[i] = string(codec.AppendJSONValue(nil, &b.Cols[i], row))
		}
		list[row] = strings.Join(values, " ")
	}
	return list
}

// keyedRow is a row of the tests' input.
type keyedRow struct {
	key  string // "" is null
	at   int64  // event time
	v    int64
	word string
}

func keyedSchema(t *testing.T) *record.Schema {
	t.Helper()
	return schema(t, "key", "nullable(string)", "at", "timestamp(3)", "v", "nullable(int32)", "word", "string", "price", "decimal(10, 2)")
}

// nullV stands for null in keyedRow.v.
const nullV = -999

func keyedBatch(s *record.Schema, first int, rows []keyedRow) *record.Batch {
	b := record.NewBatch(s)
	b.Meta.Split, b.Meta.Topic = "in/0", "in"
	for i, row := range rows {
		if row.key == "" {
			b.Cols[0].AppendNull()
		} else {
			b.Cols[0].AppendString(row.key)
		}
		b.Cols[1].AppendInt(row.at)
		if row.v == nullV {
			b.Cols[2].AppendNull()
		} else {
			b.Cols[2].AppendInt(row.v)
		}
		b.Cols[3].AppendString(row.word)
		b.Cols[4].AppendInt(row.v)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(first + i), Timestamp: row.at, Value: []byte(row.key)})
	}
	return b
}

// randomRows makes batches of rows whose event time goes on, with disorder and now and then far behind.
func randomRows(r *rand.Rand, batches, keys int) [][]keyedRow {
	list := make([][]keyedRow, batches)
	now := int64(1_700_000_000_000)
	for i := range list {
		for range r.IntN(20) {
			now += r.Int64N(400)
			at := now - r.Int64N(3000)
			if r.IntN(15) == 0 {
				at = now - r.Int64N(30_000)
			}
			row := keyedRow{key: "k" + fmt.Sprint(r.IntN(keys)), at: at, v: r.Int64N(200) - 100, word: string(rune('a' + r.IntN(5)))}
			switch r.IntN(12) {
			case 0:
				row.v = nullV
			case 1:
				row.key = ""
			}
			list[i] = append(list[i], row)
		}
	}
	return list
}

// history drives a step over batches with checkpoints, crashes and other numbers of tasks, and returns all rows that came out and
// stayed: what came out after the last checkpoint before a crash is taken back, as positions and sinks do it. watermark tells the
// watermark after a number of batches.
func (r *rig) history(random *rand.Rand, batches [][]keyedRow, watermark func(done int) int64) []string {
	r.t.Helper()
	var out []string
	done, saved, kept := 0, 0, 0
	savedRig := *r
	r.open(1 + random.IntN(4))
	for done < len(batches) {
		out = append(out, r.process(keyedBatch(r.in, done*1000, batches[done]))...)
		done++
		out = append(out, r.advance(watermark(done), 0)...)
		switch random.IntN(8) {
		case 0, 1:
			r.checkpoint()
			saved, kept, savedRig = done, len(out), *r
		case 2:
			done, out = saved, out[:kept]
			r.res, r.rows, r.passed = savedRig.res, savedRig.rows, savedRig.passed
			r.open(1 + random.IntN(4))
			if again := r.advance(watermark(done), 0); len(again) > 0 {
				r.t.Errorf("after a restart came out again: %q", again)
			}
		}
	}
	return append(out, r.end()...)
}
