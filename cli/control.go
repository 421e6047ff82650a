package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
)

// What a daemon that runs can be asked to do with a pipeline.
const (
	controlPath = "/pipelines/{pipeline}/{verb}"
	verbTake    = "checkpoint"
	verbPause   = "pause"
	verbResume  = "resume"
	// controlTimeout bounds the wait for a checkpoint.
	controlTimeout = time.Minute
)

// controlled is what the daemon answers: Text when it is done, else Error with the exit code for it.
type controlled struct {
	Text  string `json:"text"`
	Error string `json:"error"`
	Code  int    `json:"code"`
}

// control obeys a verb about a pipeline. It obeys this machine only.
func (d *daemon) control(w http.ResponseWriter, r *http.Request) {
	if !d.byCommand(w, r) {
		return
	}
	name, verb := r.PathValue("pipeline"), r.PathValue("verb")
	text, err := d.byHand(r.Context(), name, verb)
	a := controlled{Text: text}
	if err != nil {
		a.Error, a.Code = describe(err), exitForKind(fault.KindOf(err))
	} else {
		d.loaded.log.Info("asked for by hand", slog.String("pipeline", name), slog.String("what", verb), slog.String("result", text))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a) //nolint:errcheck // the client is gone
}

func (d *daemon) byHand(ctx context.Context, name, verb string) (string, error) {
	for i, def := range d.loaded.defs {
		if def.Name == name {
			return obeyed(ctx, d.supervisors[i], verb)
		}
	}
	return "", fault.E("cli.control", fault.Misconfigured, fmt.Errorf("the daemon runs no pipeline %q", name))
}

func obeyed(ctx context.Context, s *pipeline.Supervisor, verb string) (string, error) {
	switch verb {
	case verbPause:
		s.Pause()
		return "paused: it reads nothing more; what was read is committed", nil
	case verbResume:
		s.Resume()
		return "reads on", nil
	case verbTake:
		ctx, cancel := context.WithTimeoutCause(ctx, controlTimeout, fmt.Errorf("no checkpoint in %s", controlTimeout))
		defer cancel()
		t, err := s.TakeCheckpoint(ctx)
		if err != nil {
			return "", err
		}
		if !t.Fresh {
			return fmt.Sprintf("nothing is new since checkpoint %d, log number %d", t.Checkpoint, t.Seq), nil
		}
		return fmt.Sprintf("checkpoint %d is published as log number %d", t.Checkpoint, t.Seq), nil
	}
	return "", fault.E("cli.control", fault.Misconfigured, fmt.Errorf("the daemon knows no verb %q", verb))
}

func (a *app) takeCommand() *cobra.Command {
	return a.controlCommand(&cobra.Command{
		Use: "now PIPELINE", Short: "Have a running daemon take a checkpoint at once, and wait for it",
		Long: `Asks the daemon at daemon.listen for a checkpoint before its time, and waits until it is published. With nothing new the newest
one is named.`,
		Example: "  ingestd checkpoint now orders -c my.toml",
	}, verbTake)
}

func (a *app) pauseCommand() *cobra.Command {
	return a.controlCommand(&cobra.Command{
		Use: "pause PIPELINE", Short: "Keep a pipeline of a running daemon from reading on",
		Long: `Asks the daemon at daemon.listen to read nothing more for the pipeline. What was read is checkpointed and committed. It stays so
until resume, over restarts of the pipeline; a new start of the daemon begins unpaused. /readyz says paused.`,
		Example: "  ingestd pause orders -c my.toml",
	}, verbPause)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.controlCommand(&cobra.Command{
		Use: "resume PIPELINE", Short: "Let a paused pipeline read on", Example: "  ingestd resume orders -c my.toml",
	}, verbResume)
}

// controlCommand makes a command that asks a running daemon.
func (a *app) controlCommand(cmd *cobra.Command, verb string) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, def, err := a.definition(args[0], io.Discard)
		if l != nil {
			defer l.close()
		}
		if err != nil {
			return err
		}
		addr, err := dialable(l.daemon.Listen)
		if err != nil {
			return exitWith(exitConfig, fmt.Errorf("daemon.listen: %w: the daemon can't be asked", err))
		}
		text, err := askControl(cmd.Context(), addr, def.Name, verb)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

// askControl asks a daemon and waits for its answer.
func askControl(ctx context.Context, addr, name, verb string) (string, error) {
	const slack = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, controlTimeout+slack)
	defer cancel()
	var a controlled
	if err := askDaemon(ctx, addr, "/pipelines/"+name+"/"+verb, nil, &a); err != nil {
		return "", exitWith(exitFailed, fmt.Errorf("the daemon at %s does not answer: %w\n  next: start it, or look at daemon.listen", addr, err))
	}
	if a.Error != "" {
		return "", exitWith(a.Code, errors.New(a.Error))
	}
	return a.Text, nil
}
