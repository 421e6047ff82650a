package sinktest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// world is everything outside the sink: the source, the commit log, the staging folder, the target, and what must be in it.
//
// The source's records are the numbers from 0; the position of a manifest is the first number that is not in it. A run begins
// at the position of the newest manifest, as after a real crash, so the same record is written again after an abort.
type world struct {
	s       *suite
	label   string // of the history, for messages
	trace   []string
	target  Target
	machine Machine // nil when the target can't lose power
	plan    plan
	store   segments

	storeID     string
	atLeastOnce bool
	adopts      bool // runs take the target over from another store
	letters     bool
	lease       record.Lease
	clock       int64
	newest      manifest
	runs        []*run // that may still act

	checkpointOf map[int64]cutID          // of decided rows
	decided      map[cutID]int            // committables of a decided checkpoint that are not known committed
	tried        map[unitID]int64         // rows of committables that were sent and are not known committed
	known        map[unitID]int64         // rows of committables that are known committed
	refused      map[int64]bool           // rows that went to the dead letters
	textOf       func(id int64) string    // the text of a record
	shape        []string                 // what was assembled, for the case on determinism
	onRejected   func(sink.RejectedRow)   // looks at a letter
	onCommitted  func(c sink.Committable) // looks at a committable that was committed
}

// cutID is a checkpoint's name, unitID a committable's.
type (
	cutID struct {
		lease      record.Lease
		checkpoint record.Checkpoint
	}
	unitID struct {
		cutID
		unit record.Unit
	}
)

func idOf(c *sink.Committable) unitID { return unitID{cutID{c.Lease, c.Checkpoint}, c.Unit} }

// manifest is what the suite's commit log keeps of the newest checkpoint.
type manifest struct {
	Lease      record.Lease
	Checkpoint record.Checkpoint
	Position   int64
	Pending    []sink.Committable
	State      []byte
}

// copyOf returns m as another process reads it from the store.
func (w *world) copyOf(m manifest) manifest {
	data, err := json.Marshal(m)
	if err != nil {
		w.fatalf("the manifest can't be encoded: %v", err)
	}
	var c manifest
	if err := json.Unmarshal(data, &c); err != nil {
		w.fatalf("the manifest can't be decoded: %v", err)
	}
	return c
}

func (s *suite) world(label string) *world {
	w := &world{
		s: s, label: label, target: s.h.Target(s.TB), storeID: "store-1", clock: 1_700_000_000_000,
		checkpointOf: map[int64]cutID{}, decided: map[cutID]int{}, tried: map[unitID]int64{}, known: map[unitID]int64{},
		refused: map[int64]bool{}, textOf: text,
	}
	if m, ok := w.target.(Machine); ok && s.h.LosesPower {
		w.machine = m
	}
	return w
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// fatalf ends the case with the rule, the history and what was found.
func (w *world) fatalf(format string, args ...any) {
	w.s.Helper()
	w.s.Fatalf("%s\nrule: %s\nhistory %s (%s):\n  %s", fmt.Sprintf(format, args...), w.s.rule, w.label, w.plan.describe(), strings.Join(w.trace, "\n  "))
}

// visible returns how often each row is in the target, and ends the case when one is there that was never sent or was altered.
func (w *world) visible() map[int64]int {
	w.s.Helper()
	rows, err := w.target.Rows(w.s.ctx)
	if err != nil {
		w.fatalf("the target's rows can't be read: %v", err)
	}
	counts := make(map[int64]int, len(rows))
	for _, r := range rows {
		if r.Text != w.textOf(r.ID) {
			w.fatalf("row %d is altered: got text %q, want %q", r.ID, r.Text, w.textOf(r.ID))
		}
		counts[r.ID]++
	}
	return counts
}

// check compares the target with what is known, at any moment.
func (w *world) check() {
	w.s.Helper()
	counts := w.visible()
	if w.atLeastOnce {
		w.checkNothingLost(counts)
		return
	}
	var total int64
	for id, n := range counts {
		total += int64(n)
		if n != 1 {
			w.fatalf("row %d is in the target %d times", id, n)
		}
		if id >= w.newest.Position {
			w.fatalf("row %d is visible, and no manifest that has it is published", id)
		}
		if w.refused[id] {
			w.fatalf("row %d is visible and was refused", id)
		}
	}
	var least, most int64
	for _, rows := range w.known {
		least += rows
	}
	most = least
	for _, rows := range w.tried {
		most += rows
	}
	if total < least || total > most {
		w.fatalf("%d rows are visible; committed are %d, and %d with what may have taken effect", total, least, most)
	}
	if w.s.h.Exact {
		w.checkNothingLost(counts)
	}
}

// checkNothingLost demands the rows of every checkpoint of which all committables are known committed.
func (w *world) checkNothingLost(counts map[int64]int) {
	w.s.Helper()
	if !w.s.h.Exact {
		return
	}
	for id, cut := range w.checkpointOf {
		if w.decided[cut] == 0 && counts[id] == 0 && !w.refused[id] {
			w.fatalf("row %d of checkpoint %d of lease %d is not there, and all of that checkpoint is committed", id, cut.checkpoint, cut.lease)
		}
	}
}

// checkEnd demands exactly the decided rows: everything was committed, and the last cut was final.
func (w *world) checkEnd() {
	w.s.Helper()
	w.check()
	counts := w.visible()
	for id := range w.newest.Position {
		if counts[id] == 0 && !w.refused[id] {
			w.fatalf("row %d is lost: its manifest was published, everything is committed, the last checkpoint was final", id)
		}
	}
}

// publish makes the next manifest the newest, unless a newer run took the log over.
func (w *world) publish(r *run, m manifest) bool {
	if r.lease != w.lease {
		w.logf("lease %d: publish of checkpoint %d refused, the log is taken over", r.lease, m.Checkpoint)
		return false
	}
	cut := cutID{m.Lease, m.Checkpoint}
	for id := w.newest.Position; id < m.Position; id++ {
		w.checkpointOf[id] = cut
	}
	for i := range m.Pending {
		if c := &m.Pending[i]; c.Lease == m.Lease && c.Checkpoint == m.Checkpoint {
			w.decided[cut]++
		}
	}
	w.collect(w.newest.Pending, m.Pending)
	w.newest = w.copyOf(m)
	w.logf("lease %d: published checkpoint %d, position %d, %d pending", r.lease, m.Checkpoint, m.Position, len(m.Pending))
	return true
}

// collect deletes the segments that the old manifest listed and the new one does not.
func (w *world) collect(before, after []sink.Committable) {
	var keep []string
	for i := range after {
		for _, s := range after[i].Segments {
			keep = append(keep, s.Name)
		}
	}
	for i := range before {
		for _, s := range before[i].Segments {
			if !slices.Contains(keep, s.Name) {
				w.store.remove(s.Name)
			}
		}
	}
}

// committed notes that a committable is known to have taken effect.
func (w *world) committed(c *sink.Committable) {
	id := idOf(c)
	delete(w.tried, id)
	if _, ok := w.known[id]; ok {
		return
	}
	w.known[id] = c.Rows
	if n := w.decided[id.cutID]; n > 0 {
		w.decided[id.cutID] = n - 1
	}
	if w.onCommitted != nil {
		w.onCommitted(*c)
	}
}

// crash ends a process. With power the whole machine goes down, and every process with it.
func (w *world) crash(r *run) {
	r.faults.kill()
	w.logf("lease %d: its process ended", r.lease)
	w.forget(r)
}

// losePower ends all processes and drops what is not durable.
func (w *world) losePower(seed uint64) {
	for _, r := range w.runs {
		r.faults.kill()
	}
	w.runs = nil
	w.machine.LosePower(seed)
	w.logf("the machine lost power, seed %d", seed)
}

func (w *world) forget(r *run) {
	w.runs = slices.DeleteFunc(w.runs, func(o *run) bool { return o == r })
}
