package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ingestd/ingestd/pipeline/machine"
)

// traces keeps the steps that a log tells of, by checkpoint.
type traces struct {
	slog.Handler
	mu struct {
		sync.Mutex
		steps map[uint64][]string
	}
}

func (h *traces) Enabled(context.Context, slog.Level) bool { return true }
func (h *traces) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *traces) WithGroup(string) slog.Handler            { return h }

func (h *traces) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "checkpoint step" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var name string
	var checkpoint uint64
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "step":
			name = a.Value.String()
		case "checkpoint":
			checkpoint = a.Value.Uint64()
		}
		return true
	})
	h.mu.steps[checkpoint] = append(h.mu.steps[checkpoint], name)
	return nil
}

// The log tells of each step of a checkpoint in the order of the protocol: freeze by each keyed task, and commit and apply, which go
// on beside each other, only after publish.
func TestTrace_tellsTheStepsOfACheckpoint(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		w.def.Tasks = 2
		h := &traces{}
		h.mu.steps = map[uint64][]string{}
		env := w.env()
		env.Log = slog.New(h)
		ctx, cancel := context.WithCancel(context.Background())
		p := &process{t: w.t, Supervisor: NewSupervisor(w.def, env), cancel: cancel, done: make(chan Result, 1)}
		go func() { p.done <- p.Run(ctx) }()
		time.Sleep(3 * time.Second)
		w.source.add("a", "x")
		time.Sleep(3 * time.Second)
		wantEnd(w.t, p.finish(), machine.Done, "")
		h.mu.Lock()
		defer h.mu.Unlock()
		if got, want := h.mu.steps[0], []string{"start", "restore", "restored"}; !slices.Equal(got, want) {
			w.t.Errorf("before the first checkpoint: got %q, want %q", got, want)
		}
		whole := 0
		for c, steps := range h.mu.steps {
			if c == 0 || !slices.Contains(steps, "commit") {
				continue
			}
			whole++
			if got, want := steps[:5], []string{"trigger", "freeze", "freeze", "prepare", "publish"}; !slices.Equal(got, want) {
				w.t.Errorf("checkpoint %d: got %q, want %q first", c, steps, want)
			}
			rest := steps[5:]
			at := func(s string) int { return slices.Index(rest, s) }
			if len(rest) != 4 || at("commit") < 0 || at("apply") < 0 || at("committed") < at("commit") || at("applied") < at("apply") {
				w.t.Errorf("checkpoint %d: got %q behind publish, want commit, committed, apply and applied", c, rest)
			}
		}
		if whole == 0 {
			w.t.Errorf("no checkpoint was committed: %v", h.mu.steps)
		}
	})
}
