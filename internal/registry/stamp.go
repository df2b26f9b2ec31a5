package registry

import (
	"math"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

const secondsPerDay = 24 * 60 * 60

// Stamp records in an event what is known of its certificate at the event's time:
// its state, and the days until it expires. A certificate that is not in the table
// is UNKNOWN once the table is complete, and left without a state before. An event
// without a certificate is left alone. It allocates nothing.
//
// The expiry is that of every certificate for which it is known, not only of those
// that expire soon: it is beside the fingerprint that has to be looked up anyway to
// tell known certificates from others.
func (t *Table) Stamp(ev *schemas.Event) {
	if len(ev.CertificateID) != 2*idLen {
		return
	}
	a := t.ids.Load().find(t.prints.of((*[2 * idLen]byte)(ev.CertificateID)))
	state := a.state()
	if a == 0 || state == stateLook {
		t.stampSlowly(ev)
		return
	}
	if state == stateActive {
		ev.CertificateStatus = schemas.CertActive
	}
	if after := a.after(); after != 0 {
		// A millisecond into the second of the expiry is after it.
		left := after*1000 - ev.Time
		if left < 0 {
			ev.CertificateStatus = schemas.CertExpired
		}
		ev.HasExpiry, ev.DaysToExpiry = true, daysOf(left)
	}
}

// daysOf returns the whole days in some milliseconds, rounded down: a certificate
// that expired an hour ago has -1 left.
func daysOf(millis int64) int32 {
	const perDay = secondsPerDay * 1000
	days := millis / perDay
	if millis < days*perDay {
		days--
	}
	return int32(min(max(days, math.MinInt32), math.MaxInt32))
}

// stampSlowly looks at the record itself.
func (t *Table) stampSlowly(ev *schemas.Event) {
	t.mu.RLock()
	a, _ := t.locate(ev.CertificateID)
	if a == 0 {
		t.mu.RUnlock()
		if ev.IngestTime >= t.completeFrom.Load() {
			ev.CertificateStatus = schemas.CertUnknown
			t.strangers.note(ev.CertificateID)
		}
		return
	}
	r := validityOf(t.slab.get(a.ref()))
	t.mu.RUnlock()
	ev.CertificateStatus = r.statusAt(ev.Time)
	if !r.notAfter.IsZero() {
		ev.HasExpiry, ev.DaysToExpiry = true, daysOf(r.notAfter.UnixMilli()-ev.Time)
	}
}

// validity is what a stamp needs of a record.
type validity struct {
	dates
	status     schemas.CertificateStatus
	hasRevoked bool
}

// statusAt is schemas.Certificate.StatusAt.
func (v *validity) statusAt(millis int64) schemas.CertificateStatus {
	c := schemas.Certificate{Status: v.status, StatusSince: v.since, NotAfter: v.notAfter}
	revocation := schemas.Revocation{Time: v.revoked}
	if v.hasRevoked {
		c.Revoked = &revocation
	}
	return c.StatusAt(time.UnixMilli(millis))
}
