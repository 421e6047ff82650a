package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// byCommand lets only the ingestd command on this machine ask for something, and answers others. The answer may take its time.
func (d *daemon) byCommand(w http.ResponseWriter, r *http.Request) bool {
	if !loopback(r.RemoteAddr) || !loopback(r.Host) || r.Header.Get(requestHeader) == "" {
		http.Error(w, "only the ingestd command on this machine may ask for that", http.StatusForbidden)
		return false
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		d.loaded.log.Warn("answer to a request", slog.String("error", err.Error()))
	}
	return true
}

// askDaemon posts a request to a daemon and reads its answer.
func askDaemon(ctx context.Context, addr, path string, body []byte, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set(requestHeader, "command")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
