package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

const (
	partSizeDefault = 16 << 20
	// partsAtOnce bounds the connections of one upload.
	partsAtOnce = 4
	// uploadAttempts bounds how often a whole upload is made again: the protocol asks for it after a conflict at its completion.
	uploadAttempts = 3
	// abortTimeout bounds the request that throws an upload's parts away.
	abortTimeout = 10 * time.Second
)

// Create implements [checkpoint.Store]. Besides that contract it returns fault.Misconfigured, and does nothing, when name is none,
// when the server ignores the condition, and as [Store] says.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	const op = "checkpoint/s3.Create"
	if err := checkpoint.CheckName(name); err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	if err := s.probeOnce(ctx); err != nil {
		return err
	}
	ctx, call := newCall(ctx)
	err := s.create(ctx, *s.key(name), data)
	switch {
	case err == nil:
		s.seen.created(name)
		return nil
	case exists(err):
		return fault.E(op, fault.Unknown, fmt.Errorf("%s: %w", name, checkpoint.ErrExists))
	case call.mayHaveDone() && s.isThere(ctx, name):
		return fault.E(op, fault.Unknown, fmt.Errorf("%s: %w", name, errors.Join(checkpoint.ErrExists, err)))
	}
	return s.fault(op, kindOf(call), name, err)
}

// isThere looks for an object after a request without an answer. What it finds decides nothing but that something is there: who
// made it stands in its bytes, which the caller compares. What it does not find may come yet.
func (s *Store) isThere(ctx context.Context, name string) bool {
	there, err := s.there(withoutCall(ctx), name)
	return err == nil && there
}

// create makes one object by the way that its size asks for.
func (s *Store) create(ctx context.Context, key string, data []byte) error {
	if !s.settings.Multipart || int64(len(data)) <= 2*s.part {
		return s.put(ctx, key, data)
	}
	var err error
	for range uploadAttempts {
		if err = s.upload(ctx, key, data); !answerOf(err).is(codeConflict, http.StatusConflict) {
			break
		}
	}
	return err
}

// put makes an object by one request.
func (s *Store) put(ctx context.Context, key string, data []byte) error {
	bytes := newBody(data)
	defer bytes.end()
	_, err := s.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: bytes, ContentLength: aws.Int64(int64(len(data))), IfNoneMatch: aws.String("*"),
		ContentType:          aws.String(contentType),
		ServerSideEncryption: types.ServerSideEncryption(s.settings.Encryption),
		SSEKMSKeyId:          notEmpty(s.settings.KMSKeyID),
		StorageClass:         types.StorageClass(s.settings.StorageClass),
	}, signed)
	return err
}

// signed makes the sum of a request's bytes part of its signature, so that the server refuses bytes that changed on their way. Over
// TLS the library would leave it out.
func signed(o *awss3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		sum := &v4.ComputePayloadSHA256{}
		_, err := stack.Finalize.Swap(sum.ID(), sum)
		return err
	})
}

const contentType = "application/octet-stream"

func notEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// upload makes an object by parts. The condition is decided when the parts are put together; until then nothing has the key. Parts
// of an upload that failed are thrown away, as far as the server can be reached.
func (s *Store) upload(ctx context.Context, key string, data []byte) error {
	start, err := s.client.CreateMultipartUpload(withoutCall(ctx), &awss3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: &key, ContentType: aws.String(contentType),
		ServerSideEncryption: types.ServerSideEncryption(s.settings.Encryption),
		SSEKMSKeyId:          notEmpty(s.settings.KMSKeyID),
		StorageClass:         types.StorageClass(s.settings.StorageClass),
	})
	if err != nil {
		return err
	}
	parts, err := s.uploadParts(withoutCall(ctx), key, start.UploadId, data)
	if err == nil {
		_, err = s.client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
			Bucket: &s.bucket, Key: &key, UploadId: start.UploadId, IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
	}
	if err != nil {
		s.abort(ctx, key, start.UploadId)
	}
	return err
}

// withoutCall leaves requests out of the account that can't make the object.
func withoutCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, (*call)(nil))
}

// uploadParts sends the parts, a few at a time, and stops at the first that fails.
func (s *Store) uploadParts(ctx context.Context, key string, upload *string, data []byte) ([]types.CompletedPart, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := int((int64(len(data)) + s.part - 1) / s.part)
	parts := make([]types.CompletedPart, n)
	free := make(chan struct{}, partsAtOnce)
	var wg sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			if ctx.Err() != nil {
				return
			}
			from := int64(i) * s.part
			part, err := s.uploadPart(ctx, key, upload, int32(i+1), data[from:min(from+s.part, int64(len(data)))]) //nolint:gosec // the protocol has 10,000 parts
			if err != nil {
				cancel(err)
			}
			parts[i] = part
		})
	}
	wg.Wait()
	return parts, context.Cause(ctx)
}

func (s *Store) uploadPart(ctx context.Context, key string, upload *string, number int32, data []byte) (types.CompletedPart, error) {
	bytes := newBody(data)
	defer bytes.end()
	out, err := s.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: &s.bucket, Key: &key, UploadId: upload, PartNumber: &number, Body: bytes, ContentLength: aws.Int64(int64(len(data))),
	}, signed)
	if err != nil {
		return types.CompletedPart{}, fmt.Errorf("part %d: %w", number, err)
	}
	return types.CompletedPart{ETag: out.ETag, PartNumber: &number}, nil
}

// abort throws the parts of an upload away. What is left is for the bucket's lifecycle rule: it takes space and does nothing else.
func (s *Store) abort(ctx context.Context, key string, upload *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(withoutCall(ctx)), abortTimeout)
	defer cancel()
	s.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: upload}) //nolint:errcheck // see above
}
