package awsiot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/schemas"
)

// maxClients is how many clients one detection may have disconnected.
const maxClients = 16

// Codes of refusals and failures. They are metric labels: the set is fixed.
const (
	codeAddressOnly     = "address_only"    // nothing but an address is known of the target
	codeNoIdentity      = "no_identity"     // not even that
	codeUnauthenticated = "unauthenticated" // the client ID was only claimed
	codeNoCertificate   = "no_certificate"  // the action needs one
	codeNoThing         = "no_thing"        // likewise
	codeOtherAccount    = "other_account"   // of another account or region
	codeStale           = "stale"           // the detection is too old
	codeAllowList       = "allow_list"
	codeMerged          = "merged" // the same is done, or was just done, for another detection
	codeBreaker         = "breaker_open"
	codeOverloaded      = "overloaded" // too many actions are under way

	codeTargetGone = "target_gone" // AWS does not know it any more
	codeNotAllowed = "not_permitted"
	codeAWSRefused = "aws_refused"
	codeGaveUp     = "gave_up" // AWS could not be reached for too long
	codeTimeout    = "rotation_timeout"
	codeDryRun     = "dry_run" // the sink was set to dry run while it was under way
)

// parse reads a detection.
func parse(value []byte) (*schemas.Finding, error) {
	var f schemas.Finding
	if err := json.Unmarshal(value, &f); err != nil {
		return nil, fmt.Errorf("not a detection finding: %w", err)
	}
	if f.FindingInfo.UID == "" || f.ClassUID != schemas.FindingClassUID {
		return nil, fmt.Errorf("not a detection finding: class_uid %d, finding_info.uid %q", f.ClassUID, f.FindingInfo.UID)
	}
	return &f, nil
}

// subject is what the events of a detection know of whom it is about.
type subject struct {
	certificate string
	clients     []string // that came with a certificate or a successful connection
	claimed     bool     // there are client IDs that only were claimed
	thing       string
	address     bool // there is a source address
}

// The fields by which a rule may group, and whom they name.
var (
	certificateFields = []string{"tocsin.certificate_id", "principalId", "certificate_id"}
	clientFields      = []string{"tocsin.client_id", "clientId", "tocsin.device", "client_id"}
	thingFields       = []string{"tocsin.thing_name", "thingName", "thing_name"}
)

// subjectOf finds out whom f is about. What the rule groups by holds for all
// events; what the evidence agrees on holds for all events only when the evidence
// is complete: a rule that groups by address may show one client and mean many.
func subjectOf(f *schemas.Finding) subject {
	var s subject
	group := func(names []string) string {
		for _, name := range names {
			if v := f.Unmapped.Group[name]; v != "" {
				return v
			}
		}
		return ""
	}
	s.thing = group(thingFields)
	s.certificate = certificateID(group(certificateFields))
	wanted := group(clientFields)
	if id, ok := strings.CutPrefix(wanted, "cert:"); ok && s.certificate == "" {
		s.certificate = certificateID(id)
	}
	identified := s.certificate != "" || s.thing != "" || wanted != "" && !addressKey(wanted)

	certificates := map[string]bool{}
	for _, e := range f.Evidences {
		d := &e.Data
		s.address = s.address || d.SourceIP != "" || addressKey(d.Device)
		if id := certificateID(d.CertificateID); id != "" {
			certificates[id] = true
		}
		if d.ClientID == "" || s.certificate != "" && certificateID(d.CertificateID) != s.certificate {
			continue
		}
		known := d.CertificateID != "" || d.Outcome == schemas.OutcomeSuccess.String() ||
			d.Source == schemas.SourceRegistry || d.Source == schemas.SourceBehavior
		switch {
		case !known:
			s.claimed = true
		case !slices.Contains(s.clients, d.ClientID):
			s.clients = append(s.clients, d.ClientID)
		}
	}
	if !identified && !f.Unmapped.EvidenceComplete {
		s.clients = nil
		return s
	}
	if s.certificate == "" && len(certificates) == 1 {
		for id := range certificates {
			s.certificate = id
		}
	}
	if s.certificate == "" && len(s.clients) > 1 {
		// Many devices: a rule about none of them in particular.
		s.clients = nil
	}
	return s
}

// addressKey reports whether a device key names no device.
func addressKey(key string) bool {
	return strings.HasPrefix(key, "ip:") || strings.HasPrefix(key, "account:")
}

// certificateID returns AWS IoT's form of an ID, or "" if s is none.
func certificateID(s string) string {
	s = strings.TrimPrefix(strings.ToLower(s), "0x")
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

// requests returns what kind asks for, for a detection about s: one action per
// target, or one that says why there is none.
func (s *subject) requests(kind string) []schemas.Action {
	base := schemas.Action{Kind: kind, State: schemas.ActionRequested, CertificateID: s.certificate, Thing: s.thing}
	if len(s.clients) == 1 {
		base.ClientID = s.clients[0]
	}
	refuse := func(code, reason string) []schemas.Action {
		base.State, base.Code, base.Reason = schemas.ActionRefused, code, reason
		return []schemas.Action{base}
	}
	if s.certificate == "" && s.thing == "" && len(s.clients) == 0 {
		switch {
		case s.claimed:
			return refuse(codeUnauthenticated, "the client ID is only what a connection claimed that did not authenticate")
		case s.address:
			return refuse(codeAddressOnly, "the events have nothing in common but a source address")
		}
		return refuse(codeNoIdentity, "the detection is about no certificate, client or thing")
	}
	switch kind {
	case schemas.KindDeactivate, schemas.KindRevoke:
		if s.certificate == "" {
			return refuse(codeNoCertificate, "the detection names no certificate")
		}
	case schemas.KindQuarantine, schemas.KindRotate:
		if s.thing == "" && s.certificate == "" {
			return refuse(codeNoThing, "the detection names neither a thing nor a certificate that would lead to one")
		}
		if kind == schemas.KindRotate && s.certificate == "" {
			return refuse(codeNoCertificate, "the detection does not name the certificate that is to be replaced")
		}
	case schemas.KindDisconnect:
		if len(s.clients) == 0 {
			return refuse(codeNoIdentity, "the detection names no client ID that authenticated")
		}
		var all []schemas.Action
		for _, client := range s.clients[:min(len(s.clients), maxClients)] {
			a := base
			a.ClientID = client
			all = append(all, a)
		}
		return all
	}
	return []schemas.Action{base}
}

// target returns what an action is done to: with the sink and the kind it
// identifies what is done.
func target(a *schemas.Action) string {
	switch {
	case a.Kind == schemas.KindDisconnect && a.ClientID != "":
		return "client:" + a.ClientID
	case a.CertificateID != "":
		return "cert:" + a.CertificateID
	case a.Thing != "":
		return "thing:" + a.Thing
	}
	return "client:" + a.ClientID
}

// kindTarget is what one action at a time is done to.
func kindTarget(a *schemas.Action) string { return a.Kind + " " + target(a) }

// unit returns the device that an action counts for: several actions on it are one
// to the breaker.
func unit(a *schemas.Action) string {
	switch {
	case a.CertificateID != "":
		return "cert:" + a.CertificateID
	case a.Thing != "":
		return "thing:" + a.Thing
	}
	return "client:" + a.ClientID
}
