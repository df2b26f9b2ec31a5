package correlate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3State is a place for snapshots in S3. The bucket must be there, and must know
// conditional writes, which S3 and MinIO do.
type S3State struct {
	Client *s3.Client
	Bucket string
	Prefix string // of the keys, without the slash that ends it; may be empty
}

// stateS3 keeps snapshots in S3: an object for each of a partition's slots, which
// holds the snapshot and, in its metadata, what it is.
//
// A write replaces only what its worker has seen: the object that load found in
// the slot, or that the worker itself put there. A worker that lost its partition
// may write late, because it stood still and has not noticed, or because its
// request was long on its way: when the newer owner has written to the slot
// meanwhile, S3 refuses the late one (If-Match), at whatever time it arrives. When
// it comes first, the newer owner is refused, which therefore starts over from what
// is newest then. That may be the late snapshot; it is as good as any, only older,
// and what it lacks is read again.
type stateS3 struct {
	S3State

	mu   sync.Mutex
	seen map[snapshotKey]*[snapshotSlots]string // ETags; "": no object
}

// errSuperseded: another worker has written snapshots of the partition.
var errSuperseded = errors.New("another worker has written a snapshot of the partition")

const (
	// s3Patience is what a request may take, with all its attempts, beside the time
	// for what it carries at s3Slowest.
	s3Patience = 20 * time.Second
	s3Slowest  = 1 << 20 // bytes a second
	s3Attempts = 3
	// s3Writes bounds how often a write looks again at what is in its slot.
	s3Writes = 3

	// s3Head is the metadata with the snapshotHead.
	s3Head = "tocsin-snapshot"
)

// newStateS3 looks whether the bucket is there: a snapshot that is missing and a
// bucket that is missing look the same later.
func newStateS3(ctx context.Context, place S3State) (*stateS3, error) {
	s := &stateS3{S3State: place, seen: map[snapshotKey]*[snapshotSlots]string{}}
	ctx, cancel := context.WithTimeout(ctx, s3Patience)
	defer cancel()
	if _, err := s.Client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.Bucket}, s3Limits); err != nil {
		return nil, fmt.Errorf("state in s3://%s: %w", s.Bucket, err)
	}
	return s, nil
}

func s3Limits(o *s3.Options) {
	o.RetryMaxAttempts = s3Attempts
	// Snapshots have a checksum of their own, which does not fail a whole restore.
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
}

func (s *stateS3) object(key snapshotKey, slot uint64) *string {
	return aws.String(path.Join(s.Prefix, key.slotName(slot)))
}

// known returns the ETag that the worker of key has seen in a slot.
func (s *stateS3) known(key snapshotKey, slot uint64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tags := s.seen[key]; tags != nil {
		return tags[slot]
	}
	return ""
}

func (s *stateS3) see(key snapshotKey, slot uint64, tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[key] == nil {
		s.seen[key] = new([snapshotSlots]string)
	}
	s.seen[key][slot] = tag
}

func (s *stateS3) save(ctx context.Context, key snapshotKey, sequence uint64, writer string, snapshot []byte) error {
	err := s.put(ctx, key, snapshotHead{sequence, writer, len(snapshot), crc32.Checksum(snapshot, castagnoli)}, snapshot)
	if err != nil {
		return fmt.Errorf("snapshot of %s in s3://%s: %w", key, s.Bucket, err)
	}
	return nil
}

func (s *stateS3) put(ctx context.Context, key snapshotKey, head snapshotHead, snapshot []byte) error {
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s3Patience+time.Duration(len(snapshot))*time.Second/s3Slowest)
	defer cancel()
	slot := head.Sequence % snapshotSlots
	for range s3Writes {
		in := &s3.PutObjectInput{
			Bucket: &s.Bucket, Key: s.object(key, slot), Body: bytes.NewReader(snapshot),
			ContentType: aws.String("application/zstd"),
			Metadata:    map[string]string{s3Head: string(text)},
			// S3 refuses what arrives damaged.
			ChecksumCRC32C: aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, head.CRC))),
		}
		if tag := s.known(key, slot); tag != "" {
			in.IfMatch = &tag
		} else {
			in.IfNoneMatch = aws.String("*")
		}
		var out *s3.PutObjectOutput
		out, err = s.Client.PutObject(ctx, in, s3Limits)
		if err == nil {
			s.see(key, slot, aws.ToString(out.ETag))
			return nil
		}
		switch s3Status(err) {
		case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound:
		default:
			return err
		}
		// What is there is not what was seen. It may be what this worker wrote before
		// without learning that it arrived, or somebody may have deleted it.
		found, tag, lookErr := s.look(ctx, key, slot)
		switch {
		case lookErr != nil:
			return lookErr
		case tag != "" && found == head:
			s.see(key, slot, tag)
			return nil
		case tag != "" && (found.Writer != head.Writer || found.Sequence != head.Sequence):
			return fmt.Errorf("%w: sequence %d of %s is in the place of %d", errSuperseded, found.Sequence, found.Writer, head.Sequence)
		}
		s.see(key, slot, tag)
	}
	return err
}

// look returns what is in a slot: nothing has no ETag, and what cannot be a
// snapshot has the zero head.
func (s *stateS3) look(ctx context.Context, key snapshotKey, slot uint64) (snapshotHead, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Patience)
	defer cancel()
	out, err := s.Client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Bucket, Key: s.object(key, slot)}, s3Limits)
	switch {
	case s3Status(err) == http.StatusNotFound:
		return snapshotHead{}, "", nil
	case err != nil:
		return snapshotHead{}, "", err
	}
	var head snapshotHead
	if json.Unmarshal([]byte(out.Metadata[s3Head]), &head) != nil || head.Size < 0 || head.Size > maxSnapshot || int64(head.Size) != aws.ToInt64(out.ContentLength) {
		head = snapshotHead{}
	}
	return head, aws.ToString(out.ETag), nil
}

func (s *stateS3) load(ctx context.Context, key snapshotKey, use func(snapshot []byte, sequence uint64) bool) (bool, error) {
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("snapshot of %s in s3://%s: %w", key, s.Bucket, err)
	}
	type candidate struct {
		slot uint64
		tag  string
		head snapshotHead
	}
	var found []candidate
	for slot := range uint64(snapshotSlots) {
		head, tag, err := s.look(ctx, key, slot)
		if err != nil {
			return fail(err)
		}
		s.see(key, slot, tag)
		if head.Writer != "" {
			found = append(found, candidate{slot, tag, head})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(b.head.Sequence, a.head.Sequence) })
	for _, c := range found {
		snapshot, err := s.get(ctx, key, c.slot, c.tag, c.head.Size)
		if err != nil {
			return fail(err) // also when it was replaced meanwhile
		}
		if crc32.Checksum(snapshot, castagnoli) != c.head.CRC {
			continue
		}
		if use(snapshot, c.head.Sequence) {
			return true, nil
		}
	}
	return false, nil
}

// get reads size bytes of the object with that ETag.
func (s *stateS3) get(ctx context.Context, key snapshotKey, slot uint64, tag string, size int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s3Patience+time.Duration(size)*time.Second/s3Slowest)
	defer cancel()
	out, err := s.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: s.object(key, slot), IfMatch: &tag}, s3Limits)
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	snapshot := make([]byte, size)
	_, err = io.ReadFull(out.Body, snapshot)
	return snapshot, err
}

// s3Status returns the HTTP status of an error that S3 answered with, or 0.
func s3Status(err error) int {
	if res, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return res.HTTPStatusCode()
	}
	return 0
}
