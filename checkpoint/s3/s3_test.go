package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
)

// reply is what a script answers: an error of the connection, or a status with a body.
type reply struct {
	err    error
	status int
	body   string
	header map[string]string
}

// script answers requests in order, and the last reply for ever. A real server is in the integration tests; this one says what a real
// one says too seldom.
type script struct {
	mu      sync.Mutex
	replies []reply
	sent    []string
	auth    []string
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	s.sent = append(s.sent, r.Method+" "+r.URL.Path)
	s.auth = append(s.auth, r.Header.Get("X-Amz-Content-Sha256"))
	next := s.replies[0]
	if len(s.replies) > 1 {
		s.replies = s.replies[1:]
	}
	if next.err != nil {
		return nil, next.err
	}
	h := http.Header{"Content-Type": {"application/xml"}}
	for name, value := range next.header {
		h.Set(name, value)
	}
	return &http.Response{
		StatusCode: next.status, Header: h, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(next.body)), Body: io.NopCloser(strings.NewReader(next.body)),
	}, nil
}

func refuse(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf("<Error><Code>%s</Code><Message>text</Message></Error>", code)}
}

func lost() reply { return reply{err: syscall.ECONNRESET} }

func settings() Settings {
	return Settings{
		Bucket: "bucket", Prefix: "/a/b/", Endpoint: "http://localhost:1", AccessKeyID: "id", SecretAccessKey: config.NewSecret("secret"),
		Attempts: 2, Multipart: true, PartSize: 5 << 20,
	}
}

// open returns a store whose probe has passed, or has not.
func open(t *testing.T, replies ...reply) (*Store, *script) {
	t.Helper()
	sc := &script{replies: replies}
	s, err := OpenThrough(settings(), func(http.RoundTripper) http.RoundTripper { return sc })
	if err != nil {
		t.Fatal(err)
	}
	s.probe.passed = true
	return s, sc
}

// Goal: what Create answers follows from what may have been done by any of its attempts, not from the last one alone.
func TestCreate_outcomeIsThatOfAllAttempts(t *testing.T) {
	gone := refuse(404, codeNoKey)
	there := reply{status: 206, body: "x", header: map[string]string{"Content-Range": "bytes 0-0/1"}}
	for _, c := range []struct {
		name    string
		replies []reply
		want    fault.Kind
		exists  bool
	}{
		{"refused", []reply{refuse(403, "AccessDenied")}, fault.Misconfigured, false},
		{"refused for now", []reply{refuse(400, "RequestTimeout"), refuse(400, "RequestTimeout")}, fault.Transient, false},
		{"conflict", []reply{refuse(409, codeConflict), refuse(409, codeConflict)}, fault.Transient, false},
		{"never sent", []reply{{err: unreached()}, {err: unreached()}}, fault.Transient, false},
		{"lost, then refused", []reply{lost(), refuse(403, "AccessDenied"), gone}, fault.Unknown, false},
		{"failed, then refused", []reply{refuse(500, "InternalError"), refuse(403, "AccessDenied"), gone}, fault.Unknown, false},
		{"slow down", []reply{refuse(503, "SlowDown"), refuse(503, "SlowDown"), gone}, fault.Unknown, false},
		{"timeout of something between", []reply{refuse(504, ""), refuse(408, ""), gone}, fault.Unknown, false},
		{"lost, and it is there", []reply{lost(), lost(), there}, fault.Unknown, true},
		{"lost, and nobody can tell", []reply{lost(), lost(), refuse(503, "SlowDown")}, fault.Unknown, false},
		{"lost, then exists", []reply{lost(), refuse(412, codeExists)}, fault.Unknown, true},
		{"exists", []reply{refuse(412, codeExists)}, fault.Unknown, true},
		{"exists without a body", []reply{{status: 412}}, fault.Unknown, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, sc := open(t, c.replies...)
			err := s.Create(t.Context(), "p/log/0/1", []byte("x"))
			if err == nil || fault.KindOf(err) != c.want || errors.Is(err, checkpoint.ErrExists) != c.exists {
				t.Errorf("got %v (%s), want %s, exists %v; requests %q", err, fault.KindOf(err), c.want, c.exists, sc.sent)
			}
		})
	}
}

// Goal: an upload by parts is known to be done only by the answer to its completion, and an error within a good answer is none.
func TestCreate_uploadByParts(t *testing.T) {
	started := reply{status: 200, body: "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"}
	part := reply{status: 200, header: map[string]string{"ETag": `"e"`}}
	done := reply{status: 200, body: `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`}
	errorIn200 := reply{status: 200, body: "<Error><Code>InternalError</Code><Message>text</Message></Error>"}
	aborted, gone := reply{status: 204}, refuse(404, codeNoKey)
	there := reply{status: 206, body: "x", header: map[string]string{"Content-Range": "bytes 0-0/1"}}
	up := []reply{started, part, part, part}
	for _, c := range []struct {
		name    string
		replies []reply
		want    string // "" for no error
		exists  bool
	}{
		{"done", append(up[:4:4], done), "", false},
		{"an error within 200", append(up[:4:4], errorIn200, errorIn200, aborted, gone), "unknown", false},
		{"the answer is lost, and the upload is gone", append(up[:4:4], lost(), refuse(404, codeNoUpload), aborted, there), "unknown", true},
		{"taken", append(up[:4:4], refuse(412, codeExists), aborted), "unknown", true},
		{"a conflict makes all anew", append(append(append(up[:4:4], refuse(409, codeConflict), refuse(409, codeConflict), aborted), up...), done), "", false},
		{"a part fails", append(up[:3:3], refuse(403, "AccessDenied"), aborted), "misconfigured", false},
		{"it can't be started", []reply{lost(), lost()}, "transient", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, sc := open(t, c.replies...)
			err := s.Create(t.Context(), "p/state/0/1", make([]byte, 11<<20))
			got := ""
			if err != nil {
				got = fault.KindOf(err).String()
			}
			if got != c.want || errors.Is(err, checkpoint.ErrExists) != c.exists {
				t.Errorf("got %v (%s), want %q, exists %v; requests:\n%s", err, got, c.want, c.exists, strings.Join(sc.sent, "\n"))
			}
		})
	}
}

// Goal: a body's bytes are signed, over every connection, so that none that changed on the way is stored.
func TestCreate_signsTheBytes(t *testing.T) {
	for _, endpoint := range []string{"http://localhost:1", "https://localhost:1"} {
		sc := &script{replies: []reply{{status: 200}}}
		set := settings()
		set.Endpoint = endpoint
		s, err := OpenThrough(set, func(http.RoundTripper) http.RoundTripper { return sc })
		if err != nil {
			t.Fatal(err)
		}
		s.probe.passed = true
		if err := s.Create(t.Context(), "p/a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
		if sc.auth[0] != sum || sc.sent[0] != "PUT /bucket/a/b/p/a" {
			t.Errorf("%s: got %s with %q, want the sum of the bytes", endpoint, sc.sent[0], sc.auth[0])
		}
	}
}

// Goal: reads don't take half an answer, another's answer or a lie for the object.
func TestReads_checkWhatComes(t *testing.T) {
	t.Run("range ignored", func(t *testing.T) {
		s, _ := open(t, reply{status: 200, body: "the whole object"})
		if data, err := s.GetRange(t.Context(), "p/a", 4, 5); err == nil {
			t.Errorf("got %q, want an error", data)
		}
	})
	t.Run("list that goes on nowhere", func(t *testing.T) {
		s, _ := open(t, reply{status: 200, body: "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/b/p/a</Key></Contents></ListBucketResult>"})
		if names, err := s.List(t.Context(), "p/", ""); err == nil {
			t.Errorf("got %q, want an error", names)
		}
	})
	t.Run("foreign keys", func(t *testing.T) {
		s, _ := open(t, reply{status: 200, body: "<ListBucketResult><Contents><Key>a/b/p/b</Key></Contents><Contents><Key>a/b/p/</Key></Contents>" +
			"<Contents><Key>a/b/p/~x</Key></Contents><Contents><Key>a/b/p/a</Key></Contents></ListBucketResult>"})
		if names, err := s.List(t.Context(), "p/", ""); err != nil || strings.Join(names, " ") != "p/a p/b" {
			t.Errorf("got %q, %v, want what has names, sorted", names, err)
		}
	})
	t.Run("no bucket is no absent object", func(t *testing.T) {
		s, _ := open(t, refuse(404, "NoSuchBucket"))
		if _, err := s.Get(t.Context(), "p/a"); errors.Is(err, checkpoint.ErrNotExist) || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("got %v, want fault.Misconfigured", err)
		}
	})
	t.Run("404 of something else", func(t *testing.T) {
		s, _ := open(t, reply{status: 404, body: "<html>not here</html>"})
		if _, err := s.Get(t.Context(), "p/a"); err == nil || errors.Is(err, checkpoint.ErrNotExist) {
			t.Errorf("got %v, want an error of its own", err)
		}
	})
	t.Run("a batch of deletes that failed in part", func(t *testing.T) {
		s, _ := open(t, reply{status: 200, body: "<DeleteResult><Error><Key>a/b/p/b</Key><Code>AccessDenied</Code><Message>text</Message></Error></DeleteResult>"})
		if err := s.DeleteAll(t.Context(), []string{"p/a", "p/b"}); err == nil || !strings.Contains(err.Error(), "p/b") {
			t.Errorf("got %v, want an error that names p/b", err)
		}
	})
}

// Goal: every answer that a person must mend names what to do.
func TestErrors_nameTheNextStep(t *testing.T) {
	for code := range refusals() {
		s, _ := open(t, refuse(400, code))
		_, err := s.Get(t.Context(), "p/a")
		if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" || strings.Contains(err.Error()+fault.RemedyOf(err), "%s") {
			t.Errorf("%s: got %v; next: %s", code, err, fault.RemedyOf(err))
		}
		s.worked.Store(true)
		if _, err := s.Get(t.Context(), "p/a"); fault.KindOf(err) != fault.Transient || fault.RemedyOf(err) == "" {
			t.Errorf("%s after a success: got %v (%s)", code, err, fault.KindOf(err))
		}
	}
}

// Goal: a store that can be read and not written is refused before the first write, not asked for ever.
func TestCreate_refusesAStoreThatCantBeWritten(t *testing.T) {
	s, _ := open(t, refuse(404, codeNoKey), refuse(403, "AccessDenied"))
	s.probe.passed = false
	if _, err := s.Get(t.Context(), "store"); !errors.Is(err, checkpoint.ErrNotExist) {
		t.Fatal(err)
	}
	err := s.Create(t.Context(), "store", []byte("x"))
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "s3:PutObject") {
		t.Errorf("got %v (%s); next: %s, want fault.Misconfigured with the rights", err, fault.KindOf(err), fault.RemedyOf(err))
	}
}

// Goal: an attempt that hangs ends by its own limit, however long the caller would wait, and is repeated.
func TestRequests_haveATimeLimit(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	set := settings()
	set.RequestTimeout = 50 * time.Millisecond
	n := 0
	s, err := OpenThrough(set, func(http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			n++
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-release:
				return nil, errors.New("released")
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), "p/a")
	if err == nil || fault.KindOf(err) != fault.Transient || !strings.Contains(err.Error(), "request_timeout") || n != 2 {
		t.Errorf("got %v after %d attempts, want fault.Transient about request_timeout after 2", err, n)
	}
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Goal: after a call has returned nobody reads the caller's bytes.
func TestBody_endsWithItsCall(t *testing.T) {
	b := newBody([]byte("bytes"))
	if data, err := io.ReadAll(b); err != nil || string(data) != "bytes" {
		t.Fatalf("got %q, %v", data, err)
	}
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b.end()
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errEnded) {
		t.Errorf("got %d, %v from Read", n, err)
	}
	if _, err := b.Seek(0, io.SeekStart); !errors.Is(err, errEnded) {
		t.Errorf("got %v from Seek", err)
	}
}

// Goal: what is remembered is bounded, and a name that is created again is another creation.
func TestWitness_isBounded(t *testing.T) {
	var w witness
	for i := range 3 * witnessedMax {
		w.created(fmt.Sprintf("p/%06d", i))
	}
	all := w.matching("p/", "")
	if len(all) != witnessedMax || all[0].name != fmt.Sprintf("p/%06d", 2*witnessedMax) {
		t.Errorf("got %d names from %v, want the newest %d", len(all), all[0], witnessedMax)
	}
	first := all[0]
	w.forget(first.name)
	w.created(first.name)
	if w.holds(first) {
		t.Error("a name that was deleted and created again is the same creation, want another")
	}
	if got := w.matching("p/", first.name); len(got) != witnessedMax-1 {
		t.Errorf("got %d names after the first, want the others", len(got))
	}
}

func TestSettings_refuseWhatDoesNotFit(t *testing.T) {
	for text, change := range map[string]func(s *Settings){
		"go together": func(s *Settings) { s.AccessKeyID = "" },
		"session_token needs": func(s *Settings) {
			s.AccessKeyID, s.SecretAccessKey, s.SessionToken = "", config.Secret{}, config.NewSecret("x")
		},
		"two sources":          func(s *Settings) { s.Profile = "x" },
		"kms_key_id needs":     func(s *Settings) { s.KMSKeyID, s.Encryption = "x", encryptAES256 },
		"is no URL":            func(s *Settings) { s.Endpoint = "s3.internal:9000" },
		"prefix has 300 bytes": func(s *Settings) { s.Prefix = strings.Repeat("x", 300) },
		"prefix: ":             func(s *Settings) { s.Prefix = "a//b" },
		"holds no certificate": func(s *Settings) { s.CAFile = "settings.go" },
		"ca_file: open":        func(s *Settings) { s.CAFile = "not-there.pem" },
	} {
		set := settings()
		change(&set)
		if _, err := Open(set); err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want fault.Misconfigured with %q", err, text)
		}
	}
	if _, err := Open(settings()); err != nil {
		t.Error(err)
	}
	set := settings()
	set.Endpoint, set.Region = "", ""
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_ENDPOINT_URL_S3", "")
	t.Setenv("AWS_CONFIG_FILE", "not-there")
	if _, err := Open(set); err == nil || !strings.Contains(fault.RemedyOf(err), "AWS_REGION") {
		t.Errorf("got %v; next: %s, want that a region is needed", err, fault.RemedyOf(err))
	}
}

// Goal: what the config says of encryption and storage class is in each request that makes an object.
func TestCreate_passesEncryptionOn(t *testing.T) {
	var headers []http.Header
	set := settings()
	set.Encryption, set.KMSKeyID, set.StorageClass = encryptKMS, "alias/x", "STANDARD_IA"
	started := "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
	s, err := OpenThrough(set, func(http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Has("uploads") || r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") {
				headers = append(headers, r.Header)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Etag": {`"e"`}}, Body: io.NopCloser(bytes.NewReader([]byte(started)))}, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.probe.passed = true
	_ = s.Create(t.Context(), "p/a", []byte("x"))
	_ = s.Create(t.Context(), "p/b", make([]byte, 11<<20))
	if len(headers) != 2 {
		t.Fatalf("got %d requests that make an object, want 2", len(headers))
	}
	for _, h := range headers {
		got := []string{h.Get("X-Amz-Server-Side-Encryption"), h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"), h.Get("X-Amz-Storage-Class")}
		if strings.Join(got, " ") != "aws:kms alias/x STANDARD_IA" {
			t.Errorf("got %q", got)
		}
	}
}

// unreached is what dialing a port gives that nobody listens on.
func unreached() error { return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED} }
