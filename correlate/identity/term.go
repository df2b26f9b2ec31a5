package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/correlate/identity/inventory"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// Names of the Sync records of the registry itself.
const (
	syncFacts     = "facts"
	syncClock     = "clock"
	syncInventory = "inventory"
)

// checkpointInterval is how much of the facts is merged again after a crash.
const checkpointInterval = 5 * time.Second

// term is the time for which an instance is the active one.
type term struct {
	*Service
	// facts is the offset up to which catchUp has come in each partition, from where
	// the last checkpoint was; followed when it is done. With mu.
	facts []int64
	// privateCAs is with mu; newPrivateCA says that it has one of which the key
	// identifier is not known.
	privateCAs   *privateCAs
	newPrivateCA chan struct{}
	// merged are the keys of the facts of AWS Private CA that are merged, with the ARNs
	// of their CAs, until they are deleted. With mu.
	merged map[string]string
	saving sync.Mutex // of privateCAs
	// dirty says that the clock has something new to look at. With mu.
	dirty bool
}

// factsState is the state of syncFacts.
type factsState struct {
	Offsets []int64 `json:"offsets"` // by partition of tocsin.identities
}

func (s *factsState) sum() (n int64) {
	for _, o := range s.Offsets {
		n += o
	}
	return n
}

// lead is the work of the owner of partition 0.
func (s *Service) lead(ctx context.Context, a *kafka.Assignment) error {
	t, err := s.takeOver(ctx)
	if err != nil {
		return err
	}
	s.metrics.active.Set(1)
	defer s.metrics.active.Set(0)
	err = t.run(ctx)
	// The last of it, in the time that the group grants.
	drain, cancel := a.Drain(ctx)
	defer cancel()
	if ctx.Err() != nil {
		if cerr := t.checkpoint(drain); cerr != nil {
			s.log.Warn("the registry could not publish its last changes; the next active instance finds them again", zap.Error(cerr))
		}
		err = nil
	}
	s.mu.Lock()
	s.term = nil
	s.mu.Unlock()
	s.log.Info("standing by")
	return err
}

// run does everything that the active instance does, until ctx ends or part of it
// fails.
func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	part := func(f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	part(t.publishAndCheckpoint)
	if err := t.catchUp(ctx); err != nil {
		cancel(err)
	} else if err := t.loadCAs(ctx); err != nil {
		cancel(err)
	} else {
		part(t.clock)
		part(t.readSources)
		if t.opts.PrivateCAKeyID != nil {
			part(t.askForKeyIDs)
		}
		if e := t.opts.Enforcer; e != nil {
			part(func(ctx context.Context) error { return e.Run(ctx, t) })
		}
		if v := t.opts.Inventory; v != nil {
			var state inventory.State
			if err := t.syncState(syncInventory, &state); err != nil {
				t.log.Warn("the inventory begins anew", zap.Error(err))
			}
			part(func(ctx context.Context) error { return v.Run(ctx, inventoryTarget{t}, state) })
		}
	}
	<-ctx.Done()
	parts.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// publishAndCheckpoint keeps what is in memory and what is in Kafka close
// together.
func (t *term) publishAndCheckpoint(ctx context.Context) error {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		t.mu.Lock()
		var lag int64
		for p := range t.next {
			lag += max(0, t.ends[p]-t.next[p])
			if t.facts[p] != followed {
				lag += max(0, t.next[p]-t.facts[p])
			}
		}
		t.metrics.lag.Set(float64(lag))
		t.mu.Unlock()
		if time.Since(last) < checkpointInterval {
			if err := t.flush(ctx); err != nil {
				return err
			}
			continue
		}
		if err := t.checkpoint(ctx); err != nil {
			return err
		}
		last = time.Now()
	}
}

// checkpoint publishes what is pending and stores how far the facts have been
// read. The offsets are those from before the flush.
func (t *term) checkpoint(ctx context.Context) error {
	t.mu.Lock()
	state := factsState{Offsets: make([]int64, len(t.next))}
	for p := range t.next {
		state.Offsets[p] = t.facts[p]
		if t.facts[p] == followed {
			state.Offsets[p] = t.next[p]
		}
	}
	last, ok := t.syncs[syncFacts]
	t.mu.Unlock()
	if err := t.savePrivateCAs(ctx); err != nil {
		return err
	}
	var before factsState
	if ok {
		// What cannot be read is replaced.
		_ = json.Unmarshal(last.State, &before)
	}
	if moved := state.sum() - before.sum(); ok && (moved == 0 || moved == 1) {
		return t.flush(ctx) // nothing came but the checkpoint before
	}
	return t.saveSync(ctx, syncFacts, state, false)
}

// flushWhenFull publishes when much is pending: whoever changes more waits.
func (t *term) flushWhenFull(ctx context.Context) error {
	t.mu.Lock()
	full, merged := t.pending.len() >= maxPending, len(t.merged) >= maxPending
	t.mu.Unlock()
	switch {
	case merged:
		return t.savePrivateCAs(ctx)
	case full:
		return t.flush(ctx)
	}
	return nil
}

// takeFact merges a record that is a fact. mu is held.
func (t *term) takeFact(kind, name string, value []byte) error {
	var named string
	var merge func(c *schemas.Certificate) bool
	seen, ask := time.Time{}, false
	switch kind {
	case schemas.KeyIssued, schemas.KeyRevoked:
		return t.takeIssued(kind, name, value)
	case schemas.KeyObserved:
		var o schemas.Observation
		if len(value) == 0 {
			return nil
		}
		if err := json.Unmarshal(value, &o); err != nil {
			return err
		}
		named, seen = o.CertificateID, o.LastSeen
		merge = func(c *schemas.Certificate) bool { return mergeObservation(c, &o) }
	case schemas.KeyBinding:
		var b struct {
			CertificateID string    `json:"certificate_id"`
			Time          time.Time `json:"time"`
		}
		if len(value) == 0 {
			return nil
		}
		if err := json.Unmarshal(value, &b); err != nil {
			return err
		}
		named, seen = b.CertificateID, b.Time
		merge = func(c *schemas.Certificate) bool { return mergeObservation(c, &schemas.Observation{LastSeen: b.Time}) }
	case schemas.KeyChange:
		var s schemas.StatusChange
		if len(value) == 0 {
			return nil
		}
		if err := json.Unmarshal(value, &s); err != nil {
			return err
		}
		named, ask = s.CertificateID, !s.Deleted
		merge = func(c *schemas.Certificate) bool { return mergeStatusChange(c, &s) }
	case schemas.KeyImport:
		var o schemas.Certificate
		if len(value) == 0 {
			return nil
		}
		if err := json.Unmarshal(value, &o); err != nil {
			return err
		}
		named = o.ID
		merge = func(c *schemas.Certificate) bool { return mergeRecord(c, &o) }
	default:
		return nil
	}
	id, ok := schemas.NormalizeCertificateID(named)
	if !ok {
		return fmt.Errorf("%.80q is no certificate ID", named)
	}
	known, ok := t.certs.Get(id)
	if !t.update(id, merge) && !ask {
		return nil
	}
	switch {
	case t.opts.Inventory != nil:
		if ask || !ok || known.Status == schemas.CertUnspecified {
			t.opts.Inventory.Want(id)
		}
	case !ok && !seen.IsZero() && t.complete():
		// Nobody is there to be asked.
		t.update(id, func(c *schemas.Certificate) bool { return setStatus(c, schemas.CertUnknown, seen, reasonNotLoaded) })
	}
	return nil
}

// update merges something into a certificate's record. It reports whether that
// changed it. mu is held.
func (t *term) update(id string, merge func(c *schemas.Certificate) bool) bool {
	old, known := t.certs.Get(id)
	c := clone(&old)
	c.ID = id
	if !merge(&c) {
		return false
	}
	if !known && t.certs.Len() >= t.opts.MaxCertificates {
		t.metrics.refused.WithLabelValues("certificate").Inc()
		return false
	}
	if described(&c) {
		if c.IssuerKeyID == "" {
			c.IssuerKeyID = t.keyOf(c.Issuer)
		}
		if r := t.revoked.get(c.IssuerKeyID, c.Serial); r != nil {
			mergeRevocation(&c, r)
		}
	}
	now := time.Now().UTC()
	c.Updated = now
	if err := t.certs.Put(&c); err != nil {
		t.metrics.refused.WithLabelValues("certificate").Inc()
		t.log.Warn("the registry has no room for a certificate", zap.String("certificate_id", id), zap.Error(err))
		return false
	}
	t.pending.certs[id] = struct{}{}
	t.tell(now, now, t.detect.changes(&old, &c, now)...)
	t.dirty = true
	return true
}

// tell makes findings pending. at is the moment of the fact. mu is held.
func (t *term) tell(now, at time.Time, findings ...finding) {
	for i := range findings {
		t.pending.findings = append(t.pending.findings, findings[i].encode(now, at, t.account, t.opts.Region))
	}
}

// keyOf returns the key identifier of the one CA with this name: for certificates
// that name only that. mu is held.
func (t *term) keyOf(issuer string) string {
	found := ""
	for keyID, ca := range t.cas {
		if ca.Subject == issuer {
			if found != "" {
				return "" // a CA that changed its key
			}
			found = keyID
		}
	}
	return found
}

// loadCAs takes over the CAs of the configuration.
func (t *term) loadCAs(ctx context.Context) error {
	for _, doc := range t.opts.CAs {
		parsed, err := certificate.ParsePEM(doc)
		if err != nil {
			return fmt.Errorf("registry: CA of the configuration: %w", err)
		}
		t.mu.Lock()
		t.putCA(authorityOf(parsed, doc))
		t.mu.Unlock()
	}
	return t.flushWhenFull(ctx)
}

func authorityOf(p *certificate.Certificate, doc string) *schemas.CertificateAuthority {
	return &schemas.CertificateAuthority{
		KeyID: p.SubjectKeyID, Subject: p.Subject, Serial: p.Serial, NotBefore: p.NotBefore, NotAfter: p.NotAfter, Key: p.Key, PEM: doc,
	}
}

// putCA merges a CA's record: what AWS IoT said stays when the other side does not
// know it, and so does a revocation. mu is held.
func (t *term) putCA(ca *schemas.CertificateAuthority) {
	merged := *ca
	old := schemas.CertificateAuthority{}
	if a, ok := t.cas[ca.KeyID]; ok {
		old = a.CertificateAuthority
		if merged.ID == "" {
			merged.ID, merged.Status = old.ID, old.Status
		}
		if old.NotAfter.After(merged.NotAfter) {
			// Two certificates of one key: the one that lives longer counts.
			merged.Serial, merged.NotBefore, merged.NotAfter, merged.PEM = old.Serial, old.NotBefore, old.NotAfter, old.PEM
		}
		if old.Revoked != nil && (merged.Revoked == nil || old.Revoked.Time.Before(merged.Revoked.Time)) {
			merged.Revoked = old.Revoked
		}
	}
	if !t.keepCA(&merged) {
		return
	}
	now := time.Now().UTC()
	a := t.cas[ca.KeyID]
	if a.Revoked == nil && a.issuerKeyID != "" {
		a.Revoked = t.revoked.get(a.issuerKeyID, a.Serial)
	}
	if old.PEM == a.PEM && old.Status == a.Status && old.ID == a.ID && (old.Revoked == nil) == (a.Revoked == nil) {
		return
	}
	t.pending.cas[ca.KeyID] = struct{}{}
	t.dirty = true
	if old.PEM != a.PEM {
		t.tell(now, now, t.detect.passedCA(&a.CertificateAuthority, time.Time{}, now)...)
	}
	t.tellCARevoked(now, &old, &a.CertificateAuthority)
}

// tellCARevoked tells that a CA is revoked by the one above it while AWS IoT still
// takes it, or while certificates that it issued are let in. mu is held.
func (t *term) tellCARevoked(now time.Time, old, ca *schemas.CertificateAuthority) {
	if ca.Revoked == nil {
		return
	}
	what := func() map[string]any {
		return map[string]any{"revoked_at": rfc3339(ca.Revoked.Time), "reason": ca.Revoked.Reason, "source": ca.Revoked.Source}
	}
	const active = "ACTIVE"
	if ca.Status == active && (old.Revoked == nil || old.Status != active) {
		f := newFinding(eventCARevoked, what(), ca.KeyID, ca.Serial, millis(ca.Revoked.Time))
		t.tell(now, now, f.aboutCA(ca))
	}
	if old.Revoked != nil {
		return
	}
	issued := 0
	t.certs.Range(func(c *schemas.Certificate) bool {
		if c.IssuerKeyID == ca.KeyID && c.StatusAt(now) == schemas.CertActive {
			issued++
		}
		return true
	})
	if issued > 0 {
		m := what()
		m["active_certificates"] = issued
		f := newFinding(eventIntermediate, m, ca.KeyID, ca.Serial, millis(ca.Revoked.Time))
		t.tell(now, now, f.aboutCA(ca))
	}
}

// revoke merges a revocation by a CA. It reports whether that is new for a
// certificate here. mu is held.
func (t *term) revoke(issuerKeyID, serial string, r *schemas.Revocation) (news bool) {
	unknown, full := t.revoked.add(issuerKeyID, serial, r)
	if full {
		t.metrics.refused.WithLabelValues("revocation").Inc()
	}
	if !unknown {
		return false
	}
	if id, ok := t.certs.BySerial(issuerKeyID, serial); ok {
		news = t.update(id, func(c *schemas.Certificate) bool { return mergeRevocation(c, r) })
	}
	for _, ca := range t.cas {
		if ca.Serial == serial && ca.issuerKeyID == issuerKeyID {
			revoked := ca.CertificateAuthority
			revoked.Revoked = r
			t.putCA(&revoked)
			break // keyed by serial and issuer, there is no other
		}
	}
	return news
}
