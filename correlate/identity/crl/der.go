package crl

import (
	"errors"
	"fmt"
	"io"
)

// readElement reads one DER element, header and all, of at most limit bytes.
// Memory grows as bytes arrive: a header may claim any length.
func readElement(r io.Reader, limit int64) ([]byte, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return nil, truncated(err)
	}
	if head[0] != 0x30 {
		return nil, fmt.Errorf("begins with tag %#02x, not with a SEQUENCE", head[0])
	}
	n, length := 2, int64(head[1])
	if head[1] >= 0x80 {
		octets := int(head[1] & 0x7f)
		if octets == 0 || octets > 4 {
			return nil, fmt.Errorf("length of %d octets is not DER of a size that can be", octets)
		}
		if _, err := io.ReadFull(r, head[2:2+octets]); err != nil {
			return nil, truncated(err)
		}
		n, length = 2+octets, 0
		for _, b := range head[2:n] {
			length = length<<8 | int64(b)
		}
	}
	total := int64(n) + length
	if total > limit {
		return nil, &Error{Reason: ReasonTooLarge, Err: fmt.Errorf("%d bytes; at most %d are taken", total, limit)}
	}
	buf := make([]byte, n, min(total, 64<<10))
	copy(buf, head[:n])
	for int64(len(buf)) < total {
		if len(buf) == cap(buf) {
			// Growing by four leaves little garbage behind the last step, which
			// is exact.
			grown := make([]byte, len(buf), min(total, 4*int64(cap(buf))))
			copy(grown, buf)
			buf = grown
		}
		m, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil {
			return nil, truncated(err)
		}
	}
	return buf, nil
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends in the middle: %w", io.ErrUnexpectedEOF)
	}
	return err
}
