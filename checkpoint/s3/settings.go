package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
)

// How the store encrypts what it keeps, as the protocol spells it.
const (
	encryptAES256  = "AES256"
	encryptKMS     = "aws:kms"
	encryptKMSDual = "aws:kms:dsse"
)

// prefixBytesMax is S3's bound of 1,024 bytes for a key, less the 768 of the longest name and a slash.
const prefixBytesMax = 255

// Settings is what the checkpoint section says for this store.
type Settings struct {
	Bucket string `config:"bucket"`
	// Prefix begins all keys; slashes at its ends do not count. Empty: the bucket's root.
	Prefix string `config:"prefix"`
	// Region is the bucket's; empty: what the environment or the profile says, and with an endpoint us-east-1.
	Region string `config:"region"`
	// Endpoint is the URL of a server that is not Amazon's; empty: what the environment or the profile says, else Amazon's.
	Endpoint string `config:"endpoint"`
	// PathStyle puts the bucket into the path of a request, not into the host's name; nil: with an endpoint.
	PathStyle *bool `config:"path_style"`

	AccessKeyID     string        `config:"access_key_id"`
	SecretAccessKey config.Secret `config:"secret_access_key"`
	SessionToken    config.Secret `config:"session_token"`
	Profile         string        `config:"profile"`
	CAFile          string        `config:"ca_file"`

	Encryption   string `config:"server_side_encryption"` // AES256, aws:kms, aws:kms:dsse; empty: the bucket's default
	KMSKeyID     string `config:"kms_key_id"`
	StorageClass string `config:"storage_class"`

	// Multipart uploads what is larger than two parts by parts.
	Multipart bool         `config:"multipart"`
	PartSize  config.Bytes `config:"part_size"`
	// RequestTimeout bounds one attempt of one request, but for the time that its bytes need at 1 MiB a second.
	RequestTimeout time.Duration `config:"request_timeout"`
	// Attempts is how often one request is sent before its call gives up. The pipeline calls again.
	Attempts int `config:"request_attempts"`
}

// Spec describes the keys of this store in the checkpoint section.
func Spec() config.Spec {
	return config.Spec{
		Type: "s3",
		Doc: "Checkpoints in a bucket of Amazon S3, or of a server that speaks its protocol and honours `If-None-Match: *` on writes: " +
			"`ingestd validate --connect` tries it. Without keys here, credentials come from the environment, the shared files, a web identity " +
			"token, or the metadata of the container or machine, in this order.",
		Keys: append(placeKeys(), requestKeys()...),
	}
}

func placeKeys() []config.Key {
	return []config.Key{
		{Name: "bucket", Kind: config.KindString, Required: true, Min: "3", Max: "255", Example: "checkpoints", Doc: "The bucket, which must be there."},
		{Name: "prefix", Kind: config.KindString, Max: "255", Example: "ingestd/production", Doc: "What all keys begin with, a folder of the bucket. By default the bucket's root."},
		{Name: "region", Kind: config.KindString, Example: "eu-central-1", Doc: "The bucket's region. By default that of the environment or the profile, and `us-east-1` with an endpoint."},
		{Name: "endpoint", Kind: config.KindString, Example: "https://s3.internal:9000", Doc: "URL of a server that is not Amazon's. By default that of the environment or the profile."},
		{Name: "path_style", Kind: config.KindBool, Example: "true", Doc: "Put the bucket into the path of a request, not into the host's name. By default true with an endpoint."},
		{Name: "access_key_id", Kind: config.KindString, Example: "AKIAIOSFODNN7EXAMPLE", Doc: "The access key, when it is not to come from the environment or the machine."},
		{Name: "secret_access_key", Kind: config.KindSecret, Example: "${env:S3_SECRET_ACCESS_KEY}", Doc: "The secret of the access key."},
		{Name: "session_token", Kind: config.KindSecret, Example: "${env:S3_SESSION_TOKEN}", Doc: "The token of temporary keys."},
		{Name: "profile", Kind: config.KindString, Example: "ingestd", Doc: "The profile of the shared config and credentials files. By default that of the environment."},
		{Name: "ca_file", Kind: config.KindString, Example: "/etc/ingestd/ca.pem", Doc: "PEM file of authorities that are trusted besides the system's."},
	}
}

func requestKeys() []config.Key {
	return []config.Key{
		{
			Name: "server_side_encryption", Kind: config.KindEnum, Enum: []string{encryptAES256, encryptKMS, encryptKMSDual}, Example: encryptKMS,
			Doc: "How the store encrypts objects. By default as the bucket is set.",
		},
		{Name: "kms_key_id", Kind: config.KindString, Example: "alias/ingestd", Doc: "The key for `aws:kms` and `aws:kms:dsse`. By default the account's."},
		{Name: "storage_class", Kind: config.KindString, Example: "STANDARD", Doc: "The storage class of new objects. One that must be restored before it is read can't be used."},
		{Name: "multipart", Kind: config.KindBool, Default: "true", Doc: "Upload objects above two parts by parts. Turn it off for a store that ignores the condition when the upload is completed."},
		{Name: "part_size", Kind: config.KindBytes, Default: "16MiB", Min: "5MiB", Max: "1GiB", Doc: "The size of a part. Four are under way at a time."},
		{Name: "request_timeout", Kind: config.KindDuration, Default: "30s", Min: "1s", Max: "10m", Doc: "How long one attempt of one request may take, besides the time that its bytes need at 1 MiB a second."},
		{Name: "request_attempts", Kind: config.KindInt, Default: "3", Min: "1", Max: "20", Doc: "How often a request is sent before its failure is told. The pipeline tries again after that, without end."},
	}
}

// Check refuses settings that don't fit together.
func (s *Settings) Check() error {
	var errs []error
	if (s.AccessKeyID == "") != (s.SecretAccessKey.Reveal() == "") {
		errs = append(errs, errors.New("access_key_id and secret_access_key go together"))
	}
	if s.SessionToken.Reveal() != "" && s.AccessKeyID == "" {
		errs = append(errs, errors.New("session_token needs access_key_id and secret_access_key"))
	}
	if s.AccessKeyID != "" && s.Profile != "" {
		errs = append(errs, errors.New("access_key_id and profile are two sources of credentials: keep one"))
	}
	if s.KMSKeyID != "" && s.Encryption != encryptKMS && s.Encryption != encryptKMSDual {
		errs = append(errs, fmt.Errorf("kms_key_id needs server_side_encryption = %q", encryptKMS))
	}
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("endpoint %q is no URL of the form https://HOST:PORT", s.Endpoint))
		}
	}
	if err := checkPrefix(s.prefix()); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// prefix returns what keys begin with: empty, or with a slash at its end.
func (s *Settings) prefix() string {
	p := strings.Trim(s.Prefix, "/")
	if p == "" {
		return ""
	}
	return p + "/"
}

func checkPrefix(p string) error {
	if p == "" {
		return nil
	}
	if len(p) > prefixBytesMax+1 {
		return fmt.Errorf("prefix has %d bytes, at most %d are possible", len(p)-1, prefixBytesMax)
	}
	if err := checkpoint.CheckName(strings.TrimSuffix(p, "/")); err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	return nil
}
