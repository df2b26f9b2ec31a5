package config

import (
	"regexp"
	"strings"
)

// StateBucket returns the bucket and the prefix of the keys that State names, if
// it names S3. The prefix has no slash at its ends.
func (c *Correlate) StateBucket() (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(c.State, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, strings.Trim(prefix, "/"), ok
}

// bucketName is what S3 allows general purpose and directory buckets.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (v *validator) correlateState(c *Correlate) {
	bucket, prefix, inS3 := c.StateBucket()
	switch {
	case inS3 && (!bucketName.MatchString(bucket) || strings.Contains(prefix, "//")):
		v.bad("correlate.state", "%q: want s3://bucket/prefix", c.State)
	case !inS3 && strings.Contains(c.State, "://"):
		v.bad("correlate.state", "%q: want a directory, s3://bucket/prefix, or nothing for Kafka", c.State)
	}
	if c.StateRegion != "" && !inS3 {
		v.bad("correlate.state_region", "is that of a bucket, and correlate.state names none")
	}
	switch {
	case c.StateEndpoint != "" && !inS3:
		v.bad("correlate.state_endpoint", "is S3's, and correlate.state names no bucket")
	case c.StateEndpoint != "":
		v.httpURL("correlate.state_endpoint", c.StateEndpoint)
	}
}
