package main

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

// withoutCAs stands in for what moto lacks: it answers that no CA is registered.
func withoutCAs(t *testing.T, moto string) string {
	target, err := url.Parse(moto)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cacertificates" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"certificates":[]}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// The whole way of a revocation: the inventory knows the fleet's certificates, the
// CA publishes a list, the list is taken in, exported and told of, AWS IoT has the
// certificate revoked, and all of it is in ClickHouse.
func TestRevocationReachesEverybody(t *testing.T) {
	t.Parallel()
	endpoint := withoutCAs(t, testkit.StartMoto(t))
	cfg := aws.Config{Region: "eu-west-1", RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", "")}
	api := iot.NewFromConfig(cfg, func(o *iot.Options) { o.BaseEndpoint = &endpoint })
	ca := testkit.NewCA(t, "fleet CA")
	register := func() (id string, serial *big.Int) {
		cert := ca.Issue(t, &x509.Certificate{}, nil)
		out, err := api.RegisterCertificateWithoutCA(t.Context(), &iot.RegisterCertificateWithoutCAInput{
			CertificatePem: aws.String(testkit.PEM(cert)), Status: types.CertificateStatusActive,
		})
		if err != nil {
			t.Fatal(err)
		}
		return *out.CertificateId, cert.SerialNumber
	}
	good, _ := register()
	bad, serial := register()

	dir := t.TempDir()
	lists, exported := filepath.Join(dir, "lists"), filepath.Join(dir, "exported.pem")
	publish := func(number int64, serials ...*big.Int) {
		t.Helper()
		l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
		for _, s := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: s, RevocationTime: time.Now().Add(-time.Minute), ReasonCode: 1,
			})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, ca.Cert, ca.Key)
		if err = errors.Join(err, os.MkdirAll(lists, 0o755)); err == nil {
			err = os.WriteFile(filepath.Join(lists, "fleet.crl"), der, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(1)
	config := write(t, "tocsin.yaml", fmt.Sprintf(`
kafka: {topics: {partitions: 2}}
ingest: {firehose: {listen: %q}}
registry:
  ca_files: [%q]
  aws: {enabled: true, region: eu-west-1, endpoint: %q}
  revocations:
    interval: 10s
    crls: [{path: %q}]
    export: {path: %q}
    enforce_sink: prod
sinks:
  awsiot:
    - name: prod
      account: "123456789012"
      region: eu-west-1
      endpoint: %q
      data_endpoint: %q
      dry_run: false
      bindings: [{rules: ["level=critical"], actions: [revoke]}]
admin: {listen: "127.0.0.1:0"}
`, freeAddress(t), write(t, "ca.pem", testkit.PEM(ca.Cert)), endpoint, lists, exported, endpoint, endpoint))
	p := start(t, []string{"AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing", "AWS_CONFIG_FILE=" + os.DevNull},
		"run", "--config", config, "--embedded", filepath.Join(dir, "data"))
	p.ready()
	s := store{t, p.says("embedded ClickHouse", "url")}
	s.becomes("SELECT count(), countIf(effective_status = 'ACTIVE') FROM certificates_current", "2", "2")

	publish(2, serial)
	eventually(t, "the certificate is not revoked in AWS IoT", func() error {
		for id, want := range map[string]types.CertificateStatus{good: types.CertificateStatusActive, bad: types.CertificateStatusRevoked} {
			out, err := api.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
			if err != nil {
				return err
			}
			if got := out.CertificateDescription.Status; got != want {
				return fmt.Errorf("%s is %s, want %s", id, got, want)
			}
		}
		return nil
	})
	s.becomes("SELECT certificate_id, revoked, revocation_reason FROM certificates_current WHERE revoked", bad, "true", "keyCompromise")
	s.becomes("SELECT sink, kind, state, certificate_id FROM actions_current", "prod", "revoke", "done", bad)
	s.becomes("SELECT certificate_id FROM events_distinct WHERE source = 'registry' AND event_type = 'RevokedByCAStillActive'", bad)
	f, err := os.Open(exported)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if u, err := crl.Read(f, 0); err != nil || u.Entries != 1 || u.Header.Number.Int64() != 2 {
		t.Errorf("exported: %+v, %v", u, err)
	}

	// An old list would bring the certificate back.
	publish(1)
	s.becomes("SELECT count() FROM events_distinct WHERE source = 'registry' AND event_type = 'CRLRolledBack'", "1")
	s.becomes("SELECT certificate_id FROM certificates_current WHERE revoked", bad)
}
