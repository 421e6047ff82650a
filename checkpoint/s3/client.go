package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	dialTimeout   = 10 * time.Second
	retryPauseMax = 5 * time.Second
	// bytesPerSecond is how slow a body may go before its attempt is given up.
	bytesPerSecond = 1 << 20
	// idlePerHost keeps the connections of one checkpoint's uploads for the next.
	idlePerHost = 32
)

// errNoRegion says that nothing names the bucket's region.
var errNoRegion = errors.New("no region is set")

// newClient returns the library's client. It reads the environment and the shared files, and asks no server.
func newClient(ctx context.Context, s *Settings, through func(http.RoundTripper) http.RoundTripper) (*awss3.Client, error) {
	base := awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = idlePerHost })
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(base),
		awsconfig.WithRetryer(func() aws.Retryer { return newRetryer(s.Attempts) }),
		// The bytes of every object are signed by their SHA-256, which the server checks. Checksums beside that are what many
		// servers other than Amazon's don't know.
		awsconfig.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		awsconfig.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if s.Region != "" {
		options = append(options, awsconfig.WithRegion(s.Region))
	}
	if s.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(s.Profile))
	}
	if s.AccessKeyID != "" {
		keys := credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey.Reveal(), s.SessionToken.Reveal())
		options = append(options, awsconfig.WithCredentialsProvider(keys))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if s.Endpoint != "" {
		cfg.BaseEndpoint = &s.Endpoint
	}
	if cfg.Region == "" {
		if cfg.BaseEndpoint == nil {
			return nil, errNoRegion
		}
		cfg.Region = "us-east-1"
	}
	transport, err := newTransport(cfg, s, through)
	if err != nil {
		return nil, err
	}
	return awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		o.HTTPClient = transport
		o.UsePathStyle = o.BaseEndpoint != nil
		if s.PathStyle != nil {
			o.UsePathStyle = *s.PathStyle
		}
	}), nil
}

// newRetryer returns how the library repeats requests. It has no quota of retries: whoever calls the store waits between calls.
func newRetryer(attempts int) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = max(attempts, 1)
		o.MaxBackoff = retryPauseMax
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{
			codeConflict:   {},
			codeIncomplete: {},
			codeBadDigest:  {},
		}})
	})
}

// transport sends the store's requests. Each attempt has a time limit of its own, and tells the call that it belongs to how it
// ended: the library reports the last one only.
type transport struct {
	client  *http.Client
	timeout time.Duration
}

var _ awss3.HTTPClient = (*transport)(nil)

func newTransport(cfg aws.Config, s *Settings, through func(http.RoundTripper) http.RoundTripper) (*transport, error) {
	client, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, fmt.Errorf("the library replaced the HTTP client by a %T", cfg.HTTPClient)
	}
	base := client.GetTransport()
	if s.CAFile != "" {
		roots, err := readRoots(s.CAFile)
		if err != nil {
			return nil, err
		}
		if base.TLSClientConfig == nil {
			base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		base.TLSClientConfig.RootCAs = roots
	}
	var tripper http.RoundTripper = base
	if through != nil {
		tripper = through(base)
	}
	timeout := s.RequestTimeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	return &transport{timeout: timeout, client: &http.Client{
		Transport: tripper,
		// A redirect leads to another region, where the signature does not hold.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s holds no certificate in PEM form", file)
	}
	return roots, nil
}

// Do sends one attempt of a request.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	allow := func(bytes int64) time.Duration {
		return t.timeout + time.Duration(max(bytes, 0))*time.Second/bytesPerSecond
	}
	timer := time.AfterFunc(allow(req.ContentLength), func() { cancel(timeoutError{t.timeout}) })
	end := func() {
		timer.Stop()
		cancel(nil)
	}
	resp, err := t.client.Do(req.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); errors.As(cause, new(timeoutError)) {
			err = cause
		}
		end()
		callOf(req.Context()).failed(err)
		return nil, err
	}
	callOf(req.Context()).answered(resp.StatusCode)
	timer.Reset(allow(resp.ContentLength))
	resp.Body = &timedBody{ReadCloser: resp.Body, ctx: ctx.Err, cause: func() error { return context.Cause(ctx) }, end: end}
	return resp, nil
}

// timeoutError says that an attempt had its time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string {
	return fmt.Sprintf("no answer within %s (request_timeout)", e.after)
}

// Timeout tells the library to try again.
func (e timeoutError) Timeout() bool { return true }

// timedBody is a response's body that ends with its attempt.
type timedBody struct {
	io.ReadCloser
	ctx   func() error
	cause func() error
	end   func()
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx() != nil {
		err = b.cause()
	}
	return n, err
}

func (b *timedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// call collects how the attempts of one call went. A nil call takes no part.
type call struct {
	mu struct {
		sync.Mutex
		open bool // an attempt may have had its effect, or may still have it
		sent int
	}
}

type callKey struct{}

// newCall returns a context under which attempts are collected.
func newCall(ctx context.Context) (context.Context, *call) {
	c := &call{}
	return context.WithValue(ctx, callKey{}, c), c
}

func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil
	}
	return c
}

// failed notes an attempt without an answer.
func (c *call) failed(err error) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.sent++
	c.mu.open = c.mu.open || !neverSent(err)
}

// answered notes an attempt with an answer. The protocol says of no answer but those of the 4xx class, and redirects, that
// nothing was done: an error of the server's own, or of something in front of it, may come from a request that goes on.
func (c *call) answered(status int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.sent++
	c.mu.open = c.mu.open || status < 300 || status >= 500 || status == http.StatusRequestTimeout
}

// mayHaveDone reports whether one of the attempts may have had its effect, or may still have it.
func (c *call) mayHaveDone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.open
}

// neverSent reports that no byte of a request reached a server: there was no connection to it.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial" || errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*net.DNSError))
}
