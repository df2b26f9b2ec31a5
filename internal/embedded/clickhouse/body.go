package clickhouse

import (
	"compress/zlib"
	"errors"
	"io"
	"net/http"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// openBody undoes the two compressions that a request body may have: that of
// HTTP (Content-Encoding) and inside it ClickHouse's block framing
// (decompress=1). The returned close function releases decoders.
func openBody(r *http.Request, req *request) (body io.Reader, done func(), err error) {
	body, done = r.Body, func() {}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, nil, exception(codeCannotDecompress, "CANNOT_DECOMPRESS", "Body is not gzip: %v", err)
		}
		body = z
	case "deflate":
		z, err := zlib.NewReader(body)
		if err != nil {
			return nil, nil, exception(codeCannotDecompress, "CANNOT_DECOMPRESS", "Body is not deflate: %v", err)
		}
		body = z
	case "br":
		body = brotli.NewReader(body)
	case "zstd":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27))
		if err != nil {
			return nil, nil, exception(codeCannotDecompress, "CANNOT_DECOMPRESS", "Body is not zstd: %v", err)
		}
		body, done = z, z.Close
	default:
		return nil, nil, exception(codeUnknownCompressionMethod, "UNKNOWN_COMPRESSION_METHOD",
			"Content-Encoding %q is not supported (gzip, deflate, br, zstd are)", encoding)
	}
	if req.decompress {
		// ch-go reads every method of the framing and verifies its checksums.
		c := chproto.NewReader(body)
		c.EnableCompression()
		body = frameReader{c}
	}
	return body, done, nil
}

// frameReader makes the end of ch-go's frames a plain io.EOF. A frame that is
// cut off has io.ErrUnexpectedEOF.
type frameReader struct{ r io.Reader }

func (f frameReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	return n, err
}
