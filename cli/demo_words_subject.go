package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingestd/ingestd/pipeline"
)

// wordSubject is one run of a flow with its folder: the daemon starts, is killed, and starts again.
type wordSubject struct {
	demo  *wordDemo
	flow  wordFlow
	name  string
	dir   string
	kills int
}

func (s *wordSubject) target() string     { return filepath.Join(s.dir, "out") }
func (s *wordSubject) configFile() string { return filepath.Join(s.dir, "ingestd.toml") }

// configure writes an example's config with texts replaced, in pairs, and with a log that tells of steps.
func (s *wordSubject) configure(example string, pairs ...string) error {
	pairs = append(pairs, `listen = ""`, "listen = \"\"\nlog = { level = \"debug\", format = \"json\" }")
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(example, pairs[i]) {
			return fmt.Errorf("the example lacks %q", pairs[i])
		}
		example = strings.ReplaceAll(example, pairs[i], pairs[i+1])
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	return os.WriteFile(s.configFile(), []byte(example), 0o600)
}

// suffer kills the daemon at each step that it is told, and returns those that it did not strike before the input was over. A kill
// that came too late or too early is repeated, after the others.
func (s *wordSubject) suffer(ctx context.Context, aims []wordAim) (left []wordAim, err error) {
	left = slices.Clone(aims)
	const tries = 100
	for try := 0; len(left) > 0 && try < tries; try++ {
		aim := left[0]
		left = left[1:]
		blow, err := s.blow(ctx, aim)
		if err != nil || blow.ended {
			return append(left, aim), err
		}
		s.kills++
		struck := slices.Contains(blow.in, aim.step)
		if !struck {
			left = append(left, aim)
		}
		newest, err := s.judge(ctx, aim, blow)
		if err != nil {
			return nil, err
		}
		s.tell(aim, blow, newest)
	}
	return left, nil
}

// blow starts the daemon and kills it once.
func (s *wordSubject) blow(ctx context.Context, aim wordAim) (wordBlow, error) {
	if aim.step == pipeline.StepRestore { // else it may have nothing to do
		if err := os.RemoveAll(filepath.Join(s.dir, "data", "state")); err != nil {
			return wordBlow{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := startWordChild(ctx, s.demo.self, s.configFile())
	if err != nil {
		return wordBlow{}, err
	}
	return c.strike(aim)
}

// judge holds what the daemon's log said against the commit log: before publish there is no manifest of the checkpoint, from commit
// on there is one. It returns the newest checkpoint with a manifest.
func (s *wordSubject) judge(ctx context.Context, aim wordAim, blow wordBlow) (uint64, error) {
	look := app{plugins: s.demo.app.plugins, config: s.configFile()}
	name := "wordcount"
	if s.flow == wordStream {
		name = "wordstream"
	}
	entries, err := look.history(ctx, name)
	if err != nil {
		return 0, err
	}
	found, ok, err := newest(entries)
	if err != nil {
		return 0, err
	}
	last := uint64(0)
	if ok {
		last = uint64(found.Entry.Manifest.Checkpoint)
	}
	before := []pipeline.CheckpointStep{pipeline.StepTrigger, pipeline.StepFreeze, pipeline.StepPrepare}
	after := []pipeline.CheckpointStep{pipeline.StepCommit, pipeline.StepApply}
	for _, in := range blow.in {
		published := last >= blow.checkpoint
		if published && slices.Contains(before, in) || !published && slices.Contains(after, in) {
			return last, fmt.Errorf("killed at %s of checkpoint %d, yet the newest manifest is of checkpoint %d; all is kept in %s", aim.step, blow.checkpoint, last, s.dir)
		}
	}
	return last, nil
}

// wordBlowFormat is a line for each kill: flow, number, aim, what it struck, the checkpoint, the newest one in the log, the verdict.
const wordBlowFormat = "%-6s  %4v  %-8s  %-17s  %13v  %17v  %s\n"

// tell prints a kill.
func (s *wordSubject) tell(aim wordAim, blow wordBlow, newest uint64) {
	var names []string
	for _, in := range blow.in {
		names = append(names, string(in))
	}
	if len(names) == 0 {
		names = []string{"no step"}
	}
	verdict := "struck"
	if !slices.Contains(blow.in, aim.step) {
		verdict = "missed, again later"
	}
	of := ""
	if blow.checkpoint > 0 {
		of = strconv.FormatUint(blow.checkpoint, 10)
	}
	fmt.Fprintf(s.demo.out, wordBlowFormat, s.flow, s.kills, aim.step, strings.Join(names, ", "), of, newest, verdict) //nolint:errcheck // standard output
}

// finish lets the daemon work until its input is over.
func (s *wordSubject) finish(ctx context.Context) error {
	c, err := startWordChild(ctx, s.demo.self, s.configFile())
	if err != nil {
		return err
	}
	return c.watch(func(wordStep) {})
}

// drain lets the daemon work until the counts have come to what they should be, or for a minute: what is missing is counted. Then it
// is stopped as systemd would.
func (s *wordSubject) drain(ctx context.Context, want map[string]int64) error {
	c, err := startWordChild(ctx, s.demo.self, s.configFile())
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.watch(func(wordStep) {}) }()
	rows := newWordRows()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); sum(rows.counts) < sum(want) && time.Now().Before(deadline); {
		select {
		case <-tick.C:
		case err := <-done:
			return errors.Join(errors.New("the daemon ended by itself"), err)
		}
		if err := rows.look(s.target()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return <-done
}

// tally reads the target.
func (s *wordSubject) tally(want map[string]int64) (wordTally, error) {
	rows := newWordRows()
	if err := rows.look(s.target()); err != nil {
		return wordTally{}, err
	}
	return rows.compare(fmt.Sprintf("%s, %s", s.flow, s.name), s.kills, want, s.flow), nil
}
