package crl

import (
	"crypto/x509"
	"math/big"
	"time"
)

// Key names a list among all lists.
type Key struct {
	IssuerKeyID string `json:"issuer_key_id"`
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
	Version    string    `json:"version,omitempty"` // of the document that it was read from
	Entries    int       `json:"entries"`
	Read       time.Time `json:"read"` // when it was last taken in
}

// Stale reports whether a newer list should have been there at t.
func (s *State) Stale(t time.Time) bool {
	return !s.NextUpdate.IsZero() && t.After(s.NextUpdate)
}

// follows returns nil if a list may come after the one that s is of.
func (s *State) follows(number *big.Int, thisUpdate time.Time) bool {
	last, ok := new(big.Int).SetString(s.Number, 10)
	if s.Number != "" && ok {
		return number != nil && number.Cmp(last) >= 0 && (number.Cmp(last) > 0 || !thisUpdate.Before(s.ThisUpdate))
	}
	return !thisUpdate.Before(s.ThisUpdate)
}

// Update is one result of a synchronisation.
type Update struct {
	// State is to be stored when List has been taken in; without a Key there is
	// none.
	State State
	// List is a list that was not there before, or changed. It is nil when only a
	// Problem is told.
	List *List
	// Problem is what is wrong, nil if nothing is. A stale list comes with both.
	Problem *Problem
}

// Problem is a list that could not be taken in, or only with reservations.
type Problem struct {
	Reason      Reason
	Location    string
	IssuerKeyID string // if known
	Issuer      string // if known
	NextUpdate  time.Time
	// Number is the list's CRL number, Previous the one that it must not be
	// below; both decimal, or thisUpdate in RFC 3339 where there is none.
	Number, Previous string
	Err              error
}

// Issuers knows the certificates of CAs.
type Issuers interface {
	// Issuers returns the CA certificates whose RawSubject is name. It may return
	// others as well.
	Issuers(name []byte) []*x509.Certificate
}
