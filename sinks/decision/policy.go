package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

// Why a certificate is let in or not; also a metric label.
const (
	reasonValid       = "valid"
	reasonIncomplete  = "registry_incomplete" // not known, and not all are known yet
	reasonUnknown     = "unknown"
	reasonRevoked     = "revoked"       // by the broker
	reasonRevokedByCA = "revoked_by_ca" // in a revocation list or an audit report
	reasonInactive    = "inactive"
	reasonPending     = "pending" // not activated yet, or on its way to another account
	reasonExpired     = "expired"
	reasonNotYetValid = "not_yet_valid"
	reasonAmbiguous   = "ambiguous"      // more certificates have this name or number than can be told apart
	reasonNone        = "no_certificate" // the question names none
	reasonSuperuser   = "superuser"      // which nobody is
)

// maxPEM bounds a certificate in a question.
const maxPEM = 64 << 10

// verdict is what is decided of a question.
type verdict struct {
	allow  bool
	reason string
	status schemas.CertificateStatus
	// certificate that it is about; nil if none is known, or several are.
	certificate *schemas.Certificate
	candidates  int // certificates that the question may mean
}

// question names a certificate, in one or more ways.
type question struct {
	ID         string `json:"certificate_id"`
	PEM        string `json:"cert_pem"`
	Serial     string `json:"serial"`
	Issuer     string `json:"issuer"` // key identifier or name
	Subject    string `json:"cert_subject"`
	CommonName string `json:"cert_common_name"`
	Username   string `json:"username"`
}

// policy decides.
type policy struct {
	table *registry.Table
	// failOpen lets in what is not known while the registry is not complete.
	failOpen bool
	now      func() time.Time
}

// decide answers by the most exact of what a question has.
func (p *policy) decide(q *question) verdict {
	switch {
	case q.PEM != "":
		id, ok := idOfPEM(q.PEM)
		if !ok {
			return verdict{reason: reasonNone}
		}
		return p.byID(id)
	case q.ID != "":
		id, ok := normalID(q.ID)
		if !ok {
			return verdict{reason: reasonNone}
		}
		return p.byID(id)
	case q.Serial != "":
		return p.judge(p.table.Issued(q.Issuer, q.Serial), true)
	case q.CommonName != "":
		return p.byName(q.CommonName, q.Subject)
	case q.Subject != "":
		return p.byName(registry.CommonName(q.Subject), q.Subject)
	}
	return verdict{reason: reasonNone}
}

// byUsername answers for a user name that a broker made of a certificate: its
// ID, its PEM, its subject or its common name.
func (p *policy) byUsername(name string) verdict {
	id, isID := normalID(name)
	switch {
	case name == "":
		return verdict{reason: reasonNone}
	case strings.HasPrefix(name, "-----BEGIN"):
		return p.decide(&question{PEM: name})
	case isID:
		return p.byID(id)
	}
	if cn := registry.CommonName(name); cn != "" {
		return p.byName(cn, name)
	}
	return p.byName(name, "")
}

func (p *policy) byID(id string) verdict {
	if c, ok := p.table.Get(id); ok {
		return p.judgeOne(&c)
	}
	return p.unknown()
}

// byName answers for a common name. Where the subject is given too and is just that
// of some of the certificates, these are meant.
func (p *policy) byName(name, subject string) verdict {
	if name == "" {
		return verdict{reason: reasonNone}
	}
	found, all := p.table.Named(name)
	if subject != "" {
		var exact []schemas.Certificate
		for _, c := range found {
			if c.Subject == subject {
				exact = append(exact, c)
			}
		}
		if len(exact) > 0 {
			found = exact
		}
	}
	return p.judge(found, all)
}

// judge lets in what may be one of several certificates if one of them is let in.
func (p *policy) judge(found []schemas.Certificate, all bool) verdict {
	switch {
	case !all:
		return verdict{reason: reasonAmbiguous, candidates: len(found)}
	case len(found) == 0:
		return p.unknown()
	}
	best := p.judgeOne(&found[0])
	for i := range found[1:] {
		if v := p.judgeOne(&found[1+i]); v.allow && !best.allow {
			best = v
		}
	}
	if best.candidates = len(found); len(found) > 1 {
		best.certificate = nil
	}
	return best
}

func (p *policy) judgeOne(c *schemas.Certificate) verdict {
	now := p.now()
	v := verdict{status: c.StatusAt(now), certificate: c, candidates: 1}
	switch v.status {
	case schemas.CertActive, schemas.CertUnspecified:
		// The broker's state need not be known: a fleet with its own CA has none.
		v.reason = reasonValid
		if v.allow = !now.Before(c.NotBefore); !v.allow {
			v.reason = reasonNotYetValid
		}
	case schemas.CertRevoked:
		v.reason = reasonRevoked
	case schemas.CertRevokedByCA:
		v.reason = reasonRevokedByCA
	case schemas.CertExpired:
		v.reason = reasonExpired
	case schemas.CertInactive:
		v.reason = reasonInactive
	case schemas.CertUnknown:
		v.reason = reasonUnknown
	default:
		v.reason = reasonPending
	}
	return v
}

func (p *policy) unknown() verdict {
	if p.table.Complete(p.now()) {
		return verdict{reason: reasonUnknown, status: schemas.CertUnknown}
	}
	return verdict{allow: p.failOpen, reason: reasonIncomplete}
}

// idOfPEM returns the ID of the first certificate of a PEM document.
func idOfPEM(s string) (id string, ok bool) {
	if len(s) > maxPEM {
		return "", false
	}
	for rest := []byte(s); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return "", false
		}
		if block.Type == "CERTIFICATE" {
			sum := sha256.Sum256(block.Bytes)
			return hex.EncodeToString(sum[:]), true
		}
	}
}

// normalID reads a certificate ID as AWS and OpenSSL write it: with 0x before it,
// with colons, in upper case.
func normalID(s string) (id string, ok bool) {
	if len(s) > 2+3*sha256.Size {
		return "", false
	}
	s = strings.ToLower(s)
	s = strings.ReplaceAll(strings.TrimPrefix(s, "0x"), ":", "")
	sum, err := hex.DecodeString(s)
	return s, err == nil && len(sum) == sha256.Size
}
