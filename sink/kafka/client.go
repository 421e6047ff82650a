package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Limits of the client library's own patience. What outlasts them is retried by the pipeline, visibly.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 10 * time.Second
	backoffMin     = 20 * time.Millisecond
)

// The highest versions of requests that a cluster below transaction version 2 may get: the later ones are of its protocol. A
// broker takes some of them all the same, and the transaction then hangs.
const (
	produceVersionMax       = 11
	addPartitionsVersionMax = 3
	endTxnVersionMax        = 4

	produceKey       = 0
	addPartitionsKey = 24
	endTxnKey        = 26
)

// pinned are the versions for a cluster below transaction version 2.
func pinned() *kversion.Versions {
	v := kversion.Tip()
	v.SetMaxKeyVersion(produceKey, produceVersionMax)
	v.SetMaxKeyVersion(addPartitionsKey, addPartitionsVersionMax)
	v.SetMaxKeyVersion(endTxnKey, endTxnVersionMax)
	return v
}

// dial makes a client. It reads certificate files but does not touch the network: connections are made when needed.
func (s *Settings) dial(log *slog.Logger, more ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(s.Brokers...),
		kgo.ClientID(s.ClientID),
		kgo.WithLogger(logger{log}),
		kgo.DialTimeout(dialTimeout),
		kgo.RequestTimeoutOverhead(requestTimeout),
		kgo.RequestRetries(1),
		kgo.RetryTimeout(requestTimeout),
		kgo.RetryBackoffFn(func(int) time.Duration { return backoffMin }),
		kgo.MetadataMinAge(backoffMin),
		kgo.DisableClientMetrics(),
	}
	switch {
	case s.Dial != nil:
		opts = append(opts, kgo.Dialer(s.Dial))
	case s.TLS != nil:
		conf, err := s.TLS.load()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(conf))
	}
	if s.SASL != nil {
		opts = append(opts, kgo.SASL(s.SASL.mechanism()))
	}
	return kgo.NewClient(append(opts, more...)...)
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

// logger passes the client library's messages on, at debug level: whatever matters is reported by this package in its own words.
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
