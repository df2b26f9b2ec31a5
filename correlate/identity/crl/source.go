package crl

import (
	"crypto/x509"
	"math/big"
	"time"
)

// Key names a list among all lists.
type Key struct {
	IssuerKeyID string `json:"issuer_key_id"`   // see KeyID
	Location    string `json:"location"`        // path or URL
	Scope       string `json:"scope,omitempty"` // distribution point of a partition
}

// State is what must be remembered of a list from one reading to the next, over
// restarts.
type State struct {
	Key
	Issuer     string    `json:"issuer"`           // RFC 2253 name
	Number     string    `json:"number,omitempty"` // CRL number, decimal; the highest seen
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update,omitzero"`
	SHA256     string    `json:"sha256"`
	// Version is that of the document whose last list this is.
	Version string    `json:"version,omitempty"`
	Entries int       `json:"entries"`
	Read    time.Time `json:"read"` // when it was last taken in
}

// Stale reports whether a newer list should have been there at t.
func (s *State) Stale(t time.Time) bool {
	return !s.NextUpdate.IsZero() && t.After(s.NextUpdate)
}

// precedes reports whether a list with this number and time may come after the
// one that s is of. A number that is used again must be of a list that is no
// older.
func (s *State) precedes(number *big.Int, thisUpdate time.Time) bool {
	if last, ok := new(big.Int).SetString(s.Number, 10); ok {
		if number == nil {
			return false
		}
		if order := number.Cmp(last); order != 0 {
			return order > 0
		}
	}
	return !thisUpdate.Before(s.ThisUpdate)
}

// Update is one result of a synchronisation: a list to take in, a State to
// store, a Problem to tell, or several of these.
type Update struct {
	// State is to be stored once List has been taken in. It has no IssuerKeyID
	// when nothing is to be stored.
	State State
	// List is new or has changed. It is nil when nothing is to be taken in.
	List *List
	// Problem is nil if nothing is wrong. A stale list comes with both.
	Problem *Problem
}

// Problem is a list that could not be taken in, or only with reservations. Its
// JSON form is the message of an event.
type Problem struct {
	Reason      Reason    `json:"reason"`
	Source      string    `json:"source"` // location of the list, or the place that could not be listed
	Issuer      string    `json:"issuer,omitempty"`
	IssuerKeyID string    `json:"issuer_key_id,omitempty"`
	NextUpdate  time.Time `json:"next_update,omitzero"`
	// Number is the list's CRL number in decimal, or its thisUpdate when one of
	// the two lists has no number; Previous is what it is below.
	Number   string `json:"number,omitempty"`
	Previous string `json:"previous_number,omitempty"`
	Error    string `json:"error"` // for a person
}

// EventType returns the type of the event that tells the problem.
func (p *Problem) EventType() string {
	switch p.Reason {
	case ReasonStale:
		return "CRLStale"
	case ReasonRolledBack:
		return "CRLRolledBack"
	case ReasonUnreachable:
		return "SyncFailed"
	}
	return "CRLInvalid"
}

// Issuers knows the certificates of CAs.
type Issuers interface {
	// Issuers returns the certificates of CAs whose RawSubject is name. It may
	// return others as well.
	Issuers(name []byte) []*x509.Certificate
}
