package clickhouse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request as curl would: no header that was not asked for.
func do(t testing.TB, s *Server, method, params string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+"/?"+params, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func post(t testing.TB, s *Server, sql string) string {
	t.Helper()
	a := do(t, s, "POST", "", strings.NewReader(sql))
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", sql, a.status, a.body)
	}
	return a.body
}

func query(sql string, more ...string) string {
	v := url.Values{"query": {sql}}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

func TestHTTPAnswers(t *testing.T) {
	post(t, shared, "CREATE TABLE IF NOT EXISTS answers (n UInt8, s String) ENGINE = MergeTree ORDER BY n")
	post(t, shared, "TRUNCATE TABLE answers")
	for name, c := range map[string]struct {
		method, params, body string
		header               []string
		status               int
		want                 string // of the body: exact if the status is 200, else contained
		contentType          string
	}{
		"GET":               {method: "GET", params: query("SELECT 1"), status: 200, want: "1\n", contentType: "text/tab-separated-values; charset=UTF-8"},
		"POST body":         {method: "POST", body: "SELECT 1,\n -- a comment; FORMAT JSON\n 'it''s\t2'\n", status: 200, want: "1\tit\\'s\\t2\n"},
		"query and body":    {method: "POST", params: query("SELECT"), body: "1 + 1", status: 200, want: "2\n"},
		"form content type": {method: "POST", body: "SELECT 1", header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 200, want: "1\n"},
		"no query":          {method: "GET", status: 200, want: "Ok.\n"},
		"empty body":        {method: "POST", status: 400, want: "Empty query"},
		"format in text":    {method: "GET", params: query("SELECT 1 AS a FORMAT JSONEachRow"), status: 200, want: "{\"a\":1}\n", contentType: "application/x-ndjson; charset=UTF-8"},
		"format and settings": {
			method: "GET", params: query("SELECT 1 AS a FORMAT CSVWithNames SETTINGS max_threads = 1"), status: 200,
			want: "\"a\"\n1\n", contentType: "text/csv; charset=UTF-8; header=present",
		},
		"default_format":  {method: "GET", params: query("SELECT 1 AS a", "default_format", "JSONCompactEachRow"), status: 200, want: "[1]\n"},
		"format header":   {method: "GET", params: query("SELECT 1 AS a"), header: []string{"X-ClickHouse-Format", "CSV"}, status: 200, want: "1\n"},
		"unknown format":  {method: "GET", params: query("SELECT 1 FORMAT Nonsense"), status: 404, want: "(UNKNOWN_FORMAT)"},
		"empty result":    {method: "GET", params: query("SELECT 1 WHERE 0"), status: 200, want: ""},
		"parameters":      {method: "GET", params: query("SELECT {n:UInt8} + 1, {s:String}", "param_n", "41", "param_s", "x'); --"), status: 200, want: "42\tx\\'); --\n"},
		"no parameter":    {method: "GET", params: query("SELECT {n:UInt8}"), status: 500, want: "(UNKNOWN_QUERY_PARAMETER)"},
		"setting":         {method: "GET", params: query("SELECT getSetting('max_block_size')", "max_block_size", "1234"), status: 200, want: "1234\n"},
		"unknown setting": {method: "GET", params: query("SELECT 1", "no_such_setting", "1"), status: 404, want: "Code: 115."},
		"setting that is not a name": {
			method: "GET", params: query("SELECT 1", "a=1, readonly", "1"), status: 404, want: "Code: 115.",
		},
		"database":           {method: "GET", params: query("SELECT currentDatabase()", "database", "system"), status: 200, want: "system\n"},
		"database header":    {method: "GET", params: query("SELECT currentDatabase()"), header: []string{"X-ClickHouse-Database", "system"}, status: 200, want: "system\n"},
		"unknown database":   {method: "GET", params: query("SELECT 1", "database", "no_such_db"), status: 404, want: "(UNKNOWN_DATABASE)"},
		"any user":           {method: "GET", params: query("SELECT 1", "user", "someone"), header: []string{"Authorization", "Basic YTpi"}, status: 200, want: "1\n"},
		"syntax error":       {method: "GET", params: query("SELEC 1"), status: 400, want: "(SYNTAX_ERROR)"},
		"no table":           {method: "GET", params: query("SELECT * FROM no_such_table"), status: 404, want: "(UNKNOWN_TABLE)"},
		"exception":          {method: "GET", params: query("SELECT throwIf(1)"), status: 500, want: "(FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)"},
		"timeout":            {method: "GET", params: query("SELECT sum(sipHash64(number)) FROM numbers(100000000000)", "max_execution_time", "0.2"), status: 408, want: "(TIMEOUT_EXCEEDED)"},
		"memory":             {method: "GET", params: query("SELECT groupArray(number) FROM numbers(100000000)", "max_memory_usage", "10000000"), status: 500, want: "(MEMORY_LIMIT_EXCEEDED)"},
		"GET writes":         {method: "GET", params: query("CREATE TABLE never (n Int8) ENGINE = Memory"), status: 500, want: "(READONLY)"},
		"GET inserts":        {method: "GET", params: query("INSERT INTO answers VALUES (1, 'x')"), status: 500, want: "(READONLY)"},
		"readonly setting":   {method: "POST", params: "readonly=1", body: "INSERT INTO answers SELECT 1, 'x'", status: 500, want: "(READONLY)"},
		"sessions":           {method: "GET", params: query("SELECT 1", "session_id", "a"), status: 501, want: "session_id"},
		"too large":          {method: "POST", body: "SELECT '" + strings.Repeat("x", maxQuerySize) + "'", status: 413, want: "(QUERY_IS_TOO_LARGE)"},
		"encoding":           {method: "POST", body: "SELECT 1", header: []string{"Content-Encoding", "rot13"}, status: 500, want: "(UNKNOWN_COMPRESSION_METHOD)"},
		"not gzip":           {method: "POST", body: "SELECT 1", header: []string{"Content-Encoding", "gzip"}, status: 500, want: "(CANNOT_DECOMPRESS)"},
		"not lz4 frames":     {method: "POST", params: "decompress=1", body: strings.Repeat("SELECT 1 ", 10), status: 500, want: "(CANNOT_DECOMPRESS)"},
		"foreign host":       {method: "GET", params: query("SELECT 1"), header: []string{"Host", "rebound.example:8123"}, status: 403, want: "loopback"},
		"foreign web page":   {method: "POST", body: "SELECT 1", header: []string{"Origin", "https://page.example", "Sec-Fetch-Site", "cross-site"}, status: 403, want: "cross-origin"},
		"show":               {method: "GET", params: query("SHOW DATABASES LIKE 'system' FORMAT TSVRaw SETTINGS max_threads = 1"), status: 200, want: "system\n"},
		"insert a bad value": {method: "POST", params: query("INSERT INTO answers FORMAT CSV"), body: "1,a\nx,b\n", status: 400, want: "(CANNOT_PARSE_INPUT_ASSERTION_FAILED)"},
		"insert no table":    {method: "POST", params: query("INSERT INTO no_such_table FORMAT CSV"), body: strings.Repeat("1,a\n", 1<<20), status: 404, want: "(UNKNOWN_TABLE)"},
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, shared, c.method, c.params, strings.NewReader(c.body), c.header...)
			if a.status != c.status {
				t.Fatalf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			if a.status == 200 && a.body != c.want || !strings.Contains(a.body, c.want) {
				t.Errorf("got %q\nwant %q", a.body, c.want)
			}
			if got := a.header.Get("Content-Type"); c.contentType != "" && got != c.contentType {
				t.Errorf("Content-Type %q, want %q", got, c.contentType)
			}
			if a.status != 200 && a.status != 403 {
				if code := a.header.Get("X-ClickHouse-Exception-Code"); !strings.Contains(a.body, "Code: "+code+". DB::Exception: ") {
					t.Errorf("X-ClickHouse-Exception-Code %q with %q", code, a.body)
				}
			}
		})
	}
	if n := post(t, shared, "SELECT count() FROM answers"); n != "0\n" {
		t.Errorf("failed inserts left %s rows", n)
	}
}

func TestHTTPHeaders(t *testing.T) {
	a := do(t, shared, "POST", query("SELECT number FROM numbers(10)", "query_id", "my-id"), nil)
	for name, want := range map[string]string{
		"X-ClickHouse-Query-Id": "my-id",
		"X-ClickHouse-Format":   "TabSeparated",
		"X-ClickHouse-Timezone": post(t, shared, "SELECT timezone() FORMAT TSVRaw"),
	} {
		if got := a.header.Get(name); got != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var summary map[string]string
	if err := json.Unmarshal([]byte(a.header.Get("X-ClickHouse-Summary")), &summary); err != nil || summary["read_rows"] != "10" {
		t.Errorf("X-ClickHouse-Summary %q: %v", a.header.Get("X-ClickHouse-Summary"), err)
	}
	for _, path := range []string{"/ping", "/replicas_status"} {
		resp, err := http.Get(shared.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "Ok.\n" {
			t.Errorf("%s: %q", path, b)
		}
	}
}

// Data may begin in the URL, in the body, behind the text of the statement, and
// be cut anywhere.
func TestHTTPInsertFormats(t *testing.T) {
	post(t, shared, "CREATE TABLE formats (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
	defer post(t, shared, "DROP TABLE formats")
	var native chproto.Buffer
	native.PutUVarInt(2)
	native.PutUVarInt(2)
	native.PutString("n")
	native.PutString("UInt32")
	native.PutUInt32(10) // as a byte: a line feed, right where the data begins in other formats
	native.PutUInt32(2)
	native.PutString("s")
	native.PutString("String")
	native.PutString("a")
	native.PutString("b")
	rowBinary := "\n\x00\x00\x00\x01a\x02\x00\x00\x00\x01b"
	for name, c := range map[string]struct{ query, body string }{
		"values in URL":             {"INSERT INTO formats VALUES (10, 'a'), (2, 'b')", ""},
		"values in body":            {"", "INSERT INTO formats (n, s) VALUES (10, 'a'), (2, 'b')"},
		"values cut":                {"INSERT INTO formats VALUES", "(10, 'a'), (2, concat('', 'b'))"},
		"format values":             {"INSERT INTO formats FORMAT Values", "(10, 'a'), (2, 'b')"},
		"csv":                       {"INSERT INTO formats FORMAT CSV", "10,a\n2,b"},
		"csv behind the text":       {"", "INSERT INTO formats FORMAT CSV\n10,a\n2,b\n"},
		"csv, line ends of Windows": {"", "INSERT INTO formats FORMAT CSV \r\n10,a\r\n2,b\r\n"},
		"json":                      {"INSERT INTO formats SETTINGS max_threads = 1 FORMAT JSONEachRow", `{"s":"a","n":10}{"n":2,"s":"b"}`},
		"native":                    {"INSERT INTO formats FORMAT Native", string(native.Buf)},
		"native behind the text":    {"", "INSERT INTO formats FORMAT Native\n" + string(native.Buf)},
		"binary that begins with a line feed": {
			"INSERT INTO formats (n, s) FORMAT RowBinary", rowBinary,
		},
		"binary behind the text": {"", "INSERT INTO formats FORMAT RowBinary\n" + rowBinary},
		"select":                 {"", "INSERT INTO formats SELECT if(number = 0, 10, 2), char(97 + number) FROM numbers(2)"},
		"select in parentheses":  {"", "INSERT INTO formats (n, s) (SELECT 10, 'a' UNION ALL SELECT 2, 'b')"},
		"with":                   {"", "INSERT INTO formats WITH 10 AS x SELECT * FROM VALUES('n UInt32, s String', (x, 'a'), (2, 'b'))"},
		"parameter":              {"INSERT INTO {table:Identifier} FORMAT CSV", "10,a\n2,b\n"},
		"a comment first":        {"", "-- INSERT INTO nothing FORMAT CSV\n/* FORMAT TSV */ INSERT INTO formats FORMAT CSV\n10,a\n2,b\n"},
		"quoted name":            {"", "INSERT INTO `default`.\"formats\" (`n`, `s`) FORMAT CSV\n10,a\n2,b\n"},
	} {
		t.Run(name, func(t *testing.T) {
			post(t, shared, "TRUNCATE TABLE formats")
			params := query(c.query, "param_table", "formats")
			if c.query == "" {
				params = ""
			}
			// One byte at a time, as the worst of networks would.
			a := do(t, shared, "POST", params, onlyReader{&oneByte{r: strings.NewReader(c.body)}})
			if a.status != 200 || a.body != "" {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := post(t, shared, "SELECT * FROM formats ORDER BY n"); got != "2\tb\n10\ta\n" {
				t.Errorf("rows %q", got)
			}
		})
	}
}

type oneByte struct{ r io.Reader }

func (o *oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestHTTPRequestCompression(t *testing.T) {
	post(t, shared, "CREATE TABLE compressed (n UInt64) ENGINE = MergeTree ORDER BY n")
	defer post(t, shared, "DROP TABLE compressed")
	var data bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintln(&data, i)
	}
	zip := func(w io.WriteCloser, out *bytes.Buffer) *bytes.Buffer {
		_, _ = w.Write(data.Bytes()) // a bytes.Buffer takes all
		_ = w.Close()
		return out
	}
	var gz, zs, lz bytes.Buffer
	zw, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	w := compress.NewWriter(compress.LevelZero, compress.LZ4)
	for rest := data.Bytes(); len(rest) > 0; {
		n := min(len(rest), 100_000)
		if err := w.Compress(rest[:n]); err != nil {
			t.Fatal(err)
		}
		lz.Write(w.Data)
		rest = rest[n:]
	}
	for name, c := range map[string]struct {
		body   *bytes.Buffer
		param  string
		header []string
	}{
		"gzip":       {zip(gzip.NewWriter(&gz), &gz), "", []string{"Content-Encoding", "gzip"}},
		"zstd":       {zip(zw, &zs), "", []string{"Content-Encoding", "zstd"}},
		"lz4 frames": {&lz, "1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			post(t, shared, "TRUNCATE TABLE compressed")
			whole := c.body.Bytes()
			params := query("INSERT INTO compressed FORMAT TSV", "decompress", c.param)
			if a := do(t, shared, "POST", params, bytes.NewReader(whole), c.header...); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := post(t, shared, "SELECT count(), sum(n) FROM compressed"); got != "200000\t19999900000\n" {
				t.Errorf("rows, sum: %s", got)
			}
			cut := bytes.NewReader(whole[:len(whole)/2])
			if a := do(t, shared, "POST", params, cut, c.header...); a.status == 200 {
				t.Error("half a body was taken for a whole one")
			}
		})
	}
}

func TestHTTPResponseCompression(t *testing.T) {
	sql := "SELECT number, toString(number) FROM numbers(100000)"
	want := post(t, shared, sql)
	for encoding, open := range map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		a := do(t, shared, "GET", query(sql, "enable_http_compression", "1"), nil, "Accept-Encoding", "compress, "+encoding+";q=0.5")
		if a.header.Get("Content-Encoding") != encoding {
			t.Errorf("%s: Content-Encoding %q", encoding, a.header.Get("Content-Encoding"))
			continue
		}
		r, err := open(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != want {
			t.Errorf("%s: %d bytes, want %d: %v", encoding, len(b), len(want), err)
		}
	}
	for _, method := range []string{"", "LZ4", "lz4hc", "ZSTD"} {
		a := do(t, shared, "GET", query(sql, "compress", "1", "network_compression_method", method), nil)
		if method == "" {
			a = do(t, shared, "GET", query(sql, "compress", "1"), nil)
		}
		b, err := io.ReadAll(frameReader{compress.NewReader(strings.NewReader(a.body))})
		if err != nil || string(b) != want {
			t.Errorf("%q: %d bytes, want %d: %v", method, len(b), len(want), err)
		}
	}
	if a := do(t, shared, "GET", query(sql), nil, "Accept-Encoding", "gzip"); a.body != want {
		t.Error("compressed without enable_http_compression")
	}
}

// A result with a header or a footer is one document, whatever its size.
func TestHTTPLargeDocument(t *testing.T) {
	var doc struct {
		Rows int               `json:"rows"`
		Data []json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(post(t, shared, "SELECT number FROM numbers(300000) FORMAT JSONCompact")), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Rows != 300_000 || len(doc.Data) != doc.Rows {
		t.Errorf("%d rows, %d of them there", doc.Rows, len(doc.Data))
	}
	csv := post(t, shared, "SELECT number AS n FROM numbers(300000) FORMAT CSVWithNames")
	if lines, headers := strings.Count(csv, "\n"), strings.Count(csv, "n"); lines != 300_001 || headers != 1 {
		t.Errorf("%d lines, %d headers", lines, headers)
	}
	a := do(t, shared, "POST", "", strings.NewReader("SELECT number FROM numbers(100000000) FORMAT JSONCompact"))
	if a.status != 500 || !strings.Contains(a.body, "(TOO_MANY_ROWS_OR_BYTES)") {
		t.Errorf("a document without bound: %d %.300s", a.status, a.body)
	}
}

// ProtobufList takes one message Envelope behind its length, which has rows
// and nothing else; ProtobufSingle takes any message, without length, whose
// repeated submessages become Nested columns.
func TestHTTPProtobuf(t *testing.T) {
	const fields = `string name = 1; sint32 delta = 2;`
	row := func(name string, delta byte) string {
		return "\x0a" + string(rune(4+len(name))) + "\x0a" + string(rune(len(name))) + name + "\x10" + string(rune(delta))
	}
	rows := row("first", 1) + row("second", 2) // zigzag: -1, 1
	post(t, shared, "CREATE TABLE protobuf (name String, delta Int32) ENGINE = Memory")
	defer post(t, shared, "DROP TABLE protobuf")
	params := query("INSERT INTO protobuf FORMAT ProtobufList", "format_schema_source", "string", "format_schema_message_name", "ListRow",
		"format_schema", `syntax = "proto3"; message Envelope { message ListRow { `+fields+` } repeated ListRow rows = 1; }`)
	if a := do(t, shared, "POST", params, strings.NewReader(string(rune(len(rows)))+rows)); a.status != 200 {
		t.Fatalf("ProtobufList: %d %s", a.status, a.body)
	}
	if got := post(t, shared, "SELECT * FROM protobuf ORDER BY name"); got != "first\t-1\nsecond\t1\n" {
		t.Errorf("ProtobufList: %q", got)
	}
	if a := do(t, shared, "POST", params, strings.NewReader(rows)); a.status == 200 {
		t.Error("ProtobufList takes a message without its length")
	}

	post(t, shared, "CREATE TABLE batches (`rows.name` Array(String), `rows.delta` Array(Int32), lanes Array(String)) ENGINE = Memory")
	defer post(t, shared, "DROP TABLE batches")
	params = query("INSERT INTO batches FORMAT ProtobufSingle", "format_schema_source", "string", "format_schema_message_name", "Batch",
		"format_schema", `syntax = "proto3"; package p; message Batch { repeated BatchRow rows = 1; repeated string lanes = 2; } message BatchRow { `+fields+` }`)
	if a := do(t, shared, "POST", params, strings.NewReader(rows+"\x12\x04lane")); a.status != 200 {
		t.Fatalf("ProtobufSingle: %d %s", a.status, a.body)
	}
	if got := post(t, shared, "SELECT name, delta, lanes[1] FROM batches ARRAY JOIN rows.name AS name, rows.delta AS delta"); got != "first\t-1\tlane\nsecond\t1\tlane\n" {
		t.Errorf("ProtobufSingle: %q", got)
	}
}
