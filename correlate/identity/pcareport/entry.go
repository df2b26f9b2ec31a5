// Package pcareport reads what AWS Private CA says of the certificates that it
// issued: its audit reports, as JSON and as CSV, and its CloudTrail events. Both
// know every certificate with its validity and revocation, expired ones too, which
// revocation lists drop; neither has the certificate itself, and so no AWS IoT
// certificate ID.
//
// The format of the reports is in the AWS Private CA user guide, "Use audit
// reports with your private CA".
package pcareport

import (
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// Entry is what a CA says of one certificate. What is not known is empty.
type Entry struct {
	CertificateARN string
	CAARN          string
	IssuerKeyID    string // the CA's key identifier, lower-case hex; only events have it
	Serial         string // as schemas.NormalizeSerial has it
	Subject        string
	NotBefore      time.Time
	NotAfter       time.Time
	IssuedAt       time.Time
	RevokedAt      time.Time // zero: not revoked
	Reason         string    // of the revocation, RFC 5280's name
}

// Revoked reports whether the certificate is revoked. The time alone says so:
// reports have certificates with a reason that are not.
func (e *Entry) Revoked() bool { return !e.RevokedAt.IsZero() }

// reasons are RFC 5280's names of AWS's.
var reasons = map[string]string{
	"UNSPECIFIED":                      "unspecified",
	"KEY_COMPROMISE":                   "keyCompromise",
	"CERTIFICATE_AUTHORITY_COMPROMISE": "cACompromise",
	"AFFILIATION_CHANGED":              "affiliationChanged",
	"SUPERSEDED":                       "superseded",
	"CESSATION_OF_OPERATION":           "cessationOfOperation",
	"PRIVILEGE_WITHDRAWN":              "privilegeWithdrawn",
	"A_A_COMPROMISE":                   "aACompromise",
}

// reasonName returns RFC 5280's name; a reason that is not known is unspecified.
func reasonName(aws string) string {
	if name, ok := reasons[aws]; ok {
		return name
	}
	return "unspecified"
}

// row is an entry as reports have it.
type row struct {
	CertificateARN   string `json:"certificateArn"`
	Serial           string `json:"serial"`
	Subject          string `json:"subject"`
	NotBefore        string `json:"notBefore"`
	NotAfter         string `json:"notAfter"`
	IssuedAt         string `json:"issuedAt"`
	RevokedAt        string `json:"revokedAt"`
	RevocationReason string `json:"revocationReason"`
}

func (r *row) entry() (Entry, error) {
	e := Entry{CertificateARN: r.CertificateARN, CAARN: authority(r.CertificateARN), Subject: r.Subject}
	var err error
	if e.Serial, err = schemas.NormalizeSerial(r.Serial); err != nil {
		return e, fmt.Errorf("certificate %s: %w", r.CertificateARN, err)
	}
	for _, f := range []struct {
		name, text string
		to         *time.Time
	}{
		{"notBefore", r.NotBefore, &e.NotBefore},
		{"notAfter", r.NotAfter, &e.NotAfter},
		{"issuedAt", r.IssuedAt, &e.IssuedAt},
		{"revokedAt", r.RevokedAt, &e.RevokedAt},
	} {
		if f.text == "" {
			continue
		}
		if *f.to, err = parseTime(f.text); err != nil {
			return e, fmt.Errorf("certificate %s: %s: %w", r.CertificateARN, f.name, err)
		}
	}
	if e.Revoked() {
		e.Reason = reasonName(r.RevocationReason)
	}
	return e, nil
}

// parseTime reads the two forms that times have: reports write the zone without
// a colon, events as RFC 3339.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05-0700", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			if t = t.UTC(); t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
				break // JSON has no such times, or they stand for none
			}
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time", s)
}

// authority returns the CA's ARN, which that of a certificate begins with.
func authority(certificateARN string) string {
	ca, _, ok := strings.Cut(certificateARN, "/certificate/")
	if !ok || !strings.HasPrefix(ca, "arn:") {
		return ""
	}
	return ca
}

// maxARN bounds the ARN of a CA; AWS allows 200 characters.
const maxARN = 200

// IsAuthority reports whether s has the form of a CA's ARN.
func IsAuthority(s string) bool {
	other := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(":/-_", c)
	}
	if len(s) > maxARN || !strings.HasPrefix(s, "arn:") || strings.ContainsFunc(s, other) {
		return false
	}
	parts := strings.SplitN(s, ":", 6)
	id, ok := strings.CutPrefix(parts[len(parts)-1], "certificate-authority/")
	return len(parts) == 6 && parts[2] == "acm-pca" && ok && id != "" && !strings.Contains(id, "/")
}
