//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
)

// binaries builds the daemon once for each set of build tags.
var binaries = struct {
	sync.Mutex
	paths map[string]string
}{paths: map[string]string{}}

// daemonBinary returns the daemon built with tags.
func daemonBinary(t *testing.T, tags string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if path := binaries.paths[tags]; path != "" {
		return path
	}
	dir, err := os.MkdirTemp("", "ingestd-integration-") //nolint:usetesting // it outlives the test that builds first
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ingestd")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "github.com/ingestd/ingestd/cmd/ingestd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with -tags %s: %v\n%s", tags, err, out)
	}
	binaries.paths[tags] = path
	return path
}

// daemon is one process of the daemon.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan struct{}
	err    error
}

// startDaemon runs a binary with a config; faults are points to arm, "" for none.
func startDaemon(t *testing.T, path, config, faults string) *daemon {
	t.Helper()
	return startDaemonWith(t, path, faults, "run", "-c", config)
}

// startDaemonWith runs a binary with arguments.
func startDaemonWith(t *testing.T, path, faults string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, stderr: new(bytes.Buffer), done: make(chan struct{})}
	d.cmd = exec.Command(path, args...)
	d.cmd.Stderr = d.stderr
	d.cmd.Env = append(os.Environ(), "INGESTD_FAULTS="+faults)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// kill ends the process with SIGKILL, if it runs, and waits for it.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// exit waits for the process and returns its exit code, or -1 when a signal ended it.
func (d *daemon) exit(within time.Duration) int {
	d.t.Helper()
	select {
	case <-d.done:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		d.t.Fatalf("the daemon did not end within %s:\n%s", within, d.tail())
		return 0
	}
}

// diedAt waits until the process dies at a fault point. Any other end fails the test: a kill counts only at its point.
func (d *daemon) diedAt(point string, within time.Duration) {
	d.t.Helper()
	d.exit(within)
	status, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL || !strings.Contains(d.stderr.String(), "ingestd fault point "+point+" reached") {
		d.t.Fatalf("the daemon did not die at %s: %v\n%s", point, d.err, d.tail())
	}
}

// stopped waits until the process stands at a fault point, by SIGSTOP.
func (d *daemon) stopped(within time.Duration) {
	d.t.Helper()
	path := fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid)
	for deadline := time.Now().Add(within); time.Now().Before(deadline); waitABit() {
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), ") T ") {
			return
		}
	}
	d.t.Fatalf("the daemon did not stop within %s:\n%s", within, d.tail())
}

// tail is the end of the log. It is read only after the process ended, or for a failure.
func (d *daemon) tail() string {
	s := d.stderr.String()
	if len(s) > 4000 {
		s = "…" + s[len(s)-4000:]
	}
	return s
}

// newestManifest reads the newest checkpoint through the command line.
func newestManifest(t *testing.T, path, config, pipeline string) checkpoint.Manifest {
	t.Helper()
	out, err := exec.Command(path, "checkpoint", "show", pipeline, "-c", config).Output()
	if err != nil {
		t.Fatalf("checkpoint show: %v\n%s", err, out)
	}
	var m checkpoint.Manifest
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
