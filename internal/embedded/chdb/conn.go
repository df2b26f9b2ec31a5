package chdb

import (
	"errors"
	"io"
	"runtime"
	"unsafe"
)

// Params are the values of {name:Type} placeholders, in the escaped form that
// ClickHouse's HTTP interface takes them in (TabSeparated).
type Params map[string]string

// Conn is one session: current database, settings, temporary tables.
type Conn struct {
	c      *symbols
	ref    uintptr // what chdb_connect returned and chdb_close_conn takes
	handle uintptr // what every other call takes
}

// Close ends the session. Results and streams must be closed before.
func (c *Conn) Close() {
	if c.ref != 0 {
		c.c.closeConn(c.ref)
		c.ref, c.handle = 0, 0
	}
}

// call runs one of the three statement functions, which share their signature.
func (c *Conn) call(
	fn func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, n uintptr) uintptr,
	sql, format string, params Params,
) uintptr {
	n := len(params)
	names, values := make([]*byte, 0, n+1), make([]*byte, 0, n+1)
	nameLens, valueLens := make([]uintptr, 0, n+1), make([]uintptr, 0, n+1)
	for name, value := range params {
		names, nameLens = append(names, bytesOf(name)), append(nameLens, uintptr(len(name)))
		values, valueLens = append(values, bytesOf(value)), append(valueLens, uintptr(len(value)))
	}
	out := fn(c.handle,
		unsafe.Pointer(bytesOf(sql)), uintptr(len(sql)), unsafe.Pointer(bytesOf(format)), uintptr(len(format)),
		unsafe.Pointer(unsafe.SliceData(names)), unsafe.Pointer(unsafe.SliceData(nameLens)),
		unsafe.Pointer(unsafe.SliceData(values)), unsafe.Pointer(unsafe.SliceData(valueLens)), uintptr(n))
	runtime.KeepAlive(sql)
	runtime.KeepAlive(format)
	runtime.KeepAlive(params)
	runtime.KeepAlive(names)
	runtime.KeepAlive(nameLens)
	runtime.KeepAlive(values)
	runtime.KeepAlive(valueLens)
	return out
}

// bytesOf is never nil, which the engine would take for a missing argument.
func bytesOf(s string) *byte {
	if s == "" {
		return new(byte)
	}
	return unsafe.StringData(s)
}

// Query runs a statement and returns its whole result, which the caller must
// close. format is used where the statement has no FORMAT clause. The error is
// an *Error.
func (c *Conn) Query(sql, format string, params Params) (*Result, error) {
	return c.result(c.call(c.c.query, sql, format, params))
}

// Exec runs a statement and drops its result.
func (c *Conn) Exec(sql string) error {
	r, err := c.Query(sql, "Null", nil)
	if err != nil {
		return err
	}
	r.Close()
	return nil
}

// result takes over a chdb_result.
func (c *Conn) result(r uintptr) (*Result, error) {
	if r == 0 {
		return nil, &Error{Text: "chdb: the engine returned no result"}
	}
	if text := c.c.resultError(r); text != "" {
		c.c.destroy(r)
		return nil, parseError(text)
	}
	return &Result{c: c.c, handle: r}, nil
}

// Stats are a statement's counts; those of a streamed query are of one chunk.
type Stats struct {
	ResultRows              uint64
	ReadRows, ReadBytes     uint64
	WrittenRows, WroteBytes uint64
}

// Result is (a part of) a statement's output.
type Result struct {
	c      *symbols
	handle uintptr
}

// Bytes is the output in the statement's format. It is the engine's memory:
// it must not be written to, nor read after Close.
func (r *Result) Bytes() []byte {
	n := int(r.c.resultLength(r.handle))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.c.resultBuffer(r.handle)), n)
}

// Stats are the counts of the statement.
func (r *Result) Stats() Stats {
	return Stats{
		ResultRows:  r.c.resultRowsRead(r.handle),
		ReadRows:    r.c.resultStorageRows(r.handle),
		ReadBytes:   r.c.resultStorageBytes(r.handle),
		WrittenRows: r.c.resultRowsWritten(r.handle),
		WroteBytes:  r.c.resultBytesWritten(r.handle),
	}
}

// Close frees the output.
func (r *Result) Close() {
	if r.handle != 0 {
		r.c.destroy(r.handle)
		r.handle = 0
	}
}

// Stream starts a query whose output is fetched block by block. Every block is
// formatted on its own: the concatenation is a valid document only for formats
// without header and footer (Native, TabSeparated, JSONEachRow, ...).
func (c *Conn) Stream(sql, format string, params Params) (*Stream, error) {
	r, err := c.result(c.call(c.c.streamQuery, sql, format, params))
	if err != nil {
		return nil, err
	}
	return &Stream{conn: c, handle: r.handle}, nil
}

// Stream is a query being read.
type Stream struct {
	conn   *Conn
	handle uintptr
	ended  bool
}

// Next returns the next block, which the caller must close before the next
// call, or io.EOF.
func (s *Stream) Next() (*Result, error) {
	if s.ended {
		return nil, io.EOF
	}
	r, err := s.conn.result(s.conn.c.fetch(s.conn.handle, s.handle))
	if err != nil {
		return nil, err
	}
	if s.conn.c.resultLength(r.handle) == 0 {
		r.Close()
		s.ended = true
		return nil, io.EOF
	}
	return r, nil
}

// Close cancels what has not been read and frees the stream. The query of a
// stream that did not come to its end may stay in system.processes, with what
// it holds, until the connection runs its next statement or is closed.
func (s *Stream) Close() {
	if s.handle == 0 {
		return
	}
	if !s.ended {
		s.conn.c.cancelQuery(s.conn.handle, s.handle)
	}
	s.conn.c.destroy(s.handle)
	s.handle = 0
}

// Insert starts an INSERT whose data is then written to it. sql is the
// statement without FORMAT clause and without data. (Data inside the text of a
// statement does not work for binary formats: the engine's parser stops early.)
func (c *Conn) Insert(sql, format string, params Params) (*Insert, error) {
	i := &Insert{c: c.c, handle: c.call(c.c.streamInsert, sql, format, params)}
	if err := i.err(); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

// Insert is an INSERT that receives data. Its connection takes no other
// statement until Close.
type Insert struct {
	c      *symbols
	handle uintptr
}

// Write hands over a piece of the data, cut anywhere; the engine copies it.
// It blocks while the engine's queue is full.
func (i *Insert) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	state := i.c.appendInsert(i.handle, unsafe.Pointer(unsafe.SliceData(p)), uintptr(len(p)))
	runtime.KeepAlive(p)
	if state != 0 {
		if err := i.err(); err != nil {
			return 0, err
		}
		return 0, errors.New("chdb: insert stream refused data")
	}
	return len(p), nil
}

// Commit ends the data and waits until the rows are in their tables.
func (i *Insert) Commit() (Stats, error) {
	r := i.c.doneInsert(i.handle)
	if r == 0 {
		if err := i.err(); err != nil {
			return Stats{}, err
		}
		return Stats{}, errors.New("chdb: insert ended without a result")
	}
	res, err := (&Conn{c: i.c}).result(r)
	if err != nil {
		return Stats{}, err
	}
	defer res.Close()
	return res.Stats(), nil
}

// Close frees the stream. Without a Commit before it the insert is cancelled;
// blocks that the engine had already written stay, as with any ClickHouse.
func (i *Insert) Close() {
	if i.handle != 0 {
		i.c.destroyInsert(i.handle)
		i.handle = 0
	}
}

func (i *Insert) err() error {
	if text := i.c.insertError(i.handle); text != "" {
		return parseError(text)
	}
	return nil
}
