package decode

import (
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// violation decodes what Device Defender Detect publishes to SNS when a thing
// leaves its behaviour or returns to it. The event type is the violationEventType
// (in-alarm, alarm-cleared, alarm-invalidated).
//
// The format: AWS IoT Device Defender developer guide, "Detect", and the API's
// type ViolationEvent.
func (d *Decoder) violation(rec *record, o origin) {
	ev := d.begin(sourceDeviceDefender, rec.raw)
	ev.Type = d.field(rec, fViolationEventType)
	ev.ThingName = d.field(rec, fThingName)
	if id := d.field(rec, fViolationID); id != nil {
		ev.ID = schemas.NewEventID(sourceDeviceDefender, id, ev.Type, rec.get(fViolationEventTime).Raw)
	}
	ms, timed := ParseTime(rec.get(fViolationEventTime))
	d.finish(&o, ms, timed)
}

// auditFinding decodes a Device Defender audit finding. The event type is the
// name of the check.
//
// The format: the API's type AuditFinding, whose times are seconds with a
// fraction.
func (d *Decoder) auditFinding(rec *record, o origin) {
	ev := d.begin(sourceDeviceDefender, rec.raw)
	ev.Type = d.field(rec, fCheckName)
	if resource := rec.get(fNonCompliantResource); resource.Kind == jsonscan.Object {
		ev.ClientID = d.lookup(resource, "resourceIdentifier", "clientId")
		ev.Account = d.lookup(resource, "resourceIdentifier", "account")
		ev.CertificateID = identity.CertificateID(&d.arena, d.lookup(resource, "resourceIdentifier", "deviceCertificateId"))
		if ev.CertificateID == nil {
			ev.CertificateID = identity.CertificateOfARN(&d.arena, d.lookup(resource, "resourceIdentifier", "deviceCertificateArn"))
		}
	}
	if id := d.field(rec, fFindingID); id != nil {
		ev.ID = schemas.NewEventID(sourceDeviceDefender, id)
	}
	ms, timed := ParseTime(rec.get(fFindingTime))
	d.finish(&o, ms, timed)
}
