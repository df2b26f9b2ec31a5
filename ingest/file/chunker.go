package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/tocsin-io/tocsin/schemas"
)

// lookAhead is how much of a file is looked at to see what it is.
const lookAhead = 64 << 10

// chunk is a part of a file that makes sense by itself.
type chunk struct {
	data   []byte
	offset int64 // in the file, after decompression
	cut    int   // bytes of the whole when data is only its beginning, else 0
}

// chunker cuts a stream into chunks of about size bytes, which end where a line
// ends. Where lines do not help (a document over many lines, CloudWatch payloads
// back to back on one line) they end where a JSON value ends.
type chunker struct {
	r        io.Reader
	size     int
	limit    int         // of a line or value
	maxLines int         // of a chunk; 0: any number
	idle     func() bool // whether reading more would wait; nil: never

	buf        []byte
	start, end int   // what is read and not yet cut is buf[start:end]
	offset     int64 // of start
	err        error // of r, when it has come
	started    bool
	documents  bool // cut at the ends of values
}

func newChunker(r io.Reader, size, limit int) *chunker {
	return &chunker{r: r, size: size, limit: max(limit, size)}
}

// next returns the next chunk. At the end of the stream it returns the last chunk
// (which may be empty) together with io.EOF, and in the same way what there was
// before an error.
func (c *chunker) next() (chunk, error) {
	for want := c.size; ; want *= 2 {
		want = min(want, c.limit)
		if !c.started {
			c.started = true
			c.fill(min(max(want, lookAhead), c.limit))
			c.documents = isDocument(c.buf[c.start:c.end])
		}
		c.fill(want)
		b := c.buf[c.start:c.end]
		if errors.Is(c.err, io.EOF) && len(b) <= c.size && c.maxLines == 0 {
			return c.take(len(b)), c.err
		}
		if n := c.boundary(b); n > 0 {
			ck := c.take(n)
			if c.err != nil && c.start == c.end {
				return ck, c.err
			}
			return ck, nil
		}
		if c.err != nil {
			return c.take(len(b)), c.err
		}
		if len(b) >= c.limit {
			return c.oversize()
		}
	}
}

// boundary returns where the first chunk of b ends, 0 when more of it must be
// read.
func (c *chunker) boundary(b []byte) int {
	if c.documents {
		return lastValue(b, c.size)
	}
	if c.maxLines > 0 {
		n := 0
		for range c.maxLines {
			i := bytes.IndexByte(b[n:], '\n')
			if i < 0 {
				break
			}
			if n > 0 && n+i >= c.size {
				break
			}
			n += i + 1
		}
		return n
	}
	if n := bytes.LastIndexByte(b[:min(len(b), c.size)], '\n') + 1; n > 0 {
		return n
	}
	if n := bytes.IndexByte(b, '\n') + 1; n > 0 {
		return n
	}
	if len(b) >= c.size && b[0] == '{' {
		return lastValue(b, c.size)
	}
	return 0
}

// oversize gives up on a line or document and goes on with the next line; what
// follows a document that does not end cannot be told from it.
func (c *chunker) oversize() (chunk, error) {
	ck := chunk{data: bytes.Clone(c.buf[c.start:min(c.end, c.start+schemas.MaxDeadLetterRaw)]), offset: c.offset}
	for {
		n := c.end - c.start
		if i := bytes.IndexByte(c.buf[c.start:c.end], '\n'); i >= 0 && !c.documents {
			n = i + 1
		}
		ck.cut += n
		c.start += n
		c.offset += int64(n)
		if c.start < c.end {
			return ck, nil
		}
		if c.err != nil {
			return ck, c.err
		}
		if n > 0 && !c.documents && c.buf[c.end-1] == '\n' {
			return ck, nil
		}
		c.fill(c.size)
	}
}

func (c *chunker) take(n int) chunk {
	ck := chunk{data: bytes.Clone(c.buf[c.start : c.start+n]), offset: c.offset}
	c.start += n
	c.offset += int64(n)
	return ck
}

// fill reads until want bytes are there, or the end, or at least one line when
// more would have to be waited for.
func (c *chunker) fill(want int) {
	if c.end-c.start >= want || c.err != nil {
		return
	}
	if c.start+want > len(c.buf) {
		to := c.buf
		if want > len(to) {
			to = make([]byte, want)
		}
		c.end = copy(to, c.buf[c.start:c.end])
		c.start, c.buf = 0, to
	}
	empty := 0
	for c.end-c.start < want && c.err == nil {
		if c.idle != nil && c.idle() && bytes.IndexByte(c.buf[c.start:c.end], '\n') >= 0 {
			return
		}
		n, err := c.r.Read(c.buf[c.end : c.start+want])
		c.end += n
		c.err = err
		if n == 0 && err == nil {
			if empty++; empty == 100 {
				c.err = io.ErrNoProgress
			}
		}
	}
}

// isDocument reports whether a file that begins with b holds JSON over several
// lines, rather than something on each line.
func isDocument(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 {
		return false
	}
	switch b[0] {
	case '[':
		// A line like "[2026-11-23 18:00:00] hello" begins so, too.
		rest := bytes.TrimLeft(b[1:], " \t\r\n")
		return len(rest) > 0 && rest[0] == '{'
	case '{':
		first, _, more := bytes.Cut(b, []byte{'\n'})
		first = bytes.TrimRight(first, " \t\r")
		// A first line that ends in the middle of things is of a document; one that
		// is broken in another way is a broken line among others.
		return more && !json.Valid(first) && bytes.IndexByte([]byte("{[,:"), first[len(first)-1]) >= 0
	}
	return false
}

// lastValue returns the end of the last JSON object or array in b that ends
// within the first size bytes, else of the first that ends at all; 0 when none
// does.
func lastValue(b []byte, size int) int {
	depth, last := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth > 0 {
				continue
			}
			depth = 0
			if i+1 > size && last > 0 {
				return last
			}
			last = i + 1
			if i+1 >= size {
				return last
			}
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		}
	}
	return last
}
