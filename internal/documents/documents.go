// Package documents reads documents that others publish (revocation lists, audit
// reports) from files, over HTTP and from S3, and reads them again only when they
// have changed.
package documents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// Ref names a document, and what is known of it without reading it.
type Ref struct {
	// Location is a path or a URL.
	Location string
	// Version changes with the content: an entity tag, or size and time of a
	// file. Empty when only reading tells.
	Version string
	// Modified is when it was last changed, zero if not known.
	Modified time.Time
}

// Document is a document being read. It must be closed.
type Document struct {
	Ref
	io.ReadCloser
}

// Place is where documents are. It must be safe for concurrent use.
type Place interface {
	// String names the place for people. It holds no secret.
	String() string
	// List yields the documents that are there now. An error ends it.
	List(ctx context.Context) iter.Seq2[Ref, error]
	// Open begins to read a document that List has named. When its version is
	// still the one given, it returns ErrUnchanged. Reading more than the place's
	// limit fails with ErrTooLarge.
	Open(ctx context.Context, location, version string) (*Document, error)
}

var (
	// ErrUnchanged is returned for a document that is the one read before.
	ErrUnchanged = errors.New("unchanged")
	// ErrTooLarge is in the chain when a document has more bytes than allowed.
	ErrTooLarge = errors.New("too large")
)

// maxListed bounds what one place may list.
const maxListed = 100_000

func errTooMany(place fmt.Stringer) error {
	return fmt.Errorf("%s: %w: more than %d documents", place, ErrTooLarge, maxListed)
}

// limited fails when there is more than limit bytes, where io.LimitedReader ends.
type limited struct {
	r     io.Reader
	left  int64
	limit int64
}

func limit(r io.Reader, n int64) io.Reader { return &limited{r: r, left: n, limit: n} }

// DefaultLimit bounds a document where nothing else does.
const DefaultLimit = 256 << 20

func orDefault(n int64) int64 {
	if n <= 0 {
		return DefaultLimit
	}
	return n
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, l.err()
	}
	// One byte more than allowed tells the end from too much.
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return n - 1, l.err()
	}
	return n, err
}

func (l *limited) err() error { return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, l.limit) }
