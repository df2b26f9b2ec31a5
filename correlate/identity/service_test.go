package identity

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestFactsBecomeRecords(t *testing.T) {
	r := newRig(t)
	now := time.Now().UTC().Truncate(time.Second)
	id := someID("pump")
	r.observe(schemas.Observation{CertificateID: id, ClientIDs: []string{"pump-1"}, SourceIP: "192.0.2.1", LastSeen: now.Add(-time.Hour)})
	r.start(Options{Account: "111122223333", Region: "eu-west-1"})
	r.change(schemas.StatusChange{CertificateID: id, Status: schemas.CertActive, Time: now.Add(-30 * time.Minute), Source: "cloudtrail", EventType: "UpdateCertificate", Actor: "alice"})
	eventually(t, "the first state", func() string { return cmp.Diff(schemas.CertActive, r.certificates()[id].Status) })
	r.change(schemas.StatusChange{CertificateID: strings.ToUpper(id), Status: schemas.CertInactive, Time: now.Add(-20 * time.Minute), Source: "cloudtrail", EventType: "UpdateCertificate", Actor: "bob"})
	r.put(schemas.KeyObserved+"nonsense/0", "nonsense")
	r.observe(schemas.Observation{CertificateID: "not an ID", LastSeen: now})
	want := schemas.Certificate{
		ID: id, Status: schemas.CertInactive, StatusSince: now.Add(-20 * time.Minute), StatusReason: "cloudtrail UpdateCertificate by bob",
		ClientIDs: []string{"pump-1"}, SourceIP: "192.0.2.1", LastSeen: now.Add(-time.Hour),
	}
	eventually(t, "the record", func() string {
		got := r.certificates()[id]
		got.Updated = time.Time{}
		return cmp.Diff(want, got)
	})
	var changed []event
	eventually(t, "the event", func() string {
		changed = r.events(eventStatusChanged)
		return cmp.Diff(1, len(changed))
	})
	ev := changed[0]
	if ev.message["from"] != "ACTIVE" || ev.message["to"] != "INACTIVE" || string(ev.Device) != "pump-1" || string(ev.CertificateID) != id ||
		string(ev.Account) != "111122223333" || ev.CertificateStatus != schemas.CertInactive {
		t.Errorf("%+v %v", ev.Event, ev.message)
	}
	if age := ev.IngestTime - ev.Time; age < 0 || age > 25_000 {
		t.Errorf("the event is %d ms old: it would be late", age)
	}
	eventually(t, "the checkpoint", func() string {
		if len(r.records(schemas.KeySync+syncFacts)) == 0 {
			return "none"
		}
		return ""
	})
}

// TestTakeOver has three instances that are dropped one after the other while facts
// come in. No fact may be lost, and what the last one holds must be what is in
// Kafka.
func TestTakeOver(t *testing.T) {
	r := newRig(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	ids := make([]string, 600)
	for i := range ids {
		ids[i] = someID(fmt.Sprint("device ", i))
	}
	instances := []*instance{r.start(Options{}), r.start(Options{}), r.start(Options{})}
	active := func() *instance {
		var found *instance
		eventually(t, "an active instance", func() string {
			for _, in := range instances {
				if in != nil && in.Active() {
					found = in
					return ""
				}
			}
			return "none"
		})
		return found
	}
	for i, id := range ids {
		r.change(schemas.StatusChange{CertificateID: id, Status: schemas.CertActive, Time: now, Source: "cloudtrail", EventType: "RegisterCertificate"})
		if i%2 == 0 {
			r.change(schemas.StatusChange{CertificateID: id, Status: schemas.CertRevoked, Time: now.Add(time.Second), Source: "cloudtrail", EventType: "UpdateCertificate"})
		}
		if i == 200 || i == 400 {
			in := active()
			in.kill()
			for k := range instances {
				if instances[k] == in {
					instances[k] = nil
				}
			}
		}
	}
	eventually(t, "all records", func() string {
		got := r.certificates()
		for i, id := range ids {
			want := schemas.CertActive
			if i%2 == 0 {
				want = schemas.CertRevoked
			}
			if got[id].Status != want {
				return fmt.Sprintf("certificate %d is %q, want %s", i, got[id].Status, want)
			}
		}
		return ""
	})
	// Compaction is not what is tested: both changes of a certificate are there.
	eventually(t, "all events", func() string { return cmp.Diff(300, len(r.events(eventStatusChanged))) })
	last := active()
	eventually(t, "the last instance's memory", func() string {
		last.mu.Lock()
		defer last.mu.Unlock()
		return cmp.Diff(len(ids), last.certs.Len())
	})
}

// kill makes an instance end as the process does when it is killed: nothing of what
// it holds reaches Kafka any more.
func (in *instance) kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = in.opts.Producer.Close(ctx)
	in.stop()
}

func TestExpiry(t *testing.T) {
	r := newRig(t)
	ca := testkit.NewCA(t, "Fleet CA")
	issue := func(name string, left time.Duration) *x509.Certificate {
		return ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().Add(left)}, nil)
	}
	const day = 24 * time.Hour
	for name, left := range map[string]time.Duration{"fresh": 200 * day, "ninety": 80 * day, "week": 5 * day, "over": -day, "soon": 8 * time.Second} {
		c := issue(name, left)
		r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	}
	r.start(Options{CheckInterval: time.Second, AgeDays: 365, CAs: []string{testkit.PEM(ca.Cert)}})
	expiring := func() map[string]any {
		out := make(map[string]any)
		for _, ev := range r.events(eventExpiring) {
			out[ev.message["subject"].(string)] = ev.message["threshold_days"]
		}
		return out
	}
	eventually(t, "what expires", func() string {
		return cmp.Diff(map[string]any{"CN=ninety": 90.0, "CN=week": 7.0, "CN=soon": 1.0}, expiring())
	})
	eventually(t, "what has expired, by itself in the end", func() string {
		var got []string
		for _, ev := range r.events(eventExpired) {
			got = append(got, ev.message["subject"].(string))
		}
		if len(got) != 2 {
			return fmt.Sprint(got)
		}
		return ""
	})
	if got := len(r.events(eventAged)); got != 5 {
		t.Errorf("%d certificates are told to be old, want 5", got)
	}
}

// TestCatchUpAfterDowntime has a threshold pass while nobody runs.
func TestCatchUpAfterDowntime(t *testing.T) {
	r := newRig(t)
	ca := testkit.NewCA(t, "Fleet CA")
	const day = 24 * time.Hour
	c := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump"}, NotAfter: time.Now().Add(30*day + 9*time.Second)}, nil)
	r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	first := r.start(Options{CheckInterval: time.Second})
	eventually(t, "the first threshold and the clock's record", func() string {
		if len(r.records(schemas.KeySync+syncClock)) == 0 {
			return "no clock"
		}
		return cmp.Diff(1, len(r.events(eventExpiring)))
	})
	first.stop()
	time.Sleep(time.Until(c.NotAfter.Add(-30 * day)))
	r.start(Options{CheckInterval: time.Second})
	eventually(t, "the second threshold", func() string { return cmp.Diff(2, len(r.events(eventExpiring))) })
}

// importOf returns what an import says of a certificate.
func importOf(t *testing.T, c *x509.Certificate) *schemas.Certificate {
	t.Helper()
	parsed, err := certificate.Parse(c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	rec := &schemas.Certificate{ID: parsed.ID, Status: schemas.CertActive, StatusSince: time.Now().UTC()}
	mergeParsed(rec, parsed)
	return rec
}

func TestDuplicateAndWeakKeys(t *testing.T) {
	r := newRig(t)
	ca := testkit.NewCA(t, "Fleet CA")
	a := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "a"}}, nil)
	b := ca.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "b"}}, a.PublicKey)
	weak := weakCertificate(t, ca)
	for _, c := range []*x509.Certificate{a, b, weak} {
		r.put(schemas.KeyImport+testkit.CertificateID(c), importOf(t, c))
	}
	r.start(Options{CheckInterval: time.Second})
	eventually(t, "the duplicate", func() string { return cmp.Diff(1, len(r.events(eventDuplicateKey))) })
	if m := r.events(eventDuplicateKey)[0].message; m["count"] != 2.0 || len(m["certificate_ids"].([]any)) != 2 {
		t.Errorf("%v", m)
	}
	eventually(t, "the weak key", func() string { return cmp.Diff(1, len(r.events(eventWeakKey))) })
	if m := r.events(eventWeakKey)[0].message; m["weakness"] != "curve" || m["certificate_id"] != testkit.CertificateID(weak) {
		t.Errorf("%v", m)
	}
}
