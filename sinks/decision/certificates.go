package decision

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// answer is what GET /v1/certificates/{id} says.
type answer struct {
	Allow        bool                      `json:"allow"`
	Reason       string                    `json:"reason"`
	Status       schemas.CertificateStatus `json:"status,omitzero"` // in effect now, unlike that of the certificate
	DaysToExpiry *int                      `json:"days_to_expiry,omitempty"`
	Certificate  *schemas.Certificate      `json:"certificate,omitempty"`
}

// certificate tells of one certificate by its ID, or by its serial number and, if
// several CAs have used that, the issuer's key identifier or name.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) outcome {
	name := r.PathValue("id")
	var v verdict
	if id, ok := normalID(name); ok {
		v = s.policy.byID(id)
	} else if _, err := schemas.NormalizeSerial(name); err != nil {
		return malformed(w, fmt.Errorf("%.80q is neither a certificate ID (64 hex digits) nor a serial number", name))
	} else {
		v = s.policy.decide(&question{Serial: name, Issuer: r.URL.Query().Get("issuer")})
	}
	status := http.StatusOK
	switch {
	case v.candidates > 1:
		refuse(w, http.StatusConflict, fmt.Errorf("%d CAs have issued this serial number: add ?issuer= with a key identifier or a name", v.candidates))
		return outcome{resultDeny, reasonAmbiguous}
	case v.certificate == nil:
		status = http.StatusNotFound
	}
	a := answer{Allow: v.allow, Reason: v.reason, Status: v.status, Certificate: v.certificate}
	if c := v.certificate; c != nil && !c.NotAfter.IsZero() {
		days := int(math.Floor(c.NotAfter.Sub(s.opts.Now()).Hours() / (24 * time.Hour).Hours()))
		a.DaysToExpiry = &days
	}
	writeJSON(w, status, &a)
	return v.outcome()
}

func (v *verdict) outcome() outcome {
	if v.allow {
		return outcome{resultAllow, v.reason}
	}
	return outcome{resultDeny, v.reason}
}
