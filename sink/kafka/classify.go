package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ingestd/ingestd/fault"
)

// What the ledger says when this run can't go on.
var (
	// errFenced says that a newer run has taken over.
	errFenced = errors.New("another run has taken over")
	// errStore says that the ledger's record is of another checkpoint store.
	errStore = errors.New("the ledger's record is of another checkpoint store")
	// errLedger says that the ledger is not the one that the manifest knows.
	errLedger = errors.New("the ledger does not fit the checkpoint store")
)

// kindOf classifies an error of the client library or a code of the protocol. otherwise is the kind of what a person need not
// mend: Transient where nothing was sent that changes data, else Unknown.
func kindOf(err error, otherwise fault.Kind) fault.Kind {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known.Kind
	}
	switch {
	case errors.Is(err, errFenced):
		return fault.Fenced
	case errors.Is(err, errStore), errors.Is(err, errLedger):
		return fault.Lost
	}
	for _, m := range misconfigured() {
		if errors.Is(err, m.err) {
			return fault.Misconfigured
		}
	}
	if isCertificate(err) {
		return fault.Misconfigured
	}
	return otherwise
}

// mistake is an error that a person must mend, and how.
type mistake struct {
	err    error
	remedy string
}

func misconfigured() []mistake {
	return []mistake{
		{kerr.TopicAuthorizationFailed, "allow WRITE and DESCRIBE on the topic, and READ, WRITE and DESCRIBE on the ledger, to this user"},
		{kerr.TransactionalIDAuthorizationFailed, "allow WRITE and DESCRIBE on the transactional id to this user"},
		{kerr.ClusterAuthorizationFailed, "allow IDEMPOTENT_WRITE on the cluster to this user (brokers below 3.0), or CREATE on the topic that is to be created"},
		{kerr.SaslAuthenticationFailed, "check sasl.username and sasl.password"},
		{kerr.UnsupportedSaslMechanism, "choose a sasl.mechanism that the brokers have"},
		{kerr.InvalidTransactionTimeout, "lower transaction_timeout, or raise the brokers' transaction.max.timeout.ms"},
		{kerr.MessageTooLarge, "raise the topic's max.message.bytes to what it was when the rows were prepared"},
		{kerr.RecordListTooLarge, "raise the topic's segment.bytes above its max.message.bytes"},
		{kerr.InvalidTimestamp, "raise the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms to what they were when the rows were prepared"},
		{kerr.InvalidRecord, "the topic refuses records: was cleanup.policy changed to compact, which needs keys?"},
		{kerr.PolicyViolation, "the brokers' policy refuses this: see the message"},
		{kerr.InvalidTopicException, "choose a valid topic"},
		{kerr.UnsupportedCompressionType, "choose a compression that the brokers have"},
		{kerr.UnsupportedVersion, "run Kafka 2.8 or later"},
	}
}

// isCertificate reports whether TLS was refused for a reason that does not pass by itself.
func isCertificate(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		host         x509.HostnameError
		invalid      x509.CertificateInvalidError
		header       tls.RecordHeaderError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) ||
		errors.As(err, &invalid) || errors.As(err, &header)
}

// remedyOf says how a mistake is mended, or "".
func remedyOf(err error) string {
	if known := fault.RemedyOf(err); known != "" {
		return known
	}
	for _, m := range misconfigured() {
		if errors.Is(err, m.err) {
			return m.remedy
		}
	}
	return ""
}

// at wraps err for the border of the package.
func at(op fault.Op, otherwise fault.Kind, err error) error {
	return fault.WithRemedy(op, kindOf(err, otherwise), err, remedyOf(err))
}

// guessVersion names the Kafka version that the broker's requests give away.
func guessVersion(resp *kmsg.ApiVersionsResponse) string {
	return kversion.FromApiVersionsResponse(resp).VersionGuess()
}
