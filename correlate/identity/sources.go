package identity

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/revocation"
	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/schemas"
)

// readSources asks the sources of revocations, one after the other, until ctx ends.
func (t *term) readSources(ctx context.Context) error {
	if len(t.opts.Sources) == 0 {
		return nil
	}
	if err := t.awaitCAs(ctx); err != nil {
		return nil //nolint:nilerr // ctx ended
	}
	ticker := time.NewTicker(t.opts.SourceInterval)
	defer ticker.Stop()
	for {
		for _, source := range t.opts.Sources {
			var state json.RawMessage
			if err := t.syncState(source.Name(), &state); err != nil {
				return err
			}
			if err := source.Sync(ctx, state, &revocationTarget{t, source.Name()}); err != nil {
				return err
			}
		}
		// What came after the last Save, and what there was to tell.
		if err := t.flush(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-t.syncNow:
		}
	}
}

// awaitCAs gives the inventory the time to find the CAs of the lists: without them
// the lists would be told to be of an unknown issuer.
func (t *term) awaitCAs(ctx context.Context) error {
	const patience = 2 * time.Minute
	for deadline := time.Now().Add(patience); t.opts.Inventory != nil && time.Now().Before(deadline); {
		t.mu.Lock()
		_, listed := t.syncs[syncInventory]
		known := len(t.cas) > 0
		t.mu.Unlock()
		if listed || known {
			break
		}
		if err := backoff.Sleep(ctx, flushInterval); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// revocationTarget is the registry as a source of revocations sees it.
type revocationTarget struct {
	*term
	source string
}

// Issuers implements crl.Issuers. It returns all CAs: they are few, and crl looks
// for the right one among them.
func (t *revocationTarget) Issuers(name []byte) []*x509.Certificate {
	t.mu.Lock()
	docs := make([]string, 0, len(t.cas))
	for _, ca := range t.cas {
		docs = append(docs, ca.PEM)
	}
	t.mu.Unlock()
	var out []*x509.Certificate
	for _, doc := range docs {
		block, _ := pem.Decode([]byte(doc))
		if block == nil {
			continue
		}
		// A CA that crypto/x509 does not take cannot have its signatures verified.
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && string(cert.RawSubject) == string(name) {
			out = append(out, cert)
		}
	}
	return out
}

// Revoke implements revocation.Target.
func (t *revocationTarget) Revoke(ctx context.Context, r *revocation.Revocation) error {
	t.mu.Lock()
	news := t.revoke(r.IssuerKeyID, r.Serial, &r.Revocation)
	full := t.pending.len() >= maxPending
	t.mu.Unlock()
	if news && t.opts.Enforcer != nil {
		t.opts.Enforcer.Poke()
	}
	if full {
		return t.flush(ctx)
	}
	return nil
}

// Save implements revocation.Target.
func (t *revocationTarget) Save(ctx context.Context, state any) error {
	return t.saveSync(ctx, t.source, state, false)
}

// Problem implements revocation.Target. A problem that lasts is told again every
// day.
func (t *revocationTarget) Problem(p *crl.Problem) {
	now := time.Now().UTC()
	t.log.Warn("revocation list", zap.String("source", p.Source), zap.String("reason", string(p.Reason)), zap.String("error", p.Error))
	message := map[string]any{"source": p.Source, "reason": string(p.Reason), "error": clip(p.Error, maxFindingErrorSize)}
	put := func(key, value string) {
		if value != "" {
			message[key] = value
		}
	}
	put("issuer", p.Issuer)
	put("issuer_key_id", p.IssuerKeyID)
	put("number", p.Number)
	put("previous_number", p.Previous)
	if !p.NextUpdate.IsZero() {
		message["next_update"] = rfc3339(p.NextUpdate)
	}
	eventType := eventCRLInvalid
	switch p.Reason {
	case crl.ReasonStale:
		eventType = eventCRLStale
	case crl.ReasonRolledBack:
		eventType = eventCRLRolledBack
	case crl.ReasonUnreachable:
		eventType = eventSyncFailed
	}
	f := newFinding(eventType, message, p.Source, p.IssuerKeyID, string(p.Reason), p.Number, rfc3339(now.Truncate(24*time.Hour)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.syncFailures.WithLabelValues(t.source).Inc()
	t.tell(now, now, f)
}

// RevokedActive returns up to limit certificates that their CA has revoked and the
// broker takes as ACTIVE, and how many there are.
func (s *Service) RevokedActive(limit int) (some []schemas.Certificate, all int) {
	s.certs.Range(func(c *schemas.Certificate) bool {
		if revokedActive(c) {
			if all++; len(some) < limit {
				some = append(some, clone(c))
			}
		}
		return true
	})
	return some, all
}
