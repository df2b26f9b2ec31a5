package identity

import (
	"cmp"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/schemas"
)

// The functions of this file merge one fact into a record and report whether
// anything changed. The package comment has the rules.

const (
	// seenInterval is how much newer a last-seen time must be to be written when
	// nothing else changed: devices are seen all the time.
	seenInterval = 15 * time.Minute

	reasonInventory = "inventory"
	reasonImport    = "import"
	reasonNotFound  = "not in AWS IoT"
	reasonDeleted   = "deleted"
	reasonNotLoaded = "not in the registry"
)

// setStatus merges what a fact of time at says of the state at the broker. Of all
// facts the newest wins, so StatusSince follows those that say the same again:
// a fact that is older, and late, must not undo what a newer one confirmed.
func setStatus(c *schemas.Certificate, status schemas.CertificateStatus, at time.Time, reason string) bool {
	at = millisecond(at)
	switch {
	case status == schemas.CertUnspecified:
		return false
	case c.Status == status && c.StatusReason == reasonInventory && c.StatusSince.Sub(at) < sameChange:
		// AWS has shown it already; now it is known who did it.
		c.StatusReason = reason
		if at.After(c.StatusSince) {
			c.StatusSince = at
		}
		return true
	case c.Status != schemas.CertUnspecified && !at.After(c.StatusSince):
		return false
	}
	c.Status, c.StatusSince, c.StatusReason = status, at, reason
	return true
}

// sameChange is how far an event's time and AWS's lastModifiedDate of the same
// change may lie apart.
const sameChange = time.Minute

// setInventoryStatus merges what AWS said when it was asked: the state, which the
// certificate has had since modified (zero if AWS did not tell). disagrees says
// that an event had told otherwise and AWS knows of no change since.
func setInventoryStatus(c *schemas.Certificate, status schemas.CertificateStatus, asked, modified time.Time) (changed, disagrees bool) {
	asked, modified = millisecond(asked), millisecond(modified)
	since := asked
	if !modified.IsZero() && modified.Before(asked) {
		since = modified
	}
	switch {
	case status == schemas.CertUnspecified:
		return false, false
	case c.Status == status:
		if c.StatusReason == reasonInventory && !modified.IsZero() && !since.Equal(c.StatusSince) || since.After(c.StatusSince) && since.Equal(modified) {
			c.StatusSince = since
			return true, false
		}
		return false, false
	case c.Status == schemas.CertUnspecified || since.After(c.StatusSince):
	case c.StatusReason == reasonInventory:
		since = asked
	case asked.Sub(c.StatusSince) < settleTime:
		return false, false // AWS is eventually consistent: the event may be ahead
	default:
		since, disagrees = asked, true
	}
	c.Status, c.StatusSince, c.StatusReason = status, since, reasonInventory
	return true, disagrees
}

// settleTime is how long AWS's answers may be behind its events.
const settleTime = 5 * time.Minute

func mergeStatusChange(c *schemas.Certificate, s *schemas.StatusChange) bool {
	status, reason := s.Status, changeReason(s)
	if s.Deleted {
		status = schemas.CertUnknown
		reason = reasonDeleted + ": " + reason
	}
	changed := setStatus(c, status, s.Time, reason)
	if c.CAID == "" && s.CAID != "" {
		c.CAID = s.CAID
		changed = true
	}
	return changed
}

// changeReason says which event reported a change and who caused it.
func changeReason(s *schemas.StatusChange) string {
	reason := s.Source + " " + s.EventType
	if s.Actor != "" {
		reason += " by " + s.Actor
	}
	return clip(reason, 256)
}

func mergeObservation(c *schemas.Certificate, o *schemas.Observation) bool {
	changed := addNames(&c.ClientIDs, o.ClientIDs)
	changed = addNames(&c.Things, o.Things) || changed
	newer := o.LastSeen.Sub(c.LastSeen)
	if newer > 0 && (changed || newer >= seenInterval || c.LastSeen.IsZero()) {
		c.LastSeen = millisecond(o.LastSeen)
		if o.SourceIP != "" {
			c.SourceIP = o.SourceIP
		}
		changed = true
	}
	return changed
}

// addNames adds the names that are not in the list yet. The newest are last;
// beyond schemas.MaxObserved the oldest fall out.
func addNames(list *[]string, names []string) bool {
	changed := false
	for _, n := range names[max(0, len(names)-schemas.MaxObserved):] {
		if n == "" || slices.Contains(*list, n) {
			continue
		}
		*list = append(*list, clip(n, 256))
		changed = true
	}
	if over := len(*list) - schemas.MaxObserved; over > 0 {
		*list = slices.Clone((*list)[over:])
	}
	return changed
}

// mergeParsed takes over what the certificate itself says, once.
func mergeParsed(c *schemas.Certificate, p *certificate.Certificate) bool {
	if described(c) {
		return false
	}
	c.Serial, c.Issuer, c.IssuerKeyID, c.Subject = p.Serial, clip(p.Issuer, 1024), p.IssuerKeyID, clip(p.Subject, 1024)
	c.NotBefore, c.NotAfter, c.Key = p.NotBefore, p.NotAfter, p.Key
	return true
}

// described reports whether the certificate itself has been read.
func described(c *schemas.Certificate) bool { return !c.NotAfter.IsZero() }

func mergeRevocation(c *schemas.Certificate, r *schemas.Revocation) bool {
	if c.Revoked != nil && !millisecond(r.Time).Before(c.Revoked.Time) {
		return false
	}
	kept := *r
	kept.Time = millisecond(kept.Time)
	c.Revoked = &kept
	return true
}

// mergeRecord merges another record of the same certificate: an import, or one
// that an instance wrote that was not active any more.
func mergeRecord(c, o *schemas.Certificate) bool {
	changed := false
	if !described(c) && described(o) {
		c.Serial, c.Issuer, c.IssuerKeyID, c.Subject = o.Serial, o.Issuer, o.IssuerKeyID, o.Subject
		c.NotBefore, c.NotAfter, c.Key = o.NotBefore, o.NotAfter, o.Key
		changed = true
	}
	since := o.StatusSince
	if since.IsZero() {
		since = o.Updated
	}
	switch o.Status {
	case schemas.CertExpired, schemas.CertRevokedByCA: // these follow from the rest
	default:
		changed = setStatus(c, o.Status, since, cmp.Or(o.StatusReason, reasonImport)) || changed
	}
	if o.Revoked != nil {
		changed = mergeRevocation(c, o.Revoked) || changed
	}
	if o.Claim && !c.Claim {
		c.Claim = true
		changed = true
	}
	fill := func(to *string, from string) {
		if *to == "" && from != "" {
			*to = from
			changed = true
		}
	}
	fill(&c.CAID, o.CAID)
	if c.Created.IsZero() && !o.Created.IsZero() {
		c.Created = o.Created
		changed = true
	}
	return mergeObservation(c, &schemas.Observation{
		ClientIDs: o.ClientIDs, Things: o.Things, SourceIP: o.SourceIP, LastSeen: o.LastSeen,
	}) || changed
}

// clip cuts s to at most n bytes, at the start of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// millisecond cuts a time to what the table keeps of it, so that comparing it with
// what was kept is comparing it with itself.
func millisecond(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// clone returns a copy of c that shares no memory that merging changes.
func clone(c *schemas.Certificate) schemas.Certificate {
	out := *c
	out.Things = slices.Clone(c.Things)
	out.ClientIDs = slices.Clone(c.ClientIDs)
	return out
}
