package clickhouse

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// maxQuerySize bounds the text of a statement; data of an INSERT does not
// count. The engine has its own limit, the setting max_query_size (256 KiB).
const maxQuerySize = 16 << 20

// maxInsertHead bounds the text before the data of an INSERT.
const maxInsertHead = 256 << 10

// maxDrain bounds what is read of the data of a failed INSERT.
const maxDrain = 64 << 20

// maxBuffered bounds, in the engine's own representation, a result that must be
// whole before it can be sent: a JSON document, a Parquet file. In text it is a
// few times as large.
const maxBuffered = "134217728"

// handler is ClickHouse's HTTP interface in front of the engine.
type handler struct {
	pool     *pool
	password string
	version  string // the engine's
	name     string // X-ClickHouse-Server-Display-Name
	timezone string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isLocal(r.Host) {
		http.Error(w, "Host must be a loopback address", http.StatusForbidden)
		return
	}
	w.Header().Set("X-ClickHouse-Server-Display-Name", h.name)
	switch r.URL.Path {
	case "/":
	case "/ping", "/replicas_status":
		_, _ = io.WriteString(w, "Ok.\n")
		return
	default:
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost && r.URL.RawQuery == "" {
		_, _ = io.WriteString(w, "Ok.\n")
		return
	}
	h.query(w, r)
}

// isLocal refuses requests which a web page made under a name of its own that
// it pointed at this machine (DNS rebinding).
func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (h *handler) query(w http.ResponseWriter, r *http.Request) {
	out := newResponse(w, r, h.version)
	if !authenticated(r, h.password) {
		out.fail(exception(codeAuthenticationFailed, "AUTHENTICATION_FAILED", "Authentication failed: password is incorrect"))
		return
	}
	req, err := parseRequest(r)
	if err != nil {
		out.fail(err)
		return
	}
	out.req = req
	w.Header().Set("X-ClickHouse-Query-Id", req.queryID)
	w.Header().Set("X-ClickHouse-Timezone", h.timezone)

	// The request's body is read while an answer may already be on its way
	// (an error in the first rows of an INSERT).
	if err := h.serve(out, r); err != nil {
		out.fail(err)
	}
}

func (h *handler) serve(out *response, r *http.Request) error {
	req := out.req
	body, done, err := openBody(r, req)
	if err != nil {
		return err
	}
	defer done()

	text := body
	if req.query != "" {
		text = io.MultiReader(strings.NewReader(req.query+"\n"), body)
	}
	head := bufio.NewReaderSize(text, maxInsertHead)
	start, err := head.Peek(maxInsertHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return bodyError(err)
	}
	st := parseStatement(string(start))
	if st.keyword == "" {
		return exception(codeSyntaxError, "SYNTAX_ERROR", "Empty query")
	}
	if st.outfile {
		return exception(codeNotImplemented, "NOT_IMPLEMENTED", "INTO OUTFILE and FROM INFILE are for clickhouse-client, not for HTTP")
	}

	// A client that goes away while it waits gives its place up. The context
	// only learns of it once the body has been read, hence the order.
	if st.insert {
		if _, err := head.Discard(st.dataAt); err != nil {
			return bodyError(err)
		}
		err := h.insert(out, r, st, head)
		if err != nil {
			// A client that is still sending would see its connection reset
			// instead of the error.
			_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
		}
		return err
	}
	sql, err := io.ReadAll(io.LimitReader(head, maxQuerySize+1))
	if err != nil {
		return bodyError(err)
	}
	if len(sql) > maxQuerySize {
		return exception(codeQueryIsTooLarge, "QUERY_IS_TOO_LARGE", "Query is larger than %d bytes", maxQuerySize)
	}
	if len(sql) > len(start) {
		st = parseStatement(string(sql))
	}
	return h.run(out, r, st, string(sql))
}

// bodyError tells a broken body from a broken connection as well as one can:
// both are the client's, neither is the engine's.
func bodyError(err error) error {
	return exception(codeCannotDecompress, "CANNOT_DECOMPRESS", "Cannot read the request body: %v", err)
}

// insert feeds the body to the engine as it arrives.
func (h *handler) insert(out *response, r *http.Request, st statement, data *bufio.Reader) error {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return errReadonlyMethod(r.Method)
	}
	req := out.req
	s, err := h.pool.get(r.Context())
	if err != nil {
		return err
	}
	defer h.pool.put(s)
	if err := s.align(req.database, req.settings); err != nil {
		return err
	}
	in, err := s.conn.Insert(st.sql, st.format, req.params)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.CopyBuffer(onlyWriter{in}, onlyReader{data}, make([]byte, frameSize)); err != nil {
		var e *chdb.Error
		if errors.As(err, &e) {
			return err
		}
		return bodyError(err)
	}
	stats, err := in.Commit()
	if err != nil {
		return err
	}
	out.summary(stats)
	out.w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	out.w.WriteHeader(http.StatusOK)
	return nil
}

// onlyWriter and onlyReader keep io.Copy to its buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

func errReadonlyMethod(method string) error {
	return exception(codeReadonly, "READONLY",
		"Cannot execute query in readonly mode. For queries over HTTP, method %s implies readonly. You should use method POST for modifying queries", method)
}

// run executes a statement that has no data.
func (h *handler) run(out *response, r *http.Request, st statement, sql string) error {
	req := out.req
	s, err := h.pool.get(r.Context())
	if err != nil {
		return err
	}
	defer h.pool.put(s)
	if err := s.align(req.database, req.settings); err != nil {
		return err
	}
	what, err := s.conn.Classify(sql)
	if err != nil {
		s.spoiled = true
		return err
	}
	if what.Statements > 1 {
		return exception(codeSyntaxError, "SYNTAX_ERROR", "Multi-statements are not allowed")
	}
	if what.Class != chdb.ReadOnly && what.Class != chdb.Unknown && r.Method != http.MethodPost && r.Method != http.MethodPut {
		return errReadonlyMethod(r.Method)
	}
	if what.Class >= chdb.Control {
		s.spoiled = true // SET, USE, CREATE TEMPORARY TABLE, or what the parser does not know
	}
	if what.Class == chdb.ReadOnly {
		defer h.pool.watch(r.Context(), s)()
	}

	format := st.format
	if format == "" {
		format = req.format
	}
	// Any error of the engine may be the consequence of a cancelled request.
	// It does not matter then: nobody reads the answer.
	if what.Class == chdb.ReadOnly && !req.wait && isStreamable(format) && (st.keyword == "SELECT" || st.keyword == "WITH") {
		return h.stream(out, s, sql, format)
	}
	if _, ok := req.settings["max_result_bytes"]; !ok && what.Class == chdb.ReadOnly {
		if err := s.conn.Exec("SET max_result_bytes = " + maxBuffered); err != nil {
			return err
		}
		s.settings["max_result_bytes"] = maxBuffered
	}
	res, err := s.conn.Query(sql, format, req.params)
	if err != nil {
		return err
	}
	defer res.Close()
	out.summary(res.Stats())
	if len(res.Bytes()) == 0 {
		out.w.Header().Set("Content-Type", contentType(format))
		out.w.WriteHeader(http.StatusOK)
		return nil
	}
	return h.finish(out, h.write(out, format, res.Bytes()))
}

func (h *handler) stream(out *response, s *session, sql, format string) error {
	rows, err := s.conn.Stream(sql, format, out.req.params)
	if err != nil {
		return err
	}
	defer rows.Close()
	spoiled := s.spoiled
	s.spoiled = true // an unfinished query lives as long as its session
	for {
		res, err := rows.Next()
		if errors.Is(err, io.EOF) {
			s.spoiled = spoiled
			break
		}
		if err != nil {
			return err
		}
		out.summary(res.Stats())
		err = h.write(out, format, res.Bytes())
		res.Close()
		if err != nil {
			return h.finish(out, err)
		}
	}
	if !out.started {
		out.summary(chdb.Stats{})
		out.w.Header().Set("Content-Type", contentType(format))
		out.w.WriteHeader(http.StatusOK)
	}
	return h.finish(out, nil)
}

// errClientGone ends a handler whose client reads no more.
var errClientGone = errors.New("client went away")

// write sends a piece of output, in the Native revision that was asked for.
func (h *handler) write(out *response, format string, p []byte) error {
	if !out.started {
		if err := out.start(format); err != nil {
			return err
		}
	}
	if out.req.revision > 0 && strings.EqualFold(format, "Native") {
		out.native.Reset()
		if err := transcodeNative(&out.native, p, out.req.revision); err != nil {
			return err
		}
		p = out.native.Buf
	}
	if _, err := out.Write(p); err != nil {
		return errClientGone
	}
	return nil
}

func (h *handler) finish(out *response, err error) error {
	if errors.Is(err, errClientGone) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = out.close() // fails only if the client went away
	return nil
}

// facts asks the engine what the headers tell of it.
func (h *handler) facts(ctx context.Context) error {
	s, err := h.pool.get(ctx)
	if err != nil {
		return err
	}
	defer h.pool.put(s)
	r, err := s.conn.Query("SELECT version(), displayName(), timezone()", "TabSeparatedRaw", nil)
	if err != nil {
		return err
	}
	defer r.Close()
	f := strings.Split(strings.TrimSpace(string(r.Bytes())), "\t")
	if len(f) != 3 {
		return errors.New("engine did not tell its version")
	}
	h.version, h.name, h.timezone = f[0], f[1], f[2]
	return nil
}
