package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

// correlate.state: the windows are in the bucket that it names and are taken from
// there after a kill; a bucket that is not there is told of at the start.
func TestWindowsInS3(t *testing.T) {
	t.Parallel()
	endpoint := testkit.StartMoto(t)
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", ""),
	})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("windows")}); err != nil {
		t.Fatal(err)
	}
	dir, listen := filepath.Join(t.TempDir(), "data"), freeAddress(t)
	run := func(state string) *program {
		t.Helper()
		config := write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: 1}}
ingest: {firehose: {listen: %q}}
correlate: {snapshot_interval: 200ms, state: %q, state_region: us-east-1, state_endpoint: %q}
admin: {listen: "127.0.0.1:0"}
`, listen, state, endpoint))
		return start(t, []string{"AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing", "AWS_CONFIG_FILE=" + os.DevNull},
			"run", "--config", config, "--embedded", dir)
	}
	p := run("s3://no-such-bucket/fleet")
	select {
	case <-p.exited:
		if code := p.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(p.stderr(20), "s3://no-such-bucket") {
			t.Errorf("without the bucket: exit code %d", code)
		}
	case <-time.After(patience):
		t.Fatal("it runs without the bucket")
	}

	p = run("s3://windows/fleet")
	p.ready()
	res, err := http.Post("http://"+listen+"/v1/events", "application/json", strings.NewReader(string(loggingOff("windows-in-s3"))))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	eventually(t, "no snapshot comes to S3", func() error {
		out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("windows"), Prefix: aws.String("fleet/tocsin.events-0.")})
		if err == nil && len(out.Contents) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	p.kill()
	p = run("s3://windows/fleet")
	p.ready()
	eventually(t, "the windows are not taken over", func() error {
		metrics := p.metrics()
		if ok, missing := metrics[`tocsin_correlate_restores_total{result="ok"}`], metrics[`tocsin_correlate_restores_total{result="missing"}`]; ok == 0 || missing > 0 {
			return fmt.Errorf("%g restored, %g missing", ok, missing)
		}
		return nil
	})
}
