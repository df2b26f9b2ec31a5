package schemas

import (
	"testing"
	"time"
)

func TestStatusAt(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 11, 23, hour, 0, 0, 0, time.UTC) }
	revocation := &Revocation{Time: at(10)}
	for name, test := range map[string]struct {
		cert Certificate
		hour int
		want CertificateStatus
	}{
		"nothing known":                       {Certificate{}, 12, CertUnspecified},
		"active":                              {Certificate{Status: CertActive}, 12, CertActive},
		"revoked":                             {Certificate{Status: CertRevoked, StatusSince: at(10)}, 10, CertRevoked},
		"used before it was revoked":          {Certificate{Status: CertRevoked, StatusSince: at(10)}, 9, CertUnspecified},
		"revoked, nobody knows when":          {Certificate{Status: CertRevoked}, 9, CertRevoked},
		"by its CA, still active":             {Certificate{Status: CertActive, Revoked: revocation}, 12, CertRevokedByCA},
		"used before its CA revoked it":       {Certificate{Status: CertActive, Revoked: revocation}, 9, CertActive},
		"by its CA, then by the broker":       {Certificate{Status: CertRevoked, StatusSince: at(12), Revoked: revocation}, 11, CertRevokedByCA},
		"what the broker says comes first":    {Certificate{Status: CertInactive, StatusSince: at(12), Revoked: revocation}, 13, CertInactive},
		"expired":                             {Certificate{Status: CertActive, NotAfter: at(12)}, 13, CertExpired},
		"at the end of its validity":          {Certificate{Status: CertActive, NotAfter: at(12)}, 12, CertActive},
		"expired before it was made inactive": {Certificate{Status: CertInactive, StatusSince: at(14), NotAfter: at(12)}, 13, CertExpired},
	} {
		if got := test.cert.StatusAt(at(test.hour)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
