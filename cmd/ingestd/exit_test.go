package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ingestd/ingestd/cli"
)

// 0: a bounded run does everything that was asked for, and a second one has nothing left to do.
func TestExit_done(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	h.numbers("a.ndjson", 100)
	h.run("run", "-c", "my.toml").want(t, 0)
	h.run("run", "-c", "my.toml").want(t, 0)
	if n := len(h.rows("out")); n != 100 {
		t.Errorf("got %d rows, want 100", n)
	}
	h.run("version").want(t, 0, "ingestd ")
	h.run("version", "--build-info").want(t, 0, "mod\tgithub.com/ingestd/ingestd")
	h.run().want(t, 0, "ingestd validate -c my.toml")
}

// The log is for programs unless it goes to a terminal or the config says otherwise, and holds nothing below its level.
func TestLog_isJSONUnlessATerminal(t *testing.T) {
	h := newHome(t)
	h.numbers("a.ndjson", 1)
	h.write("my.toml", strings.Replace(flow(letters), `log = { format = "text" }`, "", 1))
	r := h.run("run", "-c", "my.toml")
	r.want(t, 0, `"msg":"pipeline ends"`)
	for line := range strings.Lines(r.err) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	h.write("my.toml", strings.Replace(flow(letters), `format = "text"`, `level = "error"`, 1))
	if r := h.run("run", "-c", "my.toml"); r.err != "" {
		t.Errorf("got %q, want nothing below error", r.err)
	}
}

// 1: what fails and may pass, and what is asked for and not there.
func TestExit_failed(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 0, "no checkpoint yet")
	h.run("checkpoint", "show", "p", "-c", "my.toml").want(t, 1, "no such entry; ingestd checkpoint list p -c my.toml")
	h.run("offsets", "show", "p", "-c", "my.toml").want(t, 1, "no checkpoint yet")
	h.run("offsets", "set", "p", "a=1", "-c", "my.toml").want(t, 1, "no checkpoint yet: set source.start instead")
	full := cli.Process{Args: []string{"version"}, Out: brokenWriter{}, Err: &strings.Builder{}}
	if code := cli.Execute(t.Context(), testPlugins(), full); code != 1 {
		t.Errorf("output that can't be written: got exit code %d, want 1", code)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fs.ErrClosed }

// 2: the command line is wrong, which is said together with where to look.
func TestExit_usage(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	for _, c := range []struct{ args, text string }{
		{"frobnicate", `unknown command "frobnicate"`},
		{"checkpoint frobnicate", `unknown command "frobnicate" for "ingestd checkpoint"`},
		{"offsets frobnicate", `unknown command "frobnicate" for "ingestd offsets"`},
		{"run --frobnicate", "unknown flag: --frobnicate"},
		{"run extra", `"extra"`},
		{"checkpoint list", "accepts 1 arg"},
		{"offsets set p", "requires at least 2 arg"},
	} {
		h.run(strings.Fields(c.args)...).want(t, 2, c.text, "next: ingestd --help")
	}
	for _, c := range []struct{ args, text string }{
		{"validate -c my.toml --format xml", `--format is "xml", want text or json`},
		{"checkpoint list q -c my.toml", `my.toml has no pipeline "q"; it has ["p"]`},
		{"checkpoint show p first -c my.toml", `"first" is no log number`},
		{"offsets set p a -c my.toml", `"a": want SPLIT=OFFSET, as in orders/3=1200`},
		{"offsets set p a=-1 -c my.toml", `"a=-1": the offset must be a number from 0 on, or forget`},
		{"offsets set p a=1 a=2 -c my.toml", `the split a is there twice`},
	} {
		h.run(strings.Fields(c.args)...).want(t, 2, c.text)
	}
}

// 3: the config, or what it names, is wrong.
func TestExit_config(t *testing.T) {
	h := newHome(t)
	h.numbers("a.ndjson", 1)
	h.run("run", "-c", "none.toml").want(t, 3, "none.toml")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct{ config, text string }{
		"an unknown key":       {flow("intervall = 1\n"), "my.toml:"},
		"a port that is taken": {strings.Replace(flow(""), `listen = ""`, fmt.Sprintf("listen = %q", taken.Addr()), 1), "daemon.listen: listen tcp"},
		"too little memory":    {strings.Replace(flow(""), "256MiB", "1MiB", 1), "memory_limit is 1 MiB, but the pipelines need at least"},
		"a file for a folder":  {strings.Replace(flow(""), `"data"`, `"my.toml"`, 1), "my.toml"},
		"no input":             {strings.Replace(flow(""), "in/*", "none/*", 1), "none/*.ndjson"},
		"a step without its column": {flow(`[[pipeline.p.step]]
type = "filter"
where = "nn > 1"
`), "nn"},
	} {
		t.Run(name, func(t *testing.T) {
			h := home{t}
			h.write("my.toml", c.config)
			h.run("run", "-c", "my.toml").want(t, 3, c.text)
		})
	}
}

// 4: the delivery that is asked for can't hold; nothing is started.
func TestExit_guarantee(t *testing.T) {
	h := newHome(t)
	h.numbers("a.ndjson", 1)
	text := strings.Replace(flow(letters), `type = "file", path = "out", roll = { every_checkpoint = true }`, `type = "forgetful"`, 1)
	h.write("my.toml", text)
	why := "sink: can't tell whether a commit took effect, so a retry may double rows"
	h.run("run", "-c", "my.toml").want(t, 4, "exactly-once can't hold", why, "ingestd validate --connect -c my.toml")
	h.run("validate", "-c", "my.toml").want(t, 4, "✗ pipeline p: exactly-once can't hold", why)
	h.run("validate", "-c", "my.toml", "--connect").want(t, 4, "✗ pipeline p: exactly-once can't hold", why)
	if _, err := os.Stat("letters"); err == nil {
		t.Error("the pipeline was started")
	}
	h.write("my.toml", strings.Replace(text, "[pipeline.p]\n", "[pipeline.p]\ndelivery = \"at-least-once\"\n", 1))
	h.run("validate", "-c", "my.toml").want(t, 0, "✓ pipeline p: at-least-once")
	h.run("run", "-c", "my.toml").want(t, 0)
}

// 6: input that was not read yet is gone. The message has the commands that lead on, and they do.
func TestExit_lost(t *testing.T) {
	h := newHome(t)
	b := newBroker(t)
	h.write("my.toml", kafkaFlow(b.addr, letters))
	b.produce(100)
	first := h.start("my.toml")
	eventually(t, "100 rows", func() bool { return len(h.rows("out")) == 100 })
	first.signal(syscall.SIGTERM)
	if code := first.code(); code != 0 {
		t.Fatalf("got exit code %d:\n%s", code, first.out)
	}
	b.recreate()
	b.produce(10)
	for range 2 { // a restart does not go past it
		h.run("run", "-c", "my.toml").want(t, 6, "events", "recreated",
			"ingestd offsets show p -c my.toml", "ingestd offsets set p SPLIT=OFFSET --accept-loss --reason WHY -c my.toml")
	}
	h.run("offsets", "set", "p", "events/0=forget", "events/1=forget", "--accept-loss", "--reason", "made anew", "--yes", "-c", "my.toml").want(t, 0)
	second := h.start("my.toml")
	eventually(t, "10 rows more", func() bool { return len(h.rows("out")) == 110 })
	second.signal(syscall.SIGTERM)
	if code := second.code(); code != 0 {
		t.Fatalf("got exit code %d:\n%s", code, second.out)
	}
}

func TestExit_corrupt(t *testing.T) {
	h := newHome(t)
	h.write("my.toml", flow(letters))
	h.numbers("a.ndjson", 100)
	h.run("run", "-c", "my.toml").want(t, 0)
	entries, err := filepath.Glob("data/checkpoints/p/log/0/*")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no log entries: %v", err)
	}
	last := entries[len(entries)-1]
	data := []byte(h.read(last))
	data[len(data)/2] ^= 1
	if err := os.Chmod(last, 0o600); err != nil {
		t.Fatal(err)
	}
	h.write(last, string(data))
	for _, args := range []string{"run", "checkpoint list p", "offsets show p"} {
		h.run(append(strings.Fields(args), "-c", "my.toml")...).want(t, 6, filepath.Base(last))
	}
	h.run("checkpoint", "list", "p", "-c", "my.toml").want(t, 6, "unreadable: ", "claim") // the others are still shown
	h.run("checkpoint", "show", "p", "1", "-c", "my.toml").want(t, 0, "nonce")
	if string(data) != h.read(last) {
		t.Error("the evidence was changed")
	}
}

// 7: a rule of the config says stop.
func TestExit_rule(t *testing.T) {
	bad := func(h home) {
		h.numbers("a.ndjson", 10)
		h.write("in/b.ndjson", strings.Repeat("{\"n\":\"bad\"}\n", 10))
	}
	for _, c := range []struct {
		name, more, text string
	}{
		{"a refused record without dead letters", "", "10 records were refused and there is no dead-letter sink; the first: decode of split"},
		{"max_ratio", strings.Replace(letters, "}\n", ", max_ratio = 0.1, ratio_window = 10 }\n", 1), "max_ratio"},
		{"restart.limit", letters + "[[pipeline.p.step]]\ntype = \"panic\"\n", "restart.limit of 1 is reached: task 0 panics: out of luck"},
		{"three panics", letters + "[[pipeline.p.step]]\ntype = \"panic\"\n", "panic number 3 in 10m0s: task 0 panics: out of luck"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			bad(h)
			text := flow(c.more)
			if c.name == "restart.limit" {
				text = strings.Replace(text, "restart = {", "restart = { limit = 1,", 1)
			}
			h.write("my.toml", text)
			h.run("run", "-c", "my.toml").want(t, 7, c.text, "ingestd run -c my.toml")
		})
	}
}

// With several pipelines the highest code counts, once nothing runs any more; the others do their work to its end.
func TestExit_highestOfAll(t *testing.T) {
	h := newHome(t)
	h.numbers("a.ndjson", 100)
	second := strings.ReplaceAll(flow(""), "pipeline.p", "pipeline.q")
	second = strings.ReplaceAll(second[strings.Index(second, "[pipeline"):], "in/", "bad/")
	second = strings.ReplaceAll(second, `"out"`, `"out2"`)
	h.write("my.toml", flow(letters)+second)
	if err := os.Mkdir("bad", 0o750); err != nil {
		t.Fatal(err)
	}
	h.write("bad/a.ndjson", "nonsense\n")
	h.run("run", "-c", "my.toml").want(t, 7, `pipeline "q"`)
	if n := len(h.rows("out")); n != 100 {
		t.Errorf("the other pipeline wrote %d of 100 rows", n)
	}
}
