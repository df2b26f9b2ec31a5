package behavior

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// change writes what an event says of a certificate's state: CloudTrail's calls of AWS
// IoT and AWS Private CA, just-in-time registration, findings of a Device Defender
// audit.
func (w *worker) change(ctx context.Context, ev *schemas.Event) {
	if w.issued(ctx, ev) {
		return
	}
	c, ok := w.statusChange(ev)
	if !ok {
		return
	}
	c.Time, c.Source, c.EventType, c.EventID = timeOf(ev.Time), string(ev.Source), string(ev.Type), ev.ID.String()
	value, err := json.Marshal(c)
	if err != nil {
		return // strings and times of a known year always have a JSON form
	}
	w.out.identity(ctx, c.CertificateID, schemas.KeyChange+c.CertificateID+"/"+strconv.Itoa(w.number), value)
	w.s.metrics.records.WithLabelValues("change").Inc()
}

func (w *worker) statusChange(ev *schemas.Event) (c schemas.StatusChange, ok bool) {
	switch string(ev.Source) {
	case schemas.SourceLifecycle:
		c.CertificateID = string(ev.CertificateID)
		c.CAID = lookup(ev, "caCertificateId")
		c.Status = statusNamed(lookup(ev, "certificateStatus"))
	case schemas.SourceDeviceDefender:
		if string(ev.Type) == schemas.TypeDeviceMetrics || lookup(ev, "nonCompliantResource", "resourceType") != "DEVICE_CERTIFICATE" {
			return c, false
		}
		// What was found says that something is wrong with the certificate, not what
		// state it is in.
		c.CertificateID = string(ev.CertificateID)
	case schemas.SourceCloudTrail:
		if ev.Outcome == schemas.OutcomeFailure || !w.cloudTrail(ev, &c) {
			return c, false
		}
		c.Actor = lookup(ev, "userIdentity", "arn")
	}
	_, valid := certificateHash([]byte(c.CertificateID))
	return c, valid
}

// cloudTrail reads the calls that change a certificate. The certificate is that of
// the request or the answer: the event's own may be the caller's.
//
// Reference: AWS IoT API, and "Logging AWS IoT API calls using AWS CloudTrail".
func (w *worker) cloudTrail(ev *schemas.Event, c *schemas.StatusChange) bool {
	switch string(ev.Type) {
	case "UpdateCertificate":
		c.Status = statusNamed(lookup(ev, "requestParameters", "newStatus"))
	case "DeleteCertificate":
		c.Deleted = true
	case "RegisterCertificate", "RegisterCertificateWithoutCA":
		c.Status = statusNamed(lookup(ev, "requestParameters", "status"))
	case "CreateKeysAndCertificate", "CreateCertificateFromCsr":
		if lookup(ev, "requestParameters", "setAsActive") == "true" {
			c.Status = schemas.CertActive
		} else {
			c.Status = schemas.CertInactive
		}
	case "TransferCertificate":
		c.Status = schemas.CertPendingTransfer
	case "AcceptCertificateTransfer", "RejectCertificateTransfer", "CancelCertificateTransfer":
	default:
		return false
	}
	c.CertificateID = lookup(ev, "requestParameters", "certificateId")
	if c.CertificateID == "" {
		c.CertificateID = lookup(ev, "responseElements", "certificateId")
	}
	return true
}

// lookup returns the text of a member of the message, "" when there is none.
func lookup(ev *schemas.Event, path ...string) string {
	v, ok := jsonscan.Lookup(ev.Message, path...)
	if !ok || v.Kind == jsonscan.Object || v.Kind == jsonscan.Array || v.Kind == jsonscan.Null {
		return ""
	}
	if v.Escaped {
		return string(jsonscan.Unescape(nil, v.Raw))
	}
	return string(v.Raw)
}

// statusNamed returns the status of this name, unspecified for any other.
func statusNamed(name string) schemas.CertificateStatus {
	var s schemas.CertificateStatus
	if s.UnmarshalText([]byte(name)) != nil {
		return schemas.CertUnspecified
	}
	return s
}
