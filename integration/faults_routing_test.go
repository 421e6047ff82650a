//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/inject"
)

// routedSinks are a table that gets two of three shards and a folder that gets two of three, one of them in common, and a tenth of
// the rest. Rows with shard 0 that are not in that tenth are only in the table; none is nowhere but what the malformed ones are.
const routedSinks = `[[pipeline.load.sink]]
id = "warehouse"
type = "clickhouse"
addr = [%q]
database = "db"
table = %q
user = %q
password = %q
when = "shard < 2"

[[pipeline.load.sink]]
id = "archive"
type = "file"
path = %q
roll = { every_checkpoint = true }
when = "shard == 1 || _offset %% 10 == 0"
`

func inWarehouse(r row) bool { return r.shard < 2 }
func inArchive(r row) bool   { return r.shard == 1 || r.seq%10 == 0 }

// routedRig is a rig with several sinks.
type routedRig struct {
	*rig
	archive string
}

func newRoutedRig(t *testing.T, delivery string) *routedRig {
	t.Helper()
	r := &routedRig{rig: newRig(t, delivery, "faultpoints")}
	r.archive = filepath.Join(filepath.Dir(r.config), "archive")
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(data), "[pipeline.load.sink]")
	_, after, _ := strings.Cut(rest, "[pipeline.load.dead_letter]")
	// What the conditions read is declared, and so is never null; what only the table names may be missing in a record.
	before = strings.Replace(before, "type = \"json\"\n", "type = \"json\"\ncolumns = { seq = \"uint64\", shard = \"uint8\" }\n", 1)
	text := before + fmt.Sprintf(routedSinks, r.ch.addr, r.table, clickHouseUser, clickHousePassword, r.archive) + "\n[pipeline.load.dead_letter]" + after
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// wanted counts the records that a sink must have.
func (r *routedRig) wanted(wants func(row) bool) (n int64) {
	for p := range int32(loadPartitions) {
		for seq := range r.load.produced[p].Load() {
			if !malformed(seq) && wants(rowOf(p, seq)) {
				n++
			}
		}
	}
	return n
}

// judgeArchive compares every line of the folder's files with the record that must stand there.
func (r *routedRig) judgeArchive() verdict {
	r.t.Helper()
	var v verdict
	seen := map[[2]int64]int{}
	files, err := filepath.Glob(filepath.Join(r.archive, "*.ndjson"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			v.rows++
			r.judgeLine(line, seen, &v)
		}
	}
	v.missing = r.wanted(inArchive) - int64(len(seen))
	return v
}

func (r *routedRig) judgeLine(line string, seen map[[2]int64]int, v *verdict) {
	r.t.Helper()
	var l struct {
		Seq       uint64   `json:"seq"`
		Shard     uint8    `json:"shard"`
		Name      string   `json:"name"`
		Text      string   `json:"text"`
		Tags      []string `json:"tags"`
		Note      *string  `json:"note"`
		Partition int32    `json:"_partition"`
		Offset    int64    `json:"_offset"`
	}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		r.t.Fatalf("line %q of the archive: %v", line, err)
	}
	want := rowOf(l.Partition, l.Offset)
	if malformed(l.Offset) || !inArchive(want) || l.Offset >= r.load.produced[l.Partition].Load() {
		v.foreign++
		return
	}
	got := row{seq: l.Seq, shard: l.Shard, amount: want.amount, name: l.Name, text: l.Text, at: want.at, tags: l.Tags, note: l.Note}
	if !got.equal(want) {
		v.altered++
	}
	at := [2]int64{int64(l.Partition), l.Offset}
	if seen[at]++; seen[at] > 1 {
		v.doubled++
	}
}

// judgeWarehouse compares the table; what is for the archive only must not be in it.
func (r *routedRig) judgeWarehouse() verdict {
	r.t.Helper()
	v := r.load.judge(r.t, r.conn, r.table)
	v.missing -= r.wanted(func(w row) bool { return !inWarehouse(w) })
	var strangers uint64
	if err := r.conn.QueryRow(context.Background(), fmt.Sprintf("SELECT count() FROM db.%s WHERE shard >= 2", r.table)).Scan(&strangers); err != nil {
		r.t.Fatal(err)
	}
	v.foreign += int64(strangers)
	return v
}

// finish ends the load, lets the daemon take everything, and judges both sinks, the dead letters and the accounts.
func (r *routedRig) finish() (warehouse, archive verdict) {
	r.t.Helper()
	total := r.load.end(r.t)
	d := startDaemon(r.t, r.path, r.config, "")
	r.drained(d, total)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM, want 0:\n%s", code, d.tail())
	}
	warehouse, archive = r.judgeWarehouse(), r.judgeArchive()
	r.t.Logf("%s: %d kills: warehouse: %s; archive: %s", r.delivery, r.kills, warehouse, archive)
	r.judgeLetters()
	r.judgeAccounts(total)
	return warehouse, archive
}

// judgeAccounts holds the counters of each stage to the records.
func (r *routedRig) judgeAccounts(total int64) {
	r.t.Helper()
	letters := r.load.letters()
	decoded := total - letters
	some := r.wanted(func(w row) bool { return inWarehouse(w) || inArchive(w) })
	left, right := r.wanted(inWarehouse), r.wanted(inArchive)
	want := []checkpoint.StageCount{
		{Stage: "source", In: total, Passed: total},
		{Stage: "decode", In: total, Passed: decoded, Refused: letters},
		{Stage: "route", In: decoded, Passed: some, Filtered: decoded - some},
		{Stage: "sink:warehouse", In: some, Passed: left, Filtered: some - left},
		{Stage: "sink:archive", In: some, Passed: right, Filtered: some - right},
	}
	m := newestManifest(r.t, r.path, r.config, "load")
	for i, s := range m.Counters.Stages {
		if i >= len(want) || s != want[i] {
			r.t.Errorf("got the account %+v, want %+v", s, want[min(i, len(want)-1)])
		}
	}
	for _, s := range m.Sinks {
		if s.Unfinished() {
			r.t.Errorf("the closing manifest leaves %d committables and %d rows of %s", len(s.Pending), s.Held, s.Name)
		}
	}
}

func TestFaultsRouting_killsLoseAndDoubleNothingInAnySink(t *testing.T) {
	r := newRoutedRig(t, "exactly-once")
	for _, p := range points() {
		if n := r.killAt(p.name, p.nth); n != 0 {
			t.Errorf("a kill at %s doubled %d rows", p.name, n)
		}
	}
	r.randomKills(6, rand.New(rand.NewPCG(5, 6)))
	r.killServer() // one sink stands still, and with it the other
	for name, v := range both(r.finish()) {
		if v.missing+v.doubled+v.foreign+v.altered != 0 {
			t.Errorf("exactly-once: %s: %s", name, v)
		}
	}
}

// The control arm: at-least-once loses nothing in either sink, and kills between the two must double rows, else they missed.
func TestFaultsRouting_killsLoseNothingAtLeastOnce(t *testing.T) {
	r := newRoutedRig(t, "at-least-once")
	for _, p := range points() {
		if p.name != inject.DuringRecovery { // nothing is pending with at-least-once
			r.killAt(p.name, p.nth)
		}
	}
	r.randomKills(4, rand.New(rand.NewPCG(7, 8)))
	doubled := int64(0)
	for name, v := range both(r.finish()) {
		if v.missing+v.foreign+v.altered != 0 {
			t.Errorf("at-least-once: %s: %s", name, v)
		}
		doubled += v.doubled
	}
	if doubled == 0 {
		t.Error("no kill doubled anything: they prove nothing")
	}
}

func both(warehouse, archive verdict) map[string]verdict {
	return map[string]verdict{"warehouse": warehouse, "archive": archive}
}

// A table that is added to a pipeline with checkpoints gets what is read from the cut on, each row once, and what was there goes on;
// kills right behind the change do not matter.
func TestFaultsRouting_tableIsAddedToAPipelineThatRan(t *testing.T) {
	r := newRoutedRig(t, "exactly-once")
	whole, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(whole), "[[pipeline.load.sink]]\nid = \"warehouse\"")
	_, archive, _ := strings.Cut(rest, "[[pipeline.load.sink]]")
	declared := `columns = { seq = "uint64", shard = "uint8", name = "string", text = "string", tags = "array(string)", note = "nullable(string)" }` +
		"\n\n[[pipeline.load.step]]\ntype = \"set\"\ncolumns = { _partition = \"_partition\", _offset = \"_offset\" }"
	alone := strings.Replace(before, `columns = { seq = "uint64", shard = "uint8" }`, declared, 1) + "[[pipeline.load.sink]]" + archive
	if err := os.WriteFile(r.config, []byte(alone), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, r.path, r.config, "")
	for deadline := time.Now().Add(time.Minute); ; waitABit() {
		if files, err := filepath.Glob(filepath.Join(r.archive, "*.ndjson")); err != nil || len(files) > 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no rows in the archive:\n%s", d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, d.tail())
	}
	from := map[string]int64{}
	m := newestManifest(t, r.path, r.config, "load")
	for _, p := range m.Positions() {
		from[p.Split] = int64(p.Offset)
	}
	if err := os.WriteFile(r.config, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, point := range []string{inject.AfterPrepare, inject.AfterPublish, inject.BetweenSinks} {
		d := startDaemon(t, r.path, r.config, point+":kill:2")
		d.diedAt(point, time.Minute)
	}
	total := r.load.end(t)
	d = startDaemon(t, r.path, r.config, "")
	r.drained(d, total)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0:\n%s", code, d.tail())
	}
	v := r.load.judge(t, r.conn, r.table)
	skipped := int64(0)
	for p := range int32(loadPartitions) {
		at := from[fmt.Sprintf("%s/%d", r.load.topic, p)]
		for seq := range r.load.produced[p].Load() {
			if !malformed(seq) && (seq < at || !inWarehouse(rowOf(p, seq))) {
				skipped++
			}
		}
	}
	if a := r.judgeArchive(); v.missing != skipped || v.doubled+v.foreign+v.altered != 0 || a.missing+a.doubled+a.foreign+a.altered != 0 {
		t.Errorf("warehouse: %s, of which %d are not for it; archive: %s", v, skipped, a)
	}
}
