package schemas

import (
	"encoding/json"
	"fmt"
	"time"
)

// The prefixes of the keys in tocsin.identities. Each kind of record has one
// writer, so that a compacted key never holds half of what two of them know.
const (
	// KeyBinding + certificate ID: the device that uses a certificate, by ingest.
	KeyBinding = "binding/"
	// KeyCertificate + certificate ID: Certificate, by the registry.
	KeyCertificate = "certificate/"
	// KeyCA + key identifier in hex: CertificateAuthority, by the registry.
	KeyCA = "ca/"
	// KeyCRL + key identifier of the issuer in hex + "/" + name: what the registry
	// keeps of a revocation list.
	KeyCRL = "crl/"
	// KeySync + name of the source: how far the registry has read it.
	KeySync = "sync/"
	// KeyObserved + certificate ID + "/" + partition of tocsin.events:
	// Observation, by the worker of that partition.
	KeyObserved = "observed/"
	// KeyChange + certificate ID + "/" + partition of tocsin.events:
	// StatusChange, by the worker of that partition.
	KeyChange = "change/"
	// KeyIssued + ARN of a CA + "/" + serial + "/" + partition of tocsin.events:
	// IssuedCertificate, by the worker of that partition. KeyRevoked, likewise: that
	// the CA has revoked it. They are two, because events are repeated and
	// reordered: under one key compaction might keep the issuance and lose the
	// revocation. The registry deletes them once what they say is in its own records.
	KeyIssued  = "issued/"
	KeyRevoked = "revoked/"
	// KeyImport + certificate ID: Certificate, by tocsin identities import; the
	// registry merges it.
	KeyImport = "import/"
	// KeyDevice + device key: Device, by the worker of the device's partition.
	KeyDevice = "device/"
)

// Certificate is what the registry knows of a device certificate. A field that
// is not known is empty.
type Certificate struct {
	ID           string            `json:"certificate_id"`              // SHA-256 of the DER form, 64 lower-case hex digits
	Serial       string            `json:"serial,omitempty"`            // lower-case hex without leading zeros
	Issuer       string            `json:"issuer,omitempty"`            // RFC 2253 name
	IssuerKeyID  string            `json:"issuer_key_id,omitempty"`     // authority key identifier, lower-case hex
	CAID         string            `json:"ca_certificate_id,omitempty"` // AWS IoT's ID of the CA
	Subject      string            `json:"subject,omitempty"`           // RFC 2253 name
	NotBefore    time.Time         `json:"not_before,omitzero"`
	NotAfter     time.Time         `json:"not_after,omitzero"`
	Key          KeyInfo           `json:"key,omitzero"`
	Status       CertificateStatus `json:"status,omitzero"`         // the broker's; never EXPIRED or REVOKED_BY_CA
	StatusReason string            `json:"status_reason,omitempty"` // "inventory", "CloudTrail UpdateCertificate by ...", ...
	StatusSince  time.Time         `json:"status_since,omitzero"`
	Revoked      *Revocation       `json:"revoked,omitempty"` // by its CA; never taken back
	Claim        bool              `json:"claim,omitempty"`   // a bootstrap certificate that many devices share by design
	Things       []string          `json:"things,omitempty"`
	ClientIDs    []string          `json:"client_ids,omitempty"` // seen in the logs, newest last
	SourceIP     string            `json:"source_ip,omitempty"`  // last seen
	LastSeen     time.Time         `json:"last_seen,omitzero"`
	Created      time.Time         `json:"created,omitzero"` // registered with the broker
	Updated      time.Time         `json:"updated,omitzero"` // this record
}

// KeyInfo is a certificate's public key.
type KeyInfo struct {
	Type   string `json:"type,omitempty"`   // RSA, ECDSA, Ed25519, DSA
	Bits   int    `json:"bits,omitempty"`   // of the modulus or the curve
	SHA256 string `json:"sha256,omitempty"` // of the SubjectPublicKeyInfo, lower-case hex
	Weak   string `json:"weak,omitempty"`   // why it is weak
}

// Revocation is what a CA says of a certificate that it revoked.
type Revocation struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"` // RFC 5280 name: keyCompromise, superseded, ...
	Source string    `json:"source"`           // URL or path of the CRL or audit report, "CloudTrail " + ARN of the CA
}

// StatusAt returns the state that an event at t is stamped with: what the broker
// says comes before what the CA says, unless the broker still takes it as active.
//
// A state does not reach back to before it began: what was logged before a
// revocation and comes in after it (logs are up to a day late) is no use of a
// revoked certificate. What the state was before is not known.
func (c *Certificate) StatusAt(t time.Time) CertificateStatus {
	status := c.Status
	if status != CertActive && t.Before(c.StatusSince) {
		status = CertUnspecified
	}
	switch {
	case status != CertActive && status != CertUnspecified:
		return status
	case c.Revoked != nil && !t.Before(c.Revoked.Time):
		return CertRevokedByCA
	case !c.NotAfter.IsZero() && t.After(c.NotAfter):
		return CertExpired
	}
	return status
}

// CertificateAuthority is what the registry knows of a CA.
type CertificateAuthority struct {
	KeyID     string      `json:"key_id"` // subject key identifier, lower-case hex
	ID        string      `json:"ca_certificate_id,omitempty"`
	Subject   string      `json:"subject"`
	Serial    string      `json:"serial"`
	NotBefore time.Time   `json:"not_before"`
	NotAfter  time.Time   `json:"not_after"`
	Key       KeyInfo     `json:"key,omitzero"`
	Status    string      `json:"status,omitempty"` // AWS IoT's: ACTIVE or INACTIVE
	Revoked   *Revocation `json:"revoked,omitempty"`
	PEM       string      `json:"pem"`
}

// Observation is what the events of a partition of tocsin.events say of a
// certificate.
type Observation struct {
	CertificateID string    `json:"certificate_id"`
	ClientIDs     []string  `json:"client_ids,omitempty"` // newest last, at most MaxObserved
	Things        []string  `json:"things,omitempty"`     // likewise
	SourceIP      string    `json:"source_ip,omitempty"`
	LastSeen      time.Time `json:"last_seen"`
}

// MaxObserved bounds the names that an Observation and a Certificate keep of a
// kind.
const MaxObserved = 8

// StatusChange is a change of a certificate's state that an event reports:
// CloudTrail's UpdateCertificate, a just-in-time registration, a finding of a
// Device Defender audit.
type StatusChange struct {
	CertificateID string            `json:"certificate_id"`
	Status        CertificateStatus `json:"status,omitzero"` // UNSPECIFIED: look it up
	Deleted       bool              `json:"deleted,omitempty"`
	CAID          string            `json:"ca_certificate_id,omitempty"`
	Time          time.Time         `json:"time"`
	Source        string            `json:"source"`          // of the event
	EventType     string            `json:"event_type"`      // of the event
	Actor         string            `json:"actor,omitempty"` // who did it
	EventID       string            `json:"event_id"`
}

// IssuedCertificate is what a CloudTrail event of AWS Private CA says of a
// certificate: that the CA issued it, or that the CA revoked it. It does not have
// the certificate itself, and so no certificate ID.
type IssuedCertificate struct {
	CAARN       string    `json:"ca_arn"`
	IssuerKeyID string    `json:"issuer_key_id,omitempty"` // the CA's, lower-case hex; only of an issuance
	Serial      string    `json:"serial"`                  // as NormalizeSerial has it
	ARN         string    `json:"certificate_arn,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Issued      time.Time `json:"issued,omitzero"`
	RevokedAt   time.Time `json:"revoked_at,omitzero"`
	Reason      string    `json:"reason,omitempty"` // of the revocation, RFC 5280 name
	EventID     string    `json:"event_id"`
}

// Sync is how far the registry has read a source: the value under KeySync and
// the source's name. The registry is complete, and an ID that it does not have is
// UNKNOWN, once the Sync of any source has a FirstComplete.
type Sync struct {
	Source string `json:"source"`
	// FirstComplete is when all certificates of a source that has all of the
	// broker's had been listed for the first time.
	FirstComplete time.Time       `json:"first_complete,omitzero"`
	Updated       time.Time       `json:"updated"`
	State         json.RawMessage `json:"state,omitempty"` // the source's own
}

// Action is one step of an automated response, or why there was none: the value
// of a record in tocsin.actions. All steps of one response have the same ID, and
// what is known of it is repeated in each: the newest says it all.
type Action struct {
	ID               string    `json:"id"`    // of the response: hash of sink, detection, kind and target
	Time             time.Time `json:"time"`  // of this step
	Sink             string    `json:"sink"`  // name of the sink that acts, or "crl"
	Kind             string    `json:"kind"`  // see the constants
	State            string    `json:"state"` // see the constants
	DryRun           bool      `json:"dry_run"`
	Reason           string    `json:"reason"`         // for a person
	Code             string    `json:"code,omitempty"` // why it was refused or failed, of a fixed set
	Rule             string    `json:"rule,omitempty"`
	RuleID           string    `json:"rule_id,omitempty"`
	DetectionID      string    `json:"detection_id,omitempty"`
	Device           string    `json:"device,omitempty"`
	ClientID         string    `json:"client_id,omitempty"`
	Thing            string    `json:"thing,omitempty"`
	CertificateID    string    `json:"certificate_id,omitempty"`
	NewCertificateID string    `json:"new_certificate_id,omitempty"` // of a rotation: the one that was seen
	JobID            string    `json:"job_id,omitempty"`             // of a rotation
	Requested        time.Time `json:"requested,omitzero"`
	Deadline         time.Time `json:"deadline,omitzero"` // of the state: approval or rotation must come before
	Error            string    `json:"error,omitempty"`
	Approver         string    `json:"approver,omitempty"`
}

// The kinds of actions.
const (
	KindDisconnect = "disconnect" // the client's connection is closed
	KindDeactivate = "deactivate" // the certificate becomes INACTIVE
	KindRevoke     = "revoke"     // the certificate becomes REVOKED
	KindQuarantine = "quarantine" // the thing is added to a group whose policy denies
	KindRotate     = "rotate"     // a job has the device get a new certificate; then the old one is revoked
	// KindBreaker is the breaker of a sink itself: it opened, or a person resumed it.
	KindBreaker = "breaker"
)

// The states of an action.
const (
	ActionRequested = "requested" // a detection asks for it
	ActionPlanned   = "planned"   // dry run: what would have been done
	ActionPending   = "pending"   // waits for approval
	ActionApproved  = "approved"
	ActionRejected  = "rejected" // by a person
	ActionStarted   = "started"
	ActionWaiting   = "waiting" // a rotation whose job is made, for the new certificate
	ActionDone      = "done"
	ActionFailed    = "failed"
	ActionRefused   = "refused" // by the allow-list, a limit, the breaker, or for want of evidence
	ActionExpired   = "expired" // nobody approved it in time

	ActionOpened  = "opened"  // of a breaker
	ActionResumed = "resumed" // of a breaker, by a person
)

// Final reports whether no step follows the state.
func (a *Action) Final() bool {
	switch a.State {
	case ActionRequested, ActionPending, ActionApproved, ActionStarted, ActionWaiting:
		return false
	}
	return true
}

// MarshalText writes AWS IoT's name.
func (s CertificateStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads AWS IoT's name.
func (s *CertificateStatus) UnmarshalText(text []byte) error {
	for i, name := range certificateStatusNames {
		if name == string(text) {
			*s = CertificateStatus(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no certificate status", text)
}
