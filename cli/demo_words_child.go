package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/ingestd/ingestd/pipeline"
)

// wordStep is a message of the daemon's log: a step of a checkpoint begins or ends. Of the start and the restore the checkpoint is 0.
type wordStep struct {
	Step       pipeline.CheckpointStep `json:"step"`
	Checkpoint uint64                  `json:"checkpoint"`
}

// wordAim says when to kill: when the step begins for the nth checkpoint after the start.
type wordAim struct {
	step pipeline.CheckpointStep
	nth  int
}

// wordBlow is what a kill struck, as the log shows that the daemon left.
type wordBlow struct {
	ended      bool // it was too late: the daemon had ended
	checkpoint uint64
	in         []pipeline.CheckpointStep // the steps in which the checkpoint was
}

// wordChild is the daemon as a child process whose log is read as it is written.
type wordChild struct {
	cmd *exec.Cmd
	log *os.File
	out io.ReadCloser
	end func() // gives up
}

func startWordChild(ctx context.Context, self, config string) (*wordChild, error) {
	log, err := os.OpenFile(filepath.Join(filepath.Dir(config), "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &wordChild{cmd: exec.CommandContext(ctx, self, "run", "-c", config), log: log, end: cancel} //nolint:gosec // it is this very program
	if c.out, err = c.cmd.StderrPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

// watch reads the log until the daemon has ended, and calls f with each step. It returns how the daemon ended.
func (c *wordChild) watch(f func(s wordStep)) error {
	defer c.end()
	defer c.log.Close() //nolint:errcheck // a log
	lines := bufio.NewReader(c.out)
	for {
		line, err := lines.ReadBytes('\n')
		var s wordStep
		if json.Unmarshal(line, &s) == nil && s.Step != "" {
			f(s)
		}
		if _, err := c.log.Write(line); err != nil {
			return err
		}
		if err != nil { // its end, for what reason ever
			break
		}
	}
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("the daemon ended: %w; its log is %s", err, c.log.Name())
	}
	return nil
}

// strike kills the daemon when it begins a step. What is in the pipe afterwards was written before it died, so the log tells how
// far it came.
func (c *wordChild) strike(aim wordAim) (wordBlow, error) {
	var killed bool
	var blow wordBlow
	seen := map[uint64][]pipeline.CheckpointStep{} // by checkpoint; of 0 all, because the start and the restore come before the others
	begun := map[uint64]bool{}
	err := c.watch(func(s wordStep) {
		seen[0] = append(seen[0], s.Step)
		if s.Checkpoint > 0 {
			seen[s.Checkpoint] = append(seen[s.Checkpoint], s.Step)
		}
		if s.Step != aim.step || killed {
			return
		}
		if begun[s.Checkpoint] = true; len(begun) < aim.nth {
			return
		}
		killed, blow.checkpoint = true, s.Checkpoint
		_ = c.cmd.Process.Kill() //nolint:errcheck // it may have ended, and then says so
	})
	if state := c.cmd.ProcessState; state != nil && !state.Exited() && killed { // it was the signal
		blow.in = within(seen[blow.checkpoint])
		return blow, nil
	}
	blow.ended = true
	return blow, err
}

// within returns the steps in which a checkpoint is after these messages, none when it is done: those that have an end which was not
// told, else the last that began. Commit and apply go on beside each other.
func within(messages []pipeline.CheckpointStep) []pipeline.CheckpointStep {
	var in []pipeline.CheckpointStep
	last := messages[len(messages)-1]
	for _, s := range [][2]pipeline.CheckpointStep{ // with their ends
		{pipeline.StepApply, pipeline.StepApplied}, {pipeline.StepCommit, pipeline.StepCommitted}, {pipeline.StepRestore, pipeline.StepRestored},
	} {
		if slices.Contains(messages, s[0]) && !slices.Contains(messages, s[1]) {
			in = append(in, s[0])
		}
		if last == s[1] {
			last = ""
		}
	}
	if len(in) == 0 && last != "" {
		return []pipeline.CheckpointStep{last}
	}
	return in
}
