package clickhouse

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/google/uuid"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// request is what an HTTP request says besides the statement.
type request struct {
	query    string // the query parameter; the body follows it
	queryID  string
	database string
	format   string // where the statement has no FORMAT
	params   chdb.Params
	settings map[string]string

	revision       uint64          // client_protocol_version: of Native blocks that go out
	compress       bool            // native block compression of the response
	decompress     bool            // native block compression of the body
	method         compress.Method // network_compression_method, of what goes out
	httpCompressed bool            // enable_http_compression: Accept-Encoding counts
	wait           bool            // wait_end_of_query: nothing goes out before the end
}

// parseRequest sorts URL parameters into what the HTTP interface consumes
// itself and settings, which is everything else, as in ClickHouse.
func parseRequest(r *http.Request) (*request, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, exception(codeBadArguments, "BAD_ARGUMENTS", "Malformed URL query: %v", err)
	}
	req := &request{
		method:   compress.LZ4,
		format:   r.Header.Get("X-ClickHouse-Format"),
		database: r.Header.Get("X-ClickHouse-Database"),
		params:   chdb.Params{},
		settings: map[string]string{},
	}
	for name, all := range values {
		value := all[len(all)-1]
		switch name {
		case "query":
			req.query = strings.Join(all, "")
		case "query_id":
			req.queryID = value
		case "database":
			req.database = value
		case "default_format":
			req.format = value
		case "client_protocol_version":
			if req.revision, err = strconv.ParseUint(value, 10, 32); err != nil {
				return nil, exception(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version is not a number: %q", value)
			}
		case "compress":
			req.compress = isOn(value)
		case "decompress":
			req.decompress = isOn(value)
		case "network_compression_method":
			switch strings.ToUpper(value) {
			case "LZ4":
				req.method = compress.LZ4
			case "LZ4HC":
				req.method = compress.LZ4HC
			case "ZSTD":
				req.method = compress.ZSTD
			case "NONE":
				req.method = compress.None
			default:
				return nil, exception(codeUnknownCompressionMethod, "UNKNOWN_COMPRESSION_METHOD",
					"network_compression_method %q is not supported (LZ4, LZ4HC, ZSTD, NONE are)", value)
			}
		case "enable_http_compression":
			req.httpCompressed = isOn(value)
		case "wait_end_of_query":
			req.wait = isOn(value)
		case "session_id":
			if value != "" {
				return nil, exception(codeNotImplemented, "NOT_IMPLEMENTED", "The embedded ClickHouse has no HTTP sessions (session_id)")
			}
		case "session_timeout", "session_check", "close_session", "user", "password", "quota_key", "role",
			"buffer_size", "stacktrace", "network_zstd_compression_level", "http_zlib_compression_level":
		default:
			if p, ok := strings.CutPrefix(name, "param_"); ok {
				req.params[p] = value
				continue
			}
			if !isSettingName(name) {
				return nil, exception(codeUnknownSetting, "UNKNOWN_SETTING", "Unknown setting %q", name)
			}
			req.settings[name] = value
		}
	}
	if req.queryID == "" {
		req.queryID = uuid.NewString()
	}
	if req.format == "" {
		req.format = "TabSeparated"
	}
	return req, nil
}

func isOn(value string) bool { return value != "" && value != "0" && value != "false" }

// isSettingName guards the SET statement that the name goes into.
func isSettingName(name string) bool {
	for i := range len(name) {
		if !isWord(name[i]) && name[i] != '.' {
			return false
		}
	}
	return name != ""
}

// authenticated checks the password in the places ClickHouse looks for one.
// Every user name is accepted: the embedded engine has one user.
func authenticated(r *http.Request, password string) bool {
	if password == "" {
		return true
	}
	given := r.URL.Query().Get("password")
	if _, p, ok := r.BasicAuth(); ok {
		given = p
	}
	if p := r.Header.Get("X-ClickHouse-Key"); p != "" {
		given = p
	}
	return subtle.ConstantTimeCompare([]byte(given), []byte(password)) == 1
}
