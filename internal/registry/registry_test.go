package registry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/internal/registry"
	"github.com/ingestd/ingestd/internal/registry/registrytest"
)

// clock is a clock that goes on when it is waited for.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
}

func (c *clock) settings() registry.Clock {
	return registry.Clock{
		Now: func() time.Time {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.now
		},
		Wait: func(ctx context.Context, d time.Duration) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.now = c.now.Add(d)
			c.waits = append(c.waits, d)
			return ctx.Err()
		},
	}
}

func client(t *testing.T, s registry.Settings) *registry.Client {
	t.Helper()
	c, err := registry.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t *testing.T) *registrytest.Server {
	t.Helper()
	s := registrytest.New()
	t.Cleanup(s.Close)
	return s
}

// The documented API, on the registry in memory.
func TestClient_documentedAPI(t *testing.T) {
	s := serve(t)
	s.Compatible = func(next, last registry.Schema) []string {
		if strings.Contains(next.Text, "string") && strings.Contains(last.Text, "long") {
			return []string{"the type of x"}
		}
		return nil
	}
	registrytest.Run(t, client(t, registry.Settings{URLs: []string{s.URL}}))
}

func TestClient_authorization(t *testing.T) {
	for name, test := range map[string]struct {
		settings registry.Settings
		header   string
	}{
		"basic": {registry.Settings{Username: "u", Password: "p"}, "Basic dTpw"},
		"token": {registry.Settings{Token: "t"}, "Bearer t"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			s.Authorization = test.header
			id := s.Add("a", registry.Schema{Type: "AVRO", Text: `"int"`})
			test.settings.URLs = []string{s.URL + "/"}
			c := client(t, test.settings)
			if _, err := c.ByID(t.Context(), id, c.Once); err != nil {
				t.Errorf("got error %v", err)
			}
			bare := client(t, registry.Settings{URLs: []string{s.URL}})
			if _, err := bare.ByID(t.Context(), id, bare.Patiently); !registry.Definite(err) {
				t.Errorf("got error %v, want a definite one: no repetition helps", err)
			}
		})
	}
}

func TestClient_trustsItsCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"schema": "\"int\""}`)) }))
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trusting := client(t, registry.Settings{URLs: []string{s.URL}, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})
	got, err := trusting.ByID(t.Context(), 1, trusting.Once)
	if diff := cmp.Diff(registry.Schema{Type: "AVRO", Text: `"int"`}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if other := client(t, registry.Settings{URLs: []string{s.URL}}); true {
		if _, err := other.ByID(t.Context(), 1, other.Once); err == nil {
			t.Error("got no error for a certificate that nobody trusts")
		}
	}
}

// An address that does not answer is passed over, and the one that answered is asked first from then on.
func TestClient_goesToTheNextAddress(t *testing.T) {
	down, up := serve(t), serve(t)
	id := up.Add("a", registry.Schema{Type: "AVRO", Text: `"int"`})
	down.Fail(http.StatusBadGateway)
	c := client(t, registry.Settings{URLs: []string{down.URL, "http://127.0.0.1:1", up.URL}})
	for range 3 {
		if _, err := c.ByID(t.Context(), id, c.Once); err != nil {
			t.Fatal(err)
		}
	}
	if down.Requests() != 1 || up.Requests() != 3 {
		t.Errorf("got %d requests to what is down and %d to what is up, want 1 and 3", down.Requests(), up.Requests())
	}
}

// Pauses grow up to a bound; what the registry does not have yet is asked for again, and what it refuses is not.
func TestClient_asksAgain(t *testing.T) {
	s := serve(t)
	k := &clock{now: time.Unix(1_000_000_000, 0)}
	c := client(t, registry.Settings{URLs: []string{s.URL}, Clock: k.settings()})
	tries := 0
	err := c.Patiently(t.Context(), func(context.Context) error {
		if tries++; tries == 9 {
			return nil
		}
		return &registry.Error{Status: []int{http.StatusNotFound, http.StatusServiceUnavailable, http.StatusTooManyRequests}[tries%3]}
	})
	ms := time.Millisecond
	want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}
	if diff := cmp.Diff(want, k.waits); diff != "" || err != nil {
		t.Errorf("%v, waits (-want +got):\n%s", err, diff)
	}
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusConflict} {
		tries = 0
		err := c.Patiently(t.Context(), func(context.Context) error {
			tries++
			return &registry.Error{Status: status}
		})
		if tries != 1 || !registry.Definite(err) {
			t.Errorf("status %d: got %d tries and error %v, want one", status, tries, err)
		}
	}
}

// The deadline ends the waiting, with the last answer as the error.
func TestClient_givesUpAtTheDeadline(t *testing.T) {
	s := serve(t)
	s.Fail(http.StatusServiceUnavailable)
	k := &clock{now: time.Now()}
	c := client(t, registry.Settings{URLs: []string{s.URL}, Clock: k.settings()})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := c.ByID(ctx, 1, c.Patiently)
	e, ok := errors.AsType[*registry.Error](err)
	if !ok || e.Status != http.StatusServiceUnavailable || len(k.waits) != 4 {
		t.Errorf("got error %v after %v, want the registry's answer after 4 pauses", err, k.waits)
	}
}

func TestClient_boundsAnswers(t *testing.T) {
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 9 << 10 {
			_, _ = w.Write(slices.Repeat([]byte("x"), 1<<10))
		}
	}))
	t.Cleanup(long.Close)
	c := client(t, registry.Settings{URLs: []string{long.URL}})
	if _, err := c.ByID(t.Context(), 1, c.Once); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got error %v, want one of an answer that is too long", err)
	}
}

func TestNew_refusesSettings(t *testing.T) {
	for want, s := range map[string]registry.Settings{
		"no address":              {},
		"does not begin with":     {URLs: []string{"localhost:8081"}},
		"is no URL":               {URLs: []string{"http://a b"}},
		"holds a user":            {URLs: []string{"http://user:secret@host"}},
		"behind its path":         {URLs: []string{"http://host/?x=y"}},
		"exclude each other":      {URLs: []string{"http://host"}, Username: "u", Token: "t"},
		"password without a user": {URLs: []string{"http://host"}, Password: "p"},
	} {
		_, err := registry.New(s)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got error %v, want one with %q", s.URLs, err, want)
		}
	}
}
