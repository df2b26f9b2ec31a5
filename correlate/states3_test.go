package correlate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

var moto testkit.SharedMoto

// bucket is one in moto, with a client of its own for each worker that a test has.
type bucket struct {
	t    testing.TB
	name string
	wire http.RoundTripper
}

func newBucket(t testing.TB) *bucket {
	t.Helper()
	name := strings.ToLower(rand.Text())
	wire := &http.Transport{}
	t.Cleanup(wire.CloseIdleConnections)
	b := &bucket{t, name, wire}
	if _, err := b.client(nil).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return b
}

// client's requests go through wire, if there is one.
func (b *bucket) client(wire func(next http.RoundTripper) http.RoundTripper) *s3.Client {
	b.t.Helper()
	through := b.wire
	if wire != nil {
		through = wire(b.wire)
	}
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(moto.Endpoint(b.t)), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), HTTPClient: &http.Client{Transport: through},
	})
}

func (b *bucket) place() S3State {
	return S3State{Client: b.client(nil), Bucket: b.name, Prefix: "some/prefix"}
}

func (b *bucket) storeThrough(wire func(http.RoundTripper) http.RoundTripper) *stateS3 {
	b.t.Helper()
	place := b.place()
	place.Client = b.client(wire)
	s, err := newStateS3(b.t.Context(), place)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bucket) store() *stateS3 { b.t.Helper(); return b.storeThrough(nil) }

func (b *bucket) names() (names []string) {
	b.t.Helper()
	out, err := b.client(nil).ListObjectsV2(b.t.Context(), &s3.ListObjectsV2Input{Bucket: &b.name})
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range out.Contents {
		names = append(names, *out.Contents[i].Key)
	}
	return names
}

// rewrite replaces an object by what change makes of it.
func (b *bucket) rewrite(name string, change func(body []byte, head map[string]string) []byte) {
	b.t.Helper()
	c := b.client(nil)
	out, err := c.GetObject(b.t.Context(), &s3.GetObjectInput{Bucket: &b.name, Key: &name})
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err == nil {
		body = change(body, out.Metadata)
		_, err = c.PutObject(b.t.Context(), &s3.PutObjectInput{Bucket: &b.name, Key: &name, Body: bytes.NewReader(body), Metadata: out.Metadata})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// putWire sees the writes of a client.
type putWire struct {
	http.RoundTripper
	put func(next func() (*http.Response, error)) (*http.Response, error)
}

func (w putWire) RoundTrip(req *http.Request) (*http.Response, error) {
	next := func() (*http.Response, error) { return w.RoundTripper.RoundTrip(req) }
	if req.Method == http.MethodPut {
		return w.put(next)
	}
	return next()
}

func puts(put func(next func() (*http.Response, error)) (*http.Response, error)) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return putWire{next, put} }
}

// unavailable is an answer that clients repeat their request after.
func unavailable() *http.Response {
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}
}

func mustSave(t testing.TB, s snapshotStore, key snapshotKey, sequence uint64, writer, snapshot string) {
	t.Helper()
	if err := s.save(t.Context(), key, sequence, writer, []byte(snapshot)); err != nil {
		t.Fatal(err)
	}
}

func wantLoaded(t testing.TB, s snapshotStore, key snapshotKey, sequence uint64, snapshot string) {
	t.Helper()
	if got, n := loaded(t, s, key); string(got) != snapshot || n != sequence {
		t.Errorf("%s: %q of sequence %d; want %q of %d", key, got, n, snapshot, sequence)
	}
}

func TestStateS3(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	s := b.store()
	key, other := snapshotKey{schemas.TopicEvents, 1}, snapshotKey{schemas.TopicEvents, 11}
	for sequence := range uint64(7) {
		mustSave(t, s, key, sequence, "w", fmt.Sprint(sequence))
	}
	mustSave(t, s, other, 1, "w", "other")
	if names := b.names(); len(names) != snapshotSlots+1 || names[0] != "some/prefix/tocsin.events-1.0" {
		t.Errorf("objects %q", names)
	}
	var seen string
	found, err := b.store().load(t.Context(), key, func(b []byte, _ uint64) bool {
		seen += string(b)
		return string(b) == "5"
	})
	if err != nil || !found || seen != "65" {
		t.Errorf("looked at %q, found %v, %v", seen, found, err)
	}
	wantLoaded(t, b.store(), other, 1, "other")

	// Somebody deletes what the worker has seen.
	name := "some/prefix/tocsin.events-1.1"
	if _, err := b.client(nil).DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.name, Key: &name}); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, key, 7, "w", "7")
	wantLoaded(t, b.store(), key, 7, "7")

	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.save(ended, key, 8, "w", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("saved after the end: %v", err)
	}
	if _, err := s.load(ended, key, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("loaded after the end: %v", err)
	}
	nowhere := b.place()
	nowhere.Bucket = "no-such-bucket"
	if _, err := newStateS3(t.Context(), nowhere); err == nil || !strings.Contains(err.Error(), "s3://no-such-bucket") {
		t.Errorf("without a bucket: %v", err)
	}
}

// TestDamagedObjectFallsBack: the newest snapshot is damaged or is no snapshot; the
// one before is used, and a worker that has seen that writes over it.
func TestDamagedObjectFallsBack(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for i, tc := range []struct {
		name   string
		damage func(body []byte, head map[string]string) []byte
	}{
		{"empty", func([]byte, map[string]string) []byte { return nil }},
		{"cut", func(b []byte, _ map[string]string) []byte { return b[:len(b)-1] }},
		{"longer", func(b []byte, _ map[string]string) []byte { return append(b, 0) }},
		{"one bit", func(b []byte, _ map[string]string) []byte { b[1] ^= 4; return b }},
		{"no head", func(b []byte, head map[string]string) []byte { delete(head, s3Head); return b }},
		{"another's head", func(b []byte, head map[string]string) []byte { head[s3Head] = "[]"; return b }},
		{"a size that cannot be", func(b []byte, head map[string]string) []byte {
			head[s3Head] = strings.Replace(head[s3Head], `"size":5`, `"size":-1`, 1)
			return b
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := snapshotKey{schemas.TopicMatches, i}
			s := b.store()
			mustSave(t, s, key, 1, "w", "good")
			mustSave(t, s, key, 2, "w", "newer")
			b.rewrite("some/prefix/"+key.slotName(2), tc.damage)
			next := b.store()
			wantLoaded(t, next, key, 1, "good")
			mustSave(t, next, key, 2, "next", "mended")
			wantLoaded(t, b.store(), key, 2, "mended")
		})
	}
}

// TestLateWriteOfASupersededWorker: it cannot take the place of what the newer
// owner wrote, and when it comes first the newer owner learns of it.
func TestLateWriteOfASupersededWorker(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	for i, first := range []string{"newer", "older"} {
		t.Run("first the "+first, func(t *testing.T) {
			key := snapshotKey{schemas.TopicEvents, i}
			var hold sync.Mutex // while it is held, writes are on their way
			sent := make(chan struct{}, 16)
			older := b.storeThrough(puts(func(next func() (*http.Response, error)) (*http.Response, error) {
				sent <- struct{}{}
				hold.Lock()
				defer hold.Unlock()
				return next()
			}))
			for sequence := range uint64(6) {
				mustSave(t, older, key, sequence+1, "older", fmt.Sprint("older ", sequence+1))
				<-sent
			}
			hold.Lock()
			late := make(chan error, 1)
			go func() { late <- older.save(t.Context(), key, 7, "older", []byte("late")) }()
			<-sent
			newer := b.store()
			wantLoaded(t, newer, key, 6, "older 6")
			if first == "newer" {
				mustSave(t, newer, key, 7, "newer", "newer 7")
				hold.Unlock()
				if err := <-late; !errors.Is(err, errSuperseded) {
					t.Errorf("the late write: %v", err)
				}
				wantLoaded(t, b.store(), key, 7, "newer 7")
				return
			}
			hold.Unlock()
			if err := <-late; err != nil {
				t.Fatal(err)
			}
			if err := newer.save(t.Context(), key, 7, "newer", []byte("newer 7")); !errors.Is(err, errSuperseded) {
				t.Errorf("the newer owner's write: %v", err)
			}
			wantLoaded(t, newer, key, 7, "late")
			mustSave(t, newer, key, 8, "newer", "newer 8")
			wantLoaded(t, b.store(), key, 8, "newer 8")
			// And the late one does not come through with the next, either.
			if err := older.save(t.Context(), key, 8, "older", []byte("late")); !errors.Is(err, errSuperseded) {
				t.Errorf("the next late write: %v", err)
			}
		})
	}
}

// TestLostAnswers: S3 has the snapshot, and the worker does not learn of it.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	var lose, tries int
	s := b.storeThrough(puts(func(next func() (*http.Response, error)) (*http.Response, error) {
		tries++
		res, err := next()
		if lose == 0 || err != nil {
			return res, err
		}
		lose--
		res.Body.Close()
		return unavailable(), nil
	}))
	key := snapshotKey{schemas.TopicEvents, 0}
	lose = 1
	mustSave(t, s, key, 1, "w", "one")
	if tries != 2 {
		t.Errorf("%d writes", tries)
	}
	wantLoaded(t, b.store(), key, 1, "one")

	// As long as S3 is away; then the worker tries the same sequence again.
	tries, lose = 0, s3Attempts
	if err := s.save(t.Context(), key, 2, "w", []byte("two")); err == nil || errors.Is(err, errSuperseded) || tries != s3Attempts {
		t.Errorf("%v after %d tries", err, tries)
	}
	mustSave(t, s, key, 2, "w", "two, later")
	wantLoaded(t, b.store(), key, 2, "two, later")
}

// TestStateInS3: correlators that keep their state in S3 take partitions over from
// each other, leave tocsin.state alone, and start over when somebody else has
// written to all of their slots.
func TestStateInS3(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	second := testStateElsewhere(t, func(o *Options) { place := b.place(); o.StateS3 = &place }, func() {
		for _, name := range b.names() {
			b.rewrite(name, func(body []byte, head map[string]string) []byte {
				var h snapshotHead
				if err := json.Unmarshal([]byte(head[s3Head]), &h); err != nil {
					t.Fatal(err)
				}
				// The same snapshot in other bytes, and so with another ETag.
				body = append(body, "\x50\x2a\x4d\x18\x00\x00\x00\x00"...) // a zstd frame to be skipped
				h.Writer, h.Size, h.CRC = "somebody else", len(body), crc32.Checksum(body, castagnoli)
				text, err := json.Marshal(h)
				if err != nil {
					t.Fatal(err)
				}
				head[s3Head] = string(text)
				return body
			})
		}
	})
	failed, restored := second.metric(t, "tocsin_correlate_snapshot_failures_total"), second.metric(t, "tocsin_correlate_restores_total", "ok")
	if failed == 0 || restored != 4+failed {
		t.Errorf("%v snapshots failed, partitions were restored %v times", failed, restored)
	}
	if n := len(b.names()); n == 0 || n > 4*snapshotSlots {
		t.Errorf("%d objects", n)
	}
}
