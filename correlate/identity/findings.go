package identity

import (
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// detector finds what a change of a record, or the time that has passed, makes
// worth telling.
type detector struct {
	expiryDays []int // descending
	ageDays    int   // 0: not
}

// live reports whether the broker lets the certificate in, or may again: whether
// it matters when it expires.
func live(c *schemas.Certificate) bool {
	switch c.Status {
	case schemas.CertRevoked, schemas.CertUnknown, schemas.CertInactive:
		return false
	}
	return c.Revoked == nil
}

// changes returns what follows from old having become c.
func (d *detector) changes(old, c *schemas.Certificate, now time.Time) []finding {
	var out []finding
	if old.Status != c.Status && old.Status != schemas.CertUnspecified {
		// What it was since, not what it is since: after a crash the latter may be
		// another time for the same change.
		f := newFinding(eventStatusChanged, map[string]any{"from": old.Status.String(), "to": c.Status.String(), "reason": c.StatusReason},
			c.ID, old.Status.String(), millis(old.StatusSince), c.Status.String())
		out = append(out, f.about(c, now))
	}
	if revokedActive(c) && !revokedActive(old) {
		f := newFinding(eventRevokedActive, map[string]any{
			"revoked_at": rfc3339(c.Revoked.Time), "reason": c.Revoked.Reason, "source": c.Revoked.Source,
		}, c.ID, millis(c.StatusSince))
		out = append(out, f.about(c, now))
	}
	if !described(c) {
		return out
	}
	if c.Key.Weak != "" && c.Key != old.Key {
		f := newFinding(eventWeakKey, map[string]any{"key_type": c.Key.Type, "key_bits": c.Key.Bits, "weakness": c.Key.Weak}, c.ID, c.Key.Weak)
		out = append(out, f.about(c, now))
	}
	if live(c) && (!described(old) || !live(old)) {
		out = append(out, d.passed(c, time.Time{}, now)...)
	}
	return out
}

func revokedActive(c *schemas.Certificate) bool {
	return c.Revoked != nil && c.Status == schemas.CertActive
}

// passed returns the findings of the thresholds of c that lie in (from, to].
func (d *detector) passed(c *schemas.Certificate, from, to time.Time) []finding {
	if !live(c) || !described(c) {
		return nil
	}
	var out []finding
	if days, ok := d.expiry(c.NotAfter, from, to); ok {
		eventType := eventExpiring
		if days == 0 {
			eventType = eventExpired
		}
		f := newFinding(eventType, expiryMessage(c.NotAfter, to, days), c.ID, millis(c.NotAfter), number(days))
		out = append(out, f.about(c, to))
	}
	born := c.Created
	if born.IsZero() {
		born = c.NotBefore
	}
	if at := born.AddDate(0, 0, d.ageDays); d.ageDays > 0 && at.After(from) && !at.After(to) {
		f := newFinding(eventAged, map[string]any{"age_days": int(to.Sub(born).Hours() / 24), "threshold_days": d.ageDays}, c.ID, number(d.ageDays))
		out = append(out, f.about(c, to))
	}
	return out
}

// passedCA does the same for a CA.
func (d *detector) passedCA(ca *schemas.CertificateAuthority, from, to time.Time) []finding {
	days, ok := d.expiry(ca.NotAfter, from, to)
	if !ok || ca.Revoked != nil {
		return nil
	}
	eventType := eventCAExpiring
	if days == 0 {
		eventType = eventCAExpired
	}
	f := newFinding(eventType, expiryMessage(ca.NotAfter, to, days), ca.KeyID, ca.Serial, number(days))
	return []finding{f.aboutCA(ca)}
}

func expiryMessage(notAfter, now time.Time, days int) map[string]any {
	m := map[string]any{"not_after": rfc3339(notAfter), "days_to_expiry": daysUntil(now, notAfter)}
	if days > 0 {
		m["threshold_days"] = days
	}
	return m
}

// expiry returns the number of days of the threshold nearest to expiry that was
// passed in (from, to]; 0 is expiry itself.
func (d *detector) expiry(notAfter, from, to time.Time) (days int, ok bool) {
	in := func(t time.Time) bool { return t.After(from) && !t.After(to) }
	if in(notAfter) {
		return 0, true
	}
	for i := len(d.expiryDays) - 1; i >= 0; i-- {
		if in(notAfter.AddDate(0, 0, -d.expiryDays[i])) && to.Before(notAfter) {
			return d.expiryDays[i], true
		}
	}
	return 0, false
}
