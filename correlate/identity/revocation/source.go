// Package revocation feeds a registry with what CAs have revoked: from revocation
// lists and from audit reports of AWS Private CA.
package revocation

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/schemas"
)

// Source is where revocations are published.
type Source interface {
	// Name tells the source from the others, in the key of what is remembered of it.
	Name() string
	// Sync hands the target what has changed since state, which is what it last gave
	// to Target.Save; empty at first. What is wrong with single documents goes to
	// Target.Problem and is no error: an error is of the target, or of ctx.
	Sync(ctx context.Context, state json.RawMessage, t Target) error
}

// Target is the registry. Its methods are called by the goroutine that called
// Sync.
type Target interface {
	crl.Issuers
	// Revoke takes in that a CA has revoked a certificate. It must not undo
	// anything when the same is told again, or something less: see package crl.
	Revoke(ctx context.Context, r *Revocation) error
	// Problem takes in what is wrong with a source.
	Problem(p *crl.Problem)
	// Save remembers the state of the source. Before that it must have made safe
	// all that was given to Revoke.
	Save(ctx context.Context, state any) error
}

// Revocation is one revoked certificate.
type Revocation struct {
	IssuerKeyID string // key identifier of the CA, lower-case hex; see crl.KeyID
	Serial      string // as schemas.NormalizeSerial has it
	schemas.Revocation
}

// saveInterval is how much is read again after a crash.
const saveInterval = 30 * time.Second
