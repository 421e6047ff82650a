package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/savepoint"
)

// asked is the request for a savepoint that a daemon gets.
type asked struct {
	Pipeline string        `json:"pipeline"`
	Name     string        `json:"name"`
	Reason   string        `json:"reason"`
	By       string        `json:"by"`
	Timeout  time.Duration `json:"timeout"` // nanoseconds
}

// answered is what the daemon says: Index when it is made, else Error with the exit code for it.
type answered struct {
	Index savepoint.Index `json:"index"`
	Error string          `json:"error"`
	Code  int             `json:"code"`
}

const (
	savepointPath = "/savepoints"
	// requestHeader must be set: a page in a browser can't do so for another site.
	requestHeader = "Ingestd-Request"
	askedBytesMax = 1 << 16
)

// savepoints makes a savepoint of a pipeline that runs. It obeys this machine only.
func (d *daemon) savepoints(w http.ResponseWriter, r *http.Request) {
	if !d.byCommand(w, r) {
		return
	}
	var q asked
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, askedBytesMax)).Decode(&q) != nil || q.Timeout <= 0 {
		http.Error(w, "want a JSON object with pipeline, name and timeout", http.StatusBadRequest)
		return
	}
	var a answered
	index, err := d.savepoint(r.Context(), q)
	if err != nil {
		a.Error, a.Code = describe(err), exitForKind(fault.KindOf(err))
		d.loaded.log.Warn("savepoint is not made", slog.String("pipeline", q.Pipeline), slog.String("savepoint", q.Name), slog.String("error", err.Error()))
	} else {
		d.loaded.log.Info("savepoint is made", slog.String("pipeline", q.Pipeline), slog.String("savepoint", q.Name), slog.Uint64("checkpoint", uint64(index.Checkpoint)), slog.Int64("bytes", index.Bytes()))
	}
	a.Index = index
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a) //nolint:errcheck // the client is gone
}

func (d *daemon) savepoint(ctx context.Context, q asked) (savepoint.Index, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout, fmt.Errorf("no savepoint in %s", q.Timeout))
	defer cancel()
	for i, def := range d.loaded.defs {
		if def.Name == q.Pipeline {
			return d.supervisors[i].Savepoint(ctx, pipeline.SavepointRequest{
				Name: q.Name, By: q.By, Reason: q.Reason, Version: version(), Config: d.loaded.file.PipelineText(def.Name),
			})
		}
	}
	return savepoint.Index{}, fault.E("cli.savepoint", fault.Misconfigured, fmt.Errorf("the daemon runs no pipeline %q", q.Pipeline))
}

// loopback reports whether an address, with or without a port, is of this machine.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dialable is the address at which a daemon with this daemon.listen is reached from this machine.
func dialable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if !loopback(host) {
		return "", fmt.Errorf("%s is not an address of this machine only", listen)
	}
	return net.JoinHostPort(host, port), nil
}

// askSavepoint asks a daemon for a savepoint and waits for it.
func askSavepoint(ctx context.Context, addr string, q asked) (savepoint.Index, error) {
	const slack = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, q.Timeout+slack)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return savepoint.Index{}, err
	}
	var a answered
	if err := askDaemon(ctx, addr, savepointPath, body, &a); err != nil {
		return savepoint.Index{}, exitWith(exitFailed, fmt.Errorf("the daemon at %s: %w\n  next: savepoint list shows whether it is made", addr, err))
	}
	if a.Error != "" {
		return savepoint.Index{}, exitWith(a.Code, errors.New(a.Error))
	}
	return a.Index, nil
}
