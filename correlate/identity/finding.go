package identity

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// The types of the registry's events.
const (
	eventExpiring      = "CertificateExpiring"
	eventExpired       = "CertificateExpired"
	eventCAExpiring    = "CACertificateExpiring"
	eventCAExpired     = "CACertificateExpired"
	eventAged          = "CertificateAged"
	eventWeakKey       = "WeakKey"
	eventDuplicateKey  = "DuplicateKey"
	eventRevokedActive = "RevokedByCAStillActive"
	eventCARevoked     = "CARevokedStillActive"
	eventIntermediate  = "IntermediateCARevoked"
	eventStatusChanged = "CertificateStatusChanged"
	eventDisagreement  = "RegistryDisagreement"
	eventUnreadable    = "CertificateUnreadable"
	eventCRLStale      = "CRLStale"
	eventCRLRolledBack = "CRLRolledBack"
	eventCRLInvalid    = "CRLInvalid"
	eventSyncFailed    = "SyncFailed"
)

const (
	maxFindingNames     = 20  // names in one message
	maxFindingErrorSize = 512 // bytes
	// maxFindingAge is how much older than now an event may be: less than the
	// disorder that watermarks allow by default.
	maxFindingAge = 20 * time.Second
	registryLane  = "registry"

	// Device keys of events that are about no device.
	unknownDevice      = "unknown"
	certificateKey     = "cert:"
	certificateAuthKey = "ca:"
	accountKey         = "account:"
)

// finding is an event that the registry makes: what it is about, and the message,
// a flat JSON object.
type finding struct {
	event   schemas.Event
	message map[string]any
}

// newFinding returns a finding of the type. unique is what tells it from all
// others of the type: a repeat must have the same.
func newFinding(eventType string, message map[string]any, unique ...string) finding {
	parts := make([][]byte, 0, len(unique)+2)
	parts = append(parts, []byte(schemas.SourceRegistry), []byte(eventType))
	for _, u := range unique {
		parts = append(parts, []byte(u))
	}
	return finding{
		event: schemas.Event{
			ID: schemas.NewEventID(parts...), Source: []byte(schemas.SourceRegistry), Type: []byte(eventType),
		},
		message: message,
	}
}

// about fills the envelope from the certificate. The device is the one that the
// ingester would take: the client, else the thing. With several there is none
// that the event belongs to more than to the others.
func (f finding) about(c *schemas.Certificate, now time.Time) finding {
	f.event.CertificateID = []byte(c.ID)
	f.event.CertificateStatus = c.StatusAt(now)
	if !c.NotAfter.IsZero() {
		f.event.HasExpiry, f.event.DaysToExpiry = true, daysUntil(now, c.NotAfter)
	}
	if len(c.ClientIDs) == 1 {
		f.event.ClientID = []byte(c.ClientIDs[0])
	}
	if len(c.Things) == 1 {
		f.event.ThingName = []byte(c.Things[0])
	}
	switch {
	case len(f.event.ClientID) > 0:
		f.event.Device = f.event.ClientID
	case len(f.event.ThingName) > 0:
		f.event.Device = f.event.ThingName
	default:
		f.event.Device = []byte(certificateKey + c.ID)
	}
	f.message["certificate_id"] = c.ID
	put := func(key, value string) {
		if value != "" {
			f.message[key] = value
		}
	}
	put("serial", c.Serial)
	put("issuer", c.Issuer)
	put("subject", c.Subject)
	if len(c.Things) > 0 {
		f.message["things"] = c.Things
	}
	if len(c.ClientIDs) > 0 {
		f.message["client_ids"] = c.ClientIDs
	}
	return f
}

// aboutCA fills the envelope from the CA.
func (f finding) aboutCA(ca *schemas.CertificateAuthority) finding {
	f.event.Device = []byte(certificateAuthKey + ca.KeyID)
	f.message["key_id"] = ca.KeyID
	f.message["subject"] = ca.Subject
	f.message["serial"] = ca.Serial
	if ca.ID != "" {
		f.message["ca_certificate_id"] = ca.ID
	}
	return f
}

// daysUntil returns the whole days from now until t, negative once t has passed.
func daysUntil(now, t time.Time) int32 {
	d := t.Sub(now)
	days := d / (24 * time.Hour)
	if d < 0 && d%(24*time.Hour) != 0 {
		days--
	}
	return int32(days)
}

// encode completes the event as of now. at is the moment of the fact, in Unix
// milliseconds in the message; the event's own time is not much before now, for
// the reasons in the package comment.
func (f *finding) encode(now, at time.Time, account, region string) *schemas.Event {
	ev := &f.event
	ev.IngestTime = now.UnixMilli()
	ev.Time = max(min(at.UnixMilli(), ev.IngestTime), ev.IngestTime-maxFindingAge.Milliseconds())
	ev.Account, ev.Region = []byte(account), []byte(region)
	if len(ev.Device) == 0 {
		ev.Device = []byte(unknownDevice)
		if account != "" {
			ev.Device = []byte(accountKey + account)
		}
	}
	f.message["eventType"] = string(ev.Type)
	f.message["time"] = at.UTC().Format(time.RFC3339)
	// Strings, numbers and lists of strings always have a JSON form.
	ev.Message, _ = json.Marshal(f.message)
	return ev
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func number(n int) string { return strconv.Itoa(n) }
