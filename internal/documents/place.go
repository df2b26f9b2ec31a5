package documents

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Options of NewPlace.
type Options struct {
	// Suffixes are those of the files and objects that count in a directory or
	// under a prefix.
	Suffixes []string
	// Limit bounds the bytes of a document; 0: DefaultLimit.
	Limit int64
	// AllowPrivate permits HTTP addresses in private networks.
	AllowPrivate bool
	// Region and Endpoint are of S3; empty for those of AWS's default chain.
	Region, Endpoint string
}

// NewPlace returns the place that a line of the configuration names: a file, a
// directory or a pattern, http:// or https:// and the URL of one document, or
// s3://bucket/prefix. It connects to nothing.
func NewPlace(ctx context.Context, name string, o Options) (Place, error) {
	scheme, rest, ok := strings.Cut(name, "://")
	switch {
	case name == "":
		return nil, errors.New("empty; want a path, an http(s):// URL or s3://bucket/prefix")
	case !ok:
		return &Files{Path: name, Suffixes: o.Suffixes, Limit: o.Limit}, nil
	case scheme == "http" || scheme == "https":
		return NewHTTP(name, HTTPOptions{Limit: o.Limit, AllowPrivate: o.AllowPrivate})
	case scheme == "s3":
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" || bucket != url.PathEscape(bucket) {
			return nil, fmt.Errorf("%q: want s3://bucket/prefix", name)
		}
		client, err := NewS3Client(ctx, o.Region, o.Endpoint)
		if err != nil {
			return nil, err
		}
		return &S3{Client: client, Bucket: bucket, Prefix: prefix, Suffixes: o.Suffixes, Limit: o.Limit}, nil
	}
	return nil, fmt.Errorf("%s://: want a path, an http(s):// URL or s3://bucket/prefix", scheme)
}
