package clickhouse

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// Codes of ClickHouse (system.errors) that the front end raises itself.
const (
	codeBadArguments             = 36
	codeNotImplemented           = 48
	codeSyntaxError              = 62
	codeUnknownCompressionMethod = 89
	codeUnknownSetting           = 115
	codeReadonly                 = 164
	codeTooManyQueries           = 202
	codeQueryIsTooLarge          = 229
	codeCannotDecompress         = 271
	codeQueryWasCancelled        = 394
	codeAuthenticationFailed     = 516
	codeStdException             = 1001
)

// exception makes an error that clients cannot tell from the engine's own.
func exception(code int, name, format string, args ...any) *chdb.Error {
	return &chdb.Error{
		Code: code, Name: name,
		Text: fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name),
	}
}

// asException gives any error a code, without which clients do not take it for
// an answer of ClickHouse.
func asException(err error) *chdb.Error {
	var e *chdb.Error
	if errors.As(err, &e) && e.Code != 0 {
		return e
	}
	return exception(codeStdException, "STD_EXCEPTION", "%v", err)
}

// httpStatus is what a ClickHouse server answers with for an error code, from
// its src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
func httpStatus(code int) int {
	switch code {
	case 194: // REQUIRED_PASSWORD
		return http.StatusUnauthorized
	case 192, 193, 497, 512, 516: // UNKNOWN_USER, WRONG_PASSWORD, ACCESS_DENIED, SET_NON_GRANTED_ROLE, AUTHENTICATION_FAILED
		return http.StatusForbidden
	case 6, 25, 26, 27, 38, 41, 72, 376, 441, 675, 676, // CANNOT_PARSE_*
		8, 15, 44, // THERE_IS_NO_COLUMN, DUPLICATE_COLUMN, ILLEGAL_COLUMN
		36, 427, // BAD_ARGUMENTS, CANNOT_COMPILE_REGEXP
		37, 123, 167, 168, 223, // UNKNOWN_ELEMENT_IN_AST, UNKNOWN_TYPE_OF_AST_NODE, TOO_DEEP_AST, TOO_BIG_AST, UNEXPECTED_AST_STRUCTURE
		53, 62, 117, 321: // TYPE_MISMATCH, SYNTAX_ERROR, INCORRECT_DATA, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		return http.StatusBadRequest
	case 46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511: // UNKNOWN_{FUNCTION, IDENTIFIER, TYPE, STORAGE, TABLE, ...}
		return http.StatusNotFound
	case 159: // TIMEOUT_EXCEEDED
		return http.StatusRequestTimeout
	case 381: // HTTP_LENGTH_REQUIRED
		return http.StatusLengthRequired
	case codeQueryIsTooLarge:
		return http.StatusRequestEntityTooLarge
	case 779: // UNSUPPORTED_MEDIA_TYPE
		return http.StatusUnsupportedMediaType
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 76, 209, 439: // CANNOT_OPEN_FILE, SOCKET_TIMEOUT, CANNOT_SCHEDULE_TASK
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
