package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ingestd/ingestd/pipeline"
)

// listen opens daemon.listen before anything runs, so that a port that is taken is found at once; nil when it is empty.
func (d *daemon) listen(ctx context.Context) (net.Listener, error) {
	addr := d.loaded.daemon.Listen
	if addr == "" {
		return nil, nil //nolint:nilnil // no listener is what was asked for
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("daemon.listen: %w\n  next: give another address, or \"\" for none", err)
	}
	return l, nil
}

// serve answers /metrics, /livez, /readyz and requests by hand until ctx ends.
func (d *daemon) serve(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok") //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("GET /readyz", d.readyz)
	mux.HandleFunc("POST "+savepointPath, d.savepoints)
	mux.HandleFunc("POST "+controlPath, d.control)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) //nolint:errcheck // the process ends
	defer stop()
	if err := server.Serve(l); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		d.loaded.log.Error("listener ends", slog.String("error", err.Error()))
	}
}

// readyz is 200 when every pipeline does its work, else 503; the body names each pipeline's state and what keeps it.
func (d *daemon) readyz(w http.ResponseWriter, _ *http.Request) {
	all := true
	var lines []string
	for _, s := range d.supervisors {
		st := s.Status()
		all = all && st.Ready()
		lines = append(lines, readyLine(st))
	}
	if !all {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	for _, line := range lines {
		fmt.Fprintln(w, line) //nolint:errcheck // the client is gone
	}
}

func readyLine(st pipeline.Status) string {
	mark := "[+]"
	if !st.Ready() {
		mark = "[-]"
	}
	line := fmt.Sprintf("%s %s %s", mark, st.Name, st.State)
	if st.Stalled {
		line += " stalled"
	}
	if st.Text != "" {
		line += ": " + strings.Join(strings.Fields(st.Text), " ") // one line for each pipeline
	}
	return line
}
