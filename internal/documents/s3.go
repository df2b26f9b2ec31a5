package documents

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3API is what is used of the S3 client; *s3.Client is one. It must be safe for
// concurrent use.
type S3API interface {
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
}

// NewS3Client returns a client with the credentials of AWS's default chain.
// Region and endpoint may be empty: then they are the chain's. An endpoint is
// given for VPC endpoints and for tests.
func NewS3Client(ctx context.Context, region, endpoint string, more ...func(*s3.Options)) (*s3.Client, error) {
	var opts []func(*awsconfig.LoadOptions) error
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("S3: AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("S3: no AWS region; set it in the configuration or AWS_REGION")
	}
	if endpoint != "" {
		more = append(more, func(o *s3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(endpoint), true })
	}
	return s3.NewFromConfig(cfg, more...), nil
}

// S3 are the objects under a prefix whose key ends in one of Suffixes.
type S3 struct {
	Client   S3API
	Bucket   string
	Prefix   string
	Suffixes []string
	Limit    int64 // bytes of an object; 0: DefaultLimit
}

func (s *S3) String() string { return "s3://" + s.Bucket + "/" + s.Prefix }

// List yields the objects, in the order of their keys.
func (s *S3) List(ctx context.Context) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		pages := s3.NewListObjectsV2Paginator(s.Client, &s3.ListObjectsV2Input{Bucket: &s.Bucket, Prefix: &s.Prefix})
		for listed := 0; pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Ref{}, fmt.Errorf("%s: %w", s, err))
				return
			}
			for i := range page.Contents {
				o := &page.Contents[i]
				if !hasSuffix(aws.ToString(o.Key), s.Suffixes) {
					continue // acm-pca-permission-test-key, for one
				}
				if listed++; listed > maxListed {
					yield(Ref{}, errTooMany(s))
					return
				}
				ref := Ref{Location: s.location(aws.ToString(o.Key)), Version: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified)}
				if !yield(ref, nil) {
					return
				}
			}
		}
	}
}

func (s *S3) location(key string) string { return "s3://" + s.Bucket + "/" + key }

// Open gets an object.
func (s *S3) Open(ctx context.Context, location, version string) (*Document, error) {
	root := s.location("")
	if len(location) < len(root) || location[:len(root)] != root {
		return nil, fmt.Errorf("%s is not in bucket %s", location, s.Bucket)
	}
	in := &s3.GetObjectInput{Bucket: &s.Bucket, Key: aws.String(location[len(root):])}
	if version != "" {
		in.IfNoneMatch = &version
	}
	out, err := s.Client.GetObject(ctx, in)
	if res, ok := errors.AsType[*awshttp.ResponseError](err); ok && res.HTTPStatusCode() == http.StatusNotModified && version != "" {
		return nil, ErrUnchanged
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", location, err)
	}
	if n := aws.ToInt64(out.ContentLength); n > orDefault(s.Limit) {
		out.Body.Close()
		return nil, fmt.Errorf("%s: %w: %d bytes, more than %d", location, ErrTooLarge, n, orDefault(s.Limit))
	}
	ref := Ref{Location: location, Version: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}
	return &Document{Ref: ref, ReadCloser: readCloser{limit(out.Body, orDefault(s.Limit)), out.Body}}, nil
}
