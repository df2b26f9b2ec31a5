package awsiot

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/schemas"
)

// clockSkew is how far the clocks of AWS and of this process may be apart.
const clockSkew = time.Minute

// lookAgain is when a certificate that was not the new one is looked at again.
const lookAgain = time.Minute

// sighting is that a certificate was used under some names.
type sighting struct {
	certificate string
	names       []string // things and client IDs
	seen        time.Time
}

// sighted looks at a certificate that was used under a name for which a rotation
// waits. Names are claims: what makes it the new certificate, AWS is asked.
func (e *executor) sighted(id string, s sighting) {
	r := e.open[id]
	if e.o.DryRun || r == nil || r.State != schemas.ActionWaiting || r.busy || r.NewCertificateID != "" || s.certificate == r.CertificateID {
		return
	}
	since := r.Time.Add(-clockSkew) // of the step "waiting": right after the job was made
	if !s.seen.After(since) || !slices.Contains(s.names, r.Thing) && !slices.Contains(s.names, r.ClientID) {
		return
	}
	r.candidate = sighting{}
	is := false
	e.call(r, func(ctx context.Context) (err error) {
		is, err = e.api.replaced(ctx, s.certificate, r.Thing, since)
		return err
	}, func(err error) {
		if err != nil || !is {
			// Somebody else's certificate, or one that is not active or attached yet.
			r.candidate, r.again = s, e.o.Now().Add(lookAgain)
			e.s.logger(&r.Action).Debug("not the new certificate", zap.String("certificate", s.certificate), zap.Error(err))
			return
		}
		r.NewCertificateID, r.Reason = s.certificate, "the new certificate was seen; the old one is being revoked"
		if e.record(&r.Action) {
			e.retire(r)
		}
	})
}

// retire revokes the old certificate of a rotation whose new one has been seen.
func (e *executor) retire(r *response) {
	e.call(r, func(ctx context.Context) error {
		_, err := e.api.setStatus(ctx, r.CertificateID, types.CertificateStatusRevoked)
		return err
	}, func(err error) {
		if err != nil {
			e.fail(r, err)
			return
		}
		e.end(r, schemas.ActionDone, "", "the new certificate was seen, and the old one is REVOKED", nil)
	})
}
