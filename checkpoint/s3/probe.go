package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ingestd/ingestd/fault"
)

// probeFolder holds what probes leave when they die. No object's name has a "~".
const probeFolder = "~probe/"

const (
	probeFirst  = "ingestd tries whether the store honours If-None-Match: *"
	probeSecond = "this must not be stored"
)

// errIgnored says that a store lets a second write through.
var errIgnored = errors.New("the store ignores the condition If-None-Match: * of a write: two daemons could both publish the same checkpoint")

const ignoredRemedy = "use a store that honours If-None-Match: * on PutObject (Amazon S3 does, and so do current releases of most servers), and update this one"

// Probe implements [checkpoint.Prober]: it writes a throw-away key twice, of which the second must be refused, tries the same with
// an upload by parts, and removes the key.
//
// Error kinds: fault.Misconfigured for a store that ignores the condition, that does not show what was written, or that can't be
// used; fault.Transient.
func (s *Store) Probe(ctx context.Context) error {
	const op = "checkpoint/s3.Probe"
	s.probe.Lock()
	defer s.probe.Unlock()
	return s.probeLocked(ctx, op)
}

// probeOnce probes before the first Create. A store that passed is not probed again.
func (s *Store) probeOnce(ctx context.Context) error {
	s.probe.Lock()
	defer s.probe.Unlock()
	if s.probe.passed {
		return nil
	}
	return s.probeLocked(ctx, "checkpoint/s3.Create")
}

func (s *Store) probeLocked(ctx context.Context, op fault.Op) error {
	key := s.prefix + probeFolder + rand.Text()
	ctx = withoutCall(ctx)
	err := s.tryKey(ctx, key)
	_, removeErr := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	if err == nil && removeErr != nil {
		err = s.probeFault("delete of a trial key", removeErr)
	}
	if err != nil {
		return fault.E(op, fault.KindOf(err), err)
	}
	s.worked.Store(true)
	s.probe.passed = true
	return nil
}

// tryKey writes a key and then tries to write it again, by each way that the store uses.
func (s *Store) tryKey(ctx context.Context, key string) error {
	if err := s.put(ctx, key, []byte(probeFirst)); err != nil && !exists(err) { // exists: the answer of a first attempt was lost
		return s.probeFault("write of a trial key", err)
	}
	if err := s.mustRefuse(s.put(ctx, key, []byte(probeSecond)), "second write of a trial key", ignoredRemedy); err != nil {
		return err
	}
	page, err := s.client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &key})
	switch {
	case err != nil:
		return s.probeFault("list of a trial key", err)
	case len(page.Contents) != 1 || aws.ToString(page.Contents[0].Key) != key:
		return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("list of a trial key: %w", errStale), staleRemedy)
	}
	if !s.settings.Multipart {
		return nil
	}
	err = s.upload(ctx, key, []byte(probeSecond))
	return s.mustRefuse(err, "upload by parts of a trial key", "set multipart = false if a single write passes, or "+ignoredRemedy)
}

// mustRefuse wants the answer to a write whose condition does not hold.
func (s *Store) mustRefuse(err error, what, remedy string) error {
	switch {
	case err == nil:
		return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("%s: %w", what, errIgnored), remedy)
	case exists(err):
		return nil
	case answerOf(err).is(codeNoFeature, http.StatusNotImplemented):
		return fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("%s: the store lacks the condition: %w", what, err), remedy)
	}
	return s.probeFault(what, err)
}

// probeFault refuses what a person must mend, although reads may have worked already: a right to write, say.
func (s *Store) probeFault(what string, err error) error {
	e := s.explain(err)
	kind := fault.Transient
	if e.remedy != "" && !errors.Is(err, context.Canceled) {
		kind = fault.Misconfigured
	}
	return fault.WithRemedy("", kind, fmt.Errorf("%s: %w", what, e.err), e.remedy)
}
