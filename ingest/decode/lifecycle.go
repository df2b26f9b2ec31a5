package decode

import (
	"bytes"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// certificateRegistered is the event type of just-in-time registration, whose
// message has none; it is the last level of its topic.
var certificateRegistered = []byte("registered")

// isLifecycle tells the messages that IoT Core publishes on $aws/events/#.
func isLifecycle(rec *record) bool {
	if rec.has(fCACertificateID) && rec.has(fCertificateID) && rec.has(fCertificateStatus) {
		return true
	}
	eventType := rec.get(fEventType)
	if eventType.Kind != jsonscan.String {
		return false
	}
	switch string(eventType.Raw) {
	case "connected", "disconnected", "connect_failed", "subscribed", "unsubscribed":
		return rec.has(fClientID)
	case "JOB", "JOB_EXECUTION":
		return rec.has(fJobID)
	}
	return bytes.HasSuffix(eventType.Raw, []byte("_EVENT")) && (rec.has(fOperation) || rec.has(fEventIDLower))
}

// lifecycle decodes a presence, subscription, registration, registry or job
// event.
//
// The formats: AWS IoT Core developer guide, "Lifecycle events", "Event
// messages"; "Registry events"; "Jobs events"; "Register a client certificate
// when the client connects (JITR)".
func (d *Decoder) lifecycle(rec *record, o origin) {
	ev := d.begin(sourceLifecycle, rec.raw)
	ev.Type = d.field(rec, fEventType)
	ev.Account = d.field(rec, fAccountID)
	ev.ClientID = d.field(rec, fClientID)
	ev.ThingName = d.field(rec, fThingName)
	if ev.ThingName == nil {
		ev.ThingName = identity.ThingOfARN(d.field(rec, fThingARN))
	}
	ev.SourceIP = ip(d.field(rec, fIPAddress))
	timestamp := rec.get(fTimestamp)

	switch {
	case rec.has(fCACertificateID) && rec.has(fCertificateID):
		ev.CertificateID = identity.CertificateID(&d.arena, d.field(rec, fCertificateID))
		if ev.Type == nil {
			ev.Type = certificateRegistered
		}
		if ev.Account == nil {
			ev.Account = d.field(rec, fAWSAccountID)
		}
		ev.ID = schemas.NewEventID(sourceLifecycle, ev.Type, d.field(rec, fCertificateID), timestamp.Raw)
	case ev.ClientID != nil:
		who := identity.ParsePrincipal(&d.arena, d.field(rec, fPrincipalIdentifier))
		ev.CertificateID, ev.RoleSession = who.CertificateID, who.RoleSession
		ev.Outcome = schemas.OutcomeSuccess
		if string(ev.Type) == "connect_failed" {
			ev.Outcome = schemas.OutcomeFailure
		}
		// The version number is the same for the connect and the disconnect of a
		// connection, and starts again after an hour offline.
		ev.ID = schemas.NewEventID(sourceLifecycle, ev.Type, ev.ClientID, d.field(rec, fSessionIdentifier),
			rec.get(fVersionNumber).Raw, timestamp.Raw, rec.get(fTopics).Raw)
	case rec.has(fEventIDLower):
		ev.ID = schemas.NewEventID(sourceLifecycle, ev.Type, d.field(rec, fOperation), d.field(rec, fEventIDLower))
	}
	ms, timed := ParseTime(timestamp)
	d.finish(&o, ms, timed)

	if string(ev.Type) == "connected" && ev.ClientID != nil {
		d.learn(true)
	}
}
