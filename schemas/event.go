// Package schemas defines what the stages of Tocsin exchange: the event
// envelope and its wire form, the Kafka topics, the OCSF Detection Finding and
// the ClickHouse tables. It imports no other package of the project.
package schemas

import (
	"crypto/sha256"
	"encoding/hex"
)

// EventID identifies one log record. Every delivery of the same record, by
// whatever route, has the same ID: duplicates are found by it.
type EventID [16]byte

// NewEventID hashes the parts that identify a record at its origin (account,
// log group and CloudWatch event ID, say). It is a truncated SHA-256: an ID
// that an attacker could choose would let him have an event dropped as a
// duplicate of another.
func NewEventID(parts ...[]byte) EventID {
	var buf [512]byte
	b := buf[:0]
	for _, p := range parts {
		// A length prefix keeps ("ab","c") and ("a","bc") apart.
		b = append(b, byte(len(p)>>24), byte(len(p)>>16), byte(len(p)>>8), byte(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return EventID(sum[:16])
}

// String returns the ID as 32 lower-case hex digits.
func (id EventID) String() string { return hex.EncodeToString(id[:]) }

// Sources of events; the `service` of a Sigma log source with product aws.
const (
	SourceIoT            = "iot"            // AWS IoT Core logs (AWSIotLogsV2)
	SourceLifecycle      = "lifecycle"      // $aws/events/presence, subscriptions, certificates, ...
	SourceCloudTrail     = "cloudtrail"     // CloudTrail records
	SourceGuardDuty      = "guardduty"      // GuardDuty findings
	SourceDeviceDefender = "devicedefender" // Device Defender violations and audit findings
	SourceRegistry       = "registry"       // what the certificate registry finds: expiry, weak keys, stale CRLs, ...
	SourceBehavior       = "behavior"       // what a device did in an interval, and devices and sources that fell silent
	SourceGeneric        = "generic"        // anything else; only the message is known
)

// Outcome is whether what the event reports succeeded.
type Outcome uint8

// The outcomes, numbered as in event.proto.
const (
	OutcomeUnknown Outcome = iota
	OutcomeSuccess
	OutcomeFailure
)

var outcomeNames = [...]string{"", "success", "failure"}

// String returns "success", "failure", or "" when unknown.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return ""
}

// CertificateStatus is what the registry knew of the event's certificate when
// the event was ingested.
type CertificateStatus uint8

// The certificate states, numbered as in event.proto. The names are AWS IoT's,
// with EXPIRED, UNKNOWN and REVOKED_BY_CA added.
const (
	CertUnspecified CertificateStatus = iota
	CertActive
	CertInactive
	CertRevoked
	CertExpired
	CertPendingTransfer
	CertRegisterInactive
	CertPendingActivation
	CertUnknown
	CertRevokedByCA
)

var certificateStatusNames = [...]string{
	"", "ACTIVE", "INACTIVE", "REVOKED", "EXPIRED",
	"PENDING_TRANSFER", "REGISTER_INACTIVE", "PENDING_ACTIVATION", "UNKNOWN", "REVOKED_BY_CA",
}

// String returns AWS IoT's name of the state, "" when there is none.
func (s CertificateStatus) String() string {
	if int(s) < len(certificateStatusNames) {
		return certificateStatusNames[s]
	}
	return ""
}

// Event is the envelope around one log record of any source. Whatever is
// derived from a record is derived once, at ingest, and recorded here, so that
// everything downstream is a pure function of the log.
//
// The byte slices alias the buffer that the event was decoded from. Whoever
// keeps an event beyond that buffer's life must copy it (Clone).
type Event struct {
	ID            EventID
	Time          int64 // event time, Unix milliseconds
	IngestTime    int64 // Unix milliseconds
	Source        []byte
	Type          []byte
	Account       []byte
	Region        []byte
	Device        []byte // device key
	ClientID      []byte
	ThingName     []byte
	CertificateID []byte
	SourceIP      []byte
	RoleSession   []byte
	Message       []byte // the original record

	Outcome           Outcome
	CertificateStatus CertificateStatus
	HasExpiry         bool  // DaysToExpiry is known
	DaysToExpiry      int32 // of the certificate; negative once expired
	Lane              uint32
}

// Clone returns a copy that shares no memory with e.
func (e *Event) Clone() *Event {
	c := *e
	fields := [...]*[]byte{
		&c.Source, &c.Type, &c.Account, &c.Region, &c.Device, &c.ClientID,
		&c.ThingName, &c.CertificateID, &c.SourceIP, &c.RoleSession, &c.Message,
	}
	n := 0
	for _, f := range fields {
		n += len(*f)
	}
	buf := make([]byte, 0, n)
	for _, f := range fields {
		if *f == nil {
			continue
		}
		at := len(buf)
		buf = append(buf, *f...)
		*f = buf[at:len(buf):len(buf)]
	}
	return &c
}
