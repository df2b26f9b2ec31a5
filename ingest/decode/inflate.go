package decode

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// maxKept is the largest buffer that a decoder keeps for the next payload.
const maxKept = 16 << 20

// firstBuffer is what an inflate buffer starts with.
const firstBuffer = 64 << 10

var errTooLarge = errors.New("inflates to more than allowed")

// isGzip looks for the magic number and the only compression method there is.
func isGzip(b []byte) bool {
	return len(b) >= 3 && b[0] == 0x1f && b[1] == 0x8b && b[2] == 8
}

// inflate appends all members of the gzip stream src to dst[:0], at most limit
// bytes, and returns what it has even after an error.
func (d *Decoder) inflate(dst, src []byte, limit int64) ([]byte, error) {
	d.src.Reset(src)
	var err error
	if d.gzip == nil {
		d.gzip, err = gzip.NewReader(&d.src)
	} else {
		err = d.gzip.Reset(&d.src)
	}
	dst = dst[:0]
	if err != nil {
		return dst, noEOF(err)
	}
	for {
		if len(dst) == cap(dst) {
			size := min(max(2*cap(dst), firstBuffer), int(limit)+1)
			if size <= cap(dst) {
				return dst, errTooLarge
			}
			dst = append(make([]byte, 0, size), dst...)
		}
		n, err := d.gzip.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst, errTooLarge
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// noEOF makes of an end within the gzip header what it is: unexpected.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// gunzip decodes the gzip stream data and what it holds. A stream that breaks
// off is rejected whole, so that its retry, or its repair, cannot bring events
// twice under IDs that depend on the cut.
func (d *Decoder) gunzip(data []byte, o origin, depth int) {
	l := &d.levels[depth]
	var err error
	l.buf, err = d.inflate(l.buf, data, d.budget)
	if err != nil {
		reason := ReasonGzip
		if errors.Is(err, errTooLarge) {
			reason = ReasonTooLarge
			err = fmt.Errorf("gzip: %w: more than %d bytes", err, d.opts.MaxInflated)
		} else {
			err = fmt.Errorf("gzip: %w after %d inflated bytes, which begin %.100q", err, len(l.buf), l.buf)
		}
		d.reject(Rejection{Reason: reason, Err: err, Raw: data})
		return
	}
	d.took(len(l.buf))
	d.payload(l.buf, o, depth+1)
}

// unbase64 decodes the base64 text data and what it holds.
func (d *Decoder) unbase64(data []byte, o origin, depth int) {
	l := &d.levels[depth]
	size := base64.StdEncoding.DecodedLen(len(data))
	if int64(size) > d.budget {
		d.reject(Rejection{Reason: ReasonTooLarge, Err: fmt.Errorf("base64: %w: more than %d bytes", errTooLarge, d.opts.MaxInflated), Raw: data})
		return
	}
	if cap(l.buf) < size {
		l.buf = make([]byte, size)
	}
	n, err := base64.StdEncoding.Decode(l.buf[:size], data)
	if err != nil {
		d.reject(Rejection{Reason: ReasonBase64, Err: fmt.Errorf("base64: %w", err), Raw: data})
		return
	}
	l.buf = l.buf[:n]
	d.took(n)
	d.payload(l.buf, o, depth+1)
}

// took counts n inflated bytes against what the payload may still inflate to.
func (d *Decoder) took(n int) {
	d.budget -= int64(n)
	d.stats.Inflated += int64(n)
}

// release drops buffers that one large payload has blown up.
func (d *Decoder) release() {
	for i := range d.levels {
		l := &d.levels[i]
		if cap(l.buf) > maxKept {
			l.buf = nil
		}
		if cap(l.message) > maxKept {
			l.message = nil
		}
	}
	if cap(d.arena) > maxKept {
		d.arena = nil
	}
	d.src = bytes.Reader{}
}
