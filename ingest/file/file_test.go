package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func zipped(parts ...string) []byte {
	var out bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&out)
		_, _ = io.WriteString(w, p)
		_ = w.Close()
	}
	return out.Bytes()
}

// folder writes files and returns where.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read runs a source and returns what it delivered, with the origin's base name.
func read(t *testing.T, opts Options) ([]string, error) {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = s.Run(t.Context(), func(_ context.Context, d *ingest.Delivery) error {
		text := filepath.Base(d.Origin) + " " + string(d.Data)
		if d.Reject != nil {
			text += fmt.Sprintf("%s %d", d.Reject.Reason, d.Reject.Size)
		}
		got = append(got, text)
		if d.Source != "file" || d.Lane != "file" || !d.Ordered || d.Received.IsZero() {
			t.Errorf("%+v", d)
		}
		d.Ack(nil)
		return nil
	})
	return got, err
}

func TestFiles(t *testing.T) {
	dir := folder(t, map[string][]byte{
		"b.json":        []byte("b1\nb2\n"),
		"a.json.gz":     zipped("a1\n", "a2\n"),
		"sub/deep/c":    []byte("c"),
		"empty":         nil,
		"trail.json":    []byte("{\n \"Records\": [\n {}\n ]\n}\n"),
		"z.json.gz":     zipped("z1\n"),
		"sub/x.json.gz": zipped(""),
	})
	if err := os.Symlink(filepath.Join(dir, "sub"), filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	all := []string{"a.json.gz@0 a1\na2\n", "b.json@0 b1\nb2\n", "c@0 c", "trail.json@0 {\n \"Records\": [\n {}\n ]\n}\n", "z.json.gz@0 z1\n"}
	f := func(want []string, paths ...string) {
		t.Helper()
		for i, p := range paths {
			if p != Stdin {
				paths[i] = filepath.Join(dir, p)
			}
		}
		got, err := read(t, Options{Paths: paths, Stdin: strings.NewReader("in\n")})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: %v (-want +got)\n%s", paths, err, diff)
		}
	}
	f(all, "")
	f(all[1:2], "b.json")
	f([]string{all[0], all[4]}, "*.gz")
	f(all[:2], "[ab]*", "b.json")
	f(nil, "*.none")
	f([]string{"-@0 in\n", all[1]}, "b.json", Stdin)
	f(all[2:3], "loop")
}

func TestMissing(t *testing.T) {
	dir := folder(t, map[string][]byte{"a": []byte("a")})
	got, err := read(t, Options{Paths: []string{dir, filepath.Join(dir, "none"), filepath.Join(dir, "nor this")}})
	if len(got) > 0 || err == nil || !strings.Contains(err.Error(), "none") || !strings.Contains(err.Error(), "nor this") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no error without paths")
	}
}

// What cannot be read costs itself and nothing else.
func TestUnreadable(t *testing.T) {
	whole := zipped(strings.Repeat("0123456789\n", 10_000))
	dir := folder(t, map[string][]byte{
		"a.gz": whole[:len(whole)-9],
		"b.gz": []byte("\x1f\x8bnothing"),
		"c":    []byte("fine\n"),
		"d":    []byte(strings.Repeat("x", 30) + "\nfine, too\n"),
	})
	got, err := read(t, Options{Paths: []string{dir}, ChunkBytes: 11, MaxDocument: 20})
	if err == nil || !strings.Contains(err.Error(), "a.gz: cannot be read beyond byte") || !strings.Contains(err.Error(), "b.gz") {
		t.Error(err)
	}
	if len(got) < 9_000 {
		t.Errorf("%d chunks", len(got))
	}
	var rest []string
	for _, g := range got {
		if !strings.HasPrefix(g, "a.gz") || !strings.Contains(g, "0123456789") {
			rest = append(rest, g)
		}
	}
	want := []string{"a.gz@110000 unreadable_file 258", "b.gz@0 unreadable_file 9", "c@0 fine\n", "d@0 " + strings.Repeat("x", 20) + "document_too_large 31", "d@31 fine, too\n"}
	if len(rest) > 0 {
		// How far inflation gets, and how large the file is, is the library's choice.
		want[0] = rest[0]
		if !strings.HasPrefix(rest[0], "a.gz@") || !strings.Contains(rest[0], " unreadable_file ") {
			t.Error(rest[0])
		}
	}
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is given back is delivered again, before anything else, until it is
// taken.
func TestGivenBack(t *testing.T) {
	dir := folder(t, map[string][]byte{"a": []byte("1\n2\n3\n4\n")})
	s, err := New(Options{Paths: []string{dir}, ChunkBytes: 2})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	failures := map[string]int{"2\n": 2, "4\n": 1}
	err = s.Run(t.Context(), func(_ context.Context, d *ingest.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		text := string(d.Data)
		got = append(got, text)
		if failures[text] > 0 {
			failures[text]--
			d.Ack(errors.New("no"))
		} else {
			time.AfterFunc(time.Millisecond, func() { d.Ack(nil) })
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"1\n", "2\n", "2\n", "2\n", "3\n", "4\n", "4\n"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Run ends with ctx wherever it is.
func TestCancel(t *testing.T) {
	dir := folder(t, map[string][]byte{"a": []byte("1\n2\n3\n4\n")})
	stdin, w := io.Pipe()
	defer w.Close()
	run := func(name string, opts Options, hand func(context.Context, *ingest.Delivery) error) {
		t.Helper()
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := s.Run(ctx, hand); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ack := func(_ context.Context, d *ingest.Delivery) error { d.Ack(nil); return nil }
	run("never acknowledged", Options{Paths: []string{dir}}, func(context.Context, *ingest.Delivery) error { return nil })
	run("always given back", Options{Paths: []string{dir}}, func(_ context.Context, d *ingest.Delivery) error { d.Ack(errors.New("no")); return nil })
	run("slow", Options{Paths: []string{dir}, LinesPerSecond: 1}, ack)
	run("waiting for input", Options{Paths: []string{Stdin}, Stdin: stdin}, ack)
}

func TestPipelineRefuses(t *testing.T) {
	dir := folder(t, map[string][]byte{"a": []byte("1\n"), "b": []byte("2\n")})
	s, err := New(Options{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	err = s.Run(t.Context(), func(context.Context, *ingest.Delivery) error { calls++; return ingest.ErrStopped })
	if !errors.Is(err, ingest.ErrStopped) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestProgress(t *testing.T) {
	dir := folder(t, map[string][]byte{"a.gz": zipped(strings.Repeat("1\n", 1000)), "b": []byte("2\n")})
	size := int64(2)
	info, err := os.Stat(filepath.Join(dir, "a.gz"))
	if err != nil {
		t.Fatal(err)
	}
	size += info.Size()
	var done, total int64
	_, err = read(t, Options{Paths: []string{dir}, Progress: func(d, tot int64) {
		if d < done {
			t.Errorf("progress went from %d to %d", done, d)
		}
		done, total = d, tot
	}})
	if err != nil || done != size || total != size {
		t.Errorf("%v: %d of %d, want %d", err, done, total, size)
	}
	if _, err = read(t, Options{Paths: []string{Stdin}, Stdin: strings.NewReader("123"), Progress: func(d, tot int64) { done, total = d, tot }}); err != nil || done != 3 || total != -1 {
		t.Errorf("%v: %d of %d", err, done, total)
	}
}

// The rate is a bound on the time from below; how slow it is besides is the
// machine's business.
func TestRates(t *testing.T) {
	dir := folder(t, map[string][]byte{"a": []byte(strings.Repeat("123456789\n", 40))})
	for _, opts := range []Options{{LinesPerSecond: 200}, {BytesPerSecond: 2000}} {
		opts.Paths = []string{dir}
		start := time.Now()
		got, err := read(t, opts)
		// The last chunk, a twentieth of a second, is not waited for.
		if took := time.Since(start); err != nil || took < 140*time.Millisecond || len(got) < 4 {
			t.Errorf("%+v: %v, %d chunks in %v", opts, err, len(got), took)
		}
	}
}
