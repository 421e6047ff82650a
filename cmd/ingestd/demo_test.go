package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/plugins"
)

// The demo, cut short: both deliveries run through kills with child processes, everything is counted, and nothing is left behind.
// So few kills may miss the moment that doubles rows; then the demo must say that it proved nothing.
func TestDemo_showsExactlyOnceUnderKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes for some seconds")
	}
	t.Setenv(asDaemon, "1")
	t.Setenv("TMPDIR", t.TempDir())
	h := newHome(t)
	r := h.run("demo", "--kills", "3", "--records", "2000")
	if r.code != 0 && !strings.Contains(r.err, "at-least-once showed no duplicate: the kills missed the moment, so the zeros prove nothing") {
		t.Fatalf("got exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if strings.Contains(r.err, "exactly-once") {
		t.Errorf("got\n%s", r.err)
	}
	for line := range strings.SplitSeq(r.out, "\n") {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "exactly-once" || strings.Contains(line, "kill") {
			continue
		}
		produced, err := strconv.Atoi(f[1])
		if err != nil || produced < 2000 || f[2] != f[1] || f[3] != "0" || f[4] != "0" || f[5] != "0" || f[6] != "6" {
			t.Errorf("got %q, want every record produced in the sink once, after 6 recoveries", line)
		}
		left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "ingestd-demo-*"))
		if err != nil || r.code == 0 && len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		return
	}
	t.Errorf("there is no table:\n%s", r.out)
}

// The broker of the demo ends with the process that started it, also when that is killed: its standard input closes.
func TestDemo_brokerEndsWithItsParent(t *testing.T) {
	in, parent := io.Pipe()
	printed, out := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- cli.Execute(context.Background(), plugins.All(), cli.Process{Args: []string{"demo", "broker"}, In: in, Out: out, Err: io.Discard})
		out.Close()
	}()
	buf := make([]byte, 100)
	n, err := printed.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), ":") {
		t.Fatalf("got %q, %v, want an address", buf[:n], err)
	}
	parent.Close()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("it runs on")
	}
}
