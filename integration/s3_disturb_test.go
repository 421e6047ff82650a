//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ingestd/ingestd/checkpoint/storetest"
)

// disturber is between a store and its server. It loses, delays, refuses and falsifies requests.
type disturber struct {
	next http.RoundTripper

	mu struct {
		sync.Mutex
		what     storetest.Disturbance
		requests int // how many more suffer
		random   *rand.Rand
		late     []*http.Request
		sent     map[string]int // by method, with "LIST" for lists
	}
}

func newDisturber(next http.RoundTripper) *disturber {
	d := &disturber{next: next}
	d.mu.random = rand.New(rand.NewPCG(1, 2))
	d.mu.sent = map[string]int{}
	return d
}

func (d *disturber) disturb(what storetest.Disturbance, requests int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.what, d.mu.requests = what, requests
}

// counted returns how many requests there were since the last call, by method.
func (d *disturber) counted() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.mu.sent
	d.mu.sent = map[string]int{}
	return out
}

func isList(r *http.Request) bool { return r.URL.Query().Get("list-type") == "2" }

// next decides about a request.
func (d *disturber) choose(r *http.Request) storetest.Disturbance {
	d.mu.Lock()
	defer d.mu.Unlock()
	method := r.Method
	if isList(r) {
		method = "LIST"
	}
	d.mu.sent[method]++
	read := r.Method == http.MethodGet
	what := d.mu.what
	switch what {
	case storetest.LostReply, storetest.LostRequest, storetest.Delayed, storetest.Mixed:
		if read {
			return storetest.Calm
		}
	case storetest.StaleList:
		if !isList(r) {
			return storetest.Calm
		}
	case storetest.StaleRead:
		if !read || isList(r) {
			return storetest.Calm
		}
	case storetest.Calm, storetest.Busy, storetest.Skewed:
	}
	if d.mu.requests == 0 {
		return storetest.Calm
	}
	d.mu.requests--
	if what == storetest.Mixed {
		return []storetest.Disturbance{storetest.Calm, storetest.LostReply, storetest.LostRequest, storetest.Delayed, storetest.Busy}[d.mu.random.IntN(5)]
	}
	return what
}

// RoundTrip implements [http.RoundTripper].
func (d *disturber) RoundTrip(r *http.Request) (*http.Response, error) {
	what := d.choose(r)
	switch what {
	case storetest.LostReply:
		resp, err := d.next.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		return nil, fmt.Errorf("reply lost: %w", syscall.ECONNRESET)
	case storetest.LostRequest:
		return nil, fmt.Errorf("request lost: %w", syscall.ECONNRESET)
	case storetest.Delayed:
		return nil, d.keep(r)
	case storetest.Busy:
		return answerWith(r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate."), nil
	case storetest.StaleRead:
		return answerWith(r, http.StatusNotFound, "NoSuchKey", "The specified key does not exist."), nil
	case storetest.Skewed:
		return d.skewed(r, -time.Hour, time.Hour)
	case storetest.StaleList:
		return d.withoutLast(r)
	case storetest.Calm, storetest.Mixed:
	}
	return d.next.RoundTrip(r)
}

// keep takes a request away until it lands.
func (d *disturber) keep(r *http.Request) error {
	var data []byte
	var err error
	if r.Body != nil {
		if data, err = io.ReadAll(r.Body); err != nil {
			return err
		}
	}
	late := r.Clone(context.Background())
	late.Body, late.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.late = append(d.mu.late, late)
	return fmt.Errorf("no answer: %w", syscall.ETIMEDOUT)
}

// land sends what is late.
func (d *disturber) land(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	late := d.mu.late
	d.mu.late = nil
	d.mu.Unlock()
	for _, r := range late {
		resp, err := d.next.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}

// answerWith is an error of the protocol.
func answerWith(r *http.Request, status int, code, text string) *http.Response {
	if r.Body != nil {
		r.Body.Close()
	}
	body := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>1</RequestId></Error>`, code, text)
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
}

// skewed sends a request as a machine does whose clock is off, and shows it the server's time as that machine would see it.
func (d *disturber) skewed(r *http.Request, clock, seen time.Duration) (*http.Response, error) {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	var data []byte
	if r.Body != nil {
		if data, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	sum := sha256.Sum256(data)
	r.Header.Del("Authorization")
	keys := aws.Credentials{AccessKeyID: gatewayKey, SecretAccessKey: gatewaySecret}
	if err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(r.Context(), keys, r, hex.EncodeToString(sum[:]), "s3", "us-east-1", at.Add(clock)); err != nil {
		return nil, err
	}
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		resp.Header.Set("Date", date.Add(seen).UTC().Format(http.TimeFormat))
	}
	return resp, nil
}

// withoutLast leaves the last object out of a list.
func (d *disturber) withoutLast(r *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	objects := regexp.MustCompile(`(?s)<Contents>.*?</Contents>`).FindAllIndex(data, -1)
	if n := len(objects); n > 0 {
		data = append(data[:objects[n-1][0]:objects[n-1][0]], data[objects[n-1][1]:]...)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	resp.Header.Del("Content-Length")
	return resp, nil
}
