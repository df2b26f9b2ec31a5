package registry

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

func TestStampsAreWhatTheRecordSays(t *testing.T) {
	table := New(Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	now := epoch
	var all []schemas.Certificate
	for status := schemas.CertUnspecified; status <= schemas.CertRevokedByCA; status++ {
		for _, after := range []time.Time{
			{},
			now, now.Add(-time.Millisecond), now.Add(time.Millisecond), now.Add(-time.Hour), now.Add(36 * time.Hour), now.AddDate(0, 0, 90),
			now.AddDate(-3, 0, 0), time.Unix(0, 0).UTC(), time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2106, 2, 8, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		} {
			for _, revoked := range []*schemas.Revocation{nil, {Time: now}} {
				c := typical(rng, len(all))
				c.Status, c.NotAfter, c.Revoked = status, after, revoked
				if err := table.Put(&c); err != nil {
					t.Fatal(err)
				}
				all = append(all, c)
			}
		}
	}
	for _, c := range all {
		ev := schemas.Event{CertificateID: []byte(c.ID), Time: now.UnixMilli(), IngestTime: now.UnixMilli()}
		table.Stamp(&ev)
		if want := c.StatusAt(now); ev.CertificateStatus != want || ev.HasExpiry == c.NotAfter.IsZero() {
			t.Errorf("%v until %v, revoked %v: stamped %v, want %v; expiry known: %v", c.Status, c.NotAfter, c.Revoked, ev.CertificateStatus, want, ev.HasExpiry)
		}
		if want := c.NotAfter.Sub(now).Hours() / 24; ev.HasExpiry && c.NotAfter.Year() < 2200 && (float64(ev.DaysToExpiry) > want || float64(ev.DaysToExpiry) <= want-1) {
			t.Errorf("%v: %d days, want %.3f rounded down", c.NotAfter, ev.DaysToExpiry, want)
		}
	}
}

func TestUnknownOnlyWhenComplete(t *testing.T) {
	table := New(Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	known := typical(rng, 1)
	if err := table.Put(&known); err != nil {
		t.Fatal(err)
	}
	stamp := func(id string) schemas.CertificateStatus {
		ev := schemas.Event{CertificateID: []byte(id), Time: epoch.UnixMilli(), IngestTime: epoch.UnixMilli()}
		table.Stamp(&ev)
		return ev.CertificateStatus
	}
	stranger := randomHex(rng, 32)
	if got := stamp(stranger); got != schemas.CertUnspecified {
		t.Errorf("before: %v", got)
	}
	table.SetComplete(epoch.Add(time.Second))
	if got := stamp(stranger); got != schemas.CertUnspecified {
		t.Errorf("an event before the completion: %v", got)
	}
	table.SetComplete(epoch)
	if got := stamp(stranger); got != schemas.CertUnknown {
		t.Errorf("after: %v", got)
	}
	table.Delete(known.ID)
	if got := stamp(known.ID); got != schemas.CertUnknown {
		t.Errorf("deleted: %v", got)
	}
	for _, none := range []string{"", "abc"} {
		if got := stamp(none); got != schemas.CertUnspecified {
			t.Errorf("%q: %v", none, got)
		}
	}
}

func TestStampAllocatesNothing(t *testing.T) {
	table := New(Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	plain, revoked := typical(rng, 1), typical(rng, 2)
	revoked.Status = schemas.CertRevoked
	for _, c := range []schemas.Certificate{plain, revoked} {
		if err := table.Put(&c); err != nil {
			t.Fatal(err)
		}
	}
	for name, id := range map[string]string{"plain": plain.ID, "revoked": revoked.ID, "unknown": randomHex(rng, 32)} {
		ev := schemas.Event{CertificateID: []byte(id), Time: epoch.UnixMilli()}
		if n := testing.AllocsPerRun(100, func() { table.Stamp(&ev) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
