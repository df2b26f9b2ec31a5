package decode

import (
	"bytes"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// iot decodes an entry of the AWS IoT Core V2 log. Any field may be missing; an
// event type that is not known is passed on as it is.
//
// The format: AWS IoT Core developer guide, "CloudWatch AWS IoT Core log
// entries".
func (d *Decoder) iot(rec *record, o origin) {
	ev := d.begin(sourceIoT, rec.raw)
	ev.Type = d.field(rec, fEventType)
	ev.Account = d.field(rec, fAccountID)
	ev.ClientID = d.field(rec, fClientID)
	ev.ThingName = d.field(rec, fThingName)
	ev.SourceIP = ip(d.field(rec, fSourceIP))
	ev.Outcome = statusOutcome(rec.get(fStatus))

	who := identity.ParsePrincipal(&d.arena, d.field(rec, fPrincipalID))
	ev.CertificateID, ev.RoleSession = who.CertificateID, who.RoleSession
	if ev.CertificateID == nil {
		// Provisioning entries have no principal.
		ev.CertificateID = identity.CertificateID(&d.arena, d.field(rec, fDeviceCertificateID))
	}
	if ev.ThingName == nil && rec.has(fTopicName) && (ev.ClientID == nil || isAboutThing(ev.Type)) {
		// Shadow entries name their thing only here. For a publish it would be the
		// thing that the client writes to, which need not be its own.
		ev.ThingName = identity.ThingOfTopic(d.field(rec, fTopicName))
	}
	ms, timed := ParseTime(rec.get(fTimestamp))
	d.finish(&o, ms, timed)

	if ev.ClientID != nil && ev.CertificateID != nil && ev.Outcome == schemas.OutcomeSuccess {
		switch string(ev.Type) {
		case "Connect":
			d.learn(true)
		case "Publish-In", "Subscribe", "Unsubscribe", "Ping", "Disconnect":
			d.learn(false)
		}
		// In DeleteConnection, GetConnection, ListSubscriptions and SendDirectMessage
		// the client is the one acted upon and the certificate the caller's; the rule
		// events do not say whose certificate it is. Failures prove nothing.
	}
}

func statusOutcome(status jsonscan.Value) schemas.Outcome {
	if status.Kind == jsonscan.String {
		switch string(status.Raw) {
		case "Success":
			return schemas.OutcomeSuccess
		case "Failure":
			return schemas.OutcomeFailure
		}
	}
	return schemas.OutcomeUnknown
}

// isAboutThing tells the event types whose topic is about the thing that the
// event is about.
func isAboutThing(eventType []byte) bool {
	return bytes.HasSuffix(eventType, []byte("ThingShadow")) || bytes.HasSuffix(eventType, []byte("JobExecution"))
}
