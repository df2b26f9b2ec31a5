package identity

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/revocation"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// listed is a source that tells the same revocations, once.
type listed struct {
	entries []revocation.Revocation
	problem *crl.Problem
	told    atomic.Int64
}

func (l *listed) Name() string { return "listed" }

func (l *listed) Sync(ctx context.Context, state json.RawMessage, t revocation.Target) error {
	var read int
	if state != nil {
		if err := json.Unmarshal(state, &read); err != nil {
			return err
		}
	}
	for i := range l.entries[read:] {
		l.told.Add(1)
		if err := t.Revoke(ctx, &l.entries[read+i]); err != nil {
			return err
		}
	}
	if l.problem != nil {
		t.Problem(l.problem)
	}
	return t.Save(ctx, len(l.entries))
}

func TestRevocations(t *testing.T) {
	r := newRig(t)
	root := testkit.NewCA(t, "Root")
	sub := root.NewIntermediate(t, "Sub")
	issue := func(name string) *x509.Certificate {
		return sub.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}}, nil)
	}
	known, later, fine := issue("known"), issue("later"), issue("fine")
	revoke := func(issuer *testkit.CA, c *x509.Certificate) revocation.Revocation {
		return revocation.Revocation{
			IssuerKeyID: crl.KeyID(issuer.Cert), Serial: schemas.SerialHex(c.SerialNumber.Bytes()),
			Revocation: schemas.Revocation{Time: epoch, Reason: "keyCompromise", Source: "http://crl.example.com/sub.crl"},
		}
	}
	for _, c := range []*x509.Certificate{known, fine} {
		r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	}
	source := &listed{
		entries: []revocation.Revocation{revoke(sub, known), revoke(sub, later), revoke(root, sub.Cert)},
		problem: &crl.Problem{Reason: crl.ReasonStale, Source: "http://crl.example.com/sub.crl", NextUpdate: epoch, Error: "stale"},
	}
	opts := Options{Sources: []revocation.Source{source}, SourceInterval: time.Second, CAs: []string{testkit.PEM(root.Cert), testkit.PEM(sub.Cert)}}
	first := r.start(opts)
	eventually(t, "the certificate that was known", func() string {
		c := r.certificates()[testkit.CertificateID(known)]
		if c.Revoked == nil {
			return fmt.Sprintf("%+v", c)
		}
		return cmp.Diff(schemas.CertRevokedByCA, c.StatusAt(time.Now()))
	})
	eventually(t, "its event", func() string { return cmp.Diff(1, len(r.events(eventRevokedActive))) })
	eventually(t, "the CA's event", func() string { return cmp.Diff(1, len(r.events(eventIntermediate))) })
	if m := r.events(eventIntermediate)[0].message; m["active_certificates"] != 1.0 || m["reason"] != "keyCompromise" {
		t.Errorf("%v: one of the two certificates is revoked itself", m)
	}
	eventually(t, "the stale list", func() string { return cmp.Diff(1, len(r.events(eventCRLStale))) })
	eventually(t, "the state of the source", func() string {
		if len(r.records(schemas.KeySync+source.Name())) == 0 {
			return "none"
		}
		return ""
	})
	first.stop()
	// The certificate that appears when another instance is active, which has not
	// been told of the revocation.
	told := source.told.Load()
	r.start(opts)
	r.put(schemas.KeyImport+testkit.CertificateID(later), importOf(t, later))
	eventually(t, "the certificate that came later", func() string {
		if c := r.certificates()[testkit.CertificateID(later)]; c.Revoked == nil || c.Revoked.Source != "http://crl.example.com/sub.crl" {
			return fmt.Sprintf("%+v", c)
		}
		return ""
	})
	if source.told.Load() != told {
		t.Error("the list was read again: the test shows nothing")
	}
	if c := r.certificates()[testkit.CertificateID(fine)]; c.Revoked != nil {
		t.Errorf("%+v", c)
	}
}

// TestForeignRecord has an instance that is not active any more write a record of
// the past.
func TestForeignRecord(t *testing.T) {
	r := newRig(t)
	id := someID("pump")
	now := time.Now().UTC().Truncate(time.Millisecond)
	r.start(Options{})
	r.change(schemas.StatusChange{CertificateID: id, Status: schemas.CertRevoked, Time: now, Source: "cloudtrail", EventType: "UpdateCertificate"})
	eventually(t, "the record", func() string { return cmp.Diff(schemas.CertRevoked, r.certificates()[id].Status) })
	r.put(schemas.KeyCertificate+id, schemas.Certificate{ID: id, Status: schemas.CertActive, StatusSince: now.Add(-time.Hour), Serial: "7", NotAfter: now.AddDate(1, 0, 0)})
	eventually(t, "the merged record", func() string {
		c := r.certificates()[id]
		return cmp.Diff(schemas.CertRevoked, c.Status) + cmp.Diff("7", c.Serial)
	})
}
