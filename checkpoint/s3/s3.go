// Package s3 keeps a checkpoint store in a bucket of Amazon S3, or of a server that speaks its protocol.
//
// Each object is one under the prefix and its own name. It is created by a PutObject, or for large ones a
// CompleteMultipartUpload, with the condition If-None-Match: *, which the server decides atomically: of any number of writers one
// wins, and a name shows nothing or a whole object. A server that ignores the condition is found by [Store.Probe], and before the
// first Create of every open store, and is refused.
//
// A request whose answer stays away may still land, at any time: it is fault.Unknown, also when the library's next attempt was
// refused, unless something stands under the name by then. No clock and no lock takes part, and nothing is kept on this machine.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

var (
	_ checkpoint.Store        = (*Store)(nil)
	_ checkpoint.BatchDeleter = (*Store)(nil)
	_ checkpoint.Prober       = (*Store)(nil)
)

// Store is a folder of a bucket. It may be used by several goroutines, and several processes may use the same folder.
//
// Errors that a person must mend (no bucket, no right, another region, a wrong clock) are fault.Misconfigured until a first
// request went well, and fault.Transient after that, with the same text and remedy: what worked once may work again.
type Store struct {
	client   *awss3.Client
	settings Settings
	bucket   string
	prefix   string // of every key: empty, or with a slash at its end
	part     int64

	worked atomic.Bool // a request went well
	seen   witness

	probe struct {
		sync.Mutex
		passed bool
	}
}

// Open returns the store that the settings name. It reads the environment and the shared files of the credentials, and asks no
// server: the first call does.
//
// Error kind: fault.Misconfigured.
func Open(s Settings) (*Store, error) { return OpenThrough(s, nil) }

// OpenThrough is [Open] with what all requests go through, which gets what would send them: to count them, to trace them, or to
// lose them. Nil is nothing.
func OpenThrough(s Settings, through func(http.RoundTripper) http.RoundTripper) (*Store, error) {
	const op = "checkpoint/s3.Open"
	if err := s.Check(); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	client, err := newClient(context.Background(), &s, through)
	switch {
	case errors.Is(err, errNoRegion):
		return nil, fault.WithRemedy(op, fault.Misconfigured, err, "set region to the bucket's region, or AWS_REGION in the daemon's environment")
	case err != nil:
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	part := int64(s.PartSize)
	if part <= 0 {
		part = partSizeDefault
	}
	return &Store{client: client, settings: s, bucket: s.Bucket, prefix: s.prefix(), part: part}, nil
}

// key returns the key of an object.
func (s *Store) key(name string) *string { return aws.String(s.prefix + name) }

// Get implements [checkpoint.Store]. Error kinds: fault.Transient; fault.Misconfigured for what is no name, for what a person must
// mend, and for a server whose answers are stale.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	return s.get(ctx, "checkpoint/s3.Get", name, "")
}

// GetRange implements [checkpoint.Store]. Error kinds as Get; a negative offset or length is fault.Misconfigured.
func (s *Store) GetRange(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	const op = "checkpoint/s3.GetRange"
	if offset < 0 || length < 0 {
		return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("%s: %d bytes from %d", name, length, offset))
	}
	// A range of no bytes can't be asked for: one byte tells whether the object is there.
	data, err := s.get(ctx, op, name, rangeOf(offset, max(length, 1)))
	if err != nil {
		return nil, err
	}
	return data[:min(length, int64(len(data)))], nil
}

// rangeOf returns a header for at least one byte.
func rangeOf(offset, length int64) string {
	if offset > math.MaxInt64-length {
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// readAttempts bounds how often a body that breaks off is asked for again; before the body the library does it.
const readAttempts = 3

// get reads an object, or the part that a range header names.
func (s *Store) get(ctx context.Context, op fault.Op, name, part string) ([]byte, error) {
	if err := checkpoint.CheckName(name); err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.E(op, fault.Transient, err)
	}
	var data []byte
	var err error
	created, known := s.seen.find(name)
	for range readAttempts {
		var broken bool
		if data, broken, err = s.read(ctx, name, part); !broken || ctx.Err() != nil {
			break
		}
	}
	switch {
	case err == nil:
		s.worked.Store(true)
		return data, nil
	case absent(err):
		s.worked.Store(true)
		if known {
			if err := s.staleGet(ctx, op, created); err != nil {
				return nil, err
			}
		}
		return nil, fault.E(op, fault.Transient, fmt.Errorf("%s: %w", name, checkpoint.ErrNotExist))
	case part != "" && outOfRange(err):
		s.worked.Store(true)
		return []byte{}, nil
	}
	return nil, s.readError(op, name, err)
}

// read makes one request. Broken says that the answer broke off within the body.
func (s *Store) read(ctx context.Context, name, part string) (data []byte, broken bool, err error) {
	input := &awss3.GetObjectInput{Bucket: &s.bucket, Key: s.key(name)}
	if part != "" {
		input.Range = &part
	}
	out, err := s.client.GetObject(ctx, input)
	if err != nil {
		return nil, false, err
	}
	if part != "" && out.ContentRange == nil {
		err := errors.New("the server ignores the range of a request")
		return nil, false, errors.Join(err, out.Body.Close())
	}
	if data, err = io.ReadAll(out.Body); err == nil && out.ContentLength != nil && int64(len(data)) != *out.ContentLength {
		err = fmt.Errorf("got %d of %d bytes: %w", len(data), *out.ContentLength, io.ErrUnexpectedEOF)
	}
	out.Body.Close() //nolint:errcheck // everything was read, or is asked for again
	return data, err != nil, err
}

// List implements [checkpoint.Store]. Keys that are no object's are not listed. Error kinds as Get, fault.Misconfigured also for a
// prefix that no name has.
func (s *Store) List(ctx context.Context, prefix, after string) ([]string, error) {
	const op = "checkpoint/s3.List"
	if folder := prefix[:strings.LastIndexByte(prefix, '/')+1]; folder != "" {
		if err := checkpoint.CheckName(strings.TrimSuffix(folder, "/")); err != nil {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("prefix %q: %w", prefix, err))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.E(op, fault.Transient, err)
	}
	known := s.seen.matching(prefix, after)
	names, err := s.list(ctx, prefix, after)
	if err != nil {
		return nil, s.readError(op, fmt.Sprintf("prefix %q", prefix), err)
	}
	s.worked.Store(true)
	slices.Sort(names) // directory buckets have no order
	if err := s.staleList(ctx, op, names, known); err != nil {
		return nil, err
	}
	return names, nil
}

// list reads all pages.
func (s *Store) list(ctx context.Context, prefix, after string) ([]string, error) {
	input := &awss3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: s.key(prefix)}
	if after != "" {
		input.StartAfter = s.key(after)
	}
	var names []string
	for {
		page, err := s.client.ListObjectsV2(ctx, input)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			name, ok := strings.CutPrefix(aws.ToString(o.Key), s.prefix)
			if ok && checkpoint.CheckName(name) == nil && strings.HasPrefix(name, prefix) && name > after {
				names = append(names, name)
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return names, nil
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			return nil, errors.New("the server says that its list goes on, and not where")
		}
		input.ContinuationToken = page.NextContinuationToken
	}
}

// Delete implements [checkpoint.Store]. Error kinds: fault.Transient when nothing was removed, fault.Misconfigured as Get, else
// fault.Unknown.
func (s *Store) Delete(ctx context.Context, name string) error {
	const op = "checkpoint/s3.Delete"
	if err := checkpoint.CheckName(name); err != nil {
		return fault.E(op, fault.Misconfigured, err)
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	s.seen.forget(name)
	ctx, call := newCall(ctx)
	_, err := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(name)})
	if err == nil || absent(err) {
		s.worked.Store(true)
		return nil
	}
	return s.fault(op, kindOf(call), name, err)
}

// deleteBatch is how many keys the protocol takes in one request.
const deleteBatch = 1000

// DeleteAll implements [checkpoint.BatchDeleter]: a request for each 1,000 names, in their order.
func (s *Store) DeleteAll(ctx context.Context, names []string) error {
	const op = "checkpoint/s3.DeleteAll"
	for _, name := range names {
		if err := checkpoint.CheckName(name); err != nil {
			return fault.E(op, fault.Misconfigured, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fault.E(op, fault.Transient, err)
	}
	for batch := range slices.Chunk(names, deleteBatch) {
		if err := s.deleteBatch(ctx, op, batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) deleteBatch(ctx context.Context, op fault.Op, names []string) error {
	keys := make([]types.ObjectIdentifier, len(names))
	for i, name := range names {
		s.seen.forget(name)
		keys[i].Key = s.key(name)
	}
	ctx, call := newCall(ctx)
	out, err := s.client.DeleteObjects(ctx, &awss3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: keys, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return s.fault(op, kindOf(call), fmt.Sprintf("%d objects from %s", len(names), names[0]), err)
	}
	s.worked.Store(true)
	for _, e := range out.Errors {
		if aws.ToString(e.Code) != codeNoKey {
			name := strings.TrimPrefix(aws.ToString(e.Key), s.prefix)
			return fault.E(op, fault.Unknown, fmt.Errorf("%s: %s: %s", name, aws.ToString(e.Code), aws.ToString(e.Message)))
		}
	}
	return nil
}

// kindOf is the kind of a failed change: fault.Transient when no attempt can have had an effect.
func kindOf(c *call) fault.Kind {
	if c.mayHaveDone() {
		return fault.Unknown
	}
	return fault.Transient
}
