package behavior

import (
	"context"
	"encoding/json"
	"strconv"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/pcareport"
	"github.com/tocsin-io/tocsin/schemas"
)

// maxFactText bounds the subject and the ARN of a certificate, in bytes: longer ones
// are left out.
const maxFactText = 2048

// issued writes what a CloudTrail event of AWS Private CA says of a certificate: that it
// was issued, or revoked. It reports false for all other events.
func (w *worker) issued(ctx context.Context, ev *schemas.Event) bool {
	if string(ev.Source) != schemas.SourceCloudTrail {
		return false
	}
	switch string(ev.Type) {
	case pcareport.EventIssued, pcareport.EventRevoke:
	default:
		return false
	}
	if ev.Outcome == schemas.OutcomeFailure {
		return true
	}
	e, ok, err := pcareport.FromCloudTrail(ev.Message)
	if err != nil {
		w.s.metrics.malformed.Inc()
		w.log.Warn("an event of AWS Private CA could not be read", zap.String("event_id", ev.ID.String()), zap.ByteString("type", ev.Type), zap.Error(err))
	}
	if !ok {
		return true
	}
	prefix, kind := schemas.KeyIssued, "issued"
	if e.Revoked() {
		prefix, kind = schemas.KeyRevoked, "revoked"
	}
	value, err := json.Marshal(schemas.IssuedCertificate{
		CAARN: e.CAARN, IssuerKeyID: e.IssuerKeyID, Serial: e.Serial, ARN: unlessLong(e.CertificateARN), Subject: unlessLong(e.Subject),
		NotBefore: e.NotBefore, NotAfter: e.NotAfter, Issued: e.IssuedAt, RevokedAt: e.RevokedAt, Reason: e.Reason, EventID: ev.ID.String(),
	})
	if err != nil {
		return true // strings and times of a known year always have a JSON form
	}
	// By the CA, so that what is issued first tells the registry whose revocations
	// follow.
	w.out.identity(ctx, e.CAARN, prefix+e.CAARN+"/"+e.Serial+"/"+strconv.Itoa(w.number), value)
	w.s.metrics.records.WithLabelValues(kind).Inc()
	return true
}

func unlessLong(s string) string {
	if len(s) > maxFactText {
		return ""
	}
	return s
}
