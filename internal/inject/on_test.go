//go:build faultpoints

package inject

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// passing in the environment makes the test binary pass points in place of testing: their names, and at the end it says so.
const passing = "INGESTD_TEST_POINTS"

func TestMain(m *testing.M) {
	names, ok := os.LookupEnv(passing)
	if !ok {
		os.Exit(m.Run())
	}
	for name := range strings.SplitSeq(names, ",") {
		fmt.Fprintln(os.Stdout, "before "+name)
		Point(name)
	}
	fmt.Fprintln(os.Stdout, "the end")
}

// pass runs a process that passes points with faults armed.
func pass(t *testing.T, faults, points string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INGESTD_FAULTS="+faults, passing+"="+points)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// A point kills its process when it is passed for the n-th time, and says so before; others do nothing.
func TestPoint_killsAtTheNthTime(t *testing.T) {
	for _, c := range []struct {
		faults, points string
		died           bool
		out            string
	}{
		{"", "a,b", false, "before a\nbefore b\nthe end\n"},
		{"a:kill", "b,a,b", true, "before b\nbefore a\ningestd fault point a reached\n"},
		{"a:kill:2", "a,b,a,a", true, "before a\nbefore b\nbefore a\ningestd fault point a reached\n"},
		{"a:kill:3", "a,b,a", false, "before a\nbefore b\nbefore a\nthe end\n"},
		{"a:kill:9,b:kill", "a,b", true, "before a\nbefore b\ningestd fault point b reached\n"},
		{"nonsense", "a", false, "before a\nthe end\n"},
	} {
		cmd, out := pass(t, c.faults, c.points)
		err := cmd.Wait()
		exit, failed := errors.AsType[*exec.ExitError](err)
		died := failed && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if died != c.died || out.String() != c.out {
			t.Errorf("%q: died %t (%v), printed %q; want %t, %q", c.faults, died, err, out, c.died, c.out)
		}
	}
}

// A stopped process goes on when it is told to.
func TestPoint_stopsUntilItIsContinued(t *testing.T) {
	cmd, out := pass(t, "a:stop", "a,b")
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("got status %v, %v, want stopped", status, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if want := "before a\ningestd fault point a reached\nbefore b\nthe end\n"; err != nil || out.String() != want {
			t.Errorf("got %v, %q, want %q", err, out, want)
		}
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill() // it is stopped
		t.Error("it does not go on")
	}
}
