package crl

import (
	"crypto/x509"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// TestMosquittoRefusesWhatWasRevoked goes the whole way with a real broker: the CA
// publishes a list, it is read and verified, the file of the broker is written and
// the broker is told.
func TestMosquittoRefusesWhatWasRevoked(t *testing.T) {
	broker := testkit.NewMosquitto(t)
	revoked, other := broker.Device(t, "pump-1"), broker.Device(t, "pump-2")
	dir := t.TempDir()
	publish := func(number int64, serials ...*big.Int) {
		now := time.Now()
		l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}
		for _, s := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: now, ReasonCode: 1})
		}
		put(t, filepath.Join(dir, "fleet.crl"), signList(t, broker.CA, l))
	}
	exporter := &Exporter{Path: broker.CRLFile, PIDFile: broker.PIDFile, Metrics: NewMetrics(nil)}
	syncer := &Syncer{
		Place: &documents.Files{Path: dir, Suffixes: Suffixes, Limit: 1 << 20}, Issuers: issuers{broker.CA.Cert},
		Now: time.Now, Metrics: NewMetrics(nil), Held: exporter.Held,
	}
	states := map[Key]State{}
	export := func() {
		t.Helper()
		var known []State
		for _, s := range states {
			known = append(known, s)
		}
		for u := range syncer.Sync(t.Context(), known) {
			if u.Problem != nil {
				t.Fatalf("%+v", u.Problem)
			}
			if u.List != nil {
				if err := exporter.Add(&u.State, u.List); err != nil {
					t.Fatal(err)
				}
			}
			states[u.State.Key] = u.State
		}
		known = known[:0]
		for _, s := range states {
			known = append(known, s)
		}
		if changed, err := exporter.Write(known); err != nil || !changed {
			t.Fatalf("changed: %v, %v", changed, err)
		}
	}
	connects := func(d *testkit.MQTTDevice) {
		t.Helper()
		if err := d.Publish(t.Context()); err != nil {
			t.Errorf("a valid device is refused: %v", err)
		}
	}

	publish(1)
	export()
	broker.Start(t)
	connects(revoked)
	connects(other)

	publish(2, revoked.Cert.SerialNumber)
	connects(revoked) // nobody has been told yet
	export()
	// The broker acts on the signal when it comes round to it.
	var err error
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err = revoked.Publish(t.Context()); err != nil || time.Now().After(deadline) {
			break
		}
	}
	if err == nil || strings.Contains(err.Error(), "deadline") {
		t.Fatalf("a revoked device connects: %v", err)
	}
	connects(other)
}
