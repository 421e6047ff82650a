package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

// enriched is flow with a step that looks its numbers up in a table.
func enriched(source, more string) string {
	return flow(letters + fmt.Sprintf(`
[[pipeline.p.step]]
id = "names"
type = "enrich"
key = ["n"]
columns = { name = "name" }
%s
[pipeline.p.step.table]
source = { %s }
decode = { type = "json", columns = { id = "int64", name = "string" } }
key = ["id"]
`, more, source))
}

// A table from a file is there before the first record, and a run that has ended has nothing more to say.
func TestEnrich_fromAFile(t *testing.T) {
	h := newHome(t)
	h.write("names.ndjson", `{"id":0,"name":"zero"}`+"\n"+`{"id":1,"name":"old"}`+"\n"+`{"id":1,"name":"one"}`+"\n")
	h.numbers("a.ndjson", 3)
	h.write("my.toml", enriched(`type = "file", paths = ["names.ndjson"]`, ""))
	for range 2 {
		h.run("run", "-c", "my.toml").want(t, 0)
		want := []string{`{"n":0,"name":"zero"}`, `{"n":1,"name":"one"}`, `{"n":2,"name":null}`}
		if d := cmp.Diff(want, h.rows("out")); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
	}
	h.run("run", "-c", "my.toml", "--discard-state", "names").want(t, 3, "the table, which would stay empty", "a new id")
}

// A table from a compacted topic: the newest row of a key counts, a record without value takes its key out, an empty partition holds
// nothing up, and what finds nothing is a dead letter.
func TestEnrich_fromACompactedTopic(t *testing.T) {
	b := newBroker(t)
	var records []*kgo.Record
	for i := range 20 {
		records = append(records, &kgo.Record{Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, `{"id":%d,"name":"name %d"}`, i, i)})
	}
	records = append(records, &kgo.Record{Key: []byte("3")}, &kgo.Record{Key: []byte("five")})
	if err := b.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	h.numbers("a.ndjson", 5)
	h.write("my.toml", enriched(fmt.Sprintf(`type = "kafka", brokers = [%q], topics = ["events"]`, b.addr), `missing = "dead_letter"`))
	h.run("run", "-c", "my.toml").want(t, 0)
	want := []string{`{"n":0,"name":"name 0"}`, `{"n":1,"name":"name 1"}`, `{"n":2,"name":"name 2"}`, `{"n":4,"name":"name 4"}`}
	if d := cmp.Diff(want, h.rows("out")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := h.rows("letters"); len(got) != 2 {
		t.Errorf("got dead letters %q, want that of 3 and of the key that is no number", got)
	}
}

// What is wrong within a table's sections is reported at its place.
func TestEnrich_validateNamesThePlace(t *testing.T) {
	h := newHome(t)
	for source, want := range map[string]string{
		`type = "fil", paths = ["x"]`:             `pipeline.p.step[0].table.source.type: unknown source "fil"; there are "kafka", "file"`,
		`type = "file", paths = ["x"], speed = 1`: `pipeline.p.step[0].table.source.speed: unknown key`,
		`paths = ["x"]`:                           `pipeline.p.step[0].table.source.type: the key is missing`,
	} {
		h.write("my.toml", enriched(source, ""))
		h.run("validate", "-c", "my.toml").want(t, 3, "my.toml:24:", want)
	}
	h.write("my.toml", enriched(`type = "file", paths = ["x"]`, `missing = "drop"`))
	h.run("validate", "-c", "my.toml").want(t, 3, "missing: found \"drop\"")
}
