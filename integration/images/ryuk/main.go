// Command ryuk removes what a test run left at a Docker engine. It speaks the wire protocol of testcontainers' own reaper,
// for machines that cannot pull that image: each connection sends lines of label filters joined by '&', each line is
// answered with ACK, and once the last connection has been gone for a while every container, network and volume that
// carries the labels of a line is removed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	listenAddress = ":8080"
	socketPath    = "/var/run/docker.sock"
	// removeAttempts bounds the rounds of removal: a network can't go before its containers are really gone.
	removeAttempts = 10
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx := context.Background()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listenAddress)
	if err != nil {
		log.Error("listen", slog.Any("error", err))
		os.Exit(1)
	}
	log.Info("Started")
	events := make(chan event)
	go accept(listener, events, log)
	r := reaper{
		firstWait: duration("RYUK_CONNECTION_TIMEOUT", time.Minute),
		lastWait:  duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second),
		filters:   map[string][]string{},
	}
	r.collect(events)
	e := newEngine(socketPath)
	for range removeAttempts {
		if err = r.remove(ctx, e, log); err == nil {
			return
		}
		log.Warn("not everything is gone yet", slog.Any("error", err))
		<-time.After(time.Second)
	}
	os.Exit(1)
}

func duration(name string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv(name)); err == nil {
		return d
	}
	return otherwise
}

// An event is what a connection tells the reaper: a change of the number of connections, or a line of filters.
type event struct {
	connections int
	line        string
}

// accept serves connections until the process ends.
func accept(listener net.Listener, events chan<- event, log *slog.Logger) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Error("accept", slog.Any("error", err))
			os.Exit(1)
		}
		events <- event{connections: 1}
		go func() {
			serve(conn, events)
			events <- event{connections: -1}
		}()
	}
}

// serve acknowledges a line only after the reaper has it: the client starts containers on the strength of the answer.
func serve(conn net.Conn, events chan<- event) {
	defer conn.Close() //nolint:errcheck // the peer is gone or about to be, nothing depends on it
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		events <- event{line: lines.Text()}
		if _, err := io.WriteString(conn, "ACK\n"); err != nil {
			return
		}
	}
}

// A reaper collects filters as long as somebody is connected.
type reaper struct {
	firstWait time.Duration // for the first connection
	lastWait  time.Duration // for another connection after the last one ended
	filters   map[string][]string
}

// collect returns when nobody is connected and nobody came for the time allowed.
func (r *reaper) collect(events <-chan event) {
	connections := 0
	idle := time.NewTimer(r.firstWait)
	for {
		select {
		case e := <-events:
			if labels := parse(e.line); len(labels) > 0 {
				r.filters[e.line] = labels
			}
			connections += e.connections
			idle.Stop()
			if connections == 0 {
				idle.Reset(r.lastWait)
			}
		case <-idle.C:
			return
		}
	}
}

// parse returns the labels of a line such as "label=a=1&label=b=2".
func parse(line string) []string {
	var labels []string
	for part := range strings.SplitSeq(line, "&") {
		if label, ok := strings.CutPrefix(part, "label="); ok {
			labels = append(labels, label)
		}
	}
	return labels
}

// remove deletes everything that carries the labels of any line and returns what failed.
func (r *reaper) remove(ctx context.Context, e *engine, log *slog.Logger) error {
	self, err := os.Hostname()
	if err != nil {
		return err
	}
	var failures []error
	for _, labels := range r.filters {
		targets, err := e.find(ctx, labels)
		if err != nil {
			failures = append(failures, err)
		}
		for _, path := range targets {
			if strings.HasPrefix(path, "/containers/"+self) {
				continue
			}
			err := e.call(ctx, http.MethodDelete, path, nil)
			if err != nil {
				failures = append(failures, err)
				continue
			}
			log.Info("removed", slog.String("path", path))
		}
	}
	return errors.Join(failures...)
}

// An engine is the part of the Docker API that removal needs.
type engine struct{ client *http.Client }

func newEngine(socket string) *engine {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &engine{client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute}}
}

// find returns the API paths that delete what carries all the labels: containers, then networks, then volumes.
func (e *engine) find(ctx context.Context, labels []string) ([]string, error) {
	filter, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, err
	}
	query := "filters=" + url.QueryEscape(string(filter))
	var containers, networks []struct {
		ID string `json:"Id"`
	}
	var volumes struct {
		Volumes []struct{ Name string }
	}
	err = errors.Join(
		e.call(ctx, http.MethodGet, "/containers/json?all=1&"+query, &containers),
		e.call(ctx, http.MethodGet, "/networks?"+query, &networks),
		e.call(ctx, http.MethodGet, "/volumes?"+query, &volumes),
	)
	var paths []string
	for _, c := range containers {
		paths = append(paths, "/containers/"+c.ID+"?force=1&v=1")
	}
	for _, n := range networks {
		paths = append(paths, "/networks/"+n.ID)
	}
	for _, v := range volumes.Volumes {
		paths = append(paths, "/volumes/"+url.PathEscape(v.Name)+"?force=1")
	}
	return paths, err
}

// call sends a request and decodes the answer into out, which may be nil. What is gone already counts as deleted.
func (e *engine) call(ctx context.Context, method, path string, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end or abandoned, nothing depends on it
	if response.StatusCode == http.StatusNotFound && method == http.MethodDelete {
		return nil
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		return errors.Join(fmt.Errorf("%s %s: %s %s", method, path, response.Status, body), err)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}
