package decode

import (
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestEventsAreStampedAtTheirOwnTime(t *testing.T) {
	const line = `{"timestamp":"2026-11-20 12:00:00.000","logLevel":"INFO","traceId":"t","accountId":"111122223333","status":"Success","eventType":"Connect","protocol":"MQTT","clientId":"pump-1","principalId":"` + certA + `","sourceIp":"198.51.100.7"}`
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	received := Hints{Received: at.AddDate(0, 0, 3)}
	decode := func(opts Options) *schemas.Event {
		t.Helper()
		got := run(New(opts), []byte(line), received)
		if len(got.Events) != 1 {
			t.Fatalf("%d events", len(got.Events))
		}
		return got.Events[0]
	}
	if ev := decode(Options{}); ev.CertificateStatus != schemas.CertUnspecified || ev.HasExpiry {
		t.Errorf("without a registry: %v, %v", ev.CertificateStatus, ev.HasExpiry)
	}
	table := registry.New(registry.Options{})
	if ev := decode(Options{Certificates: table}); ev.CertificateStatus != schemas.CertUnspecified || ev.HasExpiry {
		t.Errorf("by an empty registry: %v, %v", ev.CertificateStatus, ev.HasExpiry)
	}
	// It expired after the event and before the event arrived.
	if err := table.Put(&schemas.Certificate{ID: certA, Status: schemas.CertActive, NotAfter: at.Add(30 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if ev := decode(Options{Certificates: table}); ev.CertificateStatus != schemas.CertActive || !ev.HasExpiry || ev.DaysToExpiry != 1 {
		t.Errorf("%v, %d days", ev.CertificateStatus, ev.DaysToExpiry)
	}
	table.Delete(certA)
	table.SetComplete(at)
	if ev := decode(Options{Certificates: table}); ev.CertificateStatus != schemas.CertUnknown || ev.HasExpiry {
		t.Errorf("of an unknown certificate: %v", ev.CertificateStatus)
	}
}
