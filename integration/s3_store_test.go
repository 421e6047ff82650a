//go:build integration

package integration

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/s3"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
)

// gatewaySettings returns a new folder of a server's bucket. Parts are as small as the protocol allows, so that objects of tests have
// several.
func gatewaySettings(g *gateway) s3.Settings {
	return s3.Settings{
		Bucket: gatewayBucket, Prefix: "test/" + strings.ToLower(rand.Text()), Endpoint: g.url(),
		AccessKeyID: gatewayKey, SecretAccessKey: config.NewSecret(gatewaySecret),
		Multipart: true, PartSize: 5 << 20, Attempts: 3, RequestTimeout: 20 * time.Second,
	}
}

// openS3 opens a store through a disturber that does nothing yet.
func openS3(t *testing.T, s s3.Settings) (*s3.Store, *disturber) {
	t.Helper()
	var d *disturber
	store, err := s3.OpenThrough(s, func(next http.RoundTripper) http.RoundTripper {
		d = newDisturber(next)
		return d
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, d
}

func TestS3_conforms(t *testing.T) {
	g := gatewayServer(t)
	for _, multipart := range []bool{true, false} {
		t.Run(fmt.Sprintf("multipart=%v", multipart), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) checkpoint.Store {
				t.Helper()
				settings := gatewaySettings(g)
				settings.Multipart = multipart
				store, _ := openS3(t, settings)
				return store
			})
		})
	}
}

// The connection to the server loses, delays, refuses and falsifies what the store sends.
func TestS3_conformsUnderDisturbances(t *testing.T) {
	g := gatewayServer(t)
	storetest.RunDisturbed(t, func(t *testing.T) *storetest.Disturbed {
		t.Helper()
		settings := gatewaySettings(g)
		store, d := openS3(t, settings)
		if err := store.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		other, _ := openS3(t, settings)
		return &storetest.Disturbed{
			Store: store, Other: other, Disturb: d.disturb, Land: func() { d.land(t) },
			Suffers: []storetest.Disturbance{
				storetest.LostReply, storetest.LostRequest, storetest.Delayed, storetest.Mixed, storetest.Busy,
				storetest.StaleList, storetest.StaleRead, storetest.Skewed,
			},
		}
	})
}

// Two hundred times eight writers race for the same name, with one request each and by parts: always one wins.
func TestS3_eightWritersHaveOneWinner(t *testing.T) {
	g := gatewayServer(t)
	settings := gatewaySettings(g)
	var stores [8]*s3.Store
	for i := range stores {
		stores[i], _ = openS3(t, settings)
	}
	race := func(name string, size int) {
		t.Helper()
		errs := make(chan error, len(stores))
		start := make(chan struct{})
		for i, s := range stores {
			go func() {
				<-start
				errs <- s.Create(t.Context(), name, bytes.Repeat([]byte{byte('a' + i)}, size))
			}()
		}
		close(start)
		won := 0
		for range stores {
			err := <-errs
			if err == nil {
				won++
			} else if !errors.Is(err, checkpoint.ErrExists) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if won != 1 {
			t.Fatalf("%s: got %d winners, want 1", name, won)
		}
		data, err := stores[0].Get(t.Context(), name)
		if err != nil || len(data) != size || !bytes.Equal(data, bytes.Repeat(data[:1], size)) {
			t.Fatalf("%s: got %d bytes, %v, want %d of one writer", name, len(data), err, size)
		}
	}
	for round := range 200 {
		race(fmt.Sprintf("p/log/0/%016d", round), 2_000)
	}
	for round := range 5 {
		race(fmt.Sprintf("p/state/0/%d", round), 11<<20)
	}
}

// Deletes of many names are few requests, and what is not there is no error.
func TestS3_deletesInBatches(t *testing.T) {
	store, d := openS3(t, gatewaySettings(gatewayServer(t)))
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("p/staging/0/1/%016d", i))
		if err := store.Create(t.Context(), names[i], []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2_000 {
		names = append(names, fmt.Sprintf("p/staging/0/2/%016d", i))
	}
	d.counted()
	if err := checkpoint.DeleteAll(t.Context(), store, names[1:]); err != nil {
		t.Fatal(err)
	}
	if got := d.counted(); got[http.MethodPost] != 3 || len(got) != 1 {
		t.Errorf("got requests %v for 2,029 names, want 3 POST", got)
	}
	if left, err := store.List(t.Context(), "", ""); err != nil || len(left) != 1 || left[0] != names[0] {
		t.Errorf("got %q, %v, want %q alone", left, err, names[0])
	}
}

// A store that ignores the condition is refused by validate, and before the first write: nothing of ours is overwritten.
func TestS3_refusesAStoreThatIgnoresTheCondition(t *testing.T) {
	g := gatewayServer(t)
	for _, c := range []struct {
		name, text string
		drop       func(r *http.Request) bool
	}{
		{"on every write", "second write", func(*http.Request) bool { return true }},
		{"when an upload is completed", "upload by parts", func(r *http.Request) bool { return r.Method == http.MethodPost }},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := func() *s3.Store {
				settings := gatewaySettings(g)
				store, err := s3.OpenThrough(settings, func(next http.RoundTripper) http.RoundTripper {
					return &unconditional{next: newDisturber(next), drop: c.drop}
				})
				if err != nil {
					t.Fatal(err)
				}
				return store
			}
			store := open()
			err := store.Probe(t.Context())
			if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v from Probe, want fault.Misconfigured about the %s", err, c.text)
			}
			store = open()
			if err := store.Create(t.Context(), "p/a", []byte("x")); err == nil || fault.KindOf(err) != fault.Misconfigured {
				t.Errorf("got %v from the first Create, want fault.Misconfigured", err)
			}
			if names, err := store.List(t.Context(), "", ""); err != nil || len(names) > 0 {
				t.Errorf("got %q, %v, want nothing stored", names, err)
			}
		})
	}
}

// unconditional is a server that does not know If-None-Match: the condition is taken out, and the request signed again.
type unconditional struct {
	next *disturber
	drop func(r *http.Request) bool
}

// RoundTrip implements [http.RoundTripper].
func (u *unconditional) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("If-None-Match") == "" || !u.drop(r) {
		return u.next.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Header.Del("If-None-Match")
	return u.next.skewed(r, 0, 0)
}

// Each mistake of a config has its own text, and says what to do.
func TestS3_tellsWhatIsWrong(t *testing.T) {
	g := gatewayServer(t)
	for _, c := range []struct {
		name         string
		change       func(s *s3.Settings)
		text, remedy string
	}{
		{"no bucket", func(s *s3.Settings) { s.Bucket = "not-there" }, "bucket not-there is not there", "create-bucket"},
		{"wrong secret", func(s *s3.Settings) { s.SecretAccessKey = config.NewSecret("wrong") }, "credentials are not valid", "secret_access_key"},
		{"unknown key", func(s *s3.Settings) { s.AccessKeyID = "nobody" }, "credentials are not valid", "access_key_id"},
		{"wrong region", func(s *s3.Settings) { s.Region = "eu-west-3" }, "region", "get-bucket-location"},
		{"no TLS there", func(s *s3.Settings) { s.Endpoint = strings.Replace(s.Endpoint, "http:", "https:", 1) }, "does not speak TLS", "http://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings := gatewaySettings(g)
			c.change(&settings)
			store, _ := openS3(t, settings)
			_, err := store.List(t.Context(), "", "")
			for what, err := range map[string]error{"List": err, "Create": store.Create(t.Context(), "p/a", nil), "Probe": store.Probe(t.Context())} {
				if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.text) || !strings.Contains(fault.RemedyOf(err), c.remedy) {
					t.Errorf("got from %s: %v; next: %s\nwant fault.Misconfigured about %q and %q", what, err, fault.RemedyOf(err), c.text, c.remedy)
				}
			}
		})
	}
	t.Run("clock", func(t *testing.T) {
		store, err := s3.OpenThrough(gatewaySettings(g), func(next http.RoundTripper) http.RoundTripper {
			return stuckClock{newDisturber(next)}
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = store.List(t.Context(), "", "")
		if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "chronyc") {
			t.Errorf("got %v; next: %s, want fault.Misconfigured about the clock", err, fault.RemedyOf(err))
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		settings := gatewaySettings(g)
		settings.Endpoint = "http://127.0.0.1:" + freePort(t)
		store, _ := openS3(t, settings)
		if err := store.Create(t.Context(), "p/a", nil); err == nil || fault.KindOf(err) != fault.Transient {
			t.Errorf("got %v from Create at a server that is not there, want fault.Transient: it may come", err)
		}
	})
}

// stuckClock is a machine whose clock is off and stays so.
type stuckClock struct{ *disturber }

// RoundTrip implements [http.RoundTripper].
func (s stuckClock) RoundTrip(r *http.Request) (*http.Response, error) {
	return s.skewed(r, -time.Hour, 0)
}

// After a first success a mistake is taken for a disturbance: a right that is taken away for a minute does not end the pipeline.
func TestS3_whatWorkedOnceMayWorkAgain(t *testing.T) {
	store, d := openS3(t, gatewaySettings(gatewayServer(t)))
	if err := store.Create(t.Context(), "p/a", nil); err != nil {
		t.Fatal(err)
	}
	denied := &denying{d.next}
	d.next = denied
	_, err := store.Get(t.Context(), "p/a")
	if err == nil || fault.KindOf(err) != fault.Transient || !strings.Contains(fault.RemedyOf(err), "s3:PutObject") {
		t.Errorf("got %v; next: %s, want fault.Transient with the rights that are needed", err, fault.RemedyOf(err))
	}
	if err := store.Create(t.Context(), "p/b", nil); err == nil || fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v from Create, want fault.Transient", err)
	}
	d.next = denied.next
	if err := store.Create(t.Context(), "p/b", nil); err != nil {
		t.Errorf("Create with the right again: %v", err)
	}
}

// denying is a server that gives no right.
type denying struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (d *denying) RoundTrip(r *http.Request) (*http.Response, error) {
	return answerWith(r, http.StatusForbidden, "AccessDenied", "Access Denied."), nil
}
