package firehose

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"
)

var (
	errTooLarge = errors.New("body is too large")
	errNoRoom   = errors.New("too much is in flight already")
)

// buffer is a body and its share of the budget.
type buffer struct {
	b        []byte
	reserved int64
}

// wire counts what comes over the connection, bounds it, and keeps its error
// apart from those of decompression.
type wire struct {
	r     io.Reader
	n     int64
	limit int64
	err   error
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.n += int64(n)
	// The inflated size is bounded elsewhere, but gzip members can be empty: an
	// endless sequence of them inflates to nothing.
	if w.n > w.limit {
		err = errTooLarge
	}
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// readBody reads the whole body, inflated if it says that it is compressed and
// inflate is set. The buffer holds what was read even after an error.
func (s *Source) readBody(w http.ResponseWriter, r *http.Request, buf *buffer, inflate bool) *refusal {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.opts.BodyTimeout)) // unsupported in tests without a connection
	in := &wire{r: r.Body, limit: s.opts.MaxBodyBytes}
	defer func() {
		s.metrics.bytes.Add(float64(in.n))
		// With the body read, the server itself reads on, to notice when the
		// client goes away. A deadline left behind would look like that while the
		// request waits for Kafka.
		_ = control.SetReadDeadline(time.Time{})
	}()
	var from io.Reader = in
	size := r.ContentLength + 1 // room to see the end without growing
	if inflate {
		switch encoding := r.Header.Get("Content-Encoding"); encoding {
		case "", "identity":
		case "gzip":
			gz, err := s.unzip(in)
			if err != nil {
				return s.readRefusal(in, err)
			}
			defer s.unzips.Put(gz)
			from = gz
			// What Firehose carries here is base64 of gzip as a rule, of which
			// compression gets back the quarter that base64 added.
			size += size / 2
		default:
			return &refusal{http.StatusBadRequest, resultMalformed, fmt.Errorf("content encoding %q is neither gzip nor identity", encoding)}
		}
	}
	if err := s.fill(buf, from, size); err != nil {
		return s.readRefusal(in, err)
	}
	return nil
}

func (s *Source) unzip(r io.Reader) (*gzip.Reader, error) {
	if gz, ok := s.unzips.Get().(*gzip.Reader); ok {
		return gz, gz.Reset(r)
	}
	return gzip.NewReader(r)
}

func (s *Source) readRefusal(in *wire, err error) *refusal {
	switch {
	case errors.Is(err, errNoRoom):
		return &refusal{http.StatusServiceUnavailable, resultOverloaded, err}
	case errors.Is(err, errTooLarge):
		return &refusal{http.StatusBadRequest, resultTooLarge, fmt.Errorf("%w: the limit is %d bytes", errTooLarge, s.opts.MaxBodyBytes)}
	case errors.Is(in.err, os.ErrDeadlineExceeded):
		return &refusal{http.StatusRequestTimeout, resultSlow, fmt.Errorf("body did not arrive within %v", s.opts.BodyTimeout)}
	case in.err != nil:
		return &refusal{http.StatusBadRequest, resultAborted, fmt.Errorf("body: %w", in.err)}
	default:
		return &refusal{http.StatusBadRequest, resultMalformed, fmt.Errorf("body is not valid gzip: %w", err)}
	}
}

// fill reads r to its end. size is a guess.
func (s *Source) fill(buf *buffer, r io.Reader, size int64) error {
	const least = 16 << 10
	limit := s.opts.MaxBodyBytes
	if err := s.grow(buf, min(max(size, least), limit)); err != nil {
		return err
	}
	for {
		if len(buf.b) == cap(buf.b) {
			if int64(cap(buf.b)) >= limit {
				var one [1]byte
				n, err := io.ReadFull(r, one[:])
				switch {
				case n > 0:
					return errTooLarge
				case err == io.EOF:
					return nil
				default:
					return err
				}
			}
			if err := s.grow(buf, min(2*int64(cap(buf.b)), limit)); err != nil {
				return err
			}
		}
		n, err := r.Read(buf.b[len(buf.b):cap(buf.b)])
		buf.b = buf.b[:len(buf.b)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow makes the buffer's capacity size, within the budget.
func (s *Source) grow(buf *buffer, size int64) error {
	if !s.budget.take(size - buf.reserved) {
		return errNoRoom
	}
	buf.reserved = size
	b := make([]byte, len(buf.b), size)
	copy(b, buf.b)
	buf.b = b
	return nil
}
