package documents

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/publicaddr"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

var moto testkit.SharedMoto

func TestMain(m *testing.M) {
	code := m.Run()
	moto.Stop()
	os.Exit(code)
}

// list returns the locations of a place, relative to root.
func list(t testing.TB, p Place, root string) (names []string, refs []Ref) {
	t.Helper()
	for ref, err := range p.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(ref.Location, root))
		refs = append(refs, ref)
	}
	return names, refs
}

func content(t testing.TB, p Place, location, version string) (string, Ref) {
	t.Helper()
	doc, err := p.Open(t.Context(), location, version)
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	b, err := io.ReadAll(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), doc.Ref
}

func write(t testing.TB, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = WriteFile(path, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir() + "/"
	for _, name := range []string{"a.crl", "b.txt", "sub/c.crl", ".hidden.crl", ".git/d.crl", "sub/e.pem"} {
		write(t, dir+name, name)
	}
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"", []string{"a.crl", "sub/c.crl", "sub/e.pem"}},
		{"b.txt", []string{"b.txt"}}, // named outright
		{"*.txt", []string{"b.txt"}},
		{"sub/[a-c].crl", []string{"sub/c.crl"}},
		{"none-*.crl", nil},
	} {
		f := &Files{Path: dir + tc.path, Suffixes: []string{".crl", ".pem"}, Limit: 100}
		got, refs := list(t, f, dir)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.path, diff)
		}
		for i, ref := range refs {
			text, read := content(t, f, ref.Location, "")
			if text != got[i] || read != ref {
				t.Errorf("%s: %q, %+v; want %+v", ref.Location, text, read, ref)
			}
			if _, err := f.Open(t.Context(), ref.Location, ref.Version); !errors.Is(err, ErrUnchanged) {
				t.Errorf("%s again: %v", ref.Location, err)
			}
		}
	}
	for _, err := range (&Files{Path: dir + "missing"}).List(t.Context()) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that is missing: %v", err)
		}
	}
	// A pipe that nobody writes to must not hold anything up.
	if err := syscall.Mkfifo(dir+"pipe.crl", 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Files{Path: dir}).Open(t.Context(), dir+"pipe.crl", ""); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a pipe: %v", err)
	}
}

func TestLimit(t *testing.T) {
	for size := range 12 {
		for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
			b, err := io.ReadAll(limit(wrap(bytes.NewReader(make([]byte, size))), 10))
			if len(b) != min(size, 10) || errors.Is(err, ErrTooLarge) != (size > 10) {
				t.Errorf("%d bytes: %d, %v", size, len(b), err)
			}
		}
	}
}

func TestWriteFileIsAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "old")
	failure := errors.New("no")
	err := WriteFile(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half of the ne")
		return failure
	})
	if b, _ := os.ReadFile(path); !errors.Is(err, failure) || string(b) != "old" {
		t.Errorf("%v, %q", err, b)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestHTTPGuards(t *testing.T) {
	inside := 0
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	defer secret.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, secret.URL, http.StatusFound)
		case "/large":
			w.Header().Set("Content-Length", "11")
			_, _ = w.Write(make([]byte, 11))
		case "/endless":
			for n := 0; n < 1000; n++ {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		case "/slow":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	try := func(url string, o HTTPOptions) error {
		o.Limit = 10
		place, err := NewHTTP(url, o)
		if err != nil {
			return err
		}
		doc, err := place.Open(t.Context(), url, "")
		if err != nil {
			return err
		}
		defer doc.Close()
		_, err = io.ReadAll(doc)
		return err
	}
	allowed := HTTPOptions{AllowPrivate: true, Timeout: 300 * time.Millisecond}
	if err := try(server.URL+"/x", HTTPOptions{}); !errors.Is(err, publicaddr.ErrRefused) {
		t.Errorf("private address: %v", err)
	}
	if err := try(server.URL+"/redirect", allowed); err == nil || !strings.Contains(err.Error(), "redirects are not followed") || inside != 0 {
		t.Errorf("redirect: %v, followed %d times", err, inside)
	}
	for _, path := range []string{"/large", "/endless"} {
		if err := try(server.URL+path, allowed); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := try(server.URL+"/slow", allowed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow: %v", err)
	}
	if err := try(server.URL+"/x", allowed); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("missing: %v", err)
	}
	for _, url := range []string{"ftp://a/b", "http://", "http://user:hunter2@a/b", "http://a b/", "file:///etc/passwd"} {
		if err := try(url, allowed); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestHTTPVersions(t *testing.T) {
	var tag, modified string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		at, _ := time.Parse(http.TimeFormat, modified)
		http.ServeContent(w, r, "a.crl", at, strings.NewReader("list"))
	}))
	defer server.Close()
	place, err := NewHTTP(server.URL, HTTPOptions{Limit: 10, AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		tag, modified string
		conditional   bool
	}{
		{"", "", false},
		{`"v1"`, "", true},
		{`W/"v1"`, "", true},
		{"", "Sun, 01 Nov 2026 12:00:00 GMT", true},
		{`"v1"`, "Sun, 01 Nov 2026 12:00:00 GMT", true},
	} {
		tag, modified = tc.tag, tc.modified
		text, ref := content(t, place, server.URL, "")
		if text != "list" || (ref.Version != "") != tc.conditional {
			t.Errorf("%+v: %q, %+v", tc, text, ref)
		}
		if !tc.conditional {
			continue
		}
		if _, err := place.Open(t.Context(), server.URL, ref.Version); !errors.Is(err, ErrUnchanged) {
			t.Errorf("%+v again: %v", tc, err)
		}
	}
}

func TestS3(t *testing.T) {
	endpoint := moto.Endpoint(t)
	client, err := NewS3Client(t.Context(), "eu-west-1", endpoint, func(o *s3.Options) {
		o.Credentials, o.RetryMaxAttempts = credentials.NewStaticCredentialsProvider("a", "b", ""), 1
	})
	if err != nil {
		t.Fatal(err)
	}
	const bucket = "crl-bucket"
	_, err = client.CreateBucket(t.Context(), &s3.CreateBucketInput{
		Bucket: aws.String(bucket), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	object := func(key, text string) {
		t.Helper()
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: strings.NewReader(text)})
		if err != nil {
			t.Fatal(err)
		}
	}
	place := &S3{Client: client, Bucket: bucket, Prefix: "crl/", Suffixes: []string{".crl"}, Limit: 10}
	if got, _ := list(t, place, ""); got != nil {
		t.Errorf("an empty bucket has %q", got)
	}
	object("crl/acm-pca-permission-test-key", "x")
	object("crl/ca one+1.crl", "one")
	object("other/ca.crl", "other")
	object("crl/large.crl", "more than ten")
	const root = "s3://" + bucket + "/"
	names, refs := list(t, place, root)
	if diff := cmp.Diff([]string{"crl/ca one+1.crl", "crl/large.crl"}, names); diff != "" {
		t.Fatal(diff)
	}
	text, ref := content(t, place, refs[0].Location, "")
	if text != "one" || ref.Version != refs[0].Version || ref.Version == "" {
		t.Errorf("%q, %+v; want %+v", text, ref, refs[0])
	}
	if _, err := place.Open(t.Context(), refs[0].Location, ref.Version); !errors.Is(err, ErrUnchanged) {
		t.Errorf("again: %v", err)
	}
	object("crl/ca one+1.crl", "two")
	if text, _ := content(t, place, refs[0].Location, ref.Version); text != "two" {
		t.Errorf("after the change: %q", text)
	}
	if _, err := place.Open(t.Context(), refs[1].Location, ""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := place.Open(t.Context(), root+"crl/none.crl", ""); err == nil {
		t.Error("an object that is missing was opened")
	}
	for _, err := range (&S3{Client: client, Bucket: "no-such-bucket", Suffixes: []string{".crl"}}).List(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "s3://no-such-bucket/") {
			t.Errorf("a bucket that is missing: %v", err)
		}
	}
	// More objects than fit into one answer.
	for n := range 1100 {
		object(fmt.Sprintf("many/%04d.crl", n), "x")
	}
	if got, _ := list(t, &S3{Client: client, Bucket: bucket, Prefix: "many/", Suffixes: []string{".crl"}}, ""); len(got) != 1100 {
		t.Errorf("%d of 1100 objects", len(got))
	}
}
