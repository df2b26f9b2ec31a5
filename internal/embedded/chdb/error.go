package chdb

import (
	"regexp"
	"strconv"
	"strings"
)

// Error is an exception of the engine.
type Error struct {
	// Code is ClickHouse's error code (system.errors), 0 if the engine gave none.
	Code int
	// Name is the code's name, such as UNKNOWN_TABLE, or empty.
	Name string
	// Text is the message as the engine wrote it, in the form
	// "Code: 60. DB::Exception: ... (UNKNOWN_TABLE)".
	Text string
}

func (e *Error) Error() string { return e.Text }

var (
	errorCode = regexp.MustCompile(`^Code: (\d+)\.`)
	errorName = regexp.MustCompile(`\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))?$`)
)

func parseError(text string) *Error {
	e := &Error{Text: strings.TrimSpace(text)}
	if m := errorCode.FindStringSubmatch(e.Text); m != nil {
		e.Code, _ = strconv.Atoi(m[1])
	}
	if m := errorName.FindStringSubmatch(e.Text); m != nil {
		e.Name = m[1]
	}
	return e
}
