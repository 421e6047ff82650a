//go:build synctests

package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/inspect"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// enrichedRow is a row that came out, or a record of the stream.
type enrichedRow struct {
	N int    `json:"n"`
	K int    `json:"k"`
	V *int64 `json:"v"`
}

// value is the table's, or takesOut where there was none.
func (r *enrichedRow) value() int64 {
	if r.V == nil {
		return takesOut
	}
	return *r.V
}

// came returns what came out of each record: rows, and dead letters with nothing found.
func (e *enrichWorld) came() map[int][]enrichedRow {
	e.t.Helper()
	got := map[int][]enrichedRow{}
	for _, r := range e.rows.Rows() {
		var row enrichedRow
		if err := json.Unmarshal(r, &row); err != nil {
			e.t.Fatalf("row %s: %v", r, err)
		}
		if row.V == nil && e.missing == step.MissingDeadLetter {
			e.t.Errorf("a row without a match is in the table: %s", r)
		}
		got[row.N] = append(got[row.N], row)
	}
	for _, l := range e.readLetters() {
		if l.Stage != "step:users" {
			continue
		}
		var row enrichedRow
		if err := json.Unmarshal([]byte(l.Value), &row); err != nil || e.missing == step.MissingNull || l.Reason != "the table has no row with this key" {
			e.t.Fatalf("dead letter %+v: %v", l, err)
		}
		got[row.N] = append(got[row.N], row)
	}
	return got
}

type enrichLetter struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
	Key    string `json:"key"`
	Value  string `json:"value"`
}

func (e *enrichWorld) readLetters() []enrichLetter {
	e.t.Helper()
	var out []enrichLetter
	for _, r := range e.letters.Rows() {
		var l enrichLetter
		if err := json.Unmarshal(r, &l); err != nil {
			e.t.Fatalf("dead letter %s: %v", r, err)
		}
		if l.Stage != "step:users" && (l.Stage != "decode" || !strings.HasPrefix(l.Key, "bad ")) {
			e.t.Errorf("a dead letter that is none: %s", r)
		}
		out = append(out, l)
	}
	return out
}

// checkpointed is a checkpoint that was published.
type checkpointed struct {
	seq   checkpoint.Seq
	who   string // the process
	at    ends
	time  int64
	state *checkpoint.KeyedState
}

// history returns every checkpoint that was ever published, and every object that was ever stored, also what was collected.
func (e *enrichWorld) history() (all []checkpointed, objects map[string][]byte) {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	objects = maps.Clone(e.mu.archive)
	who := map[record.Lease]string{}
	read := func(name string, data []byte) {
		seq, err := checkpoint.ParseEntry("p", 0, name)
		if err != nil {
			e.t.Fatal(err)
		}
		entry, err := checkpoint.Decode(data)
		if err != nil {
			e.t.Fatal(err)
		}
		if entry.Claim != nil {
			who[entry.Claim.Lease] = entry.Claim.Who
			return
		}
		c := checkpointed{seq: seq, at: ends{}, time: entry.Manifest.Time, state: entry.Manifest.State()}
		c.who = fmt.Sprint(entry.Manifest.Lease)
		for _, p := range entry.Manifest.Positions() {
			c.at[p.Split] = int64(p.Offset)
		}
		all = append(all, c)
	}
	there := e.store.Objects()
	for _, set := range []map[string][]byte{e.mu.archive, there} {
		for name, data := range set {
			if strings.HasPrefix(name, checkpoint.LogPrefix("p", 0)) {
				read(name, data)
			}
		}
	}
	maps.Copy(objects, there)
	slices.SortFunc(all, func(a, b checkpointed) int { return cmp.Compare(a.seq, b.seq) })
	all = slices.CompactFunc(all, func(a, b checkpointed) bool { return a.seq == b.seq }) // one whose deletion was lost is in both
	for i := range all {
		lease, err := strconv.ParseUint(all[i].who, 10, 64)
		if err != nil {
			e.t.Fatal(err)
		}
		all[i].who = who[record.Lease(lease)]
	}
	return all, objects
}

// valueAt is the value of a key where the table is read up to an offset.
func (e *enrichWorld) valueAt(key int, upTo int64) int64 {
	value := int64(takesOut)
	for _, w := range e.mu.logs[e.splits[key%tablePartitions]] {
		if w.key == key && w.offset < upTo && w.value != malformed {
			value = w.value
		}
	}
	return value
}

// values are those that a key had while the table was read from one offset to another.
func (e *enrichWorld) values(key int, from, to int64) []int64 {
	out := []int64{e.valueAt(key, from)}
	for _, w := range e.mu.logs[e.splits[key%tablePartitions]] {
		if w.key == key && w.offset >= from && w.offset < to && w.value != malformed {
			out = append(out, w.value)
		}
	}
	return out
}

func (e *enrichWorld) judge() {
	e.t.Helper()
	all, objects := e.history()
	got := e.came()
	for n, at := range e.mu.sent {
		rows := got[n]
		if len(rows) == 0 {
			e.t.Errorf("record %d is lost", n)
			continue
		}
		e.doubled += len(rows) - 1
		from, to := e.around(all, at)
		if from > to {
			e.t.Errorf("record %d came when the table was read up to %d only, and it ended at %d when the process began", n, to, from)
		}
		allowed := []int64{takesOut}
		if at.key < tableKeys {
			allowed = e.values(at.key, from, to)
		}
		for _, r := range rows {
			if r.K != at.key || !slices.Contains(allowed, r.value()) {
				e.t.Errorf("record %d: got key %d with %d, want key %d with one of %d", n, r.K, r.value(), at.key, allowed)
			}
		}
	}
	if len(got) != len(e.mu.sent) {
		e.t.Errorf("%d numbers came out, %d were sent", len(got), len(e.mu.sent))
	}
	e.judgeTables(all, objects)
	e.judgeBase(objects)
	e.judgeCounts(all[len(all)-1].at)
}

// around tells between which offsets the table's split of a record's key was read when the record came. What at-least-once has
// committed may be of a run whose checkpoint was never published: then it is known only where the table ended at the first start.
func (e *enrichWorld) around(all []checkpointed, at place) (from, to int64) {
	split := e.splits[at.key%tablePartitions]
	if e.delivery == config.AtLeastOnce {
		return e.mu.boots["process 0"][split], e.ends()[split]
	}
	for i, c := range all {
		if c.at[at.split] <= at.offset {
			continue
		}
		if i > 0 {
			from = all[i-1].at[split]
		}
		boot, known := e.mu.boots[c.who]
		if !known {
			e.t.Fatalf("checkpoint %d is of no process: %q", c.seq, c.who)
		}
		return max(from, boot[split]), c.at[split]
	}
	e.t.Errorf("no checkpoint has %+v", at)
	return 0, 0
}

// judgeTables follows the deltas of all checkpoints and compares the table that each holds with what its positions say.
func (e *enrichWorld) judgeTables(all []checkpointed, objects map[string][]byte) {
	e.t.Helper()
	table := map[string][]byte{} // as it is stored
	seq := uint64(0)
	for _, c := range all {
		if c.state == nil {
			continue
		}
		stored, err := pipeline.ReadState(c.state)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, ref := range stored.State.Deltas {
			if ref.Seq <= seq {
				continue
			}
			if ref.Seq != seq+1 {
				e.t.Fatalf("checkpoint %d: delta %d follows %d", c.seq, ref.Seq, seq)
			}
			seq = ref.Seq
			delta, err := state.DecodeDelta(objects[checkpoint.ObjectName("p", ref.Object)])
			if err != nil {
				e.t.Fatalf("checkpoint %d: %s: %v", c.seq, ref.Object, err)
			}
			apply(table, delta)
		}
		if seq != stored.State.Seq {
			e.t.Fatalf("checkpoint %d stands at delta %d, its deltas lead to %d", c.seq, stored.State.Seq, seq)
		}
		e.judgeTable(c, table)
	}
}

func apply(table map[string][]byte, delta state.Delta) {
	for _, r := range delta.Drops {
		maps.DeleteFunc(table, func(key string, _ []byte) bool { return key >= string(r.From) && key < string(r.To) })
	}
	for _, op := range delta.Ops {
		if op.Delete {
			delete(table, string(op.Key))
			continue
		}
		table[string(op.Key)] = op.Value
	}
}

// judgeTable compares the table of one checkpoint. A key is passed over while the newest row of what compaction left of it is not read:
// rows before that one may be gone.
func (e *enrichWorld) judgeTable(c checkpointed, table map[string][]byte) {
	e.t.Helper()
	number := record.Type{Kind: record.Int64}
	got := map[int]int64{}
	for key, value := range table {
		parts, err := state.SplitKey([]byte(key))
		if err != nil {
			e.t.Fatal(err)
		}
		k, v := record.NewColumn(number), record.NewColumn(number)
		if err := state.ReadKey(parts.User, &k); err != nil {
			e.t.Fatal(err)
		}
		if err := (state.Tuple{Types: []record.Type{number}}).ReadRow(value[1:], &v); err != nil { // behind the head of a value without ttl
			e.t.Fatal(err)
		}
		got[int(k.Int(0))] = v.Int(0)
	}
	known := []int{firstKeys, firstKeys + 1}
	for key := range tableKeys {
		known = append(known, key)
	}
	for _, key := range known {
		split := e.splits[key%tablePartitions]
		upTo := c.at[split]
		value, there := got[key]
		if !there {
			value = takesOut
		}
		if want := e.valueAt(key, upTo); value != want && !e.goneBy(c.time, split, key, upTo) {
			e.t.Errorf("checkpoint %d: the table read up to %d of %s has %d for key %d, want %d", c.seq, upTo, split, value, key, want)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		e.t.Errorf("checkpoint %d: the table has keys that it never had: %d", c.seq, got)
	}
}

// goneBy tells whether compaction may have taken rows of a key away that stood before an offset.
func (e *enrichWorld) goneBy(now int64, split string, key int, upTo int64) bool {
	for _, c := range e.compacted {
		if c.at > now {
			continue
		}
		if slices.ContainsFunc(e.mu.logs[split], func(w write) bool { return w.key == key && w.offset >= upTo && w.offset < c.upTo[split] }) {
			return true
		}
	}
	return false
}

// judgeBase restores the newest checkpoint from its base and the deltas since, and compares it with the deltas alone.
func (e *enrichWorld) judgeBase(objects map[string][]byte) {
	e.t.Helper()
	m := e.newest()
	st, err := inspect.OpenState(context.Background(), m.State(), inspect.Options{Objects: archived(objects), Dir: e.dir})
	if err != nil {
		e.t.Fatal(err)
	}
	table := map[string][]byte{}
	err = st.Stored(inspect.Filter{}, func(_ *inspect.Entry, key, value []byte) error {
		table[string(key)] = bytes.Clone(value)
		return nil
	})
	if err = cmp.Or(err, st.Close()); err != nil {
		e.t.Fatal(err)
	}
	c := checkpointed{at: ends{}, time: m.Time}
	for _, p := range m.Positions() {
		c.at[p.Split] = int64(p.Offset)
	}
	e.judgeTable(c, table)
}

// archived reads objects of keyed state.
type archived map[string][]byte

func (a archived) Get(_ context.Context, name string) ([]byte, error) {
	return a[checkpoint.ObjectName("p", name)], nil
}

func (a archived) Put(context.Context, string, []byte) error { panic("nothing is stored") }

// judgeCounts compares counters with what was read: rows of the table are absorbed by decoding, what can't be decoded and what finds
// nothing is a dead letter.
func (e *enrichWorld) judgeCounts(at ends) {
	e.t.Helper()
	var rows, bad int64
	for _, split := range e.splits {
		for _, w := range e.mu.logs[split] {
			switch {
			case w.offset >= at[split]:
			case w.value == malformed:
				bad++
			default:
				rows++
			}
		}
	}
	c := e.newest().Counters
	stages := map[string]checkpoint.StageCount{}
	for _, s := range c.Stages {
		stages[s.Stage] = s
	}
	if got := stages["decode"].Absorbed; got > rows || got < rows && len(e.compacted) == 0 {
		e.t.Errorf("counters: %d rows of the table, want %d (%d compactions)", got, rows, len(e.compacted))
	}
	if got := stages["decode"].Refused; got != bad {
		e.t.Errorf("counters: %d rows could not be decoded, want %d", got, bad)
	}
	if got := stages["step:users"].In; got != records {
		e.t.Errorf("counters: the step took %d records, want %d", got, records)
	}
	letters := int64(len(e.readLetters()))
	if got := stages["step:users"].Refused; c.DeadLetters != got+bad || letters < c.DeadLetters || letters > c.DeadLetters && e.delivery == config.ExactlyOnce {
		e.t.Errorf("counters: %d dead letters, of them %d found nothing and %d are malformed; %d came", c.DeadLetters, got, bad, letters)
	}
}
