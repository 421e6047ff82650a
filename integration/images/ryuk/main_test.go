package main

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse_readsLabels(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                nil,
		"name=x":                          nil,
		"label=a=1":                       {"a=1"},
		"label=a=1&name=x&label=b=true":   {"a=1", "b=true"},
		"label=org.testcontainers=true&&": {"org.testcontainers=true"},
	} {
		if diff := cmp.Diff(want, parse(line)); diff != "" {
			t.Errorf("parse(%q) (-want +got):\n%s", line, diff)
		}
	}
}

// A client starts containers once its line is acknowledged, so the reaper must have the line before it answers.
func TestServe_acknowledgesWhatTheReaperHas(t *testing.T) {
	client, server := net.Pipe()
	events := make(chan event)
	done := make(chan struct{})
	go func() {
		serve(server, events)
		close(done)
	}()
	answers := bufio.NewReader(client)
	for _, line := range []string{"label=a=1", "label=b=2"} {
		if _, err := io.WriteString(client, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := <-events; got.line != line {
			t.Fatalf("got event %+v, want line %q", got, line)
		}
		if got, err := answers.ReadString('\n'); err != nil || got != "ACK\n" {
			t.Fatalf("got answer %q, %v, want ACK", got, err)
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func newReaper() reaper {
	return reaper{firstWait: time.Minute, lastWait: 10 * time.Second, filters: map[string][]string{}}
}

func TestCollect_endsWhenNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReaper()
		start := time.Now()
		r.collect(make(chan event))
		if took := time.Since(start); took != time.Minute {
			t.Errorf("got an end after %v, want 1m", took)
		}
	})
}

func TestCollect_endsAfterTheLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReaper()
		events := make(chan event)
		start := time.Now()
		go func() {
			events <- event{connections: 1}
			events <- event{line: "label=a=1"}
			events <- event{connections: 1}
			time.Sleep(5 * time.Minute)
			events <- event{connections: -1}
			time.Sleep(5 * time.Minute)
			events <- event{connections: -1}
			time.Sleep(9 * time.Second) // somebody comes back in time
			events <- event{connections: 1}
			events <- event{connections: -1}
		}()
		r.collect(events)
		if took, want := time.Since(start), 10*time.Minute+19*time.Second; took != want {
			t.Errorf("got an end after %v, want %v", took, want)
		}
		if diff := cmp.Diff(map[string][]string{"label=a=1": {"a=1"}}, r.filters); diff != "" {
			t.Errorf("filters (-want +got):\n%s", diff)
		}
	})
}

// A fakeEngine answers as the Docker API does and notes what is deleted.
type fakeEngine struct {
	mu struct {
		sync.Mutex
		deleted []string
		busy    bool // networks still have their containers
	}
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine := strings.Contains(request.URL.Query().Get("filters"), `"a=1"`)
	switch {
	case request.Method == http.MethodDelete && strings.HasPrefix(request.URL.Path, "/networks/") && f.mu.busy:
		http.Error(w, "network has active endpoints", http.StatusForbidden)
	case request.Method == http.MethodDelete && strings.HasSuffix(request.URL.Path, "gone"):
		http.Error(w, "no such container", http.StatusNotFound)
	case request.Method == http.MethodDelete:
		f.mu.deleted = append(f.mu.deleted, request.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case !mine:
		reply(w, map[string]any{})
	case request.URL.Path == "/containers/json":
		reply(w, []map[string]string{{"Id": "c1"}, {"Id": "gone"}})
	case request.URL.Path == "/networks":
		reply(w, []map[string]string{{"Id": "n1"}})
	case request.URL.Path == "/volumes":
		reply(w, map[string]any{"Volumes": []map[string]string{{"Name": "v1"}}})
	}
}

func reply(w http.ResponseWriter, answer any) {
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

func TestRemove_takesAwayWhatIsLabelled(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeEngine{}
	fake.mu.busy = true
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: fake, ReadHeaderTimeout: time.Second}}
	server.Start()
	defer server.Close()
	r := reaper{filters: map[string][]string{"label=a=1": {"a=1"}}}
	log := slog.New(slog.DiscardHandler)

	err = r.remove(t.Context(), newEngine(socket), log)
	if err == nil || !strings.Contains(err.Error(), "active endpoints") {
		t.Errorf("got error %v, want the engine's refusal", err)
	}
	fake.mu.Lock()
	fake.mu.busy = false
	fake.mu.Unlock()
	if err := r.remove(t.Context(), newEngine(socket), log); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	slices.Sort(fake.mu.deleted)
	want := []string{"/containers/c1", "/containers/c1", "/networks/n1", "/volumes/v1", "/volumes/v1"}
	if diff := cmp.Diff(want, fake.mu.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestDuration_fallsBack(t *testing.T) {
	t.Setenv("RYUK_TEST", "3s")
	if got := duration("RYUK_TEST", time.Minute); got != 3*time.Second {
		t.Errorf("got %v, want 3s", got)
	}
	t.Setenv("RYUK_TEST", "soon")
	if got := duration("RYUK_TEST", time.Minute); got != time.Minute {
		t.Errorf("got %v for no duration, want 1m", got)
	}
}
