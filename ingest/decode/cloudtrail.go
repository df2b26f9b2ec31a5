package decode

import (
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/schemas"
)

// cloudTrail decodes a CloudTrail record. Its event type is the eventName, as
// rules know it. The certificate is the caller's, if that is a role session named
// after one, else the one that the call is about.
//
// The format: AWS CloudTrail user guide, "CloudTrail record contents".
func (d *Decoder) cloudTrail(rec *record, o origin) {
	ev := d.begin(sourceCloudTrail, rec.raw)
	user := rec.get(fUserIdentity)
	request := rec.get(fRequestParameters)
	ev.Type = d.field(rec, fEventName)
	ev.Region = d.field(rec, fAWSRegion)
	ev.SourceIP = ip(d.field(rec, fSourceIPAddress))
	ev.Account = d.field(rec, fRecipientAccountID)
	if ev.Account == nil {
		ev.Account = d.lookup(user, "accountId")
	}
	ev.Outcome = schemas.OutcomeSuccess
	if rec.has(fErrorCode) {
		ev.Outcome = schemas.OutcomeFailure
	}

	who := identity.ParseSessionARN(&d.arena, d.lookup(user, "arn"))
	if who.RoleSession == nil {
		who = identity.ParsePrincipal(&d.arena, d.lookup(user, "principalId"))
	}
	ev.CertificateID, ev.RoleSession = who.CertificateID, who.RoleSession
	if ev.CertificateID == nil {
		ev.CertificateID = identity.CertificateID(&d.arena, d.lookup(request, "certificateId"))
	}
	for _, name := range [...]string{"principal", "target", "certificateArn"} {
		// AttachThingPrincipal, AttachPrincipalPolicy; AttachPolicy; some others.
		if ev.CertificateID != nil {
			break
		}
		ev.CertificateID = identity.CertificateOfARN(&d.arena, d.lookup(request, name))
	}
	if ev.CertificateID == nil {
		// CreateKeysAndCertificate, RegisterCertificate, ...
		ev.CertificateID = identity.CertificateID(&d.arena, d.lookup(rec.get(fResponseElements), "certificateId"))
	}
	ev.ThingName = d.lookup(request, "thingName")

	if id := d.field(rec, fEventID); id != nil {
		ev.ID = schemas.NewEventID(sourceCloudTrail, id)
	}
	ms, timed := ParseTime(rec.get(fEventTime))
	d.finish(&o, ms, timed)
}
