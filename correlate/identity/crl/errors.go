package crl

import (
	"errors"
	"fmt"
)

// Reason is why a list was not taken in. The reasons are metric labels: the set
// is fixed.
type Reason string

// The reasons.
const (
	ReasonMalformed     Reason = "malformed"      // no CRL, or not one to RFC 5280
	ReasonUnsupported   Reason = "unsupported"    // a delta or indirect CRL, an unknown critical extension or algorithm
	ReasonTooLarge      Reason = "too_large"      // more bytes than allowed
	ReasonUnknownIssuer Reason = "unknown_issuer" // no certificate of its issuer is known
	ReasonSignature     Reason = "signature"      // not signed by its issuer
	ReasonRolledBack    Reason = "rolled_back"    // older than the one before it
	ReasonStale         Reason = "stale"          // nextUpdate has passed; the list is taken in nevertheless
	ReasonUnreachable   Reason = "unreachable"    // could not be fetched
)

// Reasons lists all reasons.
var Reasons = []Reason{
	ReasonMalformed, ReasonUnsupported, ReasonTooLarge, ReasonUnknownIssuer,
	ReasonSignature, ReasonRolledBack, ReasonStale, ReasonUnreachable,
}

// Error says why a list was not taken in.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func malformed(format string, args ...any) error {
	return &Error{Reason: ReasonMalformed, Err: fmt.Errorf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &Error{Reason: ReasonUnsupported, Err: fmt.Errorf(format, args...)}
}

// reasonOf returns the reason in err's chain, or otherwise.
func reasonOf(err error, otherwise Reason) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return otherwise
}
