package clickhouse

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// response writes a statement's output. The status line goes out with the
// first byte, so that an error before it has its own status, and one after it
// is appended to the output in ClickHouse's framing.
type response struct {
	w   http.ResponseWriter
	r   *http.Request
	req *request

	version string // the engine's, for error messages
	tag     string
	started bool
	outer   io.WriteCloser   // HTTP compression, or nil
	frames  *compress.Writer // native compression, or nil
	native  chproto.Buffer   // reused by one block after the other
}

// frameSize is how much goes into one compressed frame, as in ClickHouse.
const frameSize = 1 << 20

func newResponse(w http.ResponseWriter, r *http.Request, version string) *response {
	o := &response{w: w, r: r, version: version, tag: strings.ToLower(rand.Text()[:16])}
	w.Header().Set("X-ClickHouse-Exception-Tag", o.tag)
	return o
}

// start sends the header of a success.
func (o *response) start(format string) error {
	o.started = true
	h := o.w.Header()
	h.Set("Content-Type", contentType(format))
	h.Set("X-ClickHouse-Format", format)
	if o.req.httpCompressed {
		if err := o.compressHTTP(); err != nil {
			return err
		}
	}
	if o.req.compress {
		o.frames = compress.NewWriter(compress.LevelZero, o.req.method)
	}
	o.w.WriteHeader(http.StatusOK)
	return nil
}

// compressHTTP takes the first encoding of Accept-Encoding that is known.
func (o *response) compressHTTP() error {
	for offer := range strings.SplitSeq(o.r.Header.Get("Accept-Encoding"), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(offer), ";")
		switch name {
		case "gzip":
			o.outer = gzip.NewWriter(o.w)
		case "deflate":
			o.outer = zlib.NewWriter(o.w)
		case "br":
			o.outer = brotli.NewWriterLevel(o.w, brotli.BestSpeed)
		case "zstd":
			z, err := zstd.NewWriter(o.w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				return err
			}
			o.outer = z
		default:
			continue
		}
		o.w.Header().Set("Content-Encoding", name)
		o.w.Header().Add("Vary", "Accept-Encoding")
		return nil
	}
	return nil
}

func (o *response) Write(p []byte) (int, error) {
	if o.frames == nil {
		return o.writeRaw(p)
	}
	for rest := p; len(rest) > 0; {
		n := min(len(rest), frameSize)
		if err := o.frames.Compress(rest[:n]); err != nil {
			return 0, err
		}
		if _, err := o.writeRaw(o.frames.Data); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (o *response) writeRaw(p []byte) (int, error) {
	if o.outer != nil {
		return o.outer.Write(p)
	}
	return o.w.Write(p)
}

func (o *response) close() error {
	if o.outer != nil {
		return o.outer.Close()
	}
	return nil
}

// summary sets the header that tells what the statement read and wrote. It has
// no effect once the output has started.
func (o *response) summary(s chdb.Stats) {
	o.w.Header().Set("X-ClickHouse-Summary", fmt.Sprintf(
		`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"%d","result_bytes":"0"}`,
		s.ReadRows, s.ReadBytes, s.WrittenRows, s.WroteBytes, s.ResultRows))
}

// fail answers with an error.
func (o *response) fail(err error) {
	e := asException(err)
	text := e.Text
	if !strings.Contains(text, "(version ") {
		text += " (version " + o.version + " (official build))"
	}
	if !o.started {
		h := o.w.Header()
		h.Set("X-ClickHouse-Exception-Code", fmt.Sprint(e.Code))
		h.Set("Content-Type", "text/plain; charset=UTF-8")
		o.w.WriteHeader(httpStatus(e.Code))
		_, _ = io.WriteString(o.w, text+"\n")
		return
	}
	// The status has gone out. The block goes below the native compression,
	// which is where clients look for it, and the chunked body is left
	// without its end, so that no client takes it for complete.
	fmt.Fprintf(writerFunc(o.writeRaw), "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", o.tag, text, len(text)+1, o.tag)
	o.close()
	http.NewResponseController(o.w).Flush()
	panic(http.ErrAbortHandler)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// contentType is what ClickHouse declares for a format.
func contentType(format string) string {
	f := strings.ToLower(format)
	switch {
	case f == "json" || strings.HasPrefix(f, "jsoncompact") && !strings.Contains(f, "eachrow") || f == "jsonstrings" || f == "jsoncolumns" || f == "jsoncolumnswithmetadata" || f == "jsonobjecteachrow":
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(f, "json"):
		return "application/x-ndjson; charset=UTF-8"
	case f == "csv":
		return "text/csv; charset=UTF-8; header=absent"
	case strings.HasPrefix(f, "csvwithnames"):
		return "text/csv; charset=UTF-8; header=present"
	case strings.HasPrefix(f, "tabseparated"), strings.HasPrefix(f, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case f == "xml":
		return "application/xml; charset=UTF-8"
	case f == "native", f == "parquet", f == "orc", f == "avro", strings.HasPrefix(f, "rowbinary"), strings.HasPrefix(f, "arrow"), strings.HasPrefix(f, "protobuf"), f == "msgpack", f == "npy", f == "bsoneachrow", f == "capnproto":
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}

// isStreamable is true for formats of which any number of documents in a row
// is a document again. The engine formats every streamed block on its own, so
// only these may be streamed.
func isStreamable(format string) bool {
	switch strings.ToLower(format) {
	case "native", "rowbinary", "null", "msgpack", "bsoneachrow",
		"tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv", "lineasstring", "rawblob",
		"jsoneachrow", "jsonlines", "ndjson", "jsonstringseachrow", "jsoncompacteachrow", "jsoncompactstringseachrow":
		return true
	}
	return false
}
