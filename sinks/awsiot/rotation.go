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

const (
	// lookAgain is when a certificate that was not the new one is looked at again.
	lookAgain = time.Minute
	// maxCandidates bounds the certificates that are looked at for one rotation. Who
	// has more certificates claim the device's name only delays its rotation.
	maxCandidates = 16
)

// sighting is that a certificate was used under some names.
type sighting struct {
	certificate string
	names       []string // things and client IDs
	seen        time.Time
}

// sighted notes a certificate that was used under a name for which a rotation
// waits. Names are claims: what makes it the new certificate, AWS is asked.
func (e *executor) sighted(id string, s sighting) {
	r := e.open[id]
	if e.o.DryRun || r == nil || r.State != schemas.ActionWaiting || r.NewCertificateID != "" || s.certificate == r.CertificateID {
		return
	}
	if !s.seen.After(r.since()) || !slices.Contains(s.names, r.Thing) && !slices.Contains(s.names, r.ClientID) {
		return
	}
	if r.candidates == nil {
		r.candidates = make(map[string]time.Time)
	}
	if _, known := r.candidates[s.certificate]; known || len(r.candidates) < maxCandidates {
		r.candidates[s.certificate] = e.o.Now() // now is when to look
	}
	e.look(r)
}

// since returns when the job was made: the time of the step "waiting".
func (r *response) since() time.Time { return r.Time.Add(-clockSkew) }

// look asks AWS about one of the certificates that may be the new one, and then
// about the next.
func (e *executor) look(r *response) {
	if r.busy || r.State != schemas.ActionWaiting || r.NewCertificateID != "" {
		return
	}
	now := e.o.Now()
	for candidate, due := range r.candidates {
		if now.Before(due) {
			continue
		}
		// It may not be active or attached yet.
		r.candidates[candidate] = now.Add(lookAgain)
		is, since := false, r.since()
		e.call(r, func(ctx context.Context) (err error) {
			is, err = e.api.replaced(ctx, candidate, r.Thing, since)
			return err
		}, func(err error) {
			if err != nil || !is {
				e.s.logger(&r.Action).Debug("not the new certificate", zap.String("certificate", candidate), zap.Error(err))
				e.look(r)
				return
			}
			r.NewCertificateID, r.Reason = candidate, "the new certificate was seen; the old one is being revoked"
			if e.record(&r.Action) {
				e.retire(r)
			}
		})
		return
	}
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
