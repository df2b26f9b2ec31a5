package pcareport

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// The CloudTrail events that say something of a certificate.
const (
	EventIssued = "IssueCertificateDetails"
	EventRevoke = "RevokeCertificate"

	eventSource = "acm-pca.amazonaws.com"
)

// trail is a CloudTrail record, as far as it is needed.
type trail struct {
	EventSource       string `json:"eventSource"`
	EventName         string `json:"eventName"`
	EventTime         string `json:"eventTime"`
	ErrorCode         string `json:"errorCode"`
	RequestParameters struct {
		CAARN  string `json:"certificateAuthorityArn"`
		Serial string `json:"certificateSerial"`
		Reason string `json:"revocationReason"`
	} `json:"requestParameters"`
	ServiceEventDetails struct {
		IssuerKeyID string          `json:"issuerAuthorityKeyIdentifier"`
		Subject     string          `json:"subject"`
		Serial      string          `json:"serialNumber"`
		NotBefore   json.RawMessage `json:"notBefore"`
		NotAfter    json.RawMessage `json:"notAfter"`
		IssuedAt    json.RawMessage `json:"issuedAt"`
		Status      string          `json:"status"`
	} `json:"serviceEventDetails"`
	Resources []struct {
		ARN string `json:"ARN"`
	} `json:"resources"`
}

// FromCloudTrail returns what a CloudTrail record says of a certificate: one that
// was issued (IssueCertificateDetails) or revoked (RevokeCertificate). It returns
// false for all other records, and for requests that failed.
func FromCloudTrail(message []byte) (Entry, bool, error) {
	var t trail
	if err := json.Unmarshal(message, &t); err != nil {
		return Entry{}, false, fmt.Errorf("not a CloudTrail record: %w", err)
	}
	if t.EventSource != eventSource || t.ErrorCode != "" {
		return Entry{}, false, nil
	}
	var e Entry
	serial := t.RequestParameters.Serial
	switch t.EventName {
	case EventRevoke:
		at, err := parseTime(t.EventTime)
		if err != nil {
			return Entry{}, false, fmt.Errorf("%s: eventTime: %w", EventRevoke, err)
		}
		e = Entry{CAARN: t.RequestParameters.CAARN, RevokedAt: at, Reason: reasonName(t.RequestParameters.Reason)}
	case EventIssued:
		d := &t.ServiceEventDetails
		if d.Status != "" && d.Status != "ISSUED" {
			return Entry{}, false, nil
		}
		serial = d.Serial
		e = Entry{
			IssuerKeyID: keyID(d.IssuerKeyID), Subject: d.Subject,
			NotBefore: anyTime(d.NotBefore), NotAfter: anyTime(d.NotAfter), IssuedAt: anyTime(d.IssuedAt),
		}
		for _, r := range t.Resources {
			if ca := authority(r.ARN); ca != "" {
				e.CertificateARN, e.CAARN = r.ARN, ca
			}
		}
	default:
		return Entry{}, false, nil
	}
	var err error
	if e.Serial, err = schemas.NormalizeSerial(serial); err != nil {
		return Entry{}, false, fmt.Errorf("%s: %w", t.EventName, err)
	}
	if !IsAuthority(e.CAARN) {
		return Entry{}, false, fmt.Errorf("%s: %.200q is no ARN of a CA", t.EventName, e.CAARN)
	}
	return e, true, nil
}

// keyID returns a key identifier in lower-case hex, "" for what is none.
func keyID(s string) string {
	s = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(s))
	if strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

// anyTime reads a time of an event: text, or a number of seconds or milliseconds.
// What is neither is not known; the event tells enough without.
func anyTime(raw json.RawMessage) time.Time {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		t, err := parseTime(text)
		if err != nil {
			return time.Time{}
		}
		return t
	}
	const latest = 253402300799 // the end of the year 9999, after which JSON has no times
	var n float64
	if json.Unmarshal(raw, &n) != nil || n <= 0 || n > 1e15 {
		return time.Time{}
	}
	if n > 1e11 { // as seconds that would be the year 5138
		n /= 1000
	}
	if n > latest {
		return time.Time{}
	}
	return time.UnixMilli(int64(n * 1000)).UTC()
}
