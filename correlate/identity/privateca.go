package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/pcareport"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// syncPrivateCAs is the Sync record of privateCAs.
const syncPrivateCAs = "private-ca"

// The bounds of privateCAs. All of it is one record in Kafka, which at its largest
// has 860 KB of the 1 MB that a broker takes.
const (
	maxPrivateCAs = 1500
	maxWaiting    = 1500
)

// privateCAs is what CloudTrail's events of AWS Private CA have told: they name a CA
// by its ARN, certificates name it by its key identifier. The revocations of a CA
// whose key identifier is not known wait until it is.
type privateCAs struct {
	cas     map[string]*privateCA // by ARN
	waiting int                   // revocations
	changed bool                  // since it was saved
}

// privateCA has either a key identifier or revocations that wait for it.
type privateCA struct {
	KeyID   string              `json:"key_id,omitempty"`
	Waiting []waitingRevocation `json:"waiting,omitempty"` // in the order they came
}

type waitingRevocation struct {
	Serial string    `json:"serial"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// restorePrivateCAs returns what was saved.
func restorePrivateCAs(state json.RawMessage) (*privateCAs, error) {
	p := &privateCAs{cas: make(map[string]*privateCA)}
	if len(state) == 0 {
		return p, nil
	}
	var saved map[string]privateCA
	if err := json.Unmarshal(state, &saved); err != nil {
		return p, err
	}
	for arn, ca := range saved {
		if ca.KeyID != "" {
			p.learn(arn, ca.KeyID)
			continue
		}
		for _, w := range ca.Waiting {
			p.wait(arn, w)
		}
	}
	p.changed = false
	return p, nil
}

// keyID returns the key identifier of a CA, "" if it is not known.
func (p *privateCAs) keyID(arn string) string {
	if ca := p.cas[arn]; ca != nil {
		return ca.KeyID
	}
	return ""
}

// learn notes the key identifier of a CA, in place of another one: that of a CA
// changes when it is given a new certificate. It returns the revocations that have
// waited for it, and how many were given up to make room; kept is false when there
// was none.
func (p *privateCAs) learn(arn, keyID string) (waited []waitingRevocation, dropped int, kept bool) {
	ca, dropped := p.get(arn)
	if ca == nil {
		return nil, dropped, false
	}
	if ca.KeyID != keyID {
		waited = ca.Waiting
		p.waiting -= len(waited)
		ca.KeyID, ca.Waiting, p.changed = keyID, nil, true
	}
	return waited, dropped, true
}

// wait keeps a revocation by a CA without a key identifier. It reports how many it
// could not keep, and whether the CA is a new one. When there are too many, the
// oldest one goes of the CA that has the most: a CA that has nothing to do with the
// fleet does not drive out the fleet's, and what is oldest is the soonest to be in
// an audit report or a revocation list.
func (p *privateCAs) wait(arn string, w waitingRevocation) (dropped int, first bool) {
	ca, dropped := p.get(arn)
	if ca == nil {
		return dropped + 1, false
	}
	first = len(ca.Waiting) == 0
	for i := range ca.Waiting {
		if known := &ca.Waiting[i]; known.Serial == w.Serial {
			if w.Time.Before(known.Time) {
				*known, p.changed = w, true
			}
			return dropped, false
		}
	}
	ca.Waiting = append(ca.Waiting, w)
	p.waiting++
	p.changed = true
	if p.waiting > maxWaiting {
		most := arn
		for other, ca := range p.cas {
			if len(ca.Waiting) > len(p.cas[most].Waiting) {
				most = other
			}
		}
		full := p.cas[most]
		full.Waiting = slices.Delete(full.Waiting, 0, 1)
		p.waiting--
		dropped++
		if len(full.Waiting) == 0 {
			delete(p.cas, most)
		}
	}
	return dropped, first
}

// get returns the entry of a CA, which it makes if need be. When there are too many
// CAs, one without a key identifier goes, with what waits for it. Without such a one
// there is no room: nil.
func (p *privateCAs) get(arn string) (ca *privateCA, dropped int) {
	if ca := p.cas[arn]; ca != nil {
		return ca, 0
	}
	if len(p.cas) >= maxPrivateCAs {
		for other, ca := range p.cas {
			if ca.KeyID == "" {
				dropped = len(ca.Waiting)
				p.waiting -= dropped
				p.changed = true
				delete(p.cas, other)
				break
			}
		}
		if len(p.cas) >= maxPrivateCAs {
			return nil, 0
		}
	}
	ca = &privateCA{}
	p.cas[arn] = ca
	return ca, dropped
}

// unknown returns the ARNs of the CAs whose key identifiers are not known.
func (p *privateCAs) unknown() (arns []string) {
	for arn, ca := range p.cas {
		if ca.KeyID == "" {
			arns = append(arns, arn)
		}
	}
	return arns
}

// takeIssued merges what AWS Private CA's events say of a certificate. An issuance
// has nothing that the certificate itself does not have, but for this: it has both
// names of the CA. mu is held.
func (t *term) takeIssued(kind, name string, value []byte) error {
	if len(value) == 0 {
		return nil
	}
	var f schemas.IssuedCertificate
	if err := json.Unmarshal(value, &f); err != nil {
		return err
	}
	if !pcareport.IsAuthority(f.CAARN) {
		return fmt.Errorf("%.200q is no ARN of a CA", f.CAARN)
	}
	if err := t.mergeIssued(kind, &f); err != nil {
		return err
	}
	t.merged[kind+name] = f.CAARN
	return nil
}

func (t *term) mergeIssued(kind string, f *schemas.IssuedCertificate) error {
	if kind == schemas.KeyIssued {
		if f.IssuerKeyID == "" {
			return nil
		}
		return t.learnPrivateCA(f.CAARN, f.IssuerKeyID)
	}
	serial, err := schemas.NormalizeSerial(f.Serial)
	if err != nil {
		return err
	}
	at := f.RevokedAt.UTC()
	if at.Year() < 1970 || at.Year() > 9999 { // JSON has none after that
		return fmt.Errorf("a revocation in the year %d", at.Year())
	}
	w := waitingRevocation{Serial: serial, Time: at, Reason: f.Reason}
	if !slices.Contains(revocationReasons[:], w.Reason) {
		w.Reason = revocationReasons[0]
	}
	if keyID := t.privateCAs.keyID(f.CAARN); keyID != "" {
		t.revokedByPrivateCA(f.CAARN, keyID, w)
		return nil
	}
	dropped, first := t.privateCAs.wait(f.CAARN, w)
	t.refusedWaiting(dropped)
	if first {
		select {
		case t.newPrivateCA <- struct{}{}:
		default: // the next look finds both
		}
	}
	return nil
}

// learnPrivateCA takes in the key identifier of a CA and merges the revocations that
// have waited for it. mu is held.
func (t *term) learnPrivateCA(arn, keyID string) error {
	if !isKeyID(keyID) {
		return fmt.Errorf("%.80q is no key identifier", keyID)
	}
	before := t.privateCAs.keyID(arn)
	waited, dropped, kept := t.privateCAs.learn(arn, keyID)
	t.refusedWaiting(dropped)
	if !kept {
		t.metrics.refused.WithLabelValues("private_ca").Inc()
		return nil
	}
	if before != "" && before != keyID {
		t.log.Info("a CA of AWS Private CA has another key identifier", zap.String("ca", arn), zap.String("before", before), zap.String("key_id", keyID))
	}
	for _, w := range waited {
		t.revokedByPrivateCA(arn, keyID, w)
	}
	t.metrics.waiting.Set(float64(t.privateCAs.waiting))
	return nil
}

// revokedByPrivateCA merges a revocation as one of an audit report is. mu is held.
func (t *term) revokedByPrivateCA(arn, keyID string, w waitingRevocation) {
	news := t.revoke(keyID, w.Serial, &schemas.Revocation{Time: w.Time, Reason: w.Reason, Source: "CloudTrail " + arn})
	if news && t.opts.Enforcer != nil {
		t.opts.Enforcer.Poke()
	}
}

// refusedWaiting counts revocations that were given up. mu is held.
func (t *term) refusedWaiting(dropped int) {
	if dropped > 0 {
		t.metrics.refused.WithLabelValues("unresolved_revocation").Add(float64(dropped))
	}
	t.metrics.waiting.Set(float64(t.privateCAs.waiting))
}

// isKeyID reports whether s is a key identifier: bytes in lower-case hex.
func isKeyID(s string) bool {
	return len(s) > 0 && len(s)%2 == 0 && len(s) <= 128 && strings.Trim(s, "0123456789abcdef") == ""
}

// savePrivateCAs stores privateCAs if it has changed. That must come before the
// facts' checkpoint: what waits is in no other record. Then it deletes the facts
// that are merged: every certificate that is ever issued has one, and nothing else
// would end them. The order matters: what a deleted fact said must be in other
// records. If the instance ends before it has deleted them they stay.
func (t *term) savePrivateCAs(ctx context.Context) error {
	// One at a time: an older state must not be written after a newer one.
	t.saving.Lock()
	defer t.saving.Unlock()
	t.mu.Lock()
	changed, merged := t.privateCAs.changed, t.merged
	var state []byte
	var err error
	if changed {
		state, err = json.Marshal(t.privateCAs.cas)
	}
	t.privateCAs.changed, t.merged = false, make(map[string]string)
	t.mu.Unlock()
	switch {
	case err != nil:
	case changed:
		err = t.saveSync(ctx, syncPrivateCAs, json.RawMessage(state), false) // flushes
	case len(merged) > 0:
		err = t.flush(ctx)
	}
	if err == nil {
		tombstones := make(map[int][]kafka.Record)
		for key, ca := range merged {
			t.add(tombstones, key, ca, nil) // where the worker has put the fact
		}
		if err = t.produceAll(ctx, schemas.TopicIdentities, tombstones); err != nil {
			err = fmt.Errorf("registry: publish: %w", err)
		}
	}
	if err != nil {
		t.mu.Lock()
		t.privateCAs.changed = t.privateCAs.changed || changed
		maps.Copy(t.merged, merged)
		t.mu.Unlock()
		return err
	}
	t.metrics.published.Add(float64(len(merged)))
	return nil
}

// askForKeyIDs asks AWS Private CA for the key identifiers of the CAs whose
// revocations wait for it, each at most once in Options.SourceInterval, until ctx ends.
func (t *term) askForKeyIDs(ctx context.Context) error {
	ticker := time.NewTicker(t.opts.SourceInterval)
	defer ticker.Stop()
	asked := make(map[string]time.Time)
	for {
		t.mu.Lock()
		arns := t.privateCAs.unknown()
		t.mu.Unlock()
		for arn := range asked {
			if !slices.Contains(arns, arn) {
				delete(asked, arn)
			}
		}
		for _, arn := range arns {
			if last, ok := asked[arn]; ok && time.Since(last) < t.opts.SourceInterval {
				continue
			}
			keyID, err := t.opts.PrivateCAKeyID(ctx, arn)
			if ctx.Err() != nil {
				return nil
			}
			asked[arn] = time.Now()
			if err == nil {
				t.mu.Lock()
				err = t.learnPrivateCA(arn, keyID)
				t.mu.Unlock()
			}
			if err != nil {
				t.metrics.syncFailures.WithLabelValues(syncPrivateCAs).Inc()
				t.log.Warn("the key identifier of a CA of AWS Private CA is not known: its revocations wait", zap.String("ca", arn), zap.Error(err))
				continue
			}
			if err := t.flushWhenFull(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-t.newPrivateCA:
		}
	}
}
