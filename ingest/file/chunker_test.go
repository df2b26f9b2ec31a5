package file

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func chunks(t *testing.T, c *chunker) []chunk {
	t.Helper()
	var all []chunk
	for {
		ck, err := c.next()
		if len(ck.data) > 0 {
			all = append(all, ck)
		}
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestChunker(t *testing.T) {
	f := func(in string, size, maxLines int, want ...string) {
		t.Helper()
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in)), iotest.DataErrReader(strings.NewReader(in))} {
			c := newChunker(r, size, 40)
			c.maxLines = maxLines
			var got []string
			var offset int64
			for _, ck := range chunks(t, c) {
				if ck.offset != offset {
					t.Errorf("%q: offset %d, want %d", ck.data, ck.offset, offset)
				}
				text := string(ck.data)
				offset += int64(len(text))
				if ck.cut > 0 {
					offset += int64(ck.cut - len(text))
					text = "CUT " + text
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q in %d: (-want +got)\n%s", in, size, diff)
			}
		}
	}
	f("", 10, 0)
	f("one\n", 10, 0, "one\n")
	f("one", 10, 0, "one")
	f("one\ntwo\nthree\nfour\n", 10, 0, "one\ntwo\n", "three\n", "four\n")
	f("one\ntwo\nthree\nfour", 100, 0, "one\ntwo\nthree\nfour")
	f("one\ntwo\nthree\nfour", 100, 2, "one\ntwo\n", "three\n", "four")
	f("one\ntwo\nthree\nfour", 5, 2, "one\n", "two\n", "three\n", "four")
	f("one\na line longer than that\ntwo\n", 10, 0, "one\n", "a line longer than that\n", "two\n")
	long := strings.Repeat("x", 40)
	f("one\n"+long+"yz\ntwo\n", 10, 0, "one\n", "CUT "+long, "two\n")
	f(long+long+long, 10, 0, "CUT "+long)
	f(long+long+"\n", 10, 0, "CUT "+long)
	// Objects back to back, as Firehose writes them to S3.
	f(`{"a":1}{"a":{"}":2}}{"a":3}`, 10, 0, `{"a":1}`, `{"a":{"}":2}}`, `{"a":3}`)
	f(`{"a":1}{"b":2}{"c":3}`, 15, 0, `{"a":1}{"b":2}`, `{"c":3}`)
	// Documents over several lines.
	f("{\n\"a\": [\n1]\n}\n", 4, 0, "{\n\"a\": [\n1]\n}", "\n")
	f("{\"a\":1,\n\"b\":2}\n{\"c\":3}", 4, 0, "{\"a\":1,\n\"b\":2}", "\n{\"c\":3}")
	f(" [ {\n} , {\n} ]\n", 4, 0, " [ {\n} , {\n} ]", "\n")
	f("[{\n\"\\\"]\":1}]\n", 4, 0, "[{\n\"\\\"]\":1}]", "\n")
	f("[{\n"+long+long, 10, 0, "CUT [{\n"+long[3:])
	// Not documents.
	f("[2026] x\n[2027] y\n", 10, 0, "[2026] x\n", "[2027] y\n")
	f("{broken\n{\"a\":1}\n", 8, 0, "{broken\n", "{\"a\":1}\n")
	f("{\"a\":1}\n{\"a\":\n{\"a\":2}\n", 8, 0, "{\"a\":1}\n", "{\"a\":\n", "{\"a\":2}\n")
}

// A live input is delivered as it comes.
func TestChunkerIdle(t *testing.T) {
	r, w := io.Pipe()
	c := newChunker(r, 1000, 1000)
	c.idle = func() bool { return true }
	go func() { _, _ = io.WriteString(w, "one\ntwo\nthr") }()
	if ck, err := c.next(); err != nil || string(ck.data) != "one\ntwo\n" {
		t.Errorf("%q, %v", ck.data, err)
	}
	go func() { _, _ = io.WriteString(w, "ee\n"); w.Close() }()
	if ck, err := c.next(); string(ck.data) != "three\n" {
		t.Errorf("%q, %v", ck.data, err)
	}
	if ck, err := c.next(); len(ck.data) > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", ck.data, err)
	}
}

func TestChunkerError(t *testing.T) {
	c := newChunker(io.MultiReader(strings.NewReader("one\ntw"), iotest.ErrReader(io.ErrUnexpectedEOF)), 5, 100)
	var got []string
	for {
		ck, err := c.next()
		got = append(got, string(ck.data))
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			break
		}
	}
	if diff := cmp.Diff([]string{"one\n", "tw"}, got); diff != "" {
		t.Error(diff)
	}
}

// Nothing is lost, added or moved.
func FuzzChunker(f *testing.F) {
	f.Add([]byte("one\ntwo\nthree"), 4, 0)
	f.Add([]byte(`{"a":1}{"b":"}"}`), 3, 1)
	f.Add([]byte("{\n\"a\":[\n"), 3, 1)
	f.Add([]byte("[{\"\\"), 2, 0)
	f.Fuzz(func(t *testing.T, in []byte, size, maxLines int) {
		if size < 1 || size > 1000 || maxLines < 0 || maxLines > 1000 {
			return
		}
		c := newChunker(bytes.NewReader(in), size, 2*size)
		c.maxLines = maxLines
		var offset int64
		for _, ck := range chunks(t, c) {
			if ck.offset != offset || !bytes.HasPrefix(in[offset:], ck.data) {
				t.Fatalf("chunk %q at %d", ck.data, ck.offset)
			}
			offset += int64(max(len(ck.data), ck.cut))
		}
		if offset != int64(len(in)) {
			t.Fatalf("%d of %d bytes", offset, len(in))
		}
	})
}
