package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// routed is the config of flow with the sinks that are given in place of its own.
func routed(sinks string) string {
	text := strings.Replace(flow(letters), "sink = { type = \"file\", path = \"out\", roll = { every_checkpoint = true } }\n", "", 1)
	return strings.Replace(text, `columns = { n = "int64" }`, `columns = { n = "int64", country = "string" }`, 1) + sinks
}

// countries has two sinks, and rows that both want, that one wants, and that none does.
const countries = `
[[pipeline.p.sink]]
id = "german"
type = "file"
path = "german"
roll = { every_checkpoint = true }
when = 'country == "DE"'

[[pipeline.p.sink]]
id = "large"
type = "file"
path = "large"
roll = { every_checkpoint = true }
when = "n >= 90 && country != 'IT'"
`

// orders writes a source file of n orders from three countries, and one line that is none.
func (h home) orders(name string, n int) (german, large []string) {
	h.t.Helper()
	var b strings.Builder
	for i := range n {
		country := []string{"DE", "FR", "IT"}[i%3]
		line := fmt.Sprintf(`{"n":%d,"country":%q}`, i, country)
		b.WriteString(line + "\n")
		if country == "DE" {
			german = append(german, line)
		}
		if i >= 90 && country != "IT" {
			large = append(large, line)
		}
	}
	b.WriteString("no order\n")
	if err := os.MkdirAll("in", 0o750); err != nil {
		h.t.Fatal(err)
	}
	h.write(filepath.Join("in", name), b.String())
	slices.Sort(german)
	slices.Sort(large)
	return german, large
}

func (h home) wantRows(folder string, want []string) {
	h.t.Helper()
	if got := h.rows(folder); !slices.Equal(got, want) {
		h.t.Errorf("%s: got %d rows %q, want %d %q", folder, len(got), got, len(want), want)
	}
}

// Two file sinks with conditions and the dead letters, whole, through every verb that knows sinks.
func TestRouting_filesAndEveryVerb(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", routed(countries))
	german, large := h.orders("a.ndjson", 120)
	h.run("validate", "-c", "my.toml").want(t, 0,
		"✓ pipeline p: exactly-once: each record has its effect in each sink once", `german: exactly-once, for rows with country == "DE"`,
		"large: exactly-once, for rows with n >= 90", "dead_letter: exactly-once, for what any of the others refuses")
	h.run("validate", "-c", "my.toml", "--connect").want(t, 0, "note: german: the folder german is not there", "note: large: the folder large is not there")
	h.run("run", "-c", "my.toml").want(t, 0)
	h.wantRows("german", german)
	h.wantRows("large", large)
	if got := h.rows("letters"); len(got) != 1 || !strings.Contains(got[0], `"value":"no order"`) || !strings.Contains(got[0], `"stage":"decode"`) {
		t.Errorf("got the dead letters %q", got)
	}
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "checkpoint")
	h.run("checkpoint", "show", "p", "-c", "my.toml").want(t, 0, `"name": "german"`, `"name": "large"`, `"stage": "route"`, `"stage": "sink:large"`)
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 0, "SINK", "\ngerman  ", "\nlarge  ", "\ndead_letter  ")
	h.run("savepoint", "create", "p", "before", "-c", "my.toml").want(t, 0)
	h.run("savepoint", "show", "p", "before", "-c", "my.toml").want(t, 0, "sink        german: committed up to", "sink        large: committed up to")
	h.run("run", "-c", "my.toml").want(t, 0) // again: nothing is left
	h.wantRows("german", german)
	h.wantRows("large", large)
	h.run("checkpoint", "drop", "p", "large", "-c", "my.toml").want(t, 2, `nothing is pending for "large"`)
}

// What is wrong with a condition is said at its place.
func TestRouting_conditionsAreValidatedAtTheirPlace(t *testing.T) {
	h := newHome(t)
	for when, want := range map[string]string{
		"country ==": `pipeline.p.sink[0].when: expression "country =="`,
		"land == 1":  "pipeline.p.sink[0].when: expression \"land == 1\" at line 1, column 1: unknown name land; known are n, country",
		"n + 1":      `pipeline.p.sink[0].when: expression "n + 1": true or false is expected`,
	} {
		h.write("my.toml", routed(strings.Replace(countries, `'country == "DE"'`, "'"+when+"'", 1)))
		h.run("validate", "-c", "my.toml").want(t, 3, "my.toml:21:1: "+want)
	}
	h.write("my.toml", routed(strings.Replace(countries, `id = "german"`, "", 1)))
	h.run("validate", "-c", "my.toml").want(t, 3, "my.toml:16:14: pipeline.p.sink[0].id: the key is missing", `called "sink": with that id it goes on where it was`)
}

// A pipeline of one sink becomes one of two: the first keeps its ledger by the id "sink"; under another id it is a new sink.
func TestRouting_oneSinkBecomesTwo(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	h.write("my.toml", strings.Replace(kafkaFlow(b.addr, letters), `path = "out"`, `path = "kept"`, 1))
	b.produce(5)
	h.whileRunning("5 rows", func() bool { return len(h.rows("kept")) == 5 })
	both := strings.Replace(keptAndSlow, `age = "1h"`, "every_checkpoint = true", 1)
	h.write("my.toml", routedTopic(b, strings.Replace(both, `id = "kept"`, `id = "sink"`, 1)))
	b.produce(100)
	h.run("validate", "-c", "my.toml", "--connect").want(t, 0, "note: slow: the sink is new: it begins at checkpoint")
	h.whileRunning("105 rows", func() bool { return len(h.rows("kept")) == 105 && len(h.rows("slow")) == 5 })
	if got := h.rows("slow"); !slices.Equal(got, []string{`{"n":5}`, `{"n":6}`, `{"n":7}`, `{"n":8}`, `{"n":9}`}) {
		t.Errorf("the new sink got %q, want what was read since it came", got)
	}
	if got := h.rows("kept"); len(slices.Compact(got)) != 105 {
		t.Errorf("rows are doubled: %q", got)
	}
	h.write("my.toml", routedTopic(b, both))
	h.run("validate", "-c", "my.toml", "--connect").want(t, 0, "note: kept: the sink is new", "note: sink: the sink is not in the config any more; all that was decided for it is committed")
}

// keptAndSlow has a sink that commits each checkpoint, and one that holds its rows for an hour.
const keptAndSlow = `
[[pipeline.p.sink]]
id = "kept"
type = "file"
path = "kept"
roll = { every_checkpoint = true }

[[pipeline.p.sink]]
id = "slow"
type = "file"
path = "slow"
roll = { age = "1h" }
when = "n < 10"
`

// routedTopic is the config of kafkaFlow with these sinks.
func routedTopic(b *broker, sinks string) string {
	return strings.Replace(kafkaFlow(b.addr, letters), "sink = { type = \"file\", path = \"out\", roll = { every_checkpoint = true } }\n", "", 1) + sinks
}

// A sink that holds rows back may not leave the config before they are committed; a graceful stop commits them, or a person gives
// them up.
func TestRouting_sinkWithRowsLeftMayNotGo(t *testing.T) {
	for _, way := range []string{"stop", "drop"} {
		t.Run(way, func(t *testing.T) {
			h, b := newHome(t), newBroker(t)
			h.write("my.toml", routedTopic(b, keptAndSlow))
			only, _, _ := strings.Cut(routedTopic(b, keptAndSlow), "[[pipeline.p.sink]]\nid = \"slow\"")
			h.write("only.toml", only)
			b.produce(100)
			d := h.start("my.toml")
			eventually(t, "100 rows", func() bool { return len(h.rows("kept")) == 100 })
			d.signal(syscall.SIGKILL)
			d.code()
			h.run("validate", "-c", "only.toml", "--connect").want(t, 3, `sink "slow" is not in the config any more, and 10 rows that are decided for it`)
			h.run("run", "-c", "only.toml").want(t, 3, `sink "slow" is not in the config any more`, "put it back and stop the pipeline by SIGTERM", "ingestd checkpoint drop PIPELINE slow")
			if way == "drop" {
				h.run("checkpoint", "drop", "p", "slow", "-c", "only.toml").want(t, 0, "- slow: 10 rows that it held back", "nothing was changed")
				h.run("checkpoint", "drop", "p", "slow", "--yes", "--accept-loss", "--reason", "not needed", "-c", "only.toml").want(t, 0, "published as log number")
			} else {
				b.produce(1)
				h.whileRunning("101 rows", func() bool { return len(h.rows("kept")) == 101 })
				if got := len(h.rows("slow")); got != 10 {
					t.Errorf("%d rows after a graceful stop, want 10", got)
				}
			}
			h.run("validate", "-c", "only.toml", "--connect").want(t, 0, "note: slow: the sink is not in the config any more")
			b.produce(1)
			h.write("my.toml", only)
			h.whileRunning("all rows", func() bool { return len(h.rows("kept")) == b.n })
		})
	}
}

// Metrics and the list of checkpoints tell several sinks apart.
func TestRouting_metricsNameTheSinks(t *testing.T) {
	h, b := newHome(t), newBroker(t)
	addr := freePort(t)
	h.write("my.toml", listening(routedTopic(b, strings.Replace(keptAndSlow, `age = "1h"`, "every_checkpoint = true", 1)), addr))
	b.produce(100)
	d := h.start("my.toml")
	eventually(t, "10 rows", func() bool { return len(h.rows("slow")) == 10 })
	for _, want := range []string{
		`ingestd_sink_prepared_rows_total{pipeline="p",sink="slow"} 10`, `ingestd_checkpoint_pending{pipeline="p",sink="kept"} `,
		`ingestd_sink_commit_outcomes_total{outcome="committed",pipeline="p",sink="slow"} `,
		`stage_records_total{pipeline="p",result="passed",stage="route"} 100`, `stage_records_total{pipeline="p",result="filtered",stage="sink:slow"} 90`,
	} {
		eventually(t, want, func() bool { // a row may be seen a moment before its commit is counted
			_, page := get(t, addr, "/metrics")
			return strings.Contains(page, want)
		})
	}
	d.signal(syscall.SIGTERM)
	d.code()
}
