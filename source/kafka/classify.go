package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ingestd/ingestd/fault"
)

// kindOf classifies an error of the client library or a code of the protocol. Nothing that this package asks of a broker
// changes data, except for the mirror, so that a failed request is Transient unless a person must act.
func kindOf(err error) fault.Kind {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known.Kind
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed),
		errors.Is(err, kerr.ClusterAuthorizationFailed),
		errors.Is(err, kerr.GroupAuthorizationFailed),
		errors.Is(err, kerr.TransactionalIDAuthorizationFailed),
		errors.Is(err, kerr.SaslAuthenticationFailed),
		errors.Is(err, kerr.UnsupportedSaslMechanism),
		errors.Is(err, kerr.InvalidTopicException),
		// The broker has a batch compressed in a way that the version of our request can't have.
		errors.Is(err, kerr.UnsupportedCompressionType),
		errors.Is(err, kerr.UnsupportedVersion),
		errors.Is(err, kerr.InvalidGroupID),
		errors.Is(err, kerr.NonEmptyGroup):
		return fault.Misconfigured
	case isCertificate(err):
		return fault.Misconfigured
	}
	return fault.Transient
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

// remedy names the permission that a refusal asks for, or "".
func remedy(err error) string {
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return "allow READ and DESCRIBE on the topic to this user"
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return "allow READ and DESCRIBE on the group to this user, or remove group_mirror"
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "check sasl.username and sasl.password"
	}
	return ""
}

// classified wraps err for the border of the package.
func classified(op fault.Op, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.WithRemedy(op, kindOf(err), err, remedy(err))
}

// coded wraps the code of an answer with what it was about; nil for the code 0.
func coded(code int16, format string, args ...any) error {
	err := kerr.ErrorForCode(code)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
