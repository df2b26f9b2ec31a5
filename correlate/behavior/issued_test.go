package behavior

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/tocsin-io/tocsin/schemas"
)

const privateCA = "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0a1b2c3d-0000-4000-8000-0123456789ab"

const issuance = `{"eventSource":"acm-pca.amazonaws.com","eventName":"IssueCertificateDetails","eventTime":"2026-11-20T09:59:00Z","eventType":"AwsServiceEvent",
 "serviceEventDetails":{"issuerAuthorityKeyIdentifier":"AB:CD:01","subject":"CN=pump-0001","serialNumber":"0A:98:EB",
 "notBefore":"2026-11-20T08:59:00Z","notAfter":"2027-11-20T09:59:00Z","issuedAt":"2026-11-20T09:59:00Z","status":"ISSUED"},
 "resources":[{"ARN":"` + privateCA + `/certificate/0a98eb"}]}`

const revocation = `{"eventSource":"acm-pca.amazonaws.com","eventName":"RevokeCertificate","eventTime":"2026-11-20T10:00:00Z",
 "requestParameters":{"certificateAuthorityArn":"` + privateCA + `","certificateSerial":"0A:98:EB","revocationReason":"KEY_COMPROMISE"}}`

func TestIssuedCertificates(t *testing.T) {
	trail := func(seconds float64, typ, message string, more ...func(*event)) *event {
		return at(seconds, "account:111122223333", typ, append([]func(*event){source("cloudtrail"), saying(message), func(e *event) { e.CertificateID, e.ClientID = nil, nil }}, more...)...)
	}
	issue, revoke := trail(1, "IssueCertificateDetails", issuance), trail(2, "RevokeCertificate", revocation)
	minute := func(m int) time.Time { return testStart.Add(time.Duration(m) * time.Minute) }
	issued := schemas.IssuedCertificate{
		CAARN: privateCA, IssuerKeyID: "abcd01", Serial: "a98eb", ARN: privateCA + "/certificate/0a98eb", Subject: "CN=pump-0001",
		NotBefore: minute(-61), NotAfter: minute(-1).AddDate(1, 0, 0), Issued: minute(-1), EventID: issue.ID.String(),
	}
	revoked := schemas.IssuedCertificate{CAARN: privateCA, Serial: "a98eb", RevokedAt: minute(0), Reason: "keyCompromise", EventID: revoke.ID.String()}
	issuedKey, revokedKey := "issued/"+privateCA+"/a98eb/0", "revoked/"+privateCA+"/a98eb/0"
	long := issued
	long.Subject = ""
	failed := func(e *event) { e.Outcome = schemas.OutcomeFailure }
	for name, test := range map[string]struct {
		events    []*event
		want      map[string]schemas.IssuedCertificate
		malformed float64
	}{
		"issued":  {[]*event{issue}, map[string]schemas.IssuedCertificate{issuedKey: issued}, 0},
		"revoked": {[]*event{revoke}, map[string]schemas.IssuedCertificate{revokedKey: revoked}, 0},
		// Neither takes the other's place, whatever comes last.
		"repeated and reordered": {[]*event{revoke, issue, revoke, issue}, map[string]schemas.IssuedCertificate{issuedKey: issued, revokedKey: revoked}, 0},
		"refused":                {[]*event{trail(2, "RevokeCertificate", revocation, failed)}, nil, 0},
		"refused, says the message alone": {
			[]*event{trail(2, "RevokeCertificate", strings.Replace(revocation, `"requestP`, `"errorCode":"AccessDeniedException","requestP`, 1))}, nil, 0,
		},
		"not issued":            {[]*event{trail(1, "IssueCertificateDetails", strings.Replace(issuance, `"ISSUED"`, `"FAILED"`, 1))}, nil, 0},
		"of another service":    {[]*event{trail(2, "RevokeCertificate", strings.Replace(revocation, "acm-pca", "acm", 1))}, nil, 0},
		"of another source":     {[]*event{trail(2, "RevokeCertificate", revocation, source("generic"))}, nil, 0},
		"no serial number":      {[]*event{trail(2, "RevokeCertificate", strings.Replace(revocation, "0A:98:EB", "all of them", 1))}, nil, 1},
		"no CA":                 {[]*event{trail(2, "RevokeCertificate", strings.Replace(revocation, privateCA, "*", 1))}, nil, 1},
		"no time":               {[]*event{trail(2, "RevokeCertificate", strings.Replace(revocation, "2026-11-20T10:00:00Z", "now", 1))}, nil, 1},
		"cut off":               {[]*event{trail(2, "RevokeCertificate", revocation[:90])}, nil, 1},
		"a subject of 3,000 As": {[]*event{trail(1, "IssueCertificateDetails", strings.Replace(issuance, "CN=pump-0001", strings.Repeat("A", 3000), 1))}, map[string]schemas.IssuedCertificate{issuedKey: long}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.feed(test.events...)
			r.derived("")
			var got map[string]schemas.IssuedCertificate
			for key, value := range r.sent.identities {
				var c schemas.IssuedCertificate
				if err := json.Unmarshal([]byte(value), &c); err != nil {
					t.Fatal(err)
				}
				if got == nil {
					got = make(map[string]schemas.IssuedCertificate)
				}
				got[key] = c
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			var malformed dto.Metric
			if err := r.replay.w.s.metrics.malformed.Write(&malformed); err != nil {
				t.Fatal(err)
			}
			expect(t, "malformed", fmt.Sprint(malformed.Counter.GetValue()), fmt.Sprint(test.malformed))
		})
	}
}
