package crl

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
)

// The bounds of a line of PEM text; RFC 7468 has 64 characters.
const maxLine = 64 << 10

var (
	pemBegin = []byte("-----BEGIN X509 CRL-----")
	pemOther = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
)

// isDER tells DER from PEM: a SEQUENCE whose length does not fit into one byte,
// which no text begins with.
func isDER(r *bufio.Reader) bool {
	b, err := r.Peek(2)
	return err == nil && b[0] == 0x30 && b[1] >= 0x80
}

// nextPEM skips to the next list in PEM text and returns its DER. It returns
// io.EOF when there is none. Blocks of other kinds and text between blocks are
// passed over.
func nextPEM(r *bufio.Reader) (io.Reader, error) {
	for {
		line, err := r.ReadSlice('\n')
		if bytes.HasPrefix(bytes.TrimSpace(line), pemBegin) {
			return base64.NewDecoder(base64.StdEncoding, &pemBody{r: r}), nil
		}
		switch {
		case err == bufio.ErrBufferFull: //nolint:errorlint // ReadSlice returns it as it is
			// A long line is text.
		case err != nil:
			return nil, err
		}
	}
}

// pemBody reads base64 text up to the END line.
type pemBody struct {
	r    *bufio.Reader
	line []byte // rest of the current line; valid until r is read again
	done bool
}

func (b *pemBody) Read(p []byte) (int, error) {
	for len(b.line) == 0 {
		if b.done {
			return 0, io.EOF
		}
		line, err := b.r.ReadSlice('\n')
		switch {
		case bytes.HasPrefix(line, pemEnd):
			b.done = true
			continue
		case bytes.HasPrefix(line, pemOther):
			return 0, fmt.Errorf("PEM block without an END line")
		case err == io.EOF:
			return 0, fmt.Errorf("PEM block without an END line: %w", io.ErrUnexpectedEOF)
		case err != nil && err != bufio.ErrBufferFull: //nolint:errorlint // ReadSlice returns it as it is
			return 0, err
		}
		b.line = bytes.TrimSpace(line)
	}
	n := copy(p, b.line)
	b.line = b.line[n:]
	return n, nil
}
