package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ingestd/ingestd/config"
)

// worker is the daemon as a child process of the demo.
type worker struct {
	self     string
	dir      string
	broker   string
	delivery config.Delivery
	cmd      *exec.Cmd
	log      *os.File
	done     chan struct{} // closed when the process has ended, with err
	err      error
}

func (w *worker) target() string { return filepath.Join(w.dir, "rows") }

const demoConfig = `[daemon]
data_dir = %q
listen = ""

[pipeline.demo]
delivery = %q
tasks = 2

[pipeline.demo.source]
type = "kafka"
brokers = [%q]
topics = ["events"]

[pipeline.demo.decode]
type = "json"

[pipeline.demo.decode.columns]
number = "int64"
text = "string"
sum = "uint32"

[pipeline.demo.sink]
type = "file"
path = %q
roll = { every_checkpoint = true }

[pipeline.demo.checkpoint]
interval = "50ms"
`

func (w *worker) configFile() string { return filepath.Join(w.dir, "ingestd.toml") }

func (w *worker) configure() error {
	if err := os.MkdirAll(w.target(), 0o750); err != nil {
		return err
	}
	text := fmt.Sprintf(demoConfig, filepath.Join(w.dir, "data"), w.delivery, w.broker, w.target())
	return os.WriteFile(w.configFile(), []byte(text), 0o600)
}

func (w *worker) start(ctx context.Context) error {
	var err error
	if w.log, err = os.OpenFile(filepath.Join(w.dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	w.cmd = exec.CommandContext(ctx, w.self, "run", "-c", w.configFile()) //nolint:gosec // it is this very program
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	if err := w.cmd.Start(); err != nil {
		return err
	}
	w.done = make(chan struct{})
	go func() {
		w.err = w.cmd.Wait()
		close(w.done)
	}()
	return nil
}

// kill ends the daemon with SIGKILL and waits for it. It may be called when none runs.
func (w *worker) kill() {
	if w.cmd == nil {
		return
	}
	_ = w.cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-w.done
	_ = w.log.Close() //nolint:errcheck // a log
	w.cmd = nil
}

// strike waits until the daemon makes progress after its start, then kills it: aimed, on the first new row file after a few
// more checkpoints, that is between a commit and what follows it; or at a random moment. It returns the time to the first
// new rows.
func (w *worker) strike(ctx context.Context, aimed bool, random *rand.Rand) (time.Duration, error) { //nolint:revive // flag-parameter: the two kinds differ in one wait
	began := time.Now()
	seen := w.files()
	if err := w.waitFor(ctx, func() bool { return w.files() > seen }); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if aimed {
		for range 1 + random.IntN(3) {
			seen = w.files()
			if err := w.waitFor(ctx, func() bool { return w.files() > seen }); err != nil {
				return 0, err
			}
		}
	} else if err := w.pause(ctx, time.Duration(random.Int64N(int64(250*time.Millisecond)))); err != nil {
		return 0, err
	}
	w.kill()
	return took, nil
}

// files counts the row files that are visible.
func (w *worker) files() int {
	n := 0
	_ = filepath.WalkDir(w.target(), func(path string, e fs.DirEntry, err error) error { //nolint:errcheck // a folder that changes is looked at again
		switch {
		case err != nil:
			return nil //nolint:nilerr // a folder that changes is looked at again
		case e.IsDir() && path != w.target() && strings.HasPrefix(e.Name(), "."), e.IsDir() && e.Name() == "_committed":
			return fs.SkipDir
		case !e.IsDir() && strings.Contains(e.Name(), ".ndjson"):
			n++
		}
		return nil
	})
	return n
}

// waitFor looks again and again, close enough together to hit the time between two file operations of the daemon.
func (w *worker) waitFor(ctx context.Context, is func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			return fmt.Errorf("the daemon made no progress in 30 s; its log is %s", w.log.Name())
		}
		select {
		case <-w.done:
			return fmt.Errorf("the daemon ended by itself: %w; its log is %s", w.err, w.log.Name())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Microsecond):
		}
	}
	return nil
}

func (w *worker) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain waits until every produced record is in the sink, then stops the daemon as systemd would.
func (w *worker) drain(ctx context.Context, produced int) error {
	deadline := time.Now().Add(time.Minute)
	for {
		var t tally
		t.produced = produced
		if err := t.count(w.target()); err != nil {
			return err
		}
		if t.lost == 0 || time.Now().After(deadline) {
			break // what is missing is counted
		}
		if err := w.pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-w.done:
		w.cmd = nil
		return errors.Join(w.err, w.log.Close())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
