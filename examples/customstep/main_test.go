package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/cli"
)

// asDaemon in the environment makes the test binary the daemon.
const asDaemon = "CUSTOMSTEP_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(cli.Main(all()))
	}
	os.Exit(m.Run())
}

const (
	users  = 100
	orders = 2000 // of each
)

// home has the example's config with a folder of the test, and its input.
func home(t *testing.T, change func(config string) string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	config, err := os.ReadFile("customstep.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(config), "/tmp/customstep", dir)
	text = strings.Replace(text, "200ms", "10ms", 1)
	write(t, filepath.Join(dir, "my.toml"), change(text))
	var in strings.Builder
	for item := range users * orders {
		fmt.Fprintf(&in, "{\"user\":\"u%d\",\"item\":%d}\n", item%users, item)
	}
	write(t, filepath.Join(dir, "in", "a.ndjson"), in.String())
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// daemon is the command line of a daemon in a process of its own.
func daemon(t *testing.T, dir string) (cmd *exec.Cmd, out *bytes.Buffer) {
	t.Helper()
	cmd, out = exec.CommandContext(t.Context(), os.Args[0], "run", "-c", filepath.Join(dir, "my.toml")), &bytes.Buffer{}
	cmd.Env = append(os.Environ(), asDaemon+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// manifests counts the entries of the commit log.
func manifests(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "data", "checkpoints", "orders", "log", "0", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		return 0
	}
	var n int
	if _, err := fmt.Sscan(strings.TrimLeft(filepath.Base(names[len(names)-1]), "0"), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// killAfter starts the daemon and kills it when the commit log has grown by so many entries; false when it ended before.
func killAfter(t *testing.T, dir string, entries int) bool {
	t.Helper()
	before := manifests(t, dir)
	cmd, out := daemon(t, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for manifests(t, dir) < before+entries {
		select {
		case <-tick.C:
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			return false
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Logf("kill: %v", err) // it ended at this moment
	}
	<-ended
	return true
}

// Killed again and again in the middle, the daemon gives each user's orders the numbers 1, 2, 3 … in their order, each once.
func TestNumber_hasNoGapOverCrashes(t *testing.T) {
	dir := home(t, func(config string) string { return config })
	kills := 0
	for kills < 3 && killAfter(t, dir, 4) {
		kills++
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	cmd, out := daemon(t, dir)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	rows := 0
	seen := map[string][orders]bool{}
	for _, row := range read(t, filepath.Join(dir, "out")) {
		rows++
		if row.Nth != int64(row.Item)/users+1 || row.User != fmt.Sprintf("u%d", row.Item%users) {
			t.Fatalf("got %+v, want number %d", row, row.Item/users+1)
		}
		of := seen[row.User]
		of[row.Nth-1] = true
		seen[row.User] = of
	}
	for user, numbers := range seen {
		for i, there := range numbers {
			if !there {
				t.Errorf("%s has no number %d", user, i+1)
			}
		}
	}
	if rows != users*orders || len(seen) != users {
		t.Errorf("got %d rows of %d users, want %d of %d", rows, len(seen), users*orders, users)
	}
}

// row is what the daemon writes.
type row struct {
	User string `json:"user"`
	Item int    `json:"item"`
	Nth  int64  `json:"nth"`
}

func read(t *testing.T, folder string) []row {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var r row
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, r)
		}
		f.Close()
	}
	return rows
}

// What is wrong with the step's section is told with its place, as for the steps of ingestd itself.
func TestNumber_sectionsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(string) string
		want   string
	}{
		"the example":          {func(s string) string { return s }, "exactly-once"},
		"an unknown key":       {func(s string) string { return strings.Replace(s, "column = ", "colum = ", 1) }, "my.toml:21:1: pipeline.orders.step[0].colum: unknown key"},
		"a key that is not":    {func(s string) string { return strings.Replace(s, `key = ["user"]`, `key = ["usr"]`, 1) }, `key: there is no column "usr"`},
		"a column of the key":  {func(s string) string { return strings.Replace(s, `"nth"`, `"user"`, 1) }, `"user" is a part of the key`},
		"a column that is one": {func(s string) string { return strings.Replace(s, `"nth"`, `"item"`, 1) }, `there is a column "item" already`},
	} {
		dir := home(t, c.change)
		var out bytes.Buffer
		code := cli.Execute(t.Context(), all(), cli.Process{
			Args: []string{"validate", "-c", filepath.Join(dir, "my.toml")}, In: strings.NewReader(""), Out: &out, Err: &out,
		})
		if !strings.Contains(out.String(), c.want) || (code == 0) != (name == "the example") {
			t.Errorf("%s: got exit code %d, want %q in\n%s", name, code, c.want, &out)
		}
	}
}
