package rules

import "fmt"

// Severity of a Diagnostic.
type Severity uint8

// An Error leaves the rule out, a Warning does not.
const (
	SeverityError Severity = iota
	SeverityWarning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == SeverityWarning {
		return "warning"
	}
	return "error"
}

// Diagnostic is something wrong in a rule file.
type Diagnostic struct {
	File         string
	Line, Column int // from 1; 0 when the whole file is meant
	Severity     Severity
	Rule         string // title, name or ID, where known
	Message      string // what is wrong
	Hint         string // what would be right, or ""
}

// String returns "file:line:column: severity: message (hint)".
func (d Diagnostic) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s: %s", d.File, d.Line, d.Column, d.Severity, d.Message)
	if d.Hint != "" {
		s += "; " + d.Hint
	}
	return s
}

// Diagnostics are all that was found, in the order of files and lines.
type Diagnostics []Diagnostic

// Errors returns how many are errors.
func (ds Diagnostics) Errors() int {
	n := 0
	for _, d := range ds {
		if d.Severity == SeverityError {
			n++
		}
	}
	return n
}

// Err returns nil when there is no error among ds, else ds as an error.
func (ds Diagnostics) Err() error {
	if ds.Errors() == 0 {
		return nil
	}
	return diagnosticsError(ds)
}

type diagnosticsError Diagnostics

func (e diagnosticsError) Error() string {
	s := ""
	for _, d := range e {
		if d.Severity != SeverityError {
			continue
		}
		if s != "" {
			s += "\n"
		}
		s += d.String()
	}
	return s
}
