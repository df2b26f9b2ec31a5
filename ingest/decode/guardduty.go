package decode

import (
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// guardDuty decodes a GuardDuty finding as EventBridge and the S3 export write
// it (the API's form has other spellings). A finding is published again whenever
// it is seen again: each update is an event of its own, at the time it was last
// seen.
//
// The format: Amazon GuardDuty user guide, "GuardDuty finding format", and the
// API's type Finding.
func (d *Decoder) guardDuty(rec *record, o origin) {
	ev := d.begin(sourceGuardDuty, rec.raw)
	service := rec.get(fService)
	ev.Type = d.field(rec, fType)
	ev.Account = d.field(rec, fAccountID)
	ev.Region = d.field(rec, fRegion)

	who := identity.ParsePrincipal(&d.arena, d.lookup(rec.get(fResource), "accessKeyDetails", "principalId"))
	ev.CertificateID, ev.RoleSession = who.CertificateID, who.RoleSession
	ev.SourceIP = d.remoteIP(service)

	if id := d.field(rec, fID); id != nil {
		ev.ID = schemas.NewEventID(sourceGuardDuty, ev.Account, ev.Region, id,
			d.field(rec, fUpdatedAt), d.lookup(service, "count"))
	}
	lastSeen, _ := jsonscan.Lookup(service.Raw, "eventLastSeen")
	ms, timed := ParseTime(lastSeen)
	if !timed {
		ms, timed = ParseTime(rec.get(fUpdatedAt))
	}
	d.finish(&o, ms, timed)
}

// remoteIP returns the address that the action of a finding came from.
func (d *Decoder) remoteIP(service jsonscan.Value) []byte {
	action, ok := jsonscan.Lookup(service.Raw, "action")
	if !ok || action.Kind != jsonscan.Object {
		return nil
	}
	var s jsonscan.Scanner
	s.Reset(action.Raw)
	s.Enter()
	for _, ok := s.Member(); ok; _, ok = s.Member() {
		// One member per kind of action: awsApiCallAction, networkConnectionAction, ...
		details := s.Value()
		if details.Kind != jsonscan.Object {
			continue
		}
		if string(d.lookup(details, "connectionDirection")) == "OUTBOUND" {
			continue // the remote address is where it went to
		}
		if probes, ok := jsonscan.Lookup(details.Raw, "portProbeDetails"); ok && probes.Kind == jsonscan.Array {
			var p jsonscan.Scanner
			p.Reset(probes.Raw)
			p.Enter()
			if !p.Element() {
				continue
			}
			details = p.Value()
		}
		for _, version := range [...]string{"ipAddressV4", "ipAddressV6"} {
			if address := ip(d.lookup(details, "remoteIpDetails", version)); address != nil {
				return address
			}
		}
	}
	return nil
}
