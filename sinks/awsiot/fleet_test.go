package awsiot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

func identityRecord(t testing.TB, key string, value any) *kafka.FetchedRecord {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return &kafka.FetchedRecord{Key: []byte(key), Value: b}
}

func TestFleetSize(t *testing.T) {
	f := newFleet(0)
	put := func(n int, status schemas.CertificateStatus) {
		f.take(identityRecord(t, schemas.KeyCertificate+cert(n), schemas.Certificate{ID: cert(n), Status: status}))
	}
	want := func(n int) {
		t.Helper()
		if got := f.size(); got != n {
			t.Errorf("%d devices, want %d", got, n)
		}
	}
	want(0)
	put(1, schemas.CertActive)
	put(2, schemas.CertActive)
	put(3, schemas.CertPendingActivation)
	put(2, schemas.CertActive)
	want(2)
	put(1, schemas.CertRevoked)
	want(1)
	f.take(&kafka.FetchedRecord{Key: []byte(schemas.KeyCertificate + cert(2))}) // it was deleted
	want(0)
	f.take(&kafka.FetchedRecord{Key: []byte(schemas.KeyCertificate + cert(4)), Value: []byte(`{"status":"ACTIVE"`)})
	f.take(&kafka.FetchedRecord{Key: []byte("binding/" + cert(4)), Value: []byte(`{"status":"ACTIVE"}`)})
	want(0)

	f = newFleet(1000)
	put(1, schemas.CertActive)
	want(1000)
}

func TestSightings(t *testing.T) {
	f := newFleet(0)
	a := &schemas.Action{ID: "r1", Thing: "t", ClientID: "c", CertificateID: cert(1)}
	now := time.Now()
	seen := func(n int, names ...string) []string {
		rotations, _ := f.take(identityRecord(t, schemas.KeyObserved+cert(n)+"/0", schemas.Observation{CertificateID: cert(n), ClientIDs: names, LastSeen: now}))
		return rotations
	}
	if got := seen(2, "c"); got != nil {
		t.Errorf("nobody waits: %v", got)
	}
	f.watch(a)
	f.watch(a)
	for _, test := range []struct {
		certificate int
		names, want []string
	}{
		{2, []string{"x", "c"}, []string{"r1"}},
		{2, []string{"t", "c"}, []string{"r1"}},
		{1, []string{"c"}, nil}, // the old one
		{2, []string{"x"}, nil},
	} {
		if diff := cmp.Diff(test.want, seen(test.certificate, test.names...)); diff != "" {
			t.Errorf("%v: %s", test, diff)
		}
	}
	f.unwatch("r1")
	if got := seen(2, "c"); got != nil || len(f.waits) != 0 {
		t.Errorf("nobody waits any more: %v", got)
	}
}
