package rules

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/schemas"
)

// envelopePrefix begins the names of the fields that are the envelope's, not the
// message's. A message cannot set them: a key of that name in it is not seen.
const envelopePrefix = "tocsin."

type envelopeField uint8

const (
	envDevice envelopeField = iota
	envClientID
	envThingName
	envCertificateID
	envSourceIP
	envAccount
	envRegion
	envSource
	envEventType
	envOutcome
	envCertificateStatus
	envDaysToExpiry
	envRoleSession
)

// DeviceField is the field by which events are partitioned.
const DeviceField = "tocsin.device"

var envelopeFields = []string{
	envDevice:            DeviceField,
	envClientID:          "tocsin.client_id",
	envThingName:         "tocsin.thing_name",
	envCertificateID:     "tocsin.certificate_id",
	envSourceIP:          "tocsin.source_ip",
	envAccount:           "tocsin.account",
	envRegion:            "tocsin.region",
	envSource:            "tocsin.source",
	envEventType:         "tocsin.event_type",
	envOutcome:           "tocsin.outcome",
	envCertificateStatus: "tocsin.certificate_status",
	envDaysToExpiry:      "tocsin.certificate_days_to_expiry",
	envRoleSession:       "tocsin.role_session",
}

func envelopeNames() []string { return envelopeFields }

func isEnvelopeField(name string) bool {
	return strings.HasPrefix(name, envelopePrefix) && slices.Contains(envelopeFields, name)
}

// value returns the field's text, empty where it is absent, and whether it is a
// number. What ev does not hold as text is appended to buf.
func (f envelopeField) value(ev *schemas.Event, buf []byte) (text, grown []byte, number bool) {
	switch f {
	case envDevice:
		return ev.Device, buf, false
	case envClientID:
		return ev.ClientID, buf, false
	case envThingName:
		return ev.ThingName, buf, false
	case envCertificateID:
		return ev.CertificateID, buf, false
	case envSourceIP:
		return ev.SourceIP, buf, false
	case envAccount:
		return ev.Account, buf, false
	case envRegion:
		return ev.Region, buf, false
	case envSource:
		return ev.Source, buf, false
	case envEventType:
		return ev.Type, buf, false
	case envRoleSession:
		return ev.RoleSession, buf, false
	}
	at := len(buf)
	switch f {
	case envOutcome:
		buf = append(buf, ev.Outcome.String()...)
	case envCertificateStatus:
		buf = append(buf, ev.CertificateStatus.String()...)
	case envDaysToExpiry:
		if ev.HasExpiry {
			buf = strconv.AppendInt(buf, int64(ev.DaysToExpiry), 10)
		}
		return buf[at:len(buf):len(buf)], buf, true
	}
	return buf[at:len(buf):len(buf)], buf, false
}
