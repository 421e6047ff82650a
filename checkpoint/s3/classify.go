package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ingestd/ingestd/fault"
)

// Error codes of the protocol that the store acts on.
const (
	codeExists     = "PreconditionFailed"
	codeConflict   = "ConditionalRequestConflict"
	codeIncomplete = "IncompleteBody"
	codeBadDigest  = "BadDigest"
	codeNoKey      = "NoSuchKey"
	codeNoUpload   = "NoSuchUpload"
	codeNoRange    = "InvalidRange"
	codeNoFeature  = "NotImplemented"
)

// answer is what a server said: its status, 0 for no answer, and the code of the error.
type answer struct {
	status int
	code   string
}

func answerOf(err error) answer {
	var a answer
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		a.status = resp.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		a.code = api.ErrorCode()
	}
	return a
}

// is tells an answer by its code, or by its status when a server or a proxy leaves the code out.
func (a answer) is(code string, status int) bool {
	if a.code == code {
		return true
	}
	return a.status == status && (a.code == "" || a.code == http.StatusText(status) || a.code == "UnknownError")
}

func exists(err error) bool {
	a := answerOf(err)
	return a.is(codeExists, http.StatusPreconditionFailed)
}

// absent tells that there is no such object. A bucket that is not there has the same status and another code.
func absent(err error) bool { return answerOf(err).code == codeNoKey }

func outOfRange(err error) bool {
	return answerOf(err).is(codeNoRange, http.StatusRequestedRangeNotSatisfiable)
}

// refusal is what a person must do about an answer, by the code of the error.
type refusal struct {
	what, remedy string
}

// refusals returns what each code of the protocol asks of a person; %s stands for the bucket.
func refusals() map[string]refusal {
	keys := refusal{
		"the credentials are not valid",
		"check access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE in the daemon's environment",
	}
	region := refusal{
		"bucket %s is in another region, or behind another endpoint",
		"set region to the bucket's region: aws s3api get-bucket-location --bucket %s",
	}
	encryption := refusal{"the key of server_side_encryption can't be used", "allow kms:GenerateDataKey and kms:Decrypt on kms_key_id, and check that the key is enabled"}
	return map[string]refusal{
		"NoSuchBucket": {
			"bucket %s is not there", "check bucket, region and endpoint, or make the bucket: aws s3api create-bucket --bucket %s",
		},
		"InvalidBucketName": {"%s can't be a bucket's name", "check bucket"},
		"AccessDenied": {
			"the right is missing in bucket %s",
			"allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the keys below the prefix and s3:ListBucket on the bucket",
		},
		"AllAccessDisabled":     {"access to bucket %s is turned off", "ask the account's owner"},
		"AccountProblem":        {"the account has a problem", "ask the account's owner"},
		"InvalidAccessKeyId":    keys,
		"XAdminUserNotFound":    keys, // of the Versity gateway
		"SignatureDoesNotMatch": keys,
		"InvalidToken":          keys,
		"AuthorizationHeaderMalformed": {
			"the region in the signature is not that of bucket %s",
			"set region to the bucket's region: aws s3api get-bucket-location --bucket %s",
		},
		"PermanentRedirect":            region,
		"TemporaryRedirect":            region,
		"Redirect":                     region,
		"IllegalLocationConstraint":    region,
		"MovedPermanently":             region,
		"RequestTimeTooSkewed":         {"this machine's clock and the server's differ too much", "set the clock, and keep it by NTP: chronyc makestep"},
		"KMS.DisabledException":        encryption,
		"KMS.NotFoundException":        encryption,
		"KMS.KMSInvalidStateException": encryption,
		"InvalidStorageClass":          {"the storage class is not known there", "check storage_class"},
		"InvalidObjectState":           {"objects were moved to an archive", "keep lifecycle rules that change the storage class away from the prefix, and restore the objects"},
		"EntityTooLarge":               {"an object is larger than the store allows", "set multipart = true, or lower the sink's segment_bytes_max"},
		codeNoFeature:                  {"the store lacks a function that checkpoints need", "use a store that honours If-None-Match: * on PutObject; without multipart uploads set multipart = false"},
		"InvalidArgument":              {"the store does not take the request", "check server_side_encryption, kms_key_id and storage_class against what the store knows"},
		"InvalidRequest":               {"the store does not take the request", "check server_side_encryption, kms_key_id and storage_class against what the store knows"},
	}
}

// said is a server's answer without what the library says around it.
type said struct {
	text string
	err  error
}

func (s said) Error() string { return s.text }

// Unwrap returns the library's error.
func (s said) Unwrap() error { return s.err }

// short makes the answer of a server readable: the status, the code, the server's own words, and what its owner finds the request by.
func short(err error) error {
	resp, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || resp.HTTPStatusCode() == 0 {
		if sent, ok := errors.AsType[*url.Error](err); ok {
			return said{sent.Error(), err}
		}
		return err
	}
	text := fmt.Sprintf("the server answers %d", resp.HTTPStatusCode())
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text += fmt.Sprintf(" %s: %s", api.ErrorCode(), api.ErrorMessage())
	}
	if resp.RequestID != "" {
		text += " (request " + resp.RequestID + ")"
	}
	return said{text, err}
}

// explained is an error with its text, and with the remedy when a person must mend it.
type explained struct {
	err    error
	remedy string // "" when nobody need do anything
}

// explain finds out what an error asks of a person.
func (s *Store) explain(err error) explained {
	err = short(err)
	a := answerOf(err)
	r, found := refusals()[a.code]
	switch {
	case found:
	case a.status == http.StatusMovedPermanently, a.status == http.StatusTemporaryRedirect, a.status == http.StatusPermanentRedirect:
		r = refusal{"the server sends elsewhere", "set region and endpoint to those of bucket %s"}
	case a.status == http.StatusForbidden:
		r = refusals()["AccessDenied"]
	case a.status == http.StatusNotFound:
		r = refusal{"the server knows no bucket %s at this address", "check endpoint, path_style and bucket"}
	case a.status == 0:
		r = noAnswer(err)
	}
	if r.what == "" {
		return explained{err, ""}
	}
	return explained{fmt.Errorf("%s: %w", s.fill(r.what), err), s.fill(r.remedy)}
}

// noAnswer tells what is wrong where no server answered; nothing for a server that may come.
func noAnswer(err error) refusal {
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(x509.UnknownAuthorityError)):
		return refusal{"the server's certificate is not trusted", "set ca_file to the PEM file of the authority that signed it, or endpoint to the name in the certificate"}
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return refusal{"the server does not speak TLS", "set endpoint to http://…, or turn TLS on there"}
	case strings.Contains(err.Error(), "get credentials:"), strings.Contains(err.Error(), "failed to retrieve credentials"):
		return refusal{"no credentials", "set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, " +
			"AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, or give the machine a role"}
	}
	return refusal{}
}

func (s *Store) fill(text string) string { return strings.ReplaceAll(text, "%s", s.bucket) }

// readError classifies what went wrong with a request that changes nothing.
func (s *Store) readError(op fault.Op, name string, err error) error {
	return s.fault(op, fault.Transient, name, err)
}

// fault wraps an error with its name, its text and its remedy. Before the first success an error that a person must mend is
// fault.Misconfigured, if nothing may have been done.
func (s *Store) fault(op fault.Op, kind fault.Kind, name string, err error) error {
	e := s.explain(err)
	if e.remedy != "" && kind == fault.Transient && !s.worked.Load() && !errors.Is(err, context.Canceled) {
		kind = fault.Misconfigured
	}
	if name != "" {
		e.err = fmt.Errorf("%s: %w", name, e.err)
	}
	return fault.WithRemedy(op, kind, e.err, e.remedy)
}
