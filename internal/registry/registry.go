// Package registry is a client of schema registries that have the REST API of Confluent's: schemas by ID and by version,
// registration, look-up and compatibility.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Settings configure a client.
type Settings struct {
	// URLs are the registry's addresses, with a path if it has one; when one does not answer the next is asked.
	URLs []string
	// Username and Password are sent as basic authentication, if there is a name.
	Username, Password string
	// Token is sent as a bearer token, in place of a user.
	Token string
	// TLS is for https; nil: the system's certificates.
	TLS *tls.Config
	// RequestTimeout bounds one request; 0: 10 s.
	RequestTimeout time.Duration
	// Clock is the time; the zero value is the system's.
	Clock Clock
}

// Clock tells the time and waits.
type Clock struct {
	Now  func() time.Time
	Wait func(ctx context.Context, d time.Duration) error // returns early with the context's error
}

// Client asks a registry. It may be used by several goroutines at the same time.
type Client struct {
	settings Settings
	urls     []string
	http     *http.Client
	first    atomic.Uint32 // the address that answered last
}

// Schema is a schema as the registry holds it.
type Schema struct {
	Type       string // AVRO, JSON or PROTOBUF
	Text       string
	References []Reference
}

// Reference names a version of a subject that a schema refers to by a name.
type Reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// Error is an answer of the registry that is no success.
type Error struct {
	Status  int // of HTTP
	Code    int // of the registry, 0 without one
	Message string
}

// Error returns the message with its codes.
func (e *Error) Error() string {
	if e.Code != 0 && e.Code != e.Status {
		return fmt.Sprintf("the registry says %d (%d): %s", e.Status, e.Code, e.Message)
	}
	return fmt.Sprintf("the registry says %d: %s", e.Status, e.Message)
}

// Transient reports whether the same request may succeed later.
func (e *Error) Transient() bool {
	return e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// NotFound reports whether an error says that the registry does not have what was asked for.
func NotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// Definite reports whether an error is an answer that the same request will get again.
func Definite(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && !e.Transient()
}

// New returns a client. It does no I/O.
func New(s Settings) (*Client, error) {
	const requestTimeout = 10 * time.Second
	if s.RequestTimeout == 0 {
		s.RequestTimeout = requestTimeout
	}
	if s.Clock.Now == nil {
		s.Clock = Clock{Now: time.Now, Wait: wait}
	}
	c := &Client{settings: s}
	for _, text := range s.URLs {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return nil, errors.New("an address is no URL") // its text may hold a password
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return nil, fmt.Errorf("the address %q does not begin with http:// or https:// and a host", u.Redacted())
		case u.User != nil:
			return nil, fmt.Errorf("the address %q holds a user: use username and password", u.Redacted())
		case u.RawQuery != "" || u.Fragment != "":
			return nil, fmt.Errorf("the address %q has something behind its path", u.Redacted())
		}
		c.urls = append(c.urls, strings.TrimRight(u.String(), "/"))
	}
	switch {
	case len(c.urls) == 0:
		return nil, errors.New("no address")
	case s.Token != "" && s.Username != "":
		return nil, errors.New("a token and a user exclude each other")
	case s.Password != "" && s.Username == "":
		return nil, errors.New("a password without a user")
	}
	c.http = &http.Client{
		Timeout:   s.RequestTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: s.TLS, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 2},
	}
	return c, nil
}

// wait waits by the system's clock.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Send replaces the network, for simulations. It must be called before the first request.
func (c *Client) Send(send func(*http.Request) (*http.Response, error)) {
	c.http.Transport = sender(send)
}

type sender func(*http.Request) (*http.Response, error)

// RoundTrip sends a request.
func (s sender) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

// Origin is the first address: it tells registries apart, whose IDs differ.
func (c *Client) Origin() string { return c.urls[0] }

// Now tells the time of the client's clock.
func (c *Client) Now() time.Time { return c.settings.Clock.Now() }
