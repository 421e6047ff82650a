package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Limits of the client library's own patience. What outlasts them is retried by this package, visibly.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 10 * time.Second
	requestRetries = 2
)

// dial makes a client. It reads certificate files but does not touch the network: connections are made when needed.
func (p *plan) dial(log *slog.Logger) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(p.Brokers...),
		kgo.ClientID(p.ClientID),
		kgo.WithLogger(logger{log}),
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.RequestRetries(requestRetries),
		kgo.RetryTimeout(requestTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return backoffMin }),
		kgo.MetadataMinAge(backoffMin),
		kgo.DisableClientMetrics(),
		// An answer holds at most one batch above fetch_bytes_max, and a batch that is larger on the wire than it may be
		// decompressed is refused anyway.
		kgo.BrokerMaxReadBytes(int32(min(int64(p.FetchBytesMax)+int64(p.BatchBytesMax)+(1<<20), 1<<31-1))),
	}
	switch {
	case p.Dial != nil:
		opts = append(opts, kgo.Dialer(p.Dial))
	case p.TLS != nil:
		conf, err := p.TLS.load()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(conf))
	}
	if p.SASL != nil {
		opts = append(opts, kgo.SASL(p.SASL.mechanism()))
	}
	return kgo.NewClient(opts...)
}

// load reads the certificates.
func (t *TLS) load() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify,
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: no certificate in %s", t.CA)
		}
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func (s *SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case mechanismPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			return plain.Auth{User: s.Username, Pass: s.Password.Reveal()}, nil
		})
	case mechanismScram512:
		return scram.Sha512(func(context.Context) (scram.Auth, error) {
			return scram.Auth{User: s.Username, Pass: s.Password.Reveal()}, nil
		})
	default:
		return scram.Sha256(func(context.Context) (scram.Auth, error) {
			return scram.Auth{User: s.Username, Pass: s.Password.Reveal()}, nil
		})
	}
}

// logger passes the client library's messages on. They are at debug level at most: whatever matters is reported by this
// package in its own words.
type logger struct{ log *slog.Logger }

// Level asks for everything only when somebody listens.
func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelDebug
	}
	return kgo.LogLevelNone
}

// Log writes one message.
func (l logger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.LogAttrs(context.Background(), slog.LevelDebug, "kafka client", slog.String("message", msg),
		slog.String("detail", fmt.Sprint(keyvals...)))
}

// client returns the source's own client, for everything but fetching.
func (s *Source) client() (*kgo.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, errors.New("the source is closed")
	}
	if s.mu.client == nil {
		client, err := s.plan.dial(s.log)
		if err != nil {
			return nil, err
		}
		s.mu.client = client
	}
	return s.mu.client, nil
}
